//! First pages of a large history through the running daemon, and the memory that its sensor takes meanwhile.
//!
//! `scripts/bench.sh history-daemon`; needs root and audit. A daemon is started on a store that is there already; events that it holds are
//! picked at random times, and for each filter the newest 50 events like them are asked for over the socket, one connection a question, as the
//! command line does. The time runs from before the connection until the last byte. Prints median and 99 % beside the goal.
//!
//! `SYSCALL_MONITOR_BENCH_STORE` names the store, `SYSCALL_MONITOR_BENCH_PROGRAM` another program than the one just built, `ROUNDS` how many
//! questions of each kind are asked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a benchmark fails"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::World;

/// Goal of the issue: median and 99 %, milliseconds.
const GOAL: (f64, f64) = (10.0, 50.0);
/// Rows of a page.
const PAGE: usize = 50;

/// One question, from connecting to the last byte.
fn ask(socket: &Path, spec: &Value) -> (Duration, Vec<Value>) {
    let body = json!({ "spec": spec }).to_string();
    let began = Instant::now();
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "POST /v1/query HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let took = began.elapsed();
    (took, rows(&answer))
}

/// The lines of a chunked answer.
fn rows(answer: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(answer);
    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut body = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.push_str(&more[..size]);
        rest = &more[size + 2..];
    }
    let line = |l: &str| serde_json::from_str::<Value>(l).unwrap();
    let rows: Vec<Value> = body.lines().map(line).collect();
    assert!(rows.iter().all(|r| r.get("error").is_none()), "{rows:?}");
    rows
}

fn spec(filter: &str, value: &str) -> Value {
    json!({
        "kinds": ["activity"], "newest_first": true, "limit": PAGE, "text": [], "regex": [],
        "conditions": [{"filter": filter, "values": [value]}],
    })
}

/// Same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n.max(1)
    }
}

fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    line.and_then(|l| l.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

fn main() {
    let Some(store) = std::env::var_os("SYSCALL_MONITOR_BENCH_STORE").map(PathBuf::from) else {
        println!(
            "skipped: SYSCALL_MONITOR_BENCH_STORE names no store; scripts/bench/history-daemon.sh makes one"
        );
        return;
    };
    let rounds: u64 = std::env::var("ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(200);
    let program = std::env::var("SYSCALL_MONITOR_BENCH_PROGRAM")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_syscall-monitor").to_owned());
    let world = World::builder(program)
        .config(&format!(
            "[history]\ndir = {:?}\nmax_age_days = 0\nmax_bytes = 0\n",
            store.display().to_string()
        ))
        .start();
    let status = world.status();
    let socket = world.run_dir().join("api.sock");
    let bounds = |newest_first: bool| {
        let spec = json!({
            "kinds": ["activity"], "newest_first": newest_first, "limit": 1, "text": [], "regex": [], "conditions": [],
        });
        let (_, rows) = ask(&socket, &spec);
        let cursor = rows[0]["cursor"].as_str().unwrap().to_owned();
        cursor.split_once('-').unwrap().0.parse::<u64>().unwrap()
    };
    let (from, until) = (bounds(false), bounds(true));
    println!(
        "{} entries, {} MiB of files",
        status["history"]["entries"],
        status["history"]["bytes"].as_u64().unwrap_or(0) >> 20
    );

    // Something is always written meanwhile.
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = Command::new("/bin/true").status();
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    };

    let mut random = Random(7);
    let mut sample = || loop {
        let at = from + random.below(until - from + 1);
        let spec = json!({
            "kinds": ["activity"], "newest_first": true, "limit": 1, "until_ms": at + 1, "text": [], "regex": [], "conditions": [],
        });
        if let Some(row) = ask(&socket, &spec).1.into_iter().next() {
            return row["json"].clone();
        }
    };
    println!(
        "first page ({PAGE} rows) by  questions  hits     median       99 %   goal {} / {} ms",
        GOAL.0, GOAL.1
    );
    for filter in ["container", "exe", "pid", "id", "path", "severity"] {
        let (mut times, mut hits) = (Vec::new(), 0);
        for round in 0..rounds {
            let event = sample();
            let text = |p: &str| event.pointer(p).and_then(Value::as_str).map(str::to_owned);
            let value = match filter {
                "container" => text("/container/name").or_else(|| text("/container/id")),
                "exe" => text("/process/exe"),
                "pid" => event.pointer("/process/pid").map(Value::to_string),
                "id" => text("/id"),
                // A folder: what is below it, too.
                "path" => text("/paths/0/path")
                    .and_then(|p| p.rsplit_once('/').map(|(dir, _)| dir.to_owned()))
                    .filter(|dir| !dir.is_empty()),
                _ => Some(["low", "medium", "high", "critical"][round as usize % 4].to_owned()),
            };
            let Some(value) = value.filter(|v| !v.is_empty()) else {
                continue;
            };
            let (took, rows) = ask(&socket, &spec(filter, &value));
            times.push(took);
            hits += rows.len();
        }
        times.sort_unstable();
        let at = |part: f64| {
            let place = ((times.len().saturating_sub(1)) as f64 * part).round() as usize;
            times.get(place).map_or(0.0, |t| t.as_secs_f64() * 1000.0)
        };
        let (median, most) = (at(0.5), at(0.99));
        println!(
            "  {filter:<22} {:>9} {:>6.1} {median:>7.2} ms {most:>7.2} ms   {}",
            times.len(),
            hits as f64 / times.len().max(1) as f64,
            if median <= GOAL.0 && most <= GOAL.1 {
                "reached"
            } else {
                "NOT REACHED"
            }
        );
    }
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    let parts: Vec<(&str, u64)> = ["run", "sensor", "courier"]
        .into_iter()
        .map(|role| (role, world.try_pid_of(role).map_or(0, resident_mib)))
        .collect();
    let all: u64 = parts.iter().map(|p| p.1).sum();
    println!("daemon resident {all} MiB {parts:?}, goal 192 MiB");
}
