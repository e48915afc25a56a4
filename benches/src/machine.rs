//! Reads CPU time and memory of processes from /proc, and measures how fast and how busy the machine is.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

/// Linux reports CPU time to user space in hundredths of a second on all architectures that the bench runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// The steps of the calibration loop. It takes some 200 ms, long enough to detect a slow minute of a shared host.
const CALIBRATION_STEPS: u64 = 300_000_000;
/// The machine counts as idle if its cores together work less than this in a second.
const IDLE_BUSY_SECONDS: f64 = 0.15;

/// The CPU time of a process so far, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

impl Cpu {
    pub fn total(self) -> f64 {
        self.user + self.system
    }
}

/// The values of /proc/PID/stat. They are also available for a zombie: its CPU time is complete until its parent waits
/// for it.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    pub cpu: Cpu,
    /// CPU time of children that ended and were waited for.
    reaped: f64,
    parent: u32,
    pub ended: bool,
}

impl Process {
    pub fn read(pid: u32) -> anyhow::Result<Process> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        parse(&text).with_context(|| format!("{path} cannot be parsed: {text:?}"))
    }
}

fn parse(stat: &str) -> Option<Process> {
    // The name, in brackets, may contain any character. The fields after it are separated by spaces, beginning with the
    // state (field 3 of proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let seconds = |field: usize| fields.get(field - 3)?.parse::<f64>().ok().map(|t| t / TICKS_PER_SECOND);
    Some(Process {
        cpu: Cpu { user: seconds(14)?, system: seconds(15)? },
        reaped: seconds(16)? + seconds(17)?,
        parent: fields.get(1)?.parse().ok()?,
        ended: matches!(*fields.first()?, "Z" | "X"),
    })
}

/// Returns the CPU seconds of PostgreSQL: the postmaster, its children, and the children that have ended.
pub fn postgres_cpu(postmaster: u32) -> anyhow::Result<f64> {
    let own = Process::read(postmaster)?;
    let children = pids()?.into_iter().filter_map(|pid| Process::read(pid).ok()).filter(|p| p.parent == postmaster);
    Ok(own.cpu.total() + own.reaped + children.map(|p| p.cpu.total()).sum::<f64>())
}

fn pids() -> anyhow::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("/proc cannot be read")?;
    Ok(entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Returns the peak memory of the process in MB, or `None` once it has ended.
pub fn peak_rss_mb(process: &str) -> Option<f64> {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<f64>().ok().map(|kb| kb / 1024.0)
}

/// CPU seconds of all cores since the machine was started.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub busy: f64,
    /// Time that the host gave to other guests.
    pub steal: f64,
}

pub fn load() -> anyhow::Result<Load> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat cannot be read")?;
    let first = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = first.split_ascii_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    let at = |i: usize| ticks.get(i).copied().unwrap_or(0.0) / TICKS_PER_SECOND;
    // user, nice, system, irq and softirq count as busy; idle and iowait do not.
    Ok(Load { busy: at(0) + at(1) + at(2) + at(5) + at(6), steal: at(7) })
}

/// Describes the machine: cores, processor, memory, kernel. Figures are meaningless without it.
pub fn describe() -> anyhow::Result<Value> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("{path} cannot be read"));
    let (cpus, memory, kernel) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?, read("/proc/sys/kernel/osrelease")?);
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_once(':'));
        line.map(|(_, value)| value.trim().to_owned())
    };
    Ok(json!({
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "processor": value(&cpus, "model name"),
        "memory": value(&memory, "MemTotal"),
        "kernel": kernel.trim(),
    }))
}

/// Waits until the machine is idle for a second. Returns false if that did not happen within `patience`.
pub fn wait_idle(patience: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let before = load()?;
        std::thread::sleep(Duration::from_secs(1));
        let after = load()?;
        if after.busy - before.busy + after.steal - before.steal < IDLE_BUSY_SECONDS {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the CPU milliseconds of a fixed piece of work that runs on two cores at once. Lower is faster.
pub fn calibrate() -> anyhow::Result<f64> {
    let runs: Vec<_> = (0..2).map(|seed| std::thread::spawn(move || calibration_run(seed))).collect();
    let mut sum = 0.0;
    for run in runs {
        sum += run.join().map_err(|_| anyhow::anyhow!("the calibration loop panicked"))??;
    }
    Ok(sum / 2.0)
}

fn calibration_run(seed: u64) -> anyhow::Result<f64> {
    let before = thread_cpu_ms()?;
    let mut state = seed;
    for step in 0..CALIBRATION_STEPS {
        state = std::hint::black_box(state.wrapping_mul(31).wrapping_add(step));
    }
    std::hint::black_box(state);
    Ok(thread_cpu_ms()? - before)
}

/// Returns the CPU milliseconds of the calling thread, which exclude the time it waited for a core.
pub fn thread_cpu_ms() -> anyhow::Result<f64> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    let nanos = text.split_ascii_whitespace().next().and_then(|t| t.parse::<f64>().ok());
    Ok(nanos.with_context(|| format!("{path} cannot be parsed: {text:?}"))? / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b) (c) Z 3 7 7 0 -1 4194560 1 2 3 4 150 50 25 50 20 0 9 0 100 1 1";
        let process = parse(stat).unwrap();
        assert_eq!((process.cpu, process.reaped), (Cpu { user: 1.5, system: 0.5 }, 0.75));
        assert!(process.ended && process.parent == 3);
        assert!(parse("7 (a) S 3").is_none());
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        assert!(calibrate().unwrap() > 1.0);
        assert!(Process::read(std::process::id()).unwrap().cpu.total() > 0.0);
        assert!(peak_rss_mb("self").unwrap() > 1.0);
    }
}
