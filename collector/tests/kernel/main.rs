//! On the real kernel: rules, settings, ownership, the stream. Only with `SYSCALL_MONITOR_KERNEL_TESTS=1`, as root, and while nobody else
//! uses the kernel's audit (`flock /run/lock/syscall-monitor-test.lock`).

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use collector::RecordType;
use collector::control::{Control, ControlError};
use collector::live::{ActiveMode, Batch, LiveError, Mode, Reader, ReaderOptions};
use collector::losses::{KernelLost, Losses};
use collector::proc_events::ProcEventKind;
use collector::rules::{Rule, apply, diff, dynamic, parse_rules};
use collector::settings::{SavedState, Wanted, assert_settings};
use collector::status::Change;
use tokio::sync::mpsc::{self, Receiver};

mod auditctl;
mod modes;
mod priority;
mod rules;
mod settings;
mod stream;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
const CHILD: &str = "SYSCALL_MONITOR_TEST_CHILD";
const CALLS: &str = "SYSCALL_MONITOR_TEST_CALLS";

/// The kernel's audit for one test; it is put back when this goes, also when the test fails.
struct Kernel {
    before: SavedState,
    _turn: MutexGuard<'static, ()>,
}

impl Kernel {
    fn take() -> Option<Self> {
        if std::env::var_os("SYSCALL_MONITOR_KERNEL_TESTS").is_none_or(|v| v != "1") {
            println!("skipped: SYSCALL_MONITOR_KERNEL_TESTS=1 is not set");
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let before = SavedState::capture(&mut control()).unwrap();
        Some(Self {
            before,
            _turn: turn,
        })
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let lines = self.before.restore(&mut control());
        println!("restored: {lines:?}");
    }
}

fn control() -> Control {
    Control::open().unwrap()
}

fn rule(line: &str) -> Rule {
    match parse_rules(line, "test") {
        Ok(mut rules) => rules.remove(0).rule,
        Err(errors) => panic!("{}", errors[0]),
    }
}

fn auditctl(argument: &str) -> String {
    let out = Command::new("auditctl").arg(argument).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn start(mode: Mode) -> (Reader, Receiver<Batch>) {
    let (tx, rx) = mpsc::channel(1024);
    let options = ReaderOptions {
        mode,
        ..ReaderOptions::default()
    };
    (Reader::start(options, tx).unwrap(), rx)
}

/// Applies `take` to batches until it says that it is enough.
fn until(rx: &mut Receiver<Batch>, mut take: impl FnMut(Batch) -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match rx.try_recv() {
            Ok(batch) => {
                if take(batch) {
                    return;
                }
            }
            Err(_) => {
                assert!(Instant::now() < end, "it never came");
                std::thread::yield_now();
            }
        }
    }
}

fn field<'a>(payload: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(payload).ok()?;
    text.split(' ')
        .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

/// Not a test: calls umask(2) a number of times, for [`umask_calls`].
#[test]
fn child_that_calls_umask() {
    let Some(calls) = std::env::var(CALLS)
        .ok()
        .and_then(|n| n.parse::<u32>().ok())
    else {
        return;
    };
    for n in 0..calls {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(n & 0o777));
    }
}

/// A process that calls umask(2) so many times, and how it ended.
fn umask_calls(calls: usize) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_calls_umask"])
        .env(CALLS, calls.to_string())
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

/// Another process that owns the stream, as auditd would; dropped, it dies.
struct Owner {
    child: Child,
}

impl Owner {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_owns_audit", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"));
        Self { child }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the owner that [`Owner`] is.
#[test]
fn child_that_owns_audit() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (reader, mut rx) = start(Mode::Exclusive);
    let mut control = control();
    assert_settings(&mut control, &Wanted::default()).unwrap();
    match control.add_rule(&rule("-a always,exit -F arch=b64 -S execve -F key=sm-test")) {
        Ok(()) | Err(ControlError::RuleExists { .. }) => {}
        Err(e) => panic!("{e}"),
    }
    println!("\nready");
    // Reads and throws away, until it is killed or its parent is gone.
    let taker = std::thread::spawn(move || while rx.blocking_recv().is_some() {});
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
    drop(reader);
    taker.join().unwrap();
}
