//! `replay --follow` goes on across rotations, and `replay` writes late records.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

fn event(serial: u32) -> String {
    let head = |kind: &str| format!("type={kind} msg=audit(1795353018.414:{serial}): ");
    format!(
        "{}arch=c000003e syscall=95 success=yes exit=18 a0=0 a1=0 a2=0 a3=0 items=0 ppid=1 pid=2 uid=0 comm=\"x\" exe=\"/x\" key=(null)\n{}proctitle=\"x\"\n",
        head("SYSCALL"),
        head("PROCTITLE")
    )
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A running `replay --follow`; killed when dropped.
struct Follow {
    child: Child,
    lines: Receiver<String>,
}

impl Follow {
    fn start(log: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_syscall-monitor"))
            .args(["replay", "--follow", "--stats"])
            .arg(log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .all(|l| tx.send(l).is_ok())
        });
        Self { child, lines }
    }

    fn next(&self) -> Value {
        let line = self
            .lines
            .recv_timeout(Duration::from_secs(60))
            .expect("an event in a minute");
        serde_json::from_str(&line).unwrap()
    }

    fn expect(&self, serials: std::ops::RangeInclusive<u32>) {
        for serial in serials {
            assert_eq!(self.next()["serial"], serial);
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_is_followed_across_renames_and_cuts_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.log");
    append(&log, &event(1));
    let mut follow = Follow::start(&log);
    follow.expect(1..=1);
    // What is added, half a line first.
    let two = event(2);
    append(&log, &two[..40]);
    append(&log, &two[40..]);
    follow.expect(2..=2);
    // As auditd rotates; something is still written into the old file.
    append(&log, &event(3));
    fs::rename(&log, dir.path().join("audit.log.1")).unwrap();
    append(&dir.path().join("audit.log.1"), &event(4));
    append(&log, &event(5));
    follow.expect(3..=5);
    // Cut in place (logrotate's copytruncate).
    File::create(&log).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    append(&log, &event(6));
    follow.expect(6..=6);
    // An event whose end never comes is written all the same, though nothing follows it.
    append(
        &log,
        "type=SYSCALL msg=audit(1795353018.500:7): arch=c000003e syscall=95 success=yes exit=0 pid=2\n",
    );
    let last = follow.next();
    assert_eq!(
        (&last["serial"], &last["complete"]),
        (&7.into(), &false.into())
    );
    // Interrupted, it ends in order and tells what it did.
    let pid = follow.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(follow.child.wait().unwrap().success());
    let mut told = String::new();
    std::io::Read::read_to_string(&mut follow.child.stderr.take().unwrap(), &mut told).unwrap();
    assert!(told.contains("7 events"), "{told}");
}

#[test]
fn standard_input_cannot_be_followed() {
    let output = Command::new(env!("CARGO_BIN_EXE_syscall-monitor"))
        .args(["replay", "--follow", "-"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("leave --follow out"));
}

#[test]
fn a_record_behind_the_end_of_its_event_is_written_under_the_same_id() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.log");
    append(&log, &event(1));
    append(&log, "type=EOE msg=audit(1795353018.414:1): \n");
    append(
        &log,
        "type=PATH msg=audit(1795353018.414:1): item=0 name=\"/late\" nametype=NORMAL\n",
    );
    append(&log, &event(1)); // every record again: duplicates, counted
    let output = Command::new(env!("CARGO_BIN_EXE_syscall-monitor"))
        .args(["replay", "--stats"])
        .arg(&log)
        .output()
        .unwrap();
    let events: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["id"], events[1]["id"]);
    assert_eq!(
        (&events[0]["amends"], &events[1]["amends"]),
        (&Value::Null, &true.into())
    );
    assert_eq!(events[1]["records"][0]["fields"]["name"], "/late");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("2 duplicates, 1 late records"), "{told}");
}
