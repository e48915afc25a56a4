//! Warnings attached to an event that was accepted despite a violation.

use tollgate_contract::Replaced;

use crate::dead_letter::Reason;
use crate::record::Headers;
use tollgate_config::limits;

/// The first violation that `mode: observe` accepted, and the enum numbers that a fallback replaced.
#[derive(Debug, Default)]
pub struct Notice {
    observed: Option<Box<Reason>>,
    replaced: Vec<Replaced>,
}

impl Notice {
    /// Records a violation. Only the first one is kept, because it is the reason that the dead letter would have had.
    pub fn observe(&mut self, reason: Box<Reason>) {
        self.observed.get_or_insert(reason);
    }

    pub fn replace(&mut self, replaced: Vec<Replaced>) {
        self.replaced.extend(replaced);
    }

    /// Returns the code of the accepted violation.
    pub fn code(&self) -> Option<&str> {
        self.observed.as_ref().map(|reason| &*reason.code)
    }

    /// Returns the notice unless it is empty.
    pub fn non_empty(self) -> Option<Box<Notice>> {
        (self.observed.is_some() || !self.replaced.is_empty()).then(|| Box::new(self))
    }

    /// Adds the headers of an output, at most [`limits::NOTICE_BYTES`].
    pub fn add_headers<'a>(&'a self, headers: &mut Headers<'a>) {
        if let Some(reason) = &self.observed {
            headers.text("tollgate.observed", cut(&reason.code));
            let rule = reason.violations.first().map(|violation| violation.rule.as_str());
            for (name, value) in [
                ("tollgate.observed-rule", rule.unwrap_or_default()),
                ("tollgate.observed-field", &reason.field),
                ("tollgate.observed-message", &reason.message),
            ] {
                if !value.is_empty() {
                    headers.text(name, cut(value));
                }
            }
        }
        if !self.replaced.is_empty() {
            let told: Vec<String> =
                self.replaced.iter().map(|Replaced { field, was }| format!("{field}={was}")).collect();
            headers.text("tollgate.unknown-enums", cut(&told.join(",")).to_owned());
        }
    }
}

/// Truncates a text, so that five texts with their names stay below the limit.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(limits::NOTICE_BYTES / 6);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use tollgate_contract::Member;

    use super::*;
    use crate::dead_letter::Stage;

    #[test]
    fn the_headers_stay_below_their_bound() {
        let mut notice = Notice::default();
        let long = "é".repeat(10_000);
        notice.observe(Reason::new(Stage::Contract, "version-missing", long.clone()).field(long.clone()));
        notice.replace(vec![Replaced { field: long, was: Member::Number(9) }; 20]);
        let mut headers = Headers::default();
        notice.add_headers(&mut headers);
        let bytes = headers.bytes();
        assert!((2_000..limits::NOTICE_BYTES).contains(&bytes), "{bytes}");
        let (name, value) = &headers.own[0];
        assert_eq!((&**name, value.as_deref()), (&b"tollgate.observed"[..], Some(&b"version-missing"[..])));
    }

    #[test]
    fn nothing_to_tell_is_nothing() {
        assert!(Notice::default().non_empty().is_none());
    }
}
