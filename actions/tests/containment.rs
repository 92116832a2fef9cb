//! Freeze, Docker's pause and the way back, on the real kernel with a real engine. Runs with
//! `SYSCALL_MONITOR_KERNEL_TESTS=1` only; take the machine's lock around it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use actions::docker::{Engine, PauseFailure};
use actions::freeze::{self, FreezeTarget, How, handover};
use actions::quarantine::Quarantine;
use serde_json::Value;

const IMAGE: &str = "syscall-monitor-test/actions:latest";
const LABEL: &str = "syscall-monitor.test=actions";
const SOCKET: &str = "/var/run/docker.sock";

fn wanted() -> bool {
    let wanted = std::env::var_os("SYSCALL_MONITOR_KERNEL_TESTS").is_some_and(|v| v == "1");
    if !wanted {
        println!(
            "skipped: SYSCALL_MONITOR_KERNEL_TESTS is not 1 (this needs root and a Docker engine)"
        );
    }
    wanted
}

fn docker(args: &[&str]) -> String {
    let out = Command::new("timeout")
        .arg("60")
        .arg("docker")
        .args(args)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "docker {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// The image: a static busybox and its links.
fn image() {
    if Command::new("docker")
        .args(["image", "inspect", IMAGE])
        .output()
        .unwrap()
        .status
        .success()
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for sub in ["bin", "tmp", "proc", "dev", "sys", "etc", "out"] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|p| Path::new(p).exists())
        .expect("busybox-static");
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "cat"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let tar = dir.path().join("image.tar");
    let made = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .status()
        .unwrap();
    assert!(made.success());
    docker(&["import", tar.to_str().unwrap(), IMAGE]);
}

/// A container that counts as fast as it can, in several processes at once, each into its own file.
struct Counting {
    id: String,
    out: tempfile::TempDir,
}

const LOOPS: usize = 3;

impl Counting {
    fn start(options: &[&str]) -> Self {
        image();
        let out = tempfile::tempdir().unwrap();
        let mount = format!("{}:/out", out.path().display());
        let script = format!(
            "for n in $(busybox seq {LOOPS}); do (i=0; while :; do i=$((i+1)); echo $i > /out/$n; done) & done; wait"
        );
        let network = if options.iter().any(|o| o.starts_with("--network")) {
            vec![]
        } else {
            vec!["--network=none"]
        };
        let args = [
            &[
                "run",
                "-d",
                "--label",
                LABEL,
                "--stop-timeout=1",
                "-v",
                mount.as_str(),
            ][..],
            &network,
            options,
            &[IMAGE, "/bin/sh", "-c", &script],
        ]
        .concat();
        let counting = Self {
            id: docker(&args),
            out,
        };
        counting.wait_progress();
        counting
    }

    fn inspect(&self) -> Value {
        serde_json::from_str::<Value>(&docker(&["inspect", &self.id])).unwrap()[0].take()
    }

    fn status(&self) -> String {
        self.inspect()["State"]["Status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// What each process has written last. A file that is being written is empty for an instant: read as it is.
    fn counts(&self) -> Vec<String> {
        (1..=LOOPS)
            .map(|n| fs::read_to_string(self.out.path().join(n.to_string())).unwrap_or_default())
            .collect()
    }

    /// Waits until every process has gone on.
    fn wait_progress(&self) {
        let (begin, first) = (Instant::now(), self.counts());
        let mut went_on = [false; LOOPS];
        while went_on.contains(&false) {
            for ((now, then), on) in self.counts().iter().zip(&first).zip(&mut went_on) {
                *on |= !now.is_empty() && now != then;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "it does not run: {first:?}, {:?}, {}",
                self.counts(),
                self.inspect()["State"]
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Where the kernel has it.
    fn target(&self) -> FreezeTarget {
        let pid = u32::try_from(self.inspect()["State"]["Pid"].as_u64().unwrap()).unwrap();
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let line = |tag: &str| {
            let line = cgroups.lines().find(|l| l.split(':').nth(1) == Some(tag))?;
            line.splitn(3, ':')
                .nth(2)
                .map(|p| p.trim_start_matches('/').to_owned())
        };
        let place = |roots: &[&str], path: Option<String>| {
            let path = path?;
            roots
                .iter()
                .map(|r| Path::new(r).join(&path))
                .find(|p: &PathBuf| p.join("cgroup.procs").exists())
        };
        FreezeTarget {
            container_id: self.id.clone(),
            cgroup_v2: place(&["/sys/fs/cgroup/unified", "/sys/fs/cgroup"], line(""))
                .filter(|p| p.join("cgroup.freeze").exists()),
            cgroup_freezer: place(&["/sys/fs/cgroup/freezer"], line("freezer")),
            init_pid: pid,
            init_start_ticks: freeze::start_ticks(pid).unwrap(),
            cgroup_inode: 0,
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // Also when a test left it frozen or stopped.
        let _ = Command::new("docker").args(["unpause", &self.id]).output();
        for root in ["unified", "freezer", ""] {
            let dir = Path::new("/sys/fs/cgroup")
                .join(root)
                .join("docker")
                .join(&self.id);
            let _ = fs::write(dir.join("cgroup.freeze"), "0");
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
        }
        let _ = Command::new("docker").args(["rm", "-f", &self.id]).output();
    }
}

fn engine() -> Engine {
    Engine::connect(SOCKET, Duration::from_secs(20)).unwrap()
}

/// Does this host have a v1 freezer for its containers (hybrid or v1)?
fn has_v1(target: &FreezeTarget) -> bool {
    target.cgroup_freezer.is_some()
}

#[tokio::test]
async fn no_instruction_runs_between_our_freeze_and_docker_s_pause() {
    if !wanted() {
        return;
    }
    let container = Counting::start(&[]);
    let whole = container.target();
    let mut layouts = vec![("as it is", whole.clone())];
    if has_v1(&whole) && whole.cgroup_v2.is_some() {
        // The same steps as on a host with one tree only: the file that Docker uses is ours.
        layouts.push((
            "v1 alone",
            FreezeTarget {
                cgroup_v2: None,
                ..whole.clone()
            },
        ));
    }
    for (layout, target) in layouts {
        let mut took = vec![];
        for _ in 0..10 {
            let frozen = freeze::freeze(&target).unwrap();
            assert!(
                frozen.settled && !frozen.already && !frozen.restarted,
                "{frozen:?}"
            );
            took.push(frozen.took);
            let at_freeze = container.counts();
            let held = handover::hold(&target, &frozen).unwrap();
            assert_eq!(held.is_some(), frozen.how.needs_handover());
            if let Some(held) = &held {
                assert!(
                    held.processes > LOOPS,
                    "shell and loops: {}",
                    held.processes
                );
                assert_eq!(
                    container.counts(),
                    at_freeze,
                    "{layout}: it ran while it was handed over"
                );
            }
            let paused = engine().pause(&container.id).await.unwrap();
            assert!(!paused.already);
            if let Some(held) = held {
                held.paused();
            }
            assert_eq!(
                container.counts(),
                at_freeze,
                "{layout}: it ran between freeze and pause"
            );
            assert_eq!(container.status(), "paused");
            assert!(freeze::is_frozen(&target).unwrap());
            // Asked again, Docker and we say that it is so already.
            assert!(engine().pause(&container.id).await.unwrap().already);
            assert!(freeze::freeze(&target).unwrap().already);

            let quarantine = Quarantine::by_hand(
                &enricher::Container::from_id(&container.id),
                "test",
                target.clone(),
                Some(&frozen),
                0,
            );
            let report = engine().release(&quarantine).await;
            assert!(report.complete && !report.gone, "{report:?}");
            if frozen.how == How::Hybrid {
                assert_eq!(
                    container.counts(),
                    at_freeze,
                    "Docker lets go first, and our freeze still holds"
                );
            }
            freeze::thaw(&target).unwrap();
            assert_eq!(container.status(), "running");
            container.wait_progress();
        }
        took.sort();
        println!(
            "{layout}: frozen in {:?} (median of {}), at most {:?}",
            took[took.len() / 2],
            took.len(),
            took[took.len() - 1]
        );
    }
}

#[tokio::test]
async fn where_the_file_is_the_same_docker_refuses_and_the_handover_can_fail_safely() {
    if !wanted() {
        return;
    }
    let container = Counting::start(&[]);
    let target = FreezeTarget {
        cgroup_v2: None,
        ..container.target()
    };
    if !has_v1(&target) {
        println!("skipped: this host has no v1 freezer");
        return;
    }
    let frozen = freeze::freeze(&target).unwrap();
    let before = container.counts();
    let failure = engine().pause(&container.id).await.unwrap_err();
    assert!(
        matches!(failure, PauseFailure::Refused { .. }),
        "this is why there is a handover: {failure}"
    );
    // The handover is made, and Docker does not pause it (it hangs, say): frozen by us again, nothing ran.
    let held = handover::hold(&target, &frozen).unwrap().unwrap();
    assert!(!freeze::is_frozen(&target).unwrap());
    let again = held.not_paused().unwrap().unwrap();
    assert!(again.settled && !again.already);
    assert!(freeze::is_frozen(&target).unwrap());
    assert_eq!(container.counts(), before);
    freeze::thaw(&target).unwrap();
    container.wait_progress();
}

#[tokio::test]
async fn a_handover_that_nobody_finished_is_undone_by_a_release() {
    if !wanted() {
        return;
    }
    let container = Counting::start(&[]);
    let target = FreezeTarget {
        cgroup_v2: None,
        ..container.target()
    };
    if !has_v1(&target) {
        println!("skipped: this host has no v1 freezer");
        return;
    }
    let frozen = freeze::freeze(&target).unwrap();
    // The sensor is killed here: the processes stay stopped.
    drop(handover::hold(&target, &frozen).unwrap());
    let before = container.counts();
    engine().pause(&container.id).await.unwrap();
    let quarantine = Quarantine::by_hand(
        &enricher::Container::from_id(&container.id),
        "test",
        target.clone(),
        Some(&frozen),
        0,
    );
    assert!(engine().release(&quarantine).await.complete);
    freeze::thaw(&target).unwrap();
    assert_eq!(container.counts(), before);
    assert!(handover::resume_all(&target) > 0);
    container.wait_progress();
}

#[tokio::test]
async fn an_unpause_from_outside_does_not_let_it_run_on_a_hybrid_host() {
    if !wanted() {
        return;
    }
    let container = Counting::start(&[]);
    let target = container.target();
    let frozen = freeze::freeze(&target).unwrap();
    if frozen.how != How::Hybrid {
        println!("skipped: this host is not hybrid");
        return;
    }
    engine().pause(&container.id).await.unwrap();
    let before = container.counts();
    docker(&["unpause", &container.id]);
    assert_eq!(container.status(), "running");
    assert!(freeze::is_frozen(&target).unwrap());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(container.counts(), before);
}

#[tokio::test]
async fn a_container_whose_own_file_was_thawed_behind_docker_is_released_all_the_same() {
    if !wanted() {
        return;
    }
    let container = Counting::start(&[]);
    let target = container.target();
    let frozen = freeze::freeze(&target).unwrap();
    if frozen.how != How::Hybrid {
        println!("skipped: this host is not hybrid");
        return;
    }
    engine().pause(&container.id).await.unwrap();
    freeze::thaw(&target).unwrap();
    let quarantine = Quarantine::by_hand(
        &enricher::Container::from_id(&container.id),
        "test",
        target.clone(),
        Some(&frozen),
        0,
    );
    // Docker says paused, and cannot unpause what its runtime finds running.
    let report = engine().release(&quarantine).await;
    assert!(report.adrift && !report.complete, "{report:?}");
    freeze::freeze_as_docker(&target).unwrap();
    let report = engine().release(&quarantine).await;
    assert!(report.complete, "{report:?}");
    freeze::thaw(&target).unwrap();
    assert_eq!(container.status(), "running");
    container.wait_progress();
}

/// What `docker inspect` says, without what differs by itself.
fn comparable(mut inspect: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for key in [
                    "EndpointID",
                    "MacAddress",
                    "StartedAt",
                    "FinishedAt",
                    "Pid",
                    "SandboxID",
                    "SandboxKey",
                ] {
                    map.remove(key);
                }
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => {
                list.iter_mut().for_each(strip);
                // Aliases have no order.
                list.sort_by_key(ToString::to_string);
            }
            _ => {}
        }
    }
    strip(&mut inspect);
    inspect
}

struct Network(String);

impl Network {
    fn create(name: &str, subnet: &str) -> Self {
        let _ = Command::new("docker")
            .args(["network", "rm", name])
            .output();
        docker(&[
            "network", "create", "--label", LABEL, "--subnet", subnet, name,
        ]);
        Self(name.to_owned())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["network", "rm", &self.0])
            .output();
    }
}

#[tokio::test]
async fn a_release_brings_back_restart_policy_and_networks() {
    if !wanted() {
        return;
    }
    let one = Network::create("sm-actions-one", "10.199.1.0/24");
    let two = Network::create("sm-actions-two", "10.199.2.0/24");
    let container = Counting::start(&[
        "--network",
        &one.0,
        "--ip=10.199.1.7",
        "--network-alias=gateway",
        "--restart=on-failure:3",
    ]);
    docker(&[
        "network",
        "connect",
        "--ip",
        "10.199.2.9",
        "--alias",
        "bridge",
        "--alias",
        "whatsapp",
        &two.0,
        &container.id,
    ]);
    let before = container.inspect();
    let target = container.target();
    let frozen = freeze::freeze(&target).unwrap();
    let paused = engine().pause(&container.id).await.unwrap();
    engine().disable_restart(&container.id).await.unwrap();
    docker(&["network", "disconnect", &two.0, &container.id]);
    docker(&["network", "disconnect", &one.0, &container.id]);
    assert_eq!(
        container.inspect()["HostConfig"]["RestartPolicy"]["Name"],
        "no"
    );

    let mut quarantine = Quarantine::by_hand(
        &enricher::Container::from_id(&container.id),
        "test",
        target.clone(),
        Some(&frozen),
        0,
    );
    quarantine.before = Some(paused.before);
    for round in 0..2 {
        let report = engine().release(&quarantine).await;
        assert!(report.complete, "round {round}: {report:?}");
        freeze::thaw(&target).unwrap();
    }
    assert_eq!(comparable(container.inspect()), comparable(before));
    container.wait_progress();

    // Stopped, then gone: said in words, no error.
    docker(&["stop", "-t", "0", &container.id]);
    let report = engine().release(&quarantine).await;
    assert!(
        report.complete && report.said.iter().any(|s| s.contains("does not run")),
        "{report:?}"
    );
    docker(&["rm", "-f", &container.id]);
    let report = engine().release(&quarantine).await;
    assert!(report.complete && report.gone, "{report:?}");
    assert_eq!(engine().pause(&container.id).await, Err(PauseFailure::Gone));
    assert!(freeze::freeze(&target).unwrap_err().is_gone());
}
