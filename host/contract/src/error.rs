//! The errors of compiling a contract. They are the operator's fault and are found before any event is read.

use crate::FieldPath;

/// The maximum number of similar names in an error.
const NEAR_NAMES: usize = 3;
/// Names with a lower similarity (0 to 1) are not suggested.
const NEAR_ENOUGH: f64 = 0.75;
/// Names that are less similar than the best one by more than this are not suggested.
const NEAR_BEST: f64 = 0.1;

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("message {name} is not in the descriptors{}", suggest(.near))]
    UnknownMessage { name: String, near: Vec<String> },
    #[error("field {path}: {message} has no field {segment}{}", suggest(.near))]
    UnknownField { path: FieldPath, segment: String, message: String, near: Vec<String> },
    #[error("oneof {path}: {message} has no oneof {}{hint}{}", .path.name(), suggest(.near))]
    UnknownOneof {
        path: FieldPath,
        message: String,
        /// The advice if a field has that name.
        hint: &'static str,
        near: Vec<String>,
    },
    #[error(
        "field {path}: {segment} is {what}, and a path can only pass through singular messages; name {segment} itself or a \
         field beside it"
    )]
    NotAMessage { path: FieldPath, segment: String, what: &'static str },
    #[error("field {path}: {segment} is a group, which the contract rejects on the wire; declare a message instead")]
    Group { path: FieldPath, segment: String },
    #[error("message {message} has more than {limit} required fields; make some of them optional")]
    TooManyRequired { message: String, limit: usize },
    #[error("recursion_limit {given} is outside 1 to {limit}")]
    RecursionLimit { given: u32, limit: u32 },
    #[error("unknown_enums.fallback: {message} uses no enum {name}{}", suggest(.near))]
    UnknownEnum { name: String, message: String, near: Vec<String> },
    #[error("unknown_enums.fallback: enum {name} has no value {value}{}", suggest(.near))]
    UnknownEnumValue { name: String, value: String, near: Vec<String> },
    #[error("clock_skew: field {path} {problem}")]
    ClockSkew { path: FieldPath, problem: String },
    #[error("coerce: field {path} {problem}")]
    Coerce { path: FieldPath, problem: String },
    #[error("rule {rule} of {place}: {problem}")]
    Rule {
        /// The full name of the message or field.
        place: String,
        /// The position of the rule in its options: `string.pattern`, `cel[0]`.
        rule: String,
        problem: String,
    },
    #[error("the contract is too large: {what} exceed {limit}")]
    TooLarge { what: &'static str, limit: usize },
}

fn suggest(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

/// Returns the candidates nearest to `name`, best first. The last segment weighs as much as the whole, since a wrong
/// package is common.
pub(crate) fn near_names(name: &str, candidates: impl Iterator<Item = String>) -> Vec<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_lowercase();
    let mut scored: Vec<(f64, String)> = candidates
        .map(|candidate| {
            let whole = strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase());
            (whole.max(strsim::jaro_winkler(&last(name), &last(&candidate))), candidate)
        })
        .filter(|(score, _)| *score >= NEAR_ENOUGH)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let best = scored.first().map_or(0.0, |(score, _)| *score);
    scored
        .into_iter()
        .take_while(|(score, _)| best - score < NEAR_BEST)
        .take(NEAR_NAMES)
        .map(|(_, candidate)| candidate)
        .collect()
}
