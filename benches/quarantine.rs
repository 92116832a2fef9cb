//! How far an attacker comes between the return of his call and his last instruction.
//!
//! `scripts/bench.sh actions`; needs root, audit and Docker. The attacker stamps a clock into a page that the host reads, or
//! creates files as fast as it can; what the page holds when nothing moves any more is the answer. Prints the distribution of each row.
//!
//! `ROUNDS` attacks a row (100), but no new one after `PART_SECONDS` (600): the row says how many there were.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a benchmark fails"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use test_support::process::Running;
use test_support::{Container, World, eventually, image};

/// Docker on a busy machine takes its time; the figures do not hang on it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Offset of `stop` in the page.
const STOP: u64 = 24;

/// The page that attacker and host share.
struct Page(PathBuf);

impl Page {
    fn new(path: PathBuf) -> Self {
        fs::write(&path, [0u8; 4096]).unwrap();
        Self(path)
    }

    fn read(&self) -> [u64; 4] {
        let bytes = fs::read(&self.0).unwrap();
        std::array::from_fn(|i| u64::from_ne_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap()))
    }

    fn clear(&self) {
        self.write(0, &[0; 32]);
    }

    fn stop(&self) {
        self.write(STOP, &1u64.to_ne_bytes());
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = fs::OpenOptions::new().write(true).open(&self.0).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }
}

/// One attack after the other on one container of one world.
struct Range {
    world: World,
    agent: Container,
    page: Page,
    noise: Option<(Container, Running, Page)>,
}

impl Range {
    fn new(dir: &Path, realtime: u32, noise: Option<u32>) -> Self {
        let world = World::builder(env!("CARGO_BIN_EXE_syscall-monitor"))
            .config(&format!(
                "[collector]\nrealtime = {realtime}\n\
                 [containers]\nexpected_mounts = [\"{}\"]\n\
                 # It would still be at work when the next attack comes.\n\
                 [evidence]\nenabled = false\n",
                dir.display()
            ))
            .start();
        let volume = format!("{}:/data", dir.display());
        let container = |name: &str| {
            world
                .docker
                .container(name, image::build())
                .dangerous()
                .options(&["-v", &volume])
                .start()
        };
        let agent = container("openclaw-gateway");
        eventually("the agent is known", PATIENCE, || {
            let status = world.status();
            status["containers"]
                .as_array()?
                .iter()
                .any(|c| c["name"] == "openclaw-gateway" && c["profile"] == "openclaw")
                .then_some(())
        });
        let noise = noise.map(|rate| {
            let other = container("busy");
            let page = Page::new(dir.join("noise"));
            let running = other.spawn(&[
                "/data/attacker-stamp",
                "noise",
                "/data/noise",
                &rate.to_string(),
            ]);
            std::thread::sleep(Duration::from_secs(2));
            (other, running, page)
        });
        let page = Page::new(dir.join("page"));
        Self {
            world,
            agent,
            page,
            noise,
        }
    }

    /// One attack: what the page holds when the container is held.
    fn attack(&self, mode: &str) -> [u64; 4] {
        if mode == "files" {
            self.agent
                .exec(&["sh", "-c", "rm -rf /tmp/many; mkdir -p /tmp/many"])
                .expect_ok();
        }
        self.page.clear();
        // What the attack before and `docker exec` left to do is done by then.
        std::thread::sleep(Duration::from_millis(200));
        let running = self
            .agent
            .spawn(&["/data/attacker-stamp", mode, "/data/page", "/tmp/many"]);
        // Docker is asked to pause behind the freeze, and says so when nothing runs.
        eventually("Docker says paused", PATIENCE, || {
            self.agent.is_paused().then_some(())
        });
        let held = self.page.read();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(held, self.page.read(), "it runs although it is paused");
        assert!(held[1] != 0, "held before its call: {held:?}");
        self.page.stop();
        eventually("it is released", PATIENCE, || {
            let out = self
                .world
                .cli(&["quarantine", "release", "openclaw-gateway"]);
            out.ok().then_some(())
        });
        eventually("it runs", PATIENCE, || {
            (self.agent.status() == "running").then_some(())
        });
        drop(running);
        held
    }

    /// One attack after the other, as many as the limits allow.
    fn attacks(&self, mode: &str, limits: &Limits) -> Vec<[u64; 4]> {
        let until = Instant::now() + limits.part;
        let mut all = vec![self.attack(mode)];
        while all.len() < limits.rounds && Instant::now() < until {
            all.push(self.attack(mode));
        }
        all
    }

    /// What must be known of a row's circumstances.
    fn tell(&self) {
        let status = self.world.status();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "    load {}; events {}; lost in the kernel {}; real-time {}",
            load.split(' ').next().unwrap_or_default(),
            status["events"],
            status["losses"]["kernel_lost"],
            status["realtime"]
        );
    }

    fn rate(&self, over: Duration) -> Option<f64> {
        let (_, _, page) = self.noise.as_ref()?;
        let before = page.read()[2];
        std::thread::sleep(over);
        Some((page.read()[2] - before) as f64 / over.as_secs_f64())
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if let Some((_, _, page)) = &self.noise {
            page.stop();
        }
    }
}

/// How much is measured.
struct Limits {
    rounds: usize,
    part: Duration,
}

impl Limits {
    fn from_environment() -> Self {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|e| panic!("{name}={text} is no number: {e}")),
            Err(_) => default,
        };
        Self {
            rounds: usize::try_from(number("ROUNDS", 100)).unwrap().max(1),
            part: Duration::from_secs(number("PART_SECONDS", 600)),
        }
    }
}

/// Value at a share of a sorted list.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

fn print(what: &str, unit: &str, goal: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let q = |share| quantile(&values, share);
    println!(
        "{what:<58} n {:>4}  min {:>7.2}  median {:>7.2}  90 % {:>7.2}  99 % {:>7.2}  max {:>7.2} {unit}   goal: {goal}",
        values.len(),
        q(0.0),
        q(0.5),
        q(0.9),
        q(0.99),
        q(1.0)
    );
}

fn main() {
    // `cargo test --all-targets` runs benchmarks, too; without root there is nothing to do.
    if std::env::args().any(|a| a == "--test")
        || !test_support::kernel::wanted("the benchmark of quarantines")
    {
        return;
    }
    let limits = Limits::from_environment();
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("attacker-stamp");
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/support/attacker/stamp.c"
    );
    let built = Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&program)
        .arg(source)
        .status()
        .unwrap();
    assert!(built.success(), "cc does not build {source}");
    // Where it was held before it could stamp the return, it came no further than its call.
    let ms = |page: [u64; 4]| match page[0] {
        0 => 0.0,
        returned => page[1].saturating_sub(returned) as f64 / 1e6,
    };

    let clock = |range: &Range| {
        range
            .attacks("clock", &limits)
            .into_iter()
            .map(ms)
            .collect()
    };
    for (realtime, goal) in [(10, "median 1, 99 % 5"), (0, "median 4")] {
        let range = Range::new(dir.path(), realtime, None);
        let what = format!("return of mount to last instruction, realtime {realtime}");
        print(&what, "ms", goal, clock(&range));
        if realtime > 0 {
            let files = range.attacks("files", &limits);
            let files = files.into_iter().map(|page| page[2] as f64).collect();
            print(
                "files created until held, realtime 10",
                "files",
                "median below 100",
                files,
            );
        }
        range.tell();
    }
    for realtime in [10, 0] {
        let range = Range::new(dir.path(), realtime, Some(10_000));
        let rate = range.rate(Duration::from_secs(2)).unwrap_or_default();
        let what = format!("the same beside {rate:.0} events/s of another, realtime {realtime}");
        print(&what, "ms", "99 % 50", clock(&range));
        range.tell();
    }
}
