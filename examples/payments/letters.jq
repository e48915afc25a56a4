# The output of `tollgate dlq export`, without the parts that differ between runs.
{ key: .key, reason, stage, transform, field }
