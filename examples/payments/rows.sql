-- The rows that the pipeline writes, without first_seen, which is the time of your run.
COPY (
    SELECT transaction_id, amount, currency, status, extract(epoch FROM created_at)::bigint AS created_at, tenant_id, risk_tier, amount_minor, schema_version
    FROM payment_events ORDER BY transaction_id
) TO STDOUT (FORMAT csv, HEADER);
