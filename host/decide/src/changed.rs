//! Runs the contract stage for Debezium's change events. `after` becomes the event, and a delete is matched to its row.

use std::borrow::Cow;

use tollgate_contract::{Fields, ReasonCode};

use super::entry::{Entry, misfit};
use super::notice::Notice;
use super::validate::Body;
use super::verdict::Verdict;
use super::workbench::{Admitted, Refused, Unframed, Workbench};
use crate::dead_letter::{Reason, Stage};
use crate::gate::Target;
use crate::gate::change::{Change, Changes, Op, Proto};
use crate::gate::envelope::rejection;
use tollgate_config::{Routing, WithoutRow};

impl<'a> Entry<'a> {
    /// Runs the contract stage for a change event.
    pub(super) fn admit_change(&self, changes: &Changes, bench: &mut Workbench<'_>) -> Result<Admitted<'a>, Refused> {
        let Some(value) = self.batch.value(self.record) else { return Err(self.tombstone()) };
        let most = self.gate.pipeline.contract.policies.max_bytes;
        if value.len() > most {
            let message = format!("the change event has {} bytes, and contract.max_bytes is {most}", value.len());
            return Err(rejection(ReasonCode::TooLarge, "", message).into());
        }
        let is_json = self.is_json();
        let (change, schema) = match &changes.proto {
            Some(proto) if !is_json => {
                let wanted = proto.contract.message().full_name();
                let Unframed { schema, payload, .. } = self.unframe(bench.frames.as_mut(), value, wanted)?;
                (read_proto(proto, payload, bench)?, schema)
            }
            _ => (changes.read_json(value)?, None),
        };
        let kind = match (&self.gate.pipeline.contract.routing, &change.kind) {
            (Routing::Single, _) => 0,
            (_, Some(name)) => self.by_name(name)?,
            (_, None) => {
                let message = "the change event does not name its event's type";
                return Err(Reason::new(Stage::Contract, "event-type-missing", message).into());
            }
        };
        let entry = Entry { kind, ..*self };
        let mut notice = Notice::default();
        let gated = entry.version(schema, || None, bench.deprecated);
        gated
            .or_else(|reason| self.accept_anyway(reason, &mut notice))
            .map_err(|reason| Refused::from(reason).of(kind))?;
        for (index, text) in &change.headers {
            bench.passed.push(*index, text);
        }
        let admitted = match change.op {
            Op::Row => entry.admit_after(change.after, is_json, bench, notice),
            Op::Delete => Err(entry.deleted(change.before.as_deref(), is_json, bench)),
            op @ Op::Truncate | op @ Op::Message => Err(without_row(op, changes.without_row(op))),
        };
        admitted.map_err(|refused| refused.of(kind))
    }

    /// Returns the event of a change that leaves a row.
    fn admit_after(
        &self,
        after: Option<Cow<'_, [u8]>>,
        is_json: bool,
        bench: &mut Workbench<'_>,
        mut notice: Notice,
    ) -> Result<Admitted<'a>, Refused> {
        let Some(after) = after else {
            let message = "the change event's after is missing or null";
            return Err(Reason::new(Stage::Contract, "envelope-payload-missing", message).field("after").into());
        };
        bench.json.clear();
        if is_json {
            self.transcode(&after, bench, &mut notice)?;
        } else {
            bench.json.extend_from_slice(&after);
        }
        let sample = Body { writer: None, value: &[], claim: None };
        let (_, staged) = self.examine(&sample, true, bench, &mut notice)?;
        // The schema id in a frame belongs to the change event; the row's is unknown.
        Ok(Admitted { value: None, kind: self.kind, schema: 0, staged, notice: notice.non_empty() })
    }

    /// Deletes the row of `before`, or of the record's key. Returns [`Refused::Deleted`], unless the row cannot be
    /// determined.
    ///
    /// Rules are not checked: often only the key of a deleted row is known.
    fn deleted(&self, before: Option<&[u8]>, is_json: bool, bench: &mut Workbench<'_>) -> Refused {
        let own = self.own();
        let by_key = Refused::Deleted(self.kind, None);
        let Some(Target { table, rows }) = &own.output.table else { return by_key };
        let contract = &own.output.contract;
        // Columns based on another message have no field in `before`.
        let same = contract.message().full_name() == own.contract.message().full_name();
        let Some(before) = before.filter(|_| same) else {
            if !table.marks {
                return by_key;
            }
            let message =
                "with only_if_newer a deleted row is marked with its version, but the change event has no before";
            return Reason::new(Stage::Output, "delete-not-possible", message).field("before").into();
        };
        bench.json.clear();
        if !is_json {
            bench.json.extend_from_slice(before);
        } else if let Err(rejection) = own.contract.transcode_json_anyway(before, bench.json, bench.notes) {
            return rejection.into();
        }
        let mut fields: Fields<'_> = std::mem::take(bench.fields).recycle();
        let read = contract.read(bench.json, &mut fields);
        let staged = read.map_err(Refused::from).and_then(|()| {
            let passed = bench.passed.view(&self.gate.header_names);
            let header = |name: &str| passed.get(name).or_else(|| self.batch.header(self.record, name));
            let mut row = bench.rows[*rows].begin();
            let view = self.view(&header);
            table.write_as(true, contract, &fields, &view, &mut row).map_err(|unfit| Refused::from(misfit(unfit)))?;
            Ok(row.stage())
        });
        *bench.fields = fields.recycle();
        staged.map_or_else(|refused| refused, |staged| Refused::Deleted(self.kind, Some(staged)))
    }
}

fn read_proto<'v>(proto: &Proto, value: &'v [u8], bench: &mut Workbench<'_>) -> Result<Change<'v>, Refused> {
    let mut fields = std::mem::take(bench.outer_fields).recycle();
    let change = proto.read(value, &mut fields);
    *bench.outer_fields = fields.recycle();
    Ok(change?)
}

/// Returns the verdict on a change that concerns no row.
fn without_row(op: Op, policy: WithoutRow) -> Refused {
    if policy == WithoutRow::Drop {
        return Refused::Verdict(None, Verdict::Dropped);
    }
    let (what, key) = match op {
        Op::Truncate => ("the table was truncated (op t)", "truncates"),
        Op::Row | Op::Delete | Op::Message => ("it is a logical decoding message (op m)", "messages"),
    };
    let message =
        format!("{what}, which does not change a single row; set contract.envelope.debezium.{key} to drop such events");
    Reason::new(Stage::Contract, "change-without-row", message).into()
}
