//! What the daemon may do, and what it never does.

use std::process::{Command, Stdio};

use test_support::{Signal, eventually, kernel};

use crate::{PATIENCE, world};

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;
const CAP_AUDIT_CONTROL: u64 = 1 << 30;

/// A `Cap…` line of /proc/PID/status.
fn capabilities(pid: u32, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(which)).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

#[test]
fn no_process_of_the_daemon_has_more_than_it_needs() {
    if !kernel::wanted("no_process_of_the_daemon_has_more_than_it_needs") {
        return;
    }
    let world = world().start();
    for role in ["run", "sensor", "courier"] {
        let pid = world.pid_of(role);
        for which in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
            let caps = capabilities(pid, which);
            assert_eq!(
                caps & (CAP_SYS_ADMIN | CAP_BPF | CAP_PERFMON),
                0,
                "{role} {which} {caps:x}"
            );
        }
    }
    let courier = world.pid_of("courier");
    assert_eq!(
        capabilities(courier, "CapEff") | capabilities(courier, "CapPrm"),
        0,
        "the courier has capabilities"
    );
    assert_ne!(
        capabilities(world.pid_of("sensor"), "CapEff") & CAP_AUDIT_CONTROL,
        0
    );
    // It ends in no core file either.
    for role in ["run", "sensor", "courier"] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.pid_of(role)));
        let limits = limits.unwrap();
        let core = limits.lines().find(|l| l.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{role}: {limits}");
    }
    // Nobody reads the memory of a process that may hold a channel's secret.
    for role in ["run", "sensor", "courier"] {
        let limits = std::fs::metadata(format!("/proc/{}/environ", world.pid_of(role))).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&limits), 0);
    }
}

/// As a unit with NoNewPrivileges would start it: an exec gives nothing back, so everything must have been kept on the way.
#[test]
fn it_works_where_no_new_privileges_are_given() {
    if !kernel::wanted("it_works_where_no_new_privileges_are_given") {
        return;
    }
    let world = world().build();
    let mut daemon = Command::new("setpriv")
        .args(["--no-new-privs", "--"])
        .arg(env!("CARGO_BIN_EXE_syscall-monitor"))
        .args(["run", "--profile", "full", "--config"])
        .arg(world.config_file())
        .env("HOME", world.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the daemon watches", PATIENCE * 2, || {
        (world.cli(&["status"]).code() == Some(0)).then_some(())
    });
    let container = crate::gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    crate::paused(&container);
    assert_eq!(world.status()["mode"], "exclusive");
    world.signal_pid(daemon.id(), Signal::TERM);
    daemon.wait().unwrap();
}

/// strace on all three processes from their first instruction on, through an attack and a stop: not one bpf(2).
#[test]
fn the_daemon_never_calls_bpf() {
    if !kernel::wanted("the_daemon_never_calls_bpf") {
        return;
    }
    let world = world().build();
    let trace = world.dir().join("trace");
    let mut strace = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=bpf,perf_event_open,execve",
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_syscall-monitor"))
        .args(["run", "--profile", "full", "--config"])
        .arg(world.config_file())
        .env("HOME", world.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the traced daemon watches", PATIENCE * 3, || {
        (world.cli(&["status"]).code() == Some(0)).then_some(())
    });
    let container = crate::gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    crate::paused(&container);
    world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    world.signal_pid(world.pid_of("run"), Signal::TERM);
    strace.wait().unwrap();
    let text = std::fs::read_to_string(&trace).unwrap();
    // The trace is real: it saw the daemon start its own processes.
    assert!(text.matches("execve(").count() >= 3, "{text}");
    assert!(
        !text.contains("bpf(") && !text.contains("perf_event_open("),
        "{text}"
    );
}
