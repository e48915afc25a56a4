# Converts input.ndjson to lines for Kafka's console producer: headers, key and value, separated by tabs.
def or_null: if . == null then "NULL" else . end;
[ (.headers | to_entries | map("\(.key):\(.value)") | join(","))
, (.key | or_null)
, (if has("base64") then .base64 | @base64d else .value | if . == null then or_null else tojson end end)
] | join("\t")
