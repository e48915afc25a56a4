//! Compiles components: in a separate process if the program offers one, otherwise on a thread of this process.
//!
//! The time, memory and stack for validation and compilation depend on the component, and wasmtime limits none of them.
//! Running out of stack or memory ends a process, so a hostile component could end one that is delivering events. A
//! program therefore calls [`compiler_process`] first in its `main`; its components are then compiled by another
//! process of the same program, under limits of CPU time, memory and stack. If that process dies, the component is
//! rejected with the reason.
//!
//! A program without this call (a test, a library's user) compiles on a thread with its own stack. Panics stay on that
//! thread, but its time and memory are unlimited: such a program should load only components that it trusts.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine;
use crate::error::{LoadError, panic_message};
use crate::limits;

/// The first argument that makes a program compile one component instead of its own work. It is not for users.
const VERB: &str = "internal-compile-component";

/// Whether this program handles [`VERB`].
static OFFERED: AtomicBool = AtomicBool::new(false);

/// The compiler process's status byte, sent before its output.
const COMPILED: u8 = 0;
const REFUSED: u8 = 1;
const TRANSCODES: u8 = 2;

/// The difference between the compiler's priority and that of the processes that deliver events.
const NICENESS: i32 = 5;

/// Call this first in `main`. In a process that was started to compile a component, it does so and returns the exit
/// code to end with. In any other it returns `None`, and from then on this process compiles in child processes.
pub fn compiler_process() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(VERB)) {
        OFFERED.store(true, Ordering::Release);
        return None;
    }
    let numbers: Vec<u64> = arguments.filter_map(|argument| argument.to_str()?.parse().ok()).collect();
    Some(match *numbers {
        [stack, cpu, memory] => serve(stack, cpu, memory),
        _ => ExitCode::FAILURE,
    })
}

/// Compiles a component under these limits and loads it into `engine`.
///
/// # Errors
/// Fails if the component is rejected or exceeds a limit.
pub(crate) fn component(engine: &Engine, stack: usize, wasm: &[u8], cpu: Duration) -> Result<Component, LoadError> {
    let compiled = if OFFERED.load(Ordering::Acquire) {
        in_process_of_its_own(stack, wasm, cpu)?
    } else {
        on_thread_of_its_own(engine, wasm)?
    };
    deserialize(engine, &compiled).map_err(|error| LoadError::Compile(format!("{error:#}")))
}

#[allow(unsafe_code, reason = "wasmtime marks it so because the bytes become machine code that is trusted")]
fn deserialize(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `compiled` was made by wasmtime's own compiler, in this process or in a child running this very program,
    // and came through memory or a pipe that no other process can write to. It never was a file, and `inspect` rejects
    // precompiled code.
    unsafe { Component::deserialize(engine, compiled) }
}

fn on_thread_of_its_own(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
    let compiled = thread::scope(|scope| {
        let thread = thread::Builder::new().name("compile".into()).stack_size(limits::COMPILER_STACK);
        let compiling = thread.spawn_scoped(scope, || engine.precompile_component(wasm));
        compiling
            .map_err(LoadError::CompilerStart)?
            .join()
            .map_err(|panic| LoadError::Compile(format!("the compiler panicked: {}", panic_message(&*panic))))
    })?;
    let compiled = compiled.map_err(|error| LoadError::Compile(format!("{error:#}")))?;
    if transcodes(&compiled) { Err(LoadError::Transcodes) } else { Ok(compiled) }
}

/// Returns whether inner components pass strings to each other. wasmtime checks and copies those in its runtime, where
/// no fuel is consumed, and each encoding has a trampoline of this name in the compiled code.
fn transcodes(compiled: &[u8]) -> bool {
    const TRAMPOLINE: &[u8] = b"component-transcode-";
    compiled.windows(TRAMPOLINE.len()).any(|bytes| bytes == TRAMPOLINE)
}

fn in_process_of_its_own(stack: usize, wasm: &[u8], cpu: Duration) -> Result<Vec<u8>, LoadError> {
    let memory = limits::compile_memory(wasm.len());
    let (status, answer, words) = ask(stack, cpu, memory, wasm).map_err(LoadError::CompilerStart)?;
    let died = |ended| LoadError::CompilerDied { ended, cpu, memory, stack: limits::COMPILER_STACK };
    if status.signal() == Some(rustix::process::Signal::XCPU.as_raw()) {
        return Err(LoadError::CompileTime { limit: cpu });
    }
    if !status.success() {
        let last = words.lines().rev().find(|line| !line.trim().is_empty());
        return Err(died(last.map_or_else(|| status.to_string(), |last| format!("{status}: {last}"))));
    }
    match answer.split_first() {
        Some((&COMPILED, compiled)) => Ok(compiled.to_vec()),
        Some((&REFUSED, why)) => Err(LoadError::Compile(String::from_utf8_lossy(why).into_owned())),
        Some((&TRANSCODES, _)) => Err(LoadError::Transcodes),
        Some(_) | None => Err(died("without an answer".into())),
    }
}

/// Starts the compiler process, sends it the component, and returns its exit status, its answer, and its stderr.
fn ask(stack: usize, cpu: Duration, memory: u64, wasm: &[u8]) -> io::Result<(ExitStatus, Vec<u8>, String)> {
    let mut command = Command::new(this_program()?);
    command.arg(VERB).args([stack.to_string(), cpu.as_secs().max(1).to_string(), memory.to_string()]);
    // It needs nothing from the environment, which may contain passwords; the loader may need its path.
    command.env_clear().envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (input, output, words) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (answer, words) = thread::scope(|scope| {
        let words = thread::Builder::new().name("compiler-words".into()).spawn_scoped(scope, || {
            let mut text = Vec::new();
            let mut pipe = words?;
            pipe.by_ref().take(limits::COMPILER_WORDS).read_to_end(&mut text).ok()?;
            // A process whose stderr is full would wait forever.
            io::copy(&mut pipe, &mut io::sink()).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        });
        if let Some(mut input) = input {
            // It may have died by now, as its status shows.
            drop(input.write_all(wasm));
        }
        let mut answer = Vec::new();
        if let Some(output) = output {
            drop(output.take(memory).read_to_end(&mut answer));
        }
        (answer, words.ok().and_then(|words| words.join().ok().flatten()).unwrap_or_default())
    });
    Ok((child.wait()?, answer, words))
}

/// The running program, even if its file has been replaced meanwhile.
fn this_program() -> io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// The main function of a compiler process: reads the component from stdin and writes the compiled code to stdout.
fn serve(stack: u64, cpu: u64, memory: u64) -> ExitCode {
    let served = confine(cpu, memory).and_then(|()| {
        let mut wasm = Vec::new();
        io::stdin().lock().read_to_end(&mut wasm)?;
        let engine = engine::compiler(usize::try_from(stack).unwrap_or(limits::WASM_STACK));
        let compiled = engine
            .map_err(|error| LoadError::Compile(format!("{error:#}")))
            .and_then(|engine| on_thread_of_its_own(&engine, &wasm));
        let (status, bytes) = match compiled {
            Ok(compiled) => (COMPILED, compiled),
            Err(LoadError::Compile(why)) => (REFUSED, why.into_bytes()),
            Err(LoadError::Transcodes) => (TRANSCODES, Vec::new()),
            Err(other) => (REFUSED, other.to_string().into_bytes()),
        };
        let mut output = io::stdout().lock();
        output.write_all(&[status])?;
        output.write_all(&bytes)?;
        output.flush()
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If this fails, there is no other place to report it.
            drop(writeln!(io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    }
}

fn confine(cpu: u64, memory: u64) -> io::Result<()> {
    let limit = |resource, soft: u64, hard: u64| {
        // Inherited limits cannot be raised.
        let hard = getrlimit(resource).maximum.map_or(hard, |inherited| inherited.min(hard));
        setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })
    };
    limit(Resource::Core, 0, 0)?;
    limit(Resource::As, memory, memory)?;
    // The soft limit's signal shows what happened; the hard limit ends a process that ignores it.
    limit(Resource::Cpu, cpu, cpu.saturating_add(1))?;
    // Both only reduce the impact on the processes that deliver events, and may be denied.
    if let Err(error) = nice(NICENESS) {
        tracing::debug!(%error, "the compiler process has the usual priority");
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        tracing::debug!(%error, "the compiler process is not the first to be ended when memory is short");
    }
    Ok(())
}
