//! `Container`: what is known of one container, from its cgroup, its processes and its engine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Rule packs for agents. One program at three dates, so a profile is chosen by name, image, label and mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// OpenClaw, since 2026-01-30.
    Openclaw,
    /// Clawdbot, from 2026-01-04; the story calls its profile clawbot.
    Clawbot,
    /// Moltbot, 2026-01-27 to 30.
    Moltbot,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Openclaw, Self::Clawbot, Self::Moltbot];

    /// Name as in configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Openclaw => "openclaw",
            Self::Clawbot => "clawbot",
            Self::Moltbot => "moltbot",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Program that runs the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// dockerd.
    Docker,
    /// podman.
    Podman,
    /// containerd without dockerd.
    Containerd,
    /// CRI-O.
    Crio,
    /// Kubernetes, whatever runtime is below.
    Kubernetes,
    /// LXC.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
    /// Not known (yet).
    #[default]
    Unknown,
}

/// Something of the host that is mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// `bind`, `volume`, `tmpfs`, … in Docker's words.
    pub kind: String,
    /// May the container write there?
    pub writable: bool,
    /// Mounted by the engine itself (resolv.conf, hosts, hostname), the agent's state or workspace, or expected by
    /// configuration: access to it is no finding.
    pub declared: bool,
}

/// One container. Everything but the id can be unknown: a container is attributed by its cgroup before its engine was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Full id, 64 hexadecimal digits with Docker.
    pub id: String,
    /// Name without the leading slash; `None` until the engine answered.
    pub name: Option<String>,
    /// Image as it was named (`openclaw:local`).
    pub image: Option<String>,
    /// Digest of the image.
    pub image_id: Option<String>,
    /// Engine.
    pub engine: Engine,
    /// Rule pack, when this container is an agent.
    pub profile: Option<Profile>,
    /// Instance: label `syscall-monitor.agent`, else the name, made safe for file names. Two gateways never share one.
    pub agent: Option<String>,
    /// Labels, sorted by name.
    pub labels: Vec<(String, String)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// `--privileged`.
    pub privileged: bool,
    /// Capabilities added, without `CAP_`.
    pub cap_add: Vec<String>,
    /// Security options (`seccomp=unconfined`, …).
    pub security_opt: Vec<String>,
    /// Network mode (`bridge`, `host`, `container:…`, a network's name).
    pub network_mode: Option<String>,
    /// `host` when the pid namespace is the host's.
    pub pid_mode: Option<String>,
    /// Ports that the engine publishes, `127.0.0.1:3000->3000/tcp`.
    pub ports: Vec<String>,
    /// Low-level runtime, when it is known (`runc`, `runsc`, `io.containerd.kata.v2`).
    #[serde(default)]
    pub oci_runtime: Option<String>,
    /// Program and arguments of its health check, as the engine executes them; empty when it has none or that is not known.
    #[serde(default)]
    pub health_check: Vec<String>,
    /// Host pid of the container's first process, 0 when not known or not running.
    pub init_pid: u32,
    /// Start, milliseconds since the epoch; 0 when not known.
    pub started_ms: u64,
}

impl Container {
    /// A container of which only the id is known.
    pub fn from_id(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }

    /// First twelve digits of the id, as Docker prints it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Name, or the short id while the name is not known.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.short_id())
    }

    /// Value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}
