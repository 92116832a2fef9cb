//! The courier: a process without rights that talks to Docker and to networks for the sensor.
//!
//! Threads and tasks. One task reads the sensor's requests, one writes the answers, one follows the engine. Each request is
//! a task of its own with a time limit. Deliveries and actions with Docker have [`CourierOptions::tasks`] places each, so that
//! neither takes the other's; what finds no place waits. When [`WAITING`] requests are in the house no further one is read,
//! so the sensor's bounded channel fills and its `try_send` says so. Everything is answered once: a task that runs into its
//! limit answers with that. What takes a container off its networks, stops it, or brings it back goes one after the other for each
//! container, in the order in which the sensor asked (`turns`).

pub mod hook;
pub mod poll;
mod turns;
pub mod wire;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use enricher::docker::{DockerOptions, DockerUpdate};
use futures_util::FutureExt;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::docker::{Engine, PauseFailure};
use crate::notify::{Notifier, Outcome, Telegram, Webhook};
use wire::{FromCourier, HookResult, ReleaseReport, ToCourier};

/// Requests that run or wait for a place.
pub const WAITING: usize = 1024;

/// Settings.
#[derive(Clone)]
pub struct CourierOptions {
    /// Docker's socket, `/var/run/docker.sock`.
    pub docker_socket: String,
    /// Follow the engine and send its news.
    pub watch_docker: bool,
    /// Channels by name of the destination.
    pub destinations: BTreeMap<String, Arc<dyn Notifier>>,
    /// The bot whose buttons are listened to, if any.
    pub phone: Option<Telegram>,
    /// How long Telegram holds a question for presses that it has no answer to.
    pub poll_wait: Duration,
    /// Command of the trust hook, without a shell; empty: none.
    pub trust_hook: Vec<String>,
    /// Where each change of trust is posted, beside the hook.
    pub trust_webhook: Option<Webhook>,
    /// Time limit of one call to Docker.
    pub docker_limit: Duration,
    /// Time limit of a whole action (pause, release).
    pub action_limit: Duration,
    /// Time limit of a delivery.
    pub delivery_limit: Duration,
    /// Time limit of the trust hook.
    pub hook_limit: Duration,
    /// Deliveries that run at once, and actions with Docker likewise.
    pub tasks: usize,
    /// How long a shutdown waits for what runs.
    pub shutdown_limit: Duration,
}

impl Default for CourierOptions {
    fn default() -> Self {
        Self {
            docker_socket: "/var/run/docker.sock".to_owned(),
            watch_docker: true,
            destinations: BTreeMap::new(),
            phone: None,
            poll_wait: poll::WAIT,
            trust_hook: Vec::new(),
            trust_webhook: None,
            docker_limit: Duration::from_secs(5),
            action_limit: Duration::from_secs(30),
            // Two requests of the channel's own limit (the form, and the shortest form), and a little.
            delivery_limit: crate::notify::LIMIT * 2 + Duration::from_secs(2),
            hook_limit: Duration::from_secs(30),
            tasks: 64,
            shutdown_limit: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for CourierOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CourierOptions")
            .field("docker_socket", &self.docker_socket)
            .field("destinations", &self.destinations.keys())
            .field("trust_hook", &self.trust_hook)
            .finish_non_exhaustive()
    }
}

/// Serves the sensor until it says `Shutdown` or its end of the stream is closed.
///
/// # Errors
/// What the stream says; a frame that cannot be read.
pub async fn run(stream: UnixStream, options: CourierOptions) -> io::Result<()> {
    let (mut input, mut output) = stream.into_split();
    let (answers, mut to_send) = mpsc::channel::<FromCourier>(256);
    let writer = tokio::spawn(async move {
        while let Some(answer) = to_send.recv().await {
            wire::write(&mut output, &answer).await?;
        }
        io::Result::Ok(())
    });
    let watch = options
        .watch_docker
        .then(|| tokio::spawn(follow(options.docker_socket.clone(), answers.clone())));
    let (pressed, presses) = mpsc::channel(16);
    let polling = options.phone.clone().map(|telegram| {
        let wait = options.poll_wait;
        tokio::spawn(poll::run(telegram, wait, answers.clone(), presses))
    });
    let tracker = TaskTracker::new();
    let stop = CancellationToken::new();
    let house = Arc::new(Semaphore::new(WAITING));
    let places = || Arc::new(Semaphore::new(options.tasks.max(1)));
    let (deliveries, actions) = (places(), places());
    let options = Arc::new(options);
    let mut turns = turns::Turns::default();
    let end = loop {
        let request = match wire::read::<ToCourier>(&mut input).await {
            Ok(Some(ToCourier::Shutdown) | None) => break Ok(()),
            Ok(Some(ToCourier::Handled { update_id, text })) => {
                // A poller that is gone asks again when it is back.
                let _ = pressed.try_send(poll::Handled { update_id, text });
                continue;
            }
            Ok(Some(request)) => request,
            Err(error) => break Err(error),
        };
        let Ok(room) = house.clone().acquire_owned().await else {
            break Ok(());
        };
        let (options, answers) = (options.clone(), answers.clone());
        let places = match request {
            ToCourier::Deliver { .. } => deliveries.clone(),
            _ => actions.clone(),
        };
        let stop = stop.clone();
        // Here, where requests come one by one in their order.
        let turn = turns::container(&request).map(|id| turns.enter(id));
        tracker.spawn(async move {
            let _room = room;
            let work = async {
                // Before the place: who waits for another one must not take the place that it needs.
                let _turn = match turn {
                    Some(turn) => Some(turn.come().await),
                    None => None,
                };
                let _place = places.acquire_owned().await;
                if let Some(answer) = serve(request, &options).await {
                    // The sensor is gone: so are we, in a moment.
                    let _ = answers.send(answer).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    };
    tracker.close();
    let _ = tokio::time::timeout(options.shutdown_limit, tracker.wait()).await;
    // What still runs is dropped without an answer, which the sensor takes as "not known".
    stop.cancel();
    tracker.wait().await;
    for task in [watch, polling].into_iter().flatten() {
        task.abort();
        let _ = task.await;
    }
    drop(answers);
    // A sensor that reads no more must not keep us.
    match tokio::time::timeout(options.shutdown_limit, writer).await {
        Ok(Ok(written)) => end.and(written),
        Ok(Err(error)) => end.and(Err(io::Error::other(error))),
        Err(_) => end,
    }
}

async fn follow(socket: String, answers: mpsc::Sender<FromCourier>) {
    let (news, mut read) = mpsc::channel::<DockerUpdate>(64);
    let watch = tokio::spawn(enricher::docker::watch(
        DockerOptions {
            socket: socket.into(),
            ..DockerOptions::default()
        },
        news,
    ));
    while let Some(update) = read.recv().await {
        if answers
            .send(FromCourier::Docker {
                update: Box::new(update),
            })
            .await
            .is_err()
        {
            break;
        }
    }
    watch.abort();
}

/// One request, one answer (none for `Shutdown`).
async fn serve(request: ToCourier, options: &CourierOptions) -> Option<FromCourier> {
    Some(match request {
        ToCourier::Deliver {
            queue_id,
            destination,
            message,
            repeat,
            edit,
        } => {
            let outcome = match options.destinations.get(&destination) {
                None => Outcome::Refused {
                    permanent: true,
                    channel: true,
                    why: format!(
                        "the courier has no channel {destination:?}; restart the daemon after a change of the configuration"
                    ),
                    retry_after_ms: None,
                },
                Some(channel) => {
                    let sending = match &edit {
                        Some(remote_id) => channel.edit(&message, remote_id),
                        None => channel.deliver(&message, repeat),
                    };
                    let delivery = std::panic::AssertUnwindSafe(sending).catch_unwind();
                    match tokio::time::timeout(options.delivery_limit, delivery).await {
                        Ok(Ok(outcome)) => outcome,
                        Ok(Err(_)) => Outcome::Unknown {
                            why: "the channel failed while it sent".into(),
                        },
                        Err(_) => Outcome::Unknown {
                            why: "no answer in time".into(),
                        },
                    }
                }
            };
            FromCourier::Delivered { queue_id, outcome }
        }
        ToCourier::Pause {
            container_id,
            handover,
        } => {
            let result = act(options, async |engine: Engine| {
                engine.pause(&container_id).await
            })
            .await;
            if let Err(failure) = &result {
                tracing::warn!(container = %container_id, ?handover, %failure, "Docker did not pause a container");
            }
            FromCourier::Paused {
                container_id,
                result,
            }
        }
        ToCourier::DisableRestart { container_id } => {
            let result = act(options, async |engine: Engine| {
                engine.disable_restart(&container_id).await
            })
            .await;
            FromCourier::RestartDisabled {
                container_id,
                result: result.map_err(|e| e.to_string()),
            }
        }
        ToCourier::Cut {
            container_id,
            exact_only,
            was,
        } => {
            let result = act(options, async |engine: Engine| {
                engine.cut(&container_id, exact_only, &was).await
            })
            .await;
            FromCourier::Cut {
                container_id,
                result: result.map_err(|e| e.to_string()),
            }
        }
        ToCourier::Stop { container_id } => {
            let result = act(options, async |engine: Engine| {
                engine.stop(&container_id).await
            })
            .await;
            FromCourier::Stopped {
                container_id,
                result: result.map_err(|e| e.to_string()),
            }
        }
        ToCourier::Release { quarantine } => {
            let report = act(options, async |engine: Engine| {
                Ok(engine.release(&quarantine).await)
            })
            .await;
            let report = report.unwrap_or_else(|failure| ReleaseReport {
                said: vec![failure.to_string()],
                complete: false,
                unanswered: matches!(failure, PauseFailure::TimedOut { .. }),
                gone: false,
                adrift: false,
            });
            FromCourier::Released {
                key: quarantine.key(),
                container_id: quarantine.container_id.clone(),
                report,
            }
        }
        ToCourier::Inspect { container_id } => {
            let result = act(options, async |engine: Engine| {
                engine.inspect(&container_id).await
            })
            .await;
            FromCourier::Inspected {
                container_id,
                result: result.map(Box::new).map_err(|e| e.to_string()),
            }
        }
        ToCourier::Describe { container_id } => {
            let inspect = act(options, async |engine: Engine| {
                engine.inspect_json(&container_id).await
            })
            .await;
            let log = act(options, async |engine: Engine| {
                engine.last_output(&container_id, wire::LOG_BYTES).await
            })
            .await;
            FromCourier::Described {
                container_id,
                inspect: inspect.map_err(|e| e.to_string()),
                log: log.map_err(|e| e.to_string()),
            }
        }
        ToCourier::Commit {
            container_id,
            repo,
            tag,
        } => {
            // It copies files: one call may take as long as a whole action.
            let whole = CourierOptions {
                docker_limit: options.action_limit,
                ..options.clone()
            };
            let result = act(&whole, async |engine: Engine| {
                engine.commit(&container_id, &repo, &tag).await
            })
            .await;
            FromCourier::Committed {
                container_id,
                result: result.map_err(|e| e.to_string()),
            }
        }
        ToCourier::TrustHook { change } => {
            let (mut result, posted) = tokio::join!(
                async {
                    if options.trust_hook.is_empty() {
                        return HookResult {
                            exit: None,
                            base_score: None,
                            why: options
                                .trust_webhook
                                .is_none()
                                .then(|| "no trust hook is configured".into()),
                        };
                    }
                    hook::run(&options.trust_hook, &change, options.hook_limit).await
                },
                post_trust(options.trust_webhook.as_ref(), &change),
            );
            if let Some(why) = posted {
                let both = result.why.take().into_iter().chain([why]);
                result.why = Some(both.collect::<Vec<_>>().join("; "));
            }
            FromCourier::TrustHooked {
                agent: change.agent.clone(),
                result,
            }
        }
        ToCourier::Handled { .. } | ToCourier::Shutdown => return None,
    })
}

/// Pauses before the second and the third attempt of a post.
const POST_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Posts a change of trust, three times at most; says why it did not arrive.
async fn post_trust(
    webhook: Option<&Webhook>,
    change: &crate::trust::TrustChange,
) -> Option<String> {
    let webhook = webhook?;
    let body = serde_json::to_vec(change).ok()?;
    let mut pauses = POST_PAUSES.iter();
    loop {
        let (why, again) = match webhook.post(body.clone(), None, false).await {
            Outcome::Accepted { .. } => return None,
            Outcome::Refused { permanent, why, .. } => (why, !permanent),
            // A receiver knows a change by its agent and time: twice is once.
            Outcome::Unknown { why } => (why, true),
        };
        match pauses.next().filter(|_| again) {
            Some(pause) => tokio::time::sleep(*pause).await,
            None => return Some(format!("webhook: {why}")),
        }
    }
}

/// One action with Docker within its limit, over a connection of its own: the engine may have been started anew since.
async fn act<T>(
    options: &CourierOptions,
    action: impl AsyncFnOnce(Engine) -> Result<T, PauseFailure>,
) -> Result<T, PauseFailure> {
    let engine = Engine::connect(&options.docker_socket, options.docker_limit)?;
    match tokio::time::timeout(options.action_limit, action(engine)).await {
        Ok(result) => result,
        Err(_) => Err(PauseFailure::TimedOut {
            what: "the whole action".into(),
        }),
    }
}
