//! Docker's part of a quarantine: pause, restart policy, and the way back. Courier side; every call has a time limit.

mod networks;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CommitContainerOptions, KillContainerOptionsBuilder, LogsOptionsBuilder,
};
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt;

use crate::courier::wire::{Inspection, ReleaseReport};
use crate::quarantine::Quarantine;

use networks::before;
pub use networks::{Addresses, Before, Cut, Endpoint};

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

    /// Makes an image of a container's files as they are, without pausing it for that. Gives its digest.
    ///
    /// # Errors
    /// [`PauseFailure`].
    pub async fn commit(&self, id: &str, repo: &str, tag: &str) -> Result<String, PauseFailure> {
        let options = CommitContainerOptions {
            container: Some(id.to_owned()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            comment: Some("evidence; it holds the container's own secrets".into()),
            pause: false,
            ..CommitContainerOptions::default()
        };
        let call = self
            .docker
            .commit_container(options, ContainerConfig::default());
        Ok(self.call("commit", call).await?.id)
    }

    /// Kills a container, also one that is paused: the signal is there before anything of it runs again. One that does not run is
    /// no error. Returns when Docker says that it does not run.
    ///
    /// # Errors
    /// [`PauseFailure`].
    pub async fn stop(&self, id: &str) -> Result<(), PauseFailure> {
        let options = KillContainerOptionsBuilder::default()
            .signal("SIGKILL")
            .build();
        let killed = self
            .call("kill", self.docker.kill_container(id, Some(options)))
            .await;
        let until = tokio::time::Instant::now() + self.limit;
        loop {
            let found = self.look(id).await?;
            if !runs(&found) {
                return Ok(());
            }
            // What Docker said counts only when it is still there.
            if killed.is_err() || tokio::time::Instant::now() >= until {
                killed?;
                return Err(PauseFailure::TimedOut {
                    what: "kill".into(),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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
        let running = runs(&found);
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
        // Who was cut only was never paused by us.
        if is_paused(&found) && q.level.freezes() {
            match self
                .call("unpause", self.docker.unpause_container(id))
                .await
            {
                Ok(()) => report.said.push("unpaused by Docker".into()),
                Err(failure) => match self.look(id).await {
                    Ok(now) if !is_paused(&now) => report.said.push("not paused any more".into()),
                    _ => {
                        report.complete = false;
                        report.adrift = failure.status().is_some();
                        report.said.push(format!("not unpaused: {failure}"));
                    }
                },
            }
        } else if running {
            report.said.push("Docker does not hold it paused".into());
        } else if q.stopped_at.is_some() {
            // It ran when we stopped it.
            match self
                .call("start", self.docker.start_container(id, None))
                .await
            {
                Ok(()) => report
                    .said
                    .push("started again; what it had in memory is lost".into()),
                Err(failure) => {
                    report.complete = false;
                    report.said.push(format!("not started: {failure}"));
                }
            }
        } else {
            report
                .said
                .push("it does not run; `docker start` starts it".into());
        }
        report
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

fn runs(found: &ContainerInspectResponse) -> bool {
    found
        .state
        .as_ref()
        .and_then(|s| s.running)
        .unwrap_or(false)
}

fn is_paused(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().is_some_and(|s| {
        s.paused == Some(true) || s.status == Some(ContainerStateStatusEnum::PAUSED)
    })
}
