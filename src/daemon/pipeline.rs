//! The way of the data inside the sensor: batches of records → events → activities → alerts.
//!
//! One task a stage, all on one thread ([`super::stages`]), bounded channels between them. A stage that is slower than the one before
//! makes that one wait, up to the reader, which holds what it can and then drops and counts: the kernel and its programs never wait for us.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use actions::freeze::FreezeTarget;
use actions::policy::{Policy, Situation};
use collector::assemble::{Assembled, Assembler, Limits};
use collector::live::Batch;
use collector::proc_events::ProcEvent;
use collector::{Event, EventId, RecordType};
use detector::alert::AlertContainer;
use detector::{Alert, Detected, Detector, Response};
use enricher::activity::Phase;
use enricher::docker::DockerUpdate;
use enricher::{Activity, Container, Enricher, Notice, Runtime};
use history::{Numbers, Store};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::chronicle;
use super::keeper;
use super::respond::hold::What;
use super::respond::{Case, Inbox};
use super::stages::Pace;
use super::state::{DockerState, Shared, lock, read, write};
use crate::config::Chosen;
use crate::entries;
use crate::times::now_ms;

/// What the assembler hands to the enricher, in the order in which it happened.
pub enum Item {
    Process(ProcEvent),
    Overrun,
    Event(Event),
    Amendment {
        id: EventId,
        kind: RecordType,
        body: Vec<u8>,
    },
}

/// What the enricher hands to the detector.
pub enum Step {
    Activity(Box<Activity>),
    Amendment {
        id: EventId,
        kind: RecordType,
        body: Vec<u8>,
    },
}

/// Stage one: records become events. Ends when the reader is gone and its last batch was taken.
pub async fn assemble(
    batches: mpsc::Receiver<Batch>,
    next: mpsc::Sender<Vec<Item>>,
    shared: Arc<Shared>,
    pace: Pace,
) {
    let mut assembler = Assembler::new(Limits::default());
    let mut ready = Vec::new();
    let mut batches = ReceiverStream::new(batches);
    // The timer closes events whose end never came, also on an idle host.
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let mut open = true;
    while open {
        let mut items = Vec::new();
        tokio::select! {
            batch = batches.next() => match batch {
                Some(batch) => read_batch(&batch, &mut assembler, &mut ready, &mut items, &shared),
                None => {
                    assembler.finish(&mut ready);
                    open = false;
                }
            },
            _ = ticks.tick() => assembler.tick(Instant::now(), &mut ready),
        }
        take(&mut ready, &mut items);
        *lock(&shared.assembled) = assembler.counters();
        if !items.is_empty() && next.send(items).await.is_err() {
            break;
        }
        pace.rest().await;
    }
}

fn read_batch(
    batch: &Batch,
    assembler: &mut Assembler,
    ready: &mut Vec<Assembled>,
    items: &mut Vec<Item>,
    shared: &Shared,
) {
    if batch.connector_overrun {
        items.push(Item::Overrun);
    }
    if batch.dropped_before > 0 || batch.audit_overrun {
        // Counted where they were dropped; their serial numbers are no second loss.
        assembler.forget_serial();
    }
    items.extend(batch.proc_events.iter().cloned().map(Item::Process));
    for (kind, payload) in batch.records() {
        match collector::parse_header(payload) {
            Some(h) => {
                assembler.push(
                    None,
                    kind,
                    h.millis,
                    h.serial,
                    h.body,
                    batch.received,
                    ready,
                );
            }
            None => {
                shared.counts.undecodable.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn take(ready: &mut Vec<Assembled>, items: &mut Vec<Item>) {
    items.extend(ready.drain(..).map(|assembled| match assembled {
        Assembled::Event(event) => Item::Event(event),
        Assembled::Amendment { id, kind, body } => Item::Amendment { id, kind, body },
    }));
}

/// What the enricher's stage tells others.
pub struct Tell {
    pub keeper: Sender<keeper::Inbox>,
    pub responder: Sender<Inbox>,
    pub store: Store,
    pub judge: mpsc::UnboundedSender<Command>,
}

/// Stage two: events become activities.
pub async fn enrich(
    mut enricher: Enricher,
    mut items: mpsc::Receiver<Vec<Item>>,
    mut docker: mpsc::Receiver<DockerUpdate>,
    next: mpsc::Sender<Vec<Step>>,
    shared: Arc<Shared>,
    tell: Tell,
    pace: Pace,
) {
    let mut publish = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            biased;
            Some(update) = docker.recv() => on_docker(&mut enricher, update, &shared, &tell),
            list = items.recv() => {
                let Some(list) = list else { break };
                let mut steps = Vec::with_capacity(list.len());
                for item in list {
                    match item {
                        Item::Process(event) => enricher.on_proc_event(&event),
                        Item::Overrun => enricher.on_connector_overrun(),
                        Item::Amendment { id, kind, body } => steps.push(Step::Amendment { id, kind, body }),
                        Item::Event(event) => {
                            pace.look();
                            let user = event.records().any(|r| r.kind.is_user());
                            let activity = enricher.enrich(event);
                            shared.counts.undecodable_fields.fetch_add(undecoded(&activity), Ordering::Relaxed);
                            // A container can send user records with any text: never trusted, only counted.
                            if user && activity.container.is_some() {
                                shared.counts.forged.fetch_add(1, Ordering::Relaxed);
                            } else {
                                steps.push(Step::Activity(Box::new(activity)));
                            }
                        }
                    }
                }
                on_notices(&mut enricher, &shared, &tell);
                shared.counts.events.fetch_add(steps.len() as u64, Ordering::Relaxed);
                if !steps.is_empty() && next.send(steps).await.is_err() {
                    break;
                }
                pace.rest().await;
            }
            _ = publish.tick() => *write(&shared.containers) = enricher.containers().cloned().collect(),
        }
    }
}

/// Records whose meaning could not be read; they are kept as they came.
fn undecoded(activity: &Activity) -> u64 {
    let (mut paths, mut refused) = (activity.paths.len(), 0);
    for record in activity.event.records() {
        refused += u64::from(match record.kind {
            RecordType::SYSCALL | RecordType::URINGOP => activity.syscall.is_none(),
            RecordType::SOCKADDR => activity.socket.is_none(),
            RecordType::PATH => match paths.checked_sub(1) {
                Some(left) => {
                    paths = left;
                    false
                }
                None => true,
            },
            _ => false,
        });
    }
    refused
}

fn on_docker(enricher: &mut Enricher, update: DockerUpdate, shared: &Shared, tell: &Tell) {
    match update {
        DockerUpdate::Connected { version, .. } => {
            *lock(&shared.docker) = DockerState {
                connected: true,
                version: Some(version),
                why: None,
            };
            shared.clear_reason("docker");
        }
        DockerUpdate::Disconnected { why } => {
            shared.reason("docker", format!("Docker does not answer ({why}); events are attributed all the same, names are filled in when it is back"));
            *lock(&shared.docker) = DockerState {
                connected: false,
                version: None,
                why: Some(why),
            };
        }
        DockerUpdate::Container(container) => {
            // Events that were stored before the name was known find it here.
            if let Ok(body) = serde_json::to_vec(&container)
                && let Err(e) = tell
                    .store
                    .area("containers")
                    .put_later(container.id.as_bytes(), &body)
            {
                tracing::warn!(
                    "cannot keep the name of container {}: {e}",
                    container.display_name()
                );
            }
            let id = container.id.clone();
            enricher.update_container(container);
            // With the profile that the enricher gave it.
            if let Some(named) = enricher.container(&id).filter(|c| c.name.is_some()) {
                let _ = tell
                    .judge
                    .send(Command::Named(Box::new(named.as_ref().clone())));
            }
        }
        DockerUpdate::Unpaused { id } => {
            let _ = tell.responder.send(Inbox::Disturbed {
                id,
                what: What::Unpaused,
            });
        }
        DockerUpdate::Stopped { id } | DockerUpdate::Removed { id } => {
            enricher.container_stopped(&id)
        }
    }
    on_notices(enricher, shared, tell);
    *write(&shared.containers) = enricher.containers().cloned().collect();
}

fn on_notices(enricher: &mut Enricher, shared: &Shared, tell: &Tell) {
    for notice in enricher.drain_notices() {
        match notice {
            Notice::ContainerSeen { id, runtime } | Notice::ContainerChanged { id, runtime } => {
                write(&shared.runtimes).insert(id, runtime.clone());
                let _ = tell.keeper.send(keeper::Inbox::Seen {
                    runtime: Box::new(runtime),
                });
            }
            Notice::ContainerGone { id } => {
                write(&shared.runtimes).remove(&id);
                let _ = tell.keeper.send(keeper::Inbox::Gone { id: id.clone() });
                let _ = tell.responder.send(Inbox::Gone { id });
            }
        }
    }
}

/// What else the detector's stage is told.
pub enum Command {
    /// A person released this container: the next match is a new alert.
    Forget(String),
    /// The engine told what a container is.
    Named(Box<Container>),
}

/// Alerts that wait for a name, at most.
const MAX_NAMELESS: usize = 64;

/// Is only the id of its container known?
fn is_nameless(alert: &Alert) -> bool {
    alert
        .container
        .as_ref()
        .is_some_and(|c| c.image.is_none() && c.id.starts_with(&c.name))
}

/// The clock of an event is a tick behind at most; what a container did so long after it was frozen, it did not do frozen.
const SETTLED_MS: u64 = 20;

/// So long after an alert its process's children can be part of the same deed, milliseconds.
const SAME_DEED_MS: u64 = 10_000;

/// A new alert of the last seconds.
pub struct Recent {
    time_ms: u64,
    container: Option<String>,
    pid: u32,
    rule: String,
    alert: u64,
}

/// What the detector's stage works with.
pub struct Judge {
    pub detector: Detector,
    pub policy: Policy,
    pub chosen: Chosen,
    /// Numbers of alerts, leased ahead: a verdict does not wait for a flush.
    pub numbers: Numbers,
    pub store: Store,
    pub responder: Sender<Inbox>,
    pub shared: Arc<Shared>,
    /// Alerts that matched again in this turn, and how often they did in all.
    pub repeats: BTreeMap<u64, u64>,
    /// Containers that were told to run although they are quarantined, and when.
    pub disturbed: HashMap<String, Instant>,
    /// New alerts of the last seconds, bounded.
    pub recent: VecDeque<Recent>,
    /// Matches in containers of which only the id is known yet: whether it is an agent is decided when the engine answers.
    pub nameless: VecDeque<Alert>,
    /// Secrets in arguments are taken out of what is stored.
    pub redact: bool,
}

impl Judge {
    /// Stage three: activities become alerts; a container that must be frozen is frozen here, before anything else.
    pub async fn run(
        mut self,
        mut steps: mpsc::Receiver<Vec<Step>>,
        mut commands: mpsc::UnboundedReceiver<Command>,
        pace: Pace,
    ) {
        let mut found = Vec::new();
        loop {
            let list = tokio::select! {
                biased;
                Some(command) = commands.recv() => {
                    match command {
                        Command::Forget(id) => self.detector.forget(&id),
                        Command::Named(container) => self.on_named(&container),
                    }
                    continue;
                }
                list = steps.recv() => match list {
                    Some(list) => list,
                    None => break,
                },
            };
            let mut rows = Vec::with_capacity(list.len());
            let mut late = Vec::new();
            for step in list {
                match step {
                    Step::Amendment { id, kind, body } => late.push((id, kind, body)),
                    Step::Activity(mut activity) => {
                        pace.look();
                        self.look_for_escape(&activity);
                        found.clear();
                        if self.watched(&activity) {
                            self.detector.evaluate(&activity, &mut found);
                        }
                        let alerts: Vec<Alert> = found
                            .drain(..)
                            .filter_map(|d| self.on_detected(d))
                            .collect();
                        activity.alerts = alerts
                            .iter()
                            .filter(|a| a.id > 0)
                            .map(|a| a.short_id().into())
                            .collect();
                        // The detector saw them; what is kept need not have them.
                        if self.redact
                            && let Some(clean) = chronicle::without_secrets(&activity)
                        {
                            *activity = clean;
                        }
                        rows.push(entries::activity(&activity, &alerts));
                    }
                }
            }
            // A flood of repeats is one message a turn.
            if !self.repeats.is_empty() {
                let _ = self
                    .responder
                    .send(Inbox::Repeats(std::mem::take(&mut self.repeats)));
            }
            // The queue to the writer is bounded and never waited for: what does not fit is counted.
            if let Err(dropped) = self.store.append_all(rows) {
                self.shared
                    .counts
                    .history_dropped
                    .fetch_add(dropped.count as u64, Ordering::Relaxed);
            }
            // Behind the rows: the event may be one of them.
            if !late.is_empty() {
                let _ = self.responder.send(Inbox::Late(late));
            }
            pace.rest().await;
        }
    }

    /// Agents of the chosen profiles; every other container and the host under `full` only.
    fn watched(&self, activity: &Activity) -> bool {
        self.chosen.full
            || activity.container.as_ref().is_some_and(|c| {
                c.name.is_none() || c.profile.is_some_and(|p| self.chosen.profiles.contains(&p))
            })
    }

    /// Freezes first, then numbers and hands on. Returns the match for the event that it belongs to.
    fn on_detected(&mut self, detected: Detected) -> Option<Alert> {
        let (mut alert, repeats) = match detected {
            Detected::New(alert) => (alert, None),
            Detected::Repeat { alert, of, .. } => (alert, Some(of).filter(|of| *of > 0)),
        };
        if is_nameless(&alert) && repeats.is_none() {
            self.wait_for_name(&alert);
            if !self.chosen.full {
                return None;
            }
        }
        if alert.response == Response::Log {
            // History only: the event carries the rule and its severity, and nobody is told.
            alert.id = 0;
            return Some(alert);
        }
        let mut decision = self
            .policy
            .decide_in(&alert, now_ms(), &self.situation(&alert));
        let mut frozen = None;
        let target = alert.container.as_ref().map(|c| self.target(&c.id));
        if decision.freezes()
            && let Some(target) = &target
        {
            let result = actions::freeze::freeze(target);
            if let Err(e) = &result {
                tracing::error!("{e}");
            }
            let at = now_ms();
            write(&self.shared.quarantined).insert(target.container_id.clone(), at);
            frozen = Some((result.map_err(|e| e.to_string()), at));
        }
        // A freeze that cannot be had is one alert, not one for every event.
        if !matches!(frozen, Some((Ok(_), _))) {
            if repeats.is_some() {
                // It belongs to an alert that people know.
                self.repeats.insert(alert.id, alert.count);
                return Some(alert);
            }
            if let Some(told) = self.told_already(&alert) {
                alert.id = told;
                self.detector.confirm(&alert);
                return Some(alert);
            }
        }
        match self.numbers.next() {
            Ok(number) => alert.id = number,
            Err(e) => tracing::error!("cannot number an alert: {e}"),
        }
        self.detector.confirm(&alert);
        self.remember(&alert);
        decision.alert = alert.id;
        decision.id = format!("D-{}", alert.id);
        self.shared.counts.alerts.fetch_add(1, Ordering::Relaxed);
        let case = Case {
            alert: alert.clone(),
            decision,
            frozen,
            target,
        };
        let _ = self.responder.send(Inbox::Case(Box::new(case)));
        Some(alert)
    }

    fn wait_for_name(&mut self, alert: &Alert) {
        if self.nameless.len() >= MAX_NAMELESS {
            self.nameless.pop_front();
            tracing::warn!(
                "too many alerts wait for the names of their containers; the oldest is not decided again"
            );
        }
        self.nameless.push_back(alert.clone());
    }

    /// A quarantined container acts, or its agent acts in another one: it was unpaused, started or created anew.
    fn look_for_escape(&mut self, activity: &Activity) {
        let Some(container) = &activity.container else {
            return;
        };
        if !matches!(activity.phase, Phase::Running | Phase::Exec) {
            return;
        }
        let marked = read(&self.shared.quarantined).get(&container.id).copied();
        let escaped = match marked {
            // What it did before it was frozen may come later.
            Some(at) => activity.event.id.millis > at + SETTLED_MS,
            None => self.is_claimed(container),
        };
        if escaped {
            self.tell_disturbed(&container.id, What::Runs);
        }
    }

    /// Does an agent that is quarantined come back in this container?
    fn is_claimed(&self, container: &Container) -> bool {
        read(&self.shared.standing)
            .iter()
            .any(|q| q.on(container).is_some())
    }

    /// The responder looks whether it is so; it is told of a busy container five times a second.
    fn tell_disturbed(&mut self, id: &str, what: What) {
        let now = Instant::now();
        self.disturbed
            .retain(|_, since| now.duration_since(*since) < Duration::from_millis(200));
        if self.disturbed.contains_key(id) {
            return;
        }
        self.disturbed.insert(id.to_owned(), now);
        let _ = self.responder.send(Inbox::Disturbed {
            id: id.to_owned(),
            what,
        });
    }

    /// The engine answered: what waited for the name of this container is decided now, with all that is known.
    fn on_named(&mut self, container: &Container) {
        if read(&self.shared.runtimes).contains_key(&container.id) && self.is_claimed(container) {
            self.tell_disturbed(&container.id, What::Runs);
        }
        let (mine, others) = std::mem::take(&mut self.nameless)
            .into_iter()
            .partition::<VecDeque<_>, _>(|a| {
                a.container.as_ref().is_some_and(|c| c.id == container.id)
            });
        self.nameless = others;
        for mut alert in mine {
            alert.container = Some(AlertContainer {
                id: container.id.clone(),
                name: container.display_name().to_owned(),
                image: container.image.clone(),
                profile: container.profile,
                agent: container.agent.clone(),
            });
            alert.id = 0;
            let chosen = container
                .profile
                .is_some_and(|p| self.chosen.profiles.contains(&p));
            let situation = self.situation(&alert);
            // Under `full` it was told when it happened; only a freeze or a cut is news.
            let news = self.policy.decide_in(&alert, now_ms(), &situation).acts();
            if if self.chosen.full { news } else { chosen } {
                self.on_detected(Detected::New(alert));
            }
        }
    }

    /// The alert that told of the same deed already: of an ancestor of this process or of itself, a moment ago, by a rule
    /// that says more than this one (`supersedes` in the rule).
    fn told_already(&mut self, alert: &Alert) -> Option<u64> {
        while self
            .recent
            .front()
            .is_some_and(|r| r.time_ms + SAME_DEED_MS < alert.time_ms)
        {
            self.recent.pop_front();
        }
        let container = alert.container.as_ref().map(|c| c.id.as_str());
        let hit = self.recent.iter().rev().find(|r| {
            r.container.as_deref() == container
                && (r.pid == alert.pid || alert.ancestors.iter().any(|a| a.pid == r.pid))
                && self
                    .detector
                    .rule(&r.rule)
                    .is_some_and(|rule| rule.supersedes.contains(&alert.rule))
        })?;
        Some(hit.alert)
    }

    fn remember(&mut self, alert: &Alert) {
        if self.recent.len() >= 256 {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            time_ms: alert.time_ms,
            container: alert.container.as_ref().map(|c| c.id.clone()),
            pid: alert.pid,
            rule: alert.rule.clone(),
            alert: alert.id,
        });
    }

    fn situation(&self, alert: &Alert) -> Situation {
        let Some(c) = &alert.container else {
            return Situation::default();
        };
        Situation {
            quarantined_at_ms: read(&self.shared.quarantined).get(&c.id).copied(),
            image_id: read(&self.shared.containers)
                .iter()
                .find(|k| k.id == c.id)
                .and_then(|k| k.image_id.clone()),
            released: read(&self.shared.released).get(&c.name).cloned(),
        }
    }

    fn target(&self, id: &str) -> FreezeTarget {
        read(&self.shared.runtimes).get(id).map_or_else(
            || FreezeTarget {
                container_id: id.to_owned(),
                ..FreezeTarget::default()
            },
            target_of,
        )
    }
}

/// What `freeze` needs of what the enricher knows.
pub fn target_of(r: &Runtime) -> FreezeTarget {
    FreezeTarget {
        container_id: r.id.clone(),
        cgroup_v2: r.cgroup_v2.clone(),
        cgroup_freezer: r.cgroup_freezer.clone(),
        init_pid: r.init_pid,
        init_start_ticks: r.init_start_ticks,
        cgroup_inode: r.cgroup_inode,
    }
}
