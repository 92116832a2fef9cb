//! A world for one end-to-end test: folders of its own, a configuration, the daemon, Docker, and the kernel's audit state, which
//! is put back at the end whatever happens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::docker::Docker;
use crate::kernel::{AuditState, Lock};
use crate::process::{self, Output, Running, run};
use crate::wait::{eventually, within};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const CLI_LIMIT: Duration = Duration::from_secs(30);
/// First arguments of the daemon's processes.
const DAEMON_COMMANDS: [&str; 3] = ["run", "sensor", "courier"];

/// How a world shall be.
#[derive(Debug)]
pub struct Builder {
    binary: PathBuf,
    profiles: Vec<String>,
    arguments: Vec<String>,
    config: toml::Table,
    discord: Option<String>,
    telegram: Option<String>,
}

impl Builder {
    /// Adds a profile; without any it is `full`.
    pub fn profile(mut self, name: &str) -> Self {
        self.profiles.push(name.to_owned());
        self
    }

    /// Adds arguments to `syscall-monitor run`, such as `--dry-run`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Adds configuration, as TOML. A key that is given twice takes the later value.
    ///
    /// # Panics
    /// When it is no TOML.
    pub fn config(mut self, text: &str) -> Self {
        let table = text
            .parse()
            .unwrap_or_else(|e| panic!("no TOML ({e}): {text}"));
        merge(&mut self.config, table);
        self
    }

    /// Sends to a Discord at this address (`http://127.0.0.1:PORT`).
    pub fn discord(mut self, base_url: &str) -> Self {
        self.discord = Some(base_url.to_owned());
        self
    }

    /// Sends to a Telegram at this address (`http://127.0.0.1:PORT`).
    pub fn telegram(mut self, base_url: &str) -> Self {
        self.telegram = Some(base_url.to_owned());
        self
    }

    /// Makes the world, without a daemon in it yet.
    ///
    /// # Panics
    /// When a folder, the kernel or Docker cannot be used.
    pub fn build(self) -> World {
        let lock = Lock::take();
        let found = AuditState::read();
        assert_ne!(
            found.enabled, 2,
            "audit is locked until the next boot: no end-to-end test can run"
        );
        let dir = tempfile::Builder::new()
            .prefix("syscall-monitor-test-")
            .tempdir()
            .unwrap_or_else(|e| panic!("cannot make a temporary folder: {e}"));
        let config = self.compose(dir.path());
        let world = World {
            binary: fs::canonicalize(&self.binary)
                .unwrap_or_else(|e| panic!("no program at {}: {e}", self.binary.display())),
            profiles: if self.profiles.is_empty() {
                vec!["full".into()]
            } else {
                self.profiles
            },
            arguments: self.arguments,
            docker: Docker::connect(),
            supervisor: None,
            starts: 0,
            found,
            dir,
            _lock: lock,
        };
        fs::write(world.config_file(), config.to_string())
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", world.config_file().display()));
        world
    }

    /// Makes the world and starts the daemon in it.
    pub fn start(self) -> World {
        let mut world = self.build();
        world.start();
        world
    }

    fn compose(&self, dir: &Path) -> toml::Table {
        let at = |name: &str| dir.join(name).display().to_string();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../audit-rules");
        let rules = fs::canonicalize(&rules).unwrap_or(rules);
        let mut notify = toml::Table::new();
        // Always named, so that no world reads a secret of the machine.
        let mut discord = toml::Table::new();
        discord.insert("url_file".into(), at("discord.url").into());
        if let Some(base) = &self.discord {
            secret(
                &dir.join("discord.url"),
                &crate::discord::Discord::real_url(),
            );
            discord.insert("base_url".into(), base.clone().into());
        }
        notify.insert("discord".into(), discord.into());
        let mut telegram = toml::Table::new();
        telegram.insert("token_file".into(), at("telegram.token").into());
        if let Some(base) = &self.telegram {
            secret(&dir.join("telegram.token"), crate::telegram::TOKEN);
            telegram.insert("chat_id".into(), crate::telegram::CHAT.to_string().into());
            telegram.insert("base_url".into(), base.clone().into());
        }
        notify.insert("telegram".into(), telegram.into());
        let mut config = toml::Table::new();
        config.insert("state_dir".into(), at("state").into());
        config.insert("run_dir".into(), at("run").into());
        let dirs = toml::Value::Array(vec![rules.display().to_string().into()]);
        config.insert(
            "rules".into(),
            toml::Table::from_iter([("dirs".to_owned(), dirs)]).into(),
        );
        let log = ("log".to_owned(), at("security.log").into());
        config.insert("trust".into(), toml::Table::from_iter([log]).into());
        config.insert("notify".into(), notify.into());
        merge(&mut config, self.config.clone());
        config
    }
}

/// One daemon with everything around it. When it goes away the daemon is ended, the containers are removed and the kernel's
/// audit state is as it was found; after a failed test the daemon's log is printed first.
#[derive(Debug)]
pub struct World {
    /// The engine; containers that are started through it are removed at the end.
    pub docker: Docker,
    /// Audit rules and settings as they were before this world.
    pub found: AuditState,
    binary: PathBuf,
    profiles: Vec<String>,
    arguments: Vec<String>,
    supervisor: Option<Running>,
    starts: u32,
    dir: TempDir,
    // Last: nobody else may use kernel or Docker before all of the above is gone.
    _lock: Lock,
}

impl World {
    /// Begins a world for this program: `World::builder(env!("CARGO_BIN_EXE_syscall-monitor"))`.
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        Builder {
            binary: binary.into(),
            profiles: vec![],
            arguments: vec![],
            config: toml::Table::new(),
            discord: None,
            telegram: None,
        }
    }

    /// The folder of this world.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the daemon keeps what survives a restart.
    pub fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Where the daemon has its socket and pid file.
    pub fn run_dir(&self) -> PathBuf {
        self.dir().join("run")
    }

    /// The configuration.
    pub fn config_file(&self) -> PathBuf {
        self.dir().join("config.toml")
    }

    /// What other ASF tools would read.
    pub fn security_log(&self) -> String {
        fs::read_to_string(self.dir().join("security.log")).unwrap_or_default()
    }

    /// The trust file of an agent, if it has one.
    pub fn trust(&self, agent: &str) -> Option<Value> {
        let file = self.state_dir().join("trust").join(format!("{agent}.json"));
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// Whether the kernel's settings as found are saved, which is so while the daemon runs and after it was killed.
    pub fn audit_before_exists(&self) -> bool {
        self.state_dir().join("audit-before.json").exists()
    }

    /// Everything that the daemon has written to its output so far, all starts together.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("daemon.log")).unwrap_or_default()
    }

    /// Starts the daemon and waits until it says healthy or partial.
    ///
    /// # Panics
    /// When it runs already, ends, or is not ready in time.
    pub fn start(&mut self) -> Value {
        self.spawn();
        let mut last = String::new();
        let ready = within(START_LIMIT, || {
            if !self.supervisor.as_mut().is_some_and(Running::is_running) {
                last = "it has ended".into();
                return Some(None);
            }
            let output = self.cli(&["status", "--output", "json"]);
            last = format!("{}{}", output.stdout, output.stderr);
            let status: Value = serde_json::from_str(&output.stdout).ok()?;
            let state = status["state"].as_str().unwrap_or_default();
            matches!(state, "healthy" | "partial").then_some(Some(status))
        });
        match ready.flatten() {
            Some(status) => status,
            None => panic!("the daemon did not become ready within {START_LIMIT:?}: {last}"),
        }
    }

    /// Starts the daemon and waits for nothing.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn spawn(&mut self) {
        assert!(
            self.daemon_pids().is_empty(),
            "a daemon runs already: {:?}",
            self.daemon_pids()
        );
        self.starts += 1;
        let file = self.dir().join("daemon.log");
        let log = fs::File::options().create(true).append(true).open(&file);
        let log = log.unwrap_or_else(|e| panic!("cannot open {}: {e}", file.display()));
        let copy = log
            .try_clone()
            .unwrap_or_else(|e| panic!("cannot share the log: {e}"));
        let mut command = self.command();
        command.arg("run").arg("--config").arg(self.config_file());
        for profile in &self.profiles {
            command.args(["--profile", profile]);
        }
        command.args(&self.arguments);
        self.supervisor = Some(Running::start_with(command.stdout(log).stderr(copy)));
    }

    /// The daemon's processes, the supervisor and all that it started.
    pub fn daemon_pids(&self) -> Vec<u32> {
        process::find(&self.binary, &DAEMON_COMMANDS)
            .into_iter()
            .filter(|pid| process::is_alive(*pid))
            .collect()
    }

    /// Stops the daemon as an operator does, with SIGTERM to the supervisor, and waits until all of it is gone.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(&mut self) {
        if let Some(supervisor) = &self.supervisor {
            process::signal(supervisor.pid(), Signal::TERM);
        }
        eventually("the end of the daemon after SIGTERM", STOP_LIMIT, || {
            // Asked so that a zombie is reaped.
            self.supervisor.as_mut().map(Running::is_running);
            self.daemon_pids().is_empty().then_some(())
        });
        self.supervisor = None;
    }

    /// kill -9 of all of the daemon at once.
    ///
    /// # Panics
    /// When something of it lives on.
    pub fn kill(&mut self) {
        eventually("the end of the daemon after SIGKILL", STOP_LIMIT, || {
            self.signal(Signal::KILL);
            self.supervisor.as_mut().map(Running::is_running);
            self.daemon_pids().is_empty().then_some(())
        });
        self.supervisor = None;
    }

    /// Sends a signal to every process of the daemon (`Signal::STOP`: a stuck daemon).
    pub fn signal(&self, signal: Signal) {
        for pid in self.daemon_pids() {
            process::signal(pid, signal);
        }
    }

    /// Sends a signal to one process of the daemon.
    pub fn signal_pid(&self, pid: u32, signal: Signal) {
        process::signal(pid, signal);
    }

    /// The daemon's process with that role: `run` (the supervisor), `sensor`, `courier`.
    pub fn try_pid_of(&self, role: &str) -> Option<u32> {
        process::find(&self.binary, &[role])
            .into_iter()
            .find(|pid| process::is_alive(*pid))
    }

    /// The same, waited for.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn pid_of(&self, role: &str) -> u32 {
        eventually(&format!("a {role} process"), START_LIMIT, || {
            self.try_pid_of(role)
        })
    }

    /// Runs `syscall-monitor` with this world's configuration.
    pub fn cli(&self, args: &[&str]) -> Output {
        run(self.command().args(args), CLI_LIMIT)
    }

    /// The program with this world's configuration, and without what the machine's own environment could tell it.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env("SYSCALL_MONITOR_CONFIG", self.config_file())
            .env("HOME", self.dir());
        for name in [
            "DISCORD_WEBHOOK",
            "TELEGRAM_BOT_TOKEN",
            "TELEGRAM_CHAT_ID",
            "SUDO_USER",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// `status --output json`; also when its exit status says that something is wrong.
    ///
    /// # Panics
    /// When it prints no JSON.
    pub fn status(&self) -> Value {
        let output = self.cli(&["status", "--output", "json"]);
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| {
            panic!(
                "status printed no JSON ({e}): {}{}",
                output.stdout, output.stderr
            )
        })
    }

    /// `history … --output jsonl`.
    pub fn history(&self, filters: &[&str]) -> Vec<Value> {
        self.cli(&[&["history", "--output", "jsonl"], filters].concat())
            .jsonl()
    }

    /// `alerts … --output jsonl`.
    pub fn alerts(&self, filters: &[&str]) -> Vec<Value> {
        self.cli(&[&["alerts", "--output", "jsonl"], filters].concat())
            .jsonl()
    }

    /// Runs a harmless program and waits until it is in the history: all that happened before has been judged by then, so that
    /// "no alert" means something.
    ///
    /// # Panics
    /// When it does not arrive.
    pub fn barrier(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let token = format!("barrier-{}-{count}", std::process::id());
        run(Command::new("/bin/true").arg(&token), CLI_LIMIT).expect_ok();
        eventually(&format!("{token} in the history"), START_LIMIT, || {
            let found = self.cli(&[
                "history", "--since", "5m", "--text", &token, "--limit", "1", "--output", "jsonl",
            ]);
            found.stdout.contains(&token).then_some(())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        self.signal(Signal::CONT);
        if let Some(supervisor) = &self.supervisor {
            process::signal(supervisor.pid(), Signal::TERM);
        }
        let gone = within(STOP_LIMIT, || {
            self.supervisor.as_mut().map(Running::is_running);
            self.daemon_pids().is_empty().then_some(())
        });
        if gone.is_none() {
            eprintln!("the daemon did not end after SIGTERM; killed");
            self.signal(Signal::KILL);
        }
        let _ = within(STOP_LIMIT, || self.daemon_pids().is_empty().then_some(()));
        for line in self.found.restore() {
            eprintln!("put back by the test, not by the daemon: {line}");
        }
    }
}

impl World {
    /// What helps to understand a failed test.
    fn tell(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.len().saturating_sub(200);
        eprintln!(
            "--- the daemon's log ({} of {} lines, {} starts)",
            lines.len() - tail,
            lines.len(),
            self.starts
        );
        for line in &lines[tail..] {
            eprintln!("{line}");
        }
        let status = self.cli(&["status", "--output", "json"]);
        eprintln!("--- status\n{}{}", status.stdout, status.stderr);
        if let Some(folder) = std::env::var_os("SYSCALL_MONITOR_TEST_ARTIFACTS") {
            let name = std::thread::current()
                .name()
                .unwrap_or("test")
                .replace("::", ".");
            // The log was printed already; a copy that fails is not worth a second panic.
            let _ = fs::write(Path::new(&folder).join(format!("{name}.log")), log);
        }
    }
}

/// A file that only its owner may read.
fn secret(file: &Path, text: &str) {
    let written = fs::write(file, format!("{text}\n"))
        .and_then(|()| fs::set_permissions(file, fs::Permissions::from_mode(0o600)));
    written.unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
}

/// Puts `from` over `into`, table by table.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_merged_table_by_table() {
        let builder = World::builder("/bin/true")
            .discord("http://127.0.0.1:1")
            .config("[notify.discord]\nmin_severity = \"high\"\n[quarantine]\nscope = \"all\"")
            .config("[quarantine]\nscope = \"none\"");
        let dir = tempfile::tempdir().unwrap();
        let config = builder.compose(dir.path());
        let discord = &config["notify"]["discord"];
        assert_eq!(discord["base_url"].as_str(), Some("http://127.0.0.1:1"));
        assert_eq!(discord["min_severity"].as_str(), Some("high"));
        assert_eq!(config["quarantine"]["scope"].as_str(), Some("none"));
        assert!(
            config["rules"]["dirs"][0]
                .as_str()
                .unwrap()
                .ends_with("/audit-rules")
        );
        let text = config.to_string();
        assert_eq!(text.parse::<toml::Table>().unwrap(), config);
    }
}
