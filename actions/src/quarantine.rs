//! What is quarantined, durable before Docker is called, and kept under the agent's name rather than the container's id: an
//! agent that is started again or created anew from outside is still quarantined.

use std::collections::BTreeMap;
use std::sync::Arc;

use detector::Alert;
use enricher::container::{Container, Profile};
use serde::{Deserialize, Serialize};

use crate::courier::wire::{ReleaseReport, ToCourier};
use crate::docker::{Before, Cut, PauseFailure, Paused};
use crate::evidence::Summary;
use crate::freeze::{FreezeTarget, Frozen, How};
use crate::ledger::{Ledger, LedgerError};
use crate::policy::{Level, Step};

mod claim;
mod ladder;

pub use claim::{By, Claim, Identity};
pub use ladder::{Slipped, Stage};

/// Area of the ledger.
pub const AREA: &str = "quarantine";

/// Does Docker agree?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum DockerState {
    /// Not asked, or not answered yet.
    #[default]
    Pending,
    /// It says paused.
    Paused,
    /// It refused, or does not answer; asked again when the engine is back.
    Failed {
        /// Why.
        why: String,
    },
}

/// One quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Id of the container that was frozen.
    pub container_id: String,
    /// Its name.
    pub name: String,
    /// Instance.
    pub agent: Option<String>,
    /// Image.
    pub image: Option<String>,
    /// Profile.
    pub profile: Option<Profile>,
    /// Alert (`A-42`), or nothing when a person ordered it.
    pub alert: Option<String>,
    /// Id of the rule.
    pub rule: Option<String>,
    /// Why, one sentence.
    pub reason: String,
    /// When the freeze had taken hold, milliseconds since the epoch.
    pub at_ms: u64,
    /// By which file; `None` when it could not be frozen directly and Docker alone was asked.
    pub frozen_how: Option<How>,
    /// How long the freeze took, microseconds.
    pub frozen_us: u64,
    /// What to thaw.
    pub target: FreezeTarget,
    /// Does Docker agree?
    pub docker_state: DockerState,
    /// Restart policy as found, in Docker's words, and networks as found. `None` until Docker was asked.
    pub before: Option<Before>,
    /// The restart policy was set to `no` by us.
    pub restart_disabled: bool,
    /// How far it goes.
    #[serde(default = "before_levels")]
    pub level: Level,
    /// A person ordered it, or ordered it to go further: no budget holds that up.
    #[serde(default)]
    pub ordered: bool,
    /// What came of taking it off its networks; `None` until that is done.
    #[serde(default)]
    pub cut: Option<Cut>,
    /// When it was cut, milliseconds since the epoch.
    #[serde(default)]
    pub cut_at: Option<u64>,
    /// When it was stopped by us, milliseconds since the epoch.
    #[serde(default)]
    pub stopped_at: Option<u64>,
    /// Evidence is to be taken before its networks are cut and before it is stopped.
    #[serde(default)]
    pub wants_evidence: bool,
    /// Why Docker did not do the last step that it was asked for; asked again.
    #[serde(default)]
    pub trouble: Option<String>,
    /// What tells the agent when it comes back in another container.
    #[serde(default)]
    pub identity: Identity,
    /// Sets two quarantines of the same agent and name apart: digits of the second container's id.
    #[serde(default)]
    pub twin: Option<String>,
    /// What was kept of it; `None` until that is done.
    #[serde(default)]
    pub evidence: Option<Summary>,
    /// Image that was made of it, `sha256:…`.
    #[serde(default)]
    pub evidence_image: Option<String>,
    /// The container is gone, and the agent came back in this one, which has a quarantine of its own.
    #[serde(default)]
    pub succeeded_by: Option<String>,
    /// A person released it, milliseconds since the epoch.
    pub released_at: Option<u64>,
    /// What was done, in order.
    pub steps: Vec<Step>,
}

/// A quarantine that was stored before there were levels was a freeze.
fn before_levels() -> Level {
    Level::Freeze
}

impl Quarantine {
    /// A quarantine for an alert. `at_ms` is the moment after the freeze.
    pub fn for_alert(
        alert: &Alert,
        reason: &str,
        target: FreezeTarget,
        frozen: Option<&Frozen>,
        at_ms: u64,
    ) -> Self {
        let container = alert.container.clone().unwrap_or_default();
        Self {
            container_id: target.container_id.clone(),
            name: container.name,
            agent: container.agent,
            image: container.image,
            profile: container.profile,
            alert: Some(alert.short_id()),
            rule: Some(alert.rule.clone()),
            ..Self::base(reason, target, frozen, at_ms)
        }
    }

    /// A quarantine that a person ordered.
    pub fn by_hand(
        container: &Container,
        reason: &str,
        target: FreezeTarget,
        frozen: Option<&Frozen>,
        at_ms: u64,
    ) -> Self {
        Self {
            name: container.display_name().to_owned(),
            agent: container.agent.clone(),
            image: container.image.clone(),
            profile: container.profile,
            ordered: true,
            ..Self::base(reason, target, frozen, at_ms)
        }
    }

    fn base(reason: &str, target: FreezeTarget, frozen: Option<&Frozen>, at_ms: u64) -> Self {
        Self {
            container_id: target.container_id.clone(),
            name: String::new(),
            agent: None,
            image: None,
            profile: None,
            alert: None,
            rule: None,
            reason: reason.to_owned(),
            at_ms,
            frozen_how: frozen.map(|f| f.how),
            frozen_us: frozen.map_or(0, |f| u64::try_from(f.took.as_micros()).unwrap_or(u64::MAX)),
            target,
            docker_state: DockerState::Pending,
            before: None,
            restart_disabled: false,
            level: Level::Freeze,
            ordered: false,
            cut: None,
            cut_at: None,
            stopped_at: None,
            wants_evidence: false,
            trouble: None,
            identity: Identity::default(),
            twin: None,
            evidence: None,
            evidence_image: None,
            succeeded_by: None,
            released_at: None,
            steps: Vec::new(),
        }
    }

    /// Key in the ledger: `agent/name`, each with `-` when it is not known. Neither can hold a `/` in Docker.
    pub fn key(&self) -> String {
        let key = key(self.agent.as_deref(), &self.name);
        match &self.twin {
            Some(digits) => format!("{key}#{digits}"),
            None => key,
        }
    }

    /// What it takes to know the agent again.
    pub fn claim(&self) -> Claim {
        Claim {
            container_id: self.container_id.clone(),
            name: self.name.clone(),
            agent: self.agent.clone(),
            at_ms: self.at_ms,
            runs: !self.level.freezes(),
            identity: self.identity.clone(),
        }
    }

    /// Still in force?
    pub fn stands(&self) -> bool {
        self.released_at.is_none() && self.succeeded_by.is_none()
    }

    /// The command that releases it; always safe to paste into a shell.
    pub fn release_command(&self) -> String {
        crate::message::release_command(&self.name, &self.container_id)
    }

    fn step(&mut self, what: &str, ok: bool, detail: impl Into<String>, at_ms: u64) {
        // An engine that refuses for days must not make the record grow without end.
        if self.steps.len() < 64 {
            self.steps.push(Step {
                what: what.to_owned(),
                ok,
                detail: detail.into(),
                at_ms,
                took_us: 0,
            });
        }
    }
}

fn key(agent: Option<&str>, name: &str) -> String {
    let part = |s: &str| {
        if s.is_empty() {
            "-".to_owned()
        } else {
            s.replace('/', "_")
        }
    };
    format!("{}/{}", part(agent.unwrap_or("")), part(name))
}

/// A quarantine could not be kept or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuarantineError {
    /// The store refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What is stored cannot be read.
    #[error(
        "the quarantine {key:?} in the store cannot be read ({why}); look with `syscall-monitor history verify`"
    )]
    Unreadable {
        /// Key.
        key: String,
        /// Why.
        why: String,
    },
    /// No such quarantine.
    #[error("no quarantine of {0:?}; `syscall-monitor quarantine list` shows all")]
    Unknown(String),
}

/// All quarantines, in memory and in the ledger.
///
/// The way of one: [`begin`](Self::begin) (durable; gives the request to pause) → [`on_paused`](Self::on_paused) (what was
/// found is durable; gives the request to disable the restart policy) → [`on_restart_disabled`](Self::on_restart_disabled)
/// → [`release`](Self::release) (gives the request to the courier) → [`on_released`](Self::on_released), then the sensor
/// thaws.
pub struct Quarantines {
    ledger: Arc<dyn Ledger>,
    all: BTreeMap<String, Quarantine>,
}

impl std::fmt::Debug for Quarantines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quarantines")
            .field("all", &self.all)
            .finish_non_exhaustive()
    }
}

impl Quarantines {
    /// Reads them from the ledger. One that cannot be read is left where it is and returned beside, to be reported.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn open(ledger: Arc<dyn Ledger>) -> Result<(Self, Vec<QuarantineError>), QuarantineError> {
        let mut all = BTreeMap::new();
        let mut bad = Vec::new();
        for (key, value) in ledger.scan(AREA)? {
            match serde_json::from_slice::<Quarantine>(&value) {
                Ok(q) => drop(all.insert(key, q)),
                Err(e) => bad.push(QuarantineError::Unreadable {
                    key,
                    why: e.to_string(),
                }),
            }
        }
        Ok((Self { ledger, all }, bad))
    }

    /// Those in force.
    pub fn standing(&self) -> impl Iterator<Item = &Quarantine> {
        self.all.values().filter(|q| q.stands())
    }

    /// All, also the released ones (the last one of each agent and name).
    pub fn list(&self) -> impl Iterator<Item = &Quarantine> {
        self.all.values()
    }

    /// The one in force that this container falls under, and by what: its id first, else see [`Claim::on`].
    pub fn of(&self, container: &Container) -> Option<(&Quarantine, By)> {
        let mut all: Vec<_> = self
            .standing()
            .filter_map(|q| Some((q, q.claim().on(container)?)))
            .collect();
        all.sort_by_key(|(_, by)| *by);
        all.into_iter().next()
    }

    /// By what a person types: name, agent, key, or the first digits (at least four) of the id. One in force is preferred
    /// to one that was released; first digits that fit several containers find none.
    pub fn find(&self, what: &str) -> Option<&Quarantine> {
        let exact =
            |q: &&Quarantine| q.name == what || q.agent.as_deref() == Some(what) || q.key() == what;
        let prefix = |q: &&Quarantine| what.len() >= 4 && q.container_id.starts_with(what);
        let only = |mut hits: Vec<&'_ Quarantine>| {
            if hits.len() == 1 {
                hits.pop().map(Quarantine::key)
            } else {
                None
            }
        };
        let key = self
            .standing()
            .find(exact)
            .map(Quarantine::key)
            .or_else(|| only(self.standing().filter(prefix).collect()))
            .or_else(|| self.list().find(exact).map(Quarantine::key))
            .or_else(|| only(self.list().filter(prefix).collect()))?;
        self.all.get(&key)
    }

    /// The last release of this name or agent: rule and time, for the policy's cool-down.
    pub fn last_release(&self, name: &str, agent: Option<&str>) -> Option<(String, u64)> {
        let q = self.all.get(&key(agent, name))?;
        Some((q.rule.clone()?, q.released_at?))
    }

    fn save(&mut self, q: Quarantine) -> Result<(), QuarantineError> {
        let value = serde_json::to_vec(&q).map_err(|e| QuarantineError::Unreadable {
            key: q.key(),
            why: e.to_string(),
        })?;
        // Memory first: should the store be full, the quarantine stands all the same as long as we live.
        let key = q.key();
        self.all.insert(key.clone(), q);
        Ok(self.ledger.put(AREA, &key, &value)?)
    }

    /// A container was frozen. Durable when it returns; the request is for the courier. What an earlier quarantine of the
    /// same container found (restart policy, networks) is kept, since Docker now shows what *we* made of it.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`]: the quarantine is in force and in memory, but not durable; the caller still sends
    /// [`Quarantines::pause_request`].
    pub fn begin(&mut self, mut q: Quarantine) -> Result<ToCourier, QuarantineError> {
        // The agent in a second container while the first is still there: neither takes the other's place.
        if let Some(old) = self.all.get(&q.key())
            && old.container_id != q.container_id
            && old.stands()
        {
            q.twin = Some(q.container_id.chars().take(12).collect());
        }
        if let Some(old) = self.all.get(&q.key())
            && old.container_id == q.container_id
            && old.stands()
        {
            q.before = q.before.or_else(|| old.before.clone());
            q.restart_disabled |= old.restart_disabled;
            q.level = q.level.max(old.level);
            q.ordered |= old.ordered;
            q.cut = q.cut.or_else(|| old.cut.clone());
            q.cut_at = q.cut_at.or(old.cut_at);
            q.evidence = q.evidence.or_else(|| old.evidence.clone());
            q.steps = old.steps.clone();
        }
        let at = q.at_ms;
        if q.level.freezes() {
            let detail = match q.frozen_how {
                Some(how) => format!("{how:?} in {} µs", q.frozen_us),
                None => "not directly; Docker alone is asked".to_owned(),
            };
            q.step("freeze", q.frozen_how.is_some(), detail, at);
        }
        let request = q.first_request();
        self.save(q)?;
        Ok(request)
    }

    /// The request to pause it, again: the engine came back, or the daemon was started again.
    pub fn pause_request(q: &Quarantine) -> ToCourier {
        pause_request(q)
    }

    /// What has to be asked of the courier after a start, or when the engine is back: everything that is not done yet.
    pub fn unfinished(&self) -> Vec<ToCourier> {
        self.standing()
            .filter_map(|q| q.next(Stage::Pause))
            .collect()
    }

    fn by_id(&self, container_id: &str) -> Option<Quarantine> {
        self.standing()
            .find(|q| q.container_id == container_id)
            .cloned()
    }

    /// The courier answered a request to pause. What it found is durable before the next request, which changes it.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_paused(
        &mut self,
        container_id: &str,
        result: &Result<Paused, PauseFailure>,
        now_ms: u64,
    ) -> Result<Option<ToCourier>, QuarantineError> {
        let Some(mut q) = self.by_id(container_id) else {
            return Ok(None);
        };
        let next = match result {
            Ok(paused) => {
                q.docker_state = DockerState::Paused;
                if q.before.is_none() {
                    q.before = Some(paused.before.clone());
                }
                let detail = if paused.already {
                    "Docker said paused already"
                } else {
                    "Docker says paused"
                };
                q.step("docker pause", true, detail, now_ms);
                q.next(Stage::Restart)
            }
            Err(failure) => {
                q.docker_state = DockerState::Failed {
                    why: failure.to_string(),
                };
                q.step("docker pause", false, failure.to_string(), now_ms);
                None
            }
        };
        self.save(q)?;
        Ok(next)
    }

    /// The courier answered a request to disable the restart policy.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_restart_disabled(
        &mut self,
        container_id: &str,
        result: &Result<(), String>,
        now_ms: u64,
    ) -> Result<Option<ToCourier>, QuarantineError> {
        let Some(mut q) = self.by_id(container_id) else {
            return Ok(None);
        };
        q.restart_disabled = result.is_ok();
        q.trouble = result.as_ref().err().cloned();
        let detail = result
            .as_ref()
            .map_or_else(Clone::clone, |()| "no".to_owned());
        q.step("restart policy", result.is_ok(), detail, now_ms);
        // A restart policy that cannot be set keeps nobody on the network.
        let next = q.next(Stage::Cut);
        self.save(q)?;
        Ok(next)
    }

    /// Its evidence was taken. What waited for that is the request that comes back.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_evidence(
        &mut self,
        container_id: &str,
        summary: Summary,
        now_ms: u64,
    ) -> Result<Option<ToCourier>, QuarantineError> {
        // It may be released by now; the evidence is its all the same.
        let found = self.all.values().filter(|q| q.container_id == container_id);
        let Some(mut q) = found.max_by_key(|q| q.at_ms).cloned() else {
            return Ok(None);
        };
        let detail = match &summary.dir {
            Some(dir) => format!(
                "{} files, {} bytes in {}",
                summary.files,
                summary.bytes,
                dir.display()
            ),
            None => summary.failed.join("; "),
        };
        q.step("evidence", summary.dir.is_some(), detail, now_ms);
        q.evidence = Some(summary);
        let settled =
            q.docker_state == DockerState::Paused && (q.restart_disabled || q.trouble.is_some());
        let next = if q.stands() && settled {
            q.next(Stage::Cut)
        } else {
            None
        };
        self.save(q)?;
        Ok(next)
    }

    /// The request to release, by what a person typed. Nothing is changed yet.
    ///
    /// # Errors
    /// [`QuarantineError::Unknown`].
    pub fn release(&self, what: &str) -> Result<ToCourier, QuarantineError> {
        let q = self
            .find(what)
            .ok_or_else(|| QuarantineError::Unknown(what.to_owned()))?;
        Ok(ToCourier::Release {
            quarantine: Box::new(q.clone()),
        })
    }

    /// The courier released it, and the sensor thawed it. When `complete` is not said the quarantine stands.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_released(
        &mut self,
        key: &str,
        report: &ReleaseReport,
        now_ms: u64,
    ) -> Result<(), QuarantineError> {
        let Some(mut q) = self.all.get(key).cloned() else {
            return Ok(());
        };
        q.step("release", report.complete, report.said.join("; "), now_ms);
        if report.complete && q.stands() {
            q.released_at = Some(now_ms);
        }
        self.save(q)
    }

    /// The container of this quarantine is gone, and its agent came back in another one, which is to be quarantined next.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn succeed(&mut self, key: &str, by: &str, now_ms: u64) -> Result<(), QuarantineError> {
        let Some(mut q) = self.all.get(key).cloned() else {
            return Ok(());
        };
        q.step("succeeded", true, format!("by container {by}"), now_ms);
        q.succeeded_by = Some(by.to_owned());
        self.save(q)
    }

    /// A quarantined container was unpaused, thawed or started from outside, and was frozen again: the quarantine stands,
    /// and Docker is to be asked again. Gives the request. `target` is where it was frozen now.
    ///
    /// # Errors
    /// [`QuarantineError::Ledger`].
    pub fn on_disturbed(
        &mut self,
        target: FreezeTarget,
        frozen: Option<&Frozen>,
        what: &str,
        now_ms: u64,
    ) -> Result<Option<ToCourier>, QuarantineError> {
        let Some(mut q) = self.by_id(&target.container_id) else {
            return Ok(None);
        };
        q.docker_state = DockerState::Pending;
        // It may have been started, and not only thawed.
        q.stopped_at = None;
        q.target = target;
        if let Some(frozen) = frozen {
            q.frozen_how = Some(frozen.how);
        }
        let detail = if frozen.is_some() {
            format!("{what} from outside; frozen again")
        } else {
            format!("{what} from outside")
        };
        q.step("disturbed", frozen.is_some(), detail, now_ms);
        let request = pause_request(&q);
        self.save(q)?;
        Ok(Some(request))
    }
}

fn pause_request(q: &Quarantine) -> ToCourier {
    ToCourier::Pause {
        container_id: q.container_id.clone(),
        handover: crate::courier::wire::Handover::of(q.frozen_how),
    }
}

fn disable_request(q: &Quarantine) -> ToCourier {
    ToCourier::DisableRestart {
        container_id: q.container_id.clone(),
    }
}

#[cfg(test)]
mod tests;
