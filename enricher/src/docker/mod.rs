//! What a Docker engine (or podman's service that speaks like one) says about containers.
//!
//! In: its Unix socket. Out: [`DockerUpdate`]s. This runs in the process that talks to networks, not in the one that
//! attributes events, so everything that leaves here can be serialized. It never gives up: an engine that is not there yet is
//! waited for, a stream that ends is opened again, and what happened in between is asked for.

mod convert;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use crate::container::{Container, Engine};

/// Where the engine listens, and how patient we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerOptions {
    /// Unix socket.
    pub socket: PathBuf,
    /// Limit of one inspect or list. An engine under load answers after many seconds, and an answer that nobody waits for any
    /// more is a name that never comes.
    pub request_timeout: Duration,
    /// After so long without an answer, what is known already is told: that the engine does not answer, or a container's name
    /// without the details. The answer is still waited for.
    pub patience: Duration,
    /// Longest pause between two attempts to reach the engine.
    pub max_backoff: Duration,
}

impl Default for DockerOptions {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/docker.sock"),
            request_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(2),
            max_backoff: Duration::from_secs(10),
        }
    }
}

/// One piece of news.
#[allow(clippy::large_enum_variant)] // nearly every update is a container
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DockerUpdate {
    /// The engine answers; `containers` run now and were sent before this.
    Connected {
        /// Its version (`20.10.24`).
        version: String,
        /// Running containers.
        containers: usize,
    },
    /// It does not answer (any more); said once until it answers again.
    Disconnected {
        /// Why, in words.
        why: String,
    },
    /// A container as it is now.
    Container(Container),
    /// Somebody unpaused it.
    Unpaused {
        /// Full id.
        id: String,
    },
    /// Its first process ended.
    Stopped {
        /// Full id.
        id: String,
    },
    /// It is gone for good.
    Removed {
        /// Full id.
        id: String,
    },
}

/// How many inspects run at once: an engine that is slow is not made slower.
const CONCURRENT: usize = 8;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// The receiver of the updates is gone.
struct Closed;

/// Watches until the receiver is dropped.
pub async fn watch(options: DockerOptions, tx: mpsc::Sender<DockerUpdate>) {
    let mut watch = Watch {
        options,
        tx,
        since: now(),
        told_down: false,
    };
    let mut backoff = FIRST_BACKOFF;
    loop {
        let started = tokio::time::Instant::now();
        let why = match watch.connection().await {
            Ok(why) => why,
            Err(Closed) => return,
        };
        if started.elapsed() > watch.options.max_backoff {
            backoff = FIRST_BACKOFF;
        }
        if !watch.told_down {
            watch.told_down = true;
            if watch
                .send(DockerUpdate::Disconnected { why })
                .await
                .is_err()
            {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = watch.tx.closed() => return,
        }
        backoff = (backoff * 2).min(watch.options.max_backoff);
    }
}

struct Watch {
    options: DockerOptions,
    tx: mpsc::Sender<DockerUpdate>,
    /// Up to when (seconds since the epoch) events were seen.
    since: i64,
    told_down: bool,
}

impl Watch {
    async fn send(&self, update: DockerUpdate) -> Result<(), Closed> {
        self.tx.send(update).await.map_err(|_| Closed)
    }

    /// One life of a connection; says why it ended.
    async fn connection(&mut self) -> Result<String, Closed> {
        let docker = match connect(&self.options) {
            Ok(docker) => docker,
            Err(why) => return Ok(why),
        };
        let limit = self.options.request_timeout;
        let patience = self.options.patience;
        let answer = {
            let asked = timeout(limit, docker.version());
            tokio::pin!(asked);
            match timeout(patience, &mut asked).await {
                Ok(answer) => answer,
                Err(_) => {
                    if !self.told_down {
                        self.told_down = true;
                        let why = format!("no answer within {patience:?}, still waiting");
                        self.send(DockerUpdate::Disconnected { why }).await?;
                    }
                    asked.await
                }
            }
        };
        let version = match answer {
            Ok(Ok(version)) => version,
            Ok(Err(error)) => return Ok(error.to_string()),
            Err(_) => return Ok(format!("no answer within {limit:?}")),
        };
        let podman = version
            .components
            .iter()
            .flatten()
            .any(|c| c.name.contains("Podman"));
        let engine = if podman {
            Engine::Podman
        } else {
            Engine::Docker
        };
        let session = Arc::new(Session {
            docker,
            engine,
            limit,
            patience,
            slots: Semaphore::new(CONCURRENT),
        });

        // The stream first, from before the last event that was seen; then the list: what happens between them comes twice, never not.
        let filters = HashMap::from([("type".to_owned(), vec!["container".to_owned()])]);
        let options = EventsOptions {
            since: Some((self.since - 2).to_string()),
            until: None,
            filters: Some(filters),
        };
        let events = session.docker.events(Some(options));
        tokio::pin!(events);
        let listed = match session.list().await {
            Ok(listed) => listed,
            Err(why) => return Ok(why),
        };
        let running = listed.iter().filter(|c| c.running).count();
        let mut news = News::default();
        for item in listed {
            news.inspect(&session, item.container);
        }
        let mut version = Some(version.version.unwrap_or_else(|| "unknown".to_owned()));
        // Connected is said when every listed container was told, or when the first event comes, whichever is earlier: an engine
        // that does not answer an inspect must not hide that it is there.
        loop {
            if news.is_idle()
                && let Some(version) = version.take()
            {
                self.told_down = false;
                self.send(DockerUpdate::Connected {
                    version,
                    containers: running,
                })
                .await?;
            }
            tokio::select! {
                biased;
                () = self.tx.closed() => return Err(Closed),
                Some(done) = news.tasks.join_next(), if !news.tasks.is_empty() => {
                    if let Some(container) = done.ok().and_then(|d| news.accept(d)) {
                        self.send(DockerUpdate::Container(container)).await?;
                    }
                }
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(time) = event.time {
                            self.since = self.since.max(time);
                        }
                        if let Some(update) = news.event(&session, &event) {
                            self.send(update).await?;
                        }
                    }
                    // One event that bollard's types cannot hold is no reason to leave the stream.
                    Some(Err(Error::JsonDataError { message, .. })) => tracing::debug!(message, "event of the engine not understood"),
                    Some(Err(error)) => return Ok(error.to_string()),
                    None => return Ok("the engine closed the stream of events".to_owned()),
                },
            }
        }
    }
}

/// What came of a question.
enum Told {
    /// The answer, or what had to do; `None`: there is no such container any more.
    Answer(Option<Container>),
    /// Nothing yet: what is known without it, and the question that is still open.
    Late(Container, Asked),
}

type Asked = Pin<Box<dyn Future<Output = Option<Container>> + Send>>;

/// What is being asked about containers, and which answers are still wanted.
#[derive(Default)]
struct News {
    tasks: JoinSet<(String, u64, Told)>,
    /// Number of the latest question or stop of each container: an older answer is stale.
    latest: HashMap<String, u64>,
    /// Containers of which something was told: what is known of them is more than a list or an event says.
    told: HashSet<String>,
    counter: u64,
}

impl News {
    fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    fn next(&mut self, id: &str) -> u64 {
        self.counter += 1;
        self.latest.insert(id.to_owned(), self.counter);
        self.counter
    }

    /// Asks; `known` is what the list or the event already said, and serves when the answer cannot be read.
    fn inspect(&mut self, session: &Arc<Session>, known: Container) {
        let number = self.next(&known.id);
        let session = Arc::clone(session);
        self.tasks.spawn(async move {
            let id = known.id.clone();
            let patience = session.patience;
            let short = known.clone();
            let mut asked: Asked = Box::pin(async move { session.inspect(known).await });
            let told = match timeout(patience, &mut asked).await {
                Ok(answer) => Told::Answer(answer),
                Err(_) => Told::Late(short, asked),
            };
            (id, number, told)
        });
    }

    fn accept(&mut self, (id, number, told): (String, u64, Told)) -> Option<Container> {
        if self.latest.get(&id) != Some(&number) {
            return None;
        }
        match told {
            Told::Answer(container) => {
                self.latest.remove(&id);
                if container.is_some() {
                    self.told.insert(id);
                }
                container
            }
            Told::Late(known, asked) => {
                let first = self.told.insert(id.clone());
                self.tasks
                    .spawn(async move { (id, number, Told::Answer(asked.await)) });
                first.then_some(known)
            }
        }
    }

    fn event(&mut self, session: &Arc<Session>, event: &EventMessage) -> Option<DockerUpdate> {
        let actor = event.actor.as_ref()?;
        let id = actor.id.clone()?;
        match event.action.as_deref()? {
            "create" | "start" | "restart" | "rename" | "update" | "init" => {
                self.inspect(session, convert::from_event(actor, session.engine)?);
                None
            }
            "die" | "died" => {
                // An answer that is still on its way may say "running"; it may be right, if the container was started again, so ask.
                if self.latest.contains_key(&id) {
                    self.inspect(session, convert::from_event(actor, session.engine)?);
                }
                Some(DockerUpdate::Stopped { id })
            }
            "unpause" => Some(DockerUpdate::Unpaused { id }),
            "destroy" | "remove" => {
                self.latest.remove(&id);
                self.told.remove(&id);
                Some(DockerUpdate::Removed { id })
            }
            _ => None,
        }
    }
}

/// A connection to one engine.
struct Session {
    docker: Docker,
    engine: Engine,
    limit: Duration,
    patience: Duration,
    slots: Semaphore,
}

/// A container in the list.
struct Listed {
    container: Container,
    running: bool,
}

impl Session {
    async fn list(&self) -> Result<Vec<Listed>, String> {
        let options = ListContainersOptions {
            all: true,
            ..Default::default()
        };
        match timeout(self.limit, self.docker.list_containers(Some(options))).await {
            Ok(Ok(list)) => Ok(list
                .into_iter()
                .filter_map(|s| convert::from_summary(s, self.engine))
                .collect()),
            Ok(Err(error)) => Err(format!("listing the containers: {error}")),
            Err(_) => Err(format!(
                "listing the containers: no answer within {} s",
                self.limit.as_secs()
            )),
        }
    }

    /// `None` when there is no such container any more and nothing told its name.
    async fn inspect(&self, known: Container) -> Option<Container> {
        let _slot = self.slots.acquire().await.ok()?;
        for attempt in 1..=3u32 {
            match timeout(self.limit, self.docker.inspect_container(&known.id, None)).await {
                Ok(Ok(answer)) => return convert::from_inspect(answer, self.engine),
                Ok(Err(Error::DockerResponseServerError {
                    status_code: 404, ..
                })) => {
                    // Gone already (`--rm`); what it was called is known all the same, and its events want a name.
                    return known.name.is_some().then_some(known);
                }
                // A word that bollard's types do not know: better the name and image that the event told than nothing.
                Ok(Err(error @ Error::JsonDataError { .. })) => {
                    tracing::warn!(container = known.short_id(), %error, "the engine's answer is not understood; using name, image and labels only");
                    return Some(known);
                }
                Ok(Err(error)) => {
                    tracing::debug!(container = known.short_id(), %error, attempt, "inspect failed")
                }
                Err(_) => tracing::warn!(
                    container = known.short_id(),
                    attempt,
                    "inspect: no answer in time"
                ),
            }
            tokio::time::sleep(FIRST_BACKOFF * attempt).await;
        }
        Some(known)
    }
}

fn connect(options: &DockerOptions) -> Result<Docker, String> {
    let path = options
        .socket
        .to_str()
        .ok_or("the path of the socket is not UTF-8")?;
    // The limit here covers the head of an answer only, and the stream of events sends its head at the first event: it gets its own.
    Docker::connect_with_unix(path, 60 * 60 * 24 * 365, bollard::API_DEFAULT_VERSION)
        .map_err(|e| e.to_string())
}

fn now() -> i64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
