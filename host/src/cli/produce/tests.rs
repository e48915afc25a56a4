use super::*;

#[test]
fn arguments_are_read_as_they_are_meant() {
    assert_eq!([per_second("500"), per_second("0.5/s")], [Ok(500.0), Ok(0.5)]);
    for wrong in ["0", "-1", "NaN", "5/m", ""] {
        assert!(per_second(wrong).is_err(), "{wrong}");
    }
    assert_eq!([delimiter(";"), delimiter("tab"), delimiter("\\t")], [Ok(b';'), Ok(b'\t'), Ok(b'\t')]);
    assert!(delimiter("\"").is_err() && delimiter("ab").is_err());
    assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    assert!(pair("=b").is_err());
}

#[test]
fn a_rate_is_rounded_and_never_divides_by_nothing() {
    assert_eq!(rate(1_000, Duration::from_millis(500)), 2_000);
    assert_eq!(rate(3, Duration::ZERO), 3_000_000);
}
