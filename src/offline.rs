//! What the command line does itself while no daemon runs: quarantines by hand, straight from the store and Docker.

use std::sync::Arc;
use std::time::Duration;

use actions::Level;
use actions::courier::wire::ToCourier;
use actions::docker::{Engine, PauseFailure};
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

pub fn apply(config: &Config, name: &str, level: Level) -> anyhow::Result<Value> {
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
    let frozen = if level.freezes() {
        Some(freeze::freeze(&target)?)
    } else {
        None
    };
    let container = Container {
        name: Some(seen.name.clone()),
        ..Container::from_id(seen.container_id.clone())
    };
    let quarantine = Quarantine {
        level,
        ..Quarantine::by_hand(
            &container,
            "ordered by a person",
            target.clone(),
            frozen.as_ref(),
            now_ms(),
        )
    };
    let mut next = Some(quarantines.begin(quarantine)?);
    let mut said = Vec::new();
    let mut held = None;
    if let Some(frozen) = &frozen {
        said.push(format!(
            "{} is frozen ({} µs)",
            seen.name,
            frozen.took.as_micros()
        ));
        held = handover::hold(&target, frozen)?;
    }
    let id = seen.container_id.as_str();
    while let Some(request) = next {
        next = match request {
            ToCourier::Pause { .. } => {
                let result = runtime.block_on(engine.pause(id));
                match (held.take(), &result) {
                    (Some(held), Ok(_)) => held.paused(),
                    (Some(held), Err(_)) => {
                        held.not_paused()?;
                    }
                    (None, _) => {}
                }
                said.push(match &result {
                    Ok(_) => "Docker says paused".into(),
                    Err(e) => {
                        format!("Docker does not agree yet ({e}); the freeze holds all the same")
                    }
                });
                quarantines.on_paused(id, &result, now_ms())?
            }
            ToCourier::DisableRestart { .. } => {
                let result = runtime.block_on(engine.disable_restart(id));
                quarantines.on_restart_disabled(id, &words(result), now_ms())?
            }
            ToCourier::Inspect { .. } => {
                let result = runtime.block_on(engine.inspect(id)).map(Box::new);
                quarantines.on_inspected(id, &words(result), now_ms())?
            }
            ToCourier::Cut {
                exact_only, was, ..
            } => {
                let result = words(runtime.block_on(engine.cut(id, exact_only, &was)));
                said.push(match &result {
                    Ok(cut) => format!("networks: {}", cut.words()),
                    Err(e) => format!("it was not taken off its networks: {e}"),
                });
                quarantines.on_cut(id, &result, now_ms())?
            }
            ToCourier::Stop { .. } => {
                let result = words(runtime.block_on(engine.stop(id)));
                said.push(match &result {
                    Ok(()) => "it is stopped".into(),
                    Err(e) => format!("it was not stopped: {e}"),
                });
                quarantines.on_stopped(id, &result, now_ms())?;
                None
            }
            _ => None,
        };
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
    let runtime = runtime()?;
    let mut report = runtime.block_on(engine.release(&q));
    if report.adrift {
        freeze::freeze_as_docker(&q.target)?;
        report = runtime.block_on(engine.release(&q));
    }
    if report.complete && !report.gone && q.level.freezes() {
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

fn words<T>(result: Result<T, PauseFailure>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

fn need_root() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may do this; use sudo");
    }
    Ok(())
}
