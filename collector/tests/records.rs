//! What the kernel really writes, captured, decoded and written again.
//!
//! `corpus/linux-6.18-x86_64.log` is a capture from the audit multicast group of Linux 6.18 (x86_64): one event of each
//! kind that a program could provoke on that machine, `corpus/linux-6.18-x86_64.golden` what we read in it. After a change that
//! is meant, `UPDATE_GOLDEN=1 cargo test -p collector --test records` writes the second one anew.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use collector::decode::{self, describe_args, mode_text, open_flags};
use collector::logs::{LogClock, LogReader, parse_line};
use collector::text::to_text;
use collector::{Assembled, Assembler, Event, Limits};
use proptest::prelude::*;

fn corpus(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name)
}

fn log() -> Vec<u8> {
    fs::read(corpus("linux-6.18-x86_64.log")).unwrap()
}

/// Events of a log, in order of completion.
fn events(log: &[u8], mut assembler: Assembler) -> Vec<Event> {
    let (mut out, mut clock) = (Vec::new(), LogClock::new());
    let mut reader = LogReader::new(log).unwrap();
    reader
        .for_each_record(|r| {
            assembler.push(
                r.node,
                r.kind,
                r.millis,
                r.serial,
                r.body,
                clock.at(r.millis),
                &mut out,
            )
        })
        .unwrap();
    assert_eq!(reader.stats().malformed, 0, "{:?}", reader.stats());
    assembler.finish(&mut out);
    out.into_iter()
        .map(|one| match one {
            Assembled::Event(event) => event,
            Assembled::Amendment { id, kind, .. } => panic!("{kind} amends {id}"),
        })
        .collect()
}

fn live(log: &[u8]) -> Vec<Event> {
    events(log, Assembler::new(Limits::default()))
}

/// Everything that `decode` has to say about an event.
fn describe(event: &Event) -> String {
    let mut out = format!(
        "{}{}\n",
        event.id,
        if event.complete { "" } else { " incomplete" }
    );
    let text = |bytes: &[u8]| match bytes.len() {
        0..200 => format!("{:?}", to_text(bytes)),
        len => format!("{:?}… {len} bytes", to_text(&bytes[..40])),
    };
    if let Some(call) = event.syscall() {
        let errno = call.errno().map(|e| format!(" {e}")).unwrap_or_default();
        let keys: Vec<_> = call.keys.iter().map(|k| text(k)).collect();
        let (name, arch) = (call.name().unwrap_or("?"), call.arch_name().unwrap_or("?"));
        let success = call
            .success
            .map_or("never", |yes| if yes { "yes" } else { "no" });
        let _ = writeln!(
            out,
            "  {name} ({arch} {}) success {success} exit {}{errno} keys {}",
            call.number,
            call.exit,
            keys.join(" ")
        );
        for (name, value) in describe_args(&call) {
            let _ = writeln!(out, "    {name} {value}");
        }
        let _ = writeln!(
            out,
            "  by comm {} exe {} uid {} euid {} gid {} tty {:?}",
            text(&call.comm),
            text(&call.exe),
            call.uid,
            call.euid,
            call.gid,
            call.tty.map(to_text)
        );
    }
    if let Some(argv) = event.argv() {
        let shown: Vec<_> = argv.iter().take(12).map(|arg| text(arg)).collect();
        let _ = writeln!(
            out,
            "  argv {} of {}: {}",
            shown.len(),
            argv.len(),
            shown.join(" ")
        );
    }
    if let Some(cwd) = event.cwd() {
        let _ = writeln!(out, "  cwd {}", text(&cwd));
    }
    for path in event.paths() {
        let name = path.name.as_deref().map_or("nothing".to_owned(), text);
        let (major, minor) = path.dev;
        let _ = writeln!(
            out,
            "  path {} {name} {} {} dev {major}:{minor}",
            path.item,
            path.nametype.name(),
            mode_text(path.mode)
        );
    }
    if let Some(address) = event.sockaddr() {
        let _ = writeln!(
            out,
            "  address {} {address}",
            address.family_name().unwrap_or("?")
        );
    }
    for target in event.targets() {
        let _ = writeln!(out, "  target {} uid {}", text(&target.comm), target.uid);
    }
    if let Some(how) = event.openat2_flags() {
        let flags = open_flags(decode::ARCH_X86_64, how.flags);
        let _ = writeln!(
            out,
            "  openat2 {flags} mode {:o} resolve {:#x}",
            how.mode, how.resolve
        );
    }
    if let Some(title) = event.title() {
        let _ = writeln!(out, "  title {}", text(&title));
    }
    const READ: [&str; 9] = [
        "SYSCALL",
        "URINGOP",
        "EXECVE",
        "CWD",
        "PATH",
        "SOCKADDR",
        "OBJ_PID",
        "OPENAT2",
        "PROCTITLE",
    ];
    for record in event
        .records()
        .filter(|r| r.kind.name().is_none_or(|name| !READ.contains(&name)))
    {
        let fields: Vec<_> = record
            .fields()
            .map(|(n, v)| {
                let words = decode::interpret(record, n, v);
                let words = words.map(|w| format!(" ({w})")).unwrap_or_default();
                format!("{}={}{words}", to_text(n), to_text(&v.decode()))
            })
            .collect();
        let _ = writeln!(out, "  {} {}", record.kind, fields.join(" "));
    }
    out
}

#[test]
fn captures_are_read_as_they_were_meant() {
    for name in ["linux-6.18-x86_64", "linux-6.18-x86_64-more"] {
        read_as_meant(name);
    }
}

fn read_as_meant(name: &str) {
    let log = fs::read(corpus(&format!("{name}.log"))).unwrap();
    let got: String = live(&log).iter().map(describe).collect();
    let path = corpus(&format!("{name}.golden"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &got).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    for (got, expected) in got.lines().zip(expected.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.len(), expected.len());
}

#[test]
fn every_event_of_a_capture_is_complete_and_no_field_is_unreadable() {
    for event in live(&log()) {
        assert!(event.complete, "{}", event.id);
        let Some(call) = event.syscall() else {
            continue;
        };
        assert!(
            call.name().is_some() && call.pid > 0,
            "{}",
            describe(&event)
        );
        // The kernel counts hidden names (of a message queue) that get no PATH.
        assert!(event.paths().len() <= call.items as usize);
    }
}

/// A real installation of packages (`package-install.log.zst`, see the README beside it): every event whole, every call, path and
/// argument readable, and written again as it was read.
#[test]
fn an_installation_of_packages_is_read_whole() {
    let mut log = Vec::new();
    LogReader::open(corpus("package-install.log.zst"))
        .unwrap()
        .for_each_record(|r| {
            let (secs, millis) = (r.millis / 1000, r.millis % 1000);
            let head = format!(
                "type={} msg=audit({secs}.{millis:03}:{}): ",
                r.kind, r.serial
            );
            log.extend_from_slice(head.as_bytes());
            log.extend_from_slice(r.body);
            log.push(b'\n');
        })
        .unwrap();
    let mut assembler = Assembler::new(Limits::default());
    let mut out = Vec::new();
    let now = Instant::now();
    LogReader::new(&log[..])
        .unwrap()
        .for_each_record(|r| {
            assembler.push(None, r.kind, r.millis, r.serial, r.body, now, &mut out)
        })
        .unwrap();
    let counters = assembler.counters();
    assert_eq!(assembler.open(), (0, 0));
    assert_eq!(
        (counters.amendments, counters.duplicates, counters.evicted),
        (0, 0, 0)
    );
    assert_eq!((counters.records, counters.events), (60_000, 11_190));
    let (mut execs, mut written) = (0, 0);
    for one in &out {
        let Assembled::Event(event) = one else {
            panic!("no amendment")
        };
        assert!(event.complete);
        let mut raw = Vec::new();
        event.write_raw(&mut raw);
        written += raw.iter().filter(|b| **b == b'\n').count();
        let Some(call) = event.syscall() else {
            continue;
        };
        assert!(
            call.name().is_some() && call.success.is_some(),
            "{}",
            describe(event)
        );
        assert_eq!(
            event.paths().len(),
            call.items as usize,
            "{}",
            describe(event)
        );
        if let Some(argv) = event.argv() {
            execs += 1;
            assert!(!argv.is_empty() && argv.iter().all(|a| !a.is_empty() || argv.len() > 1));
        }
    }
    assert_eq!((execs, written), (1243, 60_000));
}

#[test]
fn an_event_is_written_as_it_was_read() {
    let log = log();
    let mut lines: BTreeMap<(u64, u32), Vec<u8>> = BTreeMap::new();
    for line in log.split_inclusive(|b| *b == b'\n') {
        let record = parse_line(line.strip_suffix(b"\n").unwrap()).unwrap();
        lines
            .entry((record.millis, record.serial))
            .or_default()
            .extend_from_slice(line);
    }
    let events = live(&log);
    assert_eq!(events.len(), lines.len());
    for event in &events {
        let mut raw = Vec::new();
        event.write_raw(&mut raw);
        assert_eq!(
            to_text(&raw),
            to_text(&lines[&(event.id.millis, event.id.serial)])
        );
    }
}

#[test]
fn a_log_without_ends_gives_the_same_events() {
    let log = log();
    let without: Vec<u8> = log
        .split_inclusive(|b| *b == b'\n')
        .filter(|line| !line.starts_with(b"type=EOE "))
        .flatten()
        .copied()
        .collect();
    let mut expected = live(&log);
    let mut got = events(&without, Assembler::for_logs(Limits::default()));
    // Nothing says that an io_uring operation, or the last of a log, is over.
    let uring = |event: &Event| {
        event
            .syscall()
            .is_some_and(|call| call.arch == decode::ARCH_IO_URING)
    };
    assert!(got.iter().all(|event| event.complete != uring(event)));
    got.iter_mut()
        .chain(&mut expected)
        .for_each(|event| event.complete = true);
    let key = |event: &Event| (event.id.millis, event.id.serial);
    got.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(got, expected);
}

#[test]
fn ausearch_reads_what_we_write() {
    if Command::new("ausearch").arg("--version").output().is_err() {
        println!("skipped: ausearch is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let mut raw = Vec::new();
    let events = live(&log());
    events.iter().for_each(|event| event.write_raw(&mut raw));
    fs::write(&path, &raw).unwrap();
    let output = Command::new("ausearch")
        .arg("-if")
        .arg(&path)
        .arg("--raw")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // It leaves EOE out.
    let mut again = self::events(&output.stdout, Assembler::for_logs(Limits::default()));
    again.iter_mut().for_each(|event| event.complete = true);
    assert_eq!(again.len(), events.len());
    let key = |event: &Event| (event.id.millis, event.id.serial);
    again.sort_by_key(key);
    let mut events = events;
    events.sort_by_key(key);
    assert_eq!(again, events);
}

/// Nightly (`scripts/test.sh --long` sets SYSCALL_MONITOR_LONG) five thousand.
fn cases() -> u32 {
    match std::env::var_os("SYSCALL_MONITOR_LONG") {
        Some(_) => 5_000,
        None => 300,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Any prefix and any mutation of any record of the capture is decoded without a panic, and comes out as it went in.
    #[test]
    fn a_damaged_record_harms_nothing(line: prop::sample::Index, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let log = log();
        let lines: Vec<&[u8]> = log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        let record = parse_line(lines[line.index(lines.len())]).unwrap();
        let mut body = record.body.to_vec();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body.truncate(cut.index(body.len() + 1));
        let mut assembler = Assembler::new(Limits::default());
        let mut out = Vec::new();
        assembler.push(None, record.kind, record.millis, record.serial, &body, Instant::now(), &mut out);
        assembler.finish(&mut out);
        for one in &out {
            let Assembled::Event(event) = one else { panic!("no amendment") };
            let _ = describe(event);
            prop_assert_eq!(event.records().next().unwrap().body, &body[..]);
            let mut raw = Vec::new();
            event.write_raw(&mut raw);
            // However many line breaks are in the text, no line can be forged.
            let lines = raw.iter().filter(|b| **b == b'\n').count();
            prop_assert!(lines <= 2 && raw.starts_with(b"type="));
        }
    }
}
