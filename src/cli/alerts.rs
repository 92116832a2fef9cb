//! `alerts`: list alerts, show one.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::{Filters, Output, StoreArgs};
use super::history::{Follow, Reader};
use crate::config::Config;
use crate::output::{self, visible};
use crate::query::{Condition, Spec, Watch};
use crate::{show, times};

/// List alerts, or show one. Without --since: the last day, newest last.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    syscall-monitor alerts --since 1h --severity high\n  \
    syscall-monitor alerts show A-42"
)]
pub struct AlertsArgs {
    #[command(subcommand)]
    pub command: Option<AlertsCommand>,
    #[command(flatten)]
    pub filters: Filters,
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// At most that many, the newest ones
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub limit: usize,
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Subcommand)]
pub enum AlertsCommand {
    /// One alert: what happened, why it matters, what was done, what to do
    Show {
        ///
        id: String,
        #[command(flatten)]
        store: StoreArgs,
        /// How to write it
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

pub fn run(config: Option<&Path>, args: &AlertsArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    match &args.command {
        Some(AlertsCommand::Show { id, store, output }) => show_one(&config, id, store, *output),
        None => list(&config, args),
    }
}

fn list(config: &Config, args: &AlertsArgs) -> anyhow::Result<ExitCode> {
    let mut spec = Spec::from_filters(&args.filters, &["alert"]).map_err(super::usage)?;
    let default_window = spec.since_ms.is_none() && spec.until_ms.is_none();
    if default_window {
        spec.since_ms = Some(times::now_ms().saturating_sub(86_400_000));
    }
    spec.newest_first = true;
    spec.limit = Some(args.limit.saturating_add(1));
    let mut rows = Vec::new();
    let mut last = None;
    let reader = Reader::open(config, &args.store)?;
    let spec_of_alerts = by_their_events(&reader, &spec)?;
    reader.query(&spec_of_alerts, false, &Watch::default(), &mut |a| {
        last.get_or_insert(a.cursor);
        rows.push(a.json);
        Ok(true)
    })?;
    let more = rows.len() > args.limit;
    rows.truncate(args.limit);
    rows.reverse();
    if !(args.follow && rows.is_empty()) {
        write_list(&rows, args.output, true)?;
    }
    if args.follow {
        spec.after = last;
        return follow(&reader, spec, args.output);
    }
    if args.output == Output::Table {
        if more {
            eprintln!(
                "(only the newest {} are shown; --limit N shows more)",
                args.limit
            );
        }
        if default_window {
            eprintln!(
                "(the last day; --since 7d goes further back; `syscall-monitor alerts show A-N` explains one)"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Category, keys and addresses are the events', not the alerts': alerts of which an event fits are asked for by their ids.
fn by_their_events(reader: &Reader, spec: &Spec) -> anyhow::Result<Spec> {
    let of_event = |c: &&Condition| matches!(c.filter.as_str(), "category" | "key" | "addr");
    let (events, rest): (Vec<_>, Vec<_>) =
        spec.conditions.iter().cloned().partition(|c| of_event(&c));
    if events.is_empty() {
        return Ok(spec.clone());
    }
    let question = Spec {
        kinds: vec!["activity".into()],
        since_ms: spec.since_ms,
        until_ms: spec.until_ms,
        conditions: events,
        ..Spec::default()
    };
    let mut ids = BTreeSet::new();
    let question = question.and("alert", vec!["*".into()]);
    reader.query(&question, false, &Watch::default(), &mut |a| {
        let alerts = a.json.get("alerts").and_then(Value::as_array);
        ids.extend(
            alerts
                .into_iter()
                .flatten()
                .filter_map(|id| id.as_str().map(str::to_owned)),
        );
        Ok(true)
    })?;
    let found = Spec {
        conditions: rest,
        ..spec.clone()
    };
    Ok(found.and("id", ids.into_iter().collect()))
}

fn follow(reader: &Reader, mut spec: Spec, form: Output) -> anyhow::Result<ExitCode> {
    if spec
        .conditions
        .iter()
        .any(|c| matches!(c.filter.as_str(), "category" | "key" | "addr"))
    {
        return Err(super::usage(anyhow::anyhow!(
            "--follow cannot find alerts by --category, --key or --addr of their events; `syscall-monitor history --severity medium --follow` with them shows the events"
        )));
    }
    spec.newest_first = false;
    spec.limit = None;
    let mut rows = Vec::new();
    super::history::follow(reader, spec, false, &mut |row| {
        match row {
            Follow::Row(answer) => rows.push(answer.json),
            Follow::Pause if rows.is_empty() => {}
            Follow::Pause => write_list(&std::mem::take(&mut rows), form, false)?,
        }
        Ok(())
    })
}

const COLUMNS: [(&str, &str); 11] = [
    ("id", "/id"),
    ("time", "/time"),
    ("severity", "/severity"),
    ("title", "/title"),
    ("container", "/container/name"),
    ("agent", "/container/agent"),
    ("pid", "/pid"),
    ("exe", "/exe"),
    ("syscall", "/syscall"),
    ("count", "/count"),
    ("event", "/event"),
];

fn write_list(rows: &[Value], form: Output, header: bool) -> anyhow::Result<()> {
    let text = |json: &Value, p: &str| {
        json.pointer(p)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if form == Output::Csv && !header {
        // A list that goes on has its titles already.
        let mut out = std::io::stdout().lock();
        for row in rows {
            let fields: Vec<_> = COLUMNS
                .iter()
                .map(|(_, p)| output::csv_field(row, p))
                .collect();
            writeln!(out, "{}", fields.join(","))?;
        }
        return Ok(());
    }
    output::list(form, rows, &COLUMNS, || {
        let now = jiff::Zoned::now();
        let mut table = output::table(&["ID", "TIME", "SEVERITY", "CONTAINER", "ALERT"]);
        for r in rows {
            let count = r.get("count").and_then(Value::as_u64).unwrap_or(1);
            let times = if count > 1 {
                format!(" (×{count})")
            } else {
                String::new()
            };
            table.add_row(vec![
                output::cell(&text(r, "/id")),
                output::cell(&crate::times::short(show::millis(r), &now)),
                output::severity_cell(&text(r, "/severity")),
                output::cell(&show::container_name(r)),
                output::cell(&format!("{}{times}", text(r, "/title"))),
            ]);
        }
        if header {
            return output::print_table(&table, "no alert");
        }
        let mut out = std::io::stdout().lock();
        for line in table.to_string().lines().skip(1) {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    })
}

fn show_one(
    config: &Config,
    id: &str,
    store: &StoreArgs,
    form: Output,
) -> anyhow::Result<ExitCode> {
    let number = id
        .strip_prefix("A-")
        .or_else(|| id.strip_prefix("a-"))
        .unwrap_or(id);
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
    let mut found = None;
    reader.query(
        &Spec::from_filters(&filters, &["alert"])?,
        false,
        &Watch::default(),
        &mut |a| {
            found = Some(a.json);
            Ok(false)
        },
    )?;
    let Some(alert) = found else {
        bail!("there is no alert {id}; `syscall-monitor alerts --since 30d` lists them")
    };
    let mut decisions = Vec::new();
    let spec = Spec {
        kinds: vec!["decision".into()],
        since_ms: alert.get("time_ms").and_then(Value::as_u64),
        ..Spec::default()
    };
    reader.query(&spec, false, &Watch::default(), &mut |a| {
        if a.json.get("alert").and_then(Value::as_u64) == Some(number) {
            decisions.push(a.json);
        }
        Ok(true)
    })?;
    let mut whole = alert.clone();
    whole["decisions"] = Value::Array(decisions.clone());
    output::one(form, &whole, || {
        write!(std::io::stdout().lock(), "{}", describe(&alert, &decisions))?;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn describe(alert: &Value, decisions: &[Value]) -> String {
    use std::fmt::Write;
    let text = |p: &str| {
        visible(alert.pointer(p).and_then(Value::as_str).unwrap_or_default()).into_owned()
    };
    let number = |p: &str| alert.pointer(p).map(Value::to_string).unwrap_or_default();
    let mut s = String::new();
    let _ = writeln!(
        s,
        "{} {} {}",
        text("/id"),
        text("/severity").to_uppercase(),
        text("/title")
    );
    let mut line = |name: &str, value: String| {
        if !value.trim().is_empty() {
            let _ = writeln!(s, "  {name:<11}{value}");
        }
    };
    line("time", text("/time"));
    line(
        "why",
        text("/description")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
    );
    if alert.get("container").is_some_and(Value::is_object) {
        line(
            "container",
            format!(
                "{} {} {}",
                visible(&show::container_name(alert)),
                text("/container/image"),
                text("/container/profile")
            ),
        );
        let certain = alert
            .pointer("/attribution/certain")
            .and_then(Value::as_bool)
            == Some(true);
        line(
            "sure",
            format!(
                "{} (told by {})",
                if certain { "certain" } else { "not certain" },
                text("/attribution/source")
            ),
        );
    } else {
        line("container", "none (host)".into());
    }
    let argv: Vec<String> = alert
        .get("argv")
        .and_then(Value::as_array)
        .map(|l| {
            l.iter()
                .filter_map(Value::as_str)
                .map(|a| visible(&show::quote(a)).into_owned())
                .collect()
        })
        .unwrap_or_default();
    line(
        "process",
        format!(
            "pid {} {} user {} ({})",
            number("/pid"),
            text("/exe"),
            text("/user"),
            number("/uid")
        ),
    );
    line("command", argv.join(" "));
    let ancestors: Vec<String> = alert
        .get("ancestors")
        .and_then(Value::as_array)
        .map(|l| {
            l.iter()
                .map(|a| {
                    visible(a.get("comm").and_then(Value::as_str).unwrap_or_default()).into_owned()
                })
                .collect()
        })
        .unwrap_or_default();
    line("ancestors", ancestors.join(" ← "));
    line("call", format!("{} {}", text("/syscall"), text("/errno")));
    for pair in alert
        .get("matched")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let part = |i: usize| {
            visible(pair.get(i).and_then(Value::as_str).unwrap_or_default()).into_owned()
        };
        line("matched", format!("{} = {}", part(0), part(1)));
    }
    line("repeated", number("/count"));
    for d in decisions {
        line(
            "decision",
            format!(
                "{}: {}",
                d.get("verdict").and_then(Value::as_str).unwrap_or_default(),
                visible(d.get("reason").and_then(Value::as_str).unwrap_or_default())
            ),
        );
    }
    line(
        "event",
        format!(
            "{}   (syscall-monitor history show {})",
            text("/event"),
            text("/event")
        ),
    );
    line("rule", text("/rule"));
    s
}
