use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::fixture::alert;

const HOUR: u64 = 3_600_000;

fn options(dir: &TempDir) -> TrustOptions {
    TrustOptions {
        dir: dir.path().join("trust"),
        log: Some(dir.path().join("log/security.log")),
        ..TrustOptions::default()
    }
}

fn open(dir: &TempDir) -> Trust {
    let (trust, problems) = Trust::open(options(dir)).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    trust
}

fn of(severity: Severity, rule: &str) -> Alert {
    Alert {
        severity,
        rule: rule.into(),
        ..alert(1)
    }
}

fn log(dir: &TempDir) -> String {
    fs::read_to_string(dir.path().join("log/security.log")).unwrap()
}

#[test]
fn the_story_s_numbers() {
    let dir = TempDir::new().unwrap();
    let mut trust = open(&dir);
    let change = trust
        .apply(&of(Severity::Medium, "m"), "1.0:1", 0)
        .unwrap()
        .unwrap();
    assert_eq!(
        (change.score, change.band, change.delta),
        (95, Band::Execute, -5)
    );
    let change = trust
        .apply(&of(Severity::Medium, "m2"), "1.0:2", 0)
        .unwrap()
        .unwrap();
    assert_eq!((change.score, change.band), (90, Band::HumanApproval));
    let change = trust
        .apply(&of(Severity::High, "h"), "1.0:3", 0)
        .unwrap()
        .unwrap();
    assert_eq!(
        (change.score, change.band, change.previous_band),
        (70, Band::Quarantine, Band::HumanApproval)
    );
    for n in 0..10 {
        trust
            .apply(&of(Severity::High, &format!("h{n}")), "1.0:4", 0)
            .unwrap();
    }
    assert_eq!(trust.show("openclaw-gateway").unwrap().score, 0);
    for low in [Severity::Low, Severity::Informational] {
        assert!(trust.apply(&of(low, "l"), "1.0:5", 0).unwrap().is_none());
    }
}

#[test]
fn critical_is_quarantine_whatever_the_arithmetic() {
    let dir = TempDir::new().unwrap();
    let (mut trust, _) = Trust::open(TrustOptions {
        critical: 0,
        ..options(&dir)
    })
    .unwrap();
    let change = trust
        .apply(&of(Severity::Critical, "c"), "1.0:1", 0)
        .unwrap()
        .unwrap();
    assert_eq!((change.score, change.band), (100, Band::Quarantine));
    assert!(log(&dir).contains("Trust band set to quarantine at score 100: openclaw-gateway"));
    // By default a reader of the score alone sees it, too.
    let dir = TempDir::new().unwrap();
    let change = open(&dir)
        .apply(&of(Severity::Critical, "c"), "1.0:1", 0)
        .unwrap()
        .unwrap();
    assert!(change.score < 80);
    // And time does not forgive it.
    let mut trust = open(&dir);
    trust.tick(10_000 * HOUR).unwrap();
    assert_eq!(
        trust.show("openclaw-gateway").unwrap().band,
        Band::Quarantine
    );
}

#[test]
fn a_rule_takes_points_from_a_container_once_in_the_window() {
    let dir = TempDir::new().unwrap();
    let mut trust = open(&dir);
    assert!(
        trust
            .apply(&of(Severity::High, "h"), "1.0:1", 0)
            .unwrap()
            .is_some()
    );
    assert!(
        trust
            .apply(&of(Severity::High, "h"), "1.0:2", HOUR - 1)
            .unwrap()
            .is_none()
    );
    let mut elsewhere = of(Severity::High, "h");
    if let Some(c) = &mut elsewhere.container {
        c.id = "cd".repeat(32);
    }
    assert!(trust.apply(&elsewhere, "1.0:3", 1).unwrap().is_some());
    assert!(
        trust
            .apply(&of(Severity::High, "h"), "1.0:4", HOUR)
            .unwrap()
            .is_some()
    );
    assert_eq!(trust.show("openclaw-gateway").unwrap().score, 40);
}

#[test]
fn points_come_back_with_time_and_by_a_person() {
    let dir = TempDir::new().unwrap();
    let mut trust = open(&dir);
    trust.apply(&of(Severity::High, "h"), "1.0:1", 0).unwrap();
    assert!(trust.tick(24 * HOUR - 1).unwrap().is_empty());
    let changes = trust.tick(24 * HOUR).unwrap();
    assert_eq!(
        (
            changes.len(),
            changes[0].score,
            changes[0].delta,
            changes[0].kind
        ),
        (1, 100, 20, ChangeKind::Recovery)
    );
    trust
        .apply(&of(Severity::Critical, "c"), "1.0:2", 25 * HOUR)
        .unwrap();
    let change = trust.set("openclaw-gateway", 90, 26 * HOUR).unwrap();
    assert_eq!((change.score, change.band), (90, Band::HumanApproval));
    assert!(matches!(
        trust.set("nobody", 1, 0),
        Err(TrustError::Unknown(_))
    ));
    assert_eq!(
        trust.set_base("openclaw-gateway", 200, 0).unwrap().score,
        100
    );
}

#[test]
fn the_file_is_the_framework_s() {
    let dir = TempDir::new().unwrap();
    let mut trust = open(&dir);
    trust
        .apply(
            &of(Severity::High, "rule-1"),
            "1772361015.042:5",
            1_772_361_015_042,
        )
        .unwrap();
    let path = dir.path().join("trust/openclaw-gateway.json");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    let file: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(file["schema"], "asf-trust/1");
    assert_eq!(file["agent"], "openclaw-gateway");
    assert_eq!(file["profile"], "openclaw");
    assert_eq!(file["container"]["name"], "openclaw-gateway");
    assert_eq!(file["container"]["image"], "openclaw:local");
    assert_eq!(
        (&file["score"], &file["base_score"], &file["previous_score"]),
        (&80.into(), &100.into(), &100.into())
    );
    assert_eq!(file["band"], "human-approval");
    assert_eq!(file["updated_at"], "2026-03-01T10:30:15.042Z");
    let reason = &file["reasons"][0];
    assert_eq!(
        (&reason["rule"], &reason["severity"], &reason["delta"]),
        (&"rule-1".into(), &"high".into(), &(-20).into())
    );
    assert_eq!(
        (&reason["event_id"], &reason["expires_at"]),
        (
            &"1772361015.042:5".into(),
            &"2026-03-02T10:30:15.042Z".into()
        )
    );

    let event = fs::read_to_string(dir.path().join("trust/events.jsonl")).unwrap();
    let event: serde_json::Value = serde_json::from_str(event.trim_end()).unwrap();
    assert_eq!(
        (&event["schema"], &event["type"], &event["score"]),
        (&"asf-trust-event/1".into(), &"deduction".into(), &80.into())
    );
    assert_eq!(
        log(&dir),
        "2026-03-01T10:30:15Z WARN OPENCLAW TRUST Trust score dropped below 95: openclaw-gateway\n"
    );
    let mut names: Vec<_> = fs::read_dir(dir.path().join("trust"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["events.jsonl", "openclaw-gateway.json"],
        "nothing is left lying about"
    );
}

#[test]
fn the_line_of_a_fall_below_80_is_the_framework_s() {
    let dir = TempDir::new().unwrap();
    let mut trust = open(&dir);
    let mut a = of(Severity::Critical, "c");
    if let Some(c) = &mut a.container {
        c.agent = Some("agent-42".into());
        c.profile = Some(enricher::container::Profile::Moltbot);
    }
    trust.apply(&a, "1.0:1", 1_772_361_015_000).unwrap();
    assert_eq!(
        log(&dir),
        "2026-03-01T10:30:15Z WARN MOLTBOT TRUST Trust score dropped below 80: agent-42\n"
    );
}

#[test]
fn scores_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    open(&dir)
        .apply(&of(Severity::High, "h"), "1.0:1", 0)
        .unwrap();
    let mut trust = open(&dir);
    assert_eq!(trust.show("openclaw-gateway").unwrap().score, 80);
    assert!(
        trust
            .apply(&of(Severity::High, "h"), "1.0:2", 1)
            .unwrap()
            .is_none(),
        "the window holds"
    );
    assert_eq!(trust.list().count(), 1);
}

#[test]
fn a_file_that_is_no_score_is_set_aside_and_said() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    fs::write(dir.path().join("trust/x.json"), "{").unwrap();
    fs::write(
        dir.path().join("trust/y.json"),
        "{\"schema\":\"asf-trust/1\",\"agent\":\"z\"}",
    )
    .unwrap();
    let (trust, problems) = Trust::open(options(&dir)).unwrap();
    assert_eq!((trust.list().count(), problems.len()), (0, 2));
    assert!(dir.path().join("trust/x.unreadable").exists());
}

#[test]
fn no_name_leaves_the_directory_and_no_guess_costs_points() {
    let dir = TempDir::new().unwrap();
    let mut trust = open(&dir);
    for agent in [
        "../../etc/cron.d/x",
        ".hidden",
        "",
        "a/b",
        "a\nb",
        "a\0b",
        &"x".repeat(201),
    ] {
        let mut a = of(Severity::High, "h");
        if let Some(c) = &mut a.container {
            c.agent = Some(agent.into());
        }
        assert!(trust.apply(&a, "1.0:1", 0).unwrap().is_none(), "{agent:?}");
    }
    let mut guess = of(Severity::High, "h");
    guess.attribution.certain = false;
    assert!(trust.apply(&guess, "1.0:1", 0).unwrap().is_none());
    assert_eq!(fs::read_dir(dir.path().join("trust")).unwrap().count(), 0);
}

#[test]
fn a_long_list_of_reasons_keeps_its_sum() {
    let mut state = TrustState::new("a", 100, 0);
    for n in 0..1000u64 {
        state.reasons.push(Reason {
            rule: n.to_string(),
            title: None,
            severity: if n == 0 {
                Severity::Critical
            } else {
                Severity::Medium
            },
            delta: if n < 10 { -1 } else { 0 },
            event_id: String::new(),
            container_id: None,
            at: String::new(),
            at_ms: n,
            expires_at: None,
            expires_ms: (n != 0).then_some(u64::MAX),
        });
    }
    state.recompute(0);
    assert_eq!(
        (state.score, state.band, state.reasons.len()),
        (90, Band::Quarantine, 200)
    );
    assert!(
        state.reasons.iter().any(|r| r.expires_ms.is_none()),
        "what no time forgives stays so"
    );
}
