//! The index never drops a match: with it and without it, rule by rule, the same is found.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "../examples/evaluate/rules.rs"]
mod rules;
#[allow(dead_code)]
#[path = "../examples/evaluate/workload.rs"]
mod workload;

use std::path::Path;

use collector::record::RecordType;
use common::*;
use detector::{Detected, Detector, Options, Pack, Search};
use enricher::activity::{Activity, Category, Phase};
use enricher::container::Profile;
use proptest::prelude::*;

/// The packs and the made-up rules, once for each way of searching.
struct Pair {
    index: Detector,
    every: Detector,
    matches: usize,
}

impl Pair {
    fn new(packs: &[Pack]) -> Self {
        let load = |search| {
            let options = Options {
                search,
                ..Options::default()
            };
            Detector::load(packs, options).unwrap_or_else(|error| panic!("{error}"))
        };
        let mut index = load(Search::Candidates);
        index.warm_up();
        Self {
            index,
            every: load(Search::Every),
            matches: 0,
        }
    }

    /// Evaluates by both.
    fn compare(&mut self, activity: &Activity) -> Result<(), String> {
        let (mut index, mut every): (Vec<Detected>, Vec<Detected>) = (Vec::new(), Vec::new());
        self.index.evaluate(activity, &mut index);
        self.every.evaluate(activity, &mut every);
        self.matches += every.len();
        let rules = |found: &[Detected]| -> Vec<String> {
            found.iter().map(|d| d.alert().title.clone()).collect()
        };
        // The values that matched, too; selections that `1 of` chooses come in no order.
        sort_values(&mut index);
        sort_values(&mut every);
        if index == every {
            return Ok(());
        }
        Err(format!(
            "with the index {:?}, without {:?}: {activity:?}",
            rules(&index),
            rules(&every)
        ))
    }
}

fn sort_values(found: &mut [Detected]) {
    for one in found {
        match one {
            Detected::New(alert) | Detected::Repeat { alert, .. } => alert.matched.sort(),
        }
    }
}

fn all_rules() -> (Pair, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in rules::rules() {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let mut packs = packs(&["common", "openclaw", "clawbot", "moltbot"]);
    packs.push(Pack {
        name: "common".to_owned(),
        dir: dir.path().to_owned(),
    });
    (Pair::new(&packs), dir)
}

#[test]
fn on_the_captures_the_index_finds_what_every_rule_finds() {
    let (mut pair, _dir) = all_rules();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../collector/tests/corpus");
    let mut compared = 0;
    for (log, most) in [
        ("linux-6.18-x86_64.log", usize::MAX),
        ("linux-6.18-x86_64-more.log", usize::MAX),
        ("package-install.log.zst", 1500),
    ] {
        let host = workload::read(&corpus.join(log)).unwrap();
        // Spread over the whole capture.
        let step = (host.len() / most.min(host.len())).max(1);
        let host: Vec<Activity> = host.into_iter().step_by(step).collect();
        let mut activities = host.clone();
        for profile in [None, Some(Profile::Openclaw), Some(Profile::Moltbot)] {
            let mut inside = host.clone();
            workload::into_container(&mut inside, profile);
            activities.extend(inside);
        }
        for activity in &activities {
            pair.compare(activity).unwrap();
        }
        compared += activities.len();
    }
    assert!(compared > 5_000, "{compared} activities");
    assert!(pair.matches > 30, "{} matches", pair.matches);
}

/// Words that rules look for, near misses of them, and what lower case makes of letters that are not ASCII.
const WORDS: [&str; 34] = [
    "curl",
    "sh",
    "bash",
    "base64",
    "-d",
    "|",
    "/etc/shadow",
    "/proc/1/environ",
    "docker.sock",
    "--unix-socket",
    "DOCKER_HOST=tcp://x",
    "doc\u{212a}er.sock",
    "\u{17f}h",
    "STRATUM+TCP://pool",
    "nc",
    "-e",
    "/bin/sh",
    "xmrig",
    "id_rsa",
    "-perm -4000",
    "/dev/tcp/1.2.3.4/5",
    "0>&1",
    "python3",
    "-c",
    "import socket,os;os.dup2",
    "GRÜN",
    "İ",
    "ΑΣ",
    "chmod",
    "u+s",
    "history -c",
    "--preload",
    "/var/log/auth.log",
    "",
];
const PROGRAMS: [&str; 16] = [
    "/usr/bin/curl",
    "/bin/busybox",
    "/usr/bin/CURL",
    "/usr/bin/dash",
    "/bin/bash",
    "/usr/bin/nc",
    "/memfd:x (deleted)",
    "/tmp/a.out",
    "/usr/bin/python3.11",
    "/usr/local/bin/node",
    "/usr/bin/docker",
    "/dev/shm/x",
    "/usr/bin/Soc\u{212a}at",
    "sh",
    "",
    "/usr/bin/chmod",
];
const NAMES: [(&str, Category); 14] = [
    ("execve", Category::Process),
    ("execveat", Category::Process),
    ("openat", Category::File),
    ("open", Category::File),
    ("unlink", Category::File),
    ("chmod", Category::File),
    ("connect", Category::Network),
    ("sendto", Category::Network),
    ("mount", Category::Mount),
    ("ptrace", Category::Ptrace),
    ("init_module", Category::Module),
    ("setns", Category::Namespace),
    ("io_uring_setup", Category::Other),
    ("getpid", Category::Other),
];
const FILES: [&str; 14] = [
    "/etc/passwd",
    "/proc/self/mem",
    "/proc/12/mem",
    "/proc/sys/kernel/core_pattern",
    "/etc/cron.d/x",
    "/home/node/a.txt",
    "/ETC/PASSWD",
    "/dev/shm/.x",
    "/run/docker.sock",
    "/etc/sudoers.d/\u{212a}",
    "/proc/self/loginuid",
    "mem",
    "/var/tmp/.x",
    "/root/.ssh/id",
];

prop_compose! {
    fn any_activity()(
        (name, category) in proptest::sample::select(&NAMES[..]),
        exe in proptest::sample::select(&PROGRAMS[..]),
        argv in proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..6),
        files in proptest::collection::vec((proptest::sample::select(&FILES[..]), any::<bool>(), any::<bool>()), 0..3),
        (args, success, several, i386, phase, profile) in (
            any::<[u8; 4]>(),
            proptest::option::of(any::<bool>()),
            proptest::bool::weighted(0.1),
            proptest::bool::weighted(0.3),
            proptest::sample::select(&[Phase::Running, Phase::Exec, Phase::Setup, Phase::Host][..]),
            proptest::sample::select(&[None, Some(Profile::Openclaw), Some(Profile::Clawbot), Some(Profile::Moltbot)][..]),
        ),
        address in proptest::option::of(proptest::sample::select(&["169.254.169.254", "/run/docker.sock", "10.1.2.3", "::1"][..])),
        port in 4440u16..4450,
    ) -> Activity {
        let mut act = call(name).phase(phase).profile(profile).exe(exe);
        act = act.args(args.map(u64::from));
        for (file, create, host) in &files {
            act = match host {
                true => act.host_path(file, file, *create),
                false => act.path(file, if *create { "CREATE" } else { "NORMAL" }),
            };
        }
        if let Some(address) = address {
            let family = if address.starts_with('/') { "unix" } else { "inet" };
            act = act.socket(family, address, Some(port));
        }
        act = act.with(|a| {
            a.category = category;
            a.process.argv = argv.iter().map(|s| (*s).to_owned()).collect();
            if let Some(call) = &mut a.syscall {
                call.success = success;
                if several {
                    call.within = Some("io_uring_enter".into());
                    call.operations = vec![call.name.clone(), "mount".into(), "openat".into()];
                }
                if i386 {
                    call.arch = "i386".into();
                    if category == Category::Network {
                        (call.name, call.args[0]) = ("socketcall".into(), 0xdead_0000_0003);
                    }
                }
            }
            let mut execve = format!("argc={}", argv.len());
            for (i, arg) in argv.iter().enumerate() {
                execve.push_str(&format!(" a{i}={}", value(arg)));
            }
            let [a0, a1, a2, a3] = args;
            let yes = if success == Some(false) { "no" } else { "yes" };
            let body = format!(
                "arch=c000003e syscall={} success={yes} exit=0 a0={a0:x} a1={a1:x} a2={a2:x} a3={a3:x} items=1 ppid=1 pid=2 auid=4294967295 \
                 uid=0 gid=0 euid=0 tty=(none) ses=1 comm=\"{}\" exe={} key=\"key-{}\"",
                a0 % 60, exe.rsplit('/').next().unwrap(), value(exe), a0 % 60
            );
            a.event.push(RecordType::SYSCALL, body.as_bytes());
            a.event.push(RecordType::EXECVE, execve.as_bytes());
            a.event.push(RecordType::CWD, b"cwd=\"/etc/audit/rules.d\"");
            for (i, (file, ..)) in files.iter().enumerate() {
                let body = format!("item={i} name={} inode=1 nametype=NORMAL", value(file));
                a.event.push(RecordType::PATH, body.as_bytes());
            }
        });
        act.0
    }
}

/// As the kernel writes it.
fn value(text: &str) -> String {
    let plain = |b: u8| (0x21..0x7f).contains(&b) && b != b'"';
    if text.bytes().all(plain) {
        format!("\"{text}\"")
    } else {
        text.bytes().map(|b| format!("{b:02X}")).collect()
    }
}

#[test]
fn on_made_up_activities_the_index_finds_what_every_rule_finds() {
    let (pair, _dir) = all_rules();
    let pair = std::cell::RefCell::new(pair);
    let cases = ProptestConfig::default().cases.max(256) * 4;
    proptest!(ProptestConfig::with_cases(cases), |(activity in any_activity())| {
        pair.borrow_mut().compare(&activity).map_err(TestCaseError::fail)?;
    });
    assert!(
        pair.borrow().matches > 200,
        "{} matches",
        pair.borrow().matches
    );
}

const FIELDS: [&str; 8] = [
    "CommandLine",
    "Image",
    "process.argv",
    "path.path",
    "syscall.name",
    "syscall.success",
    "open.write",
    "phase",
];
const MODIFIERS: [&str; 9] = [
    "",
    "|contains",
    "|startswith",
    "|endswith",
    "|re",
    "|cased",
    "|contains|cased",
    "|contains|all",
    "|exists",
];
const CONDITIONS: [&str; 12] = [
    "one",
    "one and two",
    "one or two",
    "not one",
    "one and not two",
    "1 of them",
    "all of them",
    "one or (two and three)",
    "(one or two) and three",
    "not (one and two)",
    "one and (two or not three)",
    "2 of them",
];
const VALUES: [&str; 26] = [
    "curl",
    "sh",
    "/sh",
    "/curl",
    "/bin/busybox",
    "execve",
    "openat",
    "true",
    "running",
    "docker.sock",
    "k",
    "K",
    "\u{212a}",
    "gRÜN",
    "*ba*h*",
    "/etc/*",
    "b?sh",
    "i",
    "(?i)docker",
    "^/proc/\\d+/mem$",
    "c(?:url|hmod)\\s?-",
    "[kK]er",
    "(?:sh)?x*",
    "\u{17f}",
    "i\u{307}",
    "ας",
];

prop_compose! {
    fn any_item()(
        field in proptest::sample::select(&FIELDS[..]),
        modifier in proptest::sample::select(&MODIFIERS[..]),
        values in proptest::collection::vec(proptest::sample::select(&VALUES[..]), 2..4),
    ) -> String {
        if modifier == "|exists" {
            return format!("{field}|exists: {}", values[0].len() % 2 == 0);
        }
        let regex = modifier == "|re";
        let list: Vec<String> = values
            .iter()
            .map(|v| match (regex, regex_is_fine(v)) {
                (true, false) => "'abc'".to_owned(),
                _ => format!("'{v}'"),
            })
            .collect();
        format!("{field}{modifier}: [{}]", list.join(", "))
    }
}

fn regex_is_fine(text: &str) -> bool {
    !text.starts_with('*') && !text.contains("/*")
}

prop_compose! {
    fn any_rule()(
        items in proptest::collection::vec(proptest::collection::vec(any_item(), 1..3), 3),
        listed in any::<[bool; 3]>(),
        condition in proptest::sample::select(&CONDITIONS[..]),
        auditd in any::<bool>(),
        number in 0u64..1_000_000_000,
    ) -> String {
        let mut detection = String::new();
        for ((name, items), listed) in ["one", "two", "three"].into_iter().zip(items).zip(listed) {
            detection.push_str(&format!("    {name}:\n"));
            let mut names: Vec<String> = Vec::new();
            for item in items {
                let mut item = item;
                if auditd {
                    for (from, to) in [("CommandLine", "a0"), ("Image", "exe"), ("process.argv", "a1"), ("path.path", "name"),
                        ("syscall.name", "syscall"), ("syscall.success", "success"), ("open.write", "type")] {
                        item = item.replace(from, to);
                    }
                }
                let key = item.split(':').next().unwrap().to_owned();
                if names.contains(&key) {
                    continue;
                }
                names.push(key);
                detection.push_str(&format!("        {}{item}\n", if listed { "- " } else { "" }));
            }
        }
        let source = if auditd { "service: auditd" } else { "service: syscall-monitor" };
        format!(
            "title: T{number}\nid: 5a5a5a5a-1111-4000-8000-{number:012x}\nlogsource:\n    product: linux\n    {source}\n\
             detection:\n{detection}    condition: {condition}\nlevel: low\n"
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(64)))]

    #[test]
    fn of_made_up_rules_the_index_drops_none(
        texts in proptest::collection::vec(any_rule(), 1..6),
        activities in proptest::collection::vec(any_activity(), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let id = text.lines().nth(1).unwrap().to_owned();
            if !seen.contains(&id) {
                seen.push(id);
                std::fs::write(dir.path().join(format!("{i}.yml")), text).unwrap();
            }
        }
        let pack = Pack { name: "common".to_owned(), dir: dir.path().to_owned() };
        let mut pair = Pair::new(&[pack]);
        for activity in &activities {
            pair.compare(activity).map_err(|e| TestCaseError::fail(format!("{e}\n{}", texts.join("---\n"))))?;
        }
    }
}
