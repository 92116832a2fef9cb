//! On the real kernel: rules, settings, ownership, the stream. Only with `SYSCALL_MONITOR_KERNEL_TESTS=1`, as root, and while nobody else
//! uses the kernel's audit (`flock /run/lock/syscall-monitor-test.lock`).

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
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

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
const CHILD: &str = "SYSCALL_MONITOR_TEST_CHILD";

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

#[test]
fn every_kind_of_rule_comes_back_from_the_kernel_and_reads_like_auditctls() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let golden = include_str!("rules/auditctl-3.0.9.txt");
    let lines = golden.lines().filter_map(|line| line.strip_prefix("rule "));
    let beyond_auditctl = [
        "-a always,io_uring -S openat,openat2 -F uid!=0 -F key=sm-uring",
        "-a always,exit -F arch=b64 -S open -F loginuid_set=1 -F subj_user=x",
        "-a never,exit -S all -F pid=77 -F key=sm-self",
    ];
    let others = control.rules().unwrap();
    for line in lines.chain(beyond_auditctl) {
        let rule = rule(&format!("{line} -k sm-roundtrip"));
        match control.add_rule(&rule) {
            Ok(()) => {}
            // A label of a security module that is not there.
            Err(ControlError::Kernel { errno: 22, .. }) if line.contains("subj_") => continue,
            Err(e) => panic!("{line}: {e}"),
        }
        let listed = control.rules().unwrap();
        let ours: Vec<_> = listed.iter().filter(|rule| rule.is_ours()).collect();
        assert!(
            ours.len() == 1 && ours[0].same_as(&rule),
            "{line}: {listed:?}"
        );
        assert!(
            rule.prepend()
                || matches!(
                    control.add_rule(&rule),
                    Err(ControlError::RuleExists { .. })
                ),
            "{line}"
        );
        if !line.contains("io_uring") && !line.contains("loginuid_set") {
            let text = ours[0]
                .to_string()
                .replace("filetype=file", "filetype=32768")
                .replace("exe!=", "exe=");
            assert!(
                auditctl("-l").lines().any(|line| line == text),
                "{text}\n{}",
                auditctl("-l")
            );
        }
        control.delete_rule(&rule).unwrap();
        assert!(
            matches!(
                control.delete_rule(&rule),
                Err(ControlError::NoSuchRule { .. })
            ),
            "{line}"
        );
    }
    assert_eq!(control.rules().unwrap(), others);
}

#[test]
fn the_kernel_takes_the_difference_and_nothing_else() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let theirs = rule("-a always,exit -F arch=b64 -S umask -F pid=1 -F key=theirs");
    control.add_rule(&theirs).unwrap();
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../audit-rules/common/kernel.rules"
    );
    let mut wished: Vec<Rule> = parse_rules(&std::fs::read_to_string(file).unwrap(), file)
        .unwrap()
        .into_iter()
        .map(|parsed| parsed.rule)
        .collect();
    wished.extend(dynamic::container_proc_writes(4000, "sm-proc"));
    wished.extend(dynamic::watch_path(
        "/etc",
        true,
        dynamic::Perm::ACCESS,
        "sm-hostfs",
    ));
    wished.extend(dynamic::watch_path(
        "/no/such/directory",
        false,
        dynamic::Perm::CHANGE,
        "sm-hostfs",
    ));
    let changes = diff(&wished, &control.rules().unwrap());
    let applied = apply(&mut control, &changes).unwrap();
    assert!(
        applied
            .skipped
            .iter()
            .any(|(rule, why)| rule.to_string().contains("/no/such")
                && why.contains("does not exist"))
    );
    let missing: Vec<Rule> = applied
        .skipped
        .iter()
        .map(|(rule, _)| rule.clone())
        .collect();
    for (rule, why) in &applied.skipped {
        println!("skipped {}: {why}", rule.keys().count());
    }
    assert_eq!(
        diff(&wished, &control.rules().unwrap()).add,
        missing,
        "what is loaded is not wished again"
    );
    assert!(diff(&wished, &control.rules().unwrap()).delete.is_empty());

    let applied = {
        let changes = diff(&[], &control.rules().unwrap());
        apply(&mut control, &changes).unwrap()
    };
    assert!(
        applied.deleted > 20 && applied.skipped.is_empty(),
        "{applied:?}"
    );
    let left = control.rules().unwrap();
    assert!(
        left.iter().all(|rule| !rule.is_ours()) && left.iter().any(|rule| rule.same_as(&theirs))
    );
    control.delete_rule(&theirs).unwrap();
}

#[test]
fn settings_are_put_right_and_back_again() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let found = Change {
        rate_limit: Some(1233),
        backlog_limit: Some(70),
        backlog_wait_time: Some(777),
        enabled: Some(0),
        ..Change::default()
    };
    control.set(&found).unwrap();
    let before = SavedState::capture(&mut control).unwrap();
    let wanted = Wanted::default();
    let drifts = assert_settings(&mut control, &wanted).unwrap();
    assert!(
        drifts
            .iter()
            .any(|drift| drift.what == "rate_limit" && drift.found == 1233 && drift.put_right),
        "{drifts:?}"
    );
    assert_eq!(assert_settings(&mut control, &wanted).unwrap(), []);
    let status = control.status().unwrap();
    assert_eq!((status.enabled, status.rate_limit), (1, 0));
    assert!(collector::settings::backlog_wait(&status) <= Duration::from_millis(100));
    assert!(status.backlog_wait_time_actual.is_some());

    let json = serde_json::to_string_pretty(&before).unwrap();
    let saved: SavedState = serde_json::from_str(&json).unwrap();
    let lines = saved.restore(&mut control).unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("backlog_wait_time is 777 again")),
        "{lines:?}"
    );
    assert_eq!(
        saved.restore(&mut control).unwrap(),
        Vec::<String>::new(),
        "a second time nothing is left to do"
    );
    let (now, was) = (control.status().unwrap(), saved.status);
    assert_eq!(
        (
            now.enabled,
            now.failure,
            now.pid,
            now.rate_limit,
            now.backlog_limit,
            now.backlog_wait_time
        ),
        (
            was.enabled,
            was.failure,
            was.pid,
            was.rate_limit,
            was.backlog_limit,
            was.backlog_wait_time
        )
    );
}

#[test]
fn the_owner_gets_every_record_and_each_process_before_its_records() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    const PROGRAMS: usize = 1200;
    let mut control = control();
    let (reader, mut rx) = start(Mode::Exclusive);
    assert_eq!(reader.mode(), ActiveMode::Exclusive);
    assert_eq!(control.status().unwrap().pid, std::process::id());
    assert_settings(&mut control, &Wanted::default()).unwrap();
    let mut lost = KernelLost::new(&control.status().unwrap());
    // Whoever is not here now is born under our eyes.
    let mut born: HashSet<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    control
        .add_rule(&rule(
            "-a always,exit -F arch=b64 -S execve,umask -F key=sm-test",
        ))
        .unwrap();
    let one = "i=0; while [ $i -lt 300 ]; do (umask 0; umask 0; umask 0); i=$((i+1)); done";
    let mut shell = Command::new("sh")
        .args(["-c", &format!("for j in 1 2 3 4; do ({one}) & done; wait")])
        .spawn()
        .unwrap();
    let waiter = std::thread::spawn(move || shell.wait().unwrap());
    let mut seen = HashSet::new();
    until(&mut rx, |batch| {
        assert!(!batch.connector_overrun && !batch.audit_overrun && batch.dropped_before == 0);
        for event in &batch.proc_events {
            if let ProcEventKind::Fork { child_tgid, .. } = event.kind {
                born.insert(child_tgid);
            }
        }
        for (kind, payload) in batch.records() {
            assert!(
                payload.starts_with(b"audit(") && !payload.ends_with(b"\0"),
                "{kind:?}"
            );
            if kind == RecordType::SYSCALL {
                let pid: u32 = field(payload, "pid").unwrap().parse().unwrap();
                assert!(
                    born.contains(&pid),
                    "a record of {pid} came before its birth"
                );
                if field(payload, "comm") == Some("\"sh\"") {
                    seen.insert(pid);
                }
            }
        }
        seen.len() >= PROGRAMS
    });
    assert!(waiter.join().unwrap().success());
    let counters = reader.counters();
    reader.stop().unwrap();
    assert_eq!(
        control.status().unwrap().pid,
        0,
        "the stream has no owner any more"
    );
    let losses = Losses::snapshot(&counters, lost.update(&control.status().unwrap()));
    assert!(!losses.any(), "{losses:?}");
    assert!(counters.records.load(Ordering::Relaxed) >= 3 * PROGRAMS as u64);
}

#[test]
fn a_flood_is_taken_in_and_stopping_amid_it_does_not_hang() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (reader, mut rx) = start(Mode::Exclusive);
    assert_settings(&mut control, &Wanted::default()).unwrap();
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S umask -F key=sm-test"))
        .unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", "while :; do umask 022; done"])
        .spawn()
        .unwrap();
    let mut records = 0;
    until(&mut rx, |batch| {
        records += batch.len();
        records > 50_000
    });
    let counters = reader.counters();
    let drain = std::thread::spawn(move || while rx.blocking_recv().is_some() {});
    let began = Instant::now();
    reader.stop().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    drain.join().unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert_eq!(counters.queue_dropped_records.load(Ordering::Relaxed), 0);
    assert_eq!(control.status().unwrap().pid, 0);
}

#[test]
fn a_receiver_that_stops_costs_records_that_are_counted_and_nothing_else() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (tx, mut rx) = mpsc::channel(2);
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    let options = ReaderOptions {
        mode: Mode::Exclusive,
        heartbeat: Some(write_end),
        ..ReaderOptions::default()
    };
    let reader = Reader::start(options, tx).unwrap();
    assert_settings(&mut control, &Wanted::default()).unwrap();
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S umask -F key=sm-test"))
        .unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", "while :; do umask 022; done"])
        .spawn()
        .unwrap();
    let counters = reader.counters();
    let end = Instant::now() + Duration::from_secs(20);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while counters.queue_dropped_records.load(Ordering::Relaxed) < 5_000 {
        assert!(Instant::now() < end);
        if matches!(rustix::io::read(&read_end, &mut [0; 64]), Ok(n) if n > 0) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        std::thread::yield_now();
    }
    shell.kill().unwrap();
    shell.wait().unwrap();
    // The machine may be busy; without load the longest pause was below 45 ms.
    assert!(
        longest < Duration::from_millis(500),
        "the heart stood still for {longest:?}"
    );
    let mut dropped = 0;
    until(&mut rx, |batch| {
        dropped += batch.dropped_before;
        dropped > 0
    });
    let drain = std::thread::spawn(move || {
        let mut dropped = 0;
        while let Some(batch) = rx.blocking_recv() {
            dropped += batch.dropped_before;
        }
        dropped
    });
    reader.stop().unwrap();
    dropped += drain.join().unwrap();
    assert_eq!(
        counters.queue_dropped_records.load(Ordering::Relaxed),
        dropped,
        "each dropped record is told once"
    );
}

#[test]
fn beside_an_owner_the_stream_is_shared() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (owner, mut owned) = start(Mode::Auto);
    assert_eq!(owner.mode(), ActiveMode::Exclusive, "nobody else owns it");
    let (tx, _rx) = mpsc::channel(16);
    let exclusive = ReaderOptions {
        mode: Mode::Exclusive,
        ..ReaderOptions::default()
    };
    let me = std::process::id();
    assert!(
        matches!(Reader::start(exclusive, tx), Err(LiveError::OwnerExists { pid }) if pid == me)
    );
    let (shared, mut rx) = start(Mode::Auto);
    assert_eq!(shared.mode(), ActiveMode::Shared);
    assert_settings(&mut control, &Wanted::default()).unwrap();
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S execve -F key=sm-test"))
        .unwrap();
    assert!(Command::new("true").status().unwrap().success());
    for rx in [&mut rx, &mut owned] {
        until(rx, |batch| {
            batch.records().any(|(kind, _)| kind == RecordType::EXECVE)
        });
    }
    assert!(
        owner.counters().replace_requests.load(Ordering::Relaxed) >= 2,
        "the kernel asked whether the owner lives"
    );
    shared.stop().unwrap();
    owner.stop().unwrap();
}

#[test]
fn a_listener_without_ownership_does_not_hear_itself() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (reader, mut rx) = start(Mode::Shared);
    assert_eq!(
        (reader.mode(), control.status().unwrap().pid),
        (ActiveMode::Shared, 0)
    );
    let watched = rule("-a always,exit -F arch=b64 -S umask -F key=sm-test");
    let except = dynamic::except_pid_from(std::process::id(), std::slice::from_ref(&watched));
    let changes = diff(&[watched, except], &control.rules().unwrap());
    assert_eq!(apply(&mut control, &changes).unwrap().added, 2);
    assert_settings(&mut control, &Wanted::default()).unwrap();
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    let shell = Command::new("sh").args(["-c", "umask 0"]).spawn().unwrap();
    let (child, me) = (shell.id().to_string(), std::process::id().to_string());
    let mut shell = shell;
    shell.wait().unwrap();
    until(&mut rx, |batch| {
        let calls: Vec<_> = batch
            .records()
            .filter(|(kind, _)| *kind == RecordType::SYSCALL)
            .collect();
        assert!(
            calls
                .iter()
                .all(|(_, payload)| field(payload, "pid") != Some(&me)),
            "we hear ourselves"
        );
        calls
            .iter()
            .any(|(_, payload)| field(payload, "pid") == Some(&child))
    });
    reader.stop().unwrap();
}

#[test]
fn what_the_kernel_did_not_send_is_no_record() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let (reader, mut rx) = start(Mode::Exclusive);
    let forged = collector::netlink::message(
        1300,
        0,
        0,
        b"audit(1.000:1): arch=c000003e syscall=59 forged",
    );
    let socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_AUDIT).unwrap();
    let table = std::fs::read_to_string("/proc/net/netlink").unwrap();
    let ports = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == "9")
            .then(|| words.next()?.parse::<u32>().ok())
            .flatten()
    });
    for port in ports.filter(|port| *port != 0) {
        let _ = socket.send_to(&forged, &netlink_sys::SocketAddr::new(port, 0), 0);
    }
    let counters = reader.counters();
    let end = Instant::now() + Duration::from_secs(5);
    while counters.foreign.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < end, "the forgery never came");
        std::thread::yield_now();
    }
    reader.stop().unwrap();
    while let Ok(batch) = rx.try_recv() {
        assert!(
            batch
                .records()
                .all(|(_, payload)| !payload.ends_with(b"forged"))
        );
    }
}

/// Not a test: the owner that [`the_state_is_restored_after_the_owner_was_killed`] kills.
#[test]
fn child_that_owns_audit() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (_reader, _rx) = start(Mode::Exclusive);
    let mut control = control();
    assert_settings(&mut control, &Wanted::default()).unwrap();
    control
        .add_rule(&rule("-a always,exit -F arch=b64 -S execve -F key=sm-test"))
        .unwrap();
    println!("\nready");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn the_state_is_restored_after_the_owner_was_killed() {
    let Some(kernel) = Kernel::take() else { return };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_owns_audit", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    let mut control = control();
    assert_eq!(control.status().unwrap().pid, child.id());
    assert!(control.rules().unwrap().iter().any(Rule::is_ours));
    let me = Change {
        pid: Some(0),
        ..Change::default()
    };
    assert!(
        matches!(control.set(&me), Err(ControlError::OwnerExists)),
        "only the owner may end its ownership"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    kernel.before.restore(&mut control).unwrap();
    let (now, was) = (control.status().unwrap(), kernel.before.status);
    assert_eq!(
        (
            now.enabled,
            now.pid,
            now.rate_limit,
            now.backlog_limit,
            now.backlog_wait_time
        ),
        (
            was.enabled,
            0,
            was.rate_limit,
            was.backlog_limit,
            was.backlog_wait_time
        )
    );
    assert!(!control.rules().unwrap().iter().any(Rule::is_ours));
}
