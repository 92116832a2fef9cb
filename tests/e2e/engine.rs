//! A quarantine outlives the engine: dockerd is killed and started again under it. The engine is the test's own, beside that of the
//! machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use test_support::{Output, eventually, image, kernel, process::run};

use crate::{PATIENCE, alert, world};

const LIMIT: Duration = Duration::from_secs(60);

/// An engine with everything of its own: data, sockets, containerd.
struct Engine {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Engine {
    fn start() -> Self {
        let mut engine = Self {
            dir: tempfile::tempdir().unwrap(),
            daemon: None,
        };
        engine.up();
        engine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.at("docker.sock")
    }

    fn up(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.at("log"))
            .unwrap();
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let child = Command::new("dockerd")
            .args([
                option("data-root", &self.at("data")),
                option("exec-root", &self.at("exec")),
                option("pidfile", &self.at("pid")),
                format!("--host=unix://{}", self.socket().display()),
                "--live-restore".into(),
                "--bridge=none".into(),
                "--iptables=false".into(),
                "--ip6tables=false".into(),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
        let up = test_support::within(LIMIT, || self.docker(&["version"]).ok().then_some(()));
        assert!(
            up.is_some(),
            "the engine does not answer: {}",
            std::fs::read_to_string(self.at("log")).unwrap_or_default()
        );
    }

    /// kill -9 of dockerd; its containerd goes with it, the containers do not.
    fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
        let _ = std::fs::remove_file(self.at("pid"));
        // Where nobody reaps orphans the dead containerd is taken for a living one.
        let _ = std::fs::remove_file(self.at("exec/containerd/containerd.pid"));
    }

    fn docker(&self, args: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket().display());
        run(Command::new("docker").args(["-H", &host]).args(args), LIMIT)
    }

    fn inspect(&self, name: &str) -> Value {
        let mut all = self.docker(&["inspect", "--type=container", name]).json();
        all.get_mut(0).map(Value::take).unwrap_or_default()
    }

    fn status(&self, name: &str) -> String {
        self.inspect(name)["State"]["Status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.daemon.is_none() {
            self.up();
        }
        let ids = self.docker(&["ps", "-aq", "--no-trunc"]).stdout;
        for id in ids.lines() {
            thaw(id);
            self.docker(&["unpause", id]);
            self.docker(&["rm", "-f", "-v", id]);
        }
        if let Some(mut daemon) = self.daemon.take() {
            test_support::process::signal(daemon.id(), test_support::Signal::TERM);
            let _ = daemon.wait();
        }
    }
}

/// The kernel's files that can freeze this container.
fn freezers(id: &str) -> [(PathBuf, &'static str, &'static str); 3] {
    let root = Path::new("/sys/fs/cgroup");
    let place = |tree: &str, file: &str| root.join(tree).join("docker").join(id).join(file);
    [
        (place("unified", "cgroup.freeze"), "1", "0"),
        (place("", "cgroup.freeze"), "1", "0"),
        (place("freezer", "freezer.state"), "FROZEN", "THAWED"),
    ]
}

fn thaw(id: &str) {
    for (file, _, word) in freezers(id) {
        if file.exists() {
            let _ = std::fs::write(file, word);
        }
    }
}

fn is_frozen(id: &str) -> bool {
    freezers(id)
        .iter()
        .any(|(file, word, _)| std::fs::read_to_string(file).is_ok_and(|t| t.trim() == *word))
}

#[test]
fn a_quarantine_survives_the_death_of_dockerd() {
    if !kernel::wanted("a_quarantine_survives_the_death_of_dockerd") {
        return;
    }
    image::build();
    let mut engine = Engine::start();
    let tar = engine.at("image.tar");
    let tar = tar.to_str().unwrap();
    run(
        Command::new("docker").args(["save", "-o", tar, image::IMAGE]),
        LIMIT,
    )
    .expect_ok();
    engine.docker(&["load", "-i", tar]).expect_ok();
    let world = world()
        .config(&format!("[docker]\nsocket = {:?}\n", engine.socket()))
        .start();
    let id = engine
        .docker(&[
            "run",
            "-d",
            "--name=openclaw-gateway",
            "--network=none",
            "--restart=always",
            "--cap-add=SYS_ADMIN",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
            image::IMAGE,
            "/bin/attacker",
            "sleep",
        ])
        .expect_ok();
    let id = id.trim();
    eventually("the container is known", PATIENCE, || {
        let status = world.status();
        let mut all = status["containers"].as_array()?.iter();
        all.any(|c| c["name"] == "openclaw-gateway").then_some(())
    });
    let host = format!("unix://{}", engine.socket().display());
    let mut attacker = Command::new("docker")
        .args(["-H", &host, "exec", id, "/bin/attacker", "mount"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    alert(&world, "openclaw-gateway", "critical");
    eventually("paused, and never to be started again", PATIENCE, || {
        let found = engine.inspect(id);
        let policy = found["HostConfig"]["RestartPolicy"]["Name"] == "no";
        (policy && found["State"]["Status"] == "paused").then_some(())
    });

    engine.kill();
    let _ = attacker.kill();
    let _ = attacker.wait();
    assert!(is_frozen(id), "the freeze needs no engine");
    engine.up();
    eventually("the monitor has found the new engine", PATIENCE, || {
        (world.status()["docker"]["connected"] == true).then_some(())
    });
    assert!(is_frozen(id));
    eventually("the new engine says paused", PATIENCE, || {
        (engine.status(id) == "paused").then_some(())
    });
    // The quarantine is in force, not only left over.
    engine.docker(&["unpause", id]).expect_ok();
    eventually("an unpause is undone", PATIENCE, || {
        (engine.status(id) == "paused" && is_frozen(id)).then_some(())
    });
    world
        .cli(&["quarantine", "release", "openclaw-gateway"])
        .expect_ok();
    let found = engine.inspect(id);
    assert_eq!(found["State"]["Status"], "running");
    assert_eq!(found["HostConfig"]["RestartPolicy"]["Name"], "always");
    assert!(!is_frozen(id));
}
