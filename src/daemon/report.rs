//! What `status` shows, put together from what the sensor's tasks share.

use std::sync::atomic::Ordering;

use super::state::{ChannelState, ContainerState, HistoryState, Report, Shared, lock, read};
use super::{Options, kernel};
use crate::times::rfc3339;
use actions::quarantine::Claim;
use enricher::blind::{self, Watch};
use history::Store;

/// What `status` shows.
pub fn report(options: &Options, shared: &Shared, store: &Store) -> Report {
    let first_enabled = kernel::first_enabled_ms(&options.config);
    let standing = read(&shared.standing).clone();
    let containers = containers(options, shared, first_enabled, &standing);
    let mut reasons: Vec<String> = lock(&shared.reasons).values().cloned().collect();
    for c in containers
        .iter()
        .filter(|c| c.older_than_audit && c.agent.is_some() && c.profile.is_some())
    {
        reasons.push(format!("{} is older than audit on this host: its own calls are invisible until `docker restart {}`", c.name, crate::show::quote(&c.name)));
    }
    let losses = shared.losses();
    if losses.any() {
        reasons.push("records were lost; see below".into());
    }
    let bytes = lock(&shared.reader)
        .as_ref()
        .map_or(0, |r| r.bytes.load(Ordering::Relaxed));
    let uptime = shared.started.elapsed();
    let stats = store.stats();
    let mut channels: Vec<_> = lock(&shared.channels).values().cloned().collect();
    for name in ["discord", "telegram"] {
        if !channels.iter().any(|c| c.name == name) {
            channels.push(ChannelState {
                name: name.into(),
                configured: false,
                state: "not configured".into(),
                waiting: 0,
            });
        }
    }
    Report {
        schema: "syscall-monitor/status/1".into(),
        state: if reasons.is_empty() {
            "healthy"
        } else {
            "partial"
        }
        .into(),
        reasons,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: Some(std::os::unix::process::parent_id()),
        mode: lock(&shared.mode).clone(),
        dry_run: options.dry_run,
        profiles: options
            .chosen
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        uptime_s: uptime.as_secs(),
        kernel: Some(lock(&shared.kernel).clone()),
        docker: lock(&shared.docker).clone(),
        containers,
        channels,
        losses,
        others: lock(&shared.others).clone(),
        mb_per_day: (uptime.as_secs() >= 20)
            .then(|| bytes as f64 / uptime.as_secs_f64() * 86_400.0 / 1e6),
        events: shared.counts.events.load(Ordering::Relaxed),
        alerts: shared.counts.alerts.load(Ordering::Relaxed),
        quarantined: standing.into_iter().map(|q| q.name).collect(),
        history: Some(HistoryState {
            dir: options.config.history_dir().display().to_string(),
            entries: stats.entries.iter().sum(),
            bytes: stats.bytes_on_disk,
            oldest: stats.oldest_ms.map(rfc3339),
        }),
        rules: lock(&shared.rules).clone(),
        realtime: shared.realtime(options.config.collector.realtime),
    }
}

fn containers(
    options: &Options,
    shared: &Shared,
    first_enabled: Option<u64>,
    standing: &[Claim],
) -> Vec<ContainerState> {
    let shared_mode = lock(&shared.mode).as_deref() == Some("shared");
    let io_uring = lock(&shared.rules).io_uring;
    let known = read(&shared.containers).clone();
    let mut list: Vec<_> = known
        .iter()
        .filter(|c| read(&shared.runtimes).contains_key(&c.id))
        .map(|c| {
            let older = first_enabled.is_some_and(|at| c.started_ms != 0 && c.started_ms < at);
            let watch = Watch {
                older_than_audit: older,
                io_uring,
                shared: shared_mode,
            };
            ContainerState {
                id: c.id.clone(),
                name: c.display_name().to_owned(),
                image: c.image.clone(),
                profile: c
                    .profile
                    .filter(|p| options.chosen.profiles.contains(p))
                    .map(|p| p.name().to_owned()),
                agent: c.agent.clone().filter(|_| c.profile.is_some()),
                quarantined: standing.iter().any(|q| q.container_id == c.id),
                older_than_audit: older,
                blind: blind::spots(c, watch),
            }
        })
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}
