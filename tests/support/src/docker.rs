//! A real Docker engine through its command line. Every container carries our label, and goes when its `Docker` goes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Output, Running, run};

/// Label of everything that the end-to-end tests make; nothing without it is ever touched.
pub const LABEL: &str = "syscall-monitor.test";
/// Its value for these tests.
pub const LABEL_VALUE: &str = "e2e";
const LIMIT: Duration = Duration::from_secs(60);

/// The engine, and the containers that were started through this value.
#[derive(Debug)]
pub struct Docker(());

impl Docker {
    /// Connects, and removes what an earlier run left behind.
    ///
    /// # Panics
    /// When no engine answers.
    pub fn connect() -> Self {
        docker(&["version", "--format", "{{.Server.Version}}"]).expect_ok();
        let docker = Self(());
        docker.remove_all();
        docker
    }

    /// Describes a container to start.
    pub fn container<'a>(&'a self, name: &str, image: &str) -> Spec<'a> {
        Spec {
            _docker: self,
            name: name.to_owned(),
            image: image.to_owned(),
            options: vec![],
            command: vec![],
        }
    }

    /// A docker command, with a time limit of one minute.
    pub fn command(&self, args: &[&str]) -> Output {
        docker(args)
    }

    /// Names of the running and paused containers of these tests.
    pub fn names(&self) -> Vec<String> {
        let filter = format!("label={LABEL}={LABEL_VALUE}");
        docker(&["ps", "--filter", &filter, "--format", "{{.Names}}"])
            .expect_ok()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Removes every container of these tests, frozen ones too, and returns how many there were.
    pub fn remove_all(&self) -> usize {
        let filter = format!("label={LABEL}={LABEL_VALUE}");
        let ids = docker(&["ps", "-aq", "--no-trunc", "--filter", &filter]).stdout;
        ids.lines().for_each(remove);
        ids.lines().count()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.remove_all();
    }
}

/// A network of a test; it goes with the value, which has to outlive the containers in it.
#[derive(Debug)]
pub struct Network(pub String);

impl Network {
    /// A bridge with a subnet of its own.
    ///
    /// # Panics
    /// When Docker does not make it.
    pub fn create(name: &str, subnet: &str) -> Self {
        docker(&["network", "rm", name]);
        let label = format!("{LABEL}={LABEL_VALUE}");
        docker(&[
            "network", "create", "--label", &label, "--subnet", subnet, name,
        ])
        .expect_ok();
        Self(name.to_owned())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        docker(&["network", "rm", &self.0]);
    }
}

/// A container to be.
#[derive(Debug)]
pub struct Spec<'a> {
    _docker: &'a Docker,
    name: String,
    image: String,
    options: Vec<String>,
    command: Vec<String>,
}

impl Spec<'_> {
    /// Options of `docker run`, such as `--cap-add SYS_ADMIN`.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// May mount and trace: SYS_ADMIN and SYS_PTRACE, no seccomp, no AppArmor. Refused calls leave a record, too.
    pub fn dangerous(self) -> Self {
        self.options(&[
            "--cap-add=SYS_ADMIN",
            "--cap-add=SYS_PTRACE",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
        ])
    }

    /// What runs in it; without this it sleeps.
    pub fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// `docker run -d`. Without a `--network` option it has none, which works on every machine.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(self) -> Container {
        let label = format!("{LABEL}={LABEL_VALUE}");
        let mut args = vec![
            "run",
            "-d",
            "--name",
            &self.name,
            "--label",
            &label,
            "--stop-timeout=1",
        ];
        if !self
            .options
            .iter()
            .any(|o| o == "--network" || o.starts_with("--network="))
        {
            args.push("--network=none");
        }
        args.extend(self.options.iter().map(String::as_str));
        args.push(&self.image);
        if self.command.is_empty() {
            args.extend(["/bin/attacker", "sleep"]);
        }
        args.extend(self.command.iter().map(String::as_str));
        let id = docker(&args).expect_ok().trim().to_owned();
        Container {
            id,
            name: self.name,
        }
    }
}

/// A container that was started.
#[derive(Clone, Debug)]
pub struct Container {
    /// All 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Container {
    /// `docker exec`, waited for. A command that gets the container frozen never ends: use [`Container::spawn`].
    pub fn exec(&self, command: &[&str]) -> Output {
        docker(&[&["exec", &self.id], command].concat())
    }

    /// `docker exec` that nobody waits for; it is ended when the value goes away.
    pub fn spawn(&self, command: &[&str]) -> Running {
        Running::start(
            Command::new("docker")
                .args(["exec", &self.id])
                .args(command),
        )
    }

    /// `docker inspect`.
    ///
    /// # Panics
    /// When the container is gone.
    pub fn inspect(&self) -> Value {
        let mut all = docker(&["inspect", "--type=container", &self.id]).json();
        all.get_mut(0).map(Value::take).unwrap_or_default()
    }

    /// Docker's word for it: `running`, `paused`, `exited`, …
    pub fn status(&self) -> String {
        self.inspect()["State"]["Status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Whether Docker says that it is paused.
    pub fn is_paused(&self) -> bool {
        self.status() == "paused"
    }

    /// Names of its networks.
    pub fn networks(&self) -> Vec<String> {
        self.inspect()["NetworkSettings"]["Networks"]
            .as_object()
            .map(|all| all.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Its restart policy.
    pub fn restart_policy(&self) -> String {
        self.inspect()["HostConfig"]["RestartPolicy"]["Name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The host's process id of its first program; 0 when it does not run.
    pub fn pid(&self) -> u64 {
        self.inspect()["State"]["Pid"].as_u64().unwrap_or_default()
    }

    /// Whether the kernel keeps it frozen, whatever Docker says.
    pub fn is_frozen(&self) -> bool {
        freezers(self.pid()).iter().any(Freezer::is_frozen)
    }

    /// Thaws it by the kernel's files, behind the back of everybody.
    pub fn thaw(&self) {
        freezers(self.pid()).iter().for_each(Freezer::thaw);
    }

    /// Removes it at once, also when it is frozen.
    pub fn remove(&self) {
        remove(&self.id);
    }
}

/// One of the kernel's two ways to freeze a control group.
#[derive(Debug)]
enum Freezer {
    /// cgroup v1: `freezer.state`.
    V1(PathBuf),
    /// cgroup v2 (also on a hybrid tree): `cgroup.freeze`.
    V2(PathBuf),
}

impl Freezer {
    fn is_frozen(&self) -> bool {
        let (file, wanted) = match self {
            Self::V1(dir) => (dir.join("freezer.state"), "FROZEN"),
            Self::V2(dir) => (dir.join("cgroup.freeze"), "1"),
        };
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == wanted)
    }

    fn thaw(&self) {
        // It may not exist any more, or never have been frozen; the removal that follows tells what matters.
        let _ = match self {
            Self::V1(dir) => std::fs::write(dir.join("freezer.state"), "THAWED"),
            Self::V2(dir) => std::fs::write(dir.join("cgroup.freeze"), "0"),
        };
    }
}

/// The freezers of a container by its first process; none for pid 0.
fn freezers(pid: u64) -> Vec<Freezer> {
    if pid == 0 {
        return vec![];
    }
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut found = vec![];
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        // The root group is the host's; a container is never in it.
        if path == "/" {
            continue;
        }
        if controllers == "freezer" {
            found.push(Freezer::V1(format!("/sys/fs/cgroup/freezer{path}").into()));
        } else if controllers.is_empty() {
            found.push(Freezer::V2(format!("/sys/fs/cgroup/unified{path}").into()));
            found.push(Freezer::V2(format!("/sys/fs/cgroup{path}").into()));
        }
    }
    found
}

/// The freezers of a container by its id, where Docker's two drivers put them.
fn freezers_by_id(id: &str) -> Vec<Freezer> {
    let places = [
        format!("docker/{id}"),
        format!("system.slice/docker-{id}.scope"),
    ];
    let mut found = vec![];
    for place in &places {
        found.push(Freezer::V1(
            format!("/sys/fs/cgroup/freezer/{place}").into(),
        ));
        found.push(Freezer::V2(
            format!("/sys/fs/cgroup/unified/{place}").into(),
        ));
        found.push(Freezer::V2(format!("/sys/fs/cgroup/{place}").into()));
    }
    found
}

fn remove(id: &str) {
    // Docker itself may wait for a container that was frozen in the middle of a `docker exec`: so by the id, without asking it.
    freezers_by_id(id).iter().for_each(Freezer::thaw);
    // Fails when it is not paused, which is the usual case.
    docker(&["unpause", id]);
    docker(&["rm", "-f", "-v", id]);
}

fn docker(args: &[&str]) -> Output {
    run(Command::new("docker").args(args), LIMIT)
}
