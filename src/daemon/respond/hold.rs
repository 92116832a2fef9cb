//! A quarantine belongs to the agent: what is unpaused, thawed, started or created anew from outside is frozen again.
//!
//! Three ways lead here. The engine tells of an unpause. A container that is marked as frozen acts, or its agent acts in a
//! container of another id (the judge sees that at the first program that runs there). And once a second the responder looks
//! whether the quarantined containers are still frozen, for a thaw by the cgroup's own file makes no record at all.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use actions::Message;
use actions::freeze::{self, FreezeTarget, Frozen};
use actions::quarantine::{By, DockerState, Quarantine, Stage};
use detector::Severity;
use serde_json::json;

use super::{Responder, short};
use crate::daemon::pipeline::target_of;
use crate::daemon::state::{read, write};
use crate::times::now_ms;

/// What was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The engine says that somebody unpaused it.
    Unpaused,
    /// It acts, or is not frozen any more.
    Runs,
}

/// What the responder remembers between two looks.
#[derive(Default)]
pub struct Watch {
    /// Quarantined containers that were not frozen at the last look.
    running: HashSet<String>,
    /// When people were last told of a disturbance, by quarantine.
    told: HashMap<String, Instant>,
    /// When Docker is asked again for a pause that failed, and after how long the next time.
    again: HashMap<String, (Instant, Duration)>,
}

/// A fight with another program is told once in so long; the history has every round.
const QUIET: Duration = Duration::from_secs(600);

impl Watch {
    /// A person released it: the next disturbance is news.
    pub fn forget(&mut self, quarantine: &str) {
        self.told.remove(quarantine);
    }
}

const FIRST_AGAIN: Duration = Duration::from_secs(2);
const LAST_AGAIN: Duration = Duration::from_secs(120);

impl Responder {
    /// Looks whether it is so, freezes again, keeps it and tells.
    pub(super) fn on_disturbed(&mut self, id: &str, what: What) {
        if self.parts.dry_run {
            return;
        }
        let known = self.container(id);
        let container = known
            .as_deref()
            .cloned()
            .unwrap_or_else(|| enricher::Container::from_id(id));
        let Some((q, by)) = self.parts.quarantines.of(&container) else {
            return;
        };
        let q = q.clone();
        // A release unpauses, too; and while a pause is handed over, the container is held by signals.
        if self.state.releasing.contains_key(&q.key()) || self.state.held.contains_key(id) {
            return;
        }
        let target = match read(&self.parts.shared.runtimes).get(id) {
            Some(runtime) => target_of(runtime),
            None if by == By::Id => q.target.clone(),
            None => return,
        };
        // Docker lets go of what it kills; only what was started since is news.
        let stopped = q.stopped_at.is_some() || self.state.steps.is_stopping(id);
        if by == By::Id && stopped && target.init_start_ticks == q.target.init_start_ticks {
            return;
        }
        let frozen_still = freeze::is_frozen(&target).unwrap_or(false);
        if frozen_still && what == What::Runs && by == By::Id {
            return;
        }
        let restarted = by == By::Id && target.init_start_ticks != q.target.init_start_ticks;
        let how = match (by, what) {
            (By::Id, What::Unpaused) => "unpaused",
            (By::Id, What::Runs) if restarted => "started again",
            (By::Id, What::Runs) => "thawed",
            _ => "created anew",
        };
        if !self.parts.hold {
            write(&self.parts.shared.quarantined).insert(id.to_owned(), now_ms());
            return self.tell_disturbance(&q, &container, how, by, None);
        }
        if !q.level.freezes() {
            return self.take_over(&q, &container, target, None, how, by);
        }
        match freeze::freeze(&target) {
            Ok(frozen) => self.hold_again(&q, &container, target, &frozen, how, by),
            Err(e) if e.is_gone() => {}
            Err(e) => {
                tracing::error!("{e}");
                self.tell_disturbance(&q, &container, how, by, Some(Err(e.to_string())));
            }
        }
    }

    fn hold_again(
        &mut self,
        q: &Quarantine,
        container: &enricher::Container,
        target: FreezeTarget,
        frozen: &Frozen,
        how: &str,
        by: By,
    ) {
        let now = now_ms();
        write(&self.parts.shared.quarantined).insert(container.id.clone(), now);
        if by == By::Id {
            let request =
                self.parts
                    .quarantines
                    .on_disturbed(target.clone(), Some(frozen), how, now);
            self.hold(&target, frozen);
            match request {
                Ok(Some(request)) => drop(self.parts.link.ask(request)),
                Ok(None) => {}
                Err(e) => tracing::error!("{e}"),
            }
            self.tell_disturbance(q, container, how, by, Some(Ok(Some(frozen))));
        } else {
            self.take_over(q, container, target, Some(frozen), how, by);
        }
    }

    /// The agent is in another container now, which gets a quarantine of its own that goes as far.
    fn take_over(
        &mut self,
        q: &Quarantine,
        container: &enricher::Container,
        target: FreezeTarget,
        frozen: Option<&Frozen>,
        how: &str,
        by: By,
    ) {
        let now = now_ms();
        if !read(&self.parts.shared.runtimes).contains_key(&q.container_id)
            && let Err(e) = self.parts.quarantines.succeed(&q.key(), &container.id, now)
        {
            tracing::error!("{e}");
        }
        let reason = format!(
            "{} is quarantined, and this container, started later, has {}",
            q.name,
            by.words()
        );
        let next = Quarantine {
            alert: q.alert.clone(),
            rule: q.rule.clone(),
            level: q.level,
            ordered: q.ordered,
            ..Quarantine::by_hand(container, &reason, target, frozen, now)
        };
        self.state.steps.free(&container.id);
        self.begin_quarantine(next, frozen);
        self.tell_disturbance(q, container, how, by, Some(Ok(frozen)));
    }

    /// Into the history every time; to people once in a while.
    fn tell_disturbance(
        &mut self,
        q: &Quarantine,
        container: &enricher::Container,
        how: &str,
        by: By,
        frozen: Option<Result<Option<&Frozen>, String>>,
    ) {
        let name = container.display_name();
        let (result, end) = match &frozen {
            Some(Ok(Some(_))) => ("frozen again", "It is frozen again."),
            Some(Ok(None)) => ("cut again", "It is being taken off its networks."),
            Some(Err(_)) => ("not frozen", "It could NOT be frozen again: it runs."),
            None => ("left running", "It runs: [quarantine] hold is off."),
        };
        tracing::warn!("{name} was {how} from outside while it is quarantined: {result}");
        self.notice("disturbed", json!({
            "container_id": container.id, "name": name, "quarantine": q.key(), "how": how, "by": by.words(), "result": result,
            "took_us": frozen.as_ref().and_then(|f| f.as_ref().ok().copied().flatten()).map(|f| f.took.as_micros() as u64),
            "why": frozen.as_ref().and_then(|f| f.as_ref().err()),
        }));
        self.state.watch.told.retain(|_, t| t.elapsed() < QUIET);
        if self.state.watch.told.contains_key(&q.key()) {
            return;
        }
        self.state.watch.told.insert(q.key(), Instant::now());
        let why = match &frozen {
            Some(Err(why)) => format!(" ({why})"),
            _ => String::new(),
        };
        let again = if by == By::Id {
            ""
        } else {
            " in another container"
        };
        let text = format!(
            "Somebody {verb} {name}{again} while {} is quarantined. {end}{why} If it was you: `{}`",
            q.name,
            actions::message::release_command(name, &container.id),
            verb = match how {
                "unpaused" => "unpaused",
                "started again" => "started",
                "thawed" => "thawed",
                _ => "started",
            },
        );
        let mut message = Message::notice(
            Severity::High,
            "A quarantine was disturbed",
            &text,
            now_ms(),
        );
        message.container = Some(name.to_owned());
        message.container_id = Some(container.id.clone());
        message.agent.clone_from(&container.agent);
        self.tell(&message);
    }

    /// Once a second: is everything that is quarantined still frozen, and does Docker agree?
    pub(super) fn look_at_quarantines(&mut self) {
        if self.parts.dry_run {
            return;
        }
        let standing: Vec<(String, FreezeTarget, bool, bool)> = self
            .parts
            .quarantines
            .standing()
            .map(|q| {
                let paused = q.docker_state == DockerState::Paused || !q.level.freezes();
                let refused = matches!(q.docker_state, DockerState::Failed { .. })
                    || paused && q.next(Stage::Pause).is_some();
                let freezes = q.level.freezes();
                (q.container_id.clone(), q.target.clone(), refused, freezes)
            })
            .collect();
        let mut running = HashSet::new();
        let mut again = std::mem::take(&mut self.state.watch.again);
        again.retain(|id, _| standing.iter().any(|(s, ..)| s == id));
        for (id, target, refused, freezes) in standing {
            let current = read(&self.parts.shared.runtimes).get(&id).map(target_of);
            let alive = current.is_some();
            let target = current.unwrap_or(target);
            if freezes && matches!(freeze::is_frozen(&target), Ok(false)) && alive {
                // Twice, so that a runtime that is just making the container is not held in the middle of it.
                if self.state.watch.running.contains(&id) {
                    self.on_disturbed(&id, What::Runs);
                }
                running.insert(id.clone());
            }
            if refused && alive {
                self.ask_again(&id, &mut again);
            } else {
                again.remove(&id);
            }
        }
        self.state.watch.running = running;
        self.state.watch.again = again;
    }

    /// What Docker refused or did not answer is asked for again, at growing distances.
    fn ask_again(&mut self, id: &str, again: &mut HashMap<String, (Instant, Duration)>) {
        let now = Instant::now();
        let (at, pause) = again
            .entry(id.to_owned())
            .or_insert((now + FIRST_AGAIN, FIRST_AGAIN));
        if now < *at {
            return;
        }
        *pause = (*pause * 2).min(LAST_AGAIN);
        *at = now + *pause;
        match self.next_of(id) {
            Some(actions::courier::wire::ToCourier::Pause { .. }) => {
                tracing::info!("asking Docker again to pause {}", short(id));
                self.ask_pause(id);
            }
            Some(request) => {
                tracing::info!(
                    "asking Docker again for what is left to do for {}",
                    short(id)
                );
                self.ask(request);
            }
            None => {}
        }
    }
}
