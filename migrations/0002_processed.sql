-- Ids of events whose effects have been made, for pipelines that name one (delivery.processed_ids): an event that comes
-- again under another offset changes nothing. Rows are deleted once they are older than the pipeline says.
CREATE TABLE tollgate.processed (
    pipeline    text  NOT NULL,
    -- As it came, or the SHA-256 of a longer one.
    id          bytea NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, id)
);

CREATE INDEX ON tollgate.processed (pipeline, at);
