//! Docker's part of a quarantine: pause, restart policy, and the way back. Courier side; every call has a time limit.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody, EndpointIpamConfig,
    EndpointSettings, NetworkConnectRequest, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::LogsOptionsBuilder;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt;

use crate::courier::wire::{Inspection, ReleaseReport};
use crate::quarantine::Quarantine;

/// Restart policy and networks of a container as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// `no`, `always`, `unless-stopped`, `on-failure`; `None` when Docker did not say.
    pub restart_policy: Option<String>,
    /// Retries of `on-failure`.
    pub restart_retries: i64,
    /// Network mode (`bridge`, `host`, `container:…`, a network's name).
    pub network_mode: Option<String>,
    /// Networks by name.
    pub networks: BTreeMap<String, Endpoint>,
}

/// A place in a network, as far as it can be asked for again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Id of the network.
    pub network_id: Option<String>,
    /// Addresses that were asked for (not those that were merely given); Docker tells "none asked for" (`{}`) from "nothing
    /// said" (`null`), here and below, and so do we, for the way back is to be exact.
    pub addresses: Option<Addresses>,
    /// Aliases that were asked for.
    pub aliases: Option<Vec<String>>,
    /// Links.
    pub links: Option<Vec<String>>,
    /// Options of the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Which network gives the default route.
    pub gateway_priority: Option<i64>,
}

/// Addresses that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Addresses {
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
    pub link_local: Option<Vec<String>>,
}

/// Docker paused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// As found before anything was changed.
    pub before: Before,
    /// It was paused before we asked.
    pub already: bool,
}

/// Docker did not pause it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "failed")]
pub enum PauseFailure {
    /// There is no such container any more.
    Gone,
    /// It does not run.
    NotRunning,
    /// Docker refused.
    Refused {
        /// Its words.
        why: String,
    },
    /// Docker did not answer in time; it may still do it.
    TimedOut {
        /// What was asked.
        what: String,
    },
    /// No engine to ask.
    NoEngine {
        /// Why.
        why: String,
    },
}

impl PauseFailure {
    /// Is it of use to ask again?
    pub fn can_be_repeated(&self) -> bool {
        !matches!(self, Self::Gone)
    }
}

impl fmt::Display for PauseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the container is gone"),
            Self::NotRunning => f.write_str("the container does not run"),
            Self::Refused { why } => write!(f, "Docker refused: {why}"),
            Self::TimedOut { what } => write!(f, "Docker did not answer in time ({what})"),
            Self::NoEngine { why } => write!(f, "Docker cannot be reached: {why}"),
        }
    }
}

impl std::error::Error for PauseFailure {}

/// A connection to an engine and how long one call may take.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
    limit: Duration,
}

/// Outcome of one call.
enum Failure {
    TimedOut(&'static str),
    Said(u16, String),
    Other(String),
}

impl Failure {
    fn status(&self) -> Option<u16> {
        if let Self::Said(status, _) = self {
            Some(*status)
        } else {
            None
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(what) => write!(f, "Docker did not answer in time ({what})"),
            Self::Said(_, why) => f.write_str(why),
            Self::Other(why) => write!(f, "Docker cannot be reached: {why}"),
        }
    }
}

impl From<Failure> for PauseFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TimedOut(what) => Self::TimedOut {
                what: what.to_owned(),
            },
            Failure::Said(404, _) => Self::Gone,
            Failure::Said(_, why) => Self::Refused { why },
            Failure::Other(why) => Self::NoEngine { why },
        }
    }
}

/// The last `limit` bytes, from the beginning of a line on.
fn tail(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut from = text.len() - limit;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let rest = text.get(from..).unwrap_or_default();
    rest.split_once('\n')
        .map_or(rest, |(_, lines)| lines)
        .to_owned()
}

impl Engine {
    /// Engine behind a Unix socket; nothing is asked yet. `limit` is for each call.
    ///
    /// # Errors
    /// [`PauseFailure::NoEngine`] when there is no such socket.
    pub fn connect(socket: &str, limit: Duration) -> Result<Self, PauseFailure> {
        let seconds = limit.as_secs().max(1) + 1;
        Docker::connect_with_unix(socket, seconds, bollard::API_DEFAULT_VERSION)
            .map(|docker| Self { docker, limit })
            .map_err(|e| PauseFailure::NoEngine { why: e.to_string() })
    }

    async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.limit, call).await {
            Err(_) => Err(Failure::TimedOut(what)),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Error::DockerResponseServerError {
                status_code,
                message,
            })) => Err(Failure::Said(status_code, message)),
            Ok(Err(Error::RequestTimeoutError)) => Err(Failure::TimedOut(what)),
            Ok(Err(e)) => Err(Failure::Other(e.to_string())),
        }
    }

    async fn look(&self, id: &str) -> Result<ContainerInspectResponse, Failure> {
        self.call("inspect", self.docker.inspect_container(id, None))
            .await
    }

    /// What Docker says of a container.
    ///
    /// # Errors
    /// In words.
    pub async fn inspect(&self, id: &str) -> Result<Inspection, PauseFailure> {
        let found = self.look(id).await?;
        let state = found.state.as_ref();
        Ok(Inspection {
            container_id: found.id.clone().unwrap_or_default(),
            name: found
                .name
                .as_deref()
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            status: state
                .and_then(|s| s.status)
                .map(|s| s.to_string())
                .unwrap_or_default(),
            init_pid: state
                .and_then(|s| s.pid)
                .and_then(|p| u32::try_from(p).ok())
                .unwrap_or(0),
            image_id: found.image.clone(),
            before: before(&found),
        })
    }

    /// What Docker says of a container, all of it, as JSON.
    ///
    /// # Errors
    /// [`PauseFailure`].
    pub async fn inspect_json(&self, id: &str) -> Result<String, PauseFailure> {
        let found = self.look(id).await?;
        serde_json::to_string_pretty(&found)
            .map_err(|e| PauseFailure::Refused { why: e.to_string() })
    }

    /// The last of a container's output, `limit` bytes at most, each line with its time; text that is not UTF-8 is replaced.
    ///
    /// # Errors
    /// [`PauseFailure`]; an engine whose log driver cannot be read refuses.
    pub async fn last_output(&self, id: &str, limit: usize) -> Result<String, PauseFailure> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .tail("5000")
            .build();
        let read = async {
            let mut stream = std::pin::pin!(self.docker.logs(id, Some(options)));
            let mut text = String::new();
            while let Some(chunk) = stream.next().await {
                text.push_str(&String::from_utf8_lossy(&chunk?.into_bytes()));
                if text.len() > 2 * limit {
                    text = tail(&text, limit);
                }
            }
            Ok(tail(&text, limit))
        };
        Ok(self.call("logs", read).await?)
    }

    /// Pauses a container, and says what was found before. The restart policy is left alone: [`Engine::disable_restart`]
    /// comes when what was found is durable, so that a crash in between cannot make us forget it.
    ///
    /// # Errors
    /// [`PauseFailure`].
    pub async fn pause(&self, id: &str) -> Result<Paused, PauseFailure> {
        let found = self.look(id).await?;
        let before = before(&found);
        if is_paused(&found) {
            return Ok(Paused {
                before,
                already: true,
            });
        }
        if !found.state.as_ref().and_then(|s| s.running).unwrap_or(true) {
            return Err(PauseFailure::NotRunning);
        }
        match self.call("pause", self.docker.pause_container(id)).await {
            Ok(()) => Ok(Paused {
                before,
                already: false,
            }),
            Err(failure) => {
                // Somebody else may have been quicker, or the answer was lost: what counts is what is.
                let now = self.look(id).await;
                match now {
                    Ok(now) if is_paused(&now) => Ok(Paused {
                        before,
                        already: false,
                    }),
                    Ok(now) if now.state.as_ref().and_then(|s| s.running) == Some(false) => {
                        Err(PauseFailure::NotRunning)
                    }
                    _ => Err(failure.into()),
                }
            }
        }
    }

    /// Sets the restart policy to `no`: neither Docker nor a reboot starts it again.
    ///
    /// # Errors
    /// In words.
    pub async fn disable_restart(&self, id: &str) -> Result<(), PauseFailure> {
        Ok(self.set_restart(id, "no", 0).await?)
    }

    async fn set_restart(&self, id: &str, policy: &str, retries: i64) -> Result<(), Failure> {
        let name = match policy {
            "always" => RestartPolicyNameEnum::ALWAYS,
            "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
            "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
            _ => RestartPolicyNameEnum::NO,
        };
        let restart_policy = Some(RestartPolicy {
            name: Some(name),
            maximum_retry_count: Some(retries),
        });
        let body = ContainerUpdateBody {
            restart_policy,
            ..ContainerUpdateBody::default()
        };
        self.call("update", self.docker.update_container(id, body))
            .await
    }

    /// Brings back networks and restart policy as they were found, then unpauses: what runs again has its networks. What
    /// is so already is said and is no error; a container that is gone neither.
    pub async fn release(&self, q: &Quarantine) -> ReleaseReport {
        let mut report = ReleaseReport {
            complete: true,
            ..ReleaseReport::default()
        };
        let id = q.container_id.as_str();
        let found = match self.look(id).await {
            Ok(found) => found,
            Err(failure) if failure.status() == Some(404) => {
                report.gone = true;
                report
                    .said
                    .push("the container is gone; there is nothing to bring back".into());
                return report;
            }
            Err(failure) => {
                report.complete = false;
                report.unanswered = matches!(failure, Failure::TimedOut(_));
                report.said.push(failure.to_string());
                return report;
            }
        };
        let running = found
            .state
            .as_ref()
            .and_then(|s| s.running)
            .unwrap_or(false);
        if let Some(was) = &q.before {
            self.restore_networks(id, was, &before(&found), &mut report)
                .await;
            self.restore_restart(id, was, &before(&found), &mut report)
                .await;
        } else {
            report
                .said
                .push("restart policy and networks were never changed".into());
        }
        if is_paused(&found) {
            match self
                .call("unpause", self.docker.unpause_container(id))
                .await
            {
                Ok(()) => report.said.push("unpaused by Docker".into()),
                Err(failure) => match self.look(id).await {
                    Ok(now) if !is_paused(&now) => report.said.push("not paused any more".into()),
                    _ => {
                        report.complete = false;
                        report.said.push(format!("not unpaused: {failure}"));
                    }
                },
            }
        } else if running {
            report.said.push("Docker does not hold it paused".into());
        } else {
            report
                .said
                .push("it does not run; `docker start` starts it".into());
        }
        report
    }

    async fn restore_networks(
        &self,
        id: &str,
        was: &Before,
        now: &Before,
        report: &mut ReleaseReport,
    ) {
        for (name, endpoint) in was
            .networks
            .iter()
            .filter(|(name, _)| !now.networks.contains_key(*name))
        {
            let request = NetworkConnectRequest {
                container: id.to_owned(),
                endpoint_config: Some(endpoint.settings()),
            };
            match self
                .call(
                    "network connect",
                    self.docker.connect_network(name, request),
                )
                .await
            {
                Ok(()) => report.said.push(format!("network {name} connected again")),
                Err(failure) => {
                    report.complete = false;
                    report
                        .said
                        .push(format!("network {name} not connected: {failure}"));
                }
            }
        }
        if was
            .networks
            .keys()
            .all(|name| now.networks.contains_key(name))
        {
            report.said.push("networks are as they were".into());
        }
    }

    async fn restore_restart(
        &self,
        id: &str,
        was: &Before,
        now: &Before,
        report: &mut ReleaseReport,
    ) {
        let Some(policy) = &was.restart_policy else {
            return;
        };
        if (&was.restart_policy, was.restart_retries) == (&now.restart_policy, now.restart_retries)
        {
            report
                .said
                .push(format!("restart policy is {policy:?} as it was"));
            return;
        }
        match self.set_restart(id, policy, was.restart_retries).await {
            Ok(()) => report
                .said
                .push(format!("restart policy is {policy:?} again")),
            Err(failure) => {
                report.complete = false;
                report.said.push(format!(
                    "restart policy not set back to {policy:?}: {failure}"
                ));
            }
        }
    }
}

fn is_paused(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().is_some_and(|s| {
        s.paused == Some(true) || s.status == Some(ContainerStateStatusEnum::PAUSED)
    })
}

fn before(found: &ContainerInspectResponse) -> Before {
    let host = found.host_config.as_ref();
    let restart = host.and_then(|h| h.restart_policy.as_ref());
    let policy = restart.and_then(|r| r.name).map(|n| n.to_string());
    let id = found.id.as_deref().unwrap_or_default();
    let networks = found
        .network_settings
        .as_ref()
        .and_then(|n| n.networks.as_ref());
    Before {
        // Docker writes the empty word for "no" in containers of old clients.
        restart_policy: policy.map(|p| if p.is_empty() { "no".to_owned() } else { p }),
        restart_retries: restart.and_then(|r| r.maximum_retry_count).unwrap_or(0),
        network_mode: host.and_then(|h| h.network_mode.clone()),
        networks: networks
            .into_iter()
            .flatten()
            .map(|(name, settings)| (name.clone(), Endpoint::from_settings(settings, id)))
            .collect(),
    }
}

impl Endpoint {
    fn from_settings(settings: &EndpointSettings, container_id: &str) -> Self {
        let set = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
        // Older engines list the container's short id among the aliases, and add it again by themselves.
        let own = |a: &String| a.len() >= 12 && container_id.starts_with(a.as_str());
        Self {
            network_id: set(&settings.network_id),
            addresses: settings.ipam_config.as_ref().map(|i| Addresses {
                ipv4: set(&i.ipv4_address),
                ipv6: set(&i.ipv6_address),
                link_local: i.link_local_ips.clone(),
            }),
            aliases: settings
                .aliases
                .as_ref()
                .map(|all| all.iter().filter(|a| !own(a)).cloned().collect()),
            links: settings.links.clone(),
            driver_opts: settings
                .driver_opts
                .clone()
                .map(|o| o.into_iter().collect()),
            gateway_priority: settings.gw_priority,
        }
    }

    fn settings(&self) -> EndpointSettings {
        EndpointSettings {
            ipam_config: self.addresses.as_ref().map(|a| EndpointIpamConfig {
                ipv4_address: a.ipv4.clone(),
                ipv6_address: a.ipv6.clone(),
                link_local_ips: a.link_local.clone(),
            }),
            aliases: self.aliases.clone(),
            links: self.links.clone(),
            driver_opts: self.driver_opts.clone().map(|o| o.into_iter().collect()),
            gw_priority: self.gateway_priority,
            ..EndpointSettings::default()
        }
    }
}
