-- Tollgate's own tables. They live in the schema `tollgate` of the database that holds the target table,
-- so that progress commits with the rows it speaks of.

CREATE SCHEMA IF NOT EXISTS tollgate;

-- How far a partition's effects reach in this database. One row per partition of a pipeline's topic.
CREATE TABLE tollgate.progress (
    pipeline    text   NOT NULL,
    topic       text   NOT NULL,
    partition   int    NOT NULL,
    -- Raised by every takeover; a commit at an older epoch changes nothing.
    epoch       bigint NOT NULL,
    -- The next offset to read: rows reflect exactly the offsets below it.
    next_off    bigint NOT NULL,
    -- Where the last batch began: the group's committed offset is here or at next_off.
    prev_off    bigint NOT NULL,
    owner       text   NOT NULL,
    owner_pid   int    NOT NULL,
    -- What the last batch produces to Kafka, so that it can be produced as it was decided after a crash between the two
    -- commits. Compressed by its writer; host/src/progress/plan.rs has the layout.
    plan        bytea,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, topic, partition)
) WITH (fillfactor = 50);

ALTER TABLE tollgate.progress ALTER COLUMN plan SET STORAGE EXTERNAL;

-- Which slots a pipeline's processes have used: a transactional id is {pipeline}-{slot}-{lane}. A row without a
-- holder of its advisory lock belongs to a process that died, and whoever takes over ends its transactions.
CREATE TABLE tollgate.slot (
    pipeline    text NOT NULL,
    slot        int  NOT NULL,
    lanes       int  NOT NULL,
    owner       text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, slot)
);

-- A pipeline that crossed its dead letter limit stands still until it is resumed, also across restarts.
CREATE TABLE tollgate.pause (
    pipeline    text PRIMARY KEY,
    reason      text NOT NULL,
    digest      text NOT NULL,
    paused_at   timestamptz NOT NULL DEFAULT now()
);
