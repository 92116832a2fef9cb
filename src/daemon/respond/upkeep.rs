//! What the responder does beside alerts: late records, repeats, losses, and word of those who tamper.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actions::Message;
use anyhow::Context;
use collector::{EventId, RecordType};
use detector::{Alert, Severity};
use enricher::Activity;
use history::Kind;
use serde_json::{Value, json};

use super::Responder;
use crate::times::now_ms;

/// The first alert of a day carries an anchor of the history out of the host.
const ANCHOR_EVERY: Duration = Duration::from_secs(86_400);

/// The same message is edited once in this time.
const EDIT_EVERY: Duration = Duration::from_secs(30);

impl Responder {
    /// Where the history's chain has come to, once a day: `history verify --anchor` compares.
    pub(super) fn daily_anchor(&mut self) -> Option<(String, String)> {
        if self
            .state
            .last_anchor
            .is_some_and(|told| told.elapsed() < ANCHOR_EVERY)
        {
            return None;
        }
        let anchor = self.parts.store.anchor().ok()?;
        self.state.last_anchor = Some(Instant::now());
        Some(("history anchor".into(), anchor.to_string()))
    }

    /// The event is stored again with the record, under the same id.
    pub(super) fn on_late(&mut self, records: Vec<(EventId, RecordType, Vec<u8>)>) {
        for (id, kind, body) in records {
            if let Err(why) = self.amend(&id, kind, &body) {
                tracing::debug!("a late record of event {id} could not be added: {why}");
                self.parts
                    .shared
                    .counts
                    .late_dropped
                    .fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn amend(&self, id: &EventId, kind: RecordType, body: &[u8]) -> anyhow::Result<()> {
        let text = id.to_string();
        let store = &self.parts.store;
        let find = || store.get_near(Kind::Activity, &text, Some(id.millis));
        let row = match find()? {
            Some(row) => row,
            None => {
                // It may still be on its way to the writer.
                store.flush()?;
                find()?.context("the event is not in the history")?
            }
        };
        let mut activity = Activity::decode(&row.body)?;
        activity.event.push(kind, body);
        if self.parts.redact
            && let Some(clean) = crate::daemon::chronicle::without_secrets(&activity)
        {
            activity = clean;
        }
        let mut bytes = Vec::new();
        activity.encode(&mut bytes);
        store
            .amend(Kind::Activity, &text, id.millis, bytes)?
            .wait()?;
        Ok(())
    }

    /// Once a second: losses, repeats.
    pub(super) fn look(&mut self) {
        self.write_repeats();
        self.edit_told();
        self.look_at_quarantines();
        if !self.parts.dry_run {
            self.look_at_docker();
            self.release_what_is_due();
            self.retire_evidence();
        }
        if self
            .state
            .last_trust_tick
            .is_none_or(|t| t.elapsed() > Duration::from_secs(60))
        {
            self.state.last_trust_tick = Some(Instant::now());
            self.recover_trust();
        }
        let now = self.parts.shared.losses();
        if now.any() && now != self.state.losses {
            let before = std::mem::replace(&mut self.state.losses, now.clone());
            self.notice("loss", json!({"before": before, "now": now}));
            // Everybody is told once; further losses within ten minutes are in the history and in `status`.
            if self
                .state
                .last_loss_message
                .is_none_or(|t| t.elapsed() > Duration::from_secs(600))
            {
                self.state.last_loss_message = Some(Instant::now());
                self.tell(&Message::notice(Severity::Medium, "Audit records were lost", "Events of the last seconds may be missing from the history and from the alerts; `syscall-monitor status` says where they were lost.", now_ms()));
            }
        }
    }

    pub(super) fn write_repeats(&mut self) {
        for (id, count) in std::mem::take(&mut self.state.repeats) {
            let id = format!("A-{id}");
            let Ok(Some(row)) = self.parts.store.get(Kind::Alert, &id) else {
                continue;
            };
            let Ok(mut alert) = serde_json::from_slice::<Alert>(&row.body) else {
                continue;
            };
            alert.count = count;
            self.state.to_edit.insert(alert.id, count);
            if let Ok(body) = serde_json::to_vec(&alert)
                && let Err(e) = self
                    .parts
                    .store
                    .amend(Kind::Alert, &id, alert.time_ms, body)
            {
                tracing::warn!("the count of {id} could not be kept: {e}");
            }
        }
    }

    /// What is known now of alerts takes the place of what was told of them: the same alert again is the same message.
    pub(super) fn edit_told(&mut self) {
        let now = Instant::now();
        self.state
            .edited
            .retain(|_, at| now.duration_since(*at) < EDIT_EVERY);
        let due: Vec<u64> = self
            .state
            .to_edit
            .keys()
            .copied()
            .filter(|id| !self.state.edited.contains_key(id))
            .collect();
        for id in due {
            let count = self.state.to_edit.remove(&id).unwrap_or(1);
            self.state.edited.insert(id, now);
            if let Err(e) = self.edit_one(id, count) {
                tracing::warn!("the message about A-{id} was not edited: {e:#}");
            }
        }
    }

    fn edit_one(&mut self, id: u64, count: u64) -> anyhow::Result<()> {
        if self.parts.dry_run {
            return Ok(());
        }
        let store = &self.parts.store;
        let (Some(alert), Some(decision)) = (
            store.get(Kind::Alert, &format!("A-{id}"))?,
            store.get(Kind::Decision, &format!("D-{id}"))?,
        ) else {
            return Ok(());
        };
        let mut alert: Alert = serde_json::from_slice(&alert.body)?;
        // The row may not have it yet: an amendment is written with the next commit.
        alert.count = alert.count.max(count);
        let decision: actions::Decision = serde_json::from_slice(&decision.body)?;
        let mut message = Message::from_alert(&alert, &decision).on_host(&self.parts.host);
        message.buttons = self.buttons_again(&alert, &decision);
        self.parts.outbox.edit(&message)?;
        Ok(())
    }

    pub(super) fn on_integrity(&mut self, what: &'static str, details: Value, text: &str) {
        self.notice(what, details);
        // A fight with another program is told once in ten minutes.
        let limit = Duration::from_secs(600);
        if self
            .state
            .told
            .get(what)
            .is_some_and(|t| t.elapsed() < limit)
        {
            return;
        }
        self.state.told.insert(what, Instant::now());
        self.tell(&Message::notice(
            Severity::High,
            "Somebody changes what the monitor relies on",
            text,
            now_ms(),
        ));
    }
}
