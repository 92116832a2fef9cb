//! bollard's types to ours. Every field may be missing, and every text is somebody's choice.

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, EventActor, MountPoint, PortMap,
};

use super::Listed;
use crate::container::{Container, Engine, Mount};
use crate::health;

/// Longest list that is taken over; an engine never sends more of a sane container.
const MAX: usize = 1024;

/// From the attributes of an event: name, image, labels.
pub fn from_event(actor: &EventActor, engine: Engine) -> Option<Container> {
    let mut container = Container {
        engine,
        ..Container::from_id(actor.id.clone()?)
    };
    let attributes = actor.attributes.as_ref();
    for (name, value) in attributes.into_iter().flatten().take(MAX) {
        match name.as_str() {
            "name" => container.name = Some(value.clone()),
            "image" => container.image = Some(value.clone()),
            "exitCode" | "execDuration" | "signal" => {}
            _ => container.labels.push((name.clone(), value.clone())),
        }
    }
    container.labels.sort();
    Some(container)
}

/// From the list.
pub fn from_summary(summary: ContainerSummary, engine: Engine) -> Option<Listed> {
    let state = summary.state.map(|s| s.to_string());
    let running = matches!(state.as_deref(), Some("running" | "paused" | "restarting"));
    let mut container = Container {
        engine,
        ..Container::from_id(summary.id?)
    };
    container.name = summary.names.into_iter().flatten().next().map(|n| bare(&n));
    container.image = summary.image;
    container.image_id = summary.image_id;
    container.labels = sorted(summary.labels.into_iter().flatten());
    container.mounts = mounts(summary.mounts);
    container.network_mode = summary.host_config.and_then(|h| h.network_mode);
    Some(Listed { container, running })
}

/// From inspect.
pub fn from_inspect(answer: ContainerInspectResponse, engine: Engine) -> Option<Container> {
    let mut container = Container {
        engine,
        ..Container::from_id(answer.id?)
    };
    container.name = answer.name.map(|n| bare(&n));
    container.image_id = answer.image;
    if let Some(config) = answer.config {
        let test = config.healthcheck.and_then(|h| h.test);
        container.health_check = health::command(
            &test.unwrap_or_default(),
            &config.shell.unwrap_or_default(),
            engine,
        );
        container.image = config.image;
        container.labels = sorted(config.labels.into_iter().flatten());
    }
    container.mounts = mounts(answer.mounts);
    if let Some(host) = answer.host_config {
        container.privileged = host.privileged.unwrap_or(false);
        container.cap_add = host
            .cap_add
            .into_iter()
            .flatten()
            .take(MAX)
            .map(|c| c.trim_start_matches("CAP_").to_owned())
            .collect();
        container.security_opt = host.security_opt.into_iter().flatten().take(MAX).collect();
        container.network_mode = host.network_mode;
        container.oci_runtime = host.runtime.filter(|r| !r.is_empty());
        container.pid_mode = host.pid_mode.filter(|m| !m.is_empty());
    }
    container.ports = answer
        .network_settings
        .and_then(|n| n.ports)
        .map(ports)
        .unwrap_or_default();
    if let Some(state) = answer.state {
        if state.running == Some(true) {
            container.init_pid = state.pid.and_then(|p| u32::try_from(p).ok()).unwrap_or(0);
        }
        container.started_ms = state.started_at.as_deref().and_then(millis).unwrap_or(0);
    }
    Some(container)
}

fn bare(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

fn sorted(labels: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut labels: Vec<_> = labels.take(MAX).collect();
    labels.sort();
    labels
}

fn mounts(mounts: Option<Vec<MountPoint>>) -> Vec<Mount> {
    let one = |m: MountPoint| Mount {
        source: m.source.unwrap_or_default(),
        destination: m.destination.unwrap_or_default(),
        kind: m.typ.unwrap_or_default(),
        writable: m.rw.unwrap_or(true),
        declared: false,
    };
    let mut mounts: Vec<Mount> = mounts.into_iter().flatten().take(MAX).map(one).collect();
    mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
    mounts
}

/// `127.0.0.1:3000->3000/tcp`; a port that is only exposed is left out.
fn ports(ports: PortMap) -> Vec<String> {
    let mut out = Vec::new();
    for (inside, bindings) in ports {
        for binding in bindings.into_iter().flatten() {
            let ip = binding
                .host_ip
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".to_owned());
            let ip = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip
            };
            out.push(format!(
                "{ip}:{}->{inside}",
                binding.host_port.unwrap_or_default()
            ));
        }
    }
    out.sort();
    out.truncate(MAX);
    out
}

/// Milliseconds of an RFC 3339 time; Docker writes year 1 for "never".
fn millis(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()
}
