//! How the live reader compares with a program that only calls recv(2): events a second, CPU a record, memory, losses.
//!
//! One process calls umask(2) in a loop under one audit rule. Rounds alternate between two readers, each in a process of its own
//! and each the owner of the stream with the same receive buffer:
//!
//! - `bare` calls recv(2) for one record after the other and looks at the record's type, no more;
//! - `inline` is [`Reader`] with a function in its thread, in which every record is parsed and assembled into events, and each
//!   event decoded: a program that only collects;
//! - `channel` is [`Reader`] with its channel, and the same on the other side of it, in another thread, as in the daemon.
//!
//! With `--connector` both of ours read the proc connector beside it.
//!
//! Needs root, and nobody else who uses the kernel's audit; everything is put back at the end.
//!
//! ```text
//! cargo run --release -p collector --example live_bench -- [--rounds N] [--events N] [--connector]
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collector::control::Control;
use collector::live::{Batch, Counters, Mode, Reader, ReaderOptions};
use collector::losses::Losses;
use collector::netlink::{message, split};
use collector::rules::parse_rules;
use collector::settings::{SavedState, Wanted, assert_settings};
use collector::status::Change;
use collector::{Assembled, Assembler, Limits, RecordType, parse_header};
use serde::{Deserialize, Serialize};

const BUFFER: usize = 32 << 20;
/// Silence after which a reader believes that the round is over.
const QUIET: Duration = Duration::from_millis(300);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, or: u32| {
        args.iter()
            .position(|a| a == name)
            .map_or(or, |at| args[at + 1].parse().expect("a number"))
    };
    match args.first().map(String::as_str) {
        Some("umask") => umask(number("--events", 0)),
        Some("bare") => bare(),
        Some("channel") => ours(true, args.iter().any(|a| a == "--connector")),
        Some("inline") => ours(false, args.iter().any(|a| a == "--connector")),
        _ => compare(
            number("--rounds", 5),
            number("--events", 150_000),
            args.iter().any(|a| a == "--connector"),
        ),
    }
}

/// What one reader says of one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Told {
    records: u64,
    events: u64,
    /// From the first record to the last.
    seconds: f64,
    cpu_seconds: f64,
    peak_kib: u64,
    batches: u64,
    lost_on_the_way: u64,
    serial_gaps: u64,
    incomplete: u64,
    losses: String,
}

const READERS: [&str; 3] = ["bare", "inline", "channel"];

/// What a round of each came to, in the order of [`READERS`], with what the kernel lost meanwhile.
type Round = [(Told, u32); 3];

fn compare(rounds: u32, events: u32, connector: bool) {
    let mut control = Control::open().expect("a control socket");
    let before = SavedState::capture(&mut control).expect("the state of audit; are you root?");
    assert_eq!(
        before.status.pid, 0,
        "somebody owns the audit stream; stop it"
    );
    let mut done: Vec<Round> = Vec::new();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let rule = "-a always,exit -F arch=b64 -S umask -F key=sm-bench";
        let rule = parse_rules(rule, "bench").expect("a rule").remove(0).rule;
        assert_settings(&mut control, &Wanted::default()).expect("settings");
        control.add_rule(&rule).expect("the rule");
        for n in 0..rounds {
            let mut told = Round::default();
            // Each goes first in turn.
            for who in (0..3).map(|k| (k + n as usize) % 3) {
                let was = control.status().expect("status").lost;
                let said = round(READERS[who], events, connector);
                let lost = control.status().expect("status").lost.wrapping_sub(was);
                print_round(n, READERS[who], &said, lost);
                told[who] = (said, lost);
            }
            done.push(told);
        }
    }));
    for line in before
        .restore(&mut control)
        .expect("restore by hand: auditctl -D; auditctl -e 0")
    {
        eprintln!("restored: {line}");
    }
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    (1..3).for_each(|who| summary(&done, who));
}

fn rate(told: &Told) -> f64 {
    told.events as f64 / told.seconds.max(1e-9)
}

fn micros(told: &Told) -> f64 {
    told.cpu_seconds * 1e6 / told.records.max(1) as f64
}

fn print_round(n: u32, name: &str, told: &Told, lost: u32) {
    println!(
        "round {n} {name:<7}: {:>6.0} events/s, {:.3} us CPU a record, {} records, {} batches, peak {:.1} MiB, kernel lost {lost}, \
         lost on the way {}, serial gaps {}, incomplete {} {}",
        rate(told),
        micros(told),
        told.records,
        told.batches,
        told.peak_kib as f64 / 1024.0,
        told.lost_on_the_way,
        told.serial_gaps,
        told.incomplete,
        told.losses,
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn summary(rounds: &[Round], who: usize) {
    let of = |pick: &dyn Fn(&Told, &Told) -> f64| {
        median(rounds.iter().map(|r| pick(&r[who].0, &r[0].0)).collect())
    };
    let delivered = of(&|ours, bare| rate(ours) / rate(bare)) * 100.0;
    let cpu = of(&|ours, bare| micros(ours) / micros(bare));
    let ours = || rounds.iter().map(|r| &r[who]);
    let peak = ours().map(|(told, _)| told.peak_kib).max().unwrap_or(0) as f64 / 1024.0;
    let lost: u64 = ours()
        .map(|(told, lost)| u64::from(*lost) + told.lost_on_the_way)
        .sum();
    let gaps: u64 = ours()
        .map(|(told, _)| told.serial_gaps + told.incomplete)
        .sum();
    let verdict = |good: bool| if good { "reached" } else { "MISSED" };
    println!("\n| {}: what | goal | measured | |", READERS[who]);
    println!("|---|---|---|---|");
    println!(
        "| events/s delivered, of the bare reader's | >= 95 % | {delivered:.1} % ({:.0} of {:.0}) | {} |",
        of(&|ours, _| rate(ours)),
        of(&|_, bare| rate(bare)),
        verdict(delivered >= 95.0)
    );
    println!("| records lost | 0 | {lost} | {} |", verdict(lost == 0));
    println!(
        "| serial gaps, incomplete events | 0 | {gaps} | {} |",
        verdict(gaps == 0)
    );
    println!(
        "| CPU a record, of the bare reader's | <= 1.00 | {cpu:.2} ({:.3} us of {:.3} us) | {} |",
        of(&|ours, _| micros(ours)),
        of(&|_, bare| micros(bare)),
        verdict(cpu <= 1.0)
    );
    println!(
        "| peak resident memory | <= 48 MiB | {peak:.1} MiB | {} |",
        verdict(peak <= 48.0)
    );
}

struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Helper {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a helper process");
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("stdout"));
        Self {
            child,
            stdin,
            lines,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stdin.take();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn round(who: &str, events: u32, connector: bool) -> Told {
    let mut args = vec![who];
    args.extend(connector.then_some("--connector"));
    let mut reader = Helper::start(&args);
    assert_eq!(reader.line(), "ready\n", "the reader {who} did not start");
    let count = events.to_string();
    let mut producer = Helper::start(&["umask", "--events", &count]);
    assert_eq!(producer.line(), "done\n");
    // Closing it says that nothing more will come.
    reader.stdin.take();
    let told: Told = serde_json::from_str(&reader.line()).expect("what the reader tells");
    assert!(reader.child.wait().expect("its end").success());
    told
}

fn umask(events: u32) {
    for n in 0..events {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(n & 0o777));
    }
    println!("done");
}

fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn ready() {
    println!("ready");
    std::io::stdout().flush().expect("stdout");
}

fn tell(told: &Told) {
    println!("{}", serde_json::to_string(told).expect("JSON"));
}

/// Waits in a thread of its own until the other side of standard input is closed.
fn when_over() -> std::sync::Arc<std::sync::atomic::AtomicBool> {
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let said = over.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        said.store(true, std::sync::atomic::Ordering::Release);
    });
    over
}

/// recv(2), one record a call, and nothing else.
fn bare() {
    use netlink_packet_core::Emitable;
    let mut socket =
        netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_AUDIT).expect("socket");
    socket.bind_auto().expect("bind");
    collector_sys::set_receive_buffer(&socket, BUFFER).expect("buffer");
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(QUIET),
    )
    .expect("timeout");
    // AUDIT_STATUS_PID
    let mut own = netlink_packet_audit::StatusMessage::default();
    (own.mask, own.pid) = (4, std::process::id());
    let mut payload = vec![0; own.buffer_len()];
    own.emit(&mut payload);
    let request = message(
        netlink_packet_audit::constants::AUDIT_SET,
        1 | 4,
        1,
        &payload,
    );
    socket
        .send_to(&request, &netlink_sys::SocketAddr::new(0, 0), 0)
        .expect("register");
    let mut buffer = vec![0u8; 9 * 1024];
    // The acknowledgement, and what this very change made.
    while rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::empty()).is_ok() {}
    let over = when_over();
    ready();
    let (mut told, began) = (Told::default(), cpu());
    let (mut first, mut last) = (None, Instant::now());
    loop {
        match rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::empty()) {
            Ok((_, got)) => {
                if told.records & 0xff == 0 {
                    last = Instant::now();
                    first.get_or_insert(last);
                }
                told.records += 1;
                if let Some((kind, ..)) = split(black_box(&buffer[..got])) {
                    told.events += u64::from(RecordType(kind) == RecordType::EOE);
                }
            }
            Err(rustix::io::Errno::AGAIN) if over.load(std::sync::atomic::Ordering::Acquire) => {
                break;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(e) => panic!("{e}"),
        }
    }
    told.cpu_seconds = cpu() - began;
    told.seconds = last.duration_since(first.expect("records")).as_secs_f64();
    told.peak_kib = peak_kib();
    let mut control = Control::open().expect("control");
    control
        .set(&Change {
            pid: Some(0),
            ..Change::default()
        })
        .expect("unregister");
    tell(&told);
}

/// Assembles and decodes what it is given.
struct Work {
    told: Told,
    assembler: Assembler,
    ready: Vec<Assembled>,
    first: Option<Instant>,
    last: Instant,
}

impl Work {
    fn new() -> Self {
        Self {
            told: Told::default(),
            assembler: Assembler::new(Limits::default()),
            ready: Vec::new(),
            first: None,
            last: Instant::now(),
        }
    }

    fn batch(&mut self, batch: &Batch) {
        if batch.records().next().is_some() {
            self.last = batch.received;
            self.first.get_or_insert(self.last);
        }
        self.told.batches += 1;
        self.told.records += batch.len() as u64;
        for (kind, payload) in batch.records() {
            let head = parse_header(payload).expect("a header");
            self.assembler.push(
                None,
                kind,
                head.millis,
                head.serial,
                head.body,
                batch.received,
                &mut self.ready,
            );
        }
        self.decode();
    }

    fn decode(&mut self) {
        self.told.events += take(&mut self.ready, &mut self.told.incomplete);
    }

    fn finish(mut self, began: f64, counters: &Counters) -> Told {
        self.assembler
            .tick(Instant::now() + Duration::from_secs(10), &mut self.ready);
        self.decode();
        let mut told = self.told;
        told.cpu_seconds = cpu() - began;
        told.seconds = self
            .last
            .duration_since(self.first.expect("records"))
            .as_secs_f64();
        told.peak_kib = peak_kib();
        told.serial_gaps = self.assembler.counters().serial_gaps;
        let losses = Losses::snapshot(counters, 0);
        told.lost_on_the_way = losses.queue_dropped_records + losses.enobufs + losses.truncated;
        if losses.any() {
            told.losses = format!("{losses:?}");
        }
        told
    }
}

/// [`Reader`], and everything that this crate can say about an event.
fn ours(channel: bool, connector: bool) {
    let options = ReaderOptions {
        mode: Mode::Exclusive,
        receive_buffer: BUFFER,
        proc_events: connector,
        ..ReaderOptions::default()
    };
    if channel {
        let (tx, mut rx) = tokio::sync::mpsc::channel(4);
        let reader = Reader::start(options, tx).expect("the stream");
        let counters = reader.counters();
        while let Ok(first) = rx.try_recv() {
            drop(first);
        }
        let ender = std::thread::spawn(move || end(reader));
        ready();
        let (began, mut work) = (cpu(), Work::new());
        while let Some(batch) = rx.blocking_recv() {
            work.batch(&batch);
        }
        ender.join().expect("the end");
        tell(&work.finish(began, &counters));
    } else {
        let work = Arc::new(Mutex::new(Work::new()));
        let reader = {
            let work = work.clone();
            let take = move |batch: &Batch| {
                work.lock().expect("work").batch(batch);
                ControlFlow::Continue(())
            };
            Reader::start_inline(options, take).expect("the stream")
        };
        let counters = reader.counters();
        // What the kernel says of our becoming its owner is no part of it.
        std::thread::sleep(QUIET);
        *work.lock().expect("work") = Work::new();
        ready();
        let began = cpu();
        end(reader);
        let work = Arc::into_inner(work).expect("the thread has ended");
        tell(&work.into_inner().expect("work").finish(began, &counters));
    }
}

/// Waits until nothing more will come, and stops the reader.
fn end(reader: Reader) {
    let _ = std::io::stdin().read(&mut [0]);
    let mut control = Control::open().expect("control");
    // What the kernel still holds would go to nobody.
    while control.status().expect("status").backlog > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    reader.stop().expect("a clean end");
}

fn take(ready: &mut Vec<Assembled>, incomplete: &mut u64) -> u64 {
    let mut events = 0;
    for one in ready.drain(..) {
        if let Assembled::Event(event) = one {
            if event.record(RecordType::SYSCALL).is_some() {
                *incomplete += u64::from(!event.complete);
                events += 1;
            }
            black_box(event.syscall());
            black_box(event.argv());
            black_box(event.cwd());
            black_box(event.paths());
            black_box(event.sockaddr());
            black_box(event.title());
        }
    }
    events
}
