//! What the command line does itself while no daemon runs: quarantines by hand, straight from the store and Docker.

use std::sync::Arc;
use std::time::Duration;

use actions::docker::Engine;
use actions::freeze::{self, handover};
use actions::quarantine::{Quarantine, Quarantines};
use anyhow::{Context, bail};
use enricher::Container;
use enricher::cgroup::Hierarchies;
use enricher::procfs::Procfs;
use serde_json::{Value, json};

use crate::config::Config;
use crate::daemon::ledger::StoreLedger;
use crate::times::now_ms;

const DOCKER_LIMIT: Duration = Duration::from_secs(20);

fn open(config: &Config, read_only: bool) -> anyhow::Result<(Quarantines, history::Store)> {
    crate::cli::history::not_while_starting(config)?;
    let dir = config.history_dir();
    let options = history::Options {
        read_only,
        ..history::Options::default()
    };
    let store = history::Store::open(&dir, options).with_context(|| {
        format!(
            "cannot open the store {}; quarantines are kept there",
            dir.display()
        )
    })?;
    let (quarantines, bad) = Quarantines::open(Arc::new(StoreLedger::new(store.clone())))?;
    for e in bad {
        eprintln!("syscall-monitor: {e}");
    }
    Ok((quarantines, store))
}

pub fn list(config: &Config) -> anyhow::Result<Value> {
    if !config.history_dir().exists() {
        return Ok(json!([]));
    }
    let (quarantines, store) = open(config, true)?;
    let list = quarantines
        .list()
        .map(serde_json::to_value)
        .collect::<Result<Vec<_>, _>>()?;
    drop(quarantines);
    store.close()?;
    Ok(Value::Array(list))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

pub fn apply(config: &Config, name: &str) -> anyhow::Result<Value> {
    need_root()?;
    // The store first: a container must not be frozen without a record of it.
    let (mut quarantines, store) = open(config, false)?;
    let runtime = runtime()?;
    let engine = Engine::connect(&config.docker.socket.display().to_string(), DOCKER_LIMIT)?;
    let seen = runtime.block_on(engine.inspect(name))?;
    if seen.init_pid == 0 {
        bail!(
            "container {} does not run (Docker says {}); there is nothing to freeze",
            seen.name,
            seen.status
        );
    }
    let proc = Procfs::new("/proc");
    let hierarchies = Hierarchies::from_mounts(&proc.own_mounts());
    let Ok(found) =
        enricher::runtime::read(&proc, &hierarchies, &seen.container_id, seen.init_pid, true)
    else {
        bail!(
            "the cgroup of container {} (pid {}) cannot be read; use `docker pause {}`",
            seen.name,
            seen.init_pid,
            seen.name
        );
    };
    let target = crate::daemon::pipeline::target_of(&found.runtime);
    let frozen = freeze::freeze(&target)?;
    let at = now_ms();
    let container = Container {
        name: Some(seen.name.clone()),
        ..Container::from_id(seen.container_id.clone())
    };
    let quarantine = Quarantine::by_hand(
        &container,
        "ordered by a person",
        target.clone(),
        Some(&frozen),
        at,
    );
    quarantines.begin(quarantine)?;
    let mut said = vec![format!(
        "{} is frozen ({} µs)",
        seen.name,
        frozen.took.as_micros()
    )];
    let held = handover::hold(&target, &frozen)?;
    let result = runtime.block_on(engine.pause(&seen.container_id));
    match (held, &result) {
        (Some(held), Ok(_)) => held.paused(),
        (Some(held), Err(_)) => {
            held.not_paused()?;
        }
        (None, _) => {}
    }
    let next = quarantines.on_paused(&seen.container_id, &result, now_ms())?;
    match &result {
        Ok(_) => said.push("Docker says paused".into()),
        Err(e) => said.push(format!(
            "Docker does not agree yet ({e}); the freeze holds all the same"
        )),
    }
    if next.is_some() {
        let disabled = runtime
            .block_on(engine.disable_restart(&seen.container_id))
            .map_err(|e| e.to_string());
        quarantines.on_restart_disabled(&seen.container_id, &disabled, now_ms())?;
    }
    said.push(format!(
        "release it with: syscall-monitor quarantine release {}",
        seen.name
    ));
    drop(quarantines);
    store.close()?;
    Ok(json!({"said": said}))
}

pub fn release(config: &Config, what: &str) -> anyhow::Result<Value> {
    need_root()?;
    let (mut quarantines, store) = open(config, false)?;
    let Some(q) = quarantines.find(what).cloned() else {
        bail!(
            "{}",
            actions::quarantine::QuarantineError::Unknown(what.to_owned())
        )
    };
    if !q.stands() {
        let at = crate::times::rfc3339(q.released_at.unwrap_or(0));
        return Ok(
            json!({"said": [format!("{} is not quarantined; it was released at {at}", q.name)], "complete": true}),
        );
    }
    let engine = Engine::connect(&config.docker.socket.display().to_string(), DOCKER_LIMIT)?;
    let mut report = runtime()?.block_on(engine.release(&q));
    if report.complete && !report.gone {
        match freeze::thaw(&q.target) {
            Ok(_) => {
                handover::resume_all(&q.target);
            }
            Err(e) if e.is_gone() => {}
            Err(e) => {
                report.complete = false;
                report.said.push(e.to_string());
            }
        }
    }
    quarantines.on_released(&q.key(), &report, now_ms())?;
    drop(quarantines);
    store.close()?;
    Ok(json!({"said": report.said, "complete": report.complete}))
}

fn need_root() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may do this; use sudo");
    }
    Ok(())
}
