//! The trust score of an agent: what takes points, who is told, how they come back, and when arithmetic may freeze.

use std::time::Duration;

use serde_json::Value;
use test_support::{Container, World, eventually, kernel};

use crate::{PATIENCE, gateway, world};

/// High alerts about two rules: 100, 80, 60.
const DEEDS: [&str; 2] = [
    "echo aWQgPi9kZXYvbnVsbAo= | base64 -d | sh",
    "cp /bin/busybox /tmp/busybox; /tmp/busybox true",
];

fn do_all(container: &Container) {
    for deed in DEEDS {
        container.exec(&["sh", "-c", deed]).expect_ok();
    }
}

fn score(world: &World) -> u64 {
    let trust = world.trust("openclaw-gateway");
    trust.map_or(100, |t| t["score"].as_u64().unwrap())
}

fn fallen(world: &World) -> u64 {
    eventually("a score below 80", PATIENCE, || {
        Some(score(world)).filter(|s| *s < 80)
    })
}

#[test]
fn a_score_is_told_everywhere_explained_and_set_by_a_person() {
    if !kernel::wanted("a_score_is_told_everywhere_explained_and_set_by_a_person") {
        return;
    }
    let hooked = tempfile::tempdir().unwrap();
    let hook = format!(
        "cat >> {0}/events; echo >> {0}/events; echo \"$ASF_AGENT $ASF_SCORE\" >> {0}/environment",
        hooked.path().display()
    );
    let world = world()
        .config(&format!(
            "[trust]\nhook = [\"/bin/sh\", \"-c\", {hook:?}]\n"
        ))
        .start();
    let container = gateway(&world);
    do_all(&container);
    let low = fallen(&world);
    // Arithmetic alone freezes nobody.
    world.barrier();
    assert!(!container.is_frozen());

    let read = |name: &str| std::fs::read_to_string(hooked.path().join(name)).unwrap_or_default();
    eventually("the hook heard of it", PATIENCE, || {
        read("environment")
            .contains(&format!("openclaw-gateway {low}"))
            .then_some(())
    });
    let heard: Vec<Value> = read("events")
        .lines()
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let scores: Vec<u64> = heard.iter().map(|e| e["score"].as_u64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a > b), "in order: {scores:?}");
    assert!(
        world
            .security_log()
            .contains("Trust score dropped below 80: openclaw-gateway"),
        "{}",
        world.security_log()
    );

    let listed = world.cli(&["trust", "list", "-o", "json"]).json();
    assert_eq!(
        (&listed[0]["score"], &listed[0]["band"]),
        (&low.into(), &"quarantine".into())
    );
    // Every point is explained.
    let shown = world
        .cli(&["trust", "show", "openclaw-gateway", "-o", "json"])
        .json();
    let lost: i64 = shown["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["delta"].as_i64().unwrap())
        .sum();
    assert_eq!(100 + lost, i64::try_from(low).unwrap(), "{shown:#}");
    let page = world
        .cli(&["trust", "show", "openclaw-gateway"])
        .expect_ok();
    assert!(
        page.contains("Decoded text run as a program") && page.contains("comes back at"),
        "{page}"
    );
    let history = world
        .cli(&["trust", "history", "openclaw-gateway", "-o", "jsonl"])
        .jsonl();
    assert_eq!(history.len(), heard.len(), "{history:#?}");

    let said = world
        .cli(&["trust", "set", "openclaw-gateway", "97"])
        .expect_ok();
    assert!(
        said.contains("score 97") && said.contains("execute"),
        "{said}"
    );
    assert_eq!(score(&world), 97);
    let last = world
        .cli(&["trust", "history", "openclaw-gateway", "-o", "jsonl"])
        .jsonl();
    assert_eq!(last.last().unwrap()["type"], "set");
    let refused = world.cli(&["trust", "set", "nobody", "50"]);
    assert!(
        !refused.status.is_some_and(|s| s.success()) && refused.stderr.contains("nobody"),
        "{}",
        refused.stderr
    );
    assert!(
        !world
            .cli(&["trust", "set", "openclaw-gateway", "101"])
            .status
            .is_some_and(|s| s.success())
    );
}

#[test]
fn arithmetic_freezes_where_root_says_so_and_can_be_released() {
    if !kernel::wanted("arithmetic_freezes_where_root_says_so_and_can_be_released") {
        return;
    }
    let world = world().config("[trust]\nenforce = true\n").start();
    let container = gateway(&world);
    do_all(&container);
    fallen(&world);
    eventually("it is frozen", Duration::from_secs(20), || {
        container.is_frozen().then_some(())
    });
    let list = world.cli(&["quarantine", "list", "-o", "json"]).json();
    let reason = list[0]["reason"].as_str().unwrap();
    assert!(reason.contains("trust.enforce"), "{reason}");
    world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    container.exec(&["true"]).expect_ok();
}
