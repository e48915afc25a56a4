//! The tests of one value in the form that the walk uses.
//!
//! With [`Test`] the walk would repeat some decisions for every event: the type of the test, whether a limit exists,
//! whether it is included. Here they are made when the contract is compiled. All bounds of a number become one range
//! that includes both ends, and all bounds of a text's length another; small integers, of which most enums consist, are
//! tested in advance. Other tests stay as they are.

use super::test::{Bound, Range, Subject, Test, TextTest};
use crate::Text;

#[derive(Debug, Default)]
pub(super) enum Tests {
    #[default]
    None,
    Text(TextTests),
    Int(IntTests),
    Uint(Numbers<u64>),
    Double(Numbers<f64>),
    /// Tests for other types, one by one.
    Other(Box<[Test]>),
}

impl Tests {
    pub(super) fn new(tests: Vec<Test>) -> Self {
        if tests.is_empty() {
            return Self::None;
        }
        if tests.iter().all(|test| matches!(test, Test::Text(_))) {
            return Self::Text(TextTests::new(tests));
        }
        if tests.iter().all(|test| matches!(test, Test::Int(_) | Test::Defined(_))) {
            return Self::Int(IntTests::new(tests));
        }
        if tests.iter().all(|test| matches!(test, Test::Uint(_))) {
            return Self::Uint(Numbers::new(
                tests,
                |test| if let Test::Uint(bound) = test { span(bound) } else { None },
            ));
        }
        // Without a range NaN may pass; with a range it never does.
        if tests.iter().all(|test| matches!(test, Test::Double(_) | Test::Finite))
            && tests.iter().any(|test| double_span(test).is_some())
        {
            return Self::Double(Numbers::new(tests, double_span));
        }
        Self::Other(tests.into())
    }

    /// Returns whether all of them hold. If the subject's type is known, one arm is left after inlining.
    #[inline(always)]
    pub(super) fn hold(&self, subject: Subject<'_>, now: Option<i128>) -> bool {
        match (self, subject) {
            (Self::None, _) => true,
            (Self::Text(tests), Subject::Text(text)) => tests.hold(text),
            (Self::Int(tests), Subject::Int(value)) => tests.hold(value),
            (Self::Uint(tests), Subject::Uint(value)) => tests.hold(value, Subject::Uint),
            (Self::Double(tests), Subject::Double(value)) => tests.hold(value, Subject::Double),
            (Self::Other(tests), subject) => all(tests, subject, now),
            // Compilation has matched every rule with its field's type. If it were wrong, the reference evaluator would
            // judge.
            _ => false,
        }
    }
}

#[inline(never)]
fn all(tests: &[Test], subject: Subject<'_>, now: Option<i128>) -> bool {
    tests.iter().all(|test| test.holds(subject, now) == Ok(true))
}

#[derive(Debug)]
pub(super) struct TextTests {
    /// The length of a plain text, whose bytes are characters.
    min: usize,
    max: usize,
    /// The remaining tests of a plain text.
    rest: Box<[TextTest]>,
    /// The tests of other texts.
    all: Box<[TextTest]>,
}

impl TextTests {
    fn new(tests: Vec<Test>) -> Self {
        let all: Vec<TextTest> =
            tests.into_iter().filter_map(|test| if let Test::Text(test) = test { Some(test) } else { None }).collect();
        let (mut least, mut most) = (0, u64::MAX);
        let mut rest = all.clone();
        rest.retain(|test| {
            match test {
                TextTest::Len { min, max } | TextTest::Size { min, max } => {
                    least = least.max(*min);
                    most = most.min(*max);
                }
                TextTest::NotEmpty => least = least.max(1),
                _ => return true,
            }
            false
        });
        let narrow = |length: u64| usize::try_from(length).unwrap_or(usize::MAX);
        Self { min: narrow(least), max: narrow(most), rest: rest.into(), all: all.into() }
    }

    #[inline(always)]
    fn hold(&self, text: Text<'_>) -> bool {
        let tests = if text.is_plain() {
            if !(self.min..=self.max).contains(&text.as_bytes().len()) {
                return false;
            }
            &self.rest
        } else {
            &self.all
        };
        tests.iter().all(|test| test.holds(text))
    }
}

#[derive(Debug)]
pub(super) struct IntTests {
    /// Bit n is set if the number n passes.
    small: u64,
    /// For all other numbers.
    numbers: Numbers<i64>,
}

impl IntTests {
    fn new(tests: Vec<Test>) -> Self {
        let passes = |number: &u32| all(&tests, Subject::Int(i64::from(*number)), None);
        let small = (0..u64::BITS).filter(passes).fold(0, |bits, number| bits | 1 << number);
        Self {
            small,
            numbers: Numbers::new(tests, |test| if let Test::Int(bound) = test { span(bound) } else { None }),
        }
    }

    #[inline(always)]
    fn hold(&self, value: i64) -> bool {
        match u32::try_from(value).ok().and_then(|number| 1_u64.checked_shl(number)) {
            Some(bit) => self.small & bit != 0,
            None => self.numbers.hold(value, Subject::Int),
        }
    }
}

/// A range of numbers that includes both ends.
#[derive(Debug)]
pub(super) struct Numbers<T> {
    low: T,
    high: T,
    /// The tests that are not ranges.
    rest: Box<[Test]>,
}

impl<T: Number> Numbers<T> {
    /// `span` returns the range that a test represents, if it does.
    fn new(tests: Vec<Test>, span: impl Fn(&Test) -> Option<(T, T)>) -> Self {
        let (mut low, mut high) = (T::LEAST, T::MOST);
        let mut rest = tests;
        rest.retain(|test| {
            let Some((from, to)) = span(test) else { return true };
            low = if from > low { from } else { low };
            high = if to < high { to } else { high };
            false
        });
        Self { low, high, rest: rest.into() }
    }

    #[inline(always)]
    fn hold<'a>(&self, value: T, subject: impl Fn(T) -> Subject<'a>) -> bool {
        // NaN is in no range.
        self.low <= value && value <= self.high && (self.rest.is_empty() || all(&self.rest, subject(value), None))
    }
}

pub(super) trait Number: Copy + PartialOrd {
    const LEAST: Self;
    const MOST: Self;

    /// Returns the next larger number; `None` for the largest.
    fn above(self) -> Option<Self>;

    /// Returns the next smaller number.
    fn below(self) -> Option<Self>;
}

impl Number for i64 {
    const LEAST: Self = i64::MIN;
    const MOST: Self = i64::MAX;

    fn above(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn below(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Number for u64 {
    const LEAST: Self = 0;
    const MOST: Self = u64::MAX;

    fn above(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn below(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Number for f64 {
    const LEAST: Self = f64::NEG_INFINITY;
    const MOST: Self = f64::INFINITY;

    fn above(self) -> Option<Self> {
        (self < Self::MOST).then(|| self.next_up())
    }

    fn below(self) -> Option<Self> {
        (self > Self::LEAST).then(|| self.next_down())
    }
}

fn double_span(test: &Test) -> Option<(f64, f64)> {
    match test {
        Test::Double(bound) => span(bound),
        Test::Finite => Some((f64::MIN, f64::MAX)),
        _ => None,
    }
}

/// Returns a bound as a range that includes both ends; `None` if it is not one, or if an end does not exist or is NaN.
fn span<T: Number>(bound: &Bound<T>) -> Option<(T, T)> {
    let (low, high) = match bound {
        Bound::Equal(value) => (*value, *value),
        Bound::Range(Range { low, high, outside: false }) => (
            low.map_or(Some(T::LEAST), |(limit, inclusive)| if inclusive { Some(limit) } else { limit.above() })?,
            high.map_or(Some(T::MOST), |(limit, inclusive)| if inclusive { Some(limit) } else { limit.below() })?,
        ),
        Bound::Range(_) | Bound::In(_) | Bound::NotIn(_) => return None,
    };
    let is_number = |end: T| end.partial_cmp(&end).is_some();
    (is_number(low) && is_number(high)).then_some((low, high))
}

#[cfg(test)]
mod tests;
