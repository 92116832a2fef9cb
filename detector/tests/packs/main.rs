//! Every rule of the packs: something that makes it fire, something near that does not.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod exec;
mod intent;
mod kernel;
mod profiles;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use common::*;
use detector::{Response, Severity};

use crate::kernel::{open_read, open_write, ptrace};

/// (rule, fires, stays quiet)
pub type Case = (&'static str, Vec<Act>, Vec<Act>);

fn cases() -> Vec<Case> {
    let all = [
        kernel::kernel_cases(),
        exec::exec_cases(),
        intent::intent_cases(),
        profiles::profile_cases(),
    ];
    all.into_iter().flatten().collect()
}

/// File whose rules are tested by `sequences.rs`.
const SEQUENCES: &str = "common/pipe-to-shell-sequence";

#[test]
fn each_rule_fires_on_what_it_is_for_and_not_on_what_is_near() {
    let mut wrong = Vec::new();
    let mut detector = all_packs();
    for (rule, fires, quiet) in cases() {
        for act in fires {
            let detected = evaluate(&mut detector, &act);
            if !rules_of(&detector, &detected).iter().any(|r| r == rule) {
                wrong.push(format!("{rule} does not fire on {}", describe(&act)));
            }
        }
        for act in quiet {
            let detected = evaluate(&mut detector, &act);
            if rules_of(&detector, &detected).iter().any(|r| r == rule) {
                wrong.push(format!("{rule} fires on {}", describe(&act)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn describe(act: &Act) -> String {
    let a = &act.0;
    let paths: Vec<_> = a.paths.iter().map(|p| (&p.path, &p.host_path)).collect();
    format!(
        "{} by {} {:?} {paths:?} {:?}",
        a.syscall.as_ref().unwrap().name,
        a.process.exe,
        a.process.argv,
        a.target
    )
}

#[test]
fn every_rule_of_the_packs_has_a_case() {
    let tested: BTreeSet<String> = cases()
        .into_iter()
        .map(|(rule, ..)| rule.to_owned())
        .chain([SEQUENCES.to_owned()])
        .collect();
    let detector = all_packs();
    let loaded: BTreeSet<String> = detector
        .rules()
        .iter()
        .map(|rule| name_of(&detector, &rule.id))
        .collect();
    assert_eq!(tested, loaded);
}

#[test]
fn every_pack_has_rules_and_every_rule_says_what_it_must() {
    let detector = all_packs();
    let mut by_pack: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in detector.rules() {
        *by_pack.entry(&rule.pack).or_default() += 1;
        let name = name_of(&detector, &rule.id);
        assert_eq!(rule.id.len(), 36, "{name}: the id is a UUID");
        assert!(rule.description.len() > 40, "{name}: says why it matters");
        assert!(
            rule.tags.iter().any(|t| t.starts_with("attack.t")),
            "{name}: names a technique"
        );
        if rule.level >= Severity::Medium {
            assert!(
                !rule.falsepositives.is_empty(),
                "{name}: names false positives"
            );
        }
        if rule.level >= Severity::Medium && !rule.correlation {
            assert!(!rule.references.is_empty(), "{name}: has references");
        }
        assert_eq!(
            rule.response,
            Response::of(rule.level),
            "{name}: the level decides in our own packs"
        );
    }
    assert_eq!(
        by_pack.keys().copied().collect::<Vec<_>>(),
        ["clawbot", "common", "moltbot", "openclaw"]
    );
}

#[test]
fn a_rule_that_stands_for_another_names_one_that_exists() {
    let detector = all_packs();
    let ids: HashSet<&str> = detector.rules().iter().map(|r| r.id.as_str()).collect();
    for rule in detector.rules() {
        for other in &rule.supersedes {
            assert!(
                ids.contains(other.as_str()),
                "{}: supersedes {other}",
                name_of(&detector, &rule.id)
            );
        }
    }
}

#[test]
fn the_story_has_its_four_rows() {
    let mut detector = all_packs();
    let mut row = |act: Act| {
        let detected = evaluate(&mut detector, &act);
        assert_eq!(detected.len(), 1, "{:?}", told(&detected));
        let alert = detected[0].alert().clone();
        detector.forget(CONTAINER);
        (alert.severity, alert.response)
    };
    assert_eq!(
        row(call("mount")),
        (Severity::Critical, Response::Quarantine)
    );
    assert_eq!(row(ptrace(16)), (Severity::Critical, Response::Quarantine));
    assert_eq!(
        row(shell("echo aWQ= | base64 -d | sh")),
        (Severity::High, Response::AlertAndLog)
    );
    assert_eq!(
        row(open_read("/m").host_path("/m/a", "/srv/a", true)),
        (Severity::Medium, Response::Alert)
    );
    assert_eq!(
        row(open_write("/m").host_path("/m/x", "/etc/cron.d/x", true)),
        (Severity::Critical, Response::Quarantine)
    );
}
