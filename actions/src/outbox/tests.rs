use super::*;
use crate::fixture::alert;
use crate::ledger::memory::Memory;
use crate::policy::Policy;

fn message(id: u64) -> Message {
    let alert = alert(id);
    Message::from_alert(&alert, &Policy::default().decide(&alert, 0, false))
}

fn to(name: &str) -> Destination {
    Destination {
        name: name.into(),
        min_severity: Severity::Medium,
        pace_ms: 0,
    }
}

fn open(memory: &Memory, names: &[&str]) -> Outbox {
    Outbox::new(
        Arc::new(memory.clone()),
        names.iter().map(|n| to(n)).collect(),
    )
    .unwrap()
}

fn accepted() -> Outcome {
    Outcome::Accepted {
        remote_id: None,
        quiet_ms: None,
    }
}

fn refused(retry_after_ms: Option<u64>) -> Outcome {
    Outcome::Refused {
        permanent: false,
        channel: false,
        why: "busy".into(),
        retry_after_ms,
    }
}

fn id_of(due: &Due) -> String {
    due.message.alert.clone().unwrap()
}

/// Sends what is due until nothing is; gives what was sent, `A-1` or `A-1 repeat`.
fn drain(outbox: &mut Outbox, now: u64) -> Vec<String> {
    let mut sent = vec![];
    while let Some(due) = outbox.next_due(now) {
        outbox.started(due.queue_id, now).unwrap();
        sent.push(format!(
            "{}{}",
            id_of(&due),
            if due.repeat { " repeat" } else { "" }
        ));
        outbox.finished(due.queue_id, &accepted(), now).unwrap();
    }
    sent
}

#[test]
fn each_destination_gets_all_in_order() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord", "telegram"]);
    for id in 1..=3 {
        assert_eq!(outbox.enqueue(&message(id)).unwrap(), 2);
    }
    let sent = drain(&mut outbox, 0);
    assert_eq!(sent, ["A-1", "A-2", "A-3", "A-1", "A-2", "A-3"]);
    assert!(outbox.is_idle() && memory.queue_list(QUEUE).unwrap().is_empty());
}

#[test]
fn severities_below_the_channel_s_do_not_go_there() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    let mut low = message(1);
    low.severity = Severity::Low;
    assert_eq!(outbox.enqueue(&low).unwrap(), 0);
    assert!(outbox.next_due(0).is_none());
}

#[test]
fn one_message_of_a_destination_is_on_its_way_at_a_time() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    outbox.enqueue(&message(1)).unwrap();
    outbox.enqueue(&message(2)).unwrap();
    let first = outbox.next_due(0).unwrap();
    outbox.started(first.queue_id, 0).unwrap();
    assert!(outbox.next_due(u64::MAX).is_none());
    outbox.finished(first.queue_id, &accepted(), 0).unwrap();
    assert_eq!(id_of(&outbox.next_due(0).unwrap()), "A-2");
}

#[test]
fn a_crash_after_the_attempt_gives_a_marked_repeat_and_one_before_it_does_not() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    outbox.enqueue(&message(1)).unwrap();
    outbox.enqueue(&message(2)).unwrap();
    let due = outbox.next_due(0).unwrap();
    drop(outbox);
    let mut outbox = open(&memory, &["discord"]);
    assert!(
        !outbox.next_due(0).unwrap().repeat,
        "it was due and not started"
    );
    outbox.started(due.queue_id, 0).unwrap();
    drop(outbox);
    let mut outbox = open(&memory, &["discord"]);
    assert_eq!(drain(&mut outbox, 0), ["A-1 repeat", "A-2"]);
}

#[test]
fn a_lost_answer_gives_a_marked_repeat_and_a_refusal_does_not() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    outbox.enqueue(&message(1)).unwrap();
    let due = outbox.next_due(0).unwrap();
    outbox.started(due.queue_id, 0).unwrap();
    outbox.finished(due.queue_id, &refused(None), 0).unwrap();
    drop(outbox);
    // Also after a crash: the refusal was written down.
    let mut outbox = open(&memory, &["discord"]);
    let due = outbox.next_due(0).unwrap();
    assert!(!due.repeat);
    outbox.started(due.queue_id, 0).unwrap();
    outbox
        .finished(due.queue_id, &Outcome::Unknown { why: "hung".into() }, 0)
        .unwrap();
    let due = outbox.next_due(u64::MAX).unwrap();
    assert!(due.repeat);
    // A refusal of the repeat does not make the first one certain.
    outbox.started(due.queue_id, 0).unwrap();
    outbox.finished(due.queue_id, &refused(None), 0).unwrap();
    assert!(outbox.next_due(u64::MAX).unwrap().repeat);
}

#[test]
fn a_service_that_names_a_time_is_obeyed() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord", "telegram"]);
    outbox.enqueue(&message(1)).unwrap();
    let due = outbox.next_due(1000).unwrap();
    outbox.started(due.queue_id, 1000).unwrap();
    outbox
        .finished(due.queue_id, &refused(Some(64_570)), 1000)
        .unwrap();
    // The other destination does not wait.
    assert_eq!(outbox.next_due(1000).unwrap().destination, "telegram");
    assert_eq!(drain(&mut outbox, 65_569), ["A-1"]);
    assert!(outbox.next_wake().unwrap() >= 65_570);
    assert_eq!(drain(&mut outbox, 65_570 + 250), ["A-1"]);
}

#[test]
fn pauses_grow_and_have_an_end() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    outbox.enqueue(&message(1)).unwrap();
    let mut pauses = vec![];
    for _ in 0..30 {
        let due = outbox.next_due(u64::MAX).unwrap();
        outbox.started(due.queue_id, 0).unwrap();
        outbox.finished(due.queue_id, &refused(None), 0).unwrap();
        pauses.push(outbox.next_wake().unwrap());
    }
    assert!((PAUSE / 2..=PAUSE).contains(&pauses[0]), "{pauses:?}");
    assert!(
        pauses[9..]
            .iter()
            .all(|p| (LONGEST / 2..=LONGEST).contains(p)),
        "{pauses:?}"
    );
}

#[test]
fn a_dead_channel_stops_with_its_reason_and_others_go_on() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord", "telegram"]);
    outbox.enqueue(&message(1)).unwrap();
    let due = outbox.next_due(0).unwrap();
    outbox.started(due.queue_id, 0).unwrap();
    let dead = Outcome::Refused {
        permanent: true,
        channel: true,
        why: "401".into(),
        retry_after_ms: None,
    };
    outbox.finished(due.queue_id, &dead, 0).unwrap();
    outbox.enqueue(&message(2)).unwrap();
    assert_eq!(drain(&mut outbox, u64::MAX), ["A-1", "A-2"]);
    let status = &outbox.status()[0];
    assert_eq!(
        (status.waiting, status.stopped.as_deref()),
        (2, Some("401"))
    );
    outbox.resume("discord");
    assert_eq!(drain(&mut outbox, 0), ["A-1", "A-2"]);
}

#[test]
fn a_message_that_no_repetition_heals_does_not_block_the_rest() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    outbox.enqueue(&message(1)).unwrap();
    outbox.enqueue(&message(2)).unwrap();
    let due = outbox.next_due(0).unwrap();
    outbox.started(due.queue_id, 0).unwrap();
    let bad = Outcome::Refused {
        permanent: true,
        channel: false,
        why: "400".into(),
        retry_after_ms: None,
    };
    outbox.finished(due.queue_id, &bad, 0).unwrap();
    assert_eq!(outbox.status()[0].refused, 1);
    assert_eq!(drain(&mut outbox, 0), ["A-2"]);
}

#[test]
fn a_lost_courier_may_have_sent_it() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    outbox.enqueue(&message(1)).unwrap();
    let due = outbox.next_due(0).unwrap();
    outbox.started(due.queue_id, 0).unwrap();
    outbox.courier_lost(0).unwrap();
    assert!(outbox.next_due(u64::MAX).unwrap().repeat);
}

#[test]
fn a_storm_becomes_a_digest_that_names_every_alert() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    for id in 1..=500 {
        outbox.enqueue(&message(id)).unwrap();
    }
    assert_eq!(memory.queue_list(QUEUE).unwrap().len(), WAITING);
    drop(outbox);
    let mut outbox = open(&memory, &["discord"]);
    let mut named = std::collections::BTreeSet::new();
    while let Some(due) = outbox.next_due(0) {
        named.insert(id_of(&due));
        named.extend(due.message.more.iter().flat_map(|m| m.ids.clone()));
        outbox.started(due.queue_id, 0).unwrap();
        outbox.finished(due.queue_id, &accepted(), 0).unwrap();
    }
    assert_eq!(named.len(), 500);
}

/// Every number that a text names, ranges taken apart.
fn numbers(text: &str) -> std::collections::BTreeSet<u64> {
    let text = text.replace('\\', "");
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || ",.:;<>\"".contains(c))
        .filter(|w| !w.is_empty())
        .collect();
    let number = |w: &str| w.strip_prefix("A-")?.parse::<u64>().ok();
    let mut all: std::collections::BTreeSet<u64> = words.iter().filter_map(|w| number(w)).collect();
    for three in words.windows(3) {
        if let (Some(from), "to", Some(to)) = (number(three[0]), three[1], number(three[2])) {
            all.extend(from..=to);
        }
    }
    all
}

#[test]
fn in_a_storm_few_messages_name_every_alert_in_every_service_s_form() {
    for (step, most) in [(1, STORM + 1), (2, STORM + 10)] {
        let memory = Memory::default();
        let mut outbox = open(&memory, &["discord"]);
        let ids: Vec<u64> = (1..=1000).map(|n| n * step).collect();
        for id in &ids {
            let mut medium = message(*id);
            medium.severity = Severity::Medium;
            medium.why = "w".repeat(3000);
            medium.process = Some("p".repeat(3000));
            medium.release = None;
            outbox.enqueue(&medium).unwrap();
        }
        let mut seen = [vec![], vec![], vec![], vec![]];
        let mut sent = 0;
        while let Some(due) = outbox.next_due(0) {
            sent += 1;
            let m = &due.message;
            for (texts, text) in seen.iter_mut().zip([
                crate::message::discord::embed(m, true).to_string(),
                crate::message::discord::minimal(m).to_string(),
                crate::message::telegram::html(m, true),
                crate::message::telegram::minimal(m),
            ]) {
                texts.extend(numbers(&text));
            }
            outbox.started(due.queue_id, 0).unwrap();
            outbox.finished(due.queue_id, &accepted(), 0).unwrap();
        }
        assert!(sent <= most, "{sent} messages");
        for mut named in seen {
            named.sort_unstable();
            assert_eq!(named, ids, "each once");
        }
    }
}

#[test]
fn a_critical_alert_has_a_message_of_its_own_also_in_a_storm() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    for id in 1..=100 {
        let mut m = message(id);
        if id != 50 {
            m.severity = Severity::Medium;
        }
        outbox.enqueue(&m).unwrap();
    }
    let mut own = vec![];
    while let Some(due) = outbox.next_due(0) {
        own.push((id_of(&due), due.message.more.map_or(0, |m| m.count)));
        outbox.started(due.queue_id, 0).unwrap();
        outbox.finished(due.queue_id, &accepted(), 0).unwrap();
    }
    assert_eq!(own.len(), STORM + 2, "{own:?}");
    assert_eq!(
        own[STORM - 1..],
        [
            ("A-20".to_owned(), 29),
            ("A-50".to_owned(), 0),
            ("A-51".to_owned(), 49)
        ]
    );
}

#[test]
fn an_alert_that_waits_already_is_not_put_in_again() {
    let memory = Memory::default();
    open(&memory, &["discord"]).enqueue(&message(1)).unwrap();
    let mut outbox = open(&memory, &["discord", "telegram"]);
    outbox.enqueue(&message(1)).unwrap();
    assert!(outbox.has("A-1") && !outbox.has("A-2"));
    let due = outbox.next_due(0).unwrap();
    assert_eq!(due.destination, "discord");
    assert_eq!(drain(&mut outbox, 0), ["A-1", "A-1"], "once for each");
}

#[test]
fn what_is_known_later_takes_the_place_of_what_was_told() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord", "syslog"]);
    let mut later = message(1);
    later.why = "seen 57 times".into();
    outbox.enqueue(&message(1)).unwrap();
    // It waits: one message, which says the newer thing.
    outbox.edit(&later).unwrap();
    assert_eq!(memory.queue_list(QUEUE).unwrap().len(), 2);
    let taken = |id: &str| Outcome::Accepted {
        remote_id: Some(id.into()),
        quiet_ms: None,
    };
    let due = outbox.next_due(0).unwrap();
    assert_eq!(
        (due.message.why.as_str(), due.edit),
        ("seen 57 times", None)
    );
    outbox.started(due.queue_id, 0).unwrap();
    // It is on its way, and not known by a name yet: what it says now is told by the next edit.
    outbox.edit(&message(1)).unwrap();
    outbox.finished(due.queue_id, &taken("4711"), 0).unwrap();
    drop(outbox);
    // The service has it, also after a restart: edited, and edits that wait are one.
    let mut outbox = open(&memory, &["discord", "syslog"]);
    outbox.edit(&message(1)).unwrap();
    outbox.edit(&later).unwrap();
    let due = outbox.next_due(0).unwrap();
    assert_eq!(
        (
            due.destination.as_str(),
            due.edit.as_deref(),
            due.message.why.as_str()
        ),
        ("discord", Some("4711"), "seen 57 times")
    );
    outbox.started(due.queue_id, 0).unwrap();
    outbox.finished(due.queue_id, &taken("4711"), 0).unwrap();
    // The other one had not been sent: it was changed where it waits.
    let due = outbox.next_due(0).unwrap();
    assert_eq!(
        (due.destination.as_str(), due.edit, due.message.why.as_str()),
        ("syslog", None, "seen 57 times")
    );
    // A service without names for messages is not told again.
    outbox.started(due.queue_id, 0).unwrap();
    outbox.finished(due.queue_id, &accepted(), 0).unwrap();
    outbox.edit(&later).unwrap();
    let due = outbox.next_due(0).unwrap();
    assert_eq!(due.destination, "discord");
    assert_eq!(memory.queue_list(QUEUE).unwrap().len(), 1);
}

#[test]
fn nothing_is_sent_that_was_not_written_down_first() {
    let memory = Memory::default();
    let mut outbox = open(&memory, &["discord"]);
    outbox.enqueue(&message(1)).unwrap();
    let due = outbox.next_due(0).unwrap();
    memory.fail(true);
    assert!(outbox.started(due.queue_id, 0).is_err());
    assert!(outbox.next_due(0).is_none(), "the destination pauses");
    memory.fail(false);
    assert_eq!(drain(&mut outbox, 10_000), ["A-1"]);
}

#[test]
fn what_waits_for_a_channel_that_is_gone_is_counted() {
    let memory = Memory::default();
    open(&memory, &["discord"]).enqueue(&message(1)).unwrap();
    let outbox = open(&memory, &["telegram"]);
    assert_eq!((outbox.orphans(), outbox.is_idle()), (1, true));
}

mod random {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Act {
        Enqueue,
        Start,
        Answer(u8),
        Crash,
        Later(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            1 => Just(Act::Enqueue),
            3 => Just(Act::Start),
            3 => (0u8..4).prop_map(Act::Answer),
            1 => Just(Act::Crash),
            1 => (0u64..600_000).prop_map(Act::Later),
        ]
    }

    proptest! {
        /// Whatever happens: every message reaches the service, in order of first arrival, and it arrives twice only when
        /// the second one was marked.
        #[test]
        fn at_least_once_in_order_and_marked(acts in prop::collection::vec(act(), 0..80)) {
            let memory = Memory::default();
            let mut outbox = open(&memory, &["discord"]);
            let (mut now, mut count, mut open_one) = (0u64, 0u64, None::<Due>);
            // What the service took: id and mark.
            let mut service: Vec<(String, bool)> = vec![];
            let mut acts = acts;
            acts.extend((0..200).flat_map(|_| [Act::Later(600_000), Act::Start, Act::Answer(0)]));
            for act in acts {
                match act {
                    Act::Enqueue => {
                        count += 1;
                        outbox.enqueue(&message(count)).unwrap();
                    }
                    Act::Start => if let Some(due) = outbox.next_due(now) {
                        prop_assert!(open_one.is_none());
                        outbox.started(due.queue_id, now).unwrap();
                        open_one = Some(due);
                    },
                    Act::Answer(how) => if let Some(due) = open_one.take() {
                        // 0 taken; 1 refused; 2 taken, answer lost; 3 not taken, answer lost.
                        if how == 0 || how == 2 {
                            service.push((id_of(&due), due.repeat));
                        }
                        let outcome = match how {
                            0 => accepted(),
                            1 => refused(None),
                            _ => Outcome::Unknown { why: String::new() },
                        };
                        outbox.finished(due.queue_id, &outcome, now).unwrap();
                    },
                    Act::Crash => {
                        if let Some(due) = open_one.take() {
                            service.push((id_of(&due), due.repeat));
                        }
                        outbox = open(&memory, &["discord"]);
                    }
                    Act::Later(ms) => now += ms,
                }
            }
            let mut seen = vec![];
            for (id, marked) in &service {
                if seen.contains(id) {
                    prop_assert!(*marked, "{id} arrived again without a mark");
                } else {
                    seen.push(id.clone());
                }
            }
            let expected: Vec<String> = (1..=count).map(|n| format!("A-{n}")).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
