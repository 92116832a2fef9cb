//! What the module's head promises, one behaviour a test.

use super::*;
use crate::record::RecordType as T;
use proptest::prelude::*;

struct Bench {
    assembler: Assembler,
    start: Instant,
    out: Vec<Assembled>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self {
            assembler: Assembler::new(limits),
            start: Instant::now(),
            out: Vec::new(),
        }
    }

    fn push_at(&mut self, ms: u64, serial: u32, kind: T, body: &str) {
        let now = self.start + Duration::from_millis(ms);
        self.assembler.push(
            None,
            kind,
            1000,
            serial,
            body.as_bytes(),
            now,
            &mut self.out,
        );
    }

    fn push(&mut self, serial: u32, kind: T, body: &str) {
        self.push_at(0, serial, kind, body);
    }

    fn tick(&mut self, ms: u64) {
        self.assembler
            .tick(self.start + Duration::from_millis(ms), &mut self.out);
    }

    /// Serial number, completeness, and bodies of the events; amendments as `+body`.
    fn take(&mut self) -> Vec<String> {
        self.out.drain(..).map(|one| show(&one)).collect()
    }
}

fn show(one: &Assembled) -> String {
    match one {
        Assembled::Event(event) => {
            let bodies: Vec<_> = event
                .records()
                .map(|r| String::from_utf8_lossy(r.body).into_owned())
                .collect();
            format!(
                "{}{} {}",
                event.id.serial,
                if event.complete { "" } else { "?" },
                bodies.join(" ")
            )
        }
        Assembled::Amendment { id, body, .. } => {
            format!("{}+ {}", id.serial, String::from_utf8_lossy(body))
        }
    }
}

#[test]
fn the_end_completes_and_events_interleave() {
    let mut bench = Bench::new(Limits::default());
    bench.push(1, T::SYSCALL, "s1");
    bench.push(2, T::SYSCALL, "s2");
    bench.push(1, T::PATH, "p1");
    bench.push(2, T::EOE, "");
    bench.push(1, T::PROCTITLE, "t1");
    assert_eq!(bench.take(), ["2 s2"]);
    bench.push(1, T::EOE, "");
    assert_eq!(bench.take(), ["1 s1 p1 t1"]);
    assert_eq!(bench.assembler.open(), (0, 0));
    assert_eq!(bench.assembler.next_deadline(), None);
}

#[test]
fn what_stands_alone_is_there_at_once() {
    let mut bench = Bench::new(Limits::default());
    bench.push(1, T::SECCOMP, "a");
    bench.push(2, T::USER_LOGIN, "b");
    bench.push(3, T::ANOM_ABEND, "c");
    assert_eq!(bench.take(), ["1 a", "2 b", "3 c"]);
}

#[test]
fn a_change_of_configuration_waits_shortly_for_its_call() {
    let mut bench = Bench::new(Limits::default());
    bench.push(1, T::CONFIG_CHANGE, "alone");
    bench.push(2, T::LOGIN, "login");
    bench.push_at(100, 2, T::SYSCALL, "write");
    bench.tick(199);
    assert_eq!(bench.take(), [""; 0]);
    assert_eq!(bench.assembler.next_deadline(), Some(bench.start + LINGER));
    bench.tick(200);
    assert_eq!(bench.take(), ["1 alone"]);
    bench.push_at(300, 2, T::EOE, "");
    assert_eq!(bench.take(), ["2 login write"]);
}

#[test]
fn what_can_stand_alone_comes_first_in_the_event_of_its_call() {
    // As Linux 6.18 orders them, see tests/corpus.
    for first in [
        T::LOGIN,
        T::CONFIG_CHANGE,
        T::ANOM_PROMISCUOUS,
        T::KERN_MODULE,
        T::NETFILTER_CFG,
        T::BPF,
        T::AVC,
        T::MAC_STATUS,
    ] {
        let mut bench = Bench::new(Limits::default());
        bench.push(1, first, "first");
        bench.push(2, T::SYSCALL, "other");
        bench.push(2, T::EOE, "");
        assert_eq!(bench.take(), ["2 other"], "{first}: nobody waits for it");
        bench.push(1, T::SYSCALL, "call");
        bench.push(1, T::PROCTITLE, "title");
        bench.push(1, T::EOE, "");
        assert_eq!(bench.take(), ["1 first call title"], "{first}");
        bench.tick(10_000);
        assert_eq!(bench.take(), [""; 0]);
    }
}

#[test]
fn what_began_before_we_listened_is_an_event_of_its_rest() {
    let mut bench = Bench::new(Limits::default());
    bench.push(7, T::PATH, "p");
    bench.push(7, T::PROCTITLE, "t");
    bench.push(7, T::EOE, "");
    bench.push(8, T::EOE, "");
    bench.push(9, T::SYSCALL, "s");
    bench.push(9, T::EOE, "");
    assert_eq!(bench.take(), ["7 p t", "9 s"]);
    assert_eq!(bench.assembler.counters().stray_ends, 1);
}

#[test]
fn serial_numbers_wrap_without_a_gap() {
    let mut bench = Bench::new(Limits::default());
    for serial in [u32::MAX - 1, u32::MAX, 0, 1] {
        bench.push(serial, T::SYSCALL, "s");
        bench.push(serial, T::EOE, "");
    }
    assert_eq!(bench.take(), ["4294967294 s", "4294967295 s", "0 s", "1 s"]);
    bench.tick(10_000);
    let counters = bench.assembler.counters();
    assert_eq!((counters.serial_gaps, counters.serial_restarts), (0, 0));
}

#[test]
fn a_record_is_late_also_behind_a_hundred_thousand_events() {
    let mut bench = Bench::new(Limits::default());
    for serial in 1..=100_000 {
        bench.push(serial, T::SYSCALL, "s");
        bench.push(serial, T::EOE, "");
        bench.out.clear();
    }
    bench.push(1, T::PATH, "late");
    bench.push(90_000, T::SYSCALL, "s");
    assert_eq!(bench.take(), ["1+ late"], "an amendment, and a duplicate");
    let counters = bench.assembler.counters();
    assert_eq!(
        (counters.events, counters.amendments, counters.duplicates),
        (100_000, 1, 1)
    );
}

#[test]
fn a_timer_closes_what_has_no_end() {
    let mut bench = Bench::new(Limits::default());
    bench.push(1, T::SYSCALL, "s");
    bench.push_at(1500, 2, T::SYSCALL, "t");
    bench.tick(1999);
    assert_eq!(bench.take(), [""; 0]);
    bench.tick(2000);
    assert_eq!(bench.take(), ["1? s"]);
    bench.push_at(2100, 1, T::PATH, "late");
    bench.push_at(2100, 1, T::EOE, "");
    assert_eq!(bench.take(), ["1+ late"]);
    assert_eq!(
        bench.assembler.next_deadline(),
        Some(bench.start + Duration::from_millis(3500))
    );
    let counters = bench.assembler.counters();
    assert_eq!(
        (counters.timed_out, counters.amendments, counters.events),
        (1, 1, 1)
    );
}

#[test]
fn a_late_record_amends_and_a_repeated_one_does_not() {
    let mut bench = Bench::new(Limits::default());
    bench.push(1, T::SYSCALL, "s");
    bench.push(1, T::SYSCALL, "s");
    bench.push(1, T::EOE, "");
    bench.push(1, T::SYSCALL, "s");
    bench.push(1, T::PATH, "p");
    bench.push(1, T::PATH, "p");
    bench.push(1, T::EOE, "");
    bench.push(2, T::USER_LOGIN, "u");
    bench.push(2, T::USER_LOGIN, "u");
    bench.push(9, T::EOE, "");
    assert_eq!(bench.take(), ["1 s", "1+ p", "2 u"]);
    let counters = bench.assembler.counters();
    assert_eq!(
        (
            counters.records,
            counters.duplicates,
            counters.amendments,
            counters.stray_ends
        ),
        (10, 4, 1, 1)
    );
}

#[test]
fn memory_is_bounded_and_the_oldest_makes_room() {
    let mut bench = Bench::new(Limits {
        max_events: 2,
        ..Limits::default()
    });
    for serial in 1..=3 {
        bench.push(serial, T::SYSCALL, "s");
    }
    assert_eq!(bench.take(), ["1? s"]);
    let mut bench = Bench::new(Limits {
        max_bytes: 100_000,
        ..Limits::default()
    });
    let big = "x".repeat(8000);
    for n in 0..100 {
        bench.push(1, T::EXECVE, &format!("{n}{big}"));
        assert!(bench.assembler.open().1 <= 100_000);
    }
    bench.push(2, T::SYSCALL, "s");
    let events = bench
        .out
        .iter()
        .filter(|o| matches!(o, Assembled::Event(_)))
        .count();
    assert_eq!((events, bench.out.len()), (1, 1 + 100 - 13));
    assert_eq!(bench.assembler.counters().evicted, 1);
}

#[test]
fn the_end_of_the_input_closes_everything() {
    let mut bench = Bench::new(Limits::default());
    bench.push(1, T::SYSCALL, "s");
    bench.push(2, T::CONFIG_CHANGE, "c");
    bench.assembler.finish(&mut bench.out);
    assert_eq!(bench.take(), ["2 c", "1? s"]);
    assert_eq!(bench.assembler.counters().unfinished, 1);
}

#[test]
fn lost_serials_are_counted_and_skipped_ones_are_not() {
    let mut bench = Bench::new(Limits::default());
    bench.push(1, T::USER_LOGIN, "a");
    bench.assembler.skip(2, bench.start);
    bench.push(5, T::USER_LOGIN, "b");
    bench.push_at(100, 4, T::USER_LOGIN, "c");
    assert_eq!(
        bench.assembler.next_deadline(),
        Some(bench.start + Duration::from_secs(2))
    );
    bench.tick(2000);
    assert_eq!(bench.assembler.counters().serial_gaps, 1);
    bench.assembler.forget_serial();
    bench.push_at(2000, 500, T::USER_LOGIN, "d");
    bench.tick(9000);
    assert_eq!(bench.assembler.counters().serial_gaps, 1);
}

#[test]
fn machines_of_one_log_are_apart() {
    let mut assembler = Assembler::for_logs(Limits::default());
    let (now, mut out) = (Instant::now(), Vec::new());
    for node in [None, Some("web1"), Some("web2")] {
        assembler.push(
            node.map(str::as_bytes),
            T::SYSCALL,
            1,
            7,
            b"s",
            now,
            &mut out,
        );
    }
    assert!(out.is_empty());
    for node in [None, Some("web1"), Some("web2")] {
        assembler.push(
            node.map(str::as_bytes),
            T::PROCTITLE,
            1,
            7,
            b"t",
            now,
            &mut out,
        );
    }
    let ids: Vec<_> = out
        .iter()
        .map(|one| match one {
            Assembled::Event(event) => event.id.to_string(),
            Assembled::Amendment { .. } => "amendment".into(),
        })
        .collect();
    assert_eq!(ids, ["0.001:7", "web1/0.001:7", "web2/0.001:7"]);
    // More machines than are remembered.
    for n in 0..3000 {
        assembler.push(
            Some(format!("n{n}").as_bytes()),
            T::USER_LOGIN,
            1,
            7,
            b"u",
            now,
            &mut out,
        );
    }
    assert!(
        matches!(out.last(), Some(Assembled::Event(e)) if e.id.node.as_deref() == Some("n2999"))
    );
}

/// Records of event `n` in the kernel's order.
fn records_of(n: u32, paths: usize) -> Vec<(u32, T, String)> {
    let mut records = vec![
        (n, T::SYSCALL, format!("syscall {n}")),
        (n, T::CWD, format!("cwd {n}")),
    ];
    records.extend((0..paths).map(|i| (n, T::PATH, format!("path {n} {i}"))));
    records.push((n, T::PROCTITLE, format!("title {n}")));
    records.push((n, T::EOE, String::new()));
    records
}

proptest! {
    #[test]
    fn any_interleaving_of_complete_events_gives_the_same_events(
        paths in prop::collection::vec(0usize..5, 1..20),
        choice in prop::collection::vec(any::<usize>(), 400),
    ) {
        let mut queues: Vec<_> = paths.iter().zip(1..).map(|(p, n)| records_of(n, *p).into_iter()).collect();
        let mut bench = Bench::new(Limits::default());
        let mut choice = choice.into_iter().cycle();
        while !queues.is_empty() {
            let at = choice.next().unwrap_or(0) % queues.len();
            match queues[at].next() {
                Some((n, kind, body)) => bench.push(n, kind, &body),
                None => drop(queues.remove(at)),
            }
        }
        let mut got = bench.take();
        got.sort_by_key(|text| text.split(' ').next().and_then(|n| n.parse::<u32>().ok()));
        let mut alone = Bench::new(Limits::default());
        for (paths, n) in paths.iter().zip(1..) {
            records_of(n, *paths).iter().for_each(|(n, kind, body)| alone.push(*n, *kind, body));
        }
        prop_assert_eq!(got, alone.take());
        prop_assert_eq!(bench.assembler.open(), (0, 0));
        bench.tick(10_000);
        prop_assert_eq!(bench.assembler.counters().serial_gaps, 0);
    }

    /// Anything at all, under tight limits: nothing panics, nothing is lost, nothing is there twice.
    #[test]
    fn every_record_comes_out_once(
        input in prop::collection::vec((0u32..16, 0usize..8, 0u8..8, 0u64..900), 0..300),
        max_events in 1usize..5,
        max_bytes in 200usize..2000,
    ) {
        const KINDS: [T; 8] = [T::SYSCALL, T::PATH, T::EOE, T::LOGIN, T::USER_LOGIN, T::PROCTITLE, T::URINGOP, T(1399)];
        let start = Instant::now();
        let mut assembler = Assembler::new(Limits { max_events, max_bytes, timeout: Duration::from_secs(2) });
        let (mut out, mut time, mut pushed) = (Vec::new(), 0, std::collections::BTreeSet::new());
        let mut ends = 0;
        for (serial, kind, body, step) in input {
            time += step;
            let millis = u64::from(serial / 3);
            let now = start + Duration::from_millis(time);
            let (kind, body) = (KINDS[kind], [body; 5]);
            assembler.push(None, kind, millis, serial, &body, now, &mut out);
            if kind == T::EOE { ends += 1 } else { pushed.insert((millis, serial, kind, body.to_vec())); }
            if step > 700 { assembler.tick(now, &mut out); }
            prop_assert!(assembler.open().0 <= max_events && assembler.open().1 <= max_bytes);
        }
        assembler.finish(&mut out);
        prop_assert_eq!(assembler.open(), (0, 0));
        let mut got = Vec::new();
        let mut ids = std::collections::BTreeSet::new();
        for one in &out {
            match one {
                Assembled::Event(event) => {
                    prop_assert!(ids.insert((event.id.millis, event.id.serial)), "an event twice");
                    got.extend(event.records().map(|r| (event.id.millis, event.id.serial, r.kind, r.body.to_vec())));
                }
                Assembled::Amendment { id, kind, body } => got.push((id.millis, id.serial, *kind, body.clone())),
            }
        }
        let counters = assembler.counters();
        prop_assert_eq!(counters.records, got.len() as u64 + counters.duplicates + ends);
        got.sort();
        prop_assert_eq!(got, pushed.into_iter().collect::<Vec<_>>());
    }
}
