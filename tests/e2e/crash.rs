//! The monitor is killed, stopped, stuck: nothing acknowledged is lost, nobody waits, and the kernel is put back.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use test_support::{Signal, World, eventually, kernel, load};

use crate::{PATIENCE, gateway, paused, world};

/// Ids of all events so far.
fn ids(world: &World) -> Vec<String> {
    world
        .history(&["--since", "30m"])
        .iter()
        .map(|e| e["id"].as_str().unwrap().to_owned())
        .collect()
}

fn notices(world: &World, what: &str) -> Vec<Value> {
    world
        .cli(&["history", "notices", "--since", "30m", "--output", "jsonl"])
        .jsonl()
        .into_iter()
        .filter(|n| n["what"] == what)
        .collect()
}

#[test]
fn a_killed_monitor_loses_nothing_that_was_kept_and_says_since_when_nobody_watched() {
    if !kernel::wanted(
        "a_killed_monitor_loses_nothing_that_was_kept_and_says_since_when_nobody_watched",
    ) {
        return;
    }
    let mut world = world().start();
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    let load = load::Load::start(2);
    world.barrier();
    // Whatever a query shows is acknowledged or about to be within the flush interval; what it showed a second ago is.
    let before = ids(&world);
    std::thread::sleep(Duration::from_secs(1));
    world.kill();
    assert!(world.audit_before_exists());
    world.start();
    drop(load);
    world.barrier();

    let after = ids(&world);
    let unique: BTreeSet<&String> = after.iter().collect();
    assert_eq!(unique.len(), after.len(), "an event is there twice");
    let lost: Vec<_> = before.iter().filter(|id| !unique.contains(id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} events are gone: {lost:?}",
        lost.len(),
        before.len()
    );
    assert!(
        before.len() > 100,
        "the load made only {} events",
        before.len()
    );

    let gap = eventually("the gap is in the history", PATIENCE, || {
        notices(&world, "gap").into_iter().next()
    });
    let (start, end) = (
        gap["details"]["start_ms"].as_u64().unwrap(),
        gap["details"]["end_ms"].as_u64().unwrap(),
    );
    assert!(start < end && end - start < 60_000, "{gap}");
    assert_eq!(world.status()["losses"]["gaps"], 1);

    // Rules are in force, and the frozen container is still known.
    assert!(!kernel::AuditState::read().rules.is_empty());
    assert!(container.is_frozen());
    let listed = world
        .cli(&["quarantine", "list", "--output", "json"])
        .json();
    assert_eq!(listed[0]["name"], "openclaw-gateway");
    world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    container.exec(&["true"]).expect_ok();
}

/// The whole daemon is stopped with SIGSTOP but for its watchdog, while programs start all the time.
#[test]
fn a_stuck_monitor_holds_nobody_up() {
    if !kernel::wanted("a_stuck_monitor_holds_nobody_up") {
        return;
    }
    let world = world().start();
    let _load = load::Load::start(2);
    world.barrier();
    let sensor = world.pid_of("sensor");
    world.signal_pid(sensor, Signal::STOP);
    let (runs, slowest) = load::slowest_exec(Duration::from_secs(4));
    assert!(runs > 20, "only {runs} programs could be started");
    assert!(
        slowest < Duration::from_secs(1),
        "starting a program took {slowest:?}"
    );
    eventually("a new sensor", PATIENCE, || {
        world.try_pid_of("sensor").filter(|pid| *pid != sensor)
    });
    world.barrier();
    eventually("the loss is reported", PATIENCE, || {
        (world.status()["losses"]["gaps"] == 1).then_some(())
    });
    assert_eq!(notices(&world, "gap").len(), 1);
    assert_eq!(world.status()["state"], "partial");
}

/// Even with the watchdog stopped too the kernel's own limit holds; and what happened meanwhile is there afterwards, or its loss
/// is reported.
#[test]
fn everything_stopped_at_once_still_lets_programs_start() {
    if !kernel::wanted("everything_stopped_at_once_still_lets_programs_start") {
        return;
    }
    let world = world().start();
    let _load = load::Load::start(2);
    world.barrier();
    world.signal(Signal::STOP);
    let (runs, slowest) = load::slowest_exec(Duration::from_secs(4));
    world.signal(Signal::CONT);
    eprintln!("with all of the daemon stopped: {runs} programs, the slowest in {slowest:?}");
    assert!(
        slowest < Duration::from_secs(1),
        "starting a program took {slowest:?}"
    );
    world.barrier();
    eventually(
        "every program is in the history, or the loss is reported",
        PATIENCE,
        || {
            let seen = world
                .history(&[
                    "--since",
                    "5m",
                    "--syscall",
                    "execve",
                    "--text",
                    "slowest-exec",
                ])
                .iter()
                // The question itself is a program with that word among its arguments.
                .filter(|event| !event["process"]["argv"].to_string().contains("--text"))
                .count();
            let losses = &world.status()["losses"];
            // Whatever was thrown away was thrown away in one of these places, and counted there.
            let lost = ["kernel_lost", "queue_dropped_records", "gaps"]
                .iter()
                .any(|name| losses[name].as_u64() > Some(0));
            (seen == runs || lost).then_some(())
        },
    );
}

#[test]
fn a_stop_leaves_the_kernel_as_it_was_found() {
    if !kernel::wanted("a_stop_leaves_the_kernel_as_it_was_found") {
        return;
    }
    let mut world = world().start();
    assert_ne!(kernel::AuditState::read(), world.found);
    world.stop();
    assert_eq!(kernel::AuditState::read(), world.found);
    assert!(!world.audit_before_exists());
}

#[test]
fn a_stop_after_a_kill_leaves_the_kernel_as_it_was_found() {
    if !kernel::wanted("a_stop_after_a_kill_leaves_the_kernel_as_it_was_found") {
        return;
    }
    let mut world = world().start();
    world.kill();
    assert!(
        !kernel::AuditState::read().rules.is_empty(),
        "a kill cannot take rules away"
    );
    world.start();
    world.stop();
    assert_eq!(kernel::AuditState::read(), world.found);

    world.start();
    world.kill();
    let said = world.cli(&["restore"]).expect_ok();
    assert!(said.lines().count() > 1, "{said}");
    assert_eq!(kernel::AuditState::read(), world.found);
    assert!(
        world
            .cli(&["restore"])
            .expect_ok()
            .contains("nothing to restore")
    );
}

#[test]
fn a_dead_sensor_or_courier_is_started_again() {
    if !kernel::wanted("a_dead_sensor_or_courier_is_started_again") {
        return;
    }
    let world = world().start();
    for role in ["courier", "sensor"] {
        let old = world.pid_of(role);
        world.signal_pid(old, Signal::KILL);
        eventually(&format!("a new {role}"), PATIENCE, || {
            world.try_pid_of(role).filter(|pid| *pid != old)
        });
    }
    world.barrier();
    eventually("Docker is connected", PATIENCE, || {
        (world.status()["docker"]["connected"] == true).then_some(())
    });
}
