//! What follows from a change of an agent's score: the hook and the webhook are told of each one, in order and at least once; and where
//! `trust.enforce` is on, an agent whose arithmetic has come to the band of quarantine is frozen.

use actions::courier::wire::{HookResult, ToCourier};
use actions::freeze;
use actions::policy::{Situation, Step};
use actions::quarantine::Quarantine;
use actions::trust::{Band, ChangeKind, TrustChange};
use actions::{Decision, Verdict};
use detector::{Alert, Response, Severity};
use serde_json::{Value, json};

use super::Responder;
use crate::daemon::pipeline::target_of;
use crate::daemon::state::read;
use crate::entries;
use crate::times::now_ms;

/// Queue of the store: changes that the hook was not told of yet.
const QUEUE: &str = "trust-hooks";
/// Changes that wait, at most: a hook that fails for days must not fill the disk. What is left out is in `events.jsonl`.
const WAITING: usize = 1000;

impl Responder {
    /// Takes the points of an alert, and does what follows.
    pub(super) fn judge_trust(&mut self, alert: &Alert) {
        match self.parts.trust.apply(alert, &alert.event, now_ms()) {
            Ok(Some(change)) => {
                self.enforce(alert, &change);
                self.on_trust_change(&change);
            }
            Ok(None) => {}
            Err(e) => tracing::error!("{e}"),
        }
    }

    /// Time gives points back.
    pub(super) fn recover_trust(&mut self) {
        match self.parts.trust.tick(now_ms()) {
            Ok(changes) => changes.iter().for_each(|c| self.on_trust_change(c)),
            Err(e) => tracing::error!("{e}"),
        }
    }

    /// A person set it.
    pub(super) fn set_trust(&mut self, agent: &str, score: u8) -> Result<Value, String> {
        let change = self
            .parts
            .trust
            .set(agent, score, now_ms())
            .map_err(|e| e.to_string())?;
        self.notice(
            "trust-set",
            json!({"agent": agent, "score": change.score, "previous_score": change.previous_score}),
        );
        self.on_trust_change(&change);
        Ok(
            json!({"said": [format!("{agent}: score {} (was {}), band {}", change.score, change.previous_score, change.band)]}),
        )
    }

    fn on_trust_change(&mut self, change: &TrustChange) {
        if !self.parts.trust_hook {
            return;
        }
        let queued = || -> anyhow::Result<bool> {
            if self.parts.ledger.queue_list(QUEUE)?.len() >= WAITING {
                return Ok(false);
            }
            let value = serde_json::to_vec(change)?;
            self.parts.ledger.queue_push(QUEUE, &value)?;
            Ok(true)
        };
        match queued() {
            Ok(true) => self.ask_trust_hook(),
            Ok(false) => tracing::error!(
                "{WAITING} changes of trust wait for the hook; further ones are in events.jsonl only"
            ),
            Err(e) => tracing::error!("the trust hook will not hear of a change: {e:#}"),
        }
    }

    /// One change at a time, the oldest.
    pub(super) fn ask_trust_hook(&mut self) {
        if self.state.trust_asked || !self.state.courier || !self.parts.trust_hook {
            return;
        }
        let list = match self.parts.ledger.queue_list(QUEUE) {
            Ok(list) => list,
            Err(e) => return tracing::error!("{e}"),
        };
        for (id, value) in list {
            match serde_json::from_slice::<TrustChange>(&value) {
                Ok(change) => {
                    let change = Box::new(change);
                    self.state.trust_asked = self.parts.link.ask(ToCourier::TrustHook { change });
                    return;
                }
                Err(e) => {
                    tracing::error!("a change of trust cannot be read and is left out: {e}");
                    if let Err(e) = self.parts.ledger.queue_remove(QUEUE, id) {
                        return tracing::error!("{e}");
                    }
                }
            }
        }
    }

    /// The hook ended. One that fails is told of, and not asked again about the same change: it is in `events.jsonl`.
    pub(super) fn on_trust_hook(&mut self, agent: &str, result: &HookResult) {
        self.state.trust_asked = false;
        match self.parts.ledger.queue_list(QUEUE) {
            Ok(list) => {
                if let Some((id, _)) = list.first()
                    && let Err(e) = self.parts.ledger.queue_remove(QUEUE, *id)
                {
                    return tracing::error!("{e}");
                }
            }
            Err(e) => return tracing::error!("{e}"),
        }
        if let Some(why) = &result.why {
            tracing::warn!("trust hook for {agent}: {why}");
            self.notice(
                "trust-hook",
                json!({"agent": agent, "exit": result.exit, "why": why}),
            );
        }
        if let Some(base) = result.base_score {
            // No hook for what a hook said, or the two would talk for ever.
            match self.parts.trust.set_base(agent, base, now_ms()) {
                Ok(change) if change.score != change.previous_score => {
                    self.notice(
                        "trust-base",
                        json!({"agent": agent, "base_score": base, "score": change.score}),
                    );
                }
                Ok(_) => {}
                Err(e) => tracing::error!("{e}"),
            }
        }
        self.ask_trust_hook();
    }

    /// Points alone freeze nobody, unless root said so; and then under the same guards as a critical alert.
    fn enforce(&mut self, alert: &Alert, change: &TrustChange) {
        let fell = change.kind == ChangeKind::Deduction
            && change.band == Band::Quarantine
            && change.previous_band != Band::Quarantine;
        // A critical alert has been decided about already.
        if !self.parts.trust_enforce || !fell || alert.response == Response::Quarantine {
            return;
        }
        let Some(c) = &alert.container else { return };
        let container = self.container(&c.id);
        let situation = Situation {
            quarantined_at_ms: read(&self.parts.shared.quarantined).get(&c.id).copied(),
            image_id: container.as_ref().and_then(|c| c.image_id.clone()),
            released: read(&self.parts.shared.released).get(&c.name).cloned(),
        };
        // As grave as the band says, also where the ladder lets a single high alert pass.
        let asked = Alert {
            response: Response::Quarantine,
            severity: Severity::Critical,
            ..alert.clone()
        };
        let mut decision: Decision = self.parts.policy.decide_in(&asked, now_ms(), &situation);
        decision.id = format!("D-{}-trust", alert.id);
        let why = format!(
            "the trust score of {} fell to {}, which is the band of quarantine, and trust.enforce is on",
            change.agent, change.score
        );
        if matches!(decision.verdict, Verdict::Freeze | Verdict::Cut) {
            decision.reason = why.clone();
        }
        let target = read(&self.parts.shared.runtimes).get(&c.id).map(target_of);
        let target = target.filter(|_| decision.acts());
        let mut frozen = None;
        if let Some(target) = target.as_ref().filter(|_| decision.freezes()) {
            let result = freeze::freeze(target);
            decision.steps.push(Step {
                what: "freeze".into(),
                ok: result.is_ok(),
                detail: match &result {
                    Ok(f) => format!("{:?}", f.how).to_lowercase(),
                    Err(e) => e.to_string(),
                },
                at_ms: now_ms(),
                took_us: result
                    .as_ref()
                    .map_or(0, |f| u64::try_from(f.took.as_micros()).unwrap_or(u64::MAX)),
            });
            frozen = result.ok();
        }
        if let Err(e) = self
            .parts
            .store
            .append_durable(entries::decision(&decision))
        {
            tracing::error!(
                "the decision on the trust of {} could not be kept: {e}",
                change.agent
            );
        }
        if let Some(target) = target {
            let quarantine = Quarantine {
                level: decision.level,
                ..Quarantine::for_alert(alert, &why, target, frozen.as_ref(), now_ms())
            };
            self.begin_quarantine(quarantine, frozen.as_ref());
        }
    }
}
