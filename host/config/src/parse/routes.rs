//! `transforms[].routes:` the destinations of a component's named routes.

use super::{names, postgres};
use crate::model::{OutputPartition, Route};
use crate::reader::{Field, Table, choice};

/// The values of `partition`, for an output and for a route.
pub(super) const PARTITIONS: [(&str, OutputPartition); 2] =
    [("by_key", OutputPartition::ByKey), ("same", OutputPartition::Same)];

pub(super) fn read(table: &Table<'_>) -> Option<Vec<Route>> {
    let read = |(name, field): (String, Field<'_>)| {
        if let Err(complaint) = names::route(&name) {
            return field.complain(format!("the route's name {}", complaint.message));
        }
        if field.is_table() {
            return field.table(|table| read_route(&name, table));
        }
        let topic = Some(field.scalar(names::topic)?);
        Some(Route { name, message: None, topic, partition: OutputPartition::ByKey, key: None, mapping: None })
    };
    Some(table.any().into_iter().filter_map(read).collect())
}

fn read_route(name: &str, table: &Table<'_>) -> Option<Route> {
    let message = table.need("message", names::message_type);
    let topic = table.get("topic", names::topic);
    let partition = table.or("partition", choice(&PARTITIONS), OutputPartition::ByKey);
    let key = table.get("key", names::field_path);
    let mapping = table.table("postgres", postgres::read_mapping);
    if !table.has("topic") && !table.has("postgres") {
        table.error_at(table.path(), "has no destination; set topic, postgres, or both");
    }
    for given in ["key", "partition"].into_iter().filter(|given| table.has(given) && !table.has("topic")) {
        table.error(given, "applies to records, but the route has no topic; set topic or remove this key");
    }
    Some(Route { name: name.to_owned(), message: Some(message?), topic, partition, key, mapping })
}
