//! Containers, processes of the host, and everything that must be put back: audit state, pid_max, containers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use collector::control::Control;
use collector::settings::SavedState;

use crate::monitor::Orders;

/// The image of `storm` and `one`.
pub const IMAGE: &str = "sm-storm";
/// Label of every container of ours.
const LABEL: &str = "syscall-monitor.test=enr";
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// Tokens from here on are the host's.
pub const HOST: u32 = 900_000;

/// Runs a program and gives its standard output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if !done.status.success() {
        bail!(
            "{command:?} failed ({}): {}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Asks again until the answer is yes.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut yes: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    while !yes() {
        if Instant::now() > end {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The kernel's audit state and its largest pid, put back when this is dropped.
struct Saved {
    audit: SavedState,
    pid_max: Option<String>,
}

impl Drop for Saved {
    fn drop(&mut self) {
        if let Some(old) = &self.pid_max
            && let Err(e) = std::fs::write(PID_MAX, old)
        {
            eprintln!("pid_max could not be put back to {old}: {e}; write it to {PID_MAX}");
        }
        match Control::open()
            .map_err(anyhow::Error::from)
            .and_then(|mut c| Ok(self.audit.restore(&mut c)?))
        {
            Ok(_) => {}
            Err(e) => {
                eprintln!("the audit state could not be put back: {e}; look at auditctl -s and -l")
            }
        }
    }
}

/// One engine, one folder, many containers.
pub struct World {
    dir: tempfile::TempDir,
    host: Option<String>,
    /// Containers by the number in their token.
    pub ids: HashMap<u32, String>,
    children: Vec<Child>,
    _saved: Saved,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.remove_containers();
    }
}

impl World {
    /// Builds `storm` and its image; `pid_max` makes pids wrap soon; `host` is another engine's socket.
    pub fn new(pid_max: Option<u32>, host: Option<&Path>) -> anyhow::Result<Self> {
        let audit = SavedState::capture(&mut Control::open()?)?;
        if audit.status.pid != 0 {
            bail!(
                "process {} owns the audit stream; end it and try again",
                audit.status.pid
            );
        }
        let mut saved = Saved {
            audit,
            pid_max: None,
        };
        if let Some(wanted) = pid_max {
            let old = std::fs::read_to_string(PID_MAX)?.trim().to_owned();
            std::fs::write(PID_MAX, wanted.max(8192).to_string())?;
            saved.pid_max = Some(old);
        }
        let dir = tempfile::tempdir()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/storm/storm.c");
        let root = dir.path().join("root");
        for folder in ["tmp", "mnt", "proc", "sys", "dev", "etc", "gate"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let cc = |out: &str, more: &[&str]| {
            output(
                Command::new("cc")
                    .args(["-O2", "-static"])
                    .args(more)
                    .arg("-o")
                    .arg(root.join(out))
                    .arg(&source),
            )
        };
        cc("storm", &[])?;
        cc("one", &["-nostdlib", "-DONE"])?;
        std::fs::create_dir(dir.path().join("gate"))?;
        let world = Self {
            dir,
            host: host.map(|h| format!("unix://{}", h.display())),
            ids: HashMap::new(),
            children: Vec::new(),
            _saved: saved,
        };
        world.remove_containers()?;
        let tar = world.dir.path().join("image.tar");
        output(
            Command::new("tar")
                .arg("-C")
                .arg(&root)
                .arg("-cf")
                .arg(&tar)
                .arg("."),
        )?;
        output(world.docker().arg("import").arg(&tar).arg(IMAGE))?;
        Ok(world)
    }

    /// `docker`, for this engine.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.args(["-H", host]);
        }
        command
    }

    fn remove_containers(&self) -> anyhow::Result<()> {
        let filter = format!("label={LABEL}");
        let ids = output(self.docker().args(["ps", "-aq", "--filter", &filter]))?;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            output(self.docker().args(["rm", "-f"]).args(ids))?;
        }
        Ok(())
    }

    /// A file in our folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a container; `args` are `storm`'s, with `@` for the token and `%` for the gate.
    pub fn container(
        &mut self,
        number: u32,
        options: &[&str],
        args: &[&str],
    ) -> anyhow::Result<()> {
        let gate = format!("{}:/gate:ro", self.file("gate").display());
        let (token, name) = (format!("c{number}"), format!("smstorm-{number}"));
        let args = args.iter().map(|a| match *a {
            "@" => token.as_str(),
            "%" => "/gate/go",
            a => a,
        });
        let id = output(
            self.docker()
                .args([
                    "run",
                    "-d",
                    "--label",
                    LABEL,
                    "--network",
                    "none",
                    "--name",
                    &name,
                    "-v",
                    &gate,
                ])
                .args([
                    "--cap-add",
                    "SYS_ADMIN",
                    "--security-opt",
                    "seccomp=unconfined",
                    "--security-opt",
                    "apparmor=unconfined",
                ])
                .args(options)
                .args([IMAGE, "/storm"])
                .args(args),
        )?;
        self.ids.insert(number, id);
        Ok(())
    }

    /// The same program on the host, beside them. Its tokens are above [`HOST`].
    pub fn on_host(&mut self, number: u32, args: &[&str]) -> anyhow::Result<()> {
        let (token, gate) = (format!("h{}", HOST + number), self.gate());
        let args = args.iter().map(|a| match *a {
            "@" => token.as_str(),
            "%" => gate.as_str(),
            a => a,
        });
        let program = self.file("root").join("storm");
        self.children.push(
            Command::new(program)
                .args(args)
                .stdin(Stdio::null())
                .spawn()?,
        );
        Ok(())
    }

    fn gate(&self) -> String {
        self.file("gate").join("go").display().to_string()
    }

    /// They begin.
    pub fn open(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(self.gate(), "")?)
    }

    /// They wait for the next opening.
    pub fn shut(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.gate())?)
    }

    /// Waits until every container and every process of the host has ended.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<()> {
        for child in &mut self.children {
            let mut ended = || matches!(child.try_wait(), Ok(Some(_)));
            wait_until("a storm on the host", limit, &mut ended)?;
        }
        self.children.clear();
        let filter = format!("label={LABEL}");
        let mut list = self.docker();
        list.args(["ps", "-q", "--filter", &filter]);
        wait_until("the containers", limit, || {
            output(&mut list).is_ok_and(|o| o.is_empty())
        })
    }

    /// Kills what runs in them, for containers that would stay.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.remove_containers()
    }
}

/// A monitor in a process of its own.
pub struct Monitor {
    child: Child,
    /// Where its answers are.
    pub out: PathBuf,
}

impl Monitor {
    /// Starts one, and waits until it sees.
    pub fn start(orders: &Orders) -> anyhow::Result<Self> {
        let mut child = Command::new("nice")
            .args(["-n", &orders.nice.to_string()])
            .arg(std::env::current_exe()?)
            .args(orders.args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            let status = child.wait()?;
            bail!("the monitor did not start ({status}); it says why above");
        }
        Ok(Self {
            child,
            out: orders.out.clone(),
        })
    }

    /// Ends it in order.
    pub fn finish(mut self) -> anyhow::Result<PathBuf> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the monitor failed ({status}); it says why above");
        }
        Ok(self.out.clone())
    }

    /// `kill -9`, as a crash.
    pub fn crash(mut self) -> anyhow::Result<PathBuf> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.out.clone())
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        output(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]))
            .map(drop)
    }
}
