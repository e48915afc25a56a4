//! Runs one engine and measures it from outside, so that every engine is measured alike.
//!
//! An engine is done when its consumer group has committed the end of the topic. Its time is that from the first to the
//! last commit of the table's rows, by PostgreSQL's clock. Its CPU time is that of the whole process, from start to
//! end.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::broker::GroupWatch;
use crate::engine::{Engine, Job, Setting, ends_by_itself, prepare};
use crate::machine::{self, Cpu, Process};

/// The interval at which the process's memory, its end, and its group's offsets are checked.
const LOOK: Duration = Duration::from_millis(10);
const ASK: Duration = Duration::from_millis(100);
/// An engine that is not done after this time is stuck.
const DRAIN_DEADLINE: Duration = Duration::from_secs(600);
/// The time within which an engine must end after it was stopped or is done.
const END_DEADLINE: Duration = Duration::from_secs(60);
/// A run counts as disturbed if other processes use more than this share of the machine.
const DISTURBED_SHARE: f64 = 0.08;

/// The cost of a run.
#[derive(Debug, Clone)]
pub struct Cost {
    /// User and system time of the engine's process, from its start to its end.
    pub cpu: Cpu,
    pub peak_rss_mb: f64,
    pub postgres_cpu: f64,
    pub broker_cpu: f64,
    /// CPU seconds of all other processes, including the load's.
    pub other_cpu: f64,
    pub steal: f64,
    /// The calibration before and after the run, in ms.
    pub calibration: [f64; 2],
    /// Whether the machine was idle before the start.
    pub idle: bool,
    pub wall: f64,
    /// The number of times that backpressure paused partitions, if the engine reports it.
    pub pauses: Option<u64>,
    /// The 99th percentile of a batch's time from its first step to its last in ms, if the engine reports it.
    pub commit_p99_ms: Option<f64>,
}

impl Cost {
    pub fn disturbed(&self) -> bool {
        let cores = thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        !self.idle || self.other_cpu > DISTURBED_SHARE * cores * self.wall
    }

    pub fn to_json(&self) -> Value {
        json!({
            "cpu_s": self.cpu.total(), "user_s": self.cpu.user, "system_s": self.cpu.system,
            "peak_rss_mb": self.peak_rss_mb, "postgres_cpu_s": self.postgres_cpu, "kafka_cpu_s": self.broker_cpu,
            "other_cpu_s": self.other_cpu, "steal_s": self.steal, "calibration_ms": self.calibration,
            "wall_s": self.wall, "disturbed": self.disturbed(), "pauses": self.pauses,
            "commit_p99_ms": self.commit_p99_ms,
        })
    }
}

/// A running engine. Dropping it kills it, so that no run leaves a process behind.
struct Running {
    child: Child,
    peak_rss_mb: f64,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both calls fail only if the process has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Running {
    /// Returns true once the process has ended. The process is not yet waited for, so that its figures can still be
    /// read.
    fn look(&mut self) -> anyhow::Result<bool> {
        let pid = self.child.id();
        if let Some(peak) = machine::peak_rss_mb(&pid.to_string()) {
            self.peak_rss_mb = self.peak_rss_mb.max(peak);
        }
        Ok(Process::read(pid)?.ended)
    }

    fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().context("`kill` cannot be started")?;
        if !sent.success() {
            bail!("the engine (process {pid}) cannot be stopped");
        }
        Ok(())
    }
}

/// Counters at one moment, to be subtracted from those of a later one.
struct Meter {
    at: Instant,
    postgres: f64,
    broker: f64,
    load: machine::Load,
}

impl Meter {
    fn read(setting: &Setting) -> anyhow::Result<Meter> {
        Ok(Meter {
            at: Instant::now(),
            postgres: machine::postgres_cpu(setting.postmaster)?,
            broker: Process::read(setting.broker)?.cpu.total(),
            load: machine::load()?,
        })
    }
}

/// Runs the job to its end. `during` is called with the address of the engine's metrics once the group is stable. It
/// may send load, and the run does not end before it returns. The commits that it returns are not counted. `patience`
/// is the time to wait for an idle machine.
pub fn run(
    engine: Engine,
    setting: &Setting,
    job: &Job,
    patience: Duration,
    during: impl FnOnce(Option<&str>) -> anyhow::Result<Option<String>>,
) -> anyhow::Result<Cost> {
    let mut start = prepare(engine, setting, job)?;
    let idle = machine::wait_idle(patience)?;
    let before_ms = machine::calibrate()?;
    let watch = GroupWatch::new(&setting.brokers, &job.group, &job.topic)?;
    let log = setting.work.join(format!("{}.log", job.group));
    let file = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
    start.command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);

    let before = Meter::read(setting)?;
    let child = start.command.spawn().with_context(|| format!("{} cannot be started", engine.name()))?;
    let mut running = Running { child, peak_rss_mb: 0.0 };
    let told = |error: anyhow::Error| error.context(format!("{} failed; its log is {}", engine.name(), log.display()));
    let (skipped, told_at_end) =
        work(engine, &mut running, job, &watch, during, start.metrics.as_deref()).map_err(told)?;
    // A zombie still has its CPU times.
    let cpu = Process::read(running.child.id())?.cpu;
    let after = Meter::read(setting)?;
    let status = running.child.wait()?;
    if !status.success() {
        return Err(told(anyhow::anyhow!("it ended with {status}")));
    }
    let calibration = [before_ms, machine::calibrate()?];
    let (postgres_cpu, broker_cpu) = (after.postgres - before.postgres, after.broker - before.broker);
    Ok(Cost {
        cpu,
        peak_rss_mb: running.peak_rss_mb,
        postgres_cpu,
        broker_cpu,
        other_cpu: after.load.busy - before.load.busy - cpu.total() - postgres_cpu - broker_cpu,
        steal: after.load.steal - before.load.steal,
        calibration,
        idle,
        wall: after.at.duration_since(before.at).as_secs_f64(),
        pauses: told_at_end.as_deref().map(pauses).transpose()?,
        commit_p99_ms: told_at_end
            .as_deref()
            .and_then(|text| quantile(&counted(skipped.as_deref(), text, COMMITS), 0.99))
            .map(|seconds| seconds * 1e3),
    })
}

/// Runs from the start to the process's end. Returns the engine's metrics at the time when `during` returned, and when
/// the engine was done.
fn work(
    engine: Engine,
    running: &mut Running,
    job: &Job,
    watch: &GroupWatch,
    during: impl FnOnce(Option<&str>) -> anyhow::Result<Option<String>>,
    metrics: Option<&str>,
) -> anyhow::Result<(Option<String>, Option<String>)> {
    let deadline = Instant::now() + DRAIN_DEADLINE;
    if engine != Engine::Floor {
        // The floor program takes its partitions without a group.
        until(running, deadline, "it did not join its group", || watch.stable())?;
    }
    let skipped = during(metrics)?;
    until(running, deadline, "it did not get to the end of the topic", || Ok(watch.done()? >= job.events))?;
    let told = metrics.map(read).transpose()?;
    if !ends_by_itself(engine) {
        running.terminate()?;
    }
    let deadline = Instant::now() + END_DEADLINE;
    while !running.look()? {
        if Instant::now() > deadline {
            bail!("it did not end after its last event");
        }
        thread::sleep(LOOK);
    }
    Ok((skipped, told))
}

/// Waits until `reached`, or until the process has ended by itself, which the caller handles.
fn until(
    running: &mut Running,
    deadline: Instant,
    otherwise: &str,
    mut reached: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut asked: Option<Instant> = None;
    let mut answer = Ok(false);
    loop {
        if running.look()? {
            return Ok(());
        }
        if asked.is_none_or(|at| at.elapsed() >= ASK) {
            // A coordinator that is moving or being created answers with an error for a moment.
            answer = reached();
            if matches!(answer, Ok(true)) {
                return Ok(());
            }
            asked = Some(Instant::now());
        }
        if Instant::now() > deadline {
            answer?;
            bail!("{otherwise} within {} s", DRAIN_DEADLINE.as_secs());
        }
        thread::sleep(LOOK);
    }
}

/// Returns the engine's metrics in Prometheus' text format.
pub fn read(address: &str) -> anyhow::Result<String> {
    get(address, "/metrics").with_context(|| format!("http://{address}/metrics cannot be read"))
}

/// Returns the sum of the engine's counters of pauses.
fn pauses(text: &str) -> anyhow::Result<u64> {
    metric(text, PAUSES).with_context(|| format!("/metrics has no {PAUSES}"))
}

/// The engine's counter of how often the backlog made it pause partitions.
const PAUSES: &str = "tollgate_backpressure_pauses_total";

/// The histogram of a batch's time from step 1 to step 4.
const COMMITS: (&str, &str) = ("tollgate_stage_seconds_bucket{", "stage=\"commit\"");

/// Returns the buckets of the histogram with this name and label as (upper bound, cumulative count), minus the counts
/// in `before`.
fn counted(before: Option<&str>, text: &str, of: (&str, &str)) -> Vec<(f64, f64)> {
    let before = before.map_or_else(Vec::new, |before| buckets(before, of));
    let mut counted = buckets(text, of);
    for ((_, count), (_, already)) in counted.iter_mut().zip(before) {
        *count -= already;
    }
    counted
}

fn buckets(text: &str, (begin, label): (&str, &str)) -> Vec<(f64, f64)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(begin)?.split_once("} "));
    let of_label = lines.filter(|(labels, _)| labels.split(',').any(|one| one == label));
    let counted = of_label.filter_map(|(labels, count)| {
        let bound = labels.split(',').find_map(|one| one.strip_prefix("le=\"")?.strip_suffix('"'))?;
        Some((bound.parse().ok()?, count.trim().parse().ok()?))
    });
    counted.collect()
}

/// Returns a quantile of a histogram. Within a bucket it interpolates linearly, as Prometheus does.
fn quantile(counted: &[(f64, f64)], quantile: f64) -> Option<f64> {
    let rank = counted.last()?.1 * quantile;
    let place = counted.iter().position(|(_, count)| *count >= rank)?;
    let (above, before) = place.checked_sub(1).map_or((0.0, 0.0), |below| counted[below]);
    let (to, count) = counted[place];
    // No value is known above the last finite bound.
    (to.is_finite() && count > before).then(|| above + (to - above) * (rank - before) / (count - before))
}

fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(END_DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("the answer is {:?}", answer.lines().next().unwrap_or(""));
    }
    Ok(answer)
}

/// Returns the sum of `name` over all label sets in Prometheus' text format.
fn metric(text: &str, name: &str) -> Option<u64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.strip_prefix(|c: char| c == '{' || c == ' ').and(rest.rsplit(' ').next())?;
        value.parse::<f64>().ok().map(|v| format!("{v:.0}").parse::<u64>().unwrap_or(u64::MAX))
    });
    samples.reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let line = |le: &str, count| format!("b{{le=\"{le}\",s=\"c\"}} {count}\nb{{le=\"{le}\",s=\"d\"}} 0\n");
        let text = [line("0.1", 50), line("0.2", 100), line("+Inf", 100), "b_other 9\n".to_owned()].concat();
        let at = |text: &str, q| quantile(&counted(None, text, ("b{", "s=\"c\"")), q);
        assert_eq!(at(&text, 0.5), Some(0.1));
        assert!((at(&text, 0.75).unwrap() - 0.15).abs() < 1e-12);
        let late = [line("0.1", 1), line("+Inf", 100)].concat();
        assert_eq!(at(&late, 0.99), None, "nobody knows how late");
        assert_eq!(at("", 0.5), None);
        let later = [line("0.1", 70), line("0.2", 200), line("+Inf", 200)].concat();
        let since = counted(Some(&text), &later, ("b{", "s=\"c\""));
        assert_eq!(since, [(0.1, 20.0), (0.2, 100.0), (f64::INFINITY, 100.0)]);
    }

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_its_namesakes() {
        let text = "# TYPE p_total counter\np_total{lane=\"0\"} 2\np_total{lane=\"1\"} 3.0\np_total_of_others 9\n";
        assert_eq!(metric(text, "p_total"), Some(5));
        assert_eq!(metric("p_total 0\n", "p_total"), Some(0));
        assert_eq!(metric(text, "q_total"), None);
    }
}
