//! Messages on their way to the fakes of Discord and Telegram: outbox, courier's channels, the services' answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actions::Message;
use actions::notify::{Discord, Notifier, Outcome, Secret, Telegram};
use actions::outbox::{Destination, Outbox};
use common::Memory;
use detector::Severity;
use test_support::Behaviour::{
    self, CloseAfterRead, Hang, Ok as Takes, Status, TakeAndClose, TooMany,
};
use test_support::{discord, telegram};

fn discord_channel(fake: &discord::Discord) -> Discord {
    Discord::new(
        &Secret::new(&discord::Discord::real_url()),
        Some(&fake.base_url()),
    )
    .unwrap()
}

fn telegram_channel(fake: &telegram::Telegram) -> Telegram {
    Telegram::new(
        &Secret::new(telegram::TOKEN),
        &telegram::CHAT.to_string(),
        Some(&fake.base_url()),
    )
    .unwrap()
}

fn notice(title: &str) -> Message {
    Message {
        alert: Some(title.to_owned()),
        ..Message::notice(
            Severity::Critical,
            title,
            "why *not* <b>@all</b>",
            1_772_361_015_042,
        )
    }
}

#[tokio::test]
async fn both_services_take_a_message_in_their_own_form() {
    let (d, t) = (discord::Discord::start(), telegram::Telegram::start());
    let outcome = discord_channel(&d).deliver(&notice("A-1"), false).await;
    assert!(
        matches!(
            outcome,
            Outcome::Accepted {
                remote_id: Some(_),
                ..
            }
        ),
        "{outcome:?}"
    );
    let outcome = telegram_channel(&t).deliver(&notice("A-1"), true).await;
    assert!(
        matches!(
            outcome,
            Outcome::Accepted {
                remote_id: Some(_),
                ..
            }
        ),
        "{outcome:?}"
    );
    assert!(d.malformed().is_empty() && t.malformed().is_empty());
    assert!(d.accepted()[0].path.ends_with("?wait=true"));
    assert!(
        t.accepted()[0]
            .text
            .as_ref()
            .unwrap()
            .contains("possible repeat of A-1")
    );
}

#[tokio::test]
async fn answers_are_told_apart() {
    let (d, t) = (discord::Discord::start(), telegram::Telegram::start());
    let channels: [(&dyn Notifier, &test_support::peer::Peer); 2] =
        [(&discord_channel(&d), &d), (&telegram_channel(&t), &t)];
    for (channel, fake) in channels {
        for (behaviour, expected) in [
            (TooMany(2.0), "later 2000"),
            (Status(429), "later 1000"),
            (Status(500), "later -"),
            (Status(503), "later -"),
            (Status(502), "unknown"),
            (Status(504), "unknown"),
            (Status(401), "stop"),
            (Status(403), "stop"),
            (Status(404), "stop"),
            (CloseAfterRead, "unknown"),
            (TakeAndClose, "unknown"),
            (Status(302), "never"),
        ] {
            fake.script([behaviour]);
            let outcome = channel.deliver(&notice("A-1"), false).await;
            let said = match &outcome {
                Outcome::Accepted { .. } => "accepted".to_owned(),
                Outcome::Refused {
                    permanent: false,
                    retry_after_ms: None,
                    ..
                } => "later -".to_owned(),
                Outcome::Refused {
                    permanent: false,
                    retry_after_ms: Some(ms),
                    ..
                } => format!("later {ms}"),
                Outcome::Refused { channel: true, .. } => "stop".to_owned(),
                Outcome::Refused { .. } => "never".to_owned(),
                Outcome::Unknown { .. } => "unknown".to_owned(),
            };
            assert_eq!(
                said,
                expected,
                "{} {behaviour:?}: {outcome:?}",
                channel.kind()
            );
        }
    }
}

#[tokio::test]
async fn discord_names_fractions_of_a_second() {
    let d = discord::Discord::start();
    d.script([TooMany(0.3)]);
    let outcome = discord_channel(&d).deliver(&notice("A-1"), false).await;
    assert!(
        matches!(
            outcome,
            Outcome::Refused {
                retry_after_ms: Some(300),
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn who_cannot_be_reached_has_surely_not_got_it() {
    let address = discord::Discord::start().base_url();
    let channel =
        Discord::new(&Secret::new(&discord::Discord::real_url()), Some(&address)).unwrap();
    let outcome = channel.deliver(&notice("A-1"), false).await;
    assert!(
        matches!(
            outcome,
            Outcome::Refused {
                permanent: false,
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_form_that_is_refused_is_sent_in_its_shortest_form() {
    let (d, t) = (discord::Discord::start(), telegram::Telegram::start());
    d.script([Status(400), Takes]);
    t.script([Status(400), Takes]);
    assert!(matches!(
        discord_channel(&d).deliver(&notice("A-7"), false).await,
        Outcome::Accepted { .. }
    ));
    assert!(matches!(
        telegram_channel(&t).deliver(&notice("A-7"), false).await,
        Outcome::Accepted { .. }
    ));
    assert!(
        d.accepted()[0].all().contains("A\\\\-7"),
        "{}",
        d.accepted()[0].all()
    );
    assert!(t.accepted()[0].all().contains("A-7"));
}

#[tokio::test]
async fn no_error_shows_an_address_or_a_token() {
    let (d, t) = (discord::Discord::start(), telegram::Telegram::start());
    let (dc, tc) = (discord_channel(&d), telegram_channel(&t));
    let mut said = format!("{dc:?} {tc:?}");
    for behaviour in [
        CloseAfterRead,
        Status(401),
        Status(404),
        Status(500),
        TooMany(1.0),
        Status(302),
        Status(418),
    ] {
        d.script([behaviour]);
        t.script([behaviour]);
        said.push_str(&format!("{:?}", dc.deliver(&notice("A-1"), false).await));
        said.push_str(&format!("{:?}", tc.deliver(&notice("A-1"), false).await));
    }
    let (down, up) = (d.base_url(), d);
    drop(up);
    let gone = Discord::new(&Secret::new(&discord::Discord::real_url()), Some(&down)).unwrap();
    said.push_str(&format!("{:?}", gone.deliver(&notice("A-1"), false).await));
    for bad in [
        "ftp://x/api/webhooks/1/S3CRET-token",
        "http://example.com/api/webhooks/1/S3CRET-token",
        "https://x/S3CRET-token",
        "S3CRET-token",
    ] {
        let error = Discord::new(&Secret::new(bad), None).unwrap_err();
        said.push_str(&format!("{error} {error:?}"));
    }
    for (bad, base) in [
        ("S3CRET-token", None),
        (telegram::TOKEN, Some("http://example.com")),
        (telegram::TOKEN, Some("nonsense")),
    ] {
        let error = Telegram::new(&Secret::new(bad), "1", base).unwrap_err();
        said.push_str(&format!("{error} {error:?}"));
    }
    for secret in [
        discord::TOKEN,
        telegram::TOKEN,
        &telegram::TOKEN[11..],
        "S3CRET",
    ] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

/// Drives an outbox as the daemon does, against the fakes, until it is idle. Time passes ten times as fast for the outbox,
/// so that a pause of a second is one of 0.1 s.
async fn drive(outbox: &mut Outbox, channels: &BTreeMap<String, Arc<dyn Notifier>>) {
    let begin = Instant::now();
    let now = || u64::try_from(begin.elapsed().as_millis()).unwrap() * 10;
    while !outbox.is_idle() {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{:?}",
            outbox.status()
        );
        let Some(due) = outbox.next_due(now()) else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        outbox.started(due.queue_id, now()).unwrap();
        let deliver = channels[&due.destination].deliver(&due.message, due.repeat);
        let outcome = tokio::time::timeout(Duration::from_millis(500), deliver)
            .await
            .unwrap_or(Outcome::Unknown {
                why: "no answer in time".into(),
            });
        outbox.finished(due.queue_id, &outcome, now()).unwrap();
    }
}

fn ids(fake: &test_support::peer::Peer) -> Vec<String> {
    let title = |r: &test_support::Received| match &r.text {
        Some(text) => text.lines().next().unwrap_or("").to_owned(),
        None => r.body["embeds"][0]["title"]
            .as_str()
            .unwrap_or("")
            .replace('\\', ""),
    };
    fake.accepted()
        .iter()
        .map(|r| {
            let id = title(r)
                .split_whitespace()
                .find(|w| w.starts_with("A-"))
                .unwrap_or("?")
                .trim_end_matches(':')
                .to_owned();
            if r.all().contains("possible repeat") {
                format!("{id} repeat")
            } else {
                id
            }
        })
        .collect()
}

#[tokio::test]
async fn each_alert_arrives_and_a_repeat_only_where_acceptance_is_unknown() {
    let (d, t) = (discord::Discord::start(), telegram::Telegram::start());
    let script: [Behaviour; 8] = [
        TooMany(0.2),
        Takes,
        Status(500),
        Takes,
        CloseAfterRead,
        TakeAndClose,
        Hang,
        Takes,
    ];
    d.script(script);
    t.script([Status(503), TooMany(1.0), Takes, TakeAndClose]);
    let memory = Memory::default();
    let settings = |name: &str| Destination {
        name: name.into(),
        min_severity: Severity::Medium,
        pace_ms: 0,
    };
    let open = || {
        Outbox::new(
            Arc::new(memory.clone()),
            vec![settings("discord"), settings("telegram")],
        )
        .unwrap()
    };
    let mut outbox = open();
    for n in 1..=4 {
        outbox.enqueue(&notice(&format!("A-{n}"))).unwrap();
    }
    let channels: BTreeMap<String, Arc<dyn Notifier>> = [
        (
            "discord".to_owned(),
            Arc::new(discord_channel(&d)) as Arc<dyn Notifier>,
        ),
        ("telegram".to_owned(), Arc::new(telegram_channel(&t))),
    ]
    .into();
    drive(&mut outbox, &channels).await;
    // A-1 was put off by a 429, A-2 by a 500: once each, without a mark. A-3's connection was closed, then closed after it
    // was taken, then it hung: what arrives later is marked.
    assert_eq!(ids(&d), ["A-1", "A-2", "A-3 repeat", "A-3 repeat", "A-4"]);
    assert_eq!(ids(&t), ["A-1", "A-2", "A-2 repeat", "A-3", "A-4"]);
    assert!(d.malformed().is_empty() && t.malformed().is_empty());
    assert!(open().is_idle(), "nothing is left in the ledger");
}
