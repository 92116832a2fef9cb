//! Beside another owner of the audit stream, without Docker, and as a dry run.

use std::process::Command;

use test_support::process::Running;
use test_support::{discord, eventually, image, kernel};

use crate::{PATIENCE, alert, gateway, paused, world};

/// Debian's auditd as the owner, with its log in a folder of the test.
pub fn auditd(dir: &std::path::Path) -> Running {
    let config = dir.join("auditd");
    std::fs::create_dir(&config).unwrap();
    let log = dir.join("audit.log");
    let text = format!(
        "log_file = {}\nlog_format = RAW\nflush = NONE\nspace_left = 75\nadmin_space_left = 50\nmax_log_file = 50\nmax_log_file_action = IGNORE\nspace_left_action = IGNORE\nadmin_space_left_action = IGNORE\ndisk_full_action = IGNORE\ndisk_error_action = IGNORE\n",
        log.display()
    );
    std::fs::write(config.join("auditd.conf"), text).unwrap();
    std::os::unix::fs::chown(config.join("auditd.conf"), Some(0), Some(0)).unwrap();
    Running::start(
        Command::new("auditd")
            .args(["-n", "-s", "enable", "-c"])
            .arg(&config),
    )
}

#[test]
fn beside_auditd_it_reads_along_with_the_narrow_rules() {
    if !kernel::wanted("beside_auditd_it_reads_along_with_the_narrow_rules") {
        return;
    }
    let mut world = world().build();
    let owner = auditd(world.dir());
    eventually("auditd owns the stream", PATIENCE, || {
        (kernel::AuditState::read().pid == owner.pid()).then_some(())
    });
    let before = kernel::AuditState::read();
    let status = world.start();
    assert_eq!(status["mode"], "shared", "{status}");
    assert_eq!(status["state"], "partial", "{status}");
    eventually("auditd is named", PATIENCE, || {
        let others = world.status()["others"].clone();
        others
            .as_array()?
            .iter()
            .any(|o| o["name"] == "auditd")
            .then_some(())
    });
    let now = kernel::AuditState::read();
    assert_eq!(
        (now.pid, now.backlog_limit, now.backlog_wait_time),
        (before.pid, before.backlog_limit, before.backlog_wait_time),
        "the owner's settings are not ours to change"
    );
    assert!(
        now.rules.iter().all(|r| !r.contains("sm-trusted")),
        "{:?}",
        now.rules
    );

    world.barrier();
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    alert(&world, "openclaw-gateway", "critical");
    paused(&container);
    let rules = kernel::AuditState::read().rules;
    assert!(
        rules
            .iter()
            .all(|r| !r.contains("sm-proc") && !r.contains("sm-hostfs")),
        "{rules:?}"
    );
    world.stop();
    let after = kernel::AuditState::read();
    assert_eq!(after.rules, before.rules);
    assert_eq!(after.pid, owner.pid());
}

#[test]
fn without_docker_it_watches_and_waits_for_it() {
    if !kernel::wanted("without_docker_it_watches_and_waits_for_it") {
        return;
    }
    let world = world()
        .config("[docker]\nsocket = \"/nonexistent/docker.sock\"\n")
        .start();
    eventually("the reason is said", PATIENCE, || {
        let status = world.status();
        (status["docker"]["connected"] == false && status["reasons"].to_string().contains("Docker"))
            .then_some(())
    });
    let container = world.docker.container("nameless", image::build()).start();
    container.exec(&["env", "token-without-docker"]);
    let event = eventually("the event with its container's id", PATIENCE, || {
        world
            .history(&["--syscall", "execve", "--text", "token-without-docker"])
            .into_iter()
            .find(|e| e["phase"] != "host")
    });
    assert_eq!(event["container"]["id"], container.id.as_str());
    assert_eq!(event["container"]["certain"], true);
    assert!(event["container"]["name"].is_null());
}

/// Docker answers only after the attack: until then nobody knows that the container is an agent.
#[test]
fn an_agent_whose_name_comes_late_is_frozen_when_it_comes() {
    if !kernel::wanted("an_agent_whose_name_comes_late_is_frozen_when_it_comes") {
        return;
    }
    for profile in ["full", "openclaw"] {
        let mut builder = world().profile(profile);
        let late = tempfile::tempdir().unwrap();
        let socket = late.path().join("docker.sock");
        builder = builder.config(&format!("[docker]\nsocket = \"{}\"\n", socket.display()));
        let world = builder.start();
        let container = world
            .docker
            .container("openclaw-gateway", image::build())
            .dangerous()
            .start();
        container.exec(&["/bin/attacker", "mount"]).expect_ok();
        world.barrier();
        assert!(
            !container.is_frozen(),
            "nobody is frozen without being known for an agent"
        );
        std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
        paused(&container);
        eventually("an alert that knows the agent", PATIENCE, || {
            world
                .alerts(&["--container", "openclaw-gateway", "--severity", "critical"])
                .into_iter()
                .find(|a| a["container"]["profile"] == "openclaw")
        });
    }
}

#[test]
fn a_dry_run_decides_everything_and_does_nothing() {
    if !kernel::wanted("a_dry_run_decides_everything_and_does_nothing") {
        return;
    }
    let discord = discord::Discord::start();
    let world = world()
        .discord(&discord.base_url())
        .arguments(&["--dry-run"])
        .start();
    let container = gateway(&world);
    container.exec(&["/bin/attacker", "mount"]).expect_ok();
    let alert = alert(&world, "openclaw-gateway", "critical");
    let shown = eventually("the decision", PATIENCE, || {
        let shown = world
            .cli(&["alerts", "show", alert["id"].as_str()?, "--output", "json"])
            .json();
        shown["decisions"][0].is_object().then_some(shown)
    });
    assert_eq!(shown["decisions"][0]["verdict"], "freeze");
    assert_eq!(shown["decisions"][0]["dry_run"], true);
    world.barrier();
    assert!(!container.is_frozen());
    assert!(discord.received().is_empty());
    assert!(world.trust("openclaw-gateway").is_none());
    assert_eq!(
        world
            .cli(&["quarantine", "list", "--output", "json"])
            .json(),
        serde_json::json!([])
    );
}

#[test]
fn a_second_daemon_is_refused_and_bad_usage_is_status_2() {
    if !kernel::wanted("a_second_daemon_is_refused_and_bad_usage_is_status_2") {
        return;
    }
    let world = world().start();
    let second = world.cli(&["run", "--profile", "full"]);
    assert_eq!(second.code(), Some(1));
    assert!(second.stderr.contains("runs already"), "{}", second.stderr);
    assert_eq!(
        world.cli(&["run", "--profile", "clawdbott"]).code(),
        Some(2)
    );
    assert_eq!(
        world.cli(&["history", "--severity", "loud"]).code(),
        Some(2)
    );
    world.barrier();
}
