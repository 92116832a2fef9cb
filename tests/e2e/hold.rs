//! A quarantine belongs to the agent: nobody gets it to run again but by a release.

use std::path::Path;
use std::time::Duration;

use test_support::{Container, World, eventually, image};

use crate::{PATIENCE, gateway, paused, settled, world};

/// An agent that counts in a file as long as it runs, attacked and frozen.
fn frozen(world: &World) -> Container {
    let container = gateway(world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    eventually("the restart policy is off", PATIENCE, || {
        (container.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "no").then_some(())
    });
    container
}

/// What the history has of disturbances.
fn disturbances(world: &World) -> Vec<String> {
    world
        .cli(&["history", "notices", "--since", "1h", "-o", "jsonl"])
        .jsonl()
        .into_iter()
        .filter(|n| n["what"] == "disturbed")
        .map(|n| n["details"]["how"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn again(world: &World, how: &str) {
    eventually(&format!("a notice that it was {how}"), PATIENCE, || {
        disturbances(world).iter().any(|d| d == how).then_some(())
    });
}

#[test]
fn an_unpause_from_outside_is_undone() {
    if !test_support::kernel::wanted("an_unpause_from_outside_is_undone") {
        return;
    }
    let world = world().start();
    let container = frozen(&world);
    world
        .docker
        .command(&["unpause", &container.name])
        .expect_ok();
    again(&world, "unpaused");
    paused(&container);
    assert!(container.is_frozen());
    // A release ends it, and it stays ended.
    world
        .cli(&["quarantine", "release", &container.name])
        .expect_ok();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(container.status(), "running");
    assert!(!container.is_frozen());
    assert_eq!(disturbances(&world), ["unpaused"]);
}

#[test]
fn a_thaw_by_the_cgroups_own_file_is_undone() {
    if !test_support::kernel::wanted("a_thaw_by_the_cgroups_own_file_is_undone") {
        return;
    }
    let world = world().start();
    let container = frozen(&world);
    world
        .docker
        .command(&["unpause", &container.name])
        .expect_ok();
    again(&world, "unpaused");
    paused(&container);
    container.thaw();
    again(&world, "thawed");
    eventually("it is frozen again", PATIENCE, || {
        container.is_frozen().then_some(())
    });
}

#[test]
fn a_start_from_outside_is_undone() {
    if !test_support::kernel::wanted("a_start_from_outside_is_undone") {
        return;
    }
    let world = world().start();
    let container = frozen(&world);
    let first = container.pid();
    // Docker kills nothing that is paused, and the monitor is quick to have it paused again: whoever insists gets through.
    eventually("Docker killed it", PATIENCE, || {
        world.docker.command(&["unpause", &container.name]);
        world
            .docker
            .command(&["kill", &container.name])
            .ok()
            .then_some(())
    });
    world
        .docker
        .command(&["start", &container.name])
        .expect_ok();
    assert_ne!(container.pid(), first);
    paused(&container);
    assert!(container.is_frozen());
    again(&world, "started again");
}

#[test]
fn a_container_created_anew_is_frozen_by_name_and_by_volume() {
    if !test_support::kernel::wanted("a_container_created_anew_is_frozen_by_name_and_by_volume") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let volume = format!("{}:/home/node/.openclaw", state.path().display());
    let world = world().start();
    let make = |name: &str| {
        world
            .docker
            .container(name, image::build())
            .dangerous()
            .options(&["-v", &volume])
            .start()
    };
    let first = make("openclaw-gateway");
    settled(&world, &first);
    let _attacker = first.spawn(&["/bin/attacker", "mount"]);
    paused(&first);
    first.remove();

    // A container of somebody else with the same folder is let alone.
    let backup = world
        .docker
        .container("backup", image::build())
        .options(&["-v", &format!("{}:/backup", state.path().display())])
        .start();
    let second = make("openclaw-gateway");
    paused(&second);
    assert!(second.is_frozen());
    again(&world, "created anew");

    second.remove();
    let third = make("openclaw-other");
    paused(&third);
    assert_eq!(backup.status(), "running");
    backup.exec(&["true"]).expect_ok();
    let standing = world
        .cli(&["quarantine", "list", "--output", "json"])
        .json();
    let ids: Vec<_> = standing
        .as_array()
        .unwrap()
        .iter()
        .map(|q| q["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        ids,
        ["openclaw-other"],
        "each takes the place of the one before: {standing:#}"
    );
    world
        .cli(&["quarantine", "release", "openclaw-other"])
        .expect_ok();
    assert_eq!(third.status(), "running");
    assert!(Path::new(state.path()).exists());
}

#[test]
fn with_hold_off_it_is_only_told() {
    if !test_support::kernel::wanted("with_hold_off_it_is_only_told") {
        return;
    }
    let world = world().config("[quarantine]\nhold = false\n").start();
    let container = frozen(&world);
    world
        .docker
        .command(&["unpause", &container.name])
        .expect_ok();
    container.thaw();
    again(&world, "unpaused");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(container.status(), "running");
    assert!(!container.is_frozen());
}

#[test]
fn what_is_frozen_without_a_record_is_released_by_the_same_command() {
    if !test_support::kernel::wanted(
        "what_is_frozen_without_a_record_is_released_by_the_same_command",
    ) {
        return;
    }
    let mut world = world().start();
    let container = frozen(&world);
    world.stop();
    // The history is lost, and with it the record of the quarantine.
    std::fs::remove_dir_all(world.state_dir().join("history")).unwrap();
    world.start();
    settled(&world, &container);
    assert!(container.is_frozen());
    let said = world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    assert_eq!(container.status(), "running", "{said}");
    assert!(!container.is_frozen());
    container.exec(&["true"]).expect_ok();
    // A container that runs is none to release.
    assert!(
        !world
            .cli(&["quarantine", "release", "openclaw-gateway-2"])
            .ok()
    );
}
