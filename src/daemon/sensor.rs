//! The sensor process: puts the rooms together and runs them until it is told to stop.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actions::Ledger;
use actions::outbox::{Destination, Outbox};
use actions::policy::Policy;
use actions::quarantine::Quarantines;
use actions::seclog::SecurityLog;
use actions::trust::{Trust, TrustOptions};
use anyhow::Context;
use collector::control::Control;
use collector::live::{ActiveMode, Reader, ReaderOptions};
use collector::rules::dynamic;
use collector::settings::Wanted;
use enricher::container::Profile;
use enricher::{Enricher, ProfileTable};
use history::Store;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::chronicle;
use super::keeper::{self, Keeper, PerContainer};
use super::ledger::StoreLedger;
use super::pipeline::{self, Judge, Tell};
use super::respond::evidence::Settings;
use super::respond::{Inbox, Parts, Responder};
use super::state::{Shared, lock};
use super::{Options, alert_rules, api, kernel, link, privileges, stages};
use crate::channels::Channels;
use crate::config::{Config, Mode, ProfileName, Scope};
use crate::times::{now_ms, rfc3339};

/// Numbers of alerts that are leased at a time.
const ALERT_NUMBERS: u64 = 64;

/// How long the stages may take, at the end, for what was read.
const STAGES_END: Duration = Duration::from_secs(9);

/// Exit status of a sensor that wants to be started anew (`EX_TEMPFAIL` of sysexits.h).
pub const START_ANEW: u8 = 75;

/// Runs until SIGTERM, or until the responder asks for a new start; says which.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    privileges::sensor()?;
    let heartbeat = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("the sensor has no standard input; it is started by `run`")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(work(options, heartbeat))
}

async fn work(options: &Options, heartbeat: std::os::fd::OwnedFd) -> anyhow::Result<bool> {
    let config = &options.config;
    let shared = Arc::new(Shared::new());
    let detector = alert_rules::load_warm(options)?;
    lock(&shared.rules).alert = detector.rules().len();
    let opened = chronicle::open(config)?;
    let store = opened.store;
    report_gap(&store, &shared)?;

    // Kernel rules first: from here on the records of what we watch are made, and queue until the reader takes them.
    let control = Control::open().context("cannot open the audit socket")?;
    // Few places: the reader puts together what waits.
    let (batches, incoming) = mpsc::channel(4);
    let (keeper_inbox, keeper_messages) = std::sync::mpsc::channel();
    let (responder_inbox, responder_messages) = std::sync::mpsc::channel();

    let mut enricher = Enricher::new(enricher_options(options));
    let reader = Reader::start(reader_options(options, heartbeat), batches)?;
    // Whoever forks from now on is told by the connector; everybody else is in /proc.
    enricher.seed();
    remember_names(&store, &mut enricher)?;
    lock(&shared.reader).replace(reader.counters());
    let mut keeper = new_keeper(options, control, &reader, &shared, responder_inbox.clone())?;
    keeper.apply().context("cannot load the kernel rules")?;
    keeper::say_mode(&shared, reader.mode());
    if let Some(why) = reader.realtime_refused() {
        shared.reason("realtime", format!("the real-time priority was refused ({why}); freezing takes a little longer on a busy host"));
    }
    kernel::raise_priority(config, &shared);

    let (docker_news, docker_updates) = mpsc::channel(256);
    let link = link::start(options.clone(), responder_inbox.clone(), docker_news);
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (restart, mut restart_wanted) = watch::channel(None);
    let responder = new_responder(
        options,
        &store,
        &shared,
        &link,
        commands.clone(),
        restart,
        responder_inbox.clone(),
    )?;

    let tell = Tell {
        keeper: keeper_inbox.clone(),
        responder: responder_inbox.clone(),
        store: store.clone(),
        judge: commands,
    };
    let numbers = store
        .lease_numbers("alert", ALERT_NUMBERS)
        .context("cannot lease numbers for alerts")?;
    let judge = Judge {
        detector,
        numbers,
        policy: policy(options),
        chosen: options.chosen.clone(),
        store: store.clone(),
        responder: responder_inbox.clone(),
        shared: shared.clone(),
        repeats: BTreeMap::new(),
        disturbed: HashMap::new(),
        recent: VecDeque::new(),
        nameless: VecDeque::new(),
        redact: config.history.redact,
    };
    let (died, mut deaths) = mpsc::unbounded_channel();
    let keeper_died = Died(died.clone(), "keeper");
    let responder_died = Died(died, "responder");
    let keeper = std::thread::Builder::new()
        .name("keeper".into())
        .spawn(move || {
            let _died = keeper_died;
            keeper.run(&keeper_messages);
        })?;
    let responder = std::thread::Builder::new()
        .name("responder".into())
        .spawn(move || {
            let _died = responder_died;
            responder.run(&responder_messages);
        })?;
    let parts = stages::Parts {
        batches: incoming,
        enricher,
        docker: docker_updates,
        tell,
        judge,
        commands: command_queue,
        shared: shared.clone(),
    };
    let mut stages = stages::start(parts, stages::priority(config.collector.realtime))
        .context("cannot start the stages")?;
    let listener = api::listen(&config.socket(), config.api.group.as_deref())?;
    let api = api::Api {
        options: Arc::new(options.clone()),
        shared: shared.clone(),
        store: store.clone(),
        responder: responder_inbox.clone(),
        link,
    };
    let serving = tokio::spawn(api::serve(listener, api));
    let living = tokio::spawn(mark_alive(store.clone(), config.clone()));
    let anchoring = tokio::spawn(chronicle::anchor_every(
        store.clone(),
        config.clone(),
        options.dry_run,
    ));
    if let Some(aside) = &opened.aside {
        chronicle::report_aside(aside, &shared, &responder_inbox);
    }
    tracing::info!(
        "watching ({}), profiles {}",
        lock(&shared.mode).as_deref().unwrap_or_default(),
        options.chosen.names().join(" ")
    );

    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = restart_wanted.changed() => Some("anew"),
        part = deaths.recv() => part,
        _ = &mut stages => Some("thread of the stages"),
    };
    if let Some(part) = ended.filter(|p| *p != "anew") {
        // Without one of its parts it would look healthy and see nothing. The next sensor reports the gap.
        anyhow::bail!("the {part} of the sensor ended by itself");
    }

    // From the source to the end: what was read is handed on, judged and kept before the store is closed.
    living.abort();
    anchoring.abort();
    serving.abort();
    let _ = keeper_inbox.send(keeper::Inbox::Stop);
    tokio::task::spawn_blocking(move || keeper.join())
        .await
        .ok();
    let stopped = tokio::task::spawn_blocking(move || reader.stop()).await?;
    if let Err(e) = stopped {
        tracing::warn!("{e}");
    }
    if tokio::time::timeout(STAGES_END, stages).await.is_err() {
        tracing::warn!(
            "the stages did not end within {} s; what they still had is not kept",
            STAGES_END.as_secs()
        );
    }
    let _ = responder_inbox.send(Inbox::Stop);
    tokio::task::spawn_blocking(move || responder.join())
        .await
        .ok();
    store.area(ALIVE_AREA).put(
        b"alive",
        json!({"ms": now_ms(), "clean": ended.is_none()})
            .to_string()
            .as_bytes(),
    )?;
    let _ = std::fs::remove_file(config.socket());
    let (config, dry_run) = (config.clone(), options.dry_run);
    tokio::task::spawn_blocking(move || chronicle::close(store, &config, dry_run)).await??;
    Ok(ended.is_some())
}

/// What the engine said in an earlier run, for the containers that run now: an agent is an agent also before Docker answers.
fn remember_names(store: &Store, enricher: &mut Enricher) -> anyhow::Result<()> {
    let running: Vec<String> = enricher.containers().map(|c| c.id.clone()).collect();
    for id in running {
        if let Some(body) = store.area("containers").get(id.as_bytes())?
            && let Ok(known) = serde_json::from_slice::<enricher::Container>(&body)
        {
            // Its first process may be another one by now; what was found in /proc holds.
            enricher.update_container(enricher::Container {
                init_pid: 0,
                ..known
            });
        }
    }
    Ok(())
}

/// Tells when a thread ends, also by a panic.
struct Died(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Died {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

/// A folder with exactly that mode.
pub fn private_dir(dir: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", dir.display()))
}

const ALIVE_AREA: &str = "daemon";

/// Did somebody before us end without saying so? Then nobody watched from its last sign of life until now.
fn report_gap(store: &Store, shared: &Shared) -> anyhow::Result<()> {
    let Some(body) = store.area(ALIVE_AREA).get(b"alive")? else {
        return Ok(());
    };
    let last: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    if last["clean"].as_bool() == Some(true) {
        return Ok(());
    }
    let newest = store.stats().newest_ms.unwrap_or(0);
    let start = last["ms"].as_u64().unwrap_or(0).max(newest);
    let end = now_ms().max(start);
    shared.counts.gaps.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(
        "the monitor ended without a stop; nobody watched from {} to {}",
        rfc3339(start),
        rfc3339(end)
    );
    let details = json!({"start": rfc3339(start), "end": rfc3339(end), "start_ms": start, "end_ms": end, "why": "the monitor ended without a stop (killed, crashed, or the host went down)"});
    store.append_durable(crate::entries::notice(
        format!("N-gap-{end}"),
        "gap",
        details,
    ))?;
    Ok(())
}

/// A sign of life every second, so that the next start knows since when nobody watched; and what is too old goes.
async fn mark_alive(store: Store, config: Config) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut count = 0u64;
    loop {
        ticks.tick().await;
        count += 1;
        let (store, retain) = (
            store.clone(),
            count.is_multiple_of(300)
                && (config.history.max_age_days > 0 || config.history.max_bytes > 0),
        );
        let done = tokio::task::spawn_blocking(move || {
            // Durable with the writer's next commit, which is soon enough for a sign of life.
            let _ticket = store.area(ALIVE_AREA).put_later(
                b"alive",
                json!({"ms": now_ms(), "clean": false})
                    .to_string()
                    .as_bytes(),
            )?;
            if retain {
                store.enforce(now_ms())?;
                forget_names(&store)?;
            }
            Ok::<(), history::StoreError>(())
        });
        if let Ok(Err(e)) = done.await {
            tracing::error!("{e}");
        }
    }
}

/// Names of containers that are kept, at most; the oldest go.
const NAMES: usize = 20_000;

fn forget_names(store: &Store) -> Result<(), history::StoreError> {
    let area = store.area("containers");
    let mut known = area.scan(b"")?;
    if known.len() <= NAMES {
        return Ok(());
    }
    let started = |body: &[u8]| {
        serde_json::from_slice::<enricher::Container>(body).map_or(0, |c| c.started_ms)
    };
    known.sort_by_cached_key(|(_, body)| started(body));
    known.truncate(known.len() - NAMES);
    known
        .iter()
        .try_for_each(|(id, _)| area.delete(id).map(drop))
}

fn enricher_options(options: &Options) -> enricher::Options {
    let mut profiles = ProfileTable::builtin();
    let first = options
        .chosen
        .profiles
        .first()
        .copied()
        .unwrap_or(Profile::Openclaw);
    profiles = profiles.with_names(first, options.containers.iter().cloned());
    for (name, profile) in &options.config.containers.profiles {
        if let Some(profile) = Profile::ALL
            .into_iter()
            .find(|p| p.name() == profile.name())
        {
            profiles = profiles.with_names(profile, [name.clone()]);
        } else if *profile == ProfileName::Full {
            tracing::warn!(
                "containers.profiles: {name} has the profile full, which is no profile of a container; choose openclaw, clawbot or moltbot"
            );
        }
    }
    enricher::Options {
        profiles,
        expected_mounts: options.config.containers.expected_mounts.clone(),
        ..enricher::Options::default()
    }
}

fn reader_options(options: &Options, heartbeat: std::os::fd::OwnedFd) -> ReaderOptions {
    let mode = match options.mode {
        Mode::Auto => collector::live::Mode::Auto,
        Mode::Exclusive => collector::live::Mode::Exclusive,
        Mode::Shared => collector::live::Mode::Shared,
    };
    let realtime = Some(options.config.collector.realtime).filter(|p| *p > 0);
    ReaderOptions {
        mode,
        heartbeat: Some(heartbeat),
        realtime,
        ..ReaderOptions::default()
    }
}

fn new_keeper(
    options: &Options,
    mut control: Control,
    reader: &Reader,
    shared: &Arc<Shared>,
    responder: std::sync::mpsc::Sender<Inbox>,
) -> anyhow::Result<Keeper> {
    let parsed = kernel::static_rules(&options.config, &alert_rules::pack_names(options))?;
    let mut narrow = kernel::narrow(parsed.clone());
    // As a listener we are audited like everybody else.
    narrow.insert(0, dynamic::except_pid_from(std::process::id(), &narrow));
    let wait = Duration::from_millis(u64::from(options.config.collector.backlog_wait_ms));
    let wanted = Wanted::new(options.config.collector.backlog_limit, wait);
    if reader.mode() == ActiveMode::Exclusive {
        collector::settings::assert_settings(&mut control, &wanted)
            .context("cannot set the kernel's audit settings")?;
    }
    let supervisor = std::os::unix::process::parent_id();
    Ok(Keeper {
        control,
        shared: shared.clone(),
        responder,
        whole: parsed.into_iter().map(|p| p.rule).collect(),
        narrow,
        wanted,
        switch: reader.switch(),
        auto: options.mode == Mode::Auto,
        own_pids: vec![std::process::id(), supervisor],
        loaded: BTreeSet::new(),
        dynamic: PerContainer::default(),
    })
}

fn policy(options: &Options) -> Policy {
    let q = &options.config.quarantine;
    Policy {
        scope: match q.scope {
            Scope::Agents => actions::Scope::Agents,
            Scope::All => actions::Scope::All,
            Scope::None => actions::Scope::None,
        },
        dry_run: options.dry_run,
        protect: q.protect.clone(),
        cooldown: Duration::from_secs(q.cooldown),
        self_container: own_container(),
        ladder: actions::policy::Ladder {
            level: q.level,
            by_severity: q.levels.clone(),
            by_profile: q.profiles.clone(),
        },
    }
}

/// Id of the container that the monitor itself runs in.
fn own_container() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    enricher::cgroup::parse(&text).container.map(|c| c.id)
}

fn destinations(config: &Config) -> Vec<Destination> {
    let channels = Channels::resolve(config);
    let mut list = Vec::new();
    if channels.discord.is_some() {
        list.push(Destination {
            name: "discord".into(),
            min_severity: config.notify.discord.min_severity,
            pace_ms: 500,
        });
    }
    if channels.telegram.is_some() {
        list.push(Destination {
            name: "telegram".into(),
            min_severity: config.notify.telegram.min_severity,
            pace_ms: 1000,
        });
    }
    list.extend(channels.further.iter().map(|c| Destination {
        name: c.name.into(),
        min_severity: c.min_severity,
        pace_ms: c.pace_ms,
    }));
    list
}

fn new_responder(
    options: &Options,
    store: &Store,
    shared: &Arc<Shared>,
    link: &link::Link,
    commands: mpsc::UnboundedSender<pipeline::Command>,
    restart: watch::Sender<Option<String>>,
    inbox: std::sync::mpsc::Sender<Inbox>,
) -> anyhow::Result<Responder> {
    let config = options.config.clone();
    let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store.clone()));
    let (quarantines, bad) = Quarantines::open(ledger.clone())?;
    for e in bad {
        tracing::error!("{e}");
    }
    let budget =
        actions::policy::Budget::new(options.config.quarantine.budget, quarantines.spent());
    let outbox = Outbox::new(ledger.clone(), destinations(&config))?;
    let telegram = &config.notify.telegram;
    let settings = actions::phone::Settings {
        users: telegram.answer_from.clone(),
        chat: Channels::resolve(&config)
            .telegram
            .and_then(|(_, chat)| chat.parse().ok()),
        lifetime_ms: u64::from(telegram.answer_hours) * 3_600_000,
    };
    let phone = actions::phone::Phone::open(ledger.clone(), settings, now_ms())?;
    let (trust, problems) = Trust::open(TrustOptions {
        dir: config.trust_dir(),
        log: Some(config.trust.log.clone()),
        ..TrustOptions::default()
    })?;
    for e in problems {
        tracing::error!("{e}");
    }
    let config_trust = &options.config.trust;
    let log = match SecurityLog::open(PathBuf::from(&config.trust.log)) {
        Ok(log) => Some(log),
        Err(e) => {
            tracing::error!("{e}");
            shared.reason("log", format!("the security log cannot be written: {e}"));
            None
        }
    };
    Ok(Responder::new(Parts {
        store: store.clone(),
        ledger,
        shared: shared.clone(),
        link: link.clone(),
        commands,
        quarantines,
        outbox,
        phone,
        exceptions: options.config.exceptions_dir(),
        destinations: Box::new(move || destinations(&config)),
        trust,
        trust_hook: !config_trust.hook.is_empty() || config_trust.webhook_file.is_some(),
        trust_enforce: config_trust.enforce,
        policy: policy(options),
        log,
        dry_run: options.dry_run,
        hold: options.config.quarantine.hold,
        budget,
        release_after: match options.config.quarantine.release_after {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
        redact: options.config.history.redact,
        evidence: Settings::new(&options.config),
        inbox,
        host: host_name(),
        restart,
    }))
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
