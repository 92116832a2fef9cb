//! Alerts that the history has and that nobody was told of: the monitor was killed between the one and the other.
//!
//! A mark in the store says up to which alert all messages are in the outbox. It is written after them and before the first of
//! them is sent, so what stands behind it is either not in the outbox or still there, and the outbox takes no alert twice. A start
//! looks at all alerts behind the mark, also at those of which only the event was kept.

use std::collections::BTreeMap;

use actions::outbox::Outbox;
use actions::{Decision, Ledger, Message, Policy, Verdict};
use anyhow::Context;
use detector::alert::AlertContainer;
use detector::{Alert, Response, Severity};
use enricher::Activity;
use history::{Clause, Field, Kind, Pattern, Query, Store};
use serde::{Deserialize, Serialize};

use super::Responder;
use crate::entries;
use crate::times::now_ms;

const AREA: &str = "outbox";
const KEY: &str = "told-up-to";

/// Rule of an alert of which only the event was kept.
pub const NOT_KEPT: &str = "not-kept";

/// How far before the mark's own time an alert behind it may lie, milliseconds: an event waits for a container's name, and clocks
/// are put right.
const BEFORE: u64 = 600_000;

/// The mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Number of the last alert whose messages are in the outbox.
    alert: u64,
    /// When that was written, milliseconds since the epoch.
    at_ms: u64,
}

/// Reads the mark.
pub fn mark(ledger: &dyn Ledger) -> anyhow::Result<Option<Told>> {
    let found = ledger.get(AREA, KEY)?;
    // One that cannot be read is none: nothing old is told, and what is told from now on has a mark again.
    Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Writes the mark: durable when it returns.
pub fn set_mark(ledger: &dyn Ledger, alert: u64) -> anyhow::Result<()> {
    let told = Told {
        alert,
        at_ms: now_ms(),
    };
    ledger.put(AREA, KEY, &serde_json::to_vec(&told)?)?;
    Ok(())
}

/// An alert behind the mark, with what was decided about it as far as that was kept.
pub type Found = (Alert, Decision);

/// Every alert behind the mark that asks for people, by number. A store without a mark, one of an earlier version, is given one at
/// its newest alert: what it has was told then.
pub fn find(store: &Store, ledger: &dyn Ledger) -> anyhow::Result<Vec<Found>> {
    let Some(told) = mark(ledger)? else {
        let newest = Query {
            kinds: vec![Kind::Alert],
            reverse: true,
            limit: Some(100),
            ..Query::default()
        };
        let rows = store.rows(&newest)?;
        let last = rows.iter().filter_map(|row| number(&row.id)).max();
        set_mark(ledger, last.unwrap_or(0))?;
        return Ok(vec![]);
    };
    let since = Query {
        since_ms: Some(told.at_ms.saturating_sub(BEFORE)),
        ..Query::default()
    };
    let mut found = BTreeMap::new();
    for row in store.rows(&Query {
        kinds: vec![Kind::Alert],
        ..since.clone()
    })? {
        if number(&row.id).is_some_and(|n| n > told.alert) {
            let alert: Alert = serde_json::from_slice(&row.body)
                .with_context(|| format!("alert {} cannot be read", row.id))?;
            found.insert(alert.id, alert);
        }
    }
    for row in store.rows(&Query {
        kinds: vec![Kind::Activity],
        all: vec![Clause {
            field: Field::Alert,
            any: vec![Pattern::Glob("A-*".into())],
            negate: false,
        }],
        ..since
    })? {
        let activity = Activity::decode(&row.body)
            .with_context(|| format!("event {} cannot be read", row.id))?;
        let numbers: Vec<u64> = activity.alerts.iter().filter_map(|a| number(a)).collect();
        for n in numbers.into_iter().filter(|n| *n > told.alert) {
            if let std::collections::btree_map::Entry::Vacant(place) = found.entry(n) {
                let alert = from_event(n, &activity);
                store.append_durable(entries::alert(&alert))?;
                place.insert(alert);
            }
        }
    }
    found
        .into_values()
        .filter(|alert| alert.response >= Response::Alert)
        .map(|alert| {
            let decision = match store.get(Kind::Decision, &format!("D-{}", alert.id))? {
                Some(row) => serde_json::from_slice(&row.body)
                    .with_context(|| format!("decision {} cannot be read", row.id))?,
                None => unknown_decision(&alert),
            };
            Ok((alert, decision))
        })
        .collect()
}

/// Puts alerts into the outbox, those that are there already not again, and then moves the mark. Gives how many were put in.
pub fn tell(
    found: &[Found],
    ledger: &dyn Ledger,
    outbox: &mut Outbox,
    host: &str,
) -> anyhow::Result<usize> {
    let mut count = 0;
    for (alert, decision) in found {
        if !outbox.has(&alert.short_id()) {
            count += 1;
        }
        outbox.enqueue(&Message::from_alert(alert, decision).on_host(host))?;
    }
    if let Some((last, _)) = found.last() {
        set_mark(ledger, last.id)?;
    }
    Ok(count)
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("A-")?.parse().ok()
}

/// What is left of an alert when the monitor was killed before it was kept: its number and its event.
fn from_event(number: u64, activity: &Activity) -> Alert {
    let process = &activity.process;
    let call = activity.syscall.as_ref();
    Alert {
        id: number,
        time_ms: activity.event.id.millis,
        severity: Severity::High,
        response: Response::AlertAndLog,
        rule: NOT_KEPT.into(),
        title: "A rule matched, and the monitor was killed before it kept which".into(),
        description: "The event was kept and the alert about it was not. Whether the container was frozen is not known: look at `docker ps` and `syscall-monitor quarantine list`.".into(),
        tags: vec![],
        event: activity.event.id.to_string(),
        matched: vec![],
        syscall: call.map(|c| c.name.to_string()).unwrap_or_default(),
        errno: call.and_then(|c| c.errno.as_ref()).map(ToString::to_string),
        container: activity.container.as_deref().map(|c| AlertContainer {
            id: c.id.clone(),
            name: c.display_name().to_owned(),
            image: c.image.clone(),
            profile: c.profile,
            agent: c.agent.clone(),
        }),
        attribution: activity.attribution,
        pid: process.pid,
        exe: process.exe.clone(),
        comm: process.comm.clone(),
        argv: process.argv.iter().take(16).cloned().collect(),
        uid: process.uid,
        user: process.user.clone(),
        ancestors: process.ancestors.iter().take(16).cloned().collect(),
        paths: activity.paths.iter().take(16).cloned().collect(),
        count: 1,
    }
}

fn unknown_decision(alert: &Alert) -> Decision {
    Decision {
        verdict: Verdict::NotifyOnly,
        level: actions::Level::Notify,
        reason: "the monitor was killed before it kept what it decided; whether the container is frozen, `docker ps` and `syscall-monitor quarantine list` say".into(),
        ..Policy::default().decide(alert, alert.time_ms, false)
    }
}

impl Responder {
    /// At the start: what the history has and nobody was told.
    pub(super) fn tell_untold(&mut self) {
        if let Err(e) = self.try_tell_untold() {
            tracing::error!("alerts of before the start may be untold: {e:#}");
        }
    }

    fn try_tell_untold(&mut self) -> anyhow::Result<()> {
        if self.parts.dry_run {
            return Ok(());
        }
        let found = find(&self.parts.store, &*self.parts.ledger)?;
        for (alert, _) in &found {
            if self.parts.outbox.has(&alert.short_id()) {
                continue;
            }
            // The same order as for a new one; a rule takes points from a container once in a window, so nothing is taken twice.
            self.judge_trust(alert);
            if alert.response >= Response::AlertAndLog
                && let Some(log) = &self.parts.log
                && let Err(e) = log.alert(alert)
            {
                // People are told all the same.
                tracing::error!("{e}");
            }
        }
        let count = tell(
            &found,
            &*self.parts.ledger,
            &mut self.parts.outbox,
            &self.parts.host,
        )?;
        if count > 0 {
            tracing::warn!(
                "{count} alerts were kept and not told before the monitor ended; they are told now"
            );
        }
        Ok(())
    }

    /// All messages about this alert are in the outbox.
    pub(super) fn told(&mut self, alert: u64) {
        self.state.told_up_to = Some(alert).max(self.state.told_up_to);
    }

    /// Moves the mark over what was told since. `false`: it could not, and nothing may be sent.
    pub(super) fn move_mark(&mut self) -> bool {
        // What the store refused comes first: the mark must not pass it. An alert that some destination has is not put there twice.
        while let Some(message) = self.state.unqueued.first() {
            if self.parts.outbox.enqueue(message).is_err() {
                return false;
            }
            self.state.unqueued.remove(0);
        }
        let Some(alert) = self.state.told_up_to else {
            return true;
        };
        match set_mark(&*self.parts.ledger, alert) {
            Ok(()) => {
                self.state.told_up_to = None;
                true
            }
            Err(e) => {
                tracing::error!("{e:#}");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actions::notify::Outcome;
    use actions::outbox::Destination;
    use collector::{Event, EventId, RecordType};

    use super::*;
    use crate::daemon::ledger::StoreLedger;

    /// A store that is opened again, as after a kill.
    struct World(tempfile::TempDir);

    struct Open {
        store: Store,
        ledger: Arc<dyn Ledger>,
        outbox: Outbox,
    }

    impl World {
        fn open(&self, channels: &[&str]) -> Open {
            let store = Store::open(self.0.path(), history::Options::default()).unwrap();
            let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store.clone()));
            let destinations = channels.iter().map(|name| Destination {
                name: (*name).into(),
                min_severity: Severity::Medium,
                pace_ms: 0,
            });
            let outbox = Outbox::new(ledger.clone(), destinations.collect()).unwrap();
            Open {
                store,
                ledger,
                outbox,
            }
        }
    }

    impl Open {
        fn recover(&mut self) -> usize {
            let found = find(&self.store, &*self.ledger).unwrap();
            tell(&found, &*self.ledger, &mut self.outbox, "host").unwrap()
        }

        fn keep(&self, id: u64) -> (Alert, Decision) {
            let (alert, decision) = case(id);
            self.store.append(entries::alert(&alert)).unwrap();
            self.store
                .append_durable(entries::decision(&decision))
                .unwrap();
            (alert, decision)
        }

        /// Sends everything; gives the ids by destination.
        fn drain(&mut self) -> Vec<String> {
            let mut sent = vec![];
            while let Some(due) = self.outbox.next_due(u64::MAX) {
                self.outbox.started(due.queue_id, 0).unwrap();
                let accepted = Outcome::Accepted {
                    remote_id: None,
                    quiet_ms: None,
                };
                self.outbox.finished(due.queue_id, &accepted, 0).unwrap();
                let repeat = if due.repeat { " repeat" } else { "" };
                let alert = due.message.alert.unwrap();
                sent.push(format!("{} {alert}{repeat}", due.destination));
            }
            sent
        }

        fn close(self) {
            drop(self.outbox);
            drop(self.ledger);
            self.store.close().unwrap();
        }
    }

    fn event() -> Activity {
        let mut event = Event::new(EventId::local(now_ms(), 7));
        event.push(RecordType::SYSCALL, br#"arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=0 ppid=7 pid=8 uid=0 comm="sh" exe="/bin/sh""#);
        enricher::Enricher::offline().enrich(event)
    }

    fn case(id: u64) -> (Alert, Decision) {
        let alert = Alert {
            rule: format!("rule-{id}"),
            title: "A shell".into(),
            ..from_event(id, &event())
        };
        let decision = Decision {
            reason: "the rule asks for an alert only".into(),
            ..unknown_decision(&alert)
        };
        (alert, decision)
    }

    fn world() -> World {
        let world = World(tempfile::tempdir().unwrap());
        let mut first = world.open(&["discord", "telegram"]);
        assert_eq!(first.recover(), 0, "a new store gets its mark");
        first.close();
        world
    }

    #[test]
    fn an_alert_that_was_kept_and_not_queued_is_told_once_after_a_start() {
        let world = world();
        let open = world.open(&["discord", "telegram"]);
        open.keep(1);
        open.close();
        let mut open = world.open(&["discord", "telegram"]);
        assert_eq!(open.recover(), 1);
        // Killed again before anything was sent: still once.
        open.close();
        let mut open = world.open(&["discord", "telegram"]);
        assert_eq!(open.recover(), 0);
        assert_eq!(open.drain(), ["discord A-1", "telegram A-1"]);
        open.close();
        let mut open = world.open(&["discord", "telegram"]);
        assert_eq!((open.recover(), open.drain()), (0, vec![]));
    }

    #[test]
    fn a_kill_between_two_destinations_or_before_the_mark_gives_no_repeat() {
        let world = world();
        let open = world.open(&["discord"]);
        let (alert, decision) = open.keep(1);
        // The first destination has it, the second one does not; the mark was not moved.
        let mut open = open;
        open.outbox
            .enqueue(&Message::from_alert(&alert, &decision))
            .unwrap();
        open.close();
        let mut open = world.open(&["discord", "telegram"]);
        open.recover();
        assert_eq!(open.drain(), ["discord A-1", "telegram A-1"]);
    }

    #[test]
    fn what_was_told_and_sent_is_not_told_again() {
        let world = world();
        let mut open = world.open(&["discord"]);
        let (alert, decision) = open.keep(1);
        tell(&[(alert, decision)], &*open.ledger, &mut open.outbox, "h").unwrap();
        assert_eq!(open.drain(), ["discord A-1"]);
        open.close();
        let mut open = world.open(&["discord"]);
        assert_eq!((open.recover(), open.drain()), (0, vec![]));
    }

    #[test]
    fn an_alert_of_which_only_the_event_was_kept_is_told_and_can_be_looked_up() {
        let world = world();
        let open = world.open(&["discord"]);
        let mut activity = event();
        activity.alerts = vec!["A-3".into()];
        let (alert, _) = case(3);
        let entry = entries::activity(&activity, std::slice::from_ref(&alert));
        open.store.append_durable(entry).unwrap();
        open.close();
        let mut open = world.open(&["discord"]);
        assert_eq!(open.recover(), 1);
        assert_eq!(open.drain(), ["discord A-3"]);
        let row = open.store.get(Kind::Alert, "A-3").unwrap().unwrap();
        let kept: Alert = serde_json::from_slice(&row.body).unwrap();
        assert_eq!(
            (kept.rule.as_str(), kept.event),
            (NOT_KEPT, activity.event.id.to_string())
        );
    }

    #[test]
    fn a_store_of_an_earlier_version_is_not_told_all_over() {
        let world = World(tempfile::tempdir().unwrap());
        let open = world.open(&["discord"]);
        (1..=30).for_each(|id| drop(open.keep(id)));
        open.close();
        let mut open = world.open(&["discord"]);
        assert_eq!(open.recover(), 0);
        open.keep(31);
        assert_eq!(open.recover(), 1);
        assert_eq!(open.drain(), ["discord A-31"]);
    }
}
