//! Counters and losses for a collector of metrics: `GET /metrics` on the local API, OpenMetrics text.
//!
//! `curl --unix-socket /run/syscall-monitor/api.sock http://localhost/metrics`

use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::state::{Report, Shared, lock};

/// One figure: name (without what OpenMetrics adds), what it counts, value.
type Figure = (String, String, u64);

/// What is exported, taken at one moment.
#[derive(Debug)]
struct Snapshot {
    counters: Vec<Figure>,
    gauges: Vec<Figure>,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        for (name, help, value) in &self.counters {
            let metric = ConstCounter::new(*value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        for (name, help, value) in &self.gauges {
            let metric = ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

/// The whole text.
///
/// # Errors
/// None is known: it is written into memory.
pub fn text(report: &Report, shared: &Shared) -> Result<String, std::fmt::Error> {
    let snapshot = Snapshot {
        counters: counters(report, shared),
        gauges: gauges(report),
    };
    let mut registry = Registry::with_prefix("syscall_monitor");
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

fn counters(report: &Report, shared: &Shared) -> Vec<Figure> {
    let figure = |name: &str, help: &str, value| (name.to_owned(), help.to_owned(), value);
    let losses = &report.losses;
    let mut all: Vec<Figure> = losses
        .collector
        .figures()
        .into_iter()
        .map(|(name, help, value)| (format!("lost_{name}"), help.to_owned(), value))
        .collect();
    all.extend([
        figure(
            "lost_late_records",
            "Records that came after their event and could not be added",
            losses.late_records_dropped,
        ),
        figure(
            "lost_history_entries",
            "Entries that the history could not take",
            losses.history_dropped,
        ),
        figure(
            "forged_records",
            "Records of user space from inside a container, dropped",
            losses.forged_records,
        ),
        figure("events", "Events seen", report.events),
        figure("alerts", "Alerts raised", report.alerts),
    ]);
    if let Some(reader) = lock(&shared.reader).as_ref() {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        all.extend([
            figure("records", "Audit records received", get(&reader.records)),
            figure("record_bytes", "Bytes of their text", get(&reader.bytes)),
            figure(
                "connector_messages",
                "Messages of the proc connector",
                get(&reader.connector_messages),
            ),
            figure(
                "held_turns",
                "Turns of the reader that the next stage was not ready for",
                get(&reader.held_turns),
            ),
            figure(
                "mode_switches",
                "Changes from owner to listener and back",
                get(&reader.switches),
            ),
        ]);
    }
    let reader = lock(&shared.reader).clone().unwrap_or_default();
    for (who, held) in [("reader", &reader.realtime), ("stages", &shared.stages)] {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        all.extend([
            figure(
                &format!("{who}_realtime_given_up"),
                "Times that the thread gave its real-time priority up",
                get(&held.given_up),
            ),
            figure(
                &format!("{who}_realtime_taken_back"),
                "Times that it took it back after a calm minute",
                get(&held.taken_back),
            ),
        ]);
    }
    let assembled = *lock(&shared.assembled);
    all.extend([
        figure(
            "duplicate_records",
            "Records that were there already",
            assembled.duplicates,
        ),
        figure(
            "late_records",
            "Records that came after their event and amended it",
            assembled.amendments,
        ),
    ]);
    all
}

fn gauges(report: &Report) -> Vec<Figure> {
    let figure = |name: &str, help: &str, value| (name.to_owned(), help.to_owned(), value);
    let mut all = vec![
        figure(
            "healthy",
            "1 when nothing is in the way of seeing everything, 0 when the view is partial",
            u64::from(report.state == "healthy"),
        ),
        figure(
            "uptime_seconds",
            "Since the sensor started",
            report.uptime_s,
        ),
        figure(
            "kernel_rules",
            "Kernel rules in force",
            report.rules.kernel as u64,
        ),
        figure(
            "kernel_rules_skipped",
            "Kernel rules that could not be loaded",
            report.rules.skipped.len() as u64,
        ),
        figure(
            "containers",
            "Containers that run",
            report.containers.len() as u64,
        ),
        figure(
            "quarantined",
            "Containers in quarantine",
            report.quarantined.len() as u64,
        ),
    ];
    if let Some(kernel) = &report.kernel {
        all.extend([
            figure(
                "kernel_backlog",
                "Records that wait in the kernel",
                kernel.backlog.into(),
            ),
            figure(
                "kernel_backlog_limit",
                "Records that may wait in the kernel",
                kernel.backlog_limit.into(),
            ),
        ]);
    }
    if let Some(history) = &report.history {
        all.extend([
            figure("history_entries", "Entries of the history", history.entries),
            figure(
                "history_bytes",
                "Bytes of the history on disk",
                history.bytes,
            ),
        ]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_are_written_as_openmetrics() {
        let snapshot = Snapshot {
            counters: vec![("lost_enobufs".into(), "Overflows".into(), 3)],
            gauges: vec![("healthy".into(), "1 or 0".into(), 1)],
        };
        let mut registry = Registry::with_prefix("syscall_monitor");
        registry.register_collector(Box::new(snapshot));
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        for line in [
            "# TYPE syscall_monitor_lost_enobufs counter",
            "syscall_monitor_lost_enobufs_total 3",
            "syscall_monitor_healthy 1",
            "# EOF",
        ] {
            assert!(out.lines().any(|l| l == line), "{line}\n{out}");
        }
    }
}
