//! One function a row of the table.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;

use crate::monitor::Orders;
use crate::verdict::{Verdict, row};
use crate::world::{HOST, Monitor, World, output, wait_until};
use crate::{engines, memory, peer};

/// Names, in the order of the help.
pub const ALL: [&str; 14] = [
    "exec", "calls", "short", "late", "restart", "dockerd", "slow", "never", "ctr", "podman",
    "overrun", "alone", "latency", "memory",
];

/// Longest time that any storm may take.
const LIMIT: Duration = Duration::from_secs(300);
const CONTAINERS: u32 = 30;
/// Tokens of containers that come after a storm.
const CALM: u32 = 500;

/// Runs one, prints its rows, and says whether all was reached.
pub fn run(name: &str, quick: bool) -> anyhow::Result<bool> {
    let count = |full: u32| if quick { full / 10 } else { full };
    match name {
        "exec" => exec(count(2000)),
        "calls" => calls(count(1000)),
        "short" => short(if quick { 10 } else { 60 }),
        "late" => late(count(500)),
        "restart" => restart(count(1500)),
        "dockerd" => dockerd(count(1000)),
        "slow" => unanswered("slow", Some(Duration::from_secs(5)), count(300)),
        "never" => unanswered("never", None, count(300)),
        "ctr" => engines::ctr(count(2000)),
        "podman" => engines::podman(count(2000)),
        "overrun" => overrun(count(1000)),
        "alone" => alone(count(1000)),
        "latency" => latency(if quick { 3 } else { 15 }),
        "memory" => memory::measure(),
        _ => anyhow::bail!("no such scenario"),
    }
}

/// What is asked of a storm.
#[derive(Clone, Copy, PartialEq)]
enum Goal {
    /// Nothing wrong, everything attributed, 99.9 % certain.
    All,
    /// Nothing wrong; what happened while nobody watched may have no answer.
    NothingWrong,
    /// Sources are missing: what is left is told, and only that no wrong answer is certain is asked.
    Told,
}

/// Rows that every storm prints. `expected`: events of each kind that were made; fewer were lost on the way, which is counted.
fn judge(name: &str, v: &Verdict, expected: &[(&str, u64)], goal: Goal) -> bool {
    let seen: Vec<String> = v.events.iter().map(|(k, n)| format!("{k} {n}")).collect();
    println!(
        "{name}: {} events with a token ({})",
        v.all(),
        seen.join(", ")
    );
    for (kind, made) in expected {
        let got = v.events.get(*kind).copied().unwrap_or(0);
        if got != *made {
            println!(
                "    {kind}: {made} made, {got} seen; lost in the kernel since boot, dropped in the queue: {:?}",
                v.lost
            );
        }
    }
    let wrong = format!(
        "{} ({} of them certain), phase {}",
        v.wrong.len(),
        v.wrong_and_certain,
        v.out_of_phase.len()
    );
    let attributed = format!("{:.3} % ({} without)", v.attributed(), v.unattributed.len());
    let sure = format!("{:.3} %", v.sure());
    let fine = if goal == Goal::Told {
        println!("    wrong {wrong}, attributed {attributed}, certain {sure}");
        for line in v.wrong.iter().filter(|l| l.contains("\ttrue\t")).take(5) {
            println!("    wrong and certain: {line}");
        }
        row(
            &format!("{name}: wrong and certain"),
            "0",
            &v.wrong_and_certain.to_string(),
            v.wrong_and_certain == 0,
        )
    } else {
        row(
            &format!("{name}: in the wrong container"),
            "0",
            &wrong,
            v.wrong.is_empty() && v.out_of_phase.is_empty(),
        )
    };
    let whole = if goal == Goal::All {
        let all = row(
            &format!("{name}: attributed"),
            "100.00 %",
            &attributed,
            v.unattributed.is_empty(),
        );
        all & row(
            &format!("{name}: certain"),
            ">= 99.9 %",
            &sure,
            v.sure() >= 99.9,
        )
    } else {
        if goal == Goal::NothingWrong {
            println!("    attributed {attributed}, certain {sure}");
        }
        true
    };
    if goal != Goal::Told {
        print!("{}", v.samples());
    }
    if let Some(c) = &v.counters {
        println!(
            "    forks {}, wraps of 8192 pids {:.1}, sources {:?}, overruns {}, repairs {}, contradictions {}, /proc read {} (late {})",
            c.table.forks,
            c.table.forks as f64 / 8192.0,
            v.sources,
            c.overruns,
            c.repairs,
            c.contradictions,
            c.proc_reads,
            c.proc_late
        );
    }
    fine & whole
}

fn each(n: u32) -> u64 {
    u64::from(CONTAINERS) * u64::from(n)
}

fn exec(n: u32) -> anyhow::Result<bool> {
    let mut world = World::new(Some(8192), None)?;
    let count = n.to_string();
    let monitor = Monitor::start(&Orders::new(world.file("answers")))?;
    for c in 0..CONTAINERS {
        world.container(c, &[], &["exec", "@", &count, "%"])?;
    }
    let host = (n * 3).to_string();
    world.on_host(1, &["exec", "@", &host, "%"])?;
    world.open()?;
    world.wait(LIMIT)?;
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    let made = each(n) + u64::from(n * 3);
    Ok(judge(
        "exec",
        &v,
        &[("exec", made), ("first", u64::from(CONTAINERS) + 1)],
        Goal::All,
    ))
}

fn calls(n: u32) -> anyhow::Result<bool> {
    let mut world = World::new(Some(8192), None)?;
    let count = n.to_string();
    let monitor = Monitor::start(&Orders::new(world.file("answers")))?;
    for c in 0..CONTAINERS {
        world.container(c, &[], &["calls", "@", &count, "%"])?;
    }
    let host = (n * 3).to_string();
    world.on_host(1, &["exec", "@", &host, "%"])?;
    world.open()?;
    world.wait(LIMIT)?;
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    let made = [
        ("openat", each(n)),
        ("connect", each(n)),
        ("ptrace", each(n)),
        ("mount", each(n.div_ceil(4)) * 2),
        ("exec", u64::from(n * 3)),
    ];
    Ok(judge("calls", &v, &made, Goal::All))
}

fn short(n: u32) -> anyhow::Result<bool> {
    let mut world = World::new(None, None)?;
    let monitor = Monitor::start(&Orders::new(world.file("answers")))?;
    for c in 0..n {
        world.container(c, &["--rm"], &["nap", "@", "50"])?;
    }
    world.wait(LIMIT)?;
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    let named = world
        .ids
        .values()
        .filter(|id| v.names.contains_key(*id))
        .count();
    println!("    named by Docker although gone: {named} of {n}");
    Ok(judge(
        "short (--rm, 50 ms)",
        &v,
        &[("exec", u64::from(n) * 3), ("first", n.into())],
        Goal::All,
    ))
}

fn late(n: u32) -> anyhow::Result<bool> {
    let mut world = World::new(None, None)?;
    let count = n.to_string();
    for c in 0..CONTAINERS {
        world.container(c, &[], &["exec", "@", &count, "%"])?;
    }
    world.open()?;
    // In the midst of it.
    let monitor = Monitor::start(&Orders::new(world.file("answers")))?;
    world.wait(LIMIT)?;
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    Ok(judge(
        "late (started amid 30 containers)",
        &v,
        &[],
        Goal::All,
    ))
}

fn restart(n: u32) -> anyhow::Result<bool> {
    let mut world = World::new(Some(8192), None)?;
    let count = n.to_string();
    let mut monitor = Monitor::start(&Orders::new(world.file("answers-0")))?;
    for c in 0..CONTAINERS {
        world.container(c, &[], &["exec", "@", &count, "%"])?;
    }
    world.open()?;
    let mut files = Vec::new();
    for life in 1..4 {
        sleep(Duration::from_secs(2));
        files.push(monitor.crash()?);
        sleep(Duration::from_millis(300));
        monitor = Monitor::start(&Orders::new(world.file(&format!("answers-{life}"))))?;
    }
    world.wait(LIMIT)?;
    files.push(monitor.finish()?);
    let mut v = Verdict::default();
    for file in &files {
        v.add(file, &world.ids, |_| true)?;
    }
    Ok(judge(
        "restart (kill -9, three times)",
        &v,
        &[],
        Goal::NothingWrong,
    ))
}

/// A Docker engine of our own, so that nobody else's is disturbed.
struct Engine {
    dir: PathBuf,
    child: Child,
}

impl Engine {
    fn start(dir: &Path) -> anyhow::Result<Self> {
        let at = |name: &str| dir.join(name).display().to_string();
        let log = std::fs::File::create(dir.join("log"))?;
        let child = Command::new("dockerd")
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
                "--live-restore",
            ])
            .args([
                "--data-root",
                &at("data"),
                "--exec-root",
                &at("exec"),
                "--pidfile",
                &at("pid"),
            ])
            .args(["-H", &format!("unix://{}", at("sock"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start a second dockerd")?;
        let socket = format!("unix://{}", at("sock"));
        wait_until("the second dockerd", Duration::from_secs(60), || {
            output(Command::new("docker").args(["-H", &socket, "version"])).is_ok()
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            child,
        })
    }

    fn crash(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        // Its containerd dies with it. Where nobody reaps that (a test machine without an init system) the new dockerd would
        // take the dead one for a living one.
        match std::fs::remove_file(self.dir.join("exec/containerd/containerd.pid")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // With its end it ends its containerd; asked politely, so that it does.
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = self.child.id().to_string();
            let _ = Command::new("kill").arg(&pid).status();
        }
        let _ = wait_until(
            "the end of the second dockerd",
            Duration::from_secs(20),
            || matches!(self.child.try_wait(), Ok(Some(_))),
        );
        let _ = self.child.kill();
        // Supervisors of containers that nobody could end any more name our folder in their arguments.
        let ours = self.dir.display().to_string();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let argv = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let argv = String::from_utf8_lossy(&argv).into_owned();
            if argv.contains("containerd-shim") && argv.contains(&ours) {
                let _ = Command::new("kill")
                    .arg("-9")
                    .arg(entry.file_name())
                    .status();
            }
        }
        // What it left mounted.
        let _ = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "grep -o ' {}[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l",
                self.dir.display()
            ))
            .status();
    }
}

fn dockerd(n: u32) -> anyhow::Result<bool> {
    let dir = tempfile::tempdir()?;
    let mut engine = Engine::start(dir.path())?;
    let socket = dir.path().join("sock");
    let mut world = World::new(None, Some(&socket))?;
    let count = n.to_string();
    let monitor = Monitor::start(&Orders {
        docker: Some(socket.clone()),
        ..Orders::new(world.file("answers"))
    })?;
    for c in 0..10 {
        world.container(c, &[], &["exec", "@", &count, "%"])?;
    }
    world.open()?;
    sleep(Duration::from_millis(300));
    engine.crash()?;
    sleep(Duration::from_millis(500));
    let again = Engine::start(dir.path())?;
    for c in 10..12 {
        world.container(c, &[], &["exec", "@", &count, "%"])?;
    }
    world.wait(LIMIT)?;
    // The watcher waits ten seconds at most before it tries again.
    sleep(Duration::from_secs(11));
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    drop(world.kill());
    let named = world
        .ids
        .values()
        .filter(|id| v.names.contains_key(*id))
        .count();
    println!("    the watcher said: {}", v.docker.join("; "));
    let fine = row(
        "dockerd restarted: names known",
        "12 of 12",
        &format!("{named} of 12"),
        named == 12,
    );
    let judged = judge(
        "dockerd restarted",
        &v,
        &[("exec", 12 * u64::from(n))],
        Goal::All,
    );
    drop(world);
    drop(again);
    drop(engine);
    Ok(fine & judged)
}

fn unanswered(name: &str, delay: Option<Duration>, n: u32) -> anyhow::Result<bool> {
    let mut world = World::new(None, None)?;
    let socket = world.file("engine.sock");
    peer::listen(&socket, delay)?;
    let count = n.to_string();
    let monitor = Monitor::start(&Orders {
        docker: Some(socket),
        ..Orders::new(world.file("answers"))
    })?;
    for c in 0..CONTAINERS {
        world.container(c, &[], &["exec", "@", &count, "%"])?;
    }
    world.open()?;
    world.wait(LIMIT)?;
    if delay.is_some() {
        sleep(Duration::from_secs(40));
    }
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    let named = world
        .ids
        .values()
        .filter(|id| v.names.contains_key(*id))
        .count();
    println!("    the watcher said: {}", v.docker.join("; "));
    let wanted = if delay.is_some() { world.ids.len() } else { 0 };
    let fine = row(
        &format!("{name}: names filled in"),
        &format!("{wanted} of {CONTAINERS}"),
        &format!("{named} of {CONTAINERS}"),
        named == wanted,
    );
    Ok(fine & judge(name, &v, &[("exec", each(n))], Goal::All))
}

/// The monitor is stopped while thousands of processes that no rule selects come and go: the connector's queue overflows.
/// Afterwards, repaired, it is as sure as before.
fn overrun(n: u32) -> anyhow::Result<bool> {
    let mut world = World::new(Some(8192), None)?;
    let count = n.to_string();
    let monitor = Monitor::start(&Orders {
        buffer: 4 << 20,
        connector_buffer: 1 << 20,
        ..Orders::new(world.file("answers"))
    })?;
    for c in 0..CONTAINERS {
        world.container(c, &[], &["exec", "@", &count, "%"])?;
    }
    world.on_host(1, &["forks", "@", "40000", "%"])?;
    world.open()?;
    for _ in 0..3 {
        sleep(Duration::from_millis(1500));
        monitor.signal("STOP")?;
        sleep(Duration::from_millis(1000));
        monitor.signal("CONT")?;
    }
    world.wait(LIMIT)?;
    // A repair reads all of /proc, so it comes at most every two seconds.
    sleep(Duration::from_secs(3));
    for c in CALM..CALM + 3 {
        world.container(c, &[], &["exec", "@", "100", "%"])?;
    }
    world.wait(LIMIT)?;
    let file = monitor.finish()?;
    let (mut v, mut calm) = (Verdict::default(), Verdict::default());
    v.add(&file, &world.ids, |token| !(CALM..HOST).contains(&token))?;
    calm.add(&file, &world.ids, |token| (CALM..HOST).contains(&token))?;
    let (overruns, repairs) = v.counters.map_or((0, 0), |c| (c.overruns, c.repairs));
    let counted = row(
        "overrun: counted and repaired",
        ">= 1 each",
        &format!("{overruns} overruns, {repairs} repairs"),
        overruns > 0 && repairs > 0,
    );
    let doubted = row(
        "overrun: what depended on it is uncertain",
        "< 100 % certain",
        &format!("{:.1} % certain", v.sure()),
        v.sure() < 100.0,
    );
    let told = judge("overrun", &v, &[], Goal::Told);
    calm.counters = None;
    let again = judge("after the overrun", &calm, &[("exec", 300)], Goal::All);
    Ok(counted & doubted & told & again)
}

/// What is left without the connector. No goal: it is measured and told.
fn alone(n: u32) -> anyhow::Result<bool> {
    let mut world = World::new(Some(8192), None)?;
    let count = n.to_string();
    let monitor = Monitor::start(&Orders {
        connector: false,
        ..Orders::new(world.file("answers"))
    })?;
    for c in 0..CONTAINERS {
        world.container(c, &[], &["exec", "@", &count, "%"])?;
    }
    let host = (n * 3).to_string();
    world.on_host(1, &["exec", "@", &host, "%"])?;
    world.open()?;
    world.wait(LIMIT)?;
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    let made = each(n) + u64::from(n * 3);
    Ok(judge(
        "alone (no connector)",
        &v,
        &[("exec", made)],
        Goal::Told,
    ))
}

fn latency(seconds: u32) -> anyhow::Result<bool> {
    let mut world = World::new(None, None)?;
    let seconds = seconds.to_string();
    for c in 0..5 {
        world.container(c, &[], &["rate", "@", "1000", &seconds, "%"])?;
    }
    // Before the neighbours of the machine: the time of the program is wanted, not that of a queue for a processor.
    let monitor = Monitor::start(&Orders {
        nice: -20,
        ..Orders::new(world.file("answers"))
    })?;
    world.open()?;
    world.wait(LIMIT)?;
    let mut v = Verdict::default();
    v.add(&monitor.finish()?, &world.ids, |_| true)?;
    let [events, median, most, longest, cpu] = v.latency.context("no latencies were told")?;
    let us = |ns: u64| ns as f64 / 1000.0;
    println!(
        "latency: {events} events, longest {:.0} µs, {:.1} µs of CPU an event, load {}",
        us(longest),
        us(cpu / events.max(1)),
        std::fs::read_to_string("/proc/loadavg")?.trim()
    );
    let median_fine = row(
        "latency: recv to attributed event, median",
        "< 50 µs",
        &format!("{:.1} µs", us(median)),
        median < 50_000,
    );
    let most_fine = row(
        "latency: 99 %",
        "< 2 ms",
        &format!("{:.3} ms", us(most) / 1000.0),
        most < 2_000_000,
    );
    Ok(median_fine & most_fine & judge("latency", &v, &[], Goal::All))
}
