//! Checks a payload against its contract and policies, with fallbacks for unknown enum numbers, and applies the mode.

use tollgate_contract::{Contract, Fields, Mode, Notes, ReasonCode, Rejection};

use super::entry::{Entry, instant};
use super::notice::Notice;
use super::passed::View;
use super::workbench::{Refused, Workbench};
use crate::dead_letter::{Reason, Stage};
use crate::gate::envelope::{Claim, Key};
use crate::gate::{Destination, Target};
use crate::postgres::{Rows, Staged};

/// The payload to check.
pub(super) struct Body<'s> {
    /// The contract with which it was written, if a frame names one.
    pub writer: Option<&'s Contract>,
    /// The payload's bytes, unless they are in [`Workbench::json`].
    pub value: &'s [u8],
    /// The claim of its envelope about it.
    pub claim: Option<(&'s Key, &'s Claim)>,
}

/// The parts of a check besides the payload and its fields.
struct CheckContext<'d> {
    passed: View<'d>,
    rows: &'d mut [Rows],
    notes: &'d mut Notes,
    notice: &'d mut Notice,
    /// Whether unknown enum numbers may still be replaced.
    may_fall_back: bool,
}

impl Entry<'_> {
    /// Returns whether `mode: observe` accepts an event with this rejection.
    pub(super) fn accepts_anyway(&self, rejection: &Rejection) -> bool {
        self.gate.pipeline.contract.policies.mode == Mode::Observe && rejection.code.is_readable()
    }

    /// Transcodes JSON to Protobuf, into [`Workbench::json`].
    pub(super) fn transcode(
        &self,
        json: &[u8],
        bench: &mut Workbench<'_>,
        notice: &mut Notice,
    ) -> Result<(), Rejection> {
        let contract = &self.own().contract;
        match contract.transcode_json_noting(json, bench.json, bench.notes) {
            Err(rejection) if self.accepts_anyway(&rejection) => {
                contract.transcode_json_anyway(json, bench.json, bench.notes)?;
                notice.observe(Reason::refused(Stage::Contract, rejection));
                Ok(())
            }
            transcoded => transcoded,
        }
    }

    /// Checks a payload, with fallbacks for its unknown enum numbers if the contract has them. Returns whether the
    /// payload is now in the workbench, and its row.
    pub(super) fn examine(
        &self,
        sample: &Body<'_>,
        mut in_bench: bool,
        bench: &mut Workbench<'_>,
        notice: &mut Notice,
    ) -> Result<(bool, Option<Staged>), Refused> {
        let contract = &self.own().contract;
        if !contract.has_fallbacks() {
            return Ok((in_bench, self.look(sample, in_bench, bench, notice, false)??));
        }
        let mut may_fall_back = true;
        let looked = loop {
            match self.look(sample, in_bench, bench, notice, may_fall_back) {
                Err(rejection) if may_fall_back && rejection.code == ReasonCode::UnknownEnum => {
                    may_fall_back = false;
                    let payload: &[u8] = if in_bench { bench.json } else { sample.value };
                    if contract.apply_fallbacks(payload, bench.spare, bench.notes) {
                        std::mem::swap(bench.json, bench.spare);
                        in_bench = true;
                    }
                }
                looked => break looked,
            }
        };
        notice.replace(bench.notes.take_replaced());
        Ok((in_bench, looked??))
    }

    /// Makes one check of a payload: against the contract, then against the envelope's claim.
    fn look(
        &self,
        sample: &Body<'_>,
        in_bench: bool,
        bench: &mut Workbench<'_>,
        notice: &mut Notice,
        may_fall_back: bool,
    ) -> Result<Result<Option<Staged>, Box<Reason>>, Rejection> {
        let payload: &[u8] = if in_bench { bench.json } else { sample.value };
        let mut fields = std::mem::take(bench.fields).recycle();
        let passed = bench.passed.view(&self.gate.header_names);
        let rows = &mut *bench.rows;
        let mut context = CheckContext { passed, rows, notes: bench.notes, notice, may_fall_back };
        let checked = self.check(sample.writer, payload, &mut fields, &mut context);
        let looked = checked.map(|staged| {
            if let Some((key, claim)) = sample.claim {
                self.key_holds(key, claim, &fields).or_else(|reason| self.accept_anyway(reason, notice))?;
            }
            Ok(staged)
        });
        *bench.fields = fields.recycle();
        looked
    }

    /// Checks an input payload against the contract with which it was written. If the sinks use the same message type,
    /// the check that reads their fields is made now, and the row is written. Most events pass the chain unchanged, and
    /// are therefore not read again.
    fn check<'p>(
        &self,
        writer: Option<&Contract>,
        payload: &'p [u8],
        fields: &mut Fields<'p>,
        context: &mut CheckContext<'_>,
    ) -> Result<Option<Staged>, Rejection> {
        let now = instant(self.time);
        let own = self.own();
        if let Some(foreign) = writer.filter(|writer| writer.digest() != own.contract.digest()) {
            let checked = foreign.check_at(payload, fields, now);
            self.weigh(foreign, checked, payload, fields, context)?;
            if own.contract.asks_on_arrival() {
                let checked = own.contract.admit(payload, fields, now, context.notes);
                self.weigh(&own.contract, checked, payload, fields, context)?;
            }
            return Ok(None);
        }
        let target = own.output.table.as_ref().filter(|_| own.stages);
        let contract = if target.is_some() { &own.output.contract } else { &own.contract };
        let checked = contract.admit(payload, fields, now, context.notes);
        self.weigh(contract, checked, payload, fields, context)?;
        let Some(Target { table, rows }) = target else { return Ok(None) };
        let header = |name: &str| context.passed.get(name).or_else(|| self.batch.header(self.record, name));
        let mut row = context.rows[*rows].begin();
        // A value that does not fit its column is the event's fault only if the chain passes it; `write` reports it in
        // that case.
        let written = table.write(contract, fields, &self.view(&header), &mut row);
        Ok(written.ok().map(|()| row.stage()))
    }

    /// Applies the mode to the contract's verdict. An unknown enum number that a fallback may replace is not judged
    /// yet.
    #[inline]
    fn weigh<'p>(
        &self,
        contract: &Contract,
        checked: Result<(), Rejection>,
        payload: &'p [u8],
        fields: &mut Fields<'p>,
        context: &mut CheckContext<'_>,
    ) -> Result<(), Rejection> {
        match checked {
            Err(rejection) if context.may_fall_back && rejection.code == ReasonCode::UnknownEnum => Err(rejection),
            Err(rejection) if self.accepts_anyway(&rejection) => {
                contract.read(payload, fields)?;
                context.notice.observe(Reason::refused(Stage::Contract, rejection));
                Ok(())
            }
            checked => checked,
        }
    }

    /// Checks the chain's output. Returns how it violates the contract, if it is accepted despite the violation.
    pub(super) fn validate_output<'p>(
        &self,
        to: &Destination,
        payload: &'p [u8],
        fields: &mut Fields<'p>,
    ) -> Result<Option<Box<Reason>>, Box<Reason>> {
        let contract = &to.contract;
        let Err(rejection) = contract.check_at(payload, fields, instant(self.time)) else { return Ok(None) };
        let accepts_anyway = self.accepts_anyway(&rejection);
        let reason = self.against_output(to, rejection);
        if !accepts_anyway {
            return Err(reason);
        }
        contract.read(payload, fields).map_err(|rejection| self.against_output(to, rejection))?;
        Ok(Some(reason))
    }

    fn against_output(&self, to: &Destination, rejection: Rejection) -> Box<Reason> {
        if self.chain().transforms.is_empty() {
            return Reason::refused(Stage::Output, rejection);
        }
        Reason::against_output(to.route.as_deref(), rejection)
    }
}
