//! Buttons on their way: from a message of the outbox to a press in Telegram, to the sensor and back, through the courier.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use actions::Message;
use actions::courier::wire::{self, FromCourier, ToCourier};
use actions::courier::{self, CourierOptions};
use actions::notify::{Notifier, Outcome, Secret, Telegram};
use actions::phone::{Buttons, Judged, Phone, Press, Settings, Verb};
use common::Memory;
use detector::Severity;
use test_support::telegram;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

const ME: i64 = 4711;

fn bot(fake: &telegram::Telegram) -> Telegram {
    let chat = telegram::CHAT.to_string();
    Telegram::new(&Secret::new(telegram::TOKEN), &chat, Some(&fake.base_url())).unwrap()
}

fn phone(memory: &Memory) -> Phone {
    let settings = Settings {
        users: vec![ME],
        chat: Some(telegram::CHAT),
        lifetime_ms: 1000,
    };
    Phone::open(Arc::new(memory.clone()), settings, 0).unwrap()
}

struct Sensor {
    stream: UnixStream,
    courier: JoinHandle<std::io::Result<()>>,
}

impl Sensor {
    fn start(fake: &telegram::Telegram) -> Self {
        let (stream, theirs) = UnixStream::pair().unwrap();
        let options = CourierOptions {
            docker_socket: "/nowhere".into(),
            watch_docker: false,
            phone: Some(bot(fake)),
            poll_wait: Duration::from_secs(1),
            ..CourierOptions::default()
        };
        Self {
            stream,
            courier: tokio::spawn(courier::run(theirs, options)),
        }
    }

    async fn press(&mut self) -> Press {
        let answer = tokio::time::timeout(Duration::from_secs(10), wire::read(&mut self.stream));
        match answer.await.expect("a press").unwrap().unwrap() {
            FromCourier::Pressed { press } => press,
            other => panic!("{other:?}"),
        }
    }

    async fn handled(&mut self, press: &Press, text: &str) {
        let done = ToCourier::Handled {
            update_id: press.update_id,
            text: text.into(),
        };
        wire::write(&mut self.stream, &done).await.unwrap();
    }

    /// As a kill does: without a word.
    async fn kill(self) {
        self.courier.abort();
        let _ = self.courier.await;
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

async fn sent(fake: &telegram::Telegram, phone: &Phone) -> Buttons {
    let buttons = phone
        .issue("A-7", ("c1", "gateway"), true, 0)
        .unwrap()
        .unwrap();
    let message = Message {
        alert: Some("A-7".into()),
        buttons: Some(buttons.clone()),
        ..Message::notice(Severity::Critical, "A mount", "why", 0)
    };
    let outcome = bot(fake).deliver(&message, false).await;
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    assert!(fake.malformed().is_empty(), "{:?}", fake.malformed());
    buttons
}

#[tokio::test]
async fn the_buttons_of_a_message_come_back_as_what_they_mean() {
    let (fake, memory) = (telegram::Telegram::start(), Memory::default());
    let phone = phone(&memory);
    let buttons = sent(&fake, &phone).await;
    let mut sensor = Sensor::start(&fake);
    for verb in Verb::ALL {
        let data = fake.button(verb.label());
        assert_eq!(data, buttons.data(verb));
        fake.press(ME, &data);
        let press = sensor.press().await;
        assert_eq!((press.user, press.name.as_str()), (ME, "somebody"));
        let judged = phone.judge(&press, 0).unwrap();
        assert!(
            matches!(&judged, Judged::Allowed { verb: v, alert, .. } if *v == verb && alert == "A-7"),
            "{judged:?}"
        );
        sensor.handled(&press, "done").await;
    }
}

#[tokio::test]
async fn a_press_is_confirmed_only_when_it_was_handled_and_its_answer_is_told() {
    let fake = telegram::Telegram::start();
    let mut sensor = Sensor::start(&fake);
    let id = fake.press(ME, "r:A-7:nonce");
    let press = sensor.press().await;
    // Longer than a poll: were it confirmed by itself, it would be now.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(fake.unconfirmed(), 1);
    sensor.handled(&press, &"long ".repeat(200)).await;
    eventually("the confirmation", || fake.unconfirmed() == 0).await;
    let told = fake.answer_to(&id).unwrap();
    assert!(told.starts_with("long long") && told.chars().count() <= 200);
}

#[tokio::test]
async fn a_press_that_a_kill_cut_short_comes_again_and_is_handled_once() {
    let (fake, memory) = (telegram::Telegram::start(), Memory::default());
    let mut first = phone(&memory);
    sent(&fake, &first).await;
    let mut sensor = Sensor::start(&fake);
    let id = fake.press(ME, &fake.button("Release"));
    let press = sensor.press().await;
    // Killed before it was written down: it comes again, and may be done.
    sensor.kill().await;
    let mut sensor = Sensor::start(&fake);
    assert_eq!(sensor.press().await, press);
    assert!(matches!(
        first.judge(&press, 0).unwrap(),
        Judged::Allowed { .. }
    ));
    first.handled(&press, "released").unwrap();
    // Killed between writing it down and confirming it: it comes again, and is not done again.
    sensor.kill().await;
    let mut sensor = Sensor::start(&fake);
    let press = sensor.press().await;
    let Judged::Again(said) = phone(&memory).judge(&press, 0).unwrap() else {
        panic!("it would be done twice");
    };
    sensor.handled(&press, &said).await;
    eventually("the confirmation", || fake.unconfirmed() == 0).await;
    assert_eq!(fake.answer_to(&id).as_deref(), Some("released"));
}

#[tokio::test]
async fn a_stranger_an_old_button_and_a_guessed_nonce_are_refused() {
    let (fake, memory) = (telegram::Telegram::start(), Memory::default());
    let phone = phone(&memory);
    sent(&fake, &phone).await;
    let data = fake.button("Release");
    let mut sensor = Sensor::start(&fake);
    let guessed = format!("{}0000", &data[..data.len() - 4]);
    for (user, data, now, why) in [
        (1, data.as_str(), 0, "not allowed"),
        (ME, data.as_str(), 1001, "too old"),
        (ME, guessed.as_str(), 0, "nonce"),
        (ME, "rm -rf /\u{202e}", 0, "no button"),
    ] {
        fake.press(user, data);
        let press = sensor.press().await;
        match phone.judge(&press, now).unwrap() {
            Judged::Refused(said) => assert!(said.contains(why), "{said}"),
            other => panic!("{why}: {other:?}"),
        }
        sensor.handled(&press, "refused").await;
    }
    fake.press_in(5, ME, &data);
    let press = sensor.press().await;
    assert!(matches!(
        phone.judge(&press, 0).unwrap(),
        Judged::Refused(_)
    ));
}

#[tokio::test]
async fn where_nobody_may_press_there_are_no_buttons_and_nobody_polls() {
    let fake = telegram::Telegram::start();
    let memory = Memory::default();
    let off = Phone::open(Arc::new(memory), Settings::default(), 0).unwrap();
    assert_eq!(off.issue("A-7", ("c1", "g"), true, 0).unwrap(), None);
    let message = Message::notice(Severity::Critical, "A mount", "why", 0);
    bot(&fake).deliver(&message, false).await;
    assert!(fake.accepted()[0].body.get("reply_markup").is_none());
}
