//! From one step of a quarantine to the next: pause, restart policy, networks, stop; each as far as the level goes, and each
//! durable before the one after it.
//!
//! Networks are cut and a container is stopped when its evidence was taken, for both change what there is to see.

use super::{
    DockerState, Quarantine, QuarantineError, Quarantines, disable_request, pause_request,
};
use crate::courier::wire::{Inspection, ToCourier};
use crate::docker::Cut;
use crate::policy::Level;

/// What Docker does for a quarantine, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What is there is written down, and it is paused if its level freezes.
    Pause,
    /// The restart policy becomes `no`.
    Restart,
    /// It is taken off its networks.
    Cut,
    /// It is killed.
    Stop,
}

/// What somebody outside undid of a quarantine, seen by a look at the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slipped {
    /// The restart policy that it has now in place of `no`.
    pub restart_policy: Option<String>,
    /// Networks that it is in although it was taken off them, or that are new.
    pub networks: Vec<String>,
}

impl Slipped {
    /// Nothing was undone?
    pub fn is_empty(&self) -> bool {
        self.restart_policy.is_none() && self.networks.is_empty()
    }

    /// In words, after "somebody".
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        if let Some(policy) = &self.restart_policy {
            parts.push(format!("set its restart policy to {policy:?}"));
        }
        if !self.networks.is_empty() {
            parts.push(format!("connected it to {}", self.networks.join(", ")));
        }
        parts.join(" and ")
    }
}

impl Quarantine {
    /// The first thing to ask for.
    pub(super) fn first_request(&self) -> ToCourier {
        self.next(Stage::Pause)
            .unwrap_or_else(|| pause_request(self))
    }

    /// What is to be asked for next, from this stage on; `None` when nothing is left, or when something is waited for.
    pub fn next(&self, from: Stage) -> Option<ToCourier> {
        if from == Stage::Pause {
            if self.level.freezes() && self.docker_state != DockerState::Paused {
                return Some(pause_request(self));
            }
            if self.before.is_none() {
                return Some(ToCourier::Inspect {
                    container_id: self.container_id.clone(),
                });
            }
        }
        // Who runs on may be started again by Docker.
        if from <= Stage::Restart && self.level.freezes() && !self.restart_disabled {
            return Some(disable_request(self));
        }
        let waits = self.level.freezes() && self.wants_evidence && self.evidence.is_none();
        if waits {
            return None;
        }
        if from <= Stage::Cut && self.level.cuts() && self.cut.is_none() {
            return Some(self.cut_request());
        }
        (self.level.stops() && self.stopped_at.is_none()).then(|| ToCourier::Stop {
            container_id: self.container_id.clone(),
        })
    }

    pub(super) fn cut_request(&self) -> ToCourier {
        ToCourier::Cut {
            container_id: self.container_id.clone(),
            exact_only: self.level.cuts_exact_only(),
            was: Box::new(self.before.clone().unwrap_or_default()),
        }
    }

    /// Is everything done that Docker was to do?
    pub fn is_settled(&self) -> bool {
        self.next(Stage::Pause).is_none() && !(self.wants_evidence && self.evidence.is_none())
    }

    /// What of it was undone, by what Docker says of the container now.
    pub fn slipped(&self, now: &Inspection) -> Slipped {
        let mut slipped = Slipped::default();
        if self.restart_disabled {
            slipped.restart_policy = now
                .before
                .restart_policy
                .clone()
                .filter(|p| !matches!(p.as_str(), "no" | ""));
        }
        if let (Some(cut), Some(was)) = (&self.cut, &self.before)
            && cut.impossible.is_none()
        {
            let kept = |name: &str| cut.kept.iter().any(|(k, _)| k == name);
            slipped.networks = now
                .before
                .networks
                .keys()
                .filter(|n| *n != "none" && !(was.networks.contains_key(*n) && kept(n)))
                .cloned()
                .collect();
        }
        slipped
    }
}

impl Quarantines {
    /// The courier answered a question about a container. The first answer is what was found (durable before anything is
    /// changed) and gives the next request.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_inspected(
        &mut self,
        container_id: &str,
        result: &Result<Box<Inspection>, String>,
        now_ms: u64,
    ) -> Result<Option<ToCourier>, QuarantineError> {
        let Some(mut q) = self.by_id(container_id).filter(|q| q.before.is_none()) else {
            return Ok(None);
        };
        let next = match result {
            Ok(seen) => {
                q.before = Some(seen.before.clone());
                q.trouble = None;
                q.next(Stage::Restart)
            }
            Err(why) => {
                q.trouble = Some(why.clone());
                q.step("docker inspect", false, why.clone(), now_ms);
                None
            }
        };
        self.save(q)?;
        Ok(next)
    }

    /// The courier answered a request to take it off its networks.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_cut(
        &mut self,
        container_id: &str,
        result: &Result<Cut, String>,
        now_ms: u64,
    ) -> Result<Option<ToCourier>, QuarantineError> {
        let Some(mut q) = self.by_id(container_id) else {
            return Ok(None);
        };
        match result {
            Ok(cut) => {
                let said = match &cut.impossible {
                    Some(why) => format!(
                        "{why}; `{}` ends it",
                        crate::message::stop_command(&q.name, &q.container_id)
                    ),
                    None => cut.words(),
                };
                q.step("network cut", cut.impossible.is_none(), said, now_ms);
                q.cut = Some(cut.clone());
                if !cut.networks.is_empty() {
                    q.cut_at = Some(now_ms);
                }
                q.trouble = None;
            }
            Err(why) => {
                q.step("network cut", false, why.clone(), now_ms);
                q.trouble = Some(why.clone());
            }
        }
        let next = q.next(Stage::Stop);
        self.save(q)?;
        Ok(next)
    }

    /// The courier answered a request to stop it.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_stopped(
        &mut self,
        container_id: &str,
        result: &Result<(), String>,
        now_ms: u64,
    ) -> Result<(), QuarantineError> {
        let Some(mut q) = self.by_id(container_id) else {
            return Ok(());
        };
        let detail = result
            .as_ref()
            .map_or_else(Clone::clone, |()| "killed".to_owned());
        q.step("stop", result.is_ok(), detail, now_ms);
        q.stopped_at = result.is_ok().then_some(now_ms);
        q.trouble = result.as_ref().err().cloned();
        self.save(q)
    }

    /// An image was made of its files, as evidence.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_committed(
        &mut self,
        container_id: &str,
        result: &Result<String, String>,
        now_ms: u64,
    ) -> Result<(), QuarantineError> {
        // It may be released by now; the image is its all the same.
        let found = self.list().filter(|q| q.container_id == container_id);
        let Some(mut q) = found.max_by_key(|q| q.at_ms).cloned() else {
            return Ok(());
        };
        let detail = result.clone().unwrap_or_else(|why| why);
        q.step("image", result.is_ok(), detail, now_ms);
        q.evidence_image = result.clone().ok().or(q.evidence_image);
        self.save(q)
    }

    /// The budget forbids what the level wants beyond a freeze. A quarantine that was to cut only ends with this.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_limited(
        &mut self,
        container_id: &str,
        why: &str,
        now_ms: u64,
    ) -> Result<(), QuarantineError> {
        let Some(mut q) = self.by_id(container_id) else {
            return Ok(());
        };
        q.step("budget", false, why, now_ms);
        q.level = q.level.reversible_part();
        if q.level == Level::Notify {
            q.released_at = Some(now_ms);
        }
        self.save(q)
    }

    /// Somebody undid a part of it: what has to be asked for again.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_slipped(
        &mut self,
        container_id: &str,
        slipped: &Slipped,
        now_ms: u64,
    ) -> Result<Vec<ToCourier>, QuarantineError> {
        let Some(mut q) = self.by_id(container_id) else {
            return Ok(Vec::new());
        };
        let mut requests = Vec::new();
        if slipped.restart_policy.is_some() {
            q.restart_disabled = false;
            requests.push(disable_request(&q));
        }
        if !slipped.networks.is_empty() {
            requests.push(q.cut_request());
        }
        q.step(
            "disturbed",
            false,
            format!("somebody {}", slipped.words()),
            now_ms,
        );
        self.save(q)?;
        Ok(requests)
    }

    /// A person wants a quarantine to go further. What is to be asked for; `None` when nothing is left to do now.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn raise(
        &mut self,
        container_id: &str,
        level: Level,
        now_ms: u64,
    ) -> Result<Option<ToCourier>, QuarantineError> {
        let Some(mut q) = self.by_id(container_id).filter(|q| q.level < level) else {
            return Ok(None);
        };
        q.step("level", true, format!("{} by a person", level), now_ms);
        if level.cuts() && !level.cuts_exact_only() {
            // What was left in its networks goes too.
            q.cut = q.cut.filter(|cut| cut.kept.is_empty());
        }
        q.level = level;
        q.ordered = true;
        let next = q.next(Stage::Pause);
        self.save(q)?;
        Ok(next)
    }

    /// When cuts and stops were made for alerts, milliseconds since the epoch: what the budget has seen.
    pub fn spent(&self) -> impl Iterator<Item = u64> {
        self.list()
            .filter(|q| !q.ordered)
            .flat_map(|q| [q.cut_at, q.stopped_at])
            .flatten()
    }
}

#[cfg(test)]
mod tests;
