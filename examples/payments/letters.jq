# What `tollgate dlq export` writes, without what differs from run to run.
{ key: .key.text, reason, stage, transform, field }
