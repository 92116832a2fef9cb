//! What was acknowledged is there after kill -9: once, whole, and nothing is torn. SYSCALL_MONITOR_KILL_ROUNDS says how often (20);
//! SYSCALL_MONITOR_LONG=1 makes 200 rounds on a store of 50,000 entries.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{activity, body, finding, id, open, options};
use history::{Kind, Options, Query, Store};

/// Entries of the store before it is killed for the first time, in the long form.
const LONG_ENTRIES: u64 = 50_000;

fn is_long() -> bool {
    std::env::var_os("SYSCALL_MONITOR_LONG").is_some()
}

/// Small blocks, and in the long form those of the program.
fn open_for_kill(dir: &Path) -> Store {
    let rows = if is_long() { 1024 } else { 8 };
    let options = Options {
        block_rows: rows,
        ..options()
    };
    Store::open(dir, options).unwrap()
}

const CHILD: &str = "HISTORY_TEST_CHILD_DIR";

/// Not a test of its own: the process that is killed. It writes from where the store ends and prints what is acknowledged.
#[test]
fn writer_process() {
    let Ok(dir) = std::env::var(CHILD) else {
        println!("skipped: runs as the child of what_is_acknowledged_survives_kill_9");
        return;
    };
    let store = open_for_kill(Path::new(&dir));
    let start = store.stats().entries[Kind::Activity.index()];
    // What came last is sent again, as a source does after a restart.
    for number in start.saturating_sub(20)..start {
        store.append(activity(number)).unwrap();
    }
    let repeated = 20.min(start);
    // The harness has begun a line of its own.
    println!("\nstart {start}");
    let queue = store.queue("outbox");
    for number in start.. {
        store.append(activity(number)).unwrap();
        if number % 16 == 0 {
            store
                .append_durable(finding(
                    Kind::Alert,
                    &format!("A-{number}"),
                    common::time(number),
                    b"alert",
                ))
                .unwrap();
            println!("alert {number}");
        }
        if number % 64 == 0 {
            let given = store.next_number("alert").unwrap();
            println!("number {given}");
            let item = queue.push(format!("item {number}").as_bytes()).unwrap();
            println!("item {item} {number}");
            let _ticket = store
                .amend(
                    Kind::Activity,
                    &id(number),
                    common::time(number),
                    b"amended".to_vec(),
                )
                .unwrap();
        }
        let alerts = (start..=number).filter(|n| n % 16 == 0).count() as u64;
        let amended = (start..=number).filter(|n| n % 64 == 0).count() as u64;
        let durable = store
            .acknowledged()
            .saturating_sub(repeated + alerts + amended);
        println!("durable {}", start + durable);
        if number % 200 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[derive(Default)]
struct Told {
    durable: u64,
    alerts: Vec<u64>,
    items: Vec<(u64, u64)>,
}

fn run_and_kill(dir: &Path, after: Duration, told: &mut Told, last_number: &mut u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "writer_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (pid, mut started) = (child.id(), None::<Instant>);
    for line in out.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| words.get(place).and_then(|w| w.parse::<u64>().ok());
        match (words[0], number(1)) {
            ("start", Some(start)) => {
                assert!(
                    start >= told.durable,
                    "acknowledged {} but only {start} are there",
                    told.durable
                );
                started = Some(Instant::now());
            }
            ("durable", Some(n)) => told.durable = told.durable.max(n),
            ("alert", Some(n)) => told.alerts.push(n),
            ("item", Some(item)) => told.items.push((item, number(2).unwrap())),
            ("number", Some(n)) => {
                assert!(
                    n > *last_number,
                    "number {n} was given before (last {last_number})"
                );
                *last_number = n;
            }
            _ => {}
        }
        if started.is_some_and(|at| at.elapsed() >= after) {
            // Its own child, by its pid; what it still wrote into the pipe is read on.
            started = None;
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid as i32).unwrap(),
                rustix::process::Signal::KILL,
            )
            .unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
}

fn check(store: &Store, told: &Told) {
    let mut next = 0;
    let query = Query {
        kinds: vec![Kind::Activity],
        ..Query::default()
    };
    let stats = store
        .query(&query, &mut |row| {
            assert_eq!(row.id, id(next), "a hole or a repeat");
            let expected = body(next);
            assert!(
                row.body == expected || (next % 64 == 0 && row.body == b"amended"),
                "torn body of {next}"
            );
            next += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(stats.blocks_damaged, 0);
    assert!(
        next >= told.durable,
        "acknowledged {} but only {next} are there",
        told.durable
    );
    for number in &told.alerts {
        assert!(
            store
                .get(Kind::Alert, &format!("A-{number}"))
                .unwrap()
                .is_some(),
            "alert {number} is lost"
        );
    }
    let items = store.queue("outbox").list().unwrap();
    for (item, number) in &told.items {
        assert!(
            items.contains(&(*item, format!("item {number}").into_bytes())),
            "item {item} is lost"
        );
    }
    let report = store.verify(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn what_is_acknowledged_survives_kill_9() {
    let rounds: u64 = std::env::var("SYSCALL_MONITOR_KILL_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(if is_long() { 200 } else { 20 });
    let dir = tempfile::tempdir().unwrap();
    let (mut told, mut number, mut slowest) = (Told::default(), 0, Duration::ZERO);
    if is_long() {
        let store = open_for_kill(dir.path());
        for start in (0..LONG_ENTRIES).step_by(1000) {
            store
                .append_all((start..start + 1000).map(activity).collect())
                .unwrap();
            store.flush().unwrap();
        }
        told.durable = LONG_ENTRIES;
    }
    for round in 0..rounds {
        let after = Duration::from_millis(20 + round * 67 % 400);
        run_and_kill(dir.path(), after, &mut told, &mut number);
        let began = Instant::now();
        let store = open_for_kill(dir.path());
        slowest = slowest.max(began.elapsed());
        check(&store, &told);
        // Sometimes an orderly end comes between.
        if round % 5 == 4 {
            store.close().unwrap();
        }
    }
    println!(
        "{rounds} rounds, {} entries acknowledged, slowest open {slowest:?}",
        told.durable
    );
}

#[test]
fn an_entry_is_durable_soon_without_being_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(activity(0)).unwrap();
    let began = Instant::now();
    while store.acknowledged() == 0 {
        assert!(began.elapsed() < Duration::from_secs(5));
        std::thread::yield_now();
    }
    assert!(
        began.elapsed() < Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        store.stats().blocks,
        0,
        "it is durable before its block is sealed"
    );
    drop(store);
    assert!(
        open(dir.path())
            .get(Kind::Activity, &id(0))
            .unwrap()
            .is_some()
    );
}
