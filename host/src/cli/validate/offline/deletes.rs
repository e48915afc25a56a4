//! Checks of `postgres.delete`: the field that marks an event as a deletion, and the message type of the record key.

use super::{Report, field};
use prost_reflect::DescriptorPool;
use tollgate_config::{DeleteKey, Destination, Pipeline};
use tollgate_contract::Kind;
use tollgate_decide::postgres::delete::message::matched;

pub(super) fn check_deletes(pipeline: &Pipeline, to: Destination<'_>, pool: &DescriptorPool, report: &mut Report) {
    let Some(mapping) = to.mapping() else { return };
    if let Some(when) = &mapping.delete.when {
        let key = to.place("postgres.delete.when.field");
        let kind = field(pipeline, pool, to.message(), &when.field, &key, report);
        if let Some(kind) = kind.filter(|kind| !matches!(kind, Kind::String | Kind::Enum(_) | Kind::Bool)) {
            let message = format!("{} is {}; it must be a string, an enum or a bool", when.field, kind.name());
            report.error(pipeline, "contract.field", &key, message);
        }
    }
    if let Some(DeleteKey::Message(message)) = &mapping.delete.key {
        for problem in matched(mapping, message, pool).err().unwrap_or_default() {
            report.error(pipeline, "contract.field", &to.place("postgres.delete.key.message"), problem);
        }
    }
}
