-- Partitions that only a person can let go on. The owner of a halted partition skips it and reads the others;
-- `tollgate resume --partition` deletes the row.
CREATE TABLE tollgate.halt (
    pipeline    text   NOT NULL,
    topic       text   NOT NULL,
    partition   int    NOT NULL,
    -- One of the codes in docs/halts.md.
    code        text   NOT NULL,
    -- The next offset to read when the partition was halted.
    next_off    bigint NOT NULL,
    -- The epoch at which its owner held it; 0 where the takeover itself was refused.
    epoch       bigint NOT NULL,
    message     text   NOT NULL,
    owner       text   NOT NULL,
    halted_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, topic, partition)
);

-- What began a pause, and the event that it names, if it names one.
ALTER TABLE tollgate.pause
    ADD COLUMN code      text NOT NULL DEFAULT '',
    ADD COLUMN partition int,
    ADD COLUMN event_off bigint;

-- What `tollgate resume` has allowed. A process reads it when the pause ends and at its start, so that a resume without a
-- running process counts for the next one.
CREATE TABLE tollgate.resume (
    pipeline    text   NOT NULL,
    topic       text   NOT NULL,
    -- -1: the pause named no event.
    partition   int    NOT NULL,
    -- Events of the partition up to this offset do not pause the pipeline again.
    event_off   bigint NOT NULL,
    resumed_at  timestamptz NOT NULL DEFAULT now(),
    -- When the first process read it: the window without a dead letter limit begins then.
    used_at     timestamptz,
    PRIMARY KEY (pipeline, topic, partition)
);
