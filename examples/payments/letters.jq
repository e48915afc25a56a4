# What `tollgate dlq export` writes, without what differs from run to run.
{ key: .key, reason, stage, transform, field }
