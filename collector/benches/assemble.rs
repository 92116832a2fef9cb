//! Log lines a CPU-second: parsed, and put together into events.
//!
//! It builds its own input, so that anybody can repeat it: execve events of seven records, as four CPUs write them, one record
//! each in turn. Prints what it measured as lines a CPU-second (processor time of the process, best of several rounds)
//! and gives the same to criterion for its statistics.

#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use collector::logs::{LogClock, LogReader};
use collector::{Assembled, Assembler, Limits};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Events of the input that is timed by hand.
const EVENTS: u32 = 200_000;

/// So many records are an event: SYSCALL, EXECVE, CWD, two PATH, PROCTITLE and EOE.
const RECORDS: u32 = 7;

fn records_of(n: u32) -> [String; RECORDS as usize] {
    let (millis, pid) = (1_795_353_018_000 + u64::from(n / 46), 1000 + n % 30_000);
    let head = |kind: &str| {
        format!(
            "type={kind} msg=audit({}.{:03}:{}): ",
            millis / 1000,
            millis % 1000,
            n + 1
        )
    };
    let (syscall, execve, cwd, path, title, eoe) = (
        head("SYSCALL"),
        head("EXECVE"),
        head("CWD"),
        head("PATH"),
        head("PROCTITLE"),
        head("EOE"),
    );
    [
        format!(
            "{syscall}arch=c000003e syscall=59 success=yes exit=0 a0=55d0c8a3f{n:06x} a1=55d0c8a41{n:06x} a2=55d0c8a2e010 a3=8 \
             items=2 ppid={} pid={pid} auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) \
             ses=4294967295 comm=\"sh\" exe=\"/bin/busybox\" key=\"openclaw-exec\"",
            pid - 1
        ),
        format!("{execve}argc=3 a0=\"sh\" a1=\"-c\" a2=6563686F2068656C6C6F20{n:08X}"),
        format!("{cwd}cwd=\"/home/node/.openclaw/workspace\""),
        format!(
            "{path}item=0 name=\"/bin/sh\" inode=1048{} dev=00:2b mode=0100755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 \
             cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0",
            n % 1000
        ),
        format!(
            "{path}item=1 name=\"/lib/ld-musl-x86_64.so.1\" inode=1049{} dev=00:2b mode=0100755 ouid=0 ogid=0 rdev=00:00 \
             nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0",
            n % 1000
        ),
        format!("{title}proctitle=7368002D63006563686F2068656C6C6F20{n:08X}"),
        eoe,
    ]
}

/// The log of `events` events, four at a time one record each in turn.
fn input(events: u32) -> Vec<u8> {
    let mut log = String::new();
    for group in 0..events / 4 {
        let four: Vec<_> = (0..4).map(|cpu| records_of(group * 4 + cpu)).collect();
        for record in 0..RECORDS as usize {
            for event in &four {
                let _ = writeln!(log, "{}", event[record]);
            }
        }
    }
    log.into_bytes()
}

fn parse(log: &[u8]) -> u64 {
    let mut reader = LogReader::new(log).expect("a slice can be read");
    let mut bytes = 0;
    reader
        .for_each_record(|record| bytes += record.body.len() as u64)
        .expect("a slice can be read");
    bytes
}

fn assemble(log: &[u8]) -> u64 {
    let mut reader = LogReader::new(log).expect("a slice can be read");
    let (mut assembler, mut clock) = (Assembler::for_logs(Limits::default()), LogClock::new());
    let (mut out, mut events) = (Vec::new(), 0);
    let mut take = |out: &mut Vec<Assembled>| {
        events += out
            .iter()
            .filter(|one| matches!(one, Assembled::Event(event) if event.complete))
            .count() as u64;
        out.clear();
    };
    reader
        .for_each_record(|record| {
            let now = clock.at(record.millis);
            assembler.push(
                record.node,
                record.kind,
                record.millis,
                record.serial,
                record.body,
                now,
                &mut out,
            );
            take(&mut out);
        })
        .expect("a slice can be read");
    assembler.finish(&mut out);
    take(&mut out);
    events
}

/// Processor time of this process.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn by_hand() {
    let log = input(EVENTS);
    let lines = f64::from(EVENTS * RECORDS);
    println!(
        "input: {EVENTS} events, {lines} lines, {} MB",
        log.len() / 1_000_000
    );
    let best = |work: &dyn Fn() -> u64| {
        let rounds = (0..5).map(|_| {
            let start = cpu();
            black_box(work());
            cpu() - start
        });
        rounds.min().unwrap_or_default().as_secs_f64()
    };
    assert_eq!(assemble(&log), u64::from(EVENTS), "every event, complete");
    println!(
        "parsed: {:.0} lines a CPU-second",
        lines / best(&|| parse(&log))
    );
    println!(
        "parsed and assembled: {:.0} lines a CPU-second",
        lines / best(&|| assemble(&log))
    );
}

fn bench(c: &mut Criterion) {
    by_hand();
    let log = input(2_000);
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(u64::from(2_000 * RECORDS)));
    group.bench_function("parse", |b| b.iter(|| parse(black_box(&log))));
    group.bench_function("assemble", |b| b.iter(|| assemble(black_box(&log))));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
