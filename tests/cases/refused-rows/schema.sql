-- What no check of ours foresees: PostgreSQL itself refuses these rows.
CREATE TABLE seen (
    id text PRIMARY KEY,
    amount bigint CHECK (amount NOT IN (3, 4, 11)),
    n bigint NOT NULL
);
