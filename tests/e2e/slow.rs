//! Docker that is slow or hangs costs nothing but its own action.

use std::time::Duration;

use test_support::{Network, SlowDocker, World, eventually, image, kernel};

use crate::{PATIENCE, alert, gateway, paused, settled, world};

fn behind(docker: &SlowDocker) -> World {
    world()
        .config(&format!("[docker]\nsocket = {:?}\n", docker.socket()))
        .start()
}

/// A cut that hangs in Docker, and a release that is asked for meanwhile: the release comes after it, and the container has its
/// network.
#[test]
fn a_release_during_a_slow_cut_leaves_the_container_with_its_networks() {
    if !kernel::wanted("a_release_during_a_slow_cut_leaves_the_container_with_its_networks") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let network = Network::create("sm-e2e-slow", "10.199.11.0/24");
    let docker = SlowDocker::start(dir.path());
    docker.hold("/disconnect");
    let world = behind(&docker);
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .dangerous()
        .options(&["--network", &network.0, "--ip=10.199.11.7"])
        .start();
    settled(&world, &container);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    eventually("the cut waits in Docker", PATIENCE, || {
        docker
            .waiting()
            .iter()
            .any(|line| line.contains("/disconnect"))
            .then_some(())
    });
    std::thread::scope(|scope| {
        let release = scope.spawn(|| world.cli(&["quarantine", "release", "openclaw-gateway"]));
        // The release has been asked for, and waits for the cut; then Docker goes on.
        std::thread::sleep(Duration::from_millis(700));
        docker.let_go();
        release.join().unwrap().expect_ok();
    });
    assert_eq!(container.status(), "running");
    assert_eq!(container.networks().join(" "), network.0);
    // Two looks at Docker later nobody has cut it again.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(container.networks().join(" "), network.0);
    assert!(!container.is_frozen());
}

#[test]
fn a_hung_docker_holds_up_neither_freeze_nor_alerts_nor_the_history() {
    if !kernel::wanted("a_hung_docker_holds_up_neither_freeze_nor_alerts_nor_the_history") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let docker = SlowDocker::start(dir.path());
    let mut world = behind(&docker);
    let first = gateway(&world);
    let second = world
        .docker
        .container("openclaw-second", image::build())
        .dangerous()
        .options(&["--label=syscall-monitor.profile=openclaw"])
        .start();
    settled(&world, &second);
    // Every question and every order hangs from here on.
    docker.hold("");
    for container in [&first, &second] {
        let _attacker = container.spawn(&["/bin/attacker", "mount"]);
        let alert = alert(&world, &container.name, "critical");
        eventually("it is frozen", PATIENCE, || {
            container.is_frozen().then_some(())
        });
        let id = alert["id"].as_str().unwrap();
        let step = eventually("the step of the decision", PATIENCE, || {
            let shown = world.cli(&["alerts", "show", id, "-o", "json"]).json();
            let step = shown["decisions"][0]["steps"][0].clone();
            step.is_object().then_some(step)
        });
        let took = step["at_ms"].as_u64().unwrap() - alert["time_ms"].as_u64().unwrap();
        assert!(took < 1000, "frozen after {took} ms");
        assert_eq!(container.status(), "running", "Docker was not reached");
    }
    world.barrier();
    // What was decided was durable before Docker was called: killed here, the monitor goes on where it stopped.
    world.kill();
    docker.let_go();
    world.start();
    for container in [&first, &second] {
        eventually("Docker agrees", Duration::from_secs(40), || {
            (container.is_paused() && container.restart_policy() == "no").then_some(())
        });
    }
    eventually("the evidence is taken after all", PATIENCE, || {
        let list = world.cli(&["quarantine", "list", "-o", "json"]).json();
        let all = list.as_array()?;
        (all.len() == 2 && all.iter().all(|q| !q["evidence"]["dir"].is_null())).then_some(())
    });
}

/// Docker waits for the very container that is frozen (an exec in the middle of it): a release thaws it first, and asks again.
#[test]
fn a_release_thaws_first_when_docker_does_not_answer() {
    if !kernel::wanted("a_release_thaws_first_when_docker_does_not_answer") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let docker = SlowDocker::start(dir.path());
    let world = behind(&docker);
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    eventually("the quarantine is complete", PATIENCE, || {
        (container.restart_policy() == "no").then_some(())
    });
    docker.hold(&format!("/containers/{}/json", container.id));
    std::thread::scope(|scope| {
        let release = scope.spawn(|| world.cli(&["quarantine", "release", "openclaw-gateway"]));
        eventually("it is thawed while Docker hangs", PATIENCE, || {
            (!container.is_frozen()).then_some(())
        });
        docker.let_go();
        release.join().unwrap().expect_ok();
    });
    assert_eq!(container.status(), "running");
    assert!(!container.is_frozen());
    container.exec(&["true"]).expect_ok();
    let listed = world.cli(&["quarantine", "list", "-o", "json"]).json();
    assert_eq!(listed, serde_json::json!([]));
}
