//! Presses of buttons on a phone: judged, acted on, kept in the history, answered. In this order, so that a kill repeats what can be
//! repeated and loses nothing.

use actions::courier::wire::ToCourier;
use actions::phone::{Buttons, Issued, Judged, Press, Verb};
use actions::quarantine::Quarantine;
use actions::{Decision, Message, Verdict};
use detector::{Alert, Severity};
use history::Kind;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Inbox, Order, Responder};
use crate::times::{now_ms, rfc3339};
use crate::{entries, except};

impl Responder {
    /// Buttons below the message about an alert in a container, where somebody may press them.
    pub(super) fn buttons(&self, alert: &Alert, decision: &Decision) -> Option<Buttons> {
        let container = alert.container.as_ref()?;
        let frozen = self.is_held(&container.id, decision);
        let place = (container.id.as_str(), container.name.as_str());
        match self
            .parts
            .phone
            .issue(&alert.short_id(), place, frozen, now_ms())
        {
            Ok(buttons) => buttons,
            Err(e) => {
                tracing::error!("{e}");
                None
            }
        }
    }

    /// The buttons that a message has already.
    pub(super) fn buttons_again(&self, alert: &Alert, decision: &Decision) -> Option<Buttons> {
        let container = alert.container.as_ref()?;
        let frozen = self.is_held(&container.id, decision);
        match self.parts.phone.buttons_of(&alert.short_id(), frozen) {
            Ok(buttons) => buttons,
            Err(e) => {
                tracing::error!("{e}");
                None
            }
        }
    }

    fn is_held(&self, container: &str, decision: &Decision) -> bool {
        let mut standing = self.parts.quarantines.standing();
        decision.verdict == Verdict::Freeze || standing.any(|q| q.container_id == container)
    }

    pub(super) fn on_press(&mut self, press: &Press) {
        let judged = match self.parts.phone.judge(press, now_ms()) {
            Ok(judged) => judged,
            // Not confirmed, so it comes again.
            Err(e) => return tracing::error!("{e}"),
        };
        let (verb, alert, text) = match judged {
            Judged::Again(text) => return self.confirm(press, text),
            Judged::Refused(why) => (None, None, format!("refused: {why}")),
            Judged::Allowed {
                verb,
                alert,
                issued,
            } => {
                let text = match self.act(verb, &alert, &issued) {
                    Ok(text) => text,
                    Err(why) => format!("not done: {why}"),
                };
                (Some(verb), Some(alert), text)
            }
        };
        tracing::warn!(
            "a button was pressed by {} ({}): {text}",
            press.user,
            crate::output::visible(&press.name)
        );
        // One notice a press, also when it is handled again after a kill.
        let details = json!({
            "user": press.user, "name": press.name, "chat": press.chat, "button": verb.map(Verb::label),
            "alert": alert, "accepted": verb.is_some(), "result": text,
        });
        let notice = entries::notice(format!("N-press-{}", press.update_id), "press", details);
        let kept = self
            .parts
            .store
            .append_durable(notice)
            .map_err(|e| e.to_string())
            .and_then(|()| {
                self.parts
                    .phone
                    .handled(press, &text)
                    .map_err(|e| e.to_string())
            });
        match kept {
            Ok(()) => self.confirm(press, text),
            Err(e) => tracing::error!("a press could not be kept, and comes again: {e}"),
        }
    }

    fn confirm(&self, press: &Press, text: String) {
        self.parts.link.ask(ToCourier::Handled {
            update_id: press.update_id,
            text,
        });
    }

    fn act(&mut self, verb: Verb, alert: &str, issued: &Issued) -> Result<String, String> {
        let name = &issued.container;
        match verb {
            Verb::Keep => {
                let q = self.frozen_for(issued)?;
                let stays = if q.level.freezes() {
                    "frozen"
                } else {
                    "off its networks"
                };
                Ok(format!("{} stays {stays}", q.name))
            }
            Verb::Evidence => {
                let q = self.frozen_for(issued)?;
                Ok(match q.evidence.as_ref().map(|e| (&e.dir, e)) {
                    Some((Some(dir), e)) => format!(
                        "{name}: {} ({} files, {}{})",
                        dir.display(),
                        e.files,
                        crate::output::bytes(e.bytes),
                        match e.failed.len() {
                            0 => String::new(),
                            n => format!(", {n} things could not be had"),
                        }
                    ),
                    Some((None, e)) => format!(
                        "no evidence of {name} was kept: {}",
                        e.failed.first().map_or("", String::as_str)
                    ),
                    None => format!("the evidence of {name} is not taken yet"),
                })
            }
            Verb::Release => {
                let q = self.frozen_for(issued)?;
                let (key, name) = (q.key(), q.name.clone());
                // A second one would wait behind the first, and could release what was frozen anew in between.
                if self.state.releasing.contains_key(&key) {
                    return Ok(format!("{name} is being released already"));
                }
                self.release_for(alert, key);
                Ok(format!("{name} is being released"))
            }
            Verb::Except => {
                let row = self.parts.store.get(Kind::Alert, alert);
                let row = row
                    .map_err(|e| e.to_string())?
                    .ok_or("the alert is not in the history any more")?;
                let kept: Alert = serde_json::from_slice(&row.body).map_err(|e| e.to_string())?;
                let file =
                    except::write(&self.parts.exceptions, &kept).map_err(|e| format!("{e:#}"))?;
                // Behind this press's own bookkeeping: the inbox is read in order.
                let _ = self.parts.inbox.send(Inbox::Restart(format!(
                    "an exception for {alert} was written to {}; starting anew with it",
                    file.display()
                )));
                Ok(format!(
                    "exactly this case is no alert of this rule any more: {}",
                    file.display()
                ))
            }
        }
    }

    /// The quarantine that the buttons are about: not one that began after them.
    fn frozen_for(&self, issued: &Issued) -> Result<&Quarantine, String> {
        let name = &issued.container;
        let standing = || self.parts.quarantines.standing();
        let found = standing()
            .find(|q| q.container_id == issued.container_id)
            .or_else(|| standing().find(|q| q.name == *name));
        let Some(q) = found else {
            return Err(format!("{name} is not frozen (any more)"));
        };
        if q.at_ms > issued.at_ms {
            return Err(format!(
                "{name} was frozen again at {}, after this message; use the buttons of the newer one",
                rfc3339(q.at_ms)
            ));
        }
        Ok(q)
    }

    /// The same order as the command line's; what comes of it is told as a message.
    fn release_for(&mut self, alert: &str, key: String) {
        let (reply, answer) = oneshot::channel();
        let inbox = self.parts.inbox.clone();
        let alert = alert.to_owned();
        let told = std::thread::Builder::new()
            .name("press".into())
            .spawn(move || {
                let result = match answer.blocking_recv() {
                    Ok(result) => result,
                    Err(_) => Err("the monitor stopped before Docker answered; the release is asked for again at its next start".into()),
                };
                let _ = inbox.send(Inbox::PressDone { alert, result });
            });
        if let Err(e) = told {
            tracing::error!("no thread can wait for a release: {e}");
        }
        self.on_order(Order::Release(key), reply);
    }

    /// A release that a press ordered has ended.
    pub(super) fn on_press_done(&mut self, alert: &str, result: Result<serde_json::Value, String>) {
        let (title, why) = match result {
            Ok(value) => {
                let said = value["said"].as_array().into_iter().flatten();
                let said: Vec<&str> = said.filter_map(|s| s.as_str()).collect();
                let title = match value["complete"].as_bool() {
                    Some(false) => format!("Released for {alert}, but not all is as it was"),
                    _ => format!("Released for {alert}"),
                };
                (title, said.join("; "))
            }
            Err(why) => (format!("Not released for {alert}"), why),
        };
        self.tell(&Message::notice(Severity::High, &title, &why, now_ms()));
    }
}
