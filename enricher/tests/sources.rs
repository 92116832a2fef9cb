//! Each source of an answer by itself, and what is no source: the file that is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::path::Path;
use std::time::SystemTime;

use collector::proc_events::{ProcEvent, ProcEventKind};
use collector::{Event, EventId, RecordType};
use enricher::activity::{Phase, Source};
use enricher::clock::{monotonic_ns, suspended_ns};
use enricher::{Activity, Attribution, Enricher, Options};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn id(letter: char) -> String {
    String::from(letter).repeat(64)
}

/// What the proc connector says.
fn said(enricher: &mut Enricher, at_ns: u64, kind: ProcEventKind) {
    enricher.on_proc_event(&ProcEvent {
        at_ns,
        cpu: 0,
        seq: 0,
        kind,
    });
}

fn fork(enricher: &mut Enricher, at_ns: u64, parent: u32, child: u32) {
    let kind = ProcEventKind::Fork {
        parent_pid: parent,
        parent_tgid: parent,
        child_pid: child,
        child_tgid: child,
    };
    said(enricher, at_ns, kind);
}

fn named(enricher: &mut Enricher, at_ns: u64, pid: u32, name: &str) {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    let kind = ProcEventKind::Comm {
        pid,
        tgid: pid,
        comm,
    };
    said(enricher, at_ns, kind);
}

/// An event of a process: a system call by number, its program, arguments of an exec, the device of the file that it names.
#[derive(Clone, Copy)]
struct Call<'a> {
    millis: u64,
    pid: u32,
    ppid: u32,
    number: u32,
    exe: &'a str,
    argv: &'a str,
    dev: &'a str,
    key: &'a str,
}

const OPEN: Call<'_> = Call {
    millis: 0,
    pid: 0,
    ppid: 0,
    number: 257,
    exe: "/bin/cat",
    argv: "",
    dev: "00:28",
    key: "sm-x",
};

fn happens(enricher: &mut Enricher, serial: u32, call: Call<'_>) -> Activity {
    let Call {
        millis,
        pid,
        ppid,
        number,
        exe,
        argv,
        dev,
        key,
    } = call;
    let mut event = Event::new(EventId::local(millis, serial));
    let body = format!(
        "arch=c000003e syscall={number} success=yes exit=3 a0=ffffff9c a1=1 a2=0 a3=0 items=1 ppid={ppid} pid={pid} auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"x\" exe=\"{exe}\" key=\"{key}\""
    );
    event.push(RecordType::SYSCALL, body.as_bytes());
    if !argv.is_empty() {
        let words: Vec<String> = argv
            .split(' ')
            .enumerate()
            .map(|(n, word)| format!("a{n}=\"{word}\""))
            .collect();
        let body = format!("argc={} {}", words.len(), words.join(" "));
        event.push(RecordType::EXECVE, body.as_bytes());
    }
    let body = format!(
        "item=0 name=\"/data/file\" inode=7 dev={dev} mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL"
    );
    event.push(RecordType::PATH, body.as_bytes());
    event.complete = true;
    enricher.enrich(event)
}

fn of(a: &Activity) -> Option<&str> {
    a.container.as_ref().map(|c| c.id.as_str())
}

fn told(source: Source, certain: bool) -> Attribution {
    Attribution { source, certain }
}

/// Shim, `runc create` and the container's first program, pid 40, as the connector and the records tell them; no `/proc`.
fn started(enricher: &mut Enricher, id: &str) -> Activity {
    enricher.assume_host(&[1]);
    let exec = |enricher: &mut Enricher, at_ms: u64, pid: u32, ppid: u32, exe: &str, argv: &str| {
        said(enricher, at_ms * MS, ProcEventKind::Exec { pid, tgid: pid });
        let call = Call {
            millis: at_ms,
            pid,
            ppid,
            number: 59,
            exe,
            argv,
            ..OPEN
        };
        happens(enricher, at_ms as u32, call)
    };
    fork(enricher, 1000 * MS, 1, 20);
    exec(
        enricher,
        1010,
        20,
        1,
        "/usr/bin/containerd-shim-runc-v2",
        &format!("/usr/bin/containerd-shim-runc-v2 -namespace moby -id {id} -address /run/x"),
    );
    fork(enricher, 1020 * MS, 20, 30);
    exec(
        enricher,
        1030,
        30,
        20,
        "/usr/sbin/runc",
        &format!("runc --root /run/x create --bundle /run/b {id}"),
    );
    fork(enricher, 1040 * MS, 30, 40);
    named(enricher, 1041 * MS, 40, "runc:[2:INIT]");
    exec(enricher, 1060, 40, 30, "/bin/sh", "sh -c x")
}

#[test]
fn lineage_names_the_container_of_its_first_program() {
    let mut enricher = Enricher::captured(Options::default(), 0, 4 * MS);
    let first = started(&mut enricher, &id('a'));
    assert_eq!(of(&first), Some(id('a').as_str()));
    assert_eq!(first.attribution, told(Source::Lineage, true));
    assert_eq!(first.phase, Phase::Running);
}

#[test]
fn the_table_names_the_container_of_whoever_was_forked_in_it_although_it_is_gone() {
    let mut enricher = Enricher::captured(Options::default(), 0, 4 * MS);
    started(&mut enricher, &id('a'));
    // Double-forked: the first child is gone before the second acts, and the record names a parent outside of the container.
    fork(&mut enricher, 1100 * MS, 40, 50);
    fork(&mut enricher, 1101 * MS, 50, 60);
    for pid in [50, 60] {
        let kind = ProcEventKind::Exit {
            pid,
            tgid: pid,
            code: 0,
            signal: 17,
        };
        said(&mut enricher, 1130 * MS, kind);
    }
    let call = Call {
        millis: 1115,
        pid: 60,
        ppid: 20,
        ..OPEN
    };
    let orphan = happens(&mut enricher, 9001, call);
    assert_eq!(of(&orphan), Some(id('a').as_str()));
    assert_eq!(orphan.attribution, told(Source::Table, true));
}

#[test]
fn a_parent_that_is_known_tells_of_a_child_that_is_not_and_is_not_sure() {
    let mut enricher = Enricher::captured(Options::default(), 0, 4 * MS);
    started(&mut enricher, &id('a'));
    let call = Call {
        millis: 1200,
        pid: 70,
        ppid: 40,
        ..OPEN
    };
    let child = happens(&mut enricher, 9001, call);
    assert_eq!(of(&child), Some(id('a').as_str()));
    assert!(!child.attribution.certain, "{:?}", child.attribution);
}

/// `/proc/PID` of a process that started so long ago; first of its container, when it has one.
fn process(proc: &Path, pid: u32, ago_ns: u64, container: Option<char>) {
    let dir = proc.join(pid.to_string());
    std::fs::create_dir_all(&dir).unwrap();
    let ticks = (monotonic_ns() - ago_ns + suspended_ns()) / (10 * MS);
    let stat = format!("{pid} (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 1 1");
    std::fs::write(dir.join("stat"), stat).unwrap();
    let path = container.map_or("/".to_owned(), |letter| format!("/docker/{}", id(letter)));
    std::fs::write(dir.join("cgroup"), format!("0::{path}\n")).unwrap();
    let inner = if container.is_some() { 1 } else { pid };
    std::fs::write(dir.join("status"), format!("NSpid:\t{pid}\t{inner}\n")).unwrap();
    let minor = 40 + pid / 100;
    let root = format!("9 1 0:{minor} / / rw - overlay overlay rw\n");
    std::fs::write(dir.join("mountinfo"), root).unwrap();
}

fn with_proc(proc: &Path) -> Enricher {
    Enricher::new(Options {
        proc: proc.to_owned(),
        ..Options::default()
    })
}

fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

fn now(pid: u32) -> Call<'static> {
    Call {
        millis: now_ms(),
        pid,
        ppid: 1,
        ..OPEN
    }
}

#[test]
fn proc_is_asked_about_whoever_nobody_told_of_and_is_sure_only_of_who_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut enricher = with_proc(dir.path());
    process(dir.path(), 100, 5 * SECOND, Some('a'));
    let seen = happens(&mut enricher, 1, now(100));
    assert_eq!(of(&seen), Some(id('a').as_str()));
    assert_eq!(seen.attribution, told(Source::Proc, true));
    // It started within the unit of /proc's clock: it may be a later process with that pid.
    process(dir.path(), 200, 0, Some('b'));
    let young = happens(&mut enricher, 2, now(200));
    assert!(!young.attribution.certain, "{:?}", young.attribution);
    // Gone, and nobody told of it.
    let gone = happens(&mut enricher, 3, now(300));
    assert_eq!(
        (of(&gone), gone.attribution),
        (None, told(Source::None, false))
    );
}

#[test]
fn whoever_touches_a_file_of_another_container_is_not_that_container() {
    let dir = tempfile::tempdir().unwrap();
    process(dir.path(), 50, 9 * SECOND, None);
    process(dir.path(), 100, 9 * SECOND, Some('a'));
    process(dir.path(), 200, 9 * SECOND, Some('b'));
    let mut enricher = with_proc(dir.path());
    enricher.seed();
    let root = enricher.runtime(&id('b')).unwrap().root_dev;
    assert_eq!(root, Some((0, 42)), "the device of the file below");
    // A backup on the host, container A with B's files mounted, and B itself: the same file, the key of a rule for B.
    for (pid, actor) in [(50, None), (100, Some('a')), (200, Some('b'))] {
        let call = Call {
            dev: "00:2a",
            key: "sm-b",
            ..now(pid)
        };
        let a = happens(&mut enricher, pid, call);
        assert_eq!(of(&a), actor.map(id).as_deref(), "{pid}");
        assert!(a.attribution.certain && !a.entered, "{pid}");
    }
    // Somebody of whom nothing is known, and who is gone: B's file and B's rule do not make him B.
    let call = Call {
        dev: "00:2a",
        key: "sm-b",
        ..now(999)
    };
    let stranger = happens(&mut enricher, 999, call);
    assert_eq!(
        (of(&stranger), stranger.attribution),
        (None, told(Source::None, false))
    );
}

#[test]
fn sources_that_disagree_are_counted_and_what_lives_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    process(dir.path(), 100, 9 * SECOND, Some('a'));
    let mut enricher = with_proc(dir.path());
    enricher.seed();
    // A child of A by the connector, in B by its cgroup. The connector lost messages, so its row is compared.
    fork(&mut enricher, monotonic_ns() - SECOND, 100, 101);
    process(dir.path(), 101, SECOND, Some('b'));
    let before = happens(&mut enricher, 1, now(101));
    assert_eq!(of(&before), Some(id('a').as_str()), "nothing was lost yet");
    assert_eq!(enricher.counters().contradictions, 0);
    // The first overrun is repaired at once, by a look at all of /proc.
    enricher.on_connector_overrun();
    assert_eq!(enricher.counters().contradictions, 1);
    let after = happens(&mut enricher, 2, now(101));
    assert_eq!(of(&after), Some(id('b').as_str()));
    // The second waits for its repair: the row is compared when it is asked for.
    fork(&mut enricher, monotonic_ns() - SECOND / 2, 100, 102);
    process(dir.path(), 102, SECOND / 2, Some('b'));
    happens(&mut enricher, 3, now(102));
    enricher.on_connector_overrun();
    let after = happens(&mut enricher, 4, now(102));
    assert_eq!(of(&after), Some(id('b').as_str()));
    assert_eq!(enricher.counters().contradictions, 2);
}

#[test]
fn a_process_of_the_host_that_runs_a_containers_program_has_entered() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("self")).unwrap();
    let own = "27 1 254:0 / / rw - ext4 /dev/vda rw\n";
    std::fs::write(dir.path().join("self/mountinfo"), own).unwrap();
    process(dir.path(), 50, 9 * SECOND, None);
    process(dir.path(), 200, 9 * SECOND, Some('b'));
    let mut enricher = with_proc(dir.path());
    enricher.seed();
    let exec = |pid: u32, dev: &'static str| Call {
        number: 59,
        exe: "/bin/sh",
        argv: "sh",
        dev,
        ..now(pid)
    };
    // The host's own shell, then nsenter's: a program on the root of container B.
    let own = happens(&mut enricher, 1, exec(50, "fe:00"));
    assert_eq!((own.phase, own.entered), (Phase::Host, false));
    let inside = happens(&mut enricher, 2, exec(50, "00:2a"));
    assert_eq!((inside.phase, inside.entered), (Phase::Host, true));
    assert_eq!(of(&inside), None, "it acts for the host");
    // And what it does there.
    let later = happens(&mut enricher, 3, now(50));
    assert!(later.entered);
}

#[test]
fn a_process_inside_that_calls_itself_a_runtimes_clone_gains_nothing() {
    let mut enricher = Enricher::captured(Options::default(), 0, 4 * MS);
    started(&mut enricher, &id('a'));
    fork(&mut enricher, 1100 * MS, 40, 50);
    named(&mut enricher, 1101 * MS, 50, "runc:[2:INIT]");
    // It mounts, as runc does in a setup; and executes something that is called like runc.
    let mount = Call {
        millis: 1110,
        pid: 50,
        ppid: 40,
        number: 165,
        exe: "/",
        ..OPEN
    };
    let forged = happens(&mut enricher, 9001, mount);
    assert_eq!(
        (forged.phase, of(&forged)),
        (Phase::Running, Some(id('a').as_str()))
    );
    assert!(forged.attribution.certain);
    said(
        &mut enricher,
        1120 * MS,
        ProcEventKind::Exec { pid: 50, tgid: 50 },
    );
    let argv = format!("runc exec {}", id('b'));
    let exec = Call {
        millis: 1120,
        number: 59,
        exe: "/usr/sbin/runc",
        argv: &argv,
        ..mount
    };
    let forged = happens(&mut enricher, 9002, exec);
    assert_eq!(
        (forged.phase, of(&forged)),
        (Phase::Running, Some(id('a').as_str()))
    );
}
