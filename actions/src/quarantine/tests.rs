use super::*;
use crate::docker::Endpoint;
use crate::fixture::alert;
use crate::ledger::memory::Memory;
use std::time::Duration;

fn frozen() -> Frozen {
    Frozen {
        how: How::Hybrid,
        took: Duration::from_micros(120),
        settled: true,
        already: false,
        restarted: false,
    }
}

fn target(id: &str) -> FreezeTarget {
    FreezeTarget {
        container_id: id.into(),
        ..FreezeTarget::default()
    }
}

pub(super) fn before(policy: &str) -> Before {
    Before {
        restart_policy: Some(policy.into()),
        networks: [("net".to_owned(), Endpoint::default())].into(),
        ..Before::default()
    }
}

pub(super) fn new(id: &str) -> Quarantine {
    Quarantine::for_alert(&alert(42), "because", target(id), Some(&frozen()), 1000)
}

pub(super) fn open(memory: &Memory) -> Quarantines {
    let (all, bad) = Quarantines::open(Arc::new(memory.clone())).unwrap();
    assert!(bad.is_empty());
    all
}

#[test]
fn it_is_durable_before_docker_is_asked() {
    let memory = Memory::default();
    let request = open(&memory).begin(new("c1")).unwrap();
    assert!(matches!(request, ToCourier::Pause { ref container_id, .. } if container_id == "c1"));
    // The sensor dies here.
    let all = open(&memory);
    let q = all.standing().next().unwrap();
    assert_eq!(
        (q.name.as_str(), q.alert.as_deref(), &q.docker_state),
        ("openclaw-gateway", Some("A-42"), &DockerState::Pending)
    );
    assert!(matches!(
        all.unfinished().as_slice(),
        [ToCourier::Pause { .. }]
    ));
}

#[test]
fn what_docker_said_is_durable_before_it_is_changed() {
    let memory = Memory::default();
    let mut all = open(&memory);
    all.begin(new("c1")).unwrap();
    let paused = Ok(Paused {
        before: before("always"),
        already: false,
    });
    let next = all.on_paused("c1", &paused, 2000).unwrap();
    assert!(matches!(next, Some(ToCourier::DisableRestart { .. })));
    // The sensor dies here: the policy may be `no` by now, and what it was is known.
    let mut all = open(&memory);
    assert!(matches!(
        all.unfinished().as_slice(),
        [ToCourier::DisableRestart { .. }]
    ));
    all.on_restart_disabled("c1", &Ok(()), 3000).unwrap();
    assert!(all.unfinished().is_empty());
    // Asked again after a disturbance, Docker shows our own "no"; the first answer counts.
    let request = all
        .on_disturbed(new("c1").target, None, "unpaused", 4000)
        .unwrap();
    assert!(matches!(request, Some(ToCourier::Pause { .. })));
    let again = Ok(Paused {
        before: before("no"),
        already: false,
    });
    assert!(all.on_paused("c1", &again, 5000).unwrap().is_none());
    let kept = open(&memory)
        .find("openclaw-gateway")
        .unwrap()
        .before
        .clone()
        .unwrap();
    assert_eq!(kept.restart_policy.as_deref(), Some("always"));
}

#[test]
fn a_second_freeze_keeps_what_the_first_found() {
    let memory = Memory::default();
    let mut all = open(&memory);
    all.begin(new("c1")).unwrap();
    all.on_paused(
        "c1",
        &Ok(Paused {
            before: before("always"),
            already: false,
        }),
        0,
    )
    .unwrap();
    all.on_restart_disabled("c1", &Ok(()), 0).unwrap();
    all.begin(new("c1")).unwrap();
    all.on_paused(
        "c1",
        &Ok(Paused {
            before: before("no"),
            already: true,
        }),
        0,
    )
    .unwrap();
    let q = all
        .find("c1-")
        .or_else(|| all.find("openclaw-gateway"))
        .unwrap();
    assert_eq!(
        q.before.as_ref().unwrap().restart_policy.as_deref(),
        Some("always")
    );
    assert!(q.restart_disabled);
}

#[test]
fn it_belongs_to_the_agent_not_to_the_id() {
    let memory = Memory::default();
    let mut all = open(&memory);
    all.begin(new("c1")).unwrap();
    let by = |all: &Quarantines, id: &str, name: &str, agent: &str| {
        let container = Container {
            name: Some(name.into()),
            agent: Some(agent.into()),
            ..Container::from_id(id)
        };
        all.of(&container).map(|(_, by)| by)
    };
    assert_eq!(by(&all, "c1", "renamed", "renamed"), Some(By::Id));
    assert_eq!(by(&all, "c2", "openclaw-gateway", "x"), Some(By::Name));
    assert_eq!(by(&all, "c2", "x", "openclaw-gateway"), Some(By::Agent));
    assert_eq!(by(&all, "c2", "other", "other"), None);
}

#[test]
fn a_container_created_anew_takes_the_place_of_the_one_that_is_gone() {
    let memory = Memory::default();
    let mut all = open(&memory);
    all.begin(new("c1")).unwrap();
    let key = all.find("openclaw-gateway").unwrap().key();
    all.succeed(&key, "c2", 10).unwrap();
    all.begin(new("c2")).unwrap();
    let all = open(&memory);
    let standing: Vec<_> = all
        .standing()
        .map(|q| (q.key(), q.container_id.as_str()))
        .collect();
    assert_eq!(standing, [(key, "c2")]);
    // Nobody released it: a cool-down has nothing to count from.
    assert_eq!(
        all.last_release("openclaw-gateway", Some("openclaw-gateway")),
        None
    );
}

#[test]
fn the_agent_in_a_second_container_has_a_record_of_its_own() {
    let memory = Memory::default();
    let mut all = open(&memory);
    all.begin(new("c1")).unwrap();
    all.begin(new("c2")).unwrap();
    let mut all = open(&memory);
    let mut keys: Vec<_> = all.standing().map(Quarantine::key).collect();
    keys.sort();
    assert_eq!(keys.len(), 2);
    assert!(
        keys[1].starts_with(&keys[0]) && keys[1].contains("#c2"),
        "{keys:?}"
    );
    // Frozen again it stays one record.
    all.begin(new("c2")).unwrap();
    assert_eq!(all.standing().count(), 2);
}

#[test]
fn two_containers_that_claim_one_agent_do_not_share_a_record() {
    let memory = Memory::default();
    let mut all = open(&memory);
    all.begin(new("c1")).unwrap();
    let mut impostor = new("c2");
    impostor.name = "impostor".into();
    all.begin(impostor).unwrap();
    assert_eq!(all.standing().count(), 2);
}

#[test]
fn a_failed_pause_is_asked_again_and_a_release_ends_it() {
    let memory = Memory::default();
    let mut all = open(&memory);
    all.begin(new("c1")).unwrap();
    let failed = Err(PauseFailure::NoEngine {
        why: "no socket".into(),
    });
    assert!(all.on_paused("c1", &failed, 0).unwrap().is_none());
    assert!(matches!(
        all.find("openclaw-gateway").unwrap().docker_state,
        DockerState::Failed { .. }
    ));
    assert_eq!(all.unfinished().len(), 1);

    assert!(matches!(
        all.release("nobody"),
        Err(QuarantineError::Unknown(_))
    ));
    let ToCourier::Release { quarantine } = all.release("openclaw-gateway").unwrap() else {
        panic!()
    };
    let partly = ReleaseReport {
        said: vec!["no answer".into()],
        complete: false,
        ..ReleaseReport::default()
    };
    all.on_released(&quarantine.key(), &partly, 10).unwrap();
    assert_eq!(
        all.standing().count(),
        1,
        "an incomplete release leaves it standing"
    );
    let done = ReleaseReport {
        said: vec!["unpaused".into()],
        complete: true,
        ..ReleaseReport::default()
    };
    all.on_released(&quarantine.key(), &done, 20).unwrap();
    all.on_released(&quarantine.key(), &done, 30).unwrap();
    let all = open(&memory);
    assert_eq!(all.standing().count(), 0);
    assert_eq!(all.find("openclaw-gateway").unwrap().released_at, Some(20));
    assert_eq!(
        all.last_release("openclaw-gateway", Some("openclaw-gateway")),
        Some((alert(1).rule, 20))
    );
}

#[test]
fn a_full_store_does_not_undo_the_quarantine() {
    let memory = Memory::default();
    let mut all = open(&memory);
    memory.fail(true);
    assert!(all.begin(new("c1")).is_err());
    assert!(all.of(&Container::from_id("c1")).is_some());
}

#[test]
fn first_digits_that_fit_several_find_none() {
    let memory = Memory::default();
    let mut all = open(&memory);
    let (a, b) = ("aaaa1".repeat(13), "aaaa2".repeat(13));
    all.begin(new(&a)).unwrap();
    let mut other = new(&b);
    other.name = "other".into();
    all.begin(other).unwrap();
    assert!(all.find("aaaa").is_none());
    assert_eq!(all.find("aaaa1").unwrap().container_id, a);
    assert!(all.find("aaa").is_none());
}

#[test]
fn a_record_that_cannot_be_read_does_not_stop_the_start() {
    let memory = Memory::default();
    memory.put(AREA, "x/y", b"{").unwrap();
    let (all, bad) = Quarantines::open(Arc::new(memory)).unwrap();
    assert_eq!((all.list().count(), bad.len()), (0, 1));
}

#[test]
fn the_release_command_is_safe_to_paste() {
    let mut q = new(&"c1".repeat(32));
    assert_eq!(
        q.release_command(),
        "syscall-monitor quarantine release openclaw-gateway"
    );
    for name in ["x; rm -rf /", "$(id)", "-rf", "", "a b", "x\ny"] {
        q.name = name.into();
        assert_eq!(
            q.release_command(),
            "syscall-monitor quarantine release c1c1c1c1c1c1"
        );
    }
}
