//! The pipelines whose tables `check` compares.

use super::Args;
use super::versions;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use tollgate_config::error::Failure;
use tollgate_config::{ConfigErrors, Pipeline};

/// Loads the pipelines of --pipeline and those among the paths.
pub(super) fn pipelines(args: &Args) -> Result<Vec<Pipeline>, Failure> {
    let named = args.paths.iter().filter(|path| versions::is_pipeline(path)).chain(&args.pipeline);
    named.map(|path| load_pipeline(path)).collect()
}

/// Values used for a variable that is not set. For every kind of value in a pipeline, one of them is valid.
const STAND_INS: [&str; 4] = ["1", "unset", "localhost:9092", "postgres://localhost/unset"];

/// Loads a pipeline for its mapping. An unset variable is not an error here, because CI has none of the secrets and no
/// connection is made.
pub fn load_pipeline(path: &Path) -> Result<Pipeline, Failure> {
    let invalid = |errors| Failure::configuration("config.invalid", errors);
    let text = tollgate_config::reader::load_text(path).map_err(invalid)?;
    let unset = RefCell::new(BTreeMap::new());
    let parse = || {
        let variable = |name: &str| {
            let stand_in = || (*unset.borrow_mut().entry(name.to_owned()).or_insert(STAND_INS[0])).to_owned();
            Some(std::env::var(name).unwrap_or_else(|_| stand_in()))
        };
        Pipeline::parse(path, &text, &variable)
    };
    let mut result = parse();
    let wrong = |result: &Result<_, ConfigErrors>| result.as_ref().err().map_or(0, |errors| errors.errors.len());
    let names: Vec<String> = unset.borrow().keys().cloned().collect();
    for name in names {
        let mut best = (wrong(&result), STAND_INS[0]);
        for stand_in in STAND_INS {
            unset.borrow_mut().insert(name.clone(), stand_in);
            result = parse();
            best = best.min((wrong(&result), stand_in));
        }
        unset.borrow_mut().insert(name, best.1);
        result = parse();
    }
    result.map_err(invalid)
}
