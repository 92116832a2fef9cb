//! `history` without a daemon: audit logs in, and every command on what came of them. Each test makes a store of its own.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

/// A capture of this machine's kernel, and how many events are in it.
const CAPTURE: &str = "collector/tests/corpus/linux-6.18-x86_64.log";
const ALL: [&str; 2] = ["--since", "2020-01-01"];

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    /// A configuration of its own and a store `s` with the capture in it.
    fn new() -> Self {
        let case = Self::empty();
        case.ok(&["history", "import", "--store", &case.store(), &capture()]);
        case
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!("state_dir = {:?}\nrun_dir = {:?}\n", at("state"), at("run"));
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> String {
        self.at("s").display().to_string()
    }

    fn run(&self, args: &[&str]) -> Output {
        assert_cmd::Command::new(env!("CARGO_BIN_EXE_syscall-monitor"))
            .env("SYSCALL_MONITOR_CONFIG", self.at("config.toml"))
            .args(args)
            .output()
            .unwrap()
    }

    /// Standard output of a command that must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// `history … --store s --since 2020`
    fn history(&self, args: &[&str]) -> String {
        let store = self.store();
        self.ok(&[&["history"], args, &["--store", &store], &ALL].concat())
    }

    fn events(&self, filters: &[&str]) -> Vec<Value> {
        let text = self.history(&[filters, &["--output", "jsonl"]].concat());
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }
}

fn capture() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(CAPTURE)
        .display()
        .to_string()
}

fn ids(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .map(|e| e["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_imported_log_is_taken_once_however_it_is_packed() {
    let case = Case::new();
    let all = case.events(&[]).len();
    let plain = std::fs::read(capture()).unwrap();
    let (gz, zst) = (case.at("log.gz"), case.at("log.zst"));
    let mut out = flate2::write::GzEncoder::new(
        std::fs::File::create(&gz).unwrap(),
        flate2::Compression::fast(),
    );
    std::io::Write::write_all(&mut out, &plain).unwrap();
    out.finish().unwrap();
    std::fs::write(&zst, zstd::encode_all(&plain[..], 1).unwrap()).unwrap();
    let args = [
        "history",
        "import",
        "--store",
        &case.store(),
        "--output",
        "json",
        gz.to_str().unwrap(),
        zst.to_str().unwrap(),
    ];
    let counts: Value = serde_json::from_str(&case.ok(&args)).unwrap();
    assert_eq!(counts["taken"], 0, "{counts}");
    assert_eq!(counts["there_already"], 2 * all, "{counts}");
    assert_eq!(case.events(&[]).len(), all);
}

#[test]
fn every_filter_finds_what_it_names_and_its_negation_the_rest() {
    let case = Case::new();
    let all = case.events(&[]);
    let some = |filters: &[&str], fits: &dyn Fn(&Value) -> bool| {
        let wanted: Vec<_> = all.iter().filter(|e| fits(e)).cloned().collect();
        assert!(
            !wanted.is_empty(),
            "{filters:?} finds nothing in the capture"
        );
        assert_eq!(ids(&case.events(filters)), ids(&wanted), "{filters:?}");
        if let [name, value] = filters {
            let not = format!("{}={value}", name.trim_start_matches("--"));
            let rest: Vec<_> = all.iter().filter(|e| !fits(e)).cloned().collect();
            assert_eq!(
                ids(&case.events(&["--not", &not])),
                ids(&rest),
                "--not {not}"
            );
        }
    };
    let text = |e: &Value, p: &str| {
        e.pointer(p)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    some(&["--syscall", "connect"], &|e| {
        text(e, "/syscall/name") == "connect"
    });
    some(&["--category", "mount"], &|e| {
        text(e, "/category") == "mount"
    });
    some(&["--exe", "/usr/bin/true"], &|e| {
        text(e, "/process/exe") == "/usr/bin/true"
    });
    some(&["--comm", "sleep"], &|e| {
        text(e, "/process/comm") == "sleep"
    });
    some(&["--exe", "*/python3*"], &|e| {
        text(e, "/process/exe").contains("/python3")
    });
    some(&["--user", "65534"], &|e| e["process"]["uid"] == 65534);
    some(&["--failed"], &|e| e["syscall"]["success"] == false);
    let first = text(&all[0], "/id");
    some(&["--id", &first], &|e| text(e, "/id") == first);
    let pid = all[3]["process"]["pid"].to_string();
    some(&["--pid", &pid], &|e| {
        e["process"]["pid"] == all[3]["process"]["pid"]
    });
    let below = |e: &Value, folder: &str| {
        let paths = e["paths"].as_array().unwrap();
        paths.iter().any(|p| {
            let path = p["path"].as_str().unwrap();
            path == folder || path.starts_with(&format!("{folder}/"))
        })
    };
    some(&["--path", "/tmp/corpus/w"], &|e| below(e, "/tmp/corpus/w"));
    some(&["--addr", "127.0.0.1:1"], &|e| {
        e["socket"]["address"] == "127.0.0.1" && e["socket"]["port"] == 1
    });
    let key = all
        .iter()
        .find_map(|e| e["keys"].get(0).and_then(Value::as_str))
        .unwrap();
    some(&["--key", key], &|e| {
        e["keys"].as_array().unwrap().iter().any(|k| k == key)
    });
    some(&["--syscall", "connect", "--syscall", "bind"], &|e| {
        ["connect", "bind"].contains(&text(e, "/syscall/name").as_str())
    });
    some(&["--syscall", "connect", "--failed"], &|e| {
        text(e, "/syscall/name") == "connect" && e["syscall"]["success"] == false
    });
    // A file with a blank in its name stands in hexadecimal in the record.
    some(&["--text", "file b"], &|e| below(e, "/tmp/corpus/w/file b"));
    let hits = case.events(&["--regex", "^/tmp/.*/file b$"]);
    assert_eq!(ids(&hits), ids(&case.events(&["--text", "file b"])));
    assert!(case.events(&["--severity", "low"]).is_empty());
    assert!(case.events(&["--rule", "*"]).is_empty());
}

#[test]
fn pages_go_on_where_the_one_before_ended_in_both_directions() {
    let case = Case::new();
    let all = ids(&case.events(&[]));
    let store = case.store();
    let (mut back, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut args = vec![
            "history",
            "--store",
            &store,
            "--limit",
            "20",
            "--reverse",
            "-o",
            "jsonl",
        ];
        args.extend(ALL);
        if let Some(cursor) = &cursor {
            args.extend(["--after", cursor]);
        }
        let output = case.run(&args);
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            back.push(event["id"].as_str().unwrap().to_owned());
        }
        // The footer tells the next page.
        let said = String::from_utf8(output.stderr).unwrap();
        cursor = said
            .split_once("--after ")
            .and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned));
        if cursor.is_none() {
            break;
        }
    }
    back.reverse();
    assert_eq!(back, all);
    let output = case.run(&["history", "--after", "nonsense"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn raw_text_is_read_back_by_ausearch() {
    let case = Case::new();
    let raw = case.history(&["--output", "raw"]);
    let events = case.events(&[]).len();
    // Our own reader takes it without a loss, and so does Debian's.
    let again = case.at("again.log");
    std::fs::write(&again, &raw).unwrap();
    let store = case.at("again").display().to_string();
    let counts = case.ok(&[
        "history",
        "import",
        "--store",
        &store,
        "-o",
        "json",
        again.to_str().unwrap(),
    ]);
    let counts: Value = serde_json::from_str(&counts).unwrap();
    assert_eq!(
        (&counts["taken"], &counts["not_records"]),
        (&events.into(), &0.into())
    );
    let Ok(output) = std::process::Command::new("ausearch")
        .args(["--raw", "-if"])
        .arg(&again)
        .stdin(std::process::Stdio::null())
        .output()
    else {
        println!("skipped: ausearch is not installed (Debian's auditd brings it)");
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let records = |text: &str| text.lines().filter(|l| l.starts_with("type=")).count();
    let read = String::from_utf8(output.stdout).unwrap();
    assert_eq!(records(&read), records(&raw));
}

#[test]
fn exports_hold_every_event_in_order_and_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    let all = ids(&case.events(&[]));
    let file = case.at("events.jsonl.zst");
    let name = file.display().to_string();
    case.ok(&["history", "export", "--store", &case.store(), &name]);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
    let events: Vec<Value> = String::from_utf8(text)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(ids(&events), all);
    // What is there is not written over by mistake.
    let again = case.run(&["history", "export", "--store", &case.store(), &name]);
    assert!(!again.status.success());
    let csv = case.ok(&[
        "history",
        "export",
        "--store",
        &case.store(),
        "-",
        "-o",
        "csv",
    ]);
    assert_eq!(csv.lines().count(), all.len() + 1);
    assert!(csv.starts_with("id,time,"));
}

#[test]
fn show_tells_records_and_neighbours() {
    let case = Case::new();
    let all = case.events(&["--syscall", "execve"]);
    let id = all[2]["id"].as_str().unwrap();
    let text = case.ok(&["history", "show", id, "--store", &case.store()]);
    for part in [
        "event",
        "process",
        "records",
        "SYSCALL",
        "EXECVE",
        "around it",
        "> ",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    let json = case.ok(&[
        "history",
        "show",
        id,
        "--store",
        &case.store(),
        "-o",
        "json",
    ]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["id"], id);
    assert!(json["neighbours"]["before"].is_array());
    let missing = case.run(&["history", "show", "1.000:1", "--store", &case.store()]);
    assert_eq!(missing.status.code(), Some(1));
    let alert = case.run(&["history", "show", "A-1", "--store", &case.store()]);
    assert_eq!(alert.status.code(), Some(2));
}

#[test]
fn summaries_count_every_event() {
    let case = Case::new();
    let all = case.events(&[]);
    let count = |list: &str| serde_json::from_str::<Value>(list).unwrap();
    let stats = count(&case.history(&["stats", "-o", "json"]));
    assert_eq!(stats["events"], all.len());
    let of = |name: &str| all.iter().filter(|e| e["category"] == name).count();
    let top = stats["categories"]["top"].as_array().unwrap();
    for c in top {
        assert_eq!(c["count"], of(c["name"].as_str().unwrap()), "{c}");
    }
    // By terms, and by reading the events: the same.
    let read = count(&case.history(&["stats", "-o", "json", "--regex", "."]));
    for what in [
        "events",
        "failed",
        "categories",
        "programs",
        "syscalls",
        "containers",
    ] {
        assert_eq!(stats[what], read[what], "{what}");
    }
    assert_eq!(stats["paths"]["top"][0], read["paths"]["top"][0]);
    let bars = case.history(&["timeline", "-o", "jsonl", "--step", "1s"]);
    let bars: Vec<Value> = bars.lines().map(count).collect();
    let sum: u64 = bars.iter().map(|b| b["events"].as_u64().unwrap()).sum();
    assert_eq!(sum, all.len() as u64);
    let table = case.history(&["timeline"]);
    assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
    let tree = case.history(&["tree", "-o", "jsonl"]);
    let events: u64 = tree
        .lines()
        .map(|l| count(l)["events"].as_u64().unwrap())
        .sum();
    assert_eq!(events, all.len() as u64);
}

#[test]
fn a_changed_history_is_found_and_an_anchor_tells_it_from_another() {
    let case = Case::new();
    let store = case.store();
    let verified = case.ok(&["history", "verify", "--store", &store, "-o", "json"]);
    let verified: Value = serde_json::from_str(&verified).unwrap();
    let anchor = verified["anchor"].as_str().unwrap();
    let file = case.at("syslog");
    std::fs::write(
        &file,
        format!("Nov 22 host syscall-monitor[1]: history anchor {anchor}\n"),
    )
    .unwrap();
    let told = file.display().to_string();
    case.ok(&["history", "verify", "--store", &store, "--anchor", &told]);
    case.ok(&["history", "verify", "--store", &store, "--anchor", anchor]);
    let hash = verified["hash"].as_str().unwrap();
    case.ok(&["history", "verify", "--store", &store, "--anchor", hash]);
    // Another history with the same events but one: whole in itself, and not the one that the anchor was made of.
    let log = std::fs::read_to_string(capture()).unwrap();
    let shorter = case.at("shorter.log");
    let id = case.events(&[])[10]["id"].as_str().unwrap().to_owned();
    let rest: Vec<_> = log
        .lines()
        .filter(|l| !l.contains(&format!("audit({id})")))
        .collect();
    std::fs::write(&shorter, rest.join("\n") + "\n").unwrap();
    let other = case.at("other").display().to_string();
    case.ok(&[
        "history",
        "import",
        "--store",
        &other,
        shorter.to_str().unwrap(),
    ]);
    case.ok(&["history", "verify", "--store", &other]);
    let output = case.run(&["history", "verify", "--store", &other, "--anchor", &told]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("differs") && said.contains("rewritten"),
        "{said}"
    );
}

#[test]
fn a_copy_is_whole_compacting_keeps_everything_and_pruning_says_first_what_goes() {
    let case = Case::new();
    let all = ids(&case.events(&[]));
    let (store, copy) = (case.store(), case.at("copy").display().to_string());
    case.ok(&["history", "snapshot", &copy, "--store", &store]);
    case.ok(&["history", "verify", "--store", &copy]);
    case.ok(&["history", "compact", "--store", &store]);
    assert_eq!(ids(&case.events(&[])), all);
    let dry = case.ok(&[
        "history",
        "prune",
        "--before",
        "now",
        "--dry-run",
        "--store",
        &store,
        "-o",
        "json",
    ]);
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(dry["entries"], all.len());
    assert_eq!(ids(&case.events(&[])), all);
    // Nobody can be asked in a test.
    let asked = case.run(&["history", "prune", "--before", "now", "--store", &store]);
    assert_eq!(asked.status.code(), Some(2));
    case.ok(&[
        "history", "prune", "--before", "now", "--yes", "--store", &store,
    ]);
    assert!(case.events(&[]).is_empty());
    assert_eq!(
        ids(&{
            let args = [&["history", "--store", &copy, "-o", "jsonl"][..], &ALL].concat();
            case.ok(&args)
                .lines()
                .map(|l| serde_json::from_str::<Value>(l).unwrap())
                .collect::<Vec<_>>()
        }),
        all
    );
}

#[test]
fn a_held_store_names_who_holds_it() {
    let case = Case::empty();
    let dir = case.at("state").join("history");
    let held = history::Store::open(&dir, history::Options::default()).unwrap();
    let output = case.run(&["history"]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let pid = format!("process {}", std::process::id());
    assert!(said.contains(&pid) && said.contains("api.sock"), "{said}");
    drop(held);
}

#[test]
fn reading_changes_nothing() {
    let case = Case::new();
    let state = || {
        let text = case.ok(&["history", "verify", "--store", &case.store(), "-o", "json"]);
        let verified: Value = serde_json::from_str(&text).unwrap();
        (
            verified["hash"].clone(),
            verified["entries"].clone(),
            files(&case.at("s")),
        )
    };
    let before = state();
    case.history(&["stats"]);
    case.events(&[]);
    assert_eq!(state(), before);
    // A store that is not there is not made.
    let none = case.at("none").display().to_string();
    assert!(!case.run(&["history", "--store", &none]).status.success());
    assert!(!case.at("none").exists());
}

/// Names of the files; the engine itself writes to its log when it opens.
/// All files, but sled's bookmarks: it writes one anew, under another name, when it has read far enough.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(files(&path));
        } else if !entry.file_name().to_string_lossy().starts_with("snap.") {
            out.push(path);
        }
    }
    out.sort();
    out
}

#[test]
fn escapes_of_a_terminal_in_data_are_shown_and_never_sent() {
    let case = Case::empty();
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02X}")).collect::<String>();
    let evil = hex("\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}x\r\n");
    let log = case.at("evil.log");
    let line =
        |kind: &str, body: &str| format!("type={kind} msg=audit(1795353018.414:5): {body}\n");
    let text = line(
        "SYSCALL",
        &format!(
            "arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=1 ppid=1 pid=7 uid=0 comm={evil} exe={evil} key={evil}"
        ),
    ) + &line("EXECVE", &format!("argc=2 a0={evil} a1={evil}"))
        + &line("CWD", &format!("cwd={evil}"))
        + &line(
            "PATH",
            &format!("item=0 name={evil} inode=1 dev=00:01 mode=0100644 nametype=NORMAL"),
        )
        + &line("PROCTITLE", &format!("proctitle={evil}"));
    std::fs::write(&log, text).unwrap();
    case.ok(&[
        "history",
        "import",
        "--store",
        &case.store(),
        log.to_str().unwrap(),
    ]);
    let id = "1795353018.414:5";
    let outputs = [
        case.history(&[]),
        case.history(&["--reverse"]),
        case.history(&["--output", "csv"]),
        case.history(&["--output", "jsonl"]),
        case.history(&["--output", "json"]),
        case.history(&["--output", "raw"]),
        case.history(&["tree"]),
        case.history(&["timeline"]),
        case.history(&["stats"]),
        case.ok(&["history", "show", id, "--store", &case.store()]),
        case.ok(&["replay", log.to_str().unwrap(), "--output", "text"]),
    ];
    for text in outputs {
        assert!(!text.is_empty());
        let bad = text
            .chars()
            .find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
        // JSON escapes control characters, and leaves the others of Unicode as they are.
        let json = text.starts_with(['{', '[']);
        assert!(
            bad.is_none() || (json && bad.is_none_or(|c| (c as u32) >= 0x20)),
            "{bad:?} in {text}"
        );
    }
}

#[test]
fn output_words_are_the_same_everywhere() {
    let case = Case::new();
    let store = case.store();
    for form in ["table", "jsonl", "json", "csv"] {
        for command in [
            &["history", "notices", "--store", &store][..],
            &["history", "tree", "--store", &store],
            &["history", "timeline", "--store", &store],
            &["alerts", "--store", &store],
            &["quarantine", "list"],
            &["trust", "list"],
        ] {
            case.ok(&[command, &["--output", form]].concat());
        }
    }
    // What has no such form says so; it is wrong usage, not a failure.
    for command in [
        &["history", "stats", "--store", &store, "--output", "csv"][..],
        &["alerts", "--store", &store, "--output", "raw"],
        &["trust", "list", "--output", "raw"],
        &["status", "--output", "csv"],
    ] {
        assert_eq!(case.run(command).status.code(), Some(2), "{command:?}");
    }
}
