use super::*;
use crate::fixture::alert;
use detector::Severity;

fn verdict(policy: &Policy, alert: &Alert) -> Verdict {
    policy.decide(alert, 0, false).verdict
}

#[test]
fn a_certain_critical_alert_of_an_agent_freezes_it() {
    let decision = Policy::default().decide(&alert(42), 7, false);
    assert_eq!(
        (decision.verdict, decision.id.as_str(), decision.at_ms),
        (Verdict::Freeze, "D-42", 7)
    );
    assert!(decision.freezes());
    let text = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
}

#[test]
fn nobody_is_frozen_on_a_guess() {
    let mut a = alert(1);
    a.attribution.certain = false;
    let decision = Policy {
        scope: Scope::All,
        ..Policy::default()
    }
    .decide(&a, 0, false);
    assert_eq!(decision.verdict, Verdict::NotifyOnly);
    assert!(decision.reason.contains("not certain"));
}

#[test]
fn the_host_is_never_frozen() {
    let mut a = alert(1);
    a.container = None;
    assert_eq!(
        verdict(
            &Policy {
                scope: Scope::All,
                ..Policy::default()
            },
            &a
        ),
        Verdict::NotifyOnly
    );
}

#[test]
fn only_agents_are_frozen_unless_the_scope_is_all() {
    let mut a = alert(1);
    if let Some(c) = &mut a.container {
        c.profile = None;
    }
    assert_eq!(verdict(&Policy::default(), &a), Verdict::NotifyOnly);
    assert_eq!(
        verdict(
            &Policy {
                scope: Scope::All,
                ..Policy::default()
            },
            &a
        ),
        Verdict::Freeze
    );
    assert_eq!(
        verdict(
            &Policy {
                scope: Scope::None,
                ..Policy::default()
            },
            &alert(1)
        ),
        Verdict::NotifyOnly
    );
}

#[test]
fn the_rule_s_response_decides_not_its_level() {
    for (response, expected) in [
        (Response::Log, Verdict::Nothing),
        (Response::Alert, Verdict::NotifyOnly),
        (Response::AlertAndLog, Verdict::NotifyOnly),
        (Response::Quarantine, Verdict::Freeze),
    ] {
        let mut a = alert(1);
        a.response = response;
        a.severity = Severity::Critical;
        assert_eq!(verdict(&Policy::default(), &a), expected, "{response:?}");
    }
}

#[test]
fn what_root_says_of_a_severity_holds_for_all_of_it_that_is_told() {
    let said = |level| Policy {
        ladder: Ladder {
            by_severity: [(Severity::High, level)].into(),
            ..Ladder::default()
        },
        ..Policy::default()
    };
    let mut a = alert(1);
    a.severity = Severity::High;
    a.response = Response::AlertAndLog;
    let decide = |policy: &Policy, a: &Alert| {
        let d = policy.decide(a, 0, false);
        (d.verdict, d.level, d.acts())
    };
    for (level, verdict) in [
        (Level::Notify, Verdict::NotifyOnly),
        (Level::Cut, Verdict::Cut),
        (Level::Freeze, Verdict::Freeze),
        (Level::Auto, Verdict::Freeze),
        (Level::FreezeCut, Verdict::Freeze),
        (Level::Stop, Verdict::Freeze),
    ] {
        assert_eq!(
            decide(&said(level), &a),
            (verdict, level, level != Level::Notify)
        );
        assert_eq!(
            decide(&said(level), &a).0 == Verdict::Freeze,
            level.freezes()
        );
    }
    // Another severity, what is only kept, and a guard: as without.
    let default = decide(&said(Level::Cut), &alert(1));
    assert_eq!(default, (Verdict::Freeze, Level::Auto, true));
    a.response = Response::Log;
    assert_eq!(decide(&said(Level::Cut), &a).0, Verdict::Nothing);
    a.response = Response::AlertAndLog;
    a.attribution.certain = false;
    assert_eq!(decide(&said(Level::Cut), &a).0, Verdict::NotifyOnly);
}

#[test]
fn a_decision_of_before_the_levels_is_read() {
    let text = r#"{"id":"D-1","alert":1,"container":null,"verdict":"freeze","reason":"r","dry_run":false,"at_ms":1}"#;
    let decision: Decision = serde_json::from_str(text).unwrap();
    assert_eq!(decision.verdict, Verdict::Freeze);
}

#[test]
fn a_dry_run_decides_and_does_not_act() {
    let decision = Policy {
        dry_run: true,
        ..Policy::default()
    }
    .decide(&alert(1), 0, false);
    assert_eq!(
        (decision.verdict, decision.dry_run, decision.freezes()),
        (Verdict::Freeze, true, false)
    );
}

#[test]
fn the_monitor_does_not_freeze_itself() {
    for own in ["ab".repeat(32), "ab".repeat(6)] {
        let policy = Policy {
            self_container: Some(own),
            ..Policy::default()
        };
        assert_eq!(verdict(&policy, &alert(1)), Verdict::NotifyOnly);
    }
    // Too short to be an id, or somebody else's.
    for own in ["ab".to_owned(), "cd".repeat(32), String::new()] {
        let policy = Policy {
            self_container: Some(own),
            ..Policy::default()
        };
        assert_eq!(verdict(&policy, &alert(1)), Verdict::Freeze);
    }
}

#[test]
fn a_name_alone_does_not_protect_an_agent() {
    let policy = Policy {
        protect: vec!["openclaw-*".into()],
        ..Policy::default()
    };
    assert_eq!(verdict(&policy, &alert(1)), Verdict::Freeze);
    let mut other = alert(1);
    if let Some(c) = &mut other.container {
        c.profile = None;
    }
    let policy = Policy {
        scope: Scope::All,
        ..policy
    };
    assert_eq!(verdict(&policy, &other), Verdict::NotifyOnly);
}

#[test]
fn a_digest_protects_and_an_unknown_one_does_not() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let known = Situation {
        image_id: Some(digest.clone()),
        ..Situation::default()
    };
    for entry in [digest.clone(), format!("openclaw-*@{digest}")] {
        let policy = Policy {
            protect: vec![entry],
            ..Policy::default()
        };
        assert_eq!(
            policy.decide_in(&alert(1), 0, &known).verdict,
            Verdict::NotifyOnly
        );
        assert_eq!(
            policy
                .decide_in(&alert(1), 0, &Situation::default())
                .verdict,
            Verdict::Freeze
        );
    }
    let policy = Policy {
        protect: vec![format!("other-*@{digest}")],
        ..Policy::default()
    };
    assert_eq!(
        policy.decide_in(&alert(1), 0, &known).verdict,
        Verdict::Freeze
    );
}

#[test]
fn who_runs_although_quarantined_is_frozen_again() {
    let a = alert(1);
    let since = |ms| Situation {
        quarantined_at_ms: Some(ms),
        ..Situation::default()
    };
    let policy = Policy::default();
    assert_eq!(policy.decide(&a, 0, true).verdict, Verdict::NotifyOnly);
    assert_eq!(
        policy.decide_in(&a, 0, &since(a.time_ms)).verdict,
        Verdict::NotifyOnly
    );
    let again = policy.decide_in(&a, 0, &since(a.time_ms - 1));
    assert_eq!(again.verdict, Verdict::Freeze);
    assert!(again.reason.contains("frozen again"));
}

#[test]
fn after_a_release_the_same_rule_waits_for_the_cool_down() {
    let a = alert(1);
    let policy = Policy {
        cooldown: Duration::from_secs(60),
        ..Policy::default()
    };
    let released = |rule: &str| Situation {
        released: Some((rule.into(), 1000)),
        ..Situation::default()
    };
    assert_eq!(
        policy.decide_in(&a, 60_999, &released(&a.rule)).verdict,
        Verdict::NotifyOnly
    );
    assert_eq!(
        policy.decide_in(&a, 61_000, &released(&a.rule)).verdict,
        Verdict::Freeze
    );
    assert_eq!(
        policy.decide_in(&a, 1001, &released("another")).verdict,
        Verdict::Freeze
    );
    assert_eq!(
        Policy::default()
            .decide_in(&a, 1001, &released(&a.rule))
            .verdict,
        Verdict::Freeze
    );
}
