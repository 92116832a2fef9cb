//! The history of a running monitor: followed, copied, proven, and replaced when it cannot be opened.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use test_support::{World, eventually, kernel};

use crate::{PATIENCE, alert, gateway, paused, world};

/// A command of the world that goes on, with its lines as they come.
struct Following {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Following {
    fn start(world: &World, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_syscall-monitor"))
            .env("SYSCALL_MONITOR_CONFIG", world.config_file())
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (out, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if out.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a harmless program of the host with these arguments.
fn run_true(args: &[&str]) {
    let status = Command::new("/bin/true").args(args).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_running_history_is_followed_copied_and_proven_and_its_end_is_anchored() {
    if !kernel::wanted("a_running_history_is_followed_copied_and_proven_and_its_end_is_anchored") {
        return;
    }
    let mut world = world().start();
    let following = Following::start(
        &world,
        &[
            "history",
            "--follow",
            "--comm",
            "true",
            "--syscall",
            "execve",
            "-o",
            "jsonl",
        ],
    );
    // What comes while it follows is shown, each once, and nothing that does not fit.
    let mut count = 0;
    let mut seen: Vec<Value> = Vec::new();
    eventually("followed events", PATIENCE, || {
        run_true(&["followed", &count.to_string()]);
        count += 1;
        seen.extend(
            following
                .lines
                .try_iter()
                .map(|l| serde_json::from_str::<Value>(&l).unwrap()),
        );
        (seen.len() >= 3).then_some(())
    });
    assert!(seen.iter().all(|e| e["process"]["comm"] == "true"));
    let unique: std::collections::BTreeSet<_> = seen.iter().map(|e| e["id"].to_string()).collect();
    assert_eq!(unique.len(), seen.len());
    drop(following);

    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    let found = alert(&world, &container.name, "critical");
    let id = found["id"].as_str().unwrap();
    // By what is the event's and not the alert's.
    for filters in [&["--category", "mount"][..], &["--syscall", "mount"]] {
        let found = world.alerts(&[&["--container", &container.name], filters].concat());
        assert!(found.iter().any(|a| a["id"] == id), "{filters:?}");
    }
    assert!(
        world
            .alerts(&["--category", "module"])
            .iter()
            .all(|a| a["id"] != id)
    );
    let tree = world.cli(&["history", "tree", "--alert", id]).expect_ok();
    assert!(tree.contains(&format!("[{id}]")), "{}", tree);
    assert!(tree.contains("attacker"), "{}", tree);
    let event = found["event"].as_str().unwrap();
    let shown = world.cli(&["history", "show", event]).expect_ok();
    assert!(shown.contains(&format!("{id} CRITICAL")), "{}", shown);
    let stats = world.cli(&["history", "stats", "-o", "json"]).expect_ok();
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert!(stats["events"].as_u64().unwrap() > 0);
    assert!(stats["alerts"]["top"][0]["count"].as_u64().unwrap() > 0);

    let copy = world.dir().join("copy").display().to_string();
    world.cli(&["history", "snapshot", &copy]).expect_ok();
    world
        .cli(&["history", "verify", "--store", &copy])
        .expect_ok();
    let copied = world
        .cli(&["history", "--store", &copy, "--id", event, "-o", "jsonl"])
        .jsonl();
    assert_eq!(copied.len(), 1);
    world.cli(&["history", "verify"]).expect_ok();

    world.stop();
    let log = world.dir().join("security.log").display().to_string();
    assert!(world.security_log().contains("ANCHOR history anchor 1 "));
    let held = world
        .cli(&["history", "verify", "--anchor", &log])
        .expect_ok();
    assert!(held.contains("holds"), "{}", held);
    // The copy is of an earlier moment: it lacks what came afterwards, and that shows.
    let copied = world.cli(&["history", "verify", "--store", &copy, "--anchor", &log]);
    assert!(copied.stdout.contains("differs"), "{}", copied.stdout);
}

#[test]
fn a_broken_history_is_moved_aside_and_watching_goes_on() {
    if !kernel::wanted("a_broken_history_is_moved_aside_and_watching_goes_on") {
        return;
    }
    let discord = test_support::discord::Discord::start();
    let mut world = world().discord(&discord.base_url()).start();
    world.barrier();
    world.kill();
    let dir = world.state_dir().join("history");
    broken(&dir);
    world.start();
    let notices = world
        .cli(&["history", "notices", "--since", "10m", "-o", "jsonl"])
        .jsonl();
    let aside = notices
        .iter()
        .find(|n| n["what"] == "history-aside")
        .unwrap_or_else(|| panic!("no notice of it: {notices:?}"));
    let to = aside["details"]["to"].as_str().unwrap();
    assert!(std::path::Path::new(to).is_dir(), "{to}");
    let status = world.status();
    assert_eq!(status["state"], "partial");
    assert!(status["reasons"].to_string().contains(to), "{status}");
    eventually("a message about it", PATIENCE, || {
        discord
            .accepted()
            .iter()
            .any(|m| m.all().contains("moved aside"))
            .then_some(())
    });
    // It watches, and keeps.
    world.barrier();
}

/// Makes the engine's own settings unreadable: nothing in it can be opened then.
fn broken(dir: &std::path::Path) {
    let conf = walk(dir)
        .into_iter()
        .find(|f| f.file_name().is_some_and(|n| n == "conf"))
        .expect("sled keeps its settings in a file of that name");
    let length = std::fs::metadata(&conf).unwrap().len();
    std::fs::write(&conf, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(walk(&path));
        } else {
            out.push(path);
        }
    }
    out
}

#[test]
fn secrets_in_arguments_are_not_stored_where_that_is_wished() {
    if !kernel::wanted("secrets_in_arguments_are_not_stored_where_that_is_wished") {
        return;
    }
    let secret = "hunter2-is-no-password";
    let world = world().config("[history]\nredact = true").start();
    run_true(&["--password", secret, "marker-of-this-test"]);
    world.barrier();
    // Of that program: a search is a command with the marker in its arguments, too.
    let kept = world.history(&[
        "--since",
        "5m",
        "--comm",
        "true",
        "--text",
        "marker-of-this-test",
    ]);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let text = kept[0].to_string();
    let hex: String = secret.bytes().map(|b| format!("{b:02X}")).collect();
    assert!(text.contains("[redacted]"), "{text}");
    assert!(!text.contains(secret) && !text.contains(&hex), "{text}");
    // Of that program: the search itself is a command with the secret in its arguments.
    let found = world.history(&["--since", "5m", "--comm", "true", "--text", secret]);
    assert!(found.is_empty(), "{found:?}");
}
