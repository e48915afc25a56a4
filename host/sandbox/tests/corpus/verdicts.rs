//! What a well-behaved guest can say, and what becomes of it.

use tollgate_sandbox::{Bytes, Outcome};

use crate::{events, guests, load, run};

#[test]
fn pass_is_the_event_itself() {
    let results = run(&[&load(&guests::actor())], &events(&["p one", "", "p two"])).unwrap();
    for event in 0..3 {
        let [output] = results.outputs_of(event) else { panic!("{:?}", results.outcomes[event]) };
        assert_eq!((output.route, &output.payload, &output.key), (0, &Bytes::Input, &Bytes::Input));
        assert!(output.headers.is_empty());
        assert!((20..1_000).contains(&results.fuel[event]), "{:?}", results.fuel);
    }
    assert!(results.arena.is_empty());
    assert_eq!(results.outcomes[2], Outcome::Outputs(2..3));
}
