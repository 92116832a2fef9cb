//! Where answers come from: the daemon, or the store itself while no daemon runs.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::progress::Bar;
use crate::cli::args::StoreArgs;
use crate::client::{Client, Line};
use crate::config::Config;
use crate::query::{Answer, Spec, Watch};
use crate::views::{self, Ask};

/// Answers questions.
pub enum Reader {
    Daemon(Client),
    Store(history::Store),
}

impl Reader {
    /// For reading: a store that no daemon holds is opened for reading only.
    pub fn open(config: &Config, store: &StoreArgs) -> anyhow::Result<Self> {
        Self::open_as(config, store, true)
    }

    /// For changing something.
    pub fn open_to_change(config: &Config, store: &StoreArgs) -> anyhow::Result<Self> {
        Self::open_as(config, store, false)
    }

    fn open_as(config: &Config, store: &StoreArgs, read_only: bool) -> anyhow::Result<Self> {
        if let Some(dir) = &store.store {
            return Ok(Self::Store(open_store(dir, read_only)?));
        }
        match Client::connect(&config.socket())? {
            Some(client) => Ok(Self::Daemon(client)),
            None => {
                not_while_starting(config)?;
                let opened = open_store(&config.history_dir(), read_only);
                Ok(Self::Store(opened.map_err(|e| unanswered(e, config))?))
            }
        }
    }

    /// Every row that fits; `each` returns false to stop. `watch` is told how far it is.
    pub fn query(
        &self,
        spec: &Spec,
        raw: bool,
        watch: &Watch,
        each: &mut dyn FnMut(Answer) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Daemon(client) => {
                let body = json!({"spec": spec, "raw": raw, "progress": true});
                client.lines("/v1/query", &body, &mut |line| match line {
                    Line::Row(answer) => each(answer),
                    Line::Progress(done, total) => Ok(tell(watch, done, total)),
                    Line::Result(_) | Line::Lost(_) => Ok(true),
                })
            }
            Self::Store(store) => {
                let mut done = Ok(());
                crate::query::run(store, spec, raw, watch, &mut |answer| match each(answer) {
                    Ok(true) => ControlFlow::Continue(()),
                    Ok(false) => ControlFlow::Break(()),
                    Err(e) => {
                        done = Err(e);
                        ControlFlow::Break(())
                    }
                })?;
                done
            }
        }
    }

    /// A summary or an order, with a progress bar on the terminal while it takes long.
    pub fn ask<T: DeserializeOwned>(&self, ask: &Ask, doing: &'static str) -> anyhow::Result<T> {
        let watch = Watch::default();
        let _bar = Bar::start(&watch, doing);
        let answer = match self {
            Self::Daemon(client) => {
                let mut answer = None;
                let body = serde_json::to_value(ask)?;
                client.lines("/v1/history", &body, &mut |line: Line<Value>| {
                    match line {
                        Line::Progress(done, total) => drop(tell(&watch, done, total)),
                        Line::Result(value) => answer = Some(value),
                        Line::Row(_) | Line::Lost(_) => {}
                    }
                    Ok(true)
                })?;
                answer.context("the daemon's answer broke off; its log may say why")?
            }
            Self::Store(store) => views::answer(store, ask, &watch)?,
        };
        serde_json::from_value(answer).context(
            "the daemon's answer is not what this version expects; is the daemon older than the program?",
        )
    }

    /// Ends a store that was opened for changing in order.
    pub fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Daemon(_) => Ok(()),
            Self::Store(store) => Ok(store.close()?),
        }
    }
}

fn tell(watch: &Watch, done: u64, total: u64) -> bool {
    watch.done.store(done, Ordering::Relaxed);
    watch.total.store(total, Ordering::Relaxed);
    true
}

/// A daemon that starts or stops needs the store for itself.
pub fn not_while_starting(config: &Config) -> anyhow::Result<()> {
    if let Some(pid) = crate::daemon::pidfile::holder(&config.pid_file())? {
        bail!("the monitor (pid {pid}) is starting or stopping; try again in a moment");
    }
    Ok(())
}

/// Somebody holds the lock, and nobody answers on the socket.
fn unanswered(error: anyhow::Error, config: &Config) -> anyhow::Error {
    let locked = error.chain().find_map(|e| match e.downcast_ref() {
        Some(history::StoreError::Locked { pid, .. }) => Some(*pid),
        _ => None,
    });
    let Some(pid) = locked else { return error };
    let dir = config.history_dir();
    let who = pid.map_or_else(
        || "another process".to_owned(),
        |pid| match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(comm) => format!("process {pid} ({})", comm.trim()),
            Err(_) => format!("process {pid}"),
        },
    );
    anyhow::anyhow!(
        "the history in {} is held by {who}, and nobody answers on {}; if that is the monitor, wait until it answers or end it with `kill {}`",
        dir.display(),
        config.socket().display(),
        pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string())
    )
}

pub fn open_store(dir: &Path, read_only: bool) -> anyhow::Result<history::Store> {
    if !dir.exists() {
        bail!(
            "there is no history in {}; start the monitor, or name another store with --store DIR",
            dir.display()
        );
    }
    let options = history::Options {
        read_only,
        ..history::Options::default()
    };
    history::Store::open_existing(dir, options)
        .with_context(|| format!("cannot open the history {}", dir.display()))
}
