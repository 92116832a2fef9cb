//! What the history costs and what it gives, with events made from a captured workload: CPU from the activity to the durable block, bytes,
//! first pages, a scan of everything, memory while it is written.
//!
//!     cargo run --release -p history --example bench_store -- [--events N] [--rate N] [--dir DIR] [--text FILE] [--queries]
//!
//! `--rate` paces the writing, in events a second. `--text` writes the same events as auditd would, for ausearch. `--queries` asks, with a
//! writer of 1,000 events a second beside it. CPU is that of the whole process without the thread that makes the events.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use history::{Clause, Entry, Field, Kind, Options, Pattern, Query, Search, Store};
use rustix::time::{ClockId, clock_gettime};

#[path = "../../src/stored.rs"]
#[allow(dead_code)]
mod stored;
mod workload;

use workload::{CONTAINERS, Workload};

/// Events in one hand-over, as the pipeline hands them over.
const BATCH: u64 = 64;

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    line.and_then(|l| l.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

struct Arguments {
    events: u64,
    rate: u64,
    dir: PathBuf,
    text: Option<PathBuf>,
    queries: bool,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut out = Arguments {
        events: 500_000,
        rate: 0,
        dir: std::env::temp_dir().join("history-bench"),
        text: None,
        queries: false,
    };
    let mut list = std::env::args().skip(1);
    while let Some(name) = list.next() {
        let mut value = || list.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--events" => out.events = value()?.parse()?,
            "--rate" => out.rate = value()?.parse()?,
            "--dir" => out.dir = value()?.into(),
            "--text" => out.text = Some(value()?.into()),
            "--queries" => out.queries = true,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(out)
}

/// Every 50,000th event raises an alert.
fn alert(number: u64, time_ms: u64) -> Entry {
    let severity = ["low", "medium", "high", "critical"][(number / 50_000 % 4) as usize];
    Entry {
        kind: Kind::Alert,
        time_ms,
        id: format!("A-{}", number / 50_000 + 1),
        terms: vec![(Field::Severity, severity), (Field::Rule, "a rule")].into(),
        body: format!("{{\"title\":\"alert of event {number}\"}}").into_bytes(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let _ = std::fs::remove_dir_all(&arguments.dir);
    let mut workload = Workload::read()?;
    let store = Store::open(&arguments.dir, Options::default())?;
    write(&store, &arguments, &mut workload)?;
    if arguments.queries {
        ask(&store, &arguments, workload)?;
    }
    store.close()?;
    let (began, before) = (Instant::now(), resident());
    let store = Store::open(&arguments.dir, Options::default())?;
    println!(
        "reopened after an orderly end in {:?}, resident {before} -> {} MiB",
        began.elapsed(),
        resident()
    );
    drop(store);
    std::fs::remove_dir_all(&arguments.dir)?;
    Ok(())
}

fn write(
    store: &Store,
    arguments: &Arguments,
    workload: &mut Workload,
) -> Result<(), Box<dyn Error>> {
    let mut text = match &arguments.text {
        Some(path) => Some(std::io::BufWriter::new(std::fs::File::create(path)?)),
        None => None,
    };
    let (began, before) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    let thread = cpu(ClockId::ThreadCPUTime);
    let (mut making, mut raw_bytes, mut bodies) = (Duration::ZERO, 0u64, 0u64);
    let (mut number, mut peak, mut raw) = (0, 0, Vec::new());
    while number < arguments.events {
        let count = BATCH.min(arguments.events - number);
        if arguments.rate > 0 {
            let due = Duration::from_secs_f64(number as f64 / arguments.rate as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        while store.queued() > 8_000 {
            // The bench loses nothing: it waits where the program would count a drop.
            std::thread::sleep(Duration::from_millis(2));
        }
        let mine = cpu(ClockId::ThreadCPUTime);
        let activities: Vec<_> = (number..number + count).map(|n| workload.make(n)).collect();
        if let Some(text) = &mut text {
            raw.clear();
            activities.iter().for_each(|a| a.event.write_raw(&mut raw));
            raw_bytes += raw.len() as u64;
            text.write_all(&raw)?;
        }
        making += cpu(ClockId::ThreadCPUTime) - mine;
        let mut entries: Vec<Entry> = activities.iter().map(stored::activity).collect();
        bodies += entries.iter().map(|e| e.body.len() as u64).sum::<u64>();
        if number % 50_000 < BATCH {
            entries.push(alert(number, activities[0].event.id.millis));
        }
        store.append_all(entries)?;
        let mine = cpu(ClockId::ThreadCPUTime);
        drop(activities);
        making += cpu(ClockId::ThreadCPUTime) - mine;
        number += count;
        if number % 100_000 < BATCH {
            peak = peak.max(resident());
        }
    }
    store.flush()?;
    let (wall, used) = (
        began.elapsed().as_secs_f64(),
        cpu(ClockId::ProcessCPUTime) - before - making,
    );
    if let Some(mut text) = text {
        text.flush()?;
    }
    let stats = store.stats();
    let each = |bytes: u64| bytes as f64 / arguments.events as f64;
    println!("{}", workload.mix());
    println!(
        "{} events in {wall:.1} s, {:.0} a second, dropped {}; body {:.0} bytes{}",
        arguments.events,
        arguments.events as f64 / wall,
        stats.dropped,
        each(bodies),
        if raw_bytes > 0 {
            format!(", auditd's text {:.0}", each(raw_bytes))
        } else {
            String::new()
        }
    );
    let feeding = cpu(ClockId::ThreadCPUTime) - thread - making;
    println!(
        "of the CPU, {:.2} us an event are the thread that makes entries of activities and hands them over",
        feeding.as_secs_f64() * 1e6 / arguments.events as f64
    );
    println!(
        "FIGURE cpu_us_per_event {:.2}",
        used.as_secs_f64() * 1e6 / arguments.events as f64
    );
    println!(
        "FIGURE value_bytes_per_event {:.1}",
        each(stats.value_bytes)
    );
    println!(
        "FIGURE file_bytes_per_event {:.1}",
        each(stats.bytes_on_disk)
    );
    println!(
        "FIGURE file_by_values {:.2}",
        stats.bytes_on_disk as f64 / stats.value_bytes.max(1) as f64
    );
    println!("FIGURE resident_mib_while_written {}", peak.max(resident()));
    let shares = store.shares()?;
    println!("where the bytes go (bytes an event):");
    for share in shares.iter().filter(|s| s.keys > 0) {
        println!(
            "  {:<46} {:>8} keys {:>7.2} + {:>7.2}",
            share.what,
            share.keys,
            each(share.key_bytes),
            each(share.value_bytes)
        );
    }
    let sum: u64 = shares.iter().map(|s| s.key_bytes + s.value_bytes).sum();
    println!(
        "  {:<46} {:>26.2}\n  {:<46} {:>26.2}",
        "free or not given back yet in the file",
        each(stats.bytes_on_disk.saturating_sub(sum)),
        "the file",
        each(stats.bytes_on_disk)
    );
    Ok(())
}

fn exact(field: Field, term: impl Into<Vec<u8>>) -> Clause {
    Clause {
        field,
        any: vec![Pattern::Exact(term.into())],
        negate: false,
    }
}

fn ask(store: &Store, arguments: &Arguments, mut workload: Workload) -> Result<(), Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    let events = arguments.events;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (began, mut number) = (Instant::now(), events);
            while !stop.load(Ordering::Relaxed) {
                let list = (0..16).map(|n| stored::activity(&workload.make(number + n)));
                let _ = store.append_all(list.collect());
                number += 16;
                let due = Duration::from_millis(number - events);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        });
        let done = questions(store, events);
        stop.store(true, Ordering::Relaxed);
        let _ = writer.join();
        done
    })
}

fn questions(store: &Store, events: u64) -> Result<(), Box<dyn Error>> {
    let page = |all: Vec<Clause>, reverse: bool| Query {
        all,
        reverse,
        limit: Some(50),
        ..Query::default()
    };
    let ids: Vec<String> = store
        .rows(&Query {
            limit: Some(20_000),
            kinds: vec![Kind::Activity],
            ..Query::default()
        })?
        .into_iter()
        .step_by(500)
        .map(|row| row.id)
        .collect();
    let mut kinds: Vec<(&str, Vec<Query>)> = Vec::new();
    let both = |make: &dyn Fn(u64) -> Clause| -> Vec<Query> {
        (0..40).map(|n| page(vec![make(n)], n % 2 == 0)).collect()
    };
    kinds.push((
        "container",
        both(&|n| exact(Field::Container, format!("agent-{}", n % CONTAINERS))),
    ));
    kinds.push(("exe", both(&|n| exact(Field::Exe, workload::exe(n)))));
    kinds.push((
        "pid",
        both(&|n| exact(Field::Pid, workload::pid(n * events / 41).to_string())),
    ));
    kinds.push((
        "id",
        ids.iter()
            .map(|id| page(vec![exact(Field::Id, id.as_str())], false))
            .collect(),
    ));
    kinds.push((
        "path_prefix",
        both(&|n| {
            exact(
                Field::Path,
                format!("/home/node/.openclaw/workspace/project{}", n % 40),
            )
        }),
    ));
    kinds.push((
        "severity",
        both(&|n| {
            exact(
                Field::Severity,
                ["low", "medium", "high", "critical"][(n % 4) as usize],
            )
        }),
    ));
    let mut all_times = Vec::new();
    for (name, queries) in &kinds {
        let (mut times, mut hits) = (Vec::new(), 0);
        for query in queries {
            let began = Instant::now();
            hits += store
                .query(query, &mut |_| ControlFlow::Continue(()))?
                .rows_hit;
            times.push(began.elapsed());
        }
        all_times.extend(times.iter().copied());
        let (median, late) = percentiles(&mut times);
        println!(
            "first page by {name}: median {median:?}, 99 % {late:?}, {hits} hits in {} pages",
            queries.len()
        );
    }
    let (median, late) = percentiles(&mut all_times);
    println!(
        "FIGURE first_page_median_ms {:.2}",
        median.as_secs_f64() * 1e3
    );
    println!("FIGURE first_page_p99_ms {:.2}", late.as_secs_f64() * 1e3);

    let rare = Query {
        all: vec![
            exact(Field::Exe, workload::RARE),
            exact(Field::Container, "agent-7"),
        ],
        until_ms: Some(workload::time_ms(events)),
        ..Query::default()
    };
    let mut times = Vec::new();
    let mut hits = 0;
    for _ in 0..21 {
        let began = Instant::now();
        hits = store
            .query(&rare, &mut |_| ControlFlow::Continue(()))?
            .rows_hit;
        times.push(began.elapsed());
    }
    let (median, late) = percentiles(&mut times);
    println!("rare combination: {hits} hits, median {median:?}, slowest {late:?}");
    println!("FIGURE rare_median_ms {:.2}", median.as_secs_f64() * 1e3);

    for (name, search) in [
        ("scan_literal", Search::text("no such text anywhere")?),
        (
            "scan_regex",
            Search::regex(r"project3[0-9]/src/file29[0-9]{2}\.ts")?,
        ),
        (
            "scan_regex_classes",
            Search::regex(r"[xyz]{3}[0-9]+\.(pem|key)[^a-z]")?,
        ),
    ] {
        let query = Query {
            search: vec![search],
            ..Query::default()
        };
        let (began, before) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
        let stats = store.query(&query, &mut |_| ControlFlow::Continue(()))?;
        let (wall, used) = (began.elapsed(), cpu(ClockId::ProcessCPUTime) - before);
        println!(
            "{name}: {:.2} s, cpu {:.2} s, {} hits, {} frames",
            wall.as_secs_f64(),
            used.as_secs_f64(),
            stats.rows_hit,
            stats.frames_read
        );
        println!(
            "FIGURE {name}_events_per_s {:.0}",
            events as f64 / wall.as_secs_f64()
        );
        println!(
            "FIGURE {name}_events_per_cpu_s {:.0}",
            events as f64 / used.as_secs_f64()
        );
    }
    println!("FIGURE resident_mib_after_queries {}", resident());
    Ok(())
}

fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    (at(0.5), at(0.99))
}
