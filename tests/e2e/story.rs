//! The story's critical rows: mount and ptrace, immediate quarantine.

use test_support::{World, discord, eventually, image, kernel, telegram};

use crate::{PATIENCE, alert, gateway, paused, settled, world};

/// One attack, and all that must follow from it within a second.
fn attack_is_contained(attack: &[&str], syscall: &str) {
    let (discord, telegram) = (discord::Discord::start(), telegram::Telegram::start());
    let world = world()
        .discord(&discord.base_url())
        .telegram(&telegram.base_url())
        .start();
    let container = gateway(&world);
    let _attacker = container.spawn(attack);

    let alert = alert(&world, "openclaw-gateway", "critical");
    assert_eq!(alert["container"]["name"], "openclaw-gateway");
    assert_eq!(alert["container"]["image"], image::IMAGE);
    assert_eq!(alert["container"]["agent"], "openclaw-gateway");
    assert_eq!(alert["container"]["profile"], "openclaw");
    assert_eq!(alert["attribution"]["certain"], true);
    eventually("the container is frozen", PATIENCE, || {
        container.is_frozen().then_some(())
    });
    paused(&container);
    contained_within_a_second(&world, &alert);

    let message = eventually("a message at Discord", PATIENCE, || {
        discord.accepted().into_iter().next()
    });
    within_a_second("the message at Discord", message.at_ms, &alert);
    assert!(
        message
            .all()
            .contains("syscall-monitor quarantine release openclaw-gateway"),
        "{message:?}"
    );
    let message = eventually("a message at Telegram", PATIENCE, || {
        telegram.accepted().into_iter().next()
    });
    within_a_second("the message at Telegram", message.at_ms, &alert);
    assert!(
        message
            .all()
            .contains("syscall-monitor quarantine release openclaw-gateway"),
        "{message:?}"
    );
    let trust = eventually("the trust file", PATIENCE, || {
        world.trust("openclaw-gateway")
    });
    assert_eq!(trust["band"], "quarantine");
    assert_eq!(trust["schema"], "asf-trust/1");
    assert!(
        world.security_log().contains("openclaw-gateway"),
        "{}",
        world.security_log()
    );

    let events = world.history(&["--container", "openclaw-gateway", "--syscall", syscall]);
    let event = events
        .iter()
        .find(|e| e["phase"] != "setup")
        .unwrap_or_else(|| panic!("no {syscall} outside the setup in {events:?}"));
    let types: Vec<_> = event["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["type"].as_str().unwrap())
        .collect();
    assert!(
        types.contains(&"SYSCALL") && types.contains(&"PROCTITLE"),
        "{types:?}"
    );
    assert_eq!(event["complete"], true);

    world.barrier();
    assert_eq!(
        discord.accepted().len(),
        1,
        "one message: {:?}",
        discord.accepted()
    );
    assert_eq!(
        telegram.accepted().len(),
        1,
        "one message: {:?}",
        telegram.accepted()
    );
    let listed = world
        .cli(&["quarantine", "list", "--output", "json"])
        .json();
    assert_eq!(listed[0]["name"], "openclaw-gateway");
    assert_eq!(listed[0]["docker_state"]["state"], "paused");
    let steps = listed[0]["steps"].as_array().unwrap();
    let pause = steps.iter().find(|s| s["what"] == "docker pause").unwrap();
    within_a_second("Docker's pause", pause["at_ms"].as_u64().unwrap(), &alert);
}

fn within_a_second(what: &str, at_ms: u64, alert: &serde_json::Value) {
    let took = at_ms - alert["time_ms"].as_u64().unwrap();
    println!("{what} came {took} ms after the call");
    assert!(took < 1000, "{what} came {took} ms after the call");
}

/// From the system call to the freeze, by the clock of the decision's own step.
fn contained_within_a_second(world: &World, alert: &serde_json::Value) {
    let id = alert["id"].as_str().unwrap();
    let shown = eventually("the decision", PATIENCE, || {
        let shown = world
            .cli(&["alerts", "show", id, "--output", "json"])
            .json();
        shown["decisions"][0]["steps"][0]
            .is_object()
            .then_some(shown)
    });
    let step = &shown["decisions"][0]["steps"][0];
    assert_eq!(
        (step["what"].as_str(), step["ok"].as_bool()),
        (Some("freeze"), Some(true)),
        "{step}"
    );
    let took = step["at_ms"].as_u64().unwrap() - alert["time_ms"].as_u64().unwrap();
    assert!(took < 1000, "frozen {took} ms after the call");
}

#[test]
fn a_mount_in_an_agent_freezes_it() {
    if kernel::wanted("a_mount_in_an_agent_freezes_it") {
        attack_is_contained(&["/bin/attacker", "mount"], "mount");
    }
}

#[test]
fn a_ptrace_attach_in_an_agent_freezes_it() {
    if kernel::wanted("a_ptrace_attach_in_an_agent_freezes_it") {
        attack_is_contained(&["/bin/attacker", "ptrace-attach"], "ptrace");
    }
}

#[test]
fn the_new_mount_calls_in_an_agent_freeze_it() {
    if kernel::wanted("the_new_mount_calls_in_an_agent_freeze_it") {
        attack_is_contained(&["/bin/attacker", "fsopen-move-mount"], "fsopen");
    }
}

#[test]
fn the_same_calls_in_another_container_only_alert() {
    if !kernel::wanted("the_same_calls_in_another_container_only_alert") {
        return;
    }
    let world = world().start();
    let container = world
        .docker
        .container("shop-database", image::build())
        .dangerous()
        .start();
    settled(&world, &container);
    for attack in ["mount", "ptrace-attach", "fsopen-move-mount"] {
        container.exec(&["/bin/attacker", attack]).expect_ok();
    }
    alert(&world, "shop-database", "critical");
    world.barrier();
    let alerts = world.alerts(&["--container", "shop-database", "--severity", "critical"]);
    let calls: Vec<_> = alerts
        .iter()
        .map(|a| a["syscall"].as_str().unwrap_or_default())
        .collect();
    assert!(
        calls.contains(&"ptrace") && (calls.contains(&"mount") || calls.contains(&"fsopen")),
        "{calls:?}"
    );
    assert!(
        !container.is_frozen(),
        "a container that is no agent was frozen"
    );
    assert_eq!(container.status(), "running");
}

/// Every relative of mount and ptrace that the story's rows stand for, one after the other, in a container that is no agent (an
/// agent would be frozen by the first). Each must be seen as critical.
#[test]
fn every_relative_of_mount_and_ptrace_is_critical() {
    if !kernel::wanted("every_relative_of_mount_and_ptrace_is_critical") {
        return;
    }
    let world = world().start();
    let attacks = [
        ("mount", "mount"),
        ("umount /etc/hosts", "umount2"),
        ("fsopen-move-mount", "move_mount"),
        ("open-tree", "open_tree"),
        ("mount-setattr", "mount_setattr"),
        ("pivot-root", "pivot_root"),
        ("ptrace-attach", "ptrace"),
        ("ptrace-seize", "ptrace"),
        ("poke", "ptrace"),
        ("process-vm-writev", "process_vm_writev"),
        ("pidfd-getfd", "pidfd_getfd"),
    ];
    for (n, (attack, syscall)) in attacks.iter().enumerate() {
        let name = format!("relative-{n}");
        let words: Vec<&str> = attack.split(' ').collect();
        let container = world
            .docker
            .container(&name, image::build())
            .dangerous()
            .start();
        settled(&world, &container);
        container
            .exec(&[&["/bin/attacker"], &words[..]].concat())
            .expect_ok();
        eventually(&format!("a critical alert for {attack}"), PATIENCE, || {
            let alerts = world.alerts(&["--container", &name, "--severity", "critical"]);
            let events = world.history(&[
                "--container",
                &name,
                "--syscall",
                syscall,
                "--severity",
                "critical",
            ]);
            (!alerts.is_empty() && !events.is_empty()).then_some(())
        });
        container.remove();
    }
}

#[test]
fn a_write_to_the_memory_of_another_process_freezes_an_agent() {
    if !kernel::wanted("a_write_to_the_memory_of_another_process_freezes_an_agent") {
        return;
    }
    let world = world().start();
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "write-proc-mem", "1"]);
    alert(&world, "openclaw-gateway", "critical");
    paused(&container);
}

#[test]
fn refused_attempts_count_too_and_traceme_does_not() {
    if !kernel::wanted("refused_attempts_count_too_and_traceme_does_not") {
        return;
    }
    let world = world().start();
    // No capability, and no seccomp that would hide the refusal.
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .options(&["--security-opt=seccomp=unconfined"])
        .start();
    settled(&world, &container);
    container
        .exec(&["/bin/attacker", "ptrace-traceme"])
        .expect_ok();
    world.barrier();
    assert_eq!(
        world.alerts(&["--severity", "medium"]).len(),
        0,
        "{:?}",
        world.alerts(&[])
    );
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    let alert = alert(&world, "openclaw-gateway", "critical");
    assert_eq!(alert["errno"], "EPERM");
    paused(&container);
}
