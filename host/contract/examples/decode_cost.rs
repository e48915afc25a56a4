//! Measures nanoseconds per event of a check: for the 108-byte payment event with six wanted fields, with and without
//! rules. It compares them with prost's generated decode and prost-reflect's dynamic message. Run it with `cargo run
//! --release -p tollgate-contract --example decode_cost`.
//!
//! The ways take turns, and the best of the rounds counts, because other work on the machine only ever adds time.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tollgate_contract::{Contract, FieldPath, Fields, Policies, Slot};

const EVENTS: usize = 1_000;
// There are many short runs of at most a millisecond, so that even on a busy machine some of them are not interrupted.
const REPEATS: usize = 4;
const ROUNDS: usize = 200;

/// The payment event as prost would generate it.
#[derive(Clone, PartialEq, prost::Message)]
struct PaymentEvent {
    #[prost(string, tag = "1")]
    transaction_id: String,
    #[prost(double, tag = "2")]
    amount: f64,
    #[prost(string, tag = "3")]
    currency: String,
    #[prost(int32, tag = "4")]
    status: i32,
    #[prost(int64, tag = "5")]
    created_at: i64,
    #[prost(string, tag = "6")]
    trace_id: String,
    #[prost(string, tag = "7")]
    tenant_id: String,
}

fn events() -> Vec<Vec<u8>> {
    (0_u16..)
        .take(EVENTS)
        .map(|n| {
            let event = PaymentEvent {
                transaction_id: format!("{n:08x}-7d1c-4b7e-9f3a-0123456789ab"),
                amount: f64::from(n) + 0.25,
                currency: ["EUR", "USD", "JPY"][usize::from(n % 3)].into(),
                status: i32::from(n % 5) + 1,
                created_at: 1_767_225_600_000 + i64::from(n),
                trace_id: format!("{n:032x}"),
                tenant_id: format!("tenant-{:04}", n % 200),
            };
            event.encode_to_vec()
        })
        .collect()
}

fn time(best: &mut Duration, mut work: impl FnMut()) {
    let start = Instant::now();
    for _ in 0..REPEATS {
        work();
    }
    *best = (*best).min(start.elapsed());
}

fn compile(file: &str, message: &str, wanted: &[FieldPath]) -> Result<Contract, Box<dyn std::error::Error>> {
    let folders = ["/../../proto", "/../../benches/proto"].map(|folder| env!("CARGO_MANIFEST_DIR").to_owned() + folder);
    let mut compiler = protox::Compiler::new(folders)?;
    // Uses a descriptor set, because the compiler's own pool drops the options that contain the rules.
    let set = compiler.include_imports(true).open_file(file)?.encode_file_descriptor_set();
    Ok(Contract::compile(&DescriptorPool::decode(set.as_slice())?, message, Policies::default(), wanted)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted: Vec<FieldPath> =
        ["transaction_id", "amount", "currency", "status", "created_at", "tenant_id"].map(FieldPath::from).into();
    let plain = compile("payments/v1/payment.proto", "payments.v1.PaymentEvent", &wanted)?;
    let ruled = compile("bench/v1/payment.proto", "bench.v1.PaymentEvent", &wanted)?;

    let events = events();
    let size = events.iter().map(Vec::len).sum::<usize>() / EVENTS;
    let [mut check, mut rules, mut generated, mut dynamic] = [Duration::MAX; 4];
    let mut fields = Fields::new();
    for _ in 0..ROUNDS {
        for (contract, best) in [(&plain, &mut check), (&ruled, &mut rules)] {
            time(best, || {
                for event in &events {
                    let verdict = contract.check(event, &mut fields);
                    black_box((verdict.is_ok(), fields.get(Slot(0)), fields.get(Slot(5))));
                }
            });
        }
        time(&mut generated, || {
            for event in &events {
                black_box(PaymentEvent::decode(event.as_slice()).is_ok());
            }
        });
        time(&mut dynamic, || {
            for event in &events {
                black_box(DynamicMessage::decode(plain.message().clone(), event.as_slice()).is_ok());
            }
        });
    }
    let nanos = |best: Duration| best.as_secs_f64() * 1e9 / (EVENTS * REPEATS) as f64;
    let (check, rules, generated, dynamic) = (nanos(check), nanos(rules), nanos(generated), nanos(dynamic));
    let mut out = std::io::stdout().lock();
    writeln!(out, "payment event, {size} bytes, {} wanted fields, best of {ROUNDS} rounds", wanted.len())?;
    writeln!(out, "  contract check            {check:7.1} ns/event")?;
    writeln!(out, "  the same with rules       {rules:7.1} ns/event  {:.2} x the check", rules / check)?;
    writeln!(out, "  prost generated decode    {generated:7.1} ns/event  {:.2} x the check", generated / check)?;
    writeln!(out, "  prost-reflect dynamic     {dynamic:7.1} ns/event  {:.2} x the check", dynamic / check)?;
    Ok(())
}
