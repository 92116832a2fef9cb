//! A person brings a container back; nobody inside can.

use serde_json::{Value, json};
use test_support::{eventually, image, kernel};

use crate::{PATIENCE, alert, gateway, paused, settled, world};

/// What `docker inspect` says of networks and restart policy, without what changes by itself.
fn shape(inspect: &Value) -> Value {
    let mut networks = inspect["NetworkSettings"]["Networks"].clone();
    for network in networks.as_object_mut().into_iter().flatten() {
        if let Some(network) = network.1.as_object_mut() {
            network.remove("EndpointID");
        }
    }
    json!({"restart": inspect["HostConfig"]["RestartPolicy"], "mode": inspect["HostConfig"]["NetworkMode"], "networks": networks, "id": inspect["Id"], "pid": inspect["State"]["Pid"]})
}

#[test]
fn release_brings_the_container_back_as_it_was() {
    if !kernel::wanted("release_brings_the_container_back_as_it_was") {
        return;
    }
    let world = world().start();
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .dangerous()
        .options(&["--restart=unless-stopped", "--network=host"])
        .start();
    settled(&world, &container);
    let before = shape(&container.inspect());
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    eventually("the restart policy is off", PATIENCE, || {
        (container.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "no").then_some(())
    });

    world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    assert_eq!(container.status(), "running");
    assert!(!container.is_frozen());
    assert_eq!(shape(&container.inspect()), before);
    container.exec(&["true"]).expect_ok();
    assert_eq!(
        world
            .cli(&["quarantine", "list", "--output", "json"])
            .json(),
        json!([])
    );
    // Twice is no error.
    world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    // And the next attack freezes it again.
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
}

#[test]
fn release_works_without_a_daemon() {
    if !kernel::wanted("release_works_without_a_daemon") {
        return;
    }
    let mut world = world().start();
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    eventually("the quarantine is complete", PATIENCE, || {
        (container.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "no").then_some(())
    });
    world.stop();
    assert!(container.is_frozen(), "a stop of the monitor must not thaw");
    let listed = world
        .cli(&["quarantine", "list", "--output", "json"])
        .json();
    assert_eq!(listed[0]["name"], "openclaw-gateway");
    assert!(
        !world
            .history(&["--container", "openclaw-gateway", "--syscall", "mount"])
            .is_empty()
    );
    assert!(!world.alerts(&[]).is_empty());
    world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    container.exec(&["true"]).expect_ok();
    world
        .cli(&["quarantine", "apply", "openclaw-gateway"])
        .expect_ok();
    assert!(container.is_paused());
    world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    assert_eq!(container.status(), "running");
}

#[test]
fn quarantine_by_hand_and_back() {
    if !kernel::wanted("quarantine_by_hand_and_back") {
        return;
    }
    let world = world().start();
    let container = world
        .docker
        .container("any-container", image::build())
        .start();
    settled(&world, &container);
    world
        .cli(&["quarantine", "apply", "any-container"])
        .expect_ok();
    paused(&container);
    world
        .cli(&["quarantine", "release", "any-container"])
        .expect_ok();
    assert_eq!(container.status(), "running");
}

/// Labels that ask for mercy, and Docker's own socket in the container: neither takes it out.
#[test]
fn a_container_cannot_exempt_itself() {
    if !kernel::wanted("a_container_cannot_exempt_itself") {
        return;
    }
    let world = world().start();
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .dangerous()
        .options(&[
            "--label=syscall-monitor.exempt=true",
            "--label=syscall-monitor.profile=none",
            "--label=syscall-monitor.protect=true",
            "--volume=/var/run/docker.sock:/var/run/docker.sock",
        ])
        .start();
    settled(&world, &container);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    let alert = alert(&world, "openclaw-gateway", "critical");
    assert_eq!(alert["container"]["profile"], "openclaw");
    paused(&container);
}

/// Talking to Docker's socket is itself critical: whoever can, can thaw and rename himself.
#[test]
fn using_dockers_socket_freezes_an_agent() {
    if !kernel::wanted("using_dockers_socket_freezes_an_agent") {
        return;
    }
    let world = world().start();
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .options(&["--volume=/var/run/docker.sock:/var/run/docker.sock"])
        .start();
    settled(&world, &container);
    let _attacker = container.spawn(&["/bin/attacker", "connect-unix", "/var/run/docker.sock"]);
    alert(&world, "openclaw-gateway", "critical");
    paused(&container);
}
