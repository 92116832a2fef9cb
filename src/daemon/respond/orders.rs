//! What a person orders: list, apply and release quarantines, read the channels again.

use std::sync::Arc;

use actions::Level;
use actions::courier::wire::ToCourier;
use actions::freeze::{self, FreezeTarget};
use actions::outbox::Outbox;
use actions::quarantine::Quarantine;
use enricher::Container;
use serde_json::{Value, json};

use super::{Order, Reply, Responder};
use crate::daemon::pipeline::target_of;
use crate::daemon::state::read;
use crate::times::now_ms;

impl Responder {
    pub(super) fn on_order(&mut self, order: Order, reply: Reply) {
        let answer = match order {
            Order::List => self
                .parts
                .quarantines
                .list()
                .map(serde_json::to_value)
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array)
                .map_err(|e| e.to_string()),
            Order::Apply(name, level) => self.apply(&name, level),
            Order::SetTrust(agent, score) => self.set_trust(&agent, score),
            Order::ReloadChannels => {
                self.parts.outbox =
                    match Outbox::new(self.parts.ledger.clone(), (self.parts.destinations)()) {
                        Ok(outbox) => outbox,
                        Err(e) => return drop(reply.send(Err(e.to_string()))),
                    };
                Ok(json!({"said": ["the channels are read again"]}))
            }
            Order::Release(what) if self.released_before(&what).is_some() => {
                let said = self.released_before(&what);
                Ok(json!({"said": said.into_iter().collect::<Vec<_>>(), "complete": true}))
            }
            Order::Release(what) => match self.release(&what) {
                Ok(request) => {
                    let ToCourier::Release { quarantine } = &request else {
                        return;
                    };
                    let key = quarantine.key();
                    if self.parts.link.ask(request) {
                        self.state.releasing.insert(key, reply);
                        return;
                    }
                    Err("too many requests wait for Docker; try again in a moment".into())
                }
                Err(e) => Err(e),
            },
        };
        let _ = reply.send(answer);
    }

    /// The request to release. A container that is frozen and of which there is no record (a history that was broken and moved
    /// aside) is given one, so that the same command brings it back.
    fn release(&mut self, what: &str) -> Result<ToCourier, String> {
        let unknown = match self.parts.quarantines.find(what) {
            Some(q) if q.stands() => {
                return self
                    .parts
                    .quarantines
                    .release(what)
                    .map_err(|e| e.to_string());
            }
            _ => actions::quarantine::QuarantineError::Unknown(what.to_owned()).to_string(),
        };
        let Some((container, target)) = self.held(what) else {
            return Err(unknown);
        };
        let reason = "found frozen, and there is no record of why; what its restart policy and networks were is not known";
        let q = Quarantine::by_hand(&container, reason, target, None, now_ms());
        let key = q.key();
        self.parts.quarantines.begin(q).map_err(|e| e.to_string())?;
        self.parts
            .quarantines
            .release(&key)
            .map_err(|e| e.to_string())
    }

    /// A running container of that name that is frozen.
    fn held(&self, what: &str) -> Option<(Arc<Container>, FreezeTarget)> {
        let container = self.running(what).ok()?;
        let target = read(&self.parts.shared.runtimes)
            .get(&container.id)
            .map(target_of)?;
        freeze::is_frozen(&target)
            .unwrap_or(false)
            .then_some((container, target))
    }

    /// What to say of a container that a person released already: nothing is done twice.
    pub(super) fn released_before(&self, what: &str) -> Option<String> {
        let q = self.parts.quarantines.find(what).filter(|q| !q.stands())?;
        if self.held(what).is_some() {
            return None;
        }
        let at = crate::times::rfc3339(q.released_at.unwrap_or(0));
        Some(format!(
            "{} is not quarantined; it was released at {at}",
            q.name
        ))
    }

    /// The running container that a person names.
    fn running(&self, name: &str) -> Result<Arc<Container>, String> {
        let running = read(&self.parts.shared.runtimes).clone();
        let containers = read(&self.parts.shared.containers).clone();
        let alive = || containers.iter().filter(|c| running.contains_key(&c.id));
        let mut by_id = alive().filter(|c| name.len() >= 4 && c.id.starts_with(name));
        match alive().find(|c| c.name.as_deref() == Some(name)) {
            Some(container) => Ok(container.clone()),
            None => match (by_id.next(), by_id.next()) {
                (Some(only), None) => Ok(only.clone()),
                (Some(_), Some(_)) => Err(format!(
                    "several containers have ids that begin with {name}; write more of it"
                )),
                (None, _) => Err(format!(
                    "no running container {name:?} is known; `docker ps` lists them"
                )),
            },
        }
    }

    pub(super) fn apply(&mut self, name: &str, level: Level) -> Result<Value, String> {
        let container = self.running(name)?;
        let target = read(&self.parts.shared.runtimes).get(&container.id).map(target_of).ok_or_else(|| format!("the cgroup of container {name:?} is not known yet; try again in a moment, or use `docker pause {name}`"))?;
        let shown = container.display_name();
        let standing = self
            .parts
            .quarantines
            .standing()
            .find(|q| q.container_id == container.id)
            .cloned();
        let now = now_ms();
        if let Some(q) = standing.filter(|q| q.level >= level || q.level.freezes()) {
            let since = crate::times::rfc3339(q.at_ms);
            if q.level >= level {
                return Ok(
                    json!({"said": [format!("{shown} is quarantined already, since {since}")]}),
                );
            }
            let next = self.parts.quarantines.raise(&container.id, level, now);
            self.go_on(next)?;
            return Ok(
                json!({"said": [format!("{shown} is quarantined since {since}; its level is {level} now, and Docker is asked for the rest")]}),
            );
        }
        let frozen = if level.freezes() {
            Some(freeze::freeze(&target).map_err(|e| e.to_string())?)
        } else {
            None
        };
        let quarantine = Quarantine {
            level,
            ..Quarantine::by_hand(
                &container,
                "ordered by a person",
                target,
                frozen.as_ref(),
                now_ms(),
            )
        };
        self.begin_quarantine(quarantine, frozen.as_ref());
        self.notice(
            "quarantine-by-hand",
            json!({"container_id": container.id, "name": shown, "level": level}),
        );
        let first = match &frozen {
            Some(frozen) => format!(
                "{shown} is frozen ({} µs); Docker is asked to say paused",
                frozen.took.as_micros()
            ),
            None => format!("Docker is asked to take {shown} off its networks; it runs on"),
        };
        Ok(json!({"said": [
            first,
            format!("release it with: syscall-monitor quarantine release {}", crate::show::quote(shown)),
        ]}))
    }
}
