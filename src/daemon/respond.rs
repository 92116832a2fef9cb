//! The responder: a thread of its own that keeps alerts, decisions, quarantines, trust and the outbox.
//!
//! It waits for the store (every step is durable before the next one), never for Docker or a service: those are the courier's,
//! and their answers come in as messages. A container is frozen before the responder hears of it.

pub mod evidence;
pub mod hold;
mod ladder;
mod orders;
mod phone;
mod trust;
mod untold;
mod upkeep;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use actions::courier::wire::{FromCourier, ToCourier};
use actions::docker::PauseFailure;
use actions::freeze::{self, FreezeTarget, Frozen, How, handover};
use actions::notify::Outcome;
use actions::outbox::Outbox;
use actions::phone::Phone;
use actions::policy::{Budget, Decision, Level, Policy, Step};
use actions::quarantine::{Identity, Quarantine, Quarantines};
use actions::seclog::SecurityLog;
use actions::trust::Trust;
use actions::{Ledger, Message};
use collector::{EventId, RecordType};
use detector::{Alert, Response};
use history::Store;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::link::Link;
use super::pipeline::Command;
use super::state::{ChannelState, Losses, Shared, lock, read, write};
use crate::entries;
use crate::times::now_ms;

/// An answer of the courier that does not come counts as unknown after this.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);
/// Longest sleep: losses are looked at that often.
const LOOK: Duration = Duration::from_secs(1);

/// A new alert and what was done at once.
pub struct Case {
    pub alert: Alert,
    pub decision: Decision,
    /// How the freeze went, and when it had taken hold; `None` when nobody tried.
    pub frozen: Option<(Result<Frozen, String>, u64)>,
    pub target: Option<FreezeTarget>,
}

/// What a person asks for.
pub enum Order {
    List,
    Apply(String, Level),
    Release(String),
    ReloadChannels,
    /// A person sets the score of an agent.
    SetTrust(String, u8),
}

/// What an order is answered with.
pub type Reply = oneshot::Sender<Result<Value, String>>;

/// What the responder is told.
pub enum Inbox {
    Case(Box<Case>),
    /// Alerts that matched again, and how often they did in all.
    Repeats(BTreeMap<u64, u64>),
    /// Docker answers (again).
    EngineBack,
    Courier(Box<FromCourier>),
    CourierStarted,
    CourierGone,
    /// Records that came after their event was stored.
    Late(Vec<(EventId, RecordType, Vec<u8>)>),
    /// A container is gone.
    Gone {
        id: String,
    },
    /// A quarantined container, or one that its agent came back in, runs.
    Disturbed {
        id: String,
        what: hold::What,
    },
    /// The evidence of a quarantined container was taken.
    Evidence {
        id: String,
        summary: Box<actions::evidence::Summary>,
    },
    /// Somebody tampers with the sensor, or something was lost.
    Integrity {
        what: &'static str,
        details: Value,
        text: String,
    },
    /// Something about the monitor itself that people must know.
    Report {
        what: &'static str,
        details: Value,
        severity: detector::Severity,
        title: &'static str,
        text: String,
    },
    Order {
        order: Order,
        reply: Reply,
    },
    /// A release that somebody ordered by a button has ended.
    PressDone {
        alert: String,
        result: Result<Value, String>,
    },
    /// The sensor must start anew.
    Restart(String),
    /// Finish and end.
    Stop,
}

/// The responder.
pub struct Responder {
    parts: Parts,
    state: State,
}

#[derive(Default)]
struct State {
    courier: bool,
    on_their_way: HashMap<u64, Instant>,
    held: HashMap<String, handover::Held>,
    releasing: HashMap<String, Reply>,
    /// Releases for which the container was thawed before Docker answered.
    thawed_first: std::collections::HashSet<String>,
    /// Releases for which the container was frozen by Docker's own file again, so that Docker can unpause it.
    paused_anew: std::collections::HashSet<String>,
    losses: Losses,
    last_loss_message: Option<Instant>,
    last_trust_tick: Option<Instant>,
    last_anchor: Option<Instant>,
    told: HashMap<&'static str, Instant>,
    repeats: BTreeMap<u64, u64>,
    notices: u64,
    watch: hold::Watch,
    steps: ladder::Steps,
    evidence: evidence::Work,
    /// Number of the last alert whose messages are in the outbox, while the mark in the store is behind it.
    told_up_to: Option<u64>,
    /// Alerts that matched more often than was told, and how often.
    to_edit: BTreeMap<u64, u64>,
    /// Messages that were edited a short time ago.
    edited: HashMap<u64, Instant>,
    /// The trust hook runs.
    trust_asked: bool,
    /// Messages that the store refused; tried again.
    unqueued: Vec<Message>,
}

/// What the responder works with.
pub struct Parts {
    pub store: Store,
    pub ledger: Arc<dyn Ledger>,
    pub shared: Arc<Shared>,
    pub link: Link,
    pub commands: mpsc::UnboundedSender<Command>,
    pub quarantines: Quarantines,
    pub outbox: Outbox,
    pub phone: Phone,
    /// Where exceptions are written.
    pub exceptions: PathBuf,
    pub destinations: Box<dyn Fn() -> Vec<actions::outbox::Destination> + Send>,
    pub trust: Trust,
    /// Somebody wants to hear of changes of trust.
    pub trust_hook: bool,
    /// Arithmetic may freeze.
    pub trust_enforce: bool,
    /// The guards of an automatic freeze.
    pub policy: Policy,
    /// `None` when it cannot be opened; `status` says so.
    pub log: Option<SecurityLog>,
    pub dry_run: bool,
    /// Freeze again what is unpaused, started or created anew from outside.
    pub hold: bool,
    /// Cuts and stops that an hour may see.
    pub budget: Budget,
    /// A quarantine that an alert began ends by itself after this.
    pub release_after: Option<Duration>,
    /// Secrets in arguments are taken out of what is stored.
    pub redact: bool,
    pub evidence: evidence::Settings,
    /// For threads that answer.
    pub inbox: std::sync::mpsc::Sender<Inbox>,
    pub host: String,
    pub restart: tokio::sync::watch::Sender<Option<String>>,
}

impl Responder {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            state: State::default(),
        }
    }

    /// Runs until it is told to stop.
    pub fn run(mut self, inbox: &Receiver<Inbox>) {
        self.mark_quarantined();
        self.tell_untold();
        self.publish();
        let mut next_look = Instant::now() + LOOK;
        loop {
            let wait = self.wait(next_look);
            match inbox.recv_timeout(wait) {
                Ok(Inbox::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.on_message(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK;
                self.move_mark();
                self.look();
            }
            self.look_at_evidence();
            self.deliver();
            self.publish();
        }
        self.move_mark();
        self.write_repeats();
    }

    fn wait(&self, next_look: Instant) -> Duration {
        let until_look = next_look.saturating_duration_since(Instant::now());
        match self.parts.outbox.next_wake().filter(|_| self.state.courier) {
            Some(at) => until_look.min(Duration::from_millis(at.saturating_sub(now_ms()))),
            None => until_look,
        }
    }

    fn on_message(&mut self, message: Inbox) {
        match message {
            Inbox::Case(case) => self.on_case(*case),
            Inbox::Late(records) => self.on_late(records),
            Inbox::Repeats(counts) => self.state.repeats.extend(counts),
            Inbox::EngineBack => self.ask_unfinished(),
            Inbox::Courier(answer) => self.on_courier(*answer),
            Inbox::CourierStarted => {
                self.state.courier = true;
                self.ask_unfinished();
                self.ask_trust_hook();
            }
            Inbox::CourierGone => {
                self.state.courier = false;
                self.state.trust_asked = false;
                self.state.on_their_way.clear();
                if let Err(e) = self.parts.outbox.courier_lost(now_ms()) {
                    tracing::error!("{e}");
                }
                for (_, reply) in self.state.releasing.drain() {
                    let _ = reply.send(Err(
                        "the process that talks to Docker ended; try again".into()
                    ));
                }
            }
            Inbox::Gone { id } => {
                self.state.held.remove(&id);
            }
            Inbox::Evidence { id, summary } => self.on_evidence(&id, *summary),
            Inbox::Disturbed { id, what } => self.on_disturbed(&id, what),
            Inbox::Integrity {
                what,
                details,
                text,
            } => self.on_integrity(what, details, &text),
            Inbox::Report {
                what,
                details,
                severity,
                title,
                text,
            } => {
                self.notice(what, details);
                self.tell(&Message::notice(severity, title, &text, now_ms()));
            }
            Inbox::PressDone { alert, result } => self.on_press_done(&alert, result),
            Inbox::Order { order, reply } => self.on_order(order, reply),
            Inbox::Restart(why) => {
                tracing::warn!("{why}");
                let _ = self.parts.restart.send(Some(why));
            }
            Inbox::Stop => {}
        }
    }

    /// An alert: keep it, hand the container to Docker, take the trust away, log it, tell people. In this order.
    fn on_case(&mut self, case: Case) {
        let Case {
            alert,
            mut decision,
            frozen,
            target,
        } = case;
        if let Some((result, at)) = &frozen {
            decision.steps.push(match result {
                Ok(f) => Step {
                    what: "freeze".into(),
                    ok: true,
                    detail: format!("{:?}", f.how).to_lowercase(),
                    at_ms: *at,
                    took_us: u64::try_from(f.took.as_micros()).unwrap_or(u64::MAX),
                },
                Err(e) => Step {
                    what: "freeze".into(),
                    ok: false,
                    detail: e.clone(),
                    at_ms: *at,
                    took_us: 0,
                },
            });
        }
        // What is decided is durable before Docker is called.
        let kept = if self.parts.redact {
            entries::alert(&super::chronicle::alert_without_secrets(&alert))
        } else {
            entries::alert(&alert)
        };
        if let Err(e) = self.parts.store.append(kept) {
            tracing::error!("alert {} could not be kept: {e}", alert.short_id());
        }
        if let Err(e) = self
            .parts
            .store
            .append_durable(entries::decision(&decision))
        {
            tracing::error!(
                "the decision on alert {} could not be kept: {e}",
                alert.short_id()
            );
        }
        tracing::warn!(
            "{} {} {}: {}",
            alert.short_id(),
            alert.severity.name().to_uppercase(),
            alert.container.as_ref().map_or("host", |c| c.name.as_str()),
            alert.title
        );
        if let Some(target) = target.filter(|_| decision.acts()) {
            let (frozen, at) = match &frozen {
                Some((result, at)) => (result.as_ref().ok(), *at),
                None => (None, now_ms()),
            };
            let quarantine = Quarantine {
                level: decision.level,
                ..Quarantine::for_alert(&alert, &decision.reason, target, frozen, at)
            };
            self.begin_quarantine(quarantine, frozen);
        }
        if self.parts.dry_run {
            self.told(alert.id);
            return;
        }
        self.judge_trust(&alert);
        if alert.response >= Response::AlertAndLog
            && let Some(log) = &self.parts.log
            && let Err(e) = log.alert(&alert)
        {
            tracing::error!("{e}");
        }
        if alert.response >= Response::Alert {
            let mut message = Message::from_alert(&alert, &decision);
            message.fields.extend(self.daily_anchor());
            message.buttons = self.buttons(&alert, &decision);
            self.tell(&message);
        }
        self.told(alert.id);
    }

    fn tell(&mut self, message: &Message) {
        if self.parts.dry_run {
            return;
        }
        let message = message.clone().on_host(&self.parts.host);
        if let Err(e) = self.parts.outbox.enqueue(&message) {
            tracing::error!("a message could not be queued: {e}");
            self.state.unqueued.push(message);
        }
    }

    /// Durable first, then handed over, then Docker.
    fn begin_quarantine(&mut self, mut quarantine: Quarantine, frozen: Option<&Frozen>) {
        if let Some(container) = self.container(&quarantine.container_id) {
            quarantine.identity = Identity::of(&container);
        }
        let target = quarantine.target.clone();
        if quarantine.level.freezes() {
            write(&self.parts.shared.quarantined)
                .entry(quarantine.container_id.clone())
                .or_insert(quarantine.at_ms);
        }
        quarantine.wants_evidence = self.parts.evidence.enabled && frozen.is_some();
        let request = match self.parts.quarantines.begin(quarantine) {
            Ok(request) => Some(request),
            Err(e) => {
                tracing::error!("{e}");
                self.next_of(&target.container_id)
            }
        };
        if let Some(frozen) = frozen {
            self.hold(&target, frozen);
            self.want_evidence(&target.container_id);
        }
        if let Some(request) = request {
            self.ask(request);
        }
    }

    /// Asks again for everything that Docker has not done. Where Docker pauses by the very file that holds the container,
    /// it is handed over anew first.
    fn ask_unfinished(&mut self) {
        let waiting: Vec<Quarantine> = self
            .parts
            .quarantines
            .standing()
            .filter(|q| q.docker_state != actions::quarantine::DockerState::Paused)
            .filter(|q| q.level.freezes())
            .cloned()
            .collect();
        for q in &waiting {
            self.hand_over(q);
        }
        // Taken after a start, too: the thread that was to take it may have been killed with the sensor.
        let without: Vec<String> = self
            .parts
            .quarantines
            .standing()
            .filter(|q| q.wants_evidence && q.evidence.is_none())
            .map(|q| q.container_id.clone())
            .collect();
        for id in without {
            self.want_evidence(&id);
        }
        for request in self.parts.quarantines.unfinished() {
            self.ask(request);
        }
    }

    fn hand_over(&mut self, q: &Quarantine) {
        if !q.frozen_how.is_some_and(How::needs_handover) {
            return;
        }
        match freeze::freeze(&q.target) {
            Ok(frozen) => self.hold(&q.target, &frozen),
            Err(e) if e.is_gone() => {}
            Err(e) => tracing::error!("{e}"),
        }
    }

    /// Asks Docker once more to pause a quarantined container.
    fn ask_pause(&mut self, id: &str) {
        let found = self
            .parts
            .quarantines
            .standing()
            .find(|q| q.container_id == id)
            .cloned();
        if let Some(q) = found {
            self.hand_over(&q);
            self.parts.link.ask(Quarantines::pause_request(&q));
        }
    }

    /// Makes a frozen container ready for Docker's pause, once.
    fn hold(&mut self, target: &FreezeTarget, frozen: &Frozen) {
        if self.state.held.contains_key(&target.container_id) {
            return;
        }
        match handover::hold(target, frozen) {
            Ok(Some(held)) => drop(self.state.held.insert(target.container_id.clone(), held)),
            Ok(None) => {}
            Err(e) => tracing::error!("{e}"),
        }
    }

    fn on_courier(&mut self, answer: FromCourier) {
        let now = now_ms();
        let done = match answer {
            FromCourier::Delivered { queue_id, outcome } => {
                self.state.on_their_way.remove(&queue_id);
                self.parts
                    .outbox
                    .finished(queue_id, &outcome, now)
                    .map_err(|e| e.to_string())
            }
            FromCourier::Paused {
                container_id,
                result,
            } => self.on_paused(&container_id, &result, now),
            FromCourier::RestartDisabled {
                container_id,
                result,
            } => {
                self.evidence_is_due(&container_id);
                let next = self
                    .parts
                    .quarantines
                    .on_restart_disabled(&container_id, &result, now);
                self.go_on(next)
            }
            FromCourier::Cut {
                container_id,
                result,
            } => self.on_cut(&container_id, &result, now),
            FromCourier::Stopped {
                container_id,
                result,
            } => self.on_stopped(&container_id, &result, now),
            FromCourier::Inspected {
                container_id,
                result,
            } => self.on_inspected(&container_id, &result, now),
            FromCourier::Committed {
                container_id,
                result,
            } => self.on_committed(&container_id, &result, now),
            FromCourier::Described {
                container_id,
                inspect,
                log,
            } => {
                self.on_described(&container_id, inspect, log);
                Ok(())
            }
            FromCourier::Released {
                key,
                container_id,
                report,
            } => self.on_released(&key, &container_id, report, now),
            FromCourier::Pressed { press } => {
                self.on_press(&press);
                Ok(())
            }
            FromCourier::Docker { .. } => Ok(()),
            FromCourier::TrustHooked { agent, result } => {
                self.on_trust_hook(&agent, &result);
                Ok(())
            }
        };
        if let Err(e) = done {
            tracing::error!("{e}");
        }
    }

    fn on_paused(
        &mut self,
        id: &str,
        result: &Result<actions::docker::Paused, PauseFailure>,
        now: u64,
    ) -> Result<(), String> {
        if let Some(held) = self.state.held.remove(id) {
            match result {
                Ok(_) => held.paused(),
                Err(_) => {
                    held.not_paused().map_err(|e| e.to_string())?;
                }
            }
        }
        if let Err(e) = result {
            tracing::warn!(
                "Docker did not pause {}: {e}; the freeze holds all the same",
                short(id)
            );
        }
        let next = self.parts.quarantines.on_paused(id, result, now);
        self.go_on(next)
    }

    fn on_released(
        &mut self,
        key: &str,
        id: &str,
        mut report: actions::courier::wire::ReleaseReport,
        now: u64,
    ) -> Result<(), String> {
        if self.thaw_first(key, &report) || self.pause_anew(key, &report) {
            return Ok(());
        }
        self.state.paused_anew.remove(key);
        if report.complete {
            let target = self
                .parts
                .quarantines
                .list()
                .find(|q| q.key() == key && q.level.freezes())
                .map(|q| q.target.clone());
            if let (Some(target), false) = (target, report.gone) {
                match freeze::thaw(&target) {
                    Ok(_) => drop_stops(&target),
                    Err(e) if e.is_gone() => {}
                    Err(e) => {
                        report.complete = false;
                        report.said.push(e.to_string());
                    }
                }
            }
        }
        if report.complete {
            write(&self.parts.shared.quarantined).remove(id);
            if let Some(q) = self.parts.quarantines.list().find(|q| q.key() == key)
                && let Some(rule) = &q.rule
            {
                write(&self.parts.shared.released).insert(q.name.clone(), (rule.clone(), now));
            }
            self.state.watch.forget(key);
            self.state.steps.forget(id);
            let _ = self.parts.commands.send(Command::Forget(id.to_owned()));
        }
        self.notice("release", json!({"container_id": id, "key": key, "said": report.said, "complete": report.complete}));
        self.parts
            .quarantines
            .on_released(key, &report, now)
            .map_err(|e| e.to_string())?;
        if let Some(reply) = self.state.releasing.remove(key) {
            let _ = reply.send(Ok(
                json!({"said": report.said, "complete": report.complete}),
            ));
        }
        Ok(())
    }

    /// A container that was frozen in the middle of a `docker exec` keeps Docker waiting for it, also when it is asked to release
    /// it. A person wants it to run: it is thawed, and Docker is asked once more.
    fn thaw_first(&mut self, key: &str, report: &actions::courier::wire::ReleaseReport) -> bool {
        if !report.unanswered || !self.state.releasing.contains_key(key) {
            self.state.thawed_first.remove(key);
            return false;
        }
        let found = self.parts.quarantines.list().find(|q| q.key() == key);
        let Some(q) = found.filter(|_| !self.state.thawed_first.contains(key)) else {
            return false;
        };
        match freeze::thaw(&q.target) {
            Ok(true) => {}
            _ => return false,
        }
        drop_stops(&q.target);
        tracing::info!("{} was thawed first, since Docker did not answer", q.name);
        self.state.thawed_first.insert(key.to_owned());
        self.parts.link.ask(ToCourier::Release {
            quarantine: Box::new(q.clone()),
        })
    }

    /// Docker says paused and cannot unpause: its own file was thawed, by us or by somebody else. It is frozen by that file again,
    /// and Docker is asked once more.
    fn pause_anew(&mut self, key: &str, report: &actions::courier::wire::ReleaseReport) -> bool {
        if !report.adrift || self.state.paused_anew.contains(key) {
            return false;
        }
        let found = self.parts.quarantines.list().find(|q| q.key() == key);
        let Some(q) = found.filter(|q| q.stands()) else {
            return false;
        };
        if let Err(e) = freeze::freeze_as_docker(&q.target) {
            tracing::error!("{e}");
            return false;
        }
        self.state.paused_anew.insert(key.to_owned());
        self.parts.link.ask(ToCourier::Release {
            quarantine: Box::new(q.clone()),
        })
    }

    /// Sends what is due, and gives up waiting for answers that do not come.
    fn deliver(&mut self) {
        let late: Vec<u64> = self
            .state
            .on_their_way
            .iter()
            .filter(|(_, since)| since.elapsed() > DELIVERY_LIMIT)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.state.on_their_way.remove(&id);
            let _ = self.parts.outbox.finished(
                id,
                &Outcome::Unknown {
                    why: "no answer in time".into(),
                },
                now_ms(),
            );
        }
        if !self.state.courier {
            return;
        }
        while let Some(due) = self.parts.outbox.next_due(now_ms()) {
            // Before the first of them is sent: what leaves the outbox must not be taken for untold.
            if !self.move_mark() {
                return;
            }
            if let Err(e) = self.parts.outbox.started(due.queue_id, now_ms()) {
                tracing::error!("{e}");
                return;
            }
            let id = due.queue_id;
            if self.parts.link.ask(ToCourier::Deliver {
                queue_id: id,
                destination: due.destination,
                message: Box::new(due.message),
                repeat: due.repeat,
                edit: due.edit,
            }) {
                self.state.on_their_way.insert(id, Instant::now());
            } else {
                let later = Outcome::Refused {
                    permanent: false,
                    channel: false,
                    why: "the courier is busy".into(),
                    retry_after_ms: Some(1000),
                };
                let _ = self.parts.outbox.finished(id, &later, now_ms());
            }
        }
    }

    /// What is known of a container.
    fn container(&self, id: &str) -> Option<Arc<enricher::Container>> {
        read(&self.parts.shared.containers)
            .iter()
            .find(|c| c.id == id)
            .cloned()
    }

    fn notice(&mut self, what: &str, details: Value) {
        self.state.notices += 1;
        let id = format!("N-{}-{}", now_ms(), self.state.notices);
        if let Err(e) = self.parts.store.append(entries::notice(id, what, details)) {
            tracing::error!("a notice could not be kept: {e}");
        }
    }

    fn mark_quarantined(&self) {
        let mut marks = write(&self.parts.shared.quarantined);
        for q in self
            .parts
            .quarantines
            .standing()
            .filter(|q| q.level.freezes())
        {
            marks.insert(q.container_id.clone(), q.at_ms);
        }
        drop(marks);
        let mut released = write(&self.parts.shared.released);
        for q in self.parts.quarantines.list() {
            if let (Some(rule), Some(at)) = (&q.rule, q.released_at) {
                released.insert(q.name.clone(), (rule.clone(), at));
            }
        }
    }

    /// What `status` shows of this thread.
    fn publish(&self) {
        *write(&self.parts.shared.standing) = self
            .parts
            .quarantines
            .standing()
            .map(Quarantine::claim)
            .collect();
        let mut channels = lock(&self.parts.shared.channels);
        for c in self.parts.outbox.status() {
            let state = match (&c.stopped, &c.last_error) {
                (Some(why), _) => format!("stopped: {why}"),
                (None, Some(why)) => format!("trying again: {why}"),
                (None, None) if c.last_accepted_ms.is_some() => "ok".into(),
                (None, None) => "ready".into(),
            };
            channels.insert(
                c.name.clone(),
                ChannelState {
                    name: c.name,
                    configured: true,
                    state,
                    waiting: c.waiting as u64,
                },
            );
        }
    }
}

/// A handover that nobody finished left processes stopped by signals.
fn drop_stops(target: &FreezeTarget) {
    let continued = handover::resume_all(target);
    if continued > 0 {
        tracing::info!(
            "{continued} processes of {} were stopped by signals and run on",
            short(&target.container_id)
        );
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
