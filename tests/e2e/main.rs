//! End to end, on the kernel and the Docker engine of this machine. Each file is a promise of the README.
#![allow(missing_docs, reason = "tests are named after what they show")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod blind;
mod crash;
mod delivery;
mod dynamic;
mod engine;
mod evidence;
mod forged;
mod gateway;
mod guards;
mod health;
mod hidden;
mod history;
mod hold;
mod ladder;
mod modes;
mod owner;
mod phone;
mod priority;
mod privileges;
mod quiet;
mod release;
mod script;
mod slow;
mod storm;
mod story;
mod suspicious;
mod trust;

use std::time::Duration;

use serde_json::Value;
use test_support::world::Builder;
use test_support::{Container, World, eventually, image};

/// What the issue gives an alert: a second, on a machine that also builds. Judged by the event's and the alert's own times;
/// this is how long a test waits before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn world() -> Builder {
    World::builder(env!("CARGO_BIN_EXE_syscall-monitor"))
}

/// A container that is an agent by its name, and may mount and trace.
pub fn gateway(world: &World) -> Container {
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .dangerous()
        .start();
    settled(world, &container);
    container
}

/// Waits until the monitor knows the container by name.
pub fn settled(world: &World, container: &Container) {
    eventually(
        &format!("{} known to the monitor", container.name),
        PATIENCE,
        || {
            let status = world.status();
            let known = status["containers"]
                .as_array()?
                .iter()
                .any(|c| c["name"] == container.name.as_str());
            known.then_some(())
        },
    );
}

/// The first alert of a container with that severity.
pub fn alert(world: &World, container: &str, severity: &str) -> Value {
    eventually(
        &format!("a {severity} alert of {container}"),
        PATIENCE,
        || {
            world
                .alerts(&["--container", container])
                .into_iter()
                .find(|a| a["severity"] == severity)
        },
    )
}

/// Alerts of at least medium severity, for messages of tests that want none.
pub fn titles(alerts: &[Value]) -> Vec<String> {
    alerts
        .iter()
        .map(|a| {
            format!(
                "{} {} {}: {} ({})",
                a["id"], a["severity"], a["container"]["name"], a["title"], a["argv"]
            )
        })
        .collect()
}

/// Waits until Docker says paused.
pub fn paused(container: &Container) {
    eventually(
        &format!("Docker says that {} is paused", container.name),
        PATIENCE,
        || container.is_paused().then_some(()),
    );
}
