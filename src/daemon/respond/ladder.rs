//! As far as the level goes: what Docker is asked for after the freeze, within the budget; a look whether it still is so; and the
//! quarantine that ends by itself.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use actions::Message;
use actions::courier::wire::{Inspection, ToCourier};
use actions::docker::Cut;
use actions::message::stop_command;
use actions::quarantine::{Quarantine, QuarantineError, Stage};
use detector::Severity;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Responder, short};
use crate::times::now_ms;

/// Docker is asked so often whether restart policy and networks are as we left them.
const LOOK: Duration = Duration::from_secs(3);
/// An automatic release that did not come to its end is tried again after this.
const RELEASE_AGAIN: Duration = Duration::from_secs(60);

/// What the responder remembers of the steps.
#[derive(Default)]
pub struct Steps {
    /// Cuts and stops that need no budget (any more) and are not done; `true`: the budget has paid for it.
    paid: HashMap<String, bool>,
    last_look: Option<Instant>,
    /// Containers that Docker was asked about, and when (milliseconds since the epoch).
    asked: HashMap<String, u64>,
    /// What was last told of them while it is not undone.
    told: HashMap<String, String>,
    /// Containers that Docker was asked to stop: it lets go of them first.
    stopping: HashSet<String>,
    /// Automatic releases, by key.
    released: HashMap<String, Instant>,
}

impl Steps {
    /// It was released: what comes next is new.
    pub fn forget(&mut self, id: &str) {
        self.paid.retain(|p, _| !p.ends_with(id));
        self.asked.remove(id);
        self.told.remove(id);
    }

    /// Is it being stopped by us?
    pub fn is_stopping(&self, id: &str) -> bool {
        self.stopping.contains(id)
    }

    /// What an agent does again and again is no new decision: nothing of it is held up by the budget.
    pub fn free(&mut self, id: &str) {
        for what in ["cut", "stop"] {
            self.paid.insert(format!("{what} {id}"), false);
        }
    }
}

impl Responder {
    fn standing(&self, id: &str) -> Option<Quarantine> {
        self.parts
            .quarantines
            .standing()
            .find(|q| q.container_id == id)
            .cloned()
    }

    /// What is to be asked for first of all that is not done.
    pub(super) fn next_of(&self, id: &str) -> Option<ToCourier> {
        self.standing(id)?.next(Stage::Pause)
    }

    /// The next step, if a step was kept and there is one.
    pub(super) fn go_on(
        &mut self,
        next: Result<Option<ToCourier>, QuarantineError>,
    ) -> Result<(), String> {
        if let Some(request) = next.map_err(|e| e.to_string())? {
            self.ask(request);
        }
        Ok(())
    }

    /// Asks the courier. A cut or a stop is asked for within the budget, and not while the container is being released: the release
    /// puts the networks back.
    pub(super) fn ask(&mut self, request: ToCourier) {
        let (id, what) = match &request {
            ToCourier::Cut { container_id, .. } => (container_id.clone(), "cut"),
            ToCourier::Stop { container_id } => (container_id.clone(), "stop"),
            _ => {
                self.parts.link.ask(request);
                return;
            }
        };
        let Some(q) = self.standing(&id) else {
            return;
        };
        if self.state.releasing.contains_key(&q.key()) {
            return;
        }
        let paid = format!("{what} {id}");
        if !q.ordered && !self.state.steps.paid.contains_key(&paid) {
            if !self.parts.budget.take(now_ms()) {
                return self.limited(&q, what);
            }
            self.state.steps.paid.insert(paid, true);
        }
        if what == "stop" {
            self.state.steps.stopping.insert(id);
        }
        self.parts.link.ask(request);
    }

    /// The budget is used up: a freeze stays, and people are told that it is no more than that.
    fn limited(&mut self, q: &Quarantine, what: &str) {
        let why = format!(
            "not {}: the budget of {} cuts and stops an hour (quarantine.budget) is used up",
            if what == "cut" {
                "taken off its networks"
            } else {
                "stopped"
            },
            self.parts.budget.limit()
        );
        self.notice(
            "budget",
            json!({"container_id": q.container_id, "name": q.name, "alert": q.alert, "what": what, "why": why}),
        );
        if let Err(e) = self
            .parts
            .quarantines
            .on_limited(&q.container_id, &why, now_ms())
        {
            tracing::error!("{e}");
        }
        let now = if q.level.freezes() {
            "It stays frozen."
        } else {
            "It RUNS as before."
        };
        self.tell_of(
            q,
            "A container was contained less far than its level says",
            &format!("{} is {why}. {now}", q.name),
        );
    }

    fn tell_of(&mut self, q: &Quarantine, title: &str, text: &str) {
        let mut message = Message::notice(Severity::High, title, text, now_ms());
        message.container = Some(q.name.clone());
        message.container_id = Some(q.container_id.clone());
        message.agent.clone_from(&q.agent);
        self.tell(&message);
    }

    pub(super) fn on_cut(
        &mut self,
        id: &str,
        result: &Result<Cut, String>,
        now: u64,
    ) -> Result<(), String> {
        let next = self.parts.quarantines.on_cut(id, result, now);
        if let Ok(cut) = result {
            // It came to nothing.
            let paid = self.state.steps.paid.remove(&format!("cut {id}"));
            if paid == Some(true) && cut.networks.is_empty() {
                self.parts.budget.give_back();
            }
            self.notice(
                "network-cut",
                json!({"container_id": id, "networks": cut.networks, "kept": cut.kept, "impossible": cut.impossible}),
            );
        }
        if let (Ok(cut), Some(q)) = (result, self.standing(id))
            && let Some(why) = &cut.impossible
            && !q.level.cuts_exact_only()
        {
            let text = format!(
                "{} cannot be taken off the network: {why}. What can be done is to stop it, by which all that it has in memory is lost: `{}`",
                q.name,
                stop_command(&q.name, &q.container_id)
            );
            self.tell_of(&q, "A container cannot be taken off the network", &text);
        }
        if let Err(why) = result {
            tracing::warn!("{} was not taken off its networks: {why}", short(id));
        }
        self.go_on(next)
    }

    pub(super) fn on_stopped(
        &mut self,
        id: &str,
        result: &Result<(), String>,
        now: u64,
    ) -> Result<(), String> {
        self.state.steps.stopping.remove(id);
        match result {
            Ok(()) => {
                self.state.steps.paid.remove(&format!("stop {id}"));
            }
            Err(why) => tracing::warn!("{} was not stopped: {why}", short(id)),
        }
        self.notice(
            "stop",
            json!({"container_id": id, "ok": result.is_ok(), "why": result.as_ref().err()}),
        );
        self.parts
            .quarantines
            .on_stopped(id, result, now)
            .map_err(|e| e.to_string())
    }

    /// Asks Docker about everything that is settled: is it still as we left it?
    pub(super) fn look_at_docker(&mut self) {
        let steps = &mut self.state.steps;
        if steps.last_look.is_some_and(|t| t.elapsed() < LOOK) {
            return;
        }
        steps.last_look = Some(Instant::now());
        let settled: Vec<String> = self
            .parts
            .quarantines
            .standing()
            .filter(|q| q.is_settled() && !self.state.releasing.contains_key(&q.key()))
            .map(|q| q.container_id.clone())
            .collect();
        for id in settled {
            let request = ToCourier::Inspect {
                container_id: id.clone(),
            };
            if self.parts.link.ask(request) {
                self.state.steps.asked.insert(id, now_ms());
            }
        }
    }

    pub(super) fn on_inspected(
        &mut self,
        id: &str,
        result: &Result<Box<Inspection>, String>,
        now: u64,
    ) -> Result<(), String> {
        let next = self.parts.quarantines.on_inspected(id, result, now);
        if !matches!(next, Ok(None)) {
            return self.go_on(next);
        }
        let asked = self.state.steps.asked.remove(id);
        let (Ok(seen), Some(asked), Some(q)) = (result, asked, self.standing(id)) else {
            return Ok(());
        };
        // What was changed since the question makes the answer an old one.
        let changed = q.steps.iter().any(|s| s.at_ms >= asked);
        if changed || self.state.releasing.contains_key(&q.key()) {
            return Ok(());
        }
        let slipped = q.slipped(seen);
        if slipped.is_empty() {
            self.state.steps.told.remove(id);
            return Ok(());
        }
        let words = slipped.words();
        let news =
            self.state.steps.told.insert(id.to_owned(), words.clone()) != Some(words.clone());
        let mut undone = "It is left so: [quarantine] hold is off.";
        if self.parts.hold {
            let requests = self
                .parts
                .quarantines
                .on_slipped(id, &slipped, now)
                .map_err(|e| e.to_string())?;
            for request in requests {
                self.parts.link.ask(request);
            }
            undone = "That is being undone.";
        }
        if news {
            tracing::warn!("somebody {words}: {}", q.name);
            self.notice(
                "disturbed",
                json!({"container_id": id, "name": q.name, "quarantine": q.key(), "how": words, "by": "the same id", "result": undone}),
            );
            let text = format!(
                "{} is quarantined, and somebody {words}. {undone} If it was you: `{}`",
                q.name,
                q.release_command()
            );
            self.tell_of(&q, "A quarantine was disturbed", &text);
        }
        Ok(())
    }

    /// Quarantines that an alert began end by themselves after a while, if root wants that.
    pub(super) fn release_what_is_due(&mut self) {
        let Some(after) = self.parts.release_after else {
            return;
        };
        let now = now_ms();
        let limit = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.state
            .steps
            .released
            .retain(|_, at| at.elapsed() < RELEASE_AGAIN);
        let due: Vec<Quarantine> = self
            .parts
            .quarantines
            .standing()
            .filter(|q| !q.ordered && q.is_settled() && now >= q.at_ms.saturating_add(limit))
            .filter(|q| {
                let key = q.key();
                !self.state.releasing.contains_key(&key)
                    && !self.state.steps.released.contains_key(&key)
            })
            .cloned()
            .collect();
        for q in due {
            let key = q.key();
            if !self.parts.link.ask(ToCourier::Release {
                quarantine: Box::new(q.clone()),
            }) {
                continue;
            }
            // Nobody waits for the answer.
            let (reply, _) = oneshot::channel();
            self.state.releasing.insert(key.clone(), reply);
            self.state
                .steps
                .released
                .insert(key.clone(), Instant::now());
            let why = format!(
                "released by itself after {} s (quarantine.release_after)",
                after.as_secs()
            );
            self.notice(
                "automatic-release",
                json!({"container_id": q.container_id, "name": q.name, "key": key, "why": why}),
            );
            self.tell_of(
                &q,
                "A quarantine ends by itself",
                &format!("{} is {why}: {}", q.name, q.reason),
            );
        }
    }
}
