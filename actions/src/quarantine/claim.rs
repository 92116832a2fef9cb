//! How an agent is known again: a quarantine belongs to the agent, not to the id of one container.

use enricher::container::Container;
use serde::{Deserialize, Serialize};

/// What of an agent outlives its container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// `project/service` of compose.
    pub service: Option<String>,
    /// Volumes and folders of the host that it may write: its state, its workspace.
    pub volumes: Vec<String>,
}

/// Folders of the host that many containers share; that two have one of them says nothing of who they are.
const COMMON: [&str; 9] = [
    "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/sys", "/tmp", "/usr",
];

impl Identity {
    /// Of a container as its engine describes it.
    pub fn of(container: &Container) -> Self {
        let project = container.label("com.docker.compose.project");
        let service = container.label("com.docker.compose.service");
        Self {
            service: project
                .zip(service)
                .map(|(project, service)| format!("{project}/{service}")),
            volumes: container
                .mounts
                .iter()
                .filter(|m| m.writable && matches!(m.kind.as_str(), "bind" | "volume"))
                .map(|m| m.source.trim_end_matches('/'))
                .filter(|source| tells_apart(source))
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// Is this path the state of one program, rather than a place or a socket that anybody mounts?
fn tells_apart(source: &str) -> bool {
    // Sockets of engines and services lie there.
    let socket =
        source.ends_with(".sock") || source.starts_with("/run/") || source.starts_with("/var/run/");
    let special = ["/dev/", "/proc/", "/sys/"]
        .iter()
        .any(|p| source.starts_with(p));
    !(source.is_empty() || socket || special || COMMON.contains(&source))
}

/// By what a container falls under a quarantine, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// It is the container that was frozen.
    Id,
    /// A container of the same name, started later.
    Name,
    /// The same instance by label, started later.
    Agent,
    /// The same service of the same compose project, started later.
    Service,
    /// An agent with a volume or folder of the quarantined one, started later.
    Volume,
}

impl By {
    /// In words, after "it has".
    pub fn words(self) -> &'static str {
        match self {
            Self::Id => "the same id",
            Self::Name => "the same name",
            Self::Agent => "the same agent's label or name",
            Self::Service => "the same compose service",
            Self::Volume => "a volume of the quarantined agent",
        }
    }
}

/// What a quarantine needs to know its agent again; a small copy for those who see every event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Id of the container that was frozen.
    pub container_id: String,
    /// Its name.
    pub name: String,
    /// Instance.
    pub agent: Option<String>,
    /// Since when, milliseconds since the epoch.
    pub at_ms: u64,
    /// It was taken off its networks only, and runs: that it does is no news.
    pub runs: bool,
    /// What outlives the container.
    pub identity: Identity,
}

impl Claim {
    /// Does this container fall under the quarantine, and by what?
    ///
    /// One that ran before the freeze and has another id is another one: replicas of a service, a second agent that shares a
    /// folder. A start that is not known yet (0) is one that happens now.
    pub fn on(&self, container: &Container) -> Option<By> {
        if container.id == self.container_id {
            return (!self.runs).then_some(By::Id);
        }
        if container.started_ms != 0 && container.started_ms <= self.at_ms {
            return None;
        }
        if !self.name.is_empty() && container.name.as_deref() == Some(self.name.as_str()) {
            return Some(By::Name);
        }
        if self.agent.is_some() && container.agent == self.agent {
            return Some(By::Agent);
        }
        let theirs = Identity::of(container);
        if self.identity.service.is_some() && theirs.service == self.identity.service {
            return Some(By::Service);
        }
        // A backup that mounts the state is no agent.
        let shared = container.profile.is_some()
            && theirs
                .volumes
                .iter()
                .any(|v| self.identity.volumes.contains(v));
        shared.then_some(By::Volume)
    }
}

#[cfg(test)]
mod tests {
    use enricher::container::{Mount, Profile};

    use super::*;

    fn mount(source: &str, kind: &str, writable: bool) -> Mount {
        Mount {
            source: source.into(),
            destination: "/data".into(),
            kind: kind.into(),
            writable,
            declared: true,
        }
    }

    fn container(id: &str, name: &str) -> Container {
        Container {
            name: Some(name.into()),
            agent: Some(name.into()),
            started_ms: 2000,
            ..Container::from_id(id)
        }
    }

    fn frozen() -> Claim {
        let mut c = container("a", "gateway");
        c.labels = vec![
            ("com.docker.compose.project".into(), "claw".into()),
            ("com.docker.compose.service".into(), "gateway".into()),
        ];
        c.mounts = vec![
            mount("/srv/claw/state", "bind", true),
            mount("/srv/claw/ro", "bind", false),
            mount("/var/run/docker.sock", "bind", true),
        ];
        Claim {
            container_id: "a".into(),
            name: "gateway".into(),
            agent: Some("gateway".into()),
            at_ms: 1000,
            runs: false,
            identity: Identity::of(&c),
        }
    }

    #[test]
    fn an_agent_is_known_again() {
        let claim = frozen();
        assert_eq!(claim.on(&Container::from_id("a")), Some(By::Id));
        assert_eq!(claim.on(&container("b", "gateway")), Some(By::Name));
        let labelled = Container {
            name: Some("other".into()),
            ..container("b", "gateway")
        };
        assert_eq!(claim.on(&labelled), Some(By::Agent));
        let mut service = container("b", "claw-gateway-2");
        service.labels = vec![
            ("com.docker.compose.project".into(), "claw".into()),
            ("com.docker.compose.service".into(), "gateway".into()),
        ];
        assert_eq!(claim.on(&service), Some(By::Service));
        let mut state = container("b", "new");
        state.mounts = vec![mount("/srv/claw/state/", "bind", true)];
        state.profile = Some(Profile::Openclaw);
        assert_eq!(claim.on(&state), Some(By::Volume));
    }

    #[test]
    fn others_are_left_alone() {
        let claim = frozen();
        assert_eq!(claim.on(&container("b", "web")), None);
        assert_eq!(claim.on(&Container::from_id("b")), None);
        // Ran before the freeze: a replica, or somebody who was renamed.
        let earlier = Container {
            started_ms: 500,
            ..container("b", "gateway")
        };
        assert_eq!(claim.on(&earlier), None);
        // A backup of the same folder is no agent; a folder that was only read, and a socket, tell nobody apart.
        let mut backup = container("b", "backup");
        backup.mounts = vec![mount("/srv/claw/state", "bind", true)];
        assert_eq!(claim.on(&backup), None);
        for source in ["/srv/claw/ro", "/var/run/docker.sock"] {
            let mut other = container("b", "new");
            other.profile = Some(Profile::Openclaw);
            other.mounts = vec![mount(source, "bind", true)];
            assert_eq!(claim.on(&other), None, "{source}");
        }
    }
}
