//! Everything about one event.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::reader::Reader;
use crate::cli::args::{Filters, Output, StoreArgs};
use crate::config::Config;
use crate::output::visible;
use crate::query::{Answer, Spec, Watch};
use crate::{output, show, times};

/// Everything about one event: who, where, every record decoded, which alerts it raised, and what the same container (or, on the
/// host, the same process) did just before and after.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor history show 1795353018.414:5\n  \
    syscall-monitor history show 1795353018.414:5 --output raw | ausearch --interpret -if /dev/stdin"
)]
pub struct ShowArgs {
    /// Event id, 1795353018.414:5
    id: String,
    /// Events before and after that are shown
    #[arg(long, value_name = "N", default_value_t = 3)]
    neighbours: usize,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(config: &Config, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    if args.id.starts_with("A-") {
        return Err(crate::cli::usage(anyhow::anyhow!(
            "{} is an alert: `syscall-monitor alerts show {0}` shows it, `syscall-monitor history tree --alert {0}` what happened around it",
            args.id
        )));
    }
    let id: collector::EventId = args.id.parse().map_err(crate::cli::usage)?;
    let reader = Reader::open(config, &args.store)?;
    let filters = Filters {
        id: vec![id.to_string()],
        ..Filters::default()
    };
    let mut spec = Spec::from_filters(&filters, &["activity"])?;
    spec.since_ms = Some(id.millis);
    spec.until_ms = Some(id.millis.saturating_add(1));
    let Some(answer) = first(&reader, &spec, true)? else {
        bail!(
            "no event {id} in the history; it may be older than the history reaches, or have been lost (`syscall-monitor status` counts losses)"
        );
    };
    if args.output == Output::Raw {
        let raw = answer.raw.unwrap_or_default();
        std::io::stdout()
            .lock()
            .write_all(&collector::text::to_bytes(&raw))?;
        return Ok(ExitCode::SUCCESS);
    }
    let alerts = alerts(&reader, &answer.json)?;
    let around = around(&reader, &answer, args.neighbours)?;
    if args.output == Output::Table {
        let mut out = std::io::stdout().lock();
        write!(out, "{}", show::event(&answer.json))?;
        for alert in &alerts {
            writeln!(out, "{:<11}{}", "alert", in_a_line(alert))?;
        }
        write!(out, "{}", in_context(&around, &answer.json))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut json = answer.json;
    if args.output == Output::Json {
        // What was found beside it stands under names that an event does not have.
        let ids = |list: &[Value]| {
            let ids = list.iter().filter_map(|e| e.get("id").cloned());
            ids.collect::<Vec<_>>()
        };
        json["raised"] = Value::Array(alerts);
        json["neighbours"] = json!({"before": ids(&around.0), "after": ids(&around.1)});
    }
    output::one(args.output, &json, || Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

fn first(reader: &Reader, spec: &Spec, raw: bool) -> anyhow::Result<Option<Answer>> {
    let mut found = None;
    reader.query(spec, raw, &Watch::default(), &mut |answer| {
        found = Some(answer);
        Ok(false)
    })?;
    Ok(found)
}

/// The alerts that the event raised, whole.
fn alerts(reader: &Reader, event: &Value) -> anyhow::Result<Vec<Value>> {
    let ids: Vec<String> = event
        .get("alerts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect();
    let mut found = Vec::new();
    if !ids.is_empty() {
        let spec = Spec {
            kinds: vec!["alert".into()],
            ..Spec::default()
        };
        reader.query(&spec.and("id", ids), false, &Watch::default(), &mut |a| {
            found.push(a.json);
            Ok(true)
        })?;
    }
    Ok(found)
}

fn in_a_line(alert: &Value) -> String {
    let text = |p: &str| alert.pointer(p).and_then(Value::as_str).unwrap_or_default();
    let line = format!(
        "{} {} {} (rule {})",
        text("/id"),
        text("/severity").to_uppercase(),
        text("/title"),
        text("/rule")
    );
    visible(&line).into_owned()
}

/// What the same container did before and after; of the host's events, what the same process did.
fn around(
    reader: &Reader,
    answer: &Answer,
    count: usize,
) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
    let text = |p: &str| answer.json.pointer(p).and_then(Value::as_str);
    let base = Spec {
        kinds: vec!["activity".into()],
        after: Some(answer.cursor.clone()),
        limit: Some(count),
        ..Spec::default()
    };
    let base = match (text("/container/id"), answer.json.pointer("/process/pid")) {
        (Some(id), _) => base.and("container", vec![id.to_owned()]),
        (None, Some(pid)) => base.and("pid", vec![pid.to_string()]),
        (None, None) => base,
    };
    let side = |newest_first: bool| -> anyhow::Result<Vec<Value>> {
        let spec = Spec {
            newest_first,
            ..base.clone()
        };
        let mut rows = Vec::new();
        reader.query(&spec, false, &Watch::default(), &mut |a| {
            rows.push(a.json);
            Ok(rows.len() < count)
        })?;
        Ok(rows)
    };
    if count == 0 {
        return Ok((vec![], vec![]));
    }
    let mut before = side(true)?;
    before.reverse();
    Ok((before, side(false)?))
}

fn in_context((before, after): &(Vec<Value>, Vec<Value>), event: &Value) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    if before.is_empty() && after.is_empty() {
        return out;
    }
    let _ = writeln!(out, "around it");
    let now = jiff::Zoned::now();
    let mut line = |mark: char, e: &Value| {
        let pid = e.pointer("/process/pid").and_then(Value::as_u64);
        let text = format!(
            "{mark} {}  {}  {}  {}  {}",
            times::short(show::millis(e), &now),
            e.get("id").and_then(Value::as_str).unwrap_or_default(),
            pid.unwrap_or(0),
            show::call(e),
            show::what(e)
        );
        let shown = visible(&text);
        let _ = writeln!(out, "{}", output::fit(&shown));
    };
    before.iter().for_each(|e| line(' ', e));
    line('>', event);
    after.iter().for_each(|e| line(' ', e));
    out
}
