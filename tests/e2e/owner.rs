//! The owner of the audit stream, and whoever changes what it set: told, and where it is ours, put right.

use std::process::Command;

use test_support::{eventually, kernel};

use crate::modes::auditd;
use crate::{PATIENCE, world};

fn auditctl(args: &[&str]) {
    let done = Command::new("auditctl").args(args).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn when_auditd_goes_the_monitor_takes_the_stream_without_starting_anew() {
    if !kernel::wanted("when_auditd_goes_the_monitor_takes_the_stream_without_starting_anew") {
        return;
    }
    let mut world = world().build();
    let owner = auditd(world.dir());
    eventually("auditd owns the stream", PATIENCE, || {
        (kernel::AuditState::read().pid == owner.pid()).then_some(())
    });
    let status = world.start();
    assert_eq!(status["mode"], "shared", "{status}");
    let sensor = world.pid_of("sensor");

    // What belongs to auditd is only told.
    auditctl(&["-r", "5000"]);
    eventually("the limit of the owner is told", PATIENCE, || {
        let reasons = world.status()["reasons"].to_string();
        reasons.contains("5000 records").then_some(())
    });
    assert_eq!(
        kernel::AuditState::read().rate_limit,
        5000,
        "and left alone"
    );
    auditctl(&["-r", "0"]);

    drop(owner);
    let status = eventually("the monitor owns the stream", PATIENCE, || {
        let status = world.status();
        (status["mode"] == "exclusive").then_some(status)
    });
    assert_eq!(kernel::AuditState::read().pid, sensor);
    assert_eq!(world.pid_of("sensor"), sensor, "the same process");
    assert_eq!(status["losses"]["missing_serials"], 0, "{status}");
    eventually("every rule is loaded", PATIENCE, || {
        world.cli(&["rules", "diff"]).ok().then_some(())
    });
    let rules = world.cli(&["rules", "list", "-o", "jsonl"]).jsonl();
    assert!(
        rules
            .iter()
            .any(|r| r["keys"][0] == "sm-trusted" && r["state"] == "loaded"),
        "{rules:?}"
    );

    // What is ours is put right.
    let before = kernel::AuditState::read().rules.len();
    auditctl(&["-r", "5000"]);
    auditctl(&[
        "-d",
        "always,exit",
        "-F",
        "arch=b64",
        "-S",
        "execve,execveat",
        "-F",
        "key=sm-exec",
    ]);
    eventually("limit and rule are as they were", PATIENCE, || {
        let now = kernel::AuditState::read();
        (now.rate_limit == 0 && now.rules.len() == before).then_some(())
    });
    let log = world.log();
    assert!(log.contains("rate_limit to 5000 (put back to 0)"), "{log}");
    assert!(
        log.contains("removed 1 of the monitor's kernel rules"),
        "{log}"
    );
    assert!(!log.contains("starting it again"), "{log}");
    world.stop();
    assert_eq!(kernel::AuditState::read().pid, 0);
}

#[test]
fn a_rule_of_somebody_else_is_listed_and_left_alone() {
    if !kernel::wanted("a_rule_of_somebody_else_is_listed_and_left_alone") {
        return;
    }
    // The world takes the lock and remembers the kernel's state as it found it, so it comes first.
    let mut world = world().build();
    auditctl(&[
        "-a",
        "never,exit",
        "-F",
        "arch=b64",
        "-S",
        "umask",
        "-F",
        "key=theirs",
    ]);
    world.start();
    let rules = world.cli(&["rules", "list", "-o", "jsonl"]).jsonl();
    let theirs: Vec<_> = rules.iter().filter(|r| r["ours"] == false).collect();
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    assert_eq!(
        (&theirs[0]["state"], &theirs[0]["keys"][0]),
        (&"other".into(), &"theirs".into())
    );
    assert!(world.cli(&["rules", "diff"]).ok());
    world.stop();
    let left = kernel::AuditState::read().rules;
    assert_eq!(left.len(), 1, "{left:?}");
    auditctl(&[
        "-d",
        "never,exit",
        "-F",
        "arch=b64",
        "-S",
        "umask",
        "-F",
        "key=theirs",
    ]);
}
