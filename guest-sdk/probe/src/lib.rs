//! A transform that does what each event tells it to. Golden cases use it to test the SDK against the real sandbox.

#[allow(missing_docs, reason = "generated")]
mod protos {
    tollgate::include_protos!();
}

use protos::probe::v1::Probe;
use tollgate::{Context, Level, Verdict};

#[tollgate::transform(routes("audit", "gone"), tombstones)]
#[allow(deprecated, reason = "the probe shows what happens to a change and an output that are lost")]
fn probe(event: &mut Probe, ctx: &Context) -> Verdict {
    if ctx.is_tombstone() {
        ctx.set_header("saw", "tombstone");
        return Verdict::Pass;
    }
    match event.act.as_str() {
        "pass" => {
            event.text = "a change that is not sent".into();
            return Verdict::Pass;
        }
        "edit" => {
            ctx.set_key("new key");
            ctx.set_header("was", ctx.header("was").unwrap_or_default());
            ctx.set_header("missing", if ctx.header("none").is_none() { "yes" } else { "no" });
            return Verdict::Pass;
        }
        "drop" => return Verdict::Drop,
        "reject" => return ctx.reject("probe-reject", "text", format!("{} was the text", event.text)),
        "where" => {
            let key = ctx.key().map(String::from_utf8_lossy);
            event.text = format!(
                "{} {} {} {key:?} {:?} {} {}",
                ctx.topic(),
                ctx.partition(),
                ctx.offset(),
                ctx.timestamp(),
                ctx.batch_time(),
                ctx.seed()
            );
        }
        "routes" => {
            ctx.set_header("only", "the first");
            ctx.emit(event);
            ctx.emit_to("audit", &Probe { act: "audited".into(), text: String::new() });
            ctx.set_key("deleted key");
            ctx.delete_to("gone");
        }
        "copy" => ctx.emit_to("audit", &Probe { act: "copied".into(), text: event.text.clone() }),
        "divert" => {
            ctx.emit_to("audit", event);
            return Verdict::Emitted;
        }
        "log" => ctx.log(Level::Warn, "x".repeat(100)),
        "no-route" => ctx.emit_to("nowhere", event),
        "too-many" => (0..4).for_each(|_| ctx.emit(event)),
        "pass-after-emit" => {
            ctx.emit(event);
            return Verdict::Pass;
        }
        "reserved-header" => ctx.set_header("tollgate.digest", "forged"),
        "bad-code" => return ctx.reject("Not A Code", "", ""),
        "panic" => panic!("told to panic: {}", event.text),
        "loop" => loop {
            std::hint::black_box(());
        },
        "allocate" => event.text = "x".repeat(1 << 30),
        other => event.text = format!("no act `{other}`"),
    }
    Verdict::Replace
}
