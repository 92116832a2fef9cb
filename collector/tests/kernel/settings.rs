//! Settings and ownership: put right, and back again.

use super::*;

#[test]
fn settings_are_put_right_and_back_again() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let found = Change {
        rate_limit: Some(1233),
        backlog_limit: Some(70),
        backlog_wait_time: Some(777),
        enabled: Some(0),
        ..Change::default()
    };
    control.set(&found).unwrap();
    let before = SavedState::capture(&mut control).unwrap();
    let wanted = Wanted::default();
    let drifts = assert_settings(&mut control, &wanted).unwrap();
    assert!(
        drifts
            .iter()
            .any(|drift| drift.what == "rate_limit" && drift.found == 1233 && drift.put_right),
        "{drifts:?}"
    );
    assert_eq!(assert_settings(&mut control, &wanted).unwrap(), []);
    let status = control.status().unwrap();
    assert_eq!((status.enabled, status.rate_limit), (1, 0));
    assert!(collector::settings::backlog_wait(&status) <= Duration::from_millis(100));
    assert!(status.backlog_wait_time_actual.is_some());

    let json = serde_json::to_string_pretty(&before).unwrap();
    let saved: SavedState = serde_json::from_str(&json).unwrap();
    let lines = saved.restore(&mut control).unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("backlog_wait_time is 777 again")),
        "{lines:?}"
    );
    assert_eq!(
        saved.restore(&mut control).unwrap(),
        Vec::<String>::new(),
        "a second time nothing is left to do"
    );
    let (now, was) = (control.status().unwrap(), saved.status);
    assert_eq!(
        (
            now.enabled,
            now.failure,
            now.pid,
            now.rate_limit,
            now.backlog_limit,
            now.backlog_wait_time
        ),
        (
            was.enabled,
            was.failure,
            was.pid,
            was.rate_limit,
            was.backlog_limit,
            was.backlog_wait_time
        )
    );
}

#[test]
fn the_state_is_restored_after_the_owner_was_killed() {
    let Some(kernel) = Kernel::take() else { return };
    let mut child = Owner::start();
    let mut control = control();
    assert_eq!(control.status().unwrap().pid, child.pid());
    assert!(control.rules().unwrap().iter().any(Rule::is_ours));
    let me = Change {
        pid: Some(0),
        ..Change::default()
    };
    assert!(
        matches!(control.set(&me), Err(ControlError::OwnerExists)),
        "only the owner may end its ownership"
    );
    child.kill();
    kernel.before.restore(&mut control).unwrap();
    let (now, was) = (control.status().unwrap(), kernel.before.status);
    assert_eq!(
        (
            now.enabled,
            now.pid,
            now.rate_limit,
            now.backlog_limit,
            now.backlog_wait_time
        ),
        (
            was.enabled,
            0,
            was.rate_limit,
            was.backlog_limit,
            was.backlog_wait_time
        )
    );
    assert!(!control.rules().unwrap().iter().any(Rule::is_ours));
}
