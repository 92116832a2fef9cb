//! What the other rooms rely on, one behaviour a test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::ops::ControlFlow;
use std::time::Duration;

use common::{activity, body, finding, id, open, options, time};
use history::{
    Amendment, Clause, Field, Kind, Options, Pattern, Query, Row, Store, StoreError, Why,
};

fn count(store: &Store, query: &Query) -> usize {
    store.rows(query).unwrap().len()
}

fn with(field: Field, term: &str) -> Query {
    let any = vec![Pattern::Exact(term.as_bytes().to_vec())];
    Query {
        all: vec![Clause {
            field,
            any,
            negate: false,
        }],
        ..Query::default()
    }
}

#[test]
fn a_query_sees_what_was_just_made_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 0..30 {
        store.append_durable(activity(number)).unwrap();
        assert_eq!(count(&store, &with(Field::Id, &id(number))), 1);
        assert_eq!(
            store
                .get(Kind::Activity, &id(number))
                .unwrap()
                .unwrap()
                .body,
            body(number)
        );
    }
}

#[test]
fn the_same_activity_is_stored_once_whenever_it_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let all: Vec<_> = (0..2000).map(activity).collect();
    store.append_all(all.clone()).unwrap();
    store.append_all(all[1900..].to_vec()).unwrap();
    store.flush().unwrap();
    assert_eq!(store.stats().duplicates, 100);
    drop(store);
    // Only the ids of the newest 64 blocks, 512 entries, are in memory now.
    let store = open(dir.path());
    store.append_all(all).unwrap();
    store.append(activity(2000)).unwrap();
    store.flush().unwrap();
    assert_eq!(store.stats().duplicates, 2000);
    assert_eq!(count(&store, &Query::default()), 2001);
}

#[test]
fn the_latest_state_of_an_alert_is_given_wherever_its_row_lies() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .append_durable(finding(Kind::Alert, "A-1", 10, b"count 1"))
        .unwrap();
    store
        .append_durable(finding(Kind::Alert, "A-1", 10, b"count 2"))
        .unwrap();
    assert_eq!(
        store.get(Kind::Alert, "A-1").unwrap().unwrap().body,
        b"count 2"
    );
    for number in 2..40 {
        store
            .append(finding(
                Kind::Alert,
                &format!("A-{number}"),
                number,
                b"other",
            ))
            .unwrap();
    }
    store
        .amend(Kind::Alert, "A-1", 10, b"count 3".to_vec())
        .unwrap()
        .wait()
        .unwrap();
    let rows = store.rows(&with(Field::Rule, "r")).unwrap();
    assert_eq!(rows.len(), 39);
    assert_eq!(
        rows.iter().find(|r| r.id == "A-1").unwrap().body,
        b"count 3"
    );
    drop(store);
    let store = open(dir.path());
    assert_eq!(
        store.get(Kind::Alert, "A-1").unwrap().unwrap().body,
        b"count 3"
    );
    assert_eq!(store.stats().entries[Kind::Alert.index()], 39);
}

#[test]
fn an_amendment_brings_terms_and_keeps_those_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append_all((0..700).map(activity).collect()).unwrap();
    let amend = |number: u64, term: &str, body: Option<&[u8]>| {
        let terms = vec![(Field::Alert, term.as_bytes().to_vec())];
        let body = body.map(<[u8]>::to_vec);
        let ticket = store.amend_with(Amendment {
            kind: Kind::Activity,
            id: id(number),
            time_ms: time(number),
            terms,
            body,
        });
        ticket.unwrap().wait().unwrap();
    };
    for number in [3, 699] {
        amend(number, "A-7", Some(b"late record"));
        amend(number, "A-8", None);
    }
    for term in ["A-7", "A-8"] {
        let rows = store.rows(&with(Field::Alert, term)).unwrap();
        assert_eq!(
            rows.iter().map(|r| r.id.clone()).collect::<Vec<_>>(),
            [id(3), id(699)]
        );
        assert!(rows.iter().all(|r| r.body == b"late record"));
    }
    let text = Query {
        text: Some(b"late rec".to_vec()),
        ..Query::default()
    };
    assert_eq!(count(&store, &text), 2);
    let store = {
        drop(store);
        open(dir.path())
    };
    assert_eq!(count(&store, &with(Field::Alert, "A-8")), 2);
    assert_eq!(count(&store, &with(Field::Container, "c3")), 140);
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append_all((0..500).map(activity).collect()).unwrap();
    store.flush().unwrap();
    for reverse in [false, true] {
        let mut seen: Vec<Row> = Vec::new();
        let mut after = None;
        loop {
            let query = Query {
                reverse,
                after,
                limit: Some(33),
                ..Query::default()
            };
            let before = seen.len();
            let stats = store
                .query(&query, &mut |row| {
                    seen.push(row);
                    ControlFlow::Continue(())
                })
                .unwrap();
            after = stats.next;
            assert_eq!(stats.rows_hit as usize, seen.len() - before);
            if !stats.truncated {
                break;
            }
        }
        if reverse {
            seen.reverse();
        }
        assert_eq!(
            seen.iter().map(|r| r.id.clone()).collect::<Vec<_>>(),
            (0..500).map(id).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_clock_that_goes_back_changes_the_order_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut times = Vec::new();
    for number in 0..600u64 {
        let mut entry = activity(number);
        // Every 100 entries the clock jumps back by a minute, and one entry is from the far future.
        entry.time_ms = if number == 77 {
            u64::MAX
        } else {
            time(number * 10) - number / 100 * 60_000
        };
        times.push(entry.time_ms);
        store.append(entry).unwrap();
    }
    store.flush().unwrap();
    times.sort_unstable();
    let got = |reverse| -> Vec<u64> {
        store
            .rows(&Query {
                reverse,
                ..Query::default()
            })
            .unwrap()
            .iter()
            .map(|r| r.time_ms)
            .collect()
    };
    assert_eq!(got(false), times);
    times.reverse();
    assert_eq!(got(true), times);
    let query = Query {
        since_ms: Some(times[400]),
        until_ms: Some(times[300]),
        ..Query::default()
    };
    assert_eq!(count(&store, &query), 100);
    store
        .append(
            Store::clone(&store)
                .rows(&Query {
                    limit: Some(1),
                    ..Query::default()
                })
                .map(|_| activity(0))
                .unwrap(),
        )
        .unwrap();
    store.flush().unwrap();
    assert_eq!(store.stats().duplicates, 1);
}

#[test]
fn a_store_that_is_in_use_names_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "second_opener", "--nocapture"])
        .env("HISTORY_TEST_SECOND", dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(&format!("in use by process {}", std::process::id())),
        "{text}"
    );
    drop(store);
}

/// Not a test of its own: the other process of the test above.
#[test]
fn second_opener() {
    let Ok(dir) = std::env::var("HISTORY_TEST_SECOND") else {
        println!("skipped: runs as a child");
        return;
    };
    match Store::open(dir.as_ref(), options()) {
        Err(error @ StoreError::Locked { pid: Some(_), .. }) => println!("{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_for_reading_takes_nothing_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append_all((0..20).map(activity).collect()).unwrap();
    drop(store);
    let store = Store::open(
        dir.path(),
        Options {
            read_only: true,
            ..options()
        },
    )
    .unwrap();
    assert_eq!(count(&store, &Query::default()), 20);
    assert_eq!(store.append(activity(99)).unwrap_err().why, Why::ReadOnly);
    assert!(matches!(
        store.append_durable(activity(99)),
        Err(StoreError::ReadOnly)
    ));
    assert!(matches!(store.next_number("x"), Err(StoreError::ReadOnly)));
    store.close().unwrap();
    let store = open(dir.path());
    assert_eq!((store.stats().blocks, store.stats().open_entries), (2, 4));
}

#[test]
fn age_removes_activities_first_and_their_alerts_later() {
    let dir = tempfile::tempdir().unwrap();
    let day = Duration::from_secs(86_400);
    let options = Options {
        max_age: Some(day),
        max_age_findings: Some(day * 10),
        ..options()
    };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    // Two super-blocks of 512, and a rest.
    for number in 0..1100 {
        store.append(activity(number)).unwrap();
    }
    let mut marked = activity(5000);
    marked.terms.push(Field::Alert, b"A-1");
    store.append(marked).unwrap();
    store
        .append_all(
            (0..600)
                .map(|n| finding(Kind::Alert, &format!("A-{n}"), time(n), b"a"))
                .collect(),
        )
        .unwrap();
    store
        .amend(Kind::Activity, &id(3), time(3), b"amended".to_vec())
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(store.enforce(time(0) + 80_000_000).unwrap().blocks, 0);
    let gone = store.enforce(time(511) + 86_400_001).unwrap();
    assert_eq!(
        (gone.blocks, gone.entries, gone.until_ms),
        (64, 512, time(511))
    );
    assert_eq!(store.get(Kind::Activity, &id(511)).unwrap(), None);
    // What retention took does not come back, and a late record for it is no trouble.
    store.append(activity(511)).unwrap();
    store
        .amend(Kind::Activity, &id(511), time(511), b"late".to_vec())
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(store.get(Kind::Activity, &id(511)).unwrap(), None);
    assert_eq!(
        store.get(Kind::Activity, &id(512)).unwrap().unwrap().body,
        body(512)
    );
    assert_eq!(
        store.get(Kind::Activity, &id(5000)).unwrap().unwrap().body,
        body(5000)
    );
    let report = store.verify(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(report.problems, []);
    drop(store);
    let store = Store::open(dir.path(), options).unwrap();
    assert_eq!(store.stats().entries, [589, 600, 0, 0]);
    assert_eq!(
        store
            .rows(&Query {
                kinds: vec![Kind::Activity],
                limit: Some(1),
                ..Query::default()
            })
            .unwrap()[0]
            .id,
        id(512)
    );
    assert_eq!(
        store.enforce(time(5000) + 864_000_001).unwrap().entries,
        // Whole blocks of eight.
        584 + 600
    );
    assert_eq!(
        store
            .verify(&mut |_| ControlFlow::Continue(()))
            .unwrap()
            .problems,
        []
    );
}

#[test]
fn a_budget_removes_the_oldest_and_alerts_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(
        dir.path(),
        Options {
            max_bytes: Some(200_000),
            ..options()
        },
    )
    .unwrap();
    store
        .append_all(
            (0..600)
                .map(|n| finding(Kind::Alert, &format!("A-{n}"), 1 + n, b"a"))
                .collect(),
        )
        .unwrap();
    store.append_all((0..4000).map(activity).collect()).unwrap();
    store.flush().unwrap();
    let before = store.stats().value_bytes;
    let gone = store.enforce(time(5000)).unwrap();
    let stats = store.stats();
    assert_eq!(before - stats.value_bytes, gone.bytes);
    assert!(gone.blocks > 0 && stats.value_bytes <= 100_000, "{stats:?}");
    assert_eq!(stats.entries[Kind::Alert.index()], 600);
    assert_eq!(
        store
            .rows(&Query {
                reverse: true,
                limit: Some(1),
                ..Query::default()
            })
            .unwrap()[0]
            .id,
        id(3999)
    );
}

#[test]
fn a_full_disk_stops_the_intake_and_not_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(
        dir.path(),
        Options {
            min_free_bytes: u64::MAX,
            ..options()
        },
    )
    .unwrap();
    let began = std::time::Instant::now();
    let why = loop {
        match store.append(activity(began.elapsed().as_nanos() as u64)) {
            Ok(()) => assert!(began.elapsed() < Duration::from_secs(5)),
            Err(dropped) => break dropped.why,
        }
    };
    assert_eq!(why, Why::DiskFull);
    store.area("x").put(b"k", b"commands still work").unwrap();
    assert!(store.stats().dropped > 0);
}

#[test]
fn queues_and_areas_keep_what_they_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (queue, other) = (store.queue("outbox"), store.queue("outbox2"));
    let large = vec![7; 700_000];
    let first = queue.push(&large).unwrap();
    let second = queue.push(b"two").unwrap();
    other.push(b"another queue").unwrap();
    queue.update(first, b"one").unwrap();
    assert_eq!(
        queue.list().unwrap(),
        [(first, b"one".to_vec()), (second, b"two".to_vec())]
    );
    queue.remove(second).unwrap();
    let area = store.area("trust");
    area.put(b"agent/a", b"100").unwrap();
    area.put(b"agent/b", &large).unwrap();
    area.change(&[(b"agent/a", None), (b"agent/c", Some(b"3"))])
        .unwrap();
    drop((store, queue, other, area));
    let store = open(dir.path());
    let queue = store.queue("outbox");
    assert_eq!(queue.list().unwrap(), [(first, b"one".to_vec())]);
    assert!(
        queue.push(b"three").unwrap() > second,
        "a number comes only once"
    );
    let area = store.area("trust");
    assert_eq!(area.get(b"agent/a").unwrap(), None);
    assert_eq!(area.get(b"agent/b").unwrap().unwrap(), large);
    assert_eq!(area.scan(b"agent/").unwrap().len(), 2);
    area.delete(b"agent/b").unwrap();
    assert_eq!(
        area.scan(b"").unwrap(),
        [(b"agent/c".to_vec(), b"3".to_vec())]
    );
    assert_eq!(
        store
            .verify(&mut |_| ControlFlow::Continue(()))
            .unwrap()
            .problems,
        []
    );
}

#[test]
fn numbers_go_on_without_a_gap_after_an_orderly_end() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = open(dir.path());
        let numbers: Vec<u64> = (0..40)
            .map(|_| store.next_number("alert").unwrap())
            .collect();
        assert_eq!(
            numbers,
            (round * 40 + 1..=round * 40 + 40).collect::<Vec<_>>()
        );
        let left = store.clone();
        store.close().unwrap();
        assert!(
            matches!(left.next_number("alert"), Err(StoreError::Closed)),
            "the lease ended with the store"
        );
    }
}

#[test]
fn leased_numbers_go_back_at_an_orderly_end_and_others_get_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut numbers = store.lease_numbers("alert", 8).unwrap();
    let taken: Vec<u64> = (0..20).map(|_| numbers.next().unwrap()).collect();
    assert_eq!(taken, (1..=20).collect::<Vec<_>>());
    drop(numbers);
    assert_eq!(store.next_number("alert").unwrap(), 21);
    // What somebody else took in between is not given twice.
    let mut numbers = store.lease_numbers("alert", 8).unwrap();
    assert_eq!(numbers.next().unwrap(), 22);
    assert_eq!(store.next_number("alert").unwrap(), 30);
    drop(numbers);
    assert_eq!(store.next_number("alert").unwrap(), 31);
    store.close().unwrap();
    let store = open(dir.path());
    let mut numbers = store.lease_numbers("alert", 8).unwrap();
    assert_eq!(numbers.next().unwrap(), 32);
    store.clone().close().unwrap();
    // The lease was durable, so its numbers are good; more are not to be had.
    let rest: Vec<u64> = std::iter::from_fn(|| numbers.next().ok()).collect();
    assert_eq!(rest, (33..40).collect::<Vec<_>>());
    assert!(matches!(numbers.next(), Err(StoreError::Closed)));
}

#[test]
fn a_number_in_a_lease_is_never_given_again_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut numbers = store.lease_numbers("alert", 8).unwrap();
    let last = (0..6).map(|_| numbers.next().unwrap()).last().unwrap();
    store.flush().unwrap();
    // As after a kill: what is durable now, with the lease open.
    store.snapshot(&copy.path().join("store")).unwrap();
    let after = open(&copy.path().join("store"));
    let first = after.lease_numbers("alert", 8).unwrap().next().unwrap();
    assert!(first > last && first <= last + 16, "{last} then {first}");
}

#[test]
fn followers_see_new_rows_and_slow_ones_hear_how_many_they_missed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append_durable(activity(0)).unwrap();
    let (mut quick, mut slow) = (store.subscribe(100), store.subscribe(5));
    store.append_all((1..21).map(activity).collect()).unwrap();
    store.flush().unwrap();
    let ids = |s: &mut history::Subscription| {
        std::iter::from_fn(|| s.try_next())
            .map(|r| r.id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&mut quick), (1..21).map(id).collect::<Vec<_>>());
    assert_eq!(ids(&mut slow), (1..6).map(id).collect::<Vec<_>>());
    assert_eq!((quick.lagged(), slow.lagged()), (0, 15));
}

#[test]
fn a_copy_of_a_running_store_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append_all((0..1500).map(activity).collect()).unwrap();
    store.area("a").put(b"k", b"v").unwrap();
    store
        .amend(Kind::Activity, &id(9), time(9), b"amended".to_vec())
        .unwrap()
        .wait()
        .unwrap();
    let copy = dir.path().join("copy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1500.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                store.append_durable(activity(number)).unwrap();
            }
        });
        store.snapshot(&copy).unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let copied = open(&copy);
    assert_eq!(
        copied
            .verify(&mut |_| ControlFlow::Continue(()))
            .unwrap()
            .problems,
        []
    );
    let rows = copied.rows(&Query::default()).unwrap();
    assert!(rows.len() >= 1500);
    assert!(
        rows.iter()
            .enumerate()
            .all(|(n, row)| row.id == id(n as u64))
    );
    assert_eq!(rows[9].body, b"amended");
    assert_eq!(copied.area("a").get(b"k").unwrap().unwrap(), b"v");
    assert!(store.snapshot(&copy).is_err());
}

#[test]
fn large_and_hostile_entries_are_taken_or_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut noise = 1u64;
    let mut random = |size: usize| -> Vec<u8> {
        std::iter::repeat_with(|| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 33) as u8
        })
        .take(size)
        .collect()
    };
    let mut large = activity(1);
    large.body = random(3 << 20);
    large.terms = (0..600).map(|_| (Field::Path, random(2000))).collect();
    store.append_durable(large.clone()).unwrap();
    let mut huge = activity(2);
    huge.body = vec![0; 9 << 20];
    assert!(matches!(
        store.append(huge).unwrap_err().why,
        Why::TooLarge(_)
    ));
    for number in 3..20 {
        store.append(activity(number)).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(
        store.get(Kind::Activity, &id(1)).unwrap().unwrap().body,
        large.body
    );
    let term = large.terms.iter().nth(5).unwrap().1.to_vec();
    let query = Query {
        all: vec![Clause {
            field: Field::Path,
            any: vec![Pattern::Exact(term)],
            negate: false,
        }],
        ..Query::default()
    };
    assert_eq!(count(&store, &query), 1);
    let stats = store.stats();
    assert_eq!((stats.dropped, stats.terms_cut), (1, 88));
    drop(store);
    assert_eq!(
        open(dir.path())
            .get(Kind::Activity, &id(1))
            .unwrap()
            .unwrap()
            .body,
        large.body
    );
    let blobs = std::fs::read_dir(dir.path().join("sled/blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0, "no value may go into a file of its own");
}
