//! Answers from the phone: what a button below a message does, for whom, and only once.

use serde_json::Value;
use test_support::telegram::Telegram;
use test_support::{World, eventually, kernel};

use crate::{PATIENCE, alert, gateway, paused, settled, world};

const ME: i64 = 4711;

/// The answer that Telegram showed for a press.
fn answer(telegram: &Telegram, press: &str) -> String {
    eventually("an answer to the press", PATIENCE, || {
        telegram.answer_to(press)
    })
}

/// Every press that the history has, oldest first.
fn presses(world: &World) -> Vec<Value> {
    world
        .cli(&["history", "notices", "--since", "1h", "--output", "jsonl"])
        .jsonl()
        .into_iter()
        .filter(|n| n["what"] == "press")
        .map(|n| n["details"].clone())
        .collect()
}

fn with_buttons(telegram: &Telegram) -> World {
    world()
        .telegram(&telegram.base_url())
        .config(&format!("[notify.telegram]\nanswer_from = [{ME}]\n"))
        .start()
}

#[test]
fn a_press_releases_keeps_and_tells_where_the_evidence_is_for_the_right_person_once() {
    if !kernel::wanted(
        "a_press_releases_keeps_and_tells_where_the_evidence_is_for_the_right_person_once",
    ) {
        return;
    }
    let telegram = Telegram::start();
    let mut world = with_buttons(&telegram);
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    eventually("the message with its buttons", PATIENCE, || {
        telegram
            .accepted()
            .iter()
            .any(|m| m.all().contains("Release"))
            .then_some(())
    });
    let release = telegram.button("Release");

    let said = answer(&telegram, &telegram.press(1, &release));
    assert!(said.contains("not allowed"), "{said}");
    let guessed = format!("{}000000", &release[..release.len() - 6]);
    let said = answer(&telegram, &telegram.press(ME, &guessed));
    assert!(said.contains("nonce"), "{said}");
    let said = answer(&telegram, &telegram.press(ME, &telegram.button("Keep")));
    assert!(said.contains("stays frozen"), "{said}");
    assert!(container.is_frozen());
    let evidence = world.state_dir().join("evidence");
    eventually("where the evidence is", PATIENCE, || {
        let said = answer(&telegram, &telegram.press(ME, &telegram.button("Evidence")));
        said.contains(evidence.to_str()?).then_some(())
    });

    // Pressed while nobody listens: done once, when somebody does again.
    world.kill();
    let press = telegram.press(ME, &release);
    world.start();
    let said = answer(&telegram, &press);
    assert!(said.contains("is being released"), "{said}");
    eventually("the container runs again", PATIENCE, || {
        (container.status() == "running" && !container.is_frozen()).then_some(())
    });
    container.exec(&["true"]).expect_ok();
    eventually("word of the release", PATIENCE, || {
        let released = |m: &test_support::Received| m.all().contains("Released for A-1");
        telegram.accepted().iter().any(released).then_some(())
    });
    let said = answer(&telegram, &telegram.press(ME, &release));
    assert!(said.contains("not frozen"), "{said}");

    eventually("every press is confirmed", PATIENCE, || {
        (telegram.unconfirmed() == 0).then_some(())
    });
    let all = presses(&world);
    let done = |p: &&Value| p["result"].as_str().unwrap().contains("is being released");
    assert_eq!(all.iter().filter(done).count(), 1, "{all:#?}");
    let refused: Vec<_> = all.iter().filter(|p| p["accepted"] == false).collect();
    assert_eq!(refused.len(), 2, "{all:#?}");
    assert_eq!(
        (&refused[0]["user"], &refused[1]["user"]),
        (&1.into(), &ME.into())
    );
    assert!(
        telegram.malformed().is_empty(),
        "{:?}",
        telegram.malformed()
    );
}

#[test]
fn a_press_makes_an_exception_for_exactly_this_case() {
    if !kernel::wanted("a_press_makes_an_exception_for_exactly_this_case") {
        return;
    }
    let telegram = Telegram::start();
    let folder = tempfile::tempdir().unwrap();
    crate::storm::rules(folder.path(), 1);
    let packs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("audit-rules");
    let world = world()
        .telegram(&telegram.base_url())
        .config(&format!("[notify.telegram]\nanswer_from = [{ME}]\n"))
        .config(&format!(
            "[rules]\ndirs = [{packs:?}, {:?}]\n",
            folder.path()
        ))
        .start();
    let container = gateway(&world);
    let run = |word: &str| {
        container
            .exec(&["/bin/true", word, "storm-0-end"])
            .expect_ok();
        world.barrier();
    };
    run("one");
    alert(&world, "openclaw-gateway", "medium");
    eventually("the message", PATIENCE, || {
        (!telegram.accepted().is_empty()).then_some(())
    });
    let before = world.alerts(&["--since", "1h"]).len();
    let sensor = world.pid_of("sensor");
    let press = telegram.press(ME, &telegram.button("Except"));
    eventually("a sensor with the exception", PATIENCE, || {
        world.try_pid_of("sensor").filter(|pid| *pid != sensor)
    });
    let said = answer(&telegram, &press);
    assert!(said.contains("no alert of this rule"), "{said}");
    settled(&world, &container);
    run("one");
    assert_eq!(world.alerts(&["--since", "1h"]).len(), before);
    run("two");
    eventually("an alert about another case", PATIENCE, || {
        (world.alerts(&["--since", "1h"]).len() > before).then_some(())
    });
    assert_eq!(presses(&world).len(), 1);
}

#[test]
fn without_allowed_accounts_there_are_no_buttons() {
    if !kernel::wanted("without_allowed_accounts_there_are_no_buttons") {
        return;
    }
    let telegram = Telegram::start();
    let world = world().telegram(&telegram.base_url()).start();
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    let messages = telegram.wait_accepted(1, PATIENCE);
    assert!(messages[0].body.get("reply_markup").is_none());
    telegram.press(ME, "r:A-1:");
    world.barrier();
    assert_eq!(telegram.unconfirmed(), 1, "nobody asks for presses");
}
