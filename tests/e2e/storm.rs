//! A storm of alerts while Discord is down and the daemon is killed: each alert is told once, and the reader waits for nobody.
//! SYSCALL_MONITOR_LONG=1 makes a thousand alerts in a minute; without it sixty in some seconds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::discord::Discord;
use test_support::peer::{Down, Received};
use test_support::{Container, World, eventually, kernel};

use crate::{PATIENCE, gateway, world};

/// Rules of which each matches one argument, so that each event is an alert of its own.
pub fn rules(dir: &Path, count: usize) {
    let alerts = dir.join("common/alerts");
    std::fs::create_dir_all(&alerts).unwrap();
    for n in 0..count {
        let mut rule = String::new();
        writeln!(
            rule,
            "title: Storm {n}\nid: 5707a000-0000-4000-8000-{n:012}\ndescription: One of many.\nlogsource:\n  product: linux\n  category: process_creation\ndetection:\n  one:\n    CommandLine|endswith: ' storm-{n}-end'\n  condition: one\nlevel: medium"
        )
        .unwrap();
        std::fs::write(alerts.join(format!("storm-{n}.yml")), rule).unwrap();
    }
}

/// Programs of the container whose arguments the rules wait for.
fn blow(container: &Container, from: usize, to: usize) -> test_support::process::Running {
    let script = format!(
        "n={from}; while [ $n -lt {to} ]; do /bin/true storm-$n-end; sleep 0.01; n=$((n+1)); done"
    );
    container.spawn(&["sh", "-c", &script])
}

/// Numbers of all alerts that people must be told.
fn raised(world: &World) -> Vec<u64> {
    let limit = ["--since", "1h", "--limit", "5000"];
    let mut all: Vec<u64> = world
        .alerts(&limit)
        .iter()
        .map(|a| a["number"].as_u64().unwrap())
        .collect();
    all.sort_unstable();
    all
}

/// Nothing was lost, and the reader had never to hold anything back. A kill is a gap, and told as one.
fn nothing_lost(status: &Value) {
    let losses = &status["losses"];
    for name in [
        "kernel_lost",
        "enobufs",
        "queue_dropped_batches",
        "queue_dropped_records",
        "left_behind",
        "evicted_events",
        "history_dropped",
    ] {
        assert_eq!(losses[name], 0, "{name}: {losses:#}");
    }
}

/// The alerts that a message tells, ranges taken apart.
fn told(message: &Received) -> Vec<u64> {
    let embed = &message.body["embeds"][0];
    let digest = embed["fields"].as_array().into_iter().flatten();
    let digest = digest
        .filter(|f| f["name"] == "Digest")
        .filter_map(|f| f["value"].as_str());
    let number = |w: &str| w.strip_prefix("A-")?.parse::<u64>().ok();
    let mut all = vec![];
    for text in embed["title"].as_str().into_iter().chain(digest) {
        let text = text.replace(['\\', ',', ':'], " ").replace("A -", "A-");
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut n = 0;
        while n < words.len() {
            match (
                number(words[n]),
                words.get(n + 1),
                words.get(n + 2).and_then(|w| number(w)),
            ) {
                (Some(first), Some(&"to"), Some(last)) => {
                    all.extend(first..=last);
                    n += 3;
                }
                (Some(one), ..) => {
                    all.push(one);
                    n += 1;
                }
                (None, ..) => n += 1,
            }
        }
    }
    all
}

#[test]
fn a_storm_with_discord_down_and_two_kills_loses_and_repeats_nothing() {
    if !kernel::wanted("a_storm_with_discord_down_and_two_kills_loses_and_repeats_nothing") {
        return;
    }
    let long = std::env::var_os("SYSCALL_MONITOR_LONG").is_some();
    // What happens while the daemon is dead is no alert, so more is done than is asked for.
    let (wanted, count, down_for) = match long {
        true => (1000, 1800, Duration::from_secs(60)),
        false => (60, 300, Duration::from_secs(6)),
    };
    let place = Down::new();
    let storm = tempfile::tempdir().unwrap();
    rules(storm.path(), count);
    let packs = Path::new(env!("CARGO_MANIFEST_DIR")).join("audit-rules");
    let mut world = world()
        .discord(&place.base_url())
        .config(&format!(
            "[rules]\ndirs = [{packs:?}, {:?}]\n",
            storm.path()
        ))
        .start();
    let begin = Instant::now();
    let container = gateway(&world);
    for round in 0..3 {
        let (from, to) = (round * count / 3, (round + 1) * count / 3);
        let before = raised(&world).len();
        let mut batch = blow(&container, from, to);
        if round < 2 {
            // In the middle of it: alerts are on their way everywhere.
            eventually("alerts of this round", PATIENCE, || {
                (raised(&world).len() >= before + (to - from) / 4).then_some(())
            });
            nothing_lost(&world.status());
            assert!(batch.is_running(), "the kill came too late");
            world.kill();
            world.start();
        }
        eventually("the end of this round", Duration::from_secs(120), || {
            (!batch.is_running()).then_some(())
        });
    }
    world.barrier();
    let up = down_for.saturating_sub(begin.elapsed());
    std::thread::sleep(up);
    let down_since = begin.elapsed();
    let discord = Discord::start_at(place);
    let status = eventually("an empty outbox", Duration::from_secs(400), || {
        let status = world.status();
        let waiting = &status["channels"].as_array()?[0];
        assert_eq!(waiting["name"], "discord", "{status:#}");
        (waiting["waiting"] == 0).then_some(status)
    });
    nothing_lost(&status);
    assert_eq!(status["losses"]["gaps"], 1, "of the last start");
    assert!(discord.malformed().is_empty(), "{:?}", discord.malformed());

    let raised = raised(&world);
    let messages = discord.accepted();
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for alert in messages.iter().flat_map(told) {
        *times.entry(alert).or_default() += 1;
    }
    let lost: Vec<_> = raised.iter().filter(|n| !times.contains_key(n)).collect();
    let repeated: Vec<_> = times.iter().filter(|(_, n)| **n > 1).collect();
    eprintln!(
        "{} alerts, Discord down for {down_since:?}, two kills: {} messages, {} lost, {} repeated",
        raised.len(),
        messages.len(),
        lost.len(),
        repeated.len()
    );
    assert!(lost.is_empty(), "not told: {lost:?}");
    assert!(repeated.is_empty(), "told again: {repeated:?}");
    assert!(raised.len() >= wanted, "only {} alerts", raised.len());
    assert!(messages.len() < raised.len(), "no digest was made");
}
