//! Each level goes exactly as far as it says, and a release takes all of it back.

use serde_json::{Value, json};
use test_support::{Container, Network, World, eventually, image, kernel};

use crate::{PATIENCE, alert, gateway, paused, settled, world};

/// The quarantine of that name, released ones too.
fn quarantine(world: &World, name: &str) -> Value {
    let all = world
        .cli(&["quarantine", "list", "--all", "--output", "json"])
        .json();
    all.as_array()
        .and_then(|list| list.iter().find(|q| q["name"] == name))
        .cloned()
        .unwrap_or_default()
}

/// Waits for a step of the quarantine in force, and gives it.
fn step(world: &World, name: &str, what: &str) -> Value {
    eventually(&format!("{what} of {name}"), PATIENCE, || {
        let q = quarantine(world, name);
        if !q["released_at"].is_null() {
            return None;
        }
        let steps = q["steps"].as_array()?;
        steps.iter().find(|s| s["what"] == what).cloned()
    })
}

/// An agent in a network, attacked.
fn attacked(world: &World, name: &str, network: &Network) -> Container {
    let container = world
        .docker
        .container(name, image::build())
        .dangerous()
        .options(&["--network", &network.0, "--restart=on-failure:3"])
        .start();
    settled(world, &container);
    // Nobody waits for it: it may be frozen in the middle.
    std::mem::forget(container.spawn(&["/bin/attacker", "mount"]));
    container
}

/// What happened to a container: does Docker say paused, does the kernel freeze it, its networks, its restart policy, does it run.
fn state(c: &Container) -> (String, bool, Vec<String>, String) {
    (c.status(), c.is_frozen(), c.networks(), c.restart_policy())
}

#[test]
fn each_level_goes_exactly_as_far_as_it_says() {
    if !kernel::wanted("each_level_goes_exactly_as_far_as_it_says") {
        return;
    }
    let network = Network::create("sm-e2e-ladder", "10.199.7.0/24");
    let world = world()
        .config(
            "[quarantine]\nscope = \"all\"\n[quarantine.levels]\ncritical = \"freeze\"\n[quarantine.profiles.openclaw]\ncritical = \"freeze-cut\"\n[quarantine.profiles.clawbot]\ncritical = \"stop\"\n[quarantine.profiles.moltbot]\ncritical = \"cut\"\n",
        )
        .start();
    let in_network = vec![network.0.clone()];
    let expected = |status: &str, frozen, networks: &[String], policy: &str| {
        (
            status.to_owned(),
            frozen,
            networks.to_vec(),
            policy.to_owned(),
        )
    };

    let freeze = attacked(&world, "shop", &network);
    step(&world, "shop", "evidence");
    // The steps after it would have been asked for with the evidence.
    world.barrier();
    assert_eq!(
        state(&freeze),
        expected("paused", true, &in_network, "no"),
        "freeze"
    );

    let freeze_cut = attacked(&world, "openclaw-gateway", &network);
    step(&world, "openclaw-gateway", "network cut");
    assert_eq!(
        state(&freeze_cut),
        expected("paused", true, &[], "no"),
        "freeze and cut"
    );

    let cut = attacked(&world, "moltbot-gateway", &network);
    step(&world, "moltbot-gateway", "network cut");
    assert_eq!(
        state(&cut),
        expected("running", false, &[], "on-failure"),
        "cut"
    );
    cut.exec(&["true"]).expect_ok();

    let stop = attacked(&world, "clawdbot-gateway", &network);
    step(&world, "clawdbot-gateway", "stop");
    assert_eq!(stop.status(), "exited");
    assert_eq!(stop.restart_policy(), "no");
    let steps = quarantine(&world, "clawdbot-gateway")["steps"].clone();
    let order: Vec<_> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["what"].as_str().unwrap())
        .collect();
    assert_eq!(
        order,
        [
            "freeze",
            "docker pause",
            "restart policy",
            "evidence",
            "stop"
        ]
    );

    // And all the way back.
    for container in [&freeze, &freeze_cut, &cut, &stop] {
        let said = world
            .cli(&["quarantine", "release", &container.name])
            .expect_ok();
        assert_eq!(
            state(container),
            expected("running", false, &in_network, "on-failure"),
            "{}: {said}",
            container.name
        );
        container.exec(&["true"]).expect_ok();
    }
}

/// `docker inspect` but for times and endpoint ids.
fn comparable(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| {
                    !matches!(key.as_str(), "EndpointID" | "StartedAt" | "FinishedAt")
                });
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => {
                list.iter_mut().for_each(strip);
                // Aliases have no order.
                list.sort_by_key(ToString::to_string);
            }
            _ => {}
        }
    }
    strip(&mut value);
    value
}

#[test]
fn the_default_cuts_what_comes_back_exactly_and_a_release_brings_all_of_it_back() {
    if !kernel::wanted(
        "the_default_cuts_what_comes_back_exactly_and_a_release_brings_all_of_it_back",
    ) {
        return;
    }
    let one = Network::create("sm-e2e-one", "10.199.8.0/24");
    let two = Network::create("sm-e2e-two", "10.199.9.0/24");
    let loose = Network::create("sm-e2e-loose", "10.199.10.0/24");
    let world = world().start();
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .dangerous()
        .options(&[
            "--network",
            &one.0,
            "--ip=10.199.8.7",
            "--network-alias=gateway",
            "--restart=on-failure:3",
        ])
        .start();
    let connect = |more: &[&str], network: &Network| {
        let words = [
            &["network", "connect"],
            more,
            &[&network.0, &container.name],
        ]
        .concat();
        world.docker.command(&words).expect_ok();
    };
    connect(
        &["--ip=10.199.9.9", "--alias=bridge", "--alias=whatsapp"],
        &two,
    );
    settled(&world, &container);
    let before = container.inspect();
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    alert(&world, "openclaw-gateway", "critical");
    step(&world, "openclaw-gateway", "network cut");
    paused(&container);
    assert_eq!(container.networks(), Vec::<String>::new());

    // Somebody with Docker's socket puts the restart policy back and gives it a network: both are seen and undone.
    world
        .docker
        .command(&["update", "--restart=always", &container.name])
        .expect_ok();
    connect(&[], &loose);
    eventually("both are undone", PATIENCE, || {
        (container.networks().is_empty() && container.restart_policy() == "no").then_some(())
    });
    let told = world
        .cli(&["history", "notices", "--since", "1h", "-o", "jsonl"])
        .jsonl()
        .into_iter()
        .filter(|n| n["what"] == "disturbed")
        .map(|n| n["details"]["how"].as_str().unwrap_or_default().to_owned())
        .collect::<Vec<_>>()
        .join("; ");
    assert!(
        told.contains("restart policy to \"always\"") && told.contains("sm-e2e-loose"),
        "{told}"
    );

    for round in ["first", "second"] {
        world
            .cli(&["quarantine", "release", "openclaw-gateway"])
            .expect_ok();
        assert_eq!(
            comparable(container.inspect()),
            comparable(before.clone()),
            "{round}"
        );
    }
    container.exec(&["true"]).expect_ok();

    // In a network where its address was given and not asked for it is left.
    world
        .docker
        .command(&["network", "disconnect", &two.0, &container.name])
        .expect_ok();
    connect(&[], &loose);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    step(&world, "openclaw-gateway", "network cut");
    assert_eq!(container.networks().join(" "), loose.0);
}

#[test]
fn who_has_no_network_of_its_own_is_said_and_may_be_stopped() {
    if !kernel::wanted("who_has_no_network_of_its_own_is_said_and_may_be_stopped") {
        return;
    }
    let world = world().start();
    let host = world
        .docker
        .container("on-the-host", image::build())
        .options(&["--network=host"])
        .start();
    let guest = world
        .docker
        .container("guest", image::build())
        .options(&["--network=container:on-the-host"])
        .start();
    for (container, words) in [
        (&host, "host's own network"),
        (&guest, "network of container"),
    ] {
        settled(&world, container);
        world
            .cli(&["quarantine", "apply", &container.name, "--level", "cut"])
            .expect_ok();
        let step = step(&world, &container.name, "network cut");
        let said = step["detail"].as_str().unwrap();
        assert!(
            said.contains(words)
                && said.contains(&format!("quarantine apply {} --level stop", container.name)),
            "{said}"
        );
        assert_eq!(container.status(), "running");
    }
    // What was offered works, and is taken back by the same command.
    world
        .cli(&["quarantine", "apply", "guest", "--level", "stop"])
        .expect_ok();
    eventually("it is stopped", PATIENCE, || {
        (guest.status() == "exited").then_some(())
    });
    step(&world, "guest", "stop");
    world.cli(&["quarantine", "release", "guest"]).expect_ok();
    assert_eq!(guest.status(), "running");
    assert_eq!(host.status(), "running");
}

#[test]
fn the_budget_holds_up_a_stop_and_never_the_freeze() {
    if !kernel::wanted("the_budget_holds_up_a_stop_and_never_the_freeze") {
        return;
    }
    let world = world()
        .config("[quarantine]\nlevel = \"stop\"\nbudget = 1\n")
        .start();
    let first = gateway(&world);
    let _attacker = first.spawn(&["/bin/attacker", "mount"]);
    step(&world, "openclaw-gateway", "stop");
    assert_eq!(first.status(), "exited");

    let second = world
        .docker
        .container("openclaw-second", image::build())
        .dangerous()
        .options(&["--label=syscall-monitor.profile=openclaw"])
        .start();
    settled(&world, &second);
    let _attacker = second.spawn(&["/bin/attacker", "mount"]);
    let said = step(&world, "openclaw-second", "budget");
    let why = said["detail"].as_str().unwrap();
    assert!(why.contains("budget of 1 cuts and stops an hour"), "{why}");
    paused(&second);
    assert!(second.is_frozen());
    let noticed = world
        .cli(&["history", "notices", "--since", "1h", "-o", "jsonl"])
        .jsonl()
        .into_iter()
        .any(|n| n["what"] == "budget" && n["details"]["why"] == why);
    assert!(
        noticed,
        "what was not done is in the history with its reason"
    );
}

#[test]
fn a_quarantine_ends_by_itself_when_root_wants_that() {
    if !kernel::wanted("a_quarantine_ends_by_itself_when_root_wants_that") {
        return;
    }
    let world = world().config("[quarantine]\nrelease_after = 2\n").start();
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    eventually("it is released by itself", PATIENCE, || {
        (!quarantine(&world, "openclaw-gateway")["released_at"].is_null()).then_some(())
    });
    assert_eq!(container.status(), "running");
    assert!(!container.is_frozen());
    let q = quarantine(&world, "openclaw-gateway");
    let held = q["released_at"].as_u64().unwrap() - q["at_ms"].as_u64().unwrap();
    assert!(held >= 2000, "held for {held} ms");
    assert_eq!(
        world
            .cli(&["quarantine", "list", "--output", "json"])
            .json(),
        json!([])
    );
}
