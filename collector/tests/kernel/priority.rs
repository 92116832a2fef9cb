//! Real-time priority: given, bounded, and taken back.

use super::*;
use std::sync::Arc;

use collector::realtime::{
    Held, HeldCounters, MAX_PRIORITY, RealtimeError, kauditd, kauditd_scheduling, raise_kauditd,
};

/// Thread id of our reader.
fn reader_thread() -> Option<i32> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let comm = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            (comm == "audit-reader\n").then(|| entry.file_name().to_str()?.parse().ok())?
        })
        .next()
}

#[test]
fn the_reader_runs_at_the_priority_that_was_asked_for_but_no_higher() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let (tx, _rx) = mpsc::channel(8);
    let options = ReaderOptions {
        realtime: Some(99),
        ..ReaderOptions::default()
    };
    let reader = Reader::start(options, tx).unwrap();
    let found = collector_sys::scheduling(reader_thread().unwrap()).unwrap();
    match reader.realtime_refused() {
        None => assert!(
            found.is_realtime() && found.priority == i32::from(MAX_PRIORITY),
            "{found:?}"
        ),
        Some(why) => assert!(!found.is_realtime(), "{why}: {found:?}"),
    }
    reader.stop().unwrap();
}

#[test]
fn the_kernels_thread_gets_its_priority_back_also_after_we_were_killed() {
    let Some(kernel) = Kernel::take() else { return };
    let before = kauditd_scheduling().expect("kauditd is to be seen from the initial namespace");
    match raise_kauditd(5) {
        Ok(()) => {
            let now = collector_sys::scheduling(kauditd().unwrap()).unwrap();
            assert!(now.is_realtime() && now.priority == 5, "{now:?}");
        }
        // Refused without harm.
        Err(RealtimeError::Refused { .. }) => assert_eq!(kauditd_scheduling(), Some(before)),
        Err(e) => panic!("{e}"),
    }
    // Whoever was killed left this file, and `restore` reads it.
    let json = serde_json::to_string(&kernel.before).unwrap();
    let saved: SavedState = serde_json::from_str(&json).unwrap();
    let lines = saved.restore(&mut control()).unwrap();
    assert_eq!(kauditd_scheduling(), Some(before));
    assert!(
        before.policy != 0 || lines.iter().any(|line| line.contains("former priority")),
        "{lines:?}"
    );
    assert_eq!(saved.restore(&mut control()).unwrap(), Vec::<String>::new());
}

/// What a thread says from inside about its scheduling.
fn now() -> collector_sys::Scheduling {
    collector_sys::scheduling(0).unwrap()
}

#[test]
fn a_thread_that_never_waits_becomes_an_ordinary_one_before_the_kernel_ends_it() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    std::thread::spawn(|| {
        let before = now();
        let counters = Arc::new(HeldCounters::default());
        let held = match Held::take("spinner", 2, Arc::clone(&counters)) {
            Ok(held) => held,
            // Refused without harm.
            Err(e) => return assert_eq!(now(), before, "{e}"),
        };
        assert!(now().is_realtime() && now().priority == 2, "{:?}", now());
        let begin = collector_sys::thread_usage().unwrap().cpu;
        let until = Instant::now() + Duration::from_secs(20);
        while counters.given_up.load(Ordering::Relaxed) == 0 && Instant::now() < until {
            held.look();
        }
        let used = collector_sys::thread_usage().unwrap().cpu - begin;
        assert_eq!(counters.given_up.load(Ordering::Relaxed), 1);
        assert!(!counters.held.load(Ordering::Relaxed));
        assert_eq!(now(), before);
        // The kernel's own bound is two seconds.
        assert!(used < Duration::from_millis(1900), "{used:?}");
    })
    .join()
    .unwrap();
}

#[test]
fn a_thread_that_waits_keeps_its_priority_and_gives_it_back_at_the_end() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    std::thread::spawn(|| {
        let before = now();
        let counters = Arc::new(HeldCounters::default());
        let Ok(held) = Held::take("waiter", 2, Arc::clone(&counters)) else {
            return assert_eq!(now(), before);
        };
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
            held.look();
        }
        assert!(now().is_realtime(), "{:?}", now());
        assert!(counters.held.load(Ordering::Relaxed));
        drop(held);
        assert_eq!(now(), before);
        assert!(!counters.held.load(Ordering::Relaxed));
        assert_eq!(counters.given_up.load(Ordering::Relaxed), 0);
    })
    .join()
    .unwrap();
}
