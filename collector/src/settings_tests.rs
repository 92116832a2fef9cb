//! Tests of the settings.

use super::*;
use proptest::prelude::*;

fn good() -> (Status, Wanted) {
    let wanted = Wanted {
        owner: Some(7),
        ..Wanted::new(8192, MAX_BACKLOG_WAIT)
    };
    let status = Status {
        enabled: 1,
        failure: 1,
        pid: 7,
        backlog_limit: 8192,
        backlog_wait_time: wanted.backlog_wait_time,
        ..Status::default()
    };
    (status, wanted)
}

#[test]
fn what_is_as_wanted_is_left_alone() {
    let (status, wanted) = good();
    assert_eq!(check_settings(&status, &wanted), []);
    for fine in [
        Status {
            failure: 0,
            ..status
        },
        Status {
            enabled: 2,
            ..status
        },
        Status {
            backlog_limit: 20_000,
            ..status
        },
    ] {
        assert_eq!(check_settings(&fine, &wanted), []);
    }
}

#[test]
fn every_setting_that_blinds_or_stalls_is_named() {
    let (status, wanted) = good();
    for (bad, what) in [
        (
            Status {
                enabled: 0,
                ..status
            },
            "enabled",
        ),
        (
            Status {
                rate_limit: 1233,
                ..status
            },
            "rate_limit",
        ),
        (
            Status {
                failure: 2,
                ..status
            },
            "failure",
        ),
        (
            Status {
                backlog_limit: 64,
                ..status
            },
            "backlog_limit",
        ),
        (
            Status {
                backlog_limit: 0,
                ..status
            },
            "backlog_limit",
        ),
        (
            Status {
                backlog_wait_time: 15_000,
                ..status
            },
            "backlog_wait_time",
        ),
        (
            Status {
                backlog_wait_time: 0,
                ..status
            },
            "backlog_wait_time",
        ),
        (Status { pid: 8, ..status }, "pid"),
    ] {
        let drifts = check_settings(&bad, &wanted);
        assert_eq!(
            drifts.iter().map(|drift| drift.what).collect::<Vec<_>>(),
            [what]
        );
    }
}

#[test]
fn no_wait_is_longer_than_a_tenth_of_a_second() {
    let wanted = Wanted::new(1, Duration::from_secs(60));
    assert!(duration_of(wanted.backlog_wait_time) <= Duration::from_millis(100));
    assert_eq!(wanted.backlog_limit, 64);
}

#[test]
fn a_state_survives_json_and_a_strange_one_is_refused() {
    let state = SavedState {
        schema: SCHEMA.into(),
        boot_id: "x".into(),
        taken_at_ms: 1,
        status: good().0,
        rules: vec![SavedRule {
            bytes: "00ff".into(),
            text: "-w /x -p wa".into(),
        }],
        kauditd: None,
    };
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<SavedState>(&json).unwrap(), state);
    assert!(serde_json::from_str::<SavedState>(&json.replace("taken_at_ms", "taken")).is_err());
    assert!(!state.matches_boot());
}

proptest! {
    #[test]
    fn hexadecimal_is_exact(bytes: Vec<u8>, text in "\\PC{0,9}") {
        prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        let _ = from_hex(&text);
    }
}
