//! Compares the typed tests with [`Test::holds`], which defines what the rules mean.

use proptest::prelude::*;

use super::super::listed::Listed;
use super::*;
use crate::schema::EnumTable;

fn agrees(tests: &[Test], subject: Subject<'_>) {
    let typed = Tests::new(tests.to_vec());
    assert_eq!(typed.hold(subject, None), all(tests, subject, None), "{tests:?} of {subject:?}");
}

fn bound<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + Clone + 'static,
) -> BoxedStrategy<Bound<T>> {
    let limit = proptest::option::of((value.clone(), any::<bool>()));
    let listed = proptest::collection::vec(value.clone(), 0..3);
    prop_oneof![
        value.prop_map(Bound::Equal),
        (limit.clone(), limit, any::<bool>())
            .prop_filter("no rule is without a limit", |(low, high, _)| low.is_some() || high.is_some())
            .prop_map(|(low, high, outside)| Bound::Range(Range { low, high, outside })),
        listed.clone().prop_map(|listed| Bound::In(listed.into())),
        listed.prop_map(|listed| Bound::NotIn(listed.into())),
    ]
    .boxed()
}

fn whole() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![-3_i64..70, Just(i64::MIN), Just(i64::MAX), Just(i64::MAX - 1), Just(1 << 40)]
}

fn double() -> impl Strategy<Value = f64> + Clone {
    prop_oneof![
        (-3_i8..3).prop_map(f64::from),
        proptest::sample::select(vec![
            -0.0,
            f64::MIN_POSITIVE,
            5e-324,
            -5e-324,
            f64::MAX,
            f64::MIN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN
        ]),
    ]
}

fn text_test() -> impl Strategy<Value = TextTest> {
    let length = || (0_u64..6, prop_oneof![0_u64..6, Just(u64::MAX)]);
    let part = || "[ab\0é]{0,3}";
    prop_oneof![
        length().prop_map(|(min, max)| TextTest::Len { min, max }),
        length().prop_map(|(min, max)| TextTest::Size { min, max }),
        Just(TextTest::NotEmpty),
        part().prop_map(|text| TextTest::Equal(text.into())),
        part().prop_map(|text| TextTest::Prefix(text.into())),
        part().prop_map(|text| TextTest::Contains(text.into())),
        proptest::collection::vec(part(), 0..4).prop_map(|texts| TextTest::NotIn(Listed::new(&texts))),
    ]
}

fn several<T: std::fmt::Debug>(test: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(test, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn ints(bounds in several(bound(whole())), value in whole(), defined in any::<bool>()) {
        let mut tests: Vec<Test> = bounds.into_iter().map(Test::Int).collect();
        if defined {
            let pool = prost_reflect::DescriptorPool::global();
            let kinds = pool.get_enum_by_name("google.protobuf.FieldDescriptorProto.Type").unwrap();
            tests.push(Test::Defined(EnumTable::new(&kinds)));
        }
        agrees(&tests, Subject::Int(value));
    }

    #[test]
    fn uints(bounds in several(bound(whole().prop_map(i64::cast_unsigned))), value in whole()) {
        agrees(&bounds.into_iter().map(Test::Uint).collect::<Vec<_>>(), Subject::Uint(value.cast_unsigned()));
    }

    #[test]
    fn doubles(bounds in several(bound(double())), value in double(), finite in any::<bool>()) {
        let tests = bounds.into_iter().map(Test::Double).chain(finite.then_some(Test::Finite));
        agrees(&tests.collect::<Vec<_>>(), Subject::Double(value));
    }

    #[test]
    fn texts(tests in several(text_test()), value in "[ab\0é]{0,6}") {
        agrees(&tests.into_iter().map(Test::Text).collect::<Vec<_>>(), Subject::Text(value.as_str().into()));
    }

    #[test]
    fn other_types(wanted in any::<bool>(), value in any::<bool>()) {
        agrees(&[Test::Bool(wanted)], Subject::Bool(value));
    }
}
