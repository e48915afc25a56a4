//! Fits one `contract:` to several event types: its policies for enums and fields apply to the types that have them.

use prost_reflect::DescriptorPool;
use tollgate_contract::{ClockSkew, CompileError, Contract, Policies, UnknownEnums};

/// Returns the policies of each message type, without the fallbacks, clocks and coercions that do not apply to it.
///
/// # Errors
/// Returns a fallback, a clock or a coercion that fits none of the types.
pub(super) fn fit(
    pool: &DescriptorPool,
    messages: &[&str],
    policies: &Policies,
) -> Result<Vec<Policies>, CompileError> {
    let (clock_skew, coerce) = (Vec::new(), Vec::new());
    let plain = Policies { unknown_enums: UnknownEnums::Reject, clock_skew, coerce, ..policies.clone() };
    // For each type, whether it accepts one piece of the policies alone.
    let takers = |piece: Policies| {
        let compiled = messages.iter().map(|message| Contract::compile(pool, message, piece.clone(), &[]).map(drop));
        let compiled: Vec<Result<(), CompileError>> = compiled.collect();
        let takes: Vec<bool> = compiled.iter().map(Result::is_ok).collect();
        match compiled.into_iter().find_map(Result::err) {
            Some(error) if !takes.contains(&true) => Err(error),
            _ => Ok(takes),
        }
    };
    let mut fitted = vec![plain.clone(); messages.len()];
    for clock in &policies.clock_skew {
        let clock_skew: Vec<ClockSkew> = vec![clock.clone()];
        let takes = takers(Policies { clock_skew, ..plain.clone() })?;
        for (own, _) in fitted.iter_mut().zip(takes).filter(|(_, takes)| *takes) {
            own.clock_skew.push(clock.clone());
        }
    }
    for coercion in &policies.coerce {
        let takes = takers(Policies { coerce: vec![coercion.clone()], ..plain.clone() })?;
        for (own, _) in fitted.iter_mut().zip(takes).filter(|(_, takes)| *takes) {
            own.coerce.push(coercion.clone());
        }
    }
    match &policies.unknown_enums {
        UnknownEnums::Fallback(named) => {
            for own in &mut fitted {
                own.unknown_enums = UnknownEnums::Fallback(std::collections::BTreeMap::new());
            }
            for (name, value) in named {
                let one = std::iter::once((name.clone(), value.clone())).collect();
                let takes = takers(Policies { unknown_enums: UnknownEnums::Fallback(one), ..plain.clone() })?;
                for (own, _) in fitted.iter_mut().zip(takes).filter(|(_, takes)| *takes) {
                    if let UnknownEnums::Fallback(own) = &mut own.unknown_enums {
                        own.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        UnknownEnums::Reject => {}
        UnknownEnums::Keep => fitted.iter_mut().for_each(|own| own.unknown_enums = UnknownEnums::Keep),
    }
    Ok(fitted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use tollgate_contract::{Coercion, TimeForm, TimeSpec};

    use super::*;

    fn pool() -> DescriptorPool {
        let text = r#"syntax = "proto3"; package a; enum E { ZERO = 0; } enum F { NONE = 0; }
            import "google/protobuf/timestamp.proto";
            message A { E e = 1; int64 at = 2; } message B { F f = 1; google.protobuf.Timestamp when = 2; }"#;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.proto"), text).unwrap();
        let set = protox::compile(["a.proto"], [folder.path()]).unwrap();
        DescriptorPool::from_file_descriptor_set(set).unwrap()
    }

    fn policies(enums: &[(&str, &str)], clock: &str) -> Policies {
        let named: BTreeMap<String, String> =
            enums.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let unit = Some(tollgate_contract::TimeUnit::Millis);
        let clock = ClockSkew { field: clock.into(), unit, past: None, future: Some(Duration::from_secs(1)) };
        Policies { unknown_enums: UnknownEnums::Fallback(named), clock_skew: vec![clock], ..Policies::default() }
    }

    #[test]
    fn each_type_keeps_what_it_has() {
        let whole = policies(&[("a.E", "ZERO"), ("a.F", "NONE")], "at");
        let fitted = fit(&pool(), &["a.A", "a.B"], &whole).unwrap();
        assert_eq!(fitted[0], policies(&[("a.E", "ZERO")], "at"));
        assert_eq!(fitted[1], Policies { clock_skew: Vec::new(), ..policies(&[("a.F", "NONE")], "at") });
        for own in fitted {
            assert_eq!(own.max_bytes, whole.max_bytes);
        }
        assert_eq!(fit(&pool(), &["a.A"], &Policies::default()).unwrap(), [Policies::default()]);
    }

    fn coercing(paths: &[&str]) -> Policies {
        let time = TimeSpec { forms: vec![TimeForm::UnixMillis], between: None };
        let coerce = paths.iter().map(|path| Coercion { field: (*path).into(), time: time.clone() });
        Policies { coerce: coerce.collect(), ..Policies::default() }
    }

    #[test]
    fn a_coercion_is_kept_where_its_field_is() {
        let fitted = fit(&pool(), &["a.A", "a.B"], &coercing(&["when"])).unwrap();
        assert_eq!(fitted, [Policies::default(), coercing(&["when"])]);
    }

    #[test]
    fn what_no_type_has_is_an_error() {
        let problem = |policies: &Policies| fit(&pool(), &["a.B", "a.A"], policies).unwrap_err().to_string();
        assert!(problem(&policies(&[("a.E", "ZER")], "at")).contains("uses no enum a.E"));
        assert!(problem(&policies(&[], "att")).contains("has no field att"));
        assert!(problem(&coercing(&["when", "at"])).contains("has no field at"));
    }
}
