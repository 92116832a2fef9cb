use super::super::tests::{before, new, open};
use super::*;
use crate::docker::{PauseFailure, Paused};
use crate::evidence::Summary;
use crate::ledger::memory::Memory;

fn paused() -> Result<Paused, PauseFailure> {
    Ok(Paused {
        before: before("always"),
        already: false,
    })
}

fn at(level: Level) -> Quarantine {
    Quarantine { level, ..new("c1") }
}

fn cut(networks: &[&str]) -> Result<Cut, String> {
    Ok(Cut {
        networks: networks.iter().map(|n| (*n).to_owned()).collect(),
        ..Cut::default()
    })
}

/// What a request is, for comparisons.
fn kind(request: Option<&ToCourier>) -> &'static str {
    match request {
        None => "nothing",
        Some(ToCourier::Pause { .. }) => "pause",
        Some(ToCourier::DisableRestart { .. }) => "restart policy",
        Some(ToCourier::Inspect { .. }) => "inspect",
        Some(ToCourier::Cut { exact_only, .. }) => {
            if *exact_only {
                "cut what is exact"
            } else {
                "cut"
            }
        }
        Some(ToCourier::Stop { .. }) => "stop",
        Some(_) => "something else",
    }
}

#[test]
fn each_level_asks_docker_for_as_much_as_it_says() {
    for (level, expected) in [
        (Level::Cut, &["inspect", "cut"][..]),
        (Level::Freeze, &["pause", "restart policy"]),
        (
            Level::Auto,
            &["pause", "restart policy", "cut what is exact"],
        ),
        (Level::FreezeCut, &["pause", "restart policy", "cut"]),
        (Level::Stop, &["pause", "restart policy", "stop"]),
    ] {
        let mut all = open(&Memory::default());
        let mut asked = vec![];
        let mut next = Some(all.begin(at(level)).unwrap());
        while let Some(request) = next {
            asked.push(kind(Some(&request)));
            next = match request {
                ToCourier::Pause { .. } => all.on_paused("c1", &paused(), 1),
                ToCourier::DisableRestart { .. } => all.on_restart_disabled("c1", &Ok(()), 2),
                ToCourier::Inspect { .. } => {
                    all.on_inspected("c1", &Ok(Box::new(seen("no", &[]))), 2)
                }
                ToCourier::Cut { .. } => all.on_cut("c1", &cut(&["net"]), 3),
                ToCourier::Stop { .. } => all.on_stopped("c1", &Ok(()), 4).map(|()| None),
                other => panic!("{other:?}"),
            }
            .unwrap();
        }
        assert_eq!(asked, expected, "{level}");
        assert!(all.unfinished().is_empty(), "{level}");
        assert!(all.standing().all(Quarantine::is_settled));
    }
}

#[test]
fn networks_and_life_are_taken_when_the_evidence_is() {
    for (level, then) in [(Level::FreezeCut, "cut"), (Level::Stop, "stop")] {
        let memory = Memory::default();
        let mut all = open(&memory);
        all.begin(Quarantine {
            wants_evidence: true,
            ..at(level)
        })
        .unwrap();
        all.on_paused("c1", &paused(), 1).unwrap();
        assert_eq!(
            all.on_restart_disabled("c1", &Ok(()), 2)
                .unwrap()
                .as_ref()
                .map(|r| kind(Some(r))),
            None
        );
        // The sensor dies here: the evidence is asked for again, nothing else is.
        let mut all = open(&memory);
        assert!(all.unfinished().is_empty() && !all.standing().all(Quarantine::is_settled));
        let next = all.on_evidence("c1", Summary::default(), 3).unwrap();
        assert_eq!(kind(next.as_ref()), then);
        assert_eq!(kind(all.unfinished().first()), then);
    }
}

#[test]
fn evidence_that_is_quicker_than_docker_starts_nothing() {
    let mut all = open(&Memory::default());
    all.begin(Quarantine {
        wants_evidence: true,
        ..at(Level::FreezeCut)
    })
    .unwrap();
    assert!(
        all.on_evidence("c1", Summary::default(), 1)
            .unwrap()
            .is_none()
    );
    all.on_paused("c1", &paused(), 2).unwrap();
    let next = all.on_restart_disabled("c1", &Err("no".into()), 3).unwrap();
    assert_eq!(
        kind(next.as_ref()),
        "cut",
        "a policy that stays keeps nobody on the network"
    );
}

fn seen(policy: &str, networks: &[&str]) -> Inspection {
    let mut before = before(policy);
    before.networks = networks
        .iter()
        .map(|n| ((*n).to_owned(), crate::docker::Endpoint::default()))
        .collect();
    Inspection {
        container_id: "c1".into(),
        name: "n".into(),
        status: "paused".into(),
        init_pid: 1,
        image_id: None,
        before,
    }
}

#[test]
fn what_somebody_undoes_is_seen_and_asked_for_again() {
    let mut all = open(&Memory::default());
    all.begin(at(Level::FreezeCut)).unwrap();
    all.on_paused("c1", &paused(), 1).unwrap();
    all.on_restart_disabled("c1", &Ok(()), 2).unwrap();
    all.on_cut("c1", &cut(&["net"]), 3).unwrap();
    let q = |all: &Quarantines| all.standing().next().unwrap().clone();
    assert!(q(&all).slipped(&seen("no", &["none"])).is_empty());

    let slipped = q(&all).slipped(&seen("always", &["other"]));
    assert_eq!(
        slipped.words(),
        "set its restart policy to \"always\" and connected it to other"
    );
    let requests = all.on_slipped("c1", &slipped, 4).unwrap();
    let kinds: Vec<_> = requests.iter().map(|r| kind(Some(r))).collect();
    assert_eq!(kinds, ["restart policy", "cut"]);
    // What was found at first is what a release brings back.
    let was = q(&all).before.unwrap();
    assert_eq!(was.restart_policy.as_deref(), Some("always"));
    assert!(was.networks.contains_key("net"));
}

#[test]
fn a_network_that_it_was_left_in_has_not_slipped() {
    let mut all = open(&Memory::default());
    all.begin(at(Level::Auto)).unwrap();
    all.on_paused("c1", &paused(), 1).unwrap();
    let kept = Cut {
        kept: vec![("net".into(), "why".into())],
        ..Cut::default()
    };
    all.on_restart_disabled("c1", &Ok(()), 2).unwrap();
    all.on_cut("c1", &Ok(kept), 3).unwrap();
    let q = all.standing().next().unwrap();
    assert!(q.slipped(&seen("no", &["net"])).is_empty());
    assert_eq!(q.slipped(&seen("no", &["net", "new"])).networks, ["new"]);
}

#[test]
fn who_cannot_be_cut_is_offered_a_stop() {
    let mut all = open(&Memory::default());
    all.begin(at(Level::FreezeCut)).unwrap();
    all.on_paused("c1", &paused(), 1).unwrap();
    all.on_restart_disabled("c1", &Ok(()), 2).unwrap();
    let host = Cut {
        impossible: Some("it uses the host's own network".into()),
        ..Cut::default()
    };
    all.on_cut("c1", &Ok(host), 3).unwrap();
    let q = all.standing().next().unwrap();
    let step = q.steps.last().unwrap();
    assert!(
        !step.ok
            && step
                .detail
                .ends_with("quarantine apply openclaw-gateway --level stop` ends it"),
        "{}",
        step.detail
    );
    // And the person may.
    let next = all.raise("c1", Level::Stop, 4).unwrap();
    assert_eq!(kind(next.as_ref()), "stop");
    assert!(
        all.raise("c1", Level::Freeze, 5).unwrap().is_none(),
        "never back"
    );
}

#[test]
fn the_budget_takes_cuts_and_stops_and_leaves_the_freeze() {
    for (level, left) in [
        (Level::Auto, Some(Level::Freeze)),
        (Level::Stop, Some(Level::Freeze)),
        (Level::Cut, None),
    ] {
        let mut all = open(&Memory::default());
        all.begin(at(level)).unwrap();
        all.on_limited("c1", "used up", 1).unwrap();
        assert_eq!(all.standing().next().map(|q| q.level), left, "{level}");
    }
}

#[test]
fn a_cut_that_failed_is_asked_for_again() {
    let mut all = open(&Memory::default());
    all.begin(at(Level::FreezeCut)).unwrap();
    all.on_paused("c1", &paused(), 1).unwrap();
    all.on_restart_disabled("c1", &Ok(()), 2).unwrap();
    all.on_cut("c1", &Err("Docker did not answer".into()), 3)
        .unwrap();
    assert_eq!(kind(all.unfinished().first()), "cut");
    assert!(all.standing().next().unwrap().trouble.is_some());
    all.on_cut("c1", &cut(&["net"]), 4).unwrap();
    assert!(all.unfinished().is_empty());
    assert!(all.standing().next().unwrap().trouble.is_none());
    assert_eq!(all.spent().collect::<Vec<_>>(), [4]);
}
