//! The guards, and each way in which an agent that reaches Docker could try to get behind them.

use serde_json::Value;
use test_support::{World, eventually, image, kernel};

use crate::{PATIENCE, alert, paused, settled, world};

/// The decision on the first critical alert of a container.
fn decision(world: &World, name: &str) -> Value {
    let id = alert(world, name, "critical")["id"].clone();
    eventually("the decision", PATIENCE, || {
        let shown = world
            .cli(&["alerts", "show", id.as_str()?, "--output", "json"])
            .json();
        let decision = shown["decisions"][0].clone();
        decision.is_object().then_some(decision)
    })
}

/// An exemption is root's, for a name with the image that it must have. The name alone, the tag alone, another image under the same
/// tag: none of them is exempt.
#[test]
fn an_exemption_holds_for_the_image_that_root_named_and_for_no_other() {
    if !kernel::wanted("an_exemption_holds_for_the_image_that_root_named_and_for_no_other") {
        return;
    }
    const TAG: &str = "syscall-monitor-test/exempt:latest";
    let docker = |words: &[&str]| {
        test_support::process::run(std::process::Command::new("docker").args(words), PATIENCE)
    };
    let real = image::build();
    docker(&["tag", real, TAG]).expect_ok();
    let digest = docker(&["image", "inspect", "--format", "{{.Id}}", TAG]).expect_ok();
    let world = world()
        .config(&format!(
            "[quarantine]\nprotect = [\"openclaw-*@{}\", \"openclaw-by-name\"]\n",
            digest.trim()
        ))
        .start();
    let start = |name: &str, image: &str| {
        let container = world
            .docker
            .container(name, image)
            .dangerous()
            .options(&["--label=syscall-monitor.profile=openclaw"])
            .start();
        settled(&world, &container);
        container
    };

    let exempt = start("openclaw-exempt", TAG);
    exempt.exec(&["/bin/attacker", "mount"]).expect_ok();
    let d = decision(&world, "openclaw-exempt");
    assert_eq!(d["verdict"], "notify-only");
    assert!(
        d["reason"].as_str().unwrap().contains("quarantine.protect"),
        "what was not done is in the history with its reason: {d}"
    );
    assert_eq!(exempt.status(), "running");
    exempt.remove();

    // Another image under the same tag and the same name: the tag says nothing.
    let changed = world.docker.container("changed", real).start();
    changed.exec(&["touch", "/changed"]).expect_ok();
    docker(&["commit", &changed.id, TAG]).expect_ok();
    changed.remove();
    let retagged = start("openclaw-exempt", TAG);
    let _attacker = retagged.spawn(&["/bin/attacker", "mount"]);
    paused(&retagged);
    retagged.remove();
    docker(&["image", "rm", "-f", TAG]);

    // A name alone protects no agent.
    let named = start("openclaw-by-name", image_without_digest(&world));
    let _attacker = named.spawn(&["/bin/attacker", "mount"]);
    paused(&named);
}

/// An image with another digest than the exempt one.
fn image_without_digest(world: &World) -> &'static str {
    const OTHER: &str = "syscall-monitor-test/other:latest";
    let changed = world
        .docker
        .container("changed-again", image::build())
        .start();
    changed.exec(&["touch", "/changed-again"]).expect_ok();
    world
        .docker
        .command(&[
            "commit",
            "--change",
            "LABEL syscall-monitor.test=e2e",
            &changed.id,
            OTHER,
        ])
        .expect_ok();
    changed.remove();
    OTHER
}

/// Who reaches Docker renames itself to something that is no agent, or that root protects by name.
#[test]
fn an_agent_that_is_renamed_stays_an_agent() {
    if !kernel::wanted("an_agent_that_is_renamed_stays_an_agent") {
        return;
    }
    let world = world()
        .config("[quarantine]\nprotect = [\"database\"]\n")
        .start();
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .dangerous()
        .start();
    settled(&world, &container);
    world
        .docker
        .command(&["rename", "openclaw-gateway", "database"])
        .expect_ok();
    eventually("the new name is known", PATIENCE, || {
        let status = world.status();
        let mut names = status["containers"].as_array()?.iter();
        names.any(|c| c["name"] == "database").then_some(())
    });
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    let d = decision(&world, "database");
    assert_eq!(d["verdict"], "freeze", "{d}");
    // And renamed once more while it is quarantined it is still released by the id, and by no one else.
    world
        .cli(&["quarantine", "release", container.id.get(..12).unwrap()])
        .expect_ok();
    assert_eq!(container.status(), "running");
}
