//! Kernel rules for single containers come and go with them, and survive the monitor.

use std::process::Command;

use test_support::{eventually, image, kernel};

use crate::{PATIENCE, settled, world};

/// The kernel's rules that hold a word, in auditctl's form.
fn rules(word: &str) -> Vec<String> {
    let mut all = kernel::AuditState::read().rules;
    all.retain(|rule| rule.contains(word));
    all
}

#[test]
fn rules_for_a_container_come_and_go_with_it_and_are_restored() {
    if !kernel::wanted("rules_for_a_container_come_and_go_with_it_and_are_restored") {
        return;
    }
    let mut world = world().start();
    let before = rules("sm-proc").len();
    let shared = tempfile::tempdir().unwrap();
    let path = shared.path().to_str().unwrap();
    let container = world
        .docker
        .container("watched", image::build())
        .options(&["-v", &format!("{path}:/shared")])
        .start();
    settled(&world, &container);
    let there = || (rules(path).len() > 1 && rules("sm-proc").len() > before).then_some(());
    eventually("rules for the container", PATIENCE, there);
    for rule in rules(path).iter().chain(&rules("sm-proc")) {
        assert!(rule.contains(" -S ") && !rule.contains("-S all"), "{rule}");
    }
    let loaded = rules(path);

    world.kill();
    let status = Command::new("auditctl").arg("-D").status().unwrap();
    assert!(status.success() && rules(path).is_empty());
    world.start();
    eventually("rules for the container after a restart", PATIENCE, there);
    assert_eq!(rules(path), loaded);

    container.remove();
    eventually("no rules for a container that is gone", PATIENCE, || {
        (rules(path).is_empty() && rules("sm-proc").len() == before).then_some(())
    });
}
