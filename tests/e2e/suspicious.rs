//! The story's other rows: suspicious execve (alert and log) and host-fs access (alert only).

use std::fs;

use test_support::{discord, eventually, image, kernel};

use crate::{PATIENCE, alert, gateway, settled, titles, world};

#[test]
fn a_decoded_script_is_high_and_not_frozen() {
    if !kernel::wanted("a_decoded_script_is_high_and_not_frozen") {
        return;
    }
    let discord = discord::Discord::start();
    let world = world().discord(&discord.base_url()).start();
    let container = gateway(&world);
    container
        .exec(&["sh", "-c", "echo aWQgPi9kZXYvbnVsbAo= | base64 -d | sh"])
        .expect_ok();
    let alert = alert(&world, "openclaw-gateway", "high");
    assert_eq!(alert["response"], "alertandlog");
    eventually("a line in the security log", PATIENCE, || {
        world
            .security_log()
            .contains("openclaw-gateway")
            .then_some(())
    });
    eventually("a message", PATIENCE, || {
        (!discord.accepted().is_empty()).then_some(())
    });
    world.barrier();
    assert!(!container.is_frozen());
    assert_eq!(container.status(), "running");
    let alerts = world.alerts(&["--severity", "medium"]);
    assert_eq!(
        alerts.len(),
        1,
        "one deed, one alert: {:?}",
        titles(&alerts)
    );
    let trust = world.trust("openclaw-gateway").expect("a trust file");
    assert_eq!(
        (trust["score"].as_u64(), trust["band"].as_str()),
        (Some(80), Some("human-approval"))
    );
}

#[test]
fn reading_an_undeclared_host_file_is_medium_and_only_that() {
    if !kernel::wanted("reading_an_undeclared_host_file_is_medium_and_only_that") {
        return;
    }
    let world = world().start();
    let host = world.dir().join("host-data");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("ledger.txt"), "numbers\n").unwrap();
    let volume = format!("--volume={}:/mnt/data", host.display());
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .options(&[&volume])
        .start();
    settled(&world, &container);
    container.exec(&["cat", "/mnt/data/ledger.txt"]).expect_ok();
    let alert = alert(&world, "openclaw-gateway", "medium");
    let path = &alert["paths"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["path"] == "/mnt/data/ledger.txt")
        .unwrap_or_else(|| panic!("{alert}"))["host_path"];
    assert_eq!(
        path.as_str(),
        Some(host.join("ledger.txt").to_str().unwrap())
    );
    world.barrier();
    assert!(!container.is_frozen());
    let worse = world.alerts(&["--severity", "high"]);
    assert!(worse.is_empty(), "{:?}", titles(&worse));
}

#[test]
fn the_mounts_of_the_usual_compose_file_are_no_finding() {
    if !kernel::wanted("the_mounts_of_the_usual_compose_file_are_no_finding") {
        return;
    }
    let world = world().start();
    let (state, workspace) = (world.dir().join("openclaw"), world.dir().join("workspace"));
    for dir in [&state, &workspace] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(state.join("openclaw.json"), "{}\n").unwrap();
    let volumes = [
        format!("--volume={}:/home/node/.openclaw", state.display()),
        format!(
            "--volume={}:/home/node/.openclaw/workspace",
            workspace.display()
        ),
    ];
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .options(&[&volumes[0], &volumes[1]])
        .start();
    settled(&world, &container);
    for script in [
        "cat /home/node/.openclaw/openclaw.json",
        "echo x > /home/node/.openclaw/state.json",
        "echo y > /home/node/.openclaw/workspace/notes.md && cat /home/node/.openclaw/workspace/notes.md && rm /home/node/.openclaw/workspace/notes.md",
        "cat /etc/resolv.conf /etc/hosts /etc/hostname",
    ] {
        container.exec(&["sh", "-c", script]).expect_ok();
    }
    world.barrier();
    let alerts = world.alerts(&["--severity", "medium"]);
    assert!(alerts.is_empty(), "{:?}", titles(&alerts));
}

/// A mount of a host folder that the host executes from: the write is critical, and the agent is frozen. The folder is one of the
/// host's own, so the container opens it for writing without changing it.
#[test]
fn writing_what_the_host_executes_freezes_an_agent() {
    if !kernel::wanted("writing_what_the_host_executes_freezes_an_agent") {
        return;
    }
    let cron = std::path::Path::new("/etc/cron.d");
    fs::create_dir_all(cron).unwrap();
    let world = world().start();
    let file = cron.join("syscall-monitor-test");
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .options(&["--volume=/etc/cron.d:/mnt/cron"])
        .start();
    settled(&world, &container);
    // A comment only, and removed below: cron runs nothing.
    let _attacker =
        container.spawn(&["sh", "-c", "echo '# test' > /mnt/cron/syscall-monitor-test"]);
    let alert = eventually("a critical alert", PATIENCE, || {
        world.alerts(&["--severity", "critical"]).into_iter().next()
    });
    let _ = fs::remove_file(&file);
    assert_eq!(alert["container"]["name"], "openclaw-gateway");
    crate::paused(&container);
}
