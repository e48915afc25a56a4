CREATE TABLE "payment_events" (
    "transaction_id" text NOT NULL,
    "amount" numeric(18,2),
    "currency" text,
    "status" text,
    "created_at" timestamptz,
    "tenant_id" text,
    "risk_tier" text,
    "amount_minor" bigint,
    "schema_version" bigint,
    "first_seen" timestamptz,
    PRIMARY KEY ("transaction_id")
);
