//! A health check is told apart from what somebody executes in a container.

use serde_json::Value;
use test_support::{eventually, image, kernel};

use crate::{PATIENCE, settled, world};

/// The execs whose arguments hold a word, inside of containers.
fn execs(world: &test_support::World, word: &str) -> Vec<Value> {
    world
        .history(&["--syscall", "execve", "--since", "30m", "--text", word])
        .into_iter()
        .filter(|e| e["phase"] != "host")
        .collect()
}

#[test]
fn a_health_check_is_not_taken_for_a_docker_exec() {
    if !kernel::wanted("a_health_check_is_not_taken_for_a_docker_exec") {
        return;
    }
    let world = world().start();
    // Docker says what its health check is when it is asked, and it may take its time: the first check comes after a while.
    let shell = world
        .docker
        .container("health-shell", image::build())
        .options(&[
            "--health-cmd=/bin/true word-shell && /bin/true word-shell-again",
            "--health-interval=3s",
        ])
        .start();
    settled(&world, &shell);
    eventually("a health check", PATIENCE, || {
        (shell.inspect()["State"]["Health"]["Status"] == "healthy").then_some(())
    });
    shell.exec(&["/bin/true", "word-person"]).expect_ok();
    shell
        .exec(&["sh", "-c", "/bin/true word-person && /bin/true word-person"])
        .expect_ok();
    world.barrier();

    let checks = execs(&world, "word-shell");
    // The shell, and what the shell executes.
    for argv in [
        &[
            "/bin/sh",
            "-c",
            "/bin/true word-shell && /bin/true word-shell-again",
        ][..],
        &["/bin/true", "word-shell"],
        &["/bin/true", "word-shell-again"],
    ] {
        let found = checks
            .iter()
            .find(|e| e["process"]["argv"] == serde_json::json!(argv))
            .unwrap_or_else(|| panic!("{argv:?} was not seen: {checks:?}"));
        assert_eq!(found["phase"], "exec", "{found}");
        assert_eq!(found["container"]["name"], "health-shell", "{found}");
    }
    let last = checks.iter().filter(|e| e["health_check"] != true).count();
    assert_eq!(last, 0, "{checks:?}");

    let person = execs(&world, "word-person");
    assert!(person.len() >= 4, "{person:?}");
    for event in person {
        assert_eq!(event["phase"], "exec", "{event}");
        assert_eq!(event["health_check"], false, "{event}");
    }
}
