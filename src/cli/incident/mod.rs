//! `incident`: one readable page about an alert: what happened, secrets touched, peers contacted afterwards, what to rotate.

mod report;
mod secrets;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::{Filters, Output, StoreArgs};
use super::history::Reader;
use crate::client::Client;
use crate::config::Config;
use crate::query::{Spec, Watch};
use crate::{offline, output};
use report::{Material, Report};

/// How far before the alert the page looks, milliseconds.
const BEFORE: u64 = 600_000;
/// And behind it: what is not frozen goes on.
const AFTER: u64 = 3_600_000;
/// Events that are looked at.
const EVENTS: usize = 20_000;

#[derive(Args)]
pub struct IncidentArgs {
    #[command(subcommand)]
    pub command: IncidentCommand,
}

#[derive(Subcommand)]
pub enum IncidentCommand {
    /// One page about an alert, from ten minutes before it to an hour behind it
    Report {
        ///
        id: String,
        #[command(flatten)]
        store: StoreArgs,
        /// How to write it: a page, or json
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

pub fn run(config: Option<&Path>, args: &IncidentArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    let IncidentCommand::Report {
        id,
        store,
        output: form,
    } = &args.command;
    let material = gather(&config, id, store)?;
    let report = Report::of(material);
    output::one(*form, &serde_json::to_value(&report)?, || {
        write_page(&report, &mut std::io::stdout().lock())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn rows(reader: &Reader, spec: &Spec) -> anyhow::Result<Vec<Value>> {
    let mut rows = vec![];
    reader.query(spec, false, &Watch::default(), &mut |a| {
        rows.push(a.json);
        Ok(rows.len() < EVENTS)
    })?;
    Ok(rows)
}

fn gather(config: &Config, id: &str, store: &StoreArgs) -> anyhow::Result<Material> {
    let number = id.trim_start_matches(['A', 'a']).trim_start_matches('-');
    let Ok(number) = number.parse::<u64>() else {
        return Err(super::usage(anyhow::anyhow!(
            "{id:?} is not the id of an alert; write it like A-42"
        )));
    };
    let id = format!("A-{number}");
    let reader = Reader::open(config, store)?;
    let filters = Filters {
        id: vec![id.clone()],
        ..Filters::default()
    };
    let found = rows(&reader, &Spec::from_filters(&filters, &["alert"])?)?;
    let Some(alert) = found.into_iter().next() else {
        bail!("there is no alert {id}; `syscall-monitor alerts --since 30d` lists them")
    };
    let at = alert.get("time_ms").and_then(Value::as_u64).unwrap_or(0);
    let container = alert.pointer("/container/id").and_then(Value::as_str);
    let window = |kind: &str| {
        let spec = Spec {
            kinds: vec![kind.into()],
            since_ms: Some(at.saturating_sub(BEFORE)),
            until_ms: Some(at + AFTER),
            ..Spec::default()
        };
        match (kind, container) {
            ("activity" | "alert", Some(id)) => spec.and("container", vec![id.to_owned()]),
            _ => spec,
        }
    };
    let mut events = rows(&reader, &window("activity"))?;
    let mut alerts = rows(&reader, &window("alert"))?;
    if container.is_none() {
        // The host is everybody: the process, and what it started.
        let pid = alert.get("pid").cloned().unwrap_or_default();
        events.retain(|e| {
            let above = e.pointer("/process/ancestors").and_then(Value::as_array);
            e.pointer("/process/pid") == Some(&pid)
                || above
                    .into_iter()
                    .flatten()
                    .any(|a| a.get("pid") == Some(&pid))
        });
        alerts.retain(|a| a.get("pid") == Some(&pid));
    }
    let mut decisions = rows(&reader, &window("decision"))?;
    decisions.retain(|d| d.get("alert").and_then(Value::as_u64) == Some(number));
    let notices = rows(&reader, &window("notice"))?;
    reader.close()?;
    let quarantine = match (store.store.is_some(), container) {
        (false, Some(id)) => quarantine_of(config, id),
        _ => None,
    };
    let environment = quarantine.as_ref().map(environment).unwrap_or_default();
    Ok(Material {
        alert,
        decisions,
        events,
        alerts,
        notices,
        quarantine,
        environment,
    })
}

/// The container's quarantine. That there is none, or that nobody answers, is no reason not to write the rest.
fn quarantine_of(config: &Config, container: &str) -> Option<Value> {
    let list = match Client::connect(&config.socket()).ok()? {
        Some(client) => client.get("/v1/quarantine").ok()?,
        None => offline::list(config).ok()?,
    };
    let of = |q: &&Value| q.get("container_id").and_then(Value::as_str) == Some(container);
    list.as_array()?.iter().rev().find(of).cloned()
}

/// The variables of the container, as the evidence has them.
fn environment(quarantine: &Value) -> Vec<String> {
    let read = || {
        let dir = quarantine.pointer("/evidence/dir")?.as_str()?;
        let bytes = std::fs::read(Path::new(dir).join("docker/inspect.json")).ok()?;
        let inspect: Value = serde_json::from_slice(&bytes).ok()?;
        let list = inspect.pointer("/Config/Env")?.as_array()?;
        Some(
            list.iter()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect(),
        )
    };
    read().unwrap_or_default()
}

fn write_page(r: &Report, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "# Incident {}: {}\n", r.id, r.title)?;
    let mut line = |name: &str, value: &str| -> std::io::Result<()> {
        if value.trim().is_empty() {
            return Ok(());
        }
        writeln!(out, "{name:<11} {value}")
    };
    line("severity", &r.severity)?;
    line("time", &r.time)?;
    line(
        "container",
        r.container
            .as_deref()
            .unwrap_or("none (it happened on the host)"),
    )?;
    line("image", r.image.as_deref().unwrap_or(""))?;
    let sure = if r.certain { "certain" } else { "not certain" };
    line("whose deed", sure)?;
    line("process", &r.process)?;
    line("command", &r.command)?;
    line("started by", &r.ancestors.join(" ← "))?;
    line("why", &r.why)?;
    for d in &r.decisions {
        line("decision", d)?;
    }
    line("container is", r.quarantine.as_deref().unwrap_or(""))?;
    line("evidence", r.evidence.as_deref().unwrap_or(""))?;

    writeln!(out, "\n## What happened\n")?;
    for l in &r.timeline {
        let alerts = match l.alerts.as_slice() {
            [] => String::new(),
            list => format!("  [{}]", list.join(", ")),
        };
        writeln!(out, "- {} {}{alerts}", l.time, l.what)?;
    }
    if r.timeline.is_empty() {
        writeln!(out, "- no event of it is in the history (any more)")?;
    }
    section(out, "Other alerts there", &r.other_alerts, None)?;
    let secrets: Vec<String> = r
        .secrets
        .iter()
        .map(|s| {
            format!(
                "{}: {} at {} by {} (event {})",
                s.what, s.place, s.first, s.by, s.event
            )
        })
        .collect();
    section(out, "Secrets touched", &secrets, Some("none that is known"))?;
    let peers: Vec<String> = r
        .peers
        .iter()
        .map(|p| {
            format!(
                "{} {} times from {} to {} by {}",
                p.address,
                p.times,
                p.first,
                p.last,
                p.by.join(", ")
            )
        })
        .collect();
    section(
        out,
        "Peers contacted afterwards",
        &peers,
        Some("none that was seen"),
    )?;
    section(
        out,
        "What to rotate",
        &r.rotate,
        Some("nothing that is known"),
    )?;
    section(out, "What nobody saw", &r.unseen, None)?;
    writeln!(
        out,
        "\nNot visible to audit: contents, DNS names, and what goes through connections and files that were open before."
    )?;
    if r.left_out > 0 {
        writeln!(
            out,
            "{} further entries: syscall-monitor history tree --alert {}; syscall-monitor history --container … --since …",
            r.left_out, r.id
        )?;
    }
    Ok(())
}

fn section(
    out: &mut impl Write,
    title: &str,
    lines: &[String],
    empty: Option<&str>,
) -> anyhow::Result<()> {
    if lines.is_empty() && empty.is_none() {
        return Ok(());
    }
    writeln!(out, "\n## {title}\n")?;
    for l in lines {
        writeln!(out, "- {l}")?;
    }
    if let (true, Some(empty)) = (lines.is_empty(), empty) {
        writeln!(out, "- {empty}")?;
    }
    Ok(())
}
