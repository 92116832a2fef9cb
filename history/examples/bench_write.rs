//! What an entry costs to write: CPU, bytes, memory. `cargo run --release -p history --example bench_write -- [ENTRIES] [PER_SECOND] [DIR]`
//!
//! Entries are made up, about 570 bytes with 14 terms, of 50 containers, from a fixed seed; making them is timed apart and taken off.
//! CPU is that of the whole process, sled's own threads included. PER_SECOND 0 is as fast as it goes.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use history::{Clause, Entry, Field, Kind, Options, Pattern, Query, Store};

struct Rng(u64);

impl Rng {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn entry(number: u64, rng: &mut Rng) -> Entry {
    let time_ms = 1_795_353_000_000 + number / 5;
    let container = rng.next(50) * rng.next(50) / 50;
    let exe = [
        "/usr/bin/node",
        "/bin/sh",
        "/usr/bin/git",
        "/usr/bin/curl",
        "/usr/bin/python3",
        "/bin/cat",
        "/usr/bin/rare",
    ];
    let exe = exe[if rng.next(50_000) == 0 {
        6
    } else {
        rng.next(6) as usize
    }];
    let syscall = [
        "execve", "openat", "connect", "unlinkat", "mkdirat", "fchmodat",
    ][rng.next(6) as usize];
    let (pid, file) = (4000 + number / 4 % 30_000, rng.next(3000));
    let path = format!(
        "/home/node/.openclaw/workspace/project{}/src/file{file}.ts",
        file % 40
    );
    let id = format!("{}.{:03}:{number}", time_ms / 1000, time_ms % 1000);
    let hash = format!("{container:02}").repeat(32);
    let body = format!(
        "type=SYSCALL msg=audit({id}): arch=c000003e syscall={syscall} success=yes exit={} a0={:x} a1={:x} a2=0 a3=0 items=2 ppid={} pid={pid} \
         auid=4294967295 uid=1000 gid=1000 euid=1000 tty=(none) ses=4294967295 comm={:?} exe={exe:?} key=\"agent\" cwd=\"/home/node\" \
         name={path:?} inode={} dev=00:{:02x} mode=0100644 ouid=1000 nametype=NORMAL container={hash} image=ghcr.io/openclaw/openclaw:2026.9.6 title={}",
        rng.next(100),
        rng.next(1 << 46),
        rng.next(1 << 46),
        pid - 1,
        exe,
        100_000 + file,
        32 + container,
        rng.next(1 << 60)
    );
    let text = |field, value: &str| (field, value.as_bytes().to_vec());
    let terms = vec![
        text(Field::Container, &format!("agent-{container}")),
        text(Field::ContainerId, &hash),
        text(Field::Profile, "openclaw"),
        text(Field::Agent, &format!("agent-{container}")),
        text(Field::Image, "ghcr.io/openclaw/openclaw:2026.9.6"),
        text(Field::Pid, &pid.to_string()),
        text(Field::Exe, exe),
        text(Field::Comm, exe.rsplit('/').next().unwrap_or_default()),
        text(Field::User, "node"),
        text(Field::Syscall, syscall),
        text(Field::Category, "file"),
        text(Field::Key, "agent"),
        text(Field::Path, &path),
        text(
            Field::Path,
            path.rsplit_once('/').map_or("/", |(dir, _)| dir),
        ),
        text(Field::Path, "/home/node/.openclaw/workspace"),
    ];
    Entry {
        kind: Kind::Activity,
        time_ms,
        id,
        terms: terms.into(),
        body: body.into_bytes(),
    }
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn memory(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .unwrap_or_default();
    line.split_ascii_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<u64>().ok())
        .map_or_else(String::new, |kib| format!("{} MiB", kib / 1024))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |place: usize| std::env::args().nth(place);
    let entries: u64 = argument(1).map_or(Ok(500_000), |a| a.parse())?;
    let rate: u64 = argument(2).map_or(Ok(0), |a| a.parse())?;
    let dir = argument(3).map_or_else(|| std::env::temp_dir().join("history-bench"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&dir);

    let batch = 64;
    let made = {
        let (mut rng, before, count) = (Rng(42), cpu(), entries.min(100_000));
        let bytes: usize = (0..count)
            .map(|number| std::hint::black_box(entry(number, &mut rng)).body.len())
            .sum();
        println!("bodies: {} bytes an entry", bytes as u64 / count);
        (cpu() - before).as_secs_f64() / count as f64
    };
    let store = Store::open(&dir, Options::default())?;
    let (mut rng, began, before, mut waits) = (Rng(42), Instant::now(), cpu(), 0u64);
    let mut number = 0;
    while number < entries {
        if rate > 0 {
            let due = Duration::from_secs_f64(number as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let mut list: Vec<Entry> = (number..entries.min(number + batch))
            .map(|n| entry(n, &mut rng))
            .collect();
        number += list.len() as u64;
        // The bench does not lose entries: it waits where the program would count a drop.
        while store.stats().queued > 8_000 {
            waits += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        store.append_all(std::mem::take(&mut list))?;
    }
    store.flush()?;
    let (wall, used) = (
        began.elapsed().as_secs_f64(),
        (cpu() - before).as_secs_f64(),
    );
    let stats = store.stats();
    let each = |bytes: u64| bytes as f64 / entries as f64;
    println!(
        "{entries} entries in {wall:.1} s, {:.0} a second, waited {waits} times, dropped {}",
        entries as f64 / wall,
        stats.dropped
    );
    println!(
        "cpu {:.2} us an entry, {:.2} of it making them, {:.2} us the store",
        used * 1e6 / entries as f64,
        made * 1e6,
        (used / entries as f64 - made) * 1e6
    );
    println!(
        "{} blocks, values {:.1} bytes an entry, files {:.1} bytes an entry",
        stats.blocks,
        each(stats.value_bytes),
        each(stats.bytes_on_disk)
    );
    println!(
        "memory {} now, {} at most",
        memory("VmRSS"),
        memory("VmHWM")
    );

    let exact = |field, term: &str| Clause {
        field,
        any: vec![Pattern::Exact(term.into())],
        negate: false,
    };
    let questions = [
        (
            "first page, newest, one container",
            Query {
                all: vec![exact(Field::Container, "agent-7")],
                reverse: true,
                limit: Some(50),
                ..Query::default()
            },
        ),
        (
            "first page, oldest, one pid",
            Query {
                all: vec![exact(Field::Pid, "17000")],
                limit: Some(50),
                ..Query::default()
            },
        ),
        (
            "rare program in one container",
            Query {
                all: vec![
                    exact(Field::Exe, "/usr/bin/rare"),
                    exact(Field::Container, "agent-7"),
                ],
                ..Query::default()
            },
        ),
        (
            "path prefix, first page",
            Query {
                all: vec![exact(
                    Field::Path,
                    "/home/node/.openclaw/workspace/project3/src",
                )],
                limit: Some(50),
                ..Query::default()
            },
        ),
        (
            "text in everything",
            Query {
                text: Some(b"file2999.ts".to_vec()),
                ..Query::default()
            },
        ),
    ];
    for (name, query) in questions {
        let mut times = Vec::new();
        let mut stats = Default::default();
        for _ in 0..if query.text.is_some() { 1 } else { 9 } {
            let began = Instant::now();
            stats = store.query(&query, &mut |_| ControlFlow::Continue(()))?;
            times.push(began.elapsed());
        }
        times.sort();
        println!(
            "{name}: {:?} (slowest {:?}), {} hits, {} blocks, {} frames",
            times[times.len() / 2],
            times[times.len() - 1],
            stats.rows_hit,
            stats.blocks_scanned,
            stats.frames_read
        );
    }
    let began = Instant::now();
    let middle = entries / 2;
    let mut rng = Rng(1);
    let id = entry(middle, &mut rng).id;
    let found = store.get(Kind::Activity, &id)?.is_some();
    println!("by id: {:?}, found {found}", began.elapsed());
    let began = Instant::now();
    drop(store);
    let closed = began.elapsed();
    let began = Instant::now();
    let store = Store::open(&dir, Options::default())?;
    println!(
        "closed in {closed:?}, opened in {:?}, memory {}",
        began.elapsed(),
        memory("VmRSS")
    );
    let began = Instant::now();
    let report = store.verify(&mut |_| ControlFlow::Continue(()))?;
    println!(
        "verified {} entries in {:?}, {} problems",
        report.entries,
        began.elapsed(),
        report.problems.len()
    );
    Ok(())
}
