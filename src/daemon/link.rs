//! The sensor's side of the conversation with the courier: it starts the courier, starts it again when it ends, and
//! carries messages both ways. Nobody waits here: a courier that hangs only lets its own queue grow, up to a limit.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use actions::courier::wire::{self, FromCourier, ToCourier};
use anyhow::Context;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{Notify, mpsc};

use super::Options;
use super::respond::Inbox;

/// Requests that wait for the courier. The outbox and the quarantines are durable and asked again, so a full queue loses nothing.
const WAITING: usize = 1024;
/// A courier that does not take a request for this long is stuck.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Handle for the sensor's other parts.
#[derive(Clone)]
pub struct Link {
    requests: mpsc::Sender<ToCourier>,
    restart: Arc<Notify>,
}

impl Link {
    /// Asks the courier; `false` when too much waits already.
    pub fn ask(&self, request: ToCourier) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Ends the courier and starts a new one, which reads the channels' secrets again.
    pub fn restart(&self) {
        self.restart.notify_one();
    }
}

/// Starts the courier's keeper. `docker` gets the engine's news, `inbox` everything else.
pub fn start(
    options: Options,
    inbox: Sender<Inbox>,
    docker: mpsc::Sender<enricher::docker::DockerUpdate>,
) -> Link {
    let (requests, mut waiting) = mpsc::channel::<ToCourier>(WAITING);
    let restart = Arc::new(Notify::new());
    let link = Link {
        requests,
        restart: restart.clone(),
    };
    tokio::spawn(async move {
        let mut pause = Duration::from_millis(100);
        loop {
            let began = std::time::Instant::now();
            match converse(&options, &inbox, &docker, &mut waiting, &restart).await {
                Ok(()) => {}
                Err(e) => tracing::error!("courier: {e:#}"),
            }
            if inbox.send(Inbox::CourierGone).is_err() {
                return;
            }
            if began.elapsed() > Duration::from_secs(30) {
                pause = Duration::from_millis(100);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    });
    link
}

async fn converse(
    options: &Options,
    inbox: &Sender<Inbox>,
    docker: &mpsc::Sender<enricher::docker::DockerUpdate>,
    waiting: &mut mpsc::Receiver<ToCourier>,
    restart: &Notify,
) -> anyhow::Result<()> {
    let (ours, theirs) =
        std::os::unix::net::UnixStream::pair().context("cannot make a socket pair")?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("syscall-monitor")
        .arg("courier")
        .env("SYSCALL_MONITOR_OPTIONS", serde_json::to_string(options)?)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the courier")?;
    let (mut from, mut to) = UnixStream::from_std(ours)?.into_split();
    inbox
        .send(Inbox::CourierStarted)
        .context("the responder ended")?;
    // Reading is a task of its own: a frame must not be dropped halfway.
    let (answers, mut arrived) = mpsc::channel::<FromCourier>(64);
    let reading = tokio::spawn(async move {
        while let Some(answer) = wire::read::<FromCourier>(&mut from).await? {
            if answers.send(answer).await.is_err() {
                break;
            }
        }
        Ok::<(), std::io::Error>(())
    });
    loop {
        tokio::select! {
            request = waiting.recv() => match request {
                Some(request) => tokio::time::timeout(WRITE_LIMIT, wire::write(&mut to, &request))
                    .await
                    .context("the courier does not read; ending it")?
                    .context("the courier does not listen")?,
                None => break,
            },
            answer = arrived.recv() => match answer {
                Some(FromCourier::Docker { update }) => {
                    if matches!(*update, enricher::docker::DockerUpdate::Connected { .. }) {
                        let _ = inbox.send(Inbox::EngineBack);
                    }
                    let _ = docker.send(*update).await;
                }
                Some(other) => { let _ = inbox.send(Inbox::Courier(Box::new(other))); }
                None => {
                    let status = child.wait().await?;
                    reading.await??;
                    anyhow::bail!("it ended ({status}); starting a new one");
                }
            },
            () = restart.notified() => {
                tracing::info!("starting a new courier, so that it reads the channels again");
                break;
            }
        }
    }
    child.kill().await.ok();
    Ok(())
}
