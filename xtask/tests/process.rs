//! Tests that nothing outlives its owner, however the owner ends. The owner is this test program itself, started again.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as loudly as the test")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use xtask::process::{Group, Signal, clean_up, delete_at_end, end_on_signals};

const ROLE: &str = "XTASK_TEST_OWNER_OF";

/// Not a real test: the other tests start this program with a variable that selects this role. Without it, the test
/// does nothing.
#[test]
fn owner() {
    let Some(folder) = env::var_os(ROLE).map(PathBuf::from) else { return };
    end_on_signals().unwrap();
    fs::create_dir_all(&folder).unwrap();
    delete_at_end(&folder).unwrap();
    // A shell that starts another program: the signal must reach both. Its second line of output is the grandchild's
    // id.
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo child $$ $!; wait"]).stdin(Stdio::null());
    let group = Group::spawn(&mut command, Signal::TERM).unwrap();
    if folder.ends_with("clean_up") {
        group.wait_for(Duration::from_millis(300));
        clean_up();
        std::process::exit(0);
    }
    group.wait();
}

struct Owner {
    process: Child,
    started: Vec<i32>,
    folder: PathBuf,
}

fn start(name: &str) -> Owner {
    let folder = env::temp_dir().join(xtask::cache::unique("xtask-owner")).join(name);
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", "owner", "--nocapture"])
        .env(ROLE, &folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find_map(|line| line.split_once("child ").map(|(_, pids)| pids.to_owned()));
    let pids = said.expect("the owner says what it started");
    let started = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    Owner { process, started, folder }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns whether a process is gone. A zombie that init has not yet collected counts as gone.
fn gone(pid: i32) -> bool {
    let listed = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    listed.stdout.is_empty() || listed.stdout.starts_with(b"Z")
}

fn number(process: &Child) -> i32 {
    process.id().try_into().unwrap()
}

fn assert_all_gone(owner: &Owner) {
    assert_eq!(owner.started.len(), 2);
    until("the child and the grandchild are gone", || owner.started.iter().copied().all(gone));
    until("the folder is gone", || !Path::new(&owner.folder).exists());
    fs::remove_dir_all(owner.folder.parent().unwrap()).unwrap();
}

#[test]
fn a_killed_owner_leaves_nothing() {
    let mut owner = start("killed");
    assert!(Signal::KILL.send(number(&owner.process)));
    owner.process.wait().unwrap();
    assert_all_gone(&owner);
}

#[test]
fn an_interrupted_owner_leaves_nothing_and_says_so_by_its_exit_code() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut owner = start("interrupted");
        assert!(signal.send(number(&owner.process)));
        assert_eq!(owner.process.wait().unwrap().code(), Some(code));
        assert!(owner.started.iter().copied().all(gone), "all is gone before the owner is");
        assert_all_gone(&owner);
    }
}

#[test]
fn cleaning_up_is_done_when_it_returns() {
    let mut owner = start("clean_up");
    assert!(owner.process.wait().unwrap().success());
    assert!(owner.started.iter().copied().all(gone));
    assert_all_gone(&owner);
}

#[test]
fn a_dropped_group_takes_its_children_with_it_even_when_it_ignores_signals() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1; done"]);
    command.stdin(Stdio::null());
    let file = env::temp_dir().join(xtask::cache::unique("xtask-said"));
    command.stdout(fs::File::create(&file).unwrap());
    let group = Group::spawn(&mut command, Signal::TERM).unwrap();
    let said = || fs::read_to_string(&file).unwrap().trim().parse().ok();
    until("the shell says its child", || said().is_some());
    let grandchild = said().unwrap();
    assert!(group.wait_for(Duration::ZERO).is_none());
    let leader = group.id();
    group.signal(Signal::TERM);
    drop(group);
    until("both are gone", || gone(leader) && gone(grandchild));
    fs::remove_file(file).unwrap();
}

#[test]
fn exit_status_and_missing_programs_are_told() {
    let mut command = Command::new("sh");
    let group = Group::spawn(command.args(["-c", "exit 7"]), Signal::TERM).unwrap();
    assert_eq!(group.wait().code(), Some(7));
    let failure = Group::spawn(&mut Command::new("no-such-program-here"), Signal::TERM).err().unwrap();
    assert!(failure.message.starts_with("cannot start no-such-program-here: "), "{failure}");
    assert_eq!(failure.code, 3);
}
