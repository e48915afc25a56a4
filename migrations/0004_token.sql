-- What a takeover compares with the offset that the consumer group has committed. A release that does not know these columns
-- leaves them as they are, and raises the epoch when it takes a partition over: that is how its rows are told.

ALTER TABLE tollgate.progress
    -- The number of the last commit: 1 is the row's insertion. The group's committed offset carries it in its token.
    ADD COLUMN commit_no      bigint NOT NULL DEFAULT 1,
    -- How the last commit was delivered: 'token' (the group's offset carries one) or 'at_least_once' (it is a hint). It counts
    -- only while delivery_epoch is the row's epoch.
    ADD COLUMN delivery       text,
    ADD COLUMN delivery_epoch bigint,
    -- Where the offsets belong: a row that belongs elsewhere is not taken over.
    ADD COLUMN group_id       text,
    ADD COLUMN cluster_id     text,
    ADD COLUMN topic_id       text;
