//! Captured life of two containers: every exec names its container, and setup, hooks and teardown are told apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use collector::proc_events::{ProcEvent, ProcEventKind};
use collector::record::{RecordType, parse_header};
use collector::{Event, EventId};
use enricher::activity::{Phase, Source};
use enricher::{Activity, Enricher, Options};

const CORPUS: &str = include_str!("corpus/docker-20.10-runc-1.1.5.txt");
/// Realtime minus monotonic when it was captured, and the tick of that kernel.
const OFFSET: i128 = 1_795_364_228_016_500_000;
const TICK: u64 = 4_000_000;
const RUN: &str = "d86231afc67a4ad3adb7f690cf16faa293853d2468b72a8117aa03e21cf6c4f6";
const INIT: &str = "b5e6a1837b51f7172a77a100907607827068fb9065ee94c38aabf1dc9eca8a06";

enum Line {
    Proc(ProcEvent),
    Event(Event),
}

/// The corpus as messages and whole events, in the order in which they were drained.
fn corpus() -> Vec<Line> {
    let mut out = Vec::new();
    let mut open: Option<Event> = None;
    for (n, line) in CORPUS.lines().enumerate() {
        let mut words = line.split(' ');
        match words.next() {
            Some("P") => {
                let at_ns = words.next().unwrap().parse().unwrap();
                let cpu = words.next().unwrap().parse().unwrap();
                let kind = words.next().unwrap();
                let rest: Vec<&str> = words.collect();
                let id = |i: usize| rest[i].parse::<u32>().unwrap();
                let kind = match kind {
                    "fork" => ProcEventKind::Fork {
                        parent_pid: id(0),
                        parent_tgid: id(1),
                        child_pid: id(2),
                        child_tgid: id(3),
                    },
                    "exec" => ProcEventKind::Exec {
                        pid: id(0),
                        tgid: id(1),
                    },
                    "exit" => ProcEventKind::Exit {
                        pid: id(0),
                        tgid: id(1),
                        code: id(2),
                        signal: id(3),
                    },
                    "comm" => {
                        let mut comm = [0; 16];
                        let name = rest[2..].join(" ");
                        comm[..name.len()].copy_from_slice(name.as_bytes());
                        ProcEventKind::Comm {
                            pid: id(0),
                            tgid: id(1),
                            comm,
                        }
                    }
                    other => panic!("{other}"),
                };
                out.push(Line::Proc(ProcEvent {
                    at_ns,
                    cpu,
                    seq: n as u32,
                    kind,
                }));
            }
            Some("A") => {
                let kind = RecordType(words.next().unwrap().parse().unwrap());
                let payload = words.collect::<Vec<_>>().join(" ");
                let header = parse_header(payload.as_bytes()).unwrap();
                if kind == RecordType::EOE {
                    let mut event = open.take().unwrap();
                    event.complete = true;
                    out.push(Line::Event(event));
                    continue;
                }
                let event = open.get_or_insert_with(|| {
                    Event::new(EventId::local(header.millis, header.serial))
                });
                assert_eq!(
                    event.id.serial, header.serial,
                    "one event at a time in this corpus"
                );
                event.push(kind, header.body);
            }
            _ => {}
        }
    }
    out
}

fn run(mut enricher: Enricher, with_connector: bool) -> Vec<Activity> {
    let mut out = Vec::new();
    for line in corpus() {
        match line {
            Line::Proc(event) if with_connector => enricher.on_proc_event(&event),
            Line::Proc(_) => {}
            Line::Event(event) => out.push(enricher.enrich(event)),
        }
    }
    out
}

/// As after seeding: the shell that ran docker, dockerd and containerd are the host's.
fn seeded() -> Enricher {
    let mut enricher = Enricher::captured(Options::default(), OFFSET, TICK);
    enricher.assume_host(&[1, 2, 4040, 4047, 14285]);
    enricher
}

fn live() -> Vec<Activity> {
    run(seeded(), true)
}

fn execs(all: &[Activity]) -> impl Iterator<Item = &Activity> {
    all.iter().filter(|a| {
        a.syscall
            .as_ref()
            .is_some_and(|s| s.name.starts_with("exec") && s.success == Some(true))
    })
}

/// Container, phase and first arguments of each exec inside a container.
fn inside(all: &[Activity]) -> Vec<(&str, Phase, String)> {
    execs(all)
        .filter(|a| matches!(a.phase, Phase::Running | Phase::Exec))
        .map(|a| {
            (
                a.container.as_ref().unwrap().id.as_str(),
                a.phase,
                a.process.argv.join(" "),
            )
        })
        .collect()
}

#[test]
fn every_exec_names_its_container_and_phase() {
    let all = live();
    let (running, exec) = (Phase::Running, Phase::Exec);
    let wanted = [
        (RUN, running, "/bin/sh -c /bin/ls /; (/bin/true)"),
        (RUN, running, "/bin/ls /"),
        (RUN, running, "/bin/true"),
        (
            INIT,
            running,
            "/sbin/docker-init -- /bin/sh -c while :; do sleep 1; done",
        ),
        (INIT, running, "/bin/sh -c while :; do sleep 1; done"),
        (INIT, running, "sleep 1"),
        (INIT, exec, "/bin/sh -c /bin/id; /bin/true"),
        (INIT, exec, "/bin/id"),
        (INIT, exec, "/bin/true"),
        (INIT, running, "sleep 1"),
        (INIT, exec, "/bin/sh -c /bin/true"),
        (INIT, exec, "/bin/true"),
    ];
    let wanted: Vec<_> = wanted
        .into_iter()
        .map(|(id, phase, argv)| (id, phase, argv.to_owned()))
        .collect();
    assert_eq!(inside(&all), wanted);
    assert!(
        execs(&all)
            .filter(|a| a.container.is_some())
            .all(|a| a.attribution.certain),
        "each of them for sure"
    );
}

#[test]
fn a_session_with_the_command_of_the_health_check_is_one_and_another_is_not() {
    let mut enricher = seeded();
    let session = |all: &[Activity]| -> Vec<(String, bool)> {
        execs(all)
            .filter(|a| a.phase == Phase::Exec)
            .map(|a| (a.process.argv.join(" "), a.health_check))
            .collect()
    };
    // What Docker's inspect says, before the first check runs.
    enricher.update_container(enricher::Container {
        name: Some("web".into()),
        health_check: ["/bin/sh", "-c", "/bin/true"].map(String::from).to_vec(),
        ..enricher::Container::from_id(INIT)
    });
    let all = run(enricher, true);
    let wanted = [
        ("/bin/sh -c /bin/id; /bin/true", false),
        ("/bin/id", false),
        ("/bin/true", false),
        ("/bin/sh -c /bin/true", true),
        ("/bin/true", true),
    ];
    let wanted: Vec<_> = wanted
        .map(|(argv, check)| (argv.to_owned(), check))
        .to_vec();
    assert_eq!(session(&all), wanted);
    assert!(
        all.iter()
            .all(|a| !a.health_check || a.phase == Phase::Exec)
    );
    // Without Docker's word none is.
    assert!(session(&live()).iter().all(|(_, check)| !check));
}

#[test]
fn setup_is_setup_and_hooks_and_runtimes_are_the_hosts() {
    let all = live();
    for a in &all {
        let comm = a.process.comm.as_str();
        let what = format!("{} {comm} {:?} {:?}", a.event.id, a.phase, a.process.argv);
        if comm.starts_with("runc:[") {
            assert_eq!(a.phase, Phase::Setup, "{what}");
            assert!(a.attribution.certain, "{what}");
        }
        let first = a
            .process
            .argv
            .first()
            .map(String::as_str)
            .unwrap_or_default();
        if first == "libnetwork-setkey"
            || first.ends_with("containerd-shim-runc-v2")
            || comm == "dockerd"
        {
            assert_eq!(
                (a.phase, a.container.is_none()),
                (Phase::Host, true),
                "{what}"
            );
        }
        if first == "runc" && a.process.argv.get(1).is_some_and(|v| v == "init") {
            assert_eq!(a.phase, Phase::Setup, "{what}");
        } else if first == "runc" && execs(std::slice::from_ref(a)).count() == 1 {
            assert_eq!(a.phase, Phase::Host, "{what}");
        }
    }
    let mounts = |phase| {
        all.iter()
            .filter(|a| a.phase == phase && a.syscall.as_ref().is_some_and(|s| s.name == "mount"))
            .count()
    };
    assert_eq!(
        (mounts(Phase::Running), mounts(Phase::Exec)),
        (0, 0),
        "no container mounted anything by itself"
    );
    assert!(mounts(Phase::Setup) > 60);
}

#[test]
fn sources_previous_programs_and_ancestors_are_told() {
    let all = live();
    let find = |argv: &str| {
        execs(&all)
            .find(|a| a.process.argv.join(" ") == argv)
            .unwrap()
    };
    let first = find("/bin/sh -c /bin/ls /; (/bin/true)");
    assert_eq!(first.attribution.source, Source::Lineage);
    assert_eq!(
        first.process.previous_exe.as_deref(),
        Some("/usr/sbin/runc"),
        "the clone's parent is runc itself"
    );
    let child = find("/bin/ls /");
    assert_eq!(child.attribution.source, Source::Table);
    let chain: Vec<&str> = child
        .process
        .ancestors
        .iter()
        .map(|a| a.exe.as_str())
        .collect();
    assert_eq!(
        chain[..3],
        [
            "/bin/busybox",
            "/usr/sbin/runc",
            "/usr/bin/containerd-shim-runc-v2"
        ],
        "{chain:?}"
    );
}

#[test]
fn without_the_connector_lineage_still_names_the_container_but_is_not_sure() {
    let all = run(Enricher::offline(), false);
    let named: Vec<&str> = execs(&all)
        .filter(|a| matches!(a.phase, Phase::Running | Phase::Exec))
        .map(|a| a.container.as_ref().unwrap().id.as_str())
        .collect();
    assert_eq!(
        named,
        [
            RUN, RUN, RUN, INIT, INIT, INIT, INIT, INIT, INIT, INIT, INIT, INIT
        ]
    );
    let mounts = |a: &&Activity| {
        a.syscall.as_ref().is_some_and(|s| s.name == "mount")
            && matches!(a.phase, Phase::Running | Phase::Exec)
    };
    assert_eq!(all.iter().filter(mounts).count(), 0);
    assert!(
        all.iter()
            .filter(|a| a.container.is_some())
            .all(|a| !a.attribution.certain)
    );
}

#[test]
fn an_overrun_takes_certainty_away() {
    let mut enricher = seeded();
    let mut sure = Vec::new();
    let mut lost = false;
    for line in corpus() {
        match line {
            Line::Proc(event) => enricher.on_proc_event(&event),
            Line::Event(event) => {
                let activity = enricher.enrich(event);
                if activity
                    .process
                    .argv
                    .first()
                    .is_some_and(|a| a == "/sbin/docker-init")
                {
                    enricher.on_connector_overrun();
                    lost = true;
                } else if lost && activity.process.argv == ["sleep", "1"] {
                    assert_eq!(
                        activity.container.as_ref().map(|c| c.id.as_str()),
                        Some(INIT)
                    );
                    sure.push(activity.attribution.certain);
                }
            }
        }
    }
    assert_eq!(sure, [false, false]);
    assert_eq!(enricher.counters().overruns, 1);
}

#[test]
fn what_is_written_is_read_again() {
    for (n, mut activity) in live().into_iter().enumerate() {
        activity.health_check = n % 2 == 0;
        if let Some(path) = activity.paths.last_mut() {
            path.real_path = (n % 3 == 0).then(|| "/where/it/leads".to_owned());
        }
        let mut bytes = Vec::new();
        activity.encode(&mut bytes);
        let again = Activity::decode(&bytes).unwrap();
        assert_eq!(again.to_json(), activity.to_json());
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(Activity::decode(&bytes[..cut]).is_err());
        }
    }
    assert!(Activity::decode(&[9, 9]).is_err());
}

#[test]
fn json_has_the_fixed_shape() {
    let all = live();
    let first = execs(&all).find(|a| a.phase == Phase::Running).unwrap();
    let json = first.to_json();
    assert_eq!(json["schema"], "syscall-monitor/event/1");
    assert_eq!(json["time"], "2026-11-22T16:40:27.748Z");
    assert_eq!(
        (json["category"].as_str(), json["phase"].as_str()),
        (Some("process"), Some("running"))
    );
    assert_eq!(
        (
            json["container"]["id"].as_str(),
            json["container"]["certain"].as_bool()
        ),
        (Some(RUN), Some(true))
    );
    assert_eq!(json["syscall"]["name"], "execve");
    assert_eq!(json["paths"][0]["path"], "/bin/sh");
    assert_eq!(json["paths"][0]["mode"], "0100755");
    assert_eq!(json["records"][0]["type"], "SYSCALL");
    assert_eq!(json["records"][0]["fields"]["exe"], "/bin/busybox");
    assert_eq!(json["complete"], true);
}

/// Activities as the first form of stored events has them, each behind its length, written by the program of that form; and the JSON that
/// they are.
const FORM_1: &[u8] = include_bytes!("corpus/stored-form-1.bin");
const FORM_1_JSON: &str = include_str!("corpus/stored-form-1.jsonl");

#[test]
fn what_the_first_form_wrote_is_read_as_it_was() {
    let mut rest = FORM_1;
    for wanted in FORM_1_JSON.lines() {
        let (length, behind) = rest.split_first_chunk::<4>().unwrap();
        let (bytes, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        rest = behind;
        assert_eq!(bytes[0], 1);
        let activity = Activity::decode(bytes).unwrap();
        let wanted: serde_json::Value = serde_json::from_str(wanted).unwrap();
        assert_eq!(activity.to_json(), wanted);
        // A form that is cut, or has something behind it, is no event.
        assert!(Activity::decode(&bytes[..bytes.len() - 1]).is_err());
    }
    assert!(rest.is_empty());
}
