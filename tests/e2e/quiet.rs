//! Ordinary life raises no alert, and every exec names its container.

use std::collections::BTreeSet;

use test_support::{eventually, image, kernel};

use crate::{PATIENCE, titles, world};

#[test]
fn twenty_containers_come_and_go_without_an_alert() {
    if !kernel::wanted("twenty_containers_come_and_go_without_an_alert") {
        return;
    }
    let world = world().start();
    let names: Vec<String> = (0..20).map(|n| format!("quiet-{n}")).collect();
    for name in &names {
        let token = format!("token-{name}");
        let container = world
            .docker
            .container(name, image::build())
            .options(&["--health-cmd=/bin/true health", "--health-interval=1s"])
            .command(&["sh", "-c", &format!("true start-{token}; exec sleep 1000")])
            .start();
        container.exec(&["env", &format!("exec-{token}")]);
        container
            .exec(&[
                "sh",
                "-c",
                &format!("ls / >/dev/null; cat /etc/hostname >/dev/null; echo exec-{token}"),
            ])
            .expect_ok();
        eventually("a health check", PATIENCE, || {
            (container.inspect()["State"]["Health"]["Status"] == "healthy").then_some(())
        });
        world
            .docker
            .command(&["stop", "--time=1", name])
            .expect_ok();
        container.remove();
    }
    world.barrier();
    let alerts = world.alerts(&["--severity", "medium"]);
    assert!(alerts.is_empty(), "{:?}", titles(&alerts));

    // Every exec event that carries a token must name the container of the token.
    let mut seen = BTreeSet::new();
    for event in world.history(&[
        "--syscall",
        "execve",
        "--since",
        "30m",
        "--text",
        "token-quiet-",
    ]) {
        let argv: Vec<&str> = event["process"]["argv"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|a| a.as_str())
            .collect();
        // What Docker itself executes on the host holds the token too: docker run, docker exec, runc.
        if event["phase"] == "host" {
            let exe = event["process"]["exe"].as_str().unwrap_or_default();
            assert!(
                !exe.ends_with("/sh") && !exe.contains("busybox"),
                "a program of a container counts as the host's: {event}"
            );
            continue;
        }
        let line = argv.join(" ");
        let token = line
            .split("token-")
            .nth(1)
            .unwrap()
            .split([' ', ';'])
            .next()
            .unwrap();
        assert_eq!(event["container"]["name"], token, "{event}");
        assert_eq!(event["container"]["certain"], true, "{event}");
        seen.insert(token.to_owned());
    }
    assert_eq!(seen.len(), names.len(), "{seen:?}");
    // And no exec inside any of them went without a container.
    let unnamed: Vec<_> = world
        .history(&[
            "--syscall",
            "execve",
            "--since",
            "30m",
            "--exe",
            "/bin/busybox",
        ])
        .into_iter()
        .filter(|e| e["container"].is_null())
        .collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
}
