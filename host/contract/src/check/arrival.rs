//! Checks of an arriving payload beyond [`Contract::check`]: the policies about producers.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::notes::Notes;
use crate::rejection::ReasonCode;
use crate::schema::Kind;
use crate::well_known::timestamp_parts;
use crate::{
    ClockSkew, CompileError, Contract, FieldInfo, Fields, Presence, Rejection, Slot, TimeUnit, Value, Violation,
};

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

/// The settings of one pass, and its findings besides the verdict.
#[derive(Default)]
pub(super) struct Signals {
    /// Whether the rules must be judged on the whole message.
    pub suspect: Cell<bool>,
    /// Whether an unknown field number was found.
    pub unknown: Cell<bool>,
    /// Whether to ignore policies and rules, so that only the bytes are checked.
    pub lenient: bool,
}

impl Contract {
    /// Returns all violations of the contract's rules, judged on the message as a whole. It is slower than
    /// [`Contract::check`] and ignores the policies; for tools, and for tests that compare the two.
    ///
    /// # Errors
    /// Fails if bytes do not decode, or if rules cannot be evaluated on them.
    pub fn violations(&self, payload: &[u8], now: Option<SystemTime>) -> Result<Vec<Violation>, Rejection> {
        let Some(rules) = &self.rules else { return Ok(Vec::new()) };
        let findings = self.evaluate(rules, payload, now.map(unix_nanos), usize::MAX)?;
        match findings.failure {
            Some(_) => Err(Rejection::of(findings).unwrap_or_else(|| Rejection::new(ReasonCode::RuleFailed, "", ""))),
            None => Ok(findings.violations),
        }
    }

    /// Like [`Contract::check_at`], followed by the policies for arrival: oneofs, clocks, and what is accepted with a
    /// note.
    ///
    /// # Errors
    /// Fails as [`Contract::check_at`] does; after that with the first oneof that is not allowed, then the first clock.
    pub fn admit<'a>(
        &self,
        payload: &'a [u8],
        fields: &mut Fields<'a>,
        now: SystemTime,
        notes: &mut Notes,
    ) -> Result<(), Rejection> {
        let signals = Signals::default();
        self.check_with(payload, fields, self.needs_clock().then(|| unix_nanos(now)), &signals)?;
        self.survey(payload, signals.unknown.get(), notes)?;
        for skew in &self.skews {
            skew.judge(fields, unix_nanos(now))?;
        }
        Ok(())
    }

    /// Reads the wanted fields of a payload and ignores rules and policies about its values. It checks only whether the
    /// payload can be read, and its size and depth.
    ///
    /// # Errors
    /// Returns the first error in the bytes.
    pub fn read<'a>(&self, payload: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Rejection> {
        self.check_with(payload, fields, None, &Signals { lenient: true, ..Signals::default() })
    }

    /// Returns whether [`Contract::admit`] may check more than [`Contract::check_at`].
    #[must_use]
    pub fn asks_on_arrival(&self) -> bool {
        use crate::{UnknownFields, UnknownVariants, UnsetOneofs};
        let policies = &self.policies;
        let oneofs =
            policies.unset_oneofs == UnsetOneofs::Reject || policies.unknown_variants != UnknownVariants::Allow;
        self.has_fallbacks()
            || !self.skews.is_empty()
            || policies.unknown_fields == UnknownFields::Warn
            || self.plan.has_oneofs && oneofs
    }
}

/// A time field to check. It has a separate slot after those of the wanted fields.
pub(crate) struct Skew {
    slot: Slot,
    policy: ClockSkew,
    /// Whether zero means "not set".
    implicit: bool,
}

impl Skew {
    /// Checks that the field can hold a time as declared by the policy.
    pub(crate) fn compile(policy: &ClockSkew, slot: Slot, info: &FieldInfo) -> Result<Self, CompileError> {
        let problem = match (&info.kind, policy.unit) {
            (Kind::Timestamp, None) | (Kind::I64 | Kind::U64 | Kind::I32 | Kind::U32, Some(_)) => None,
            (Kind::Timestamp, Some(_)) => Some("is a Timestamp, which needs no unit; remove `as`".to_owned()),
            (Kind::I64 | Kind::U64 | Kind::I32 | Kind::U32, None) => {
                Some("is a whole number; set `as` to unix_s, unix_ms or unix_us".to_owned())
            }
            (kind, _) => {
                Some(format!("is {}, which is not a time; it must be a Timestamp or a whole number", kind.name()))
            }
        };
        match problem {
            Some(problem) => Err(CompileError::ClockSkew { path: policy.field.clone(), problem }),
            None => {
                let implicit = info.presence == Presence::Implicit;
                Ok(Self { slot, policy: policy.clone(), implicit })
            }
        }
    }

    fn judge(&self, fields: &Fields<'_>, now: i128) -> Result<(), Rejection> {
        let number = |number: i128| (!(self.implicit && number == 0)).then(|| Ok(self.nanos(number)));
        let time = match fields.get(self.slot) {
            Value::I32(value) => number(value.into()),
            Value::I64(value) => number(value.into()),
            Value::U32(value) => number(value.into()),
            Value::U64(value) => number(value.into()),
            value @ (Value::Message(_) | Value::Split(_)) => {
                let parts = fields.joined(value).and_then(|bytes| timestamp_parts(&bytes));
                Some(parts.map(|(seconds, nanos)| i128::from(seconds) * SECOND + i128::from(nanos)).ok_or(()))
            }
            // The field is not set; other kinds are rejected when the contract is compiled.
            _ => None,
        };
        let Some(time) = time else { return Ok(()) };
        let message = match time {
            Err(()) => "is out of the range of a Timestamp".to_owned(),
            Ok(time) => {
                let ahead = time - now;
                let nanos = |limit: std::time::Duration| i128::try_from(limit.as_nanos()).unwrap_or(i128::MAX);
                match (self.policy.past, self.policy.future) {
                    (_, Some(limit)) if ahead > nanos(limit) => beyond(ahead, limit, "after"),
                    (Some(limit), _) if -ahead > nanos(limit) => beyond(-ahead, limit, "before"),
                    _ => return Ok(()),
                }
            }
        };
        Err(Rejection::new(ReasonCode::ClockSkew, self.policy.field.as_str(), message))
    }

    fn nanos(&self, number: i128) -> i128 {
        // 64-bit seconds are at most 2^94 nanoseconds.
        number
            * match self.policy.unit {
                Some(TimeUnit::Seconds) | None => SECOND,
                Some(TimeUnit::Millis) => SECOND / 1_000,
                Some(TimeUnit::Micros) => SECOND / 1_000_000,
            }
    }
}

#[cold]
fn beyond(distance: i128, limit: std::time::Duration, side: &str) -> String {
    let seconds = distance / SECOND;
    let limit = limit.as_secs_f64();
    format!(
        "is {} {side} the time at which its batch was received, but the contract allows {limit} s",
        roughly(seconds)
    )
}

/// Formats a time difference in two units. This is enough to guess the mistake: a time zone, a unit, a clock that was
/// never set.
fn roughly(seconds: i128) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (1.., _, _) => format!("{days} d {hours} h"),
        (_, 1.., _) => format!("{hours} h {minutes} min"),
        (_, _, 1..) => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{seconds} s"),
    }
}

/// Returns nanoseconds since the epoch.
pub(super) fn unix_nanos(time: SystemTime) -> i128 {
    let nanos = |distance: std::time::Duration| i128::try_from(distance.as_nanos()).unwrap_or(i128::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => nanos(after),
        Err(before) => -nanos(before.duration()),
    }
}
