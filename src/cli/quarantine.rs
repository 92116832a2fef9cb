//! `quarantine`: list, show, apply, release; through the daemon, or by hand while none runs.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use actions::Level;
use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::Output;
use crate::client::Client;
use crate::config::Config;
use crate::output::{self, visible};
use crate::{offline, times};

#[derive(Args)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

#[derive(Subcommand)]
pub enum QuarantineCommand {
    /// Containers that are quarantined
    List {
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
        /// Also those that were released
        #[arg(long)]
        all: bool,
    },
    /// One quarantine: why, since when, what was done, how to release it
    Show {
        /// Name, agent, or the first digits of the id
        container: String,
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Freeze a container now, or go further with one that is quarantined
    Apply {
        /// Name, or the first digits of the id
        container: String,
        /// How far: cut (off its networks, and it runs on), freeze, auto (and off the networks that come back exactly),
        /// freeze-cut (and off all of them), stop (and killed; what it has in memory is lost)
        #[arg(long, value_parser = level, default_value = "freeze")]
        level: Level,
    },
    /// Bring a container back: restart policy and networks as they were, then it runs on
    Release {
        /// Name, agent, or the first digits of the id
        container: String,
    },
}

pub fn run(config: Option<&Path>, args: &QuarantineArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    let client = Client::connect(&config.socket())?;
    let mut out = std::io::stdout().lock();
    match &args.command {
        QuarantineCommand::List { output, all } => {
            let mut list = all_of(&config, client.as_ref())?;
            if !all {
                list.retain(stands);
            }
            drop(out);
            let columns = [
                ("container", "/name"),
                ("container_id", "/container_id"),
                ("agent", "/agent"),
                ("at_ms", "/at_ms"),
                ("alert", "/alert"),
                ("docker", "/docker_state/state"),
                ("released_at", "/released_at"),
                ("reason", "/reason"),
            ];
            output::list(*output, &list, &columns, || table(&list))?;
        }
        QuarantineCommand::Show { container, output } => {
            let list = all_of(&config, client.as_ref())?;
            let Some(q) = find(&list, container) else {
                bail!(
                    "{container:?} is not quarantined and never was; `syscall-monitor quarantine list --all` shows those that are or were"
                )
            };
            drop(out);
            output::one(*output, q, || {
                write!(std::io::stdout().lock(), "{}", describe(q))?;
                Ok(())
            })?;
        }
        QuarantineCommand::Apply { container, level } => {
            let answer: Value = match &client {
                Some(client) => client.post(
                    "/v1/quarantine/apply",
                    &json!({"container": container, "level": level}),
                )?,
                None => offline::apply(&config, container, *level)?,
            };
            said(&mut out, &answer)?;
        }
        QuarantineCommand::Release { container } => {
            let answer: Value = match &client {
                Some(client) => {
                    client.post("/v1/quarantine/release", &json!({"container": container}))?
                }
                None => offline::release(&config, container)?,
            };
            said(&mut out, &answer)?;
            if answer.get("complete").and_then(Value::as_bool) == Some(false) {
                return Ok(ExitCode::from(1));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A level that does something, by its name.
fn level(text: &str) -> Result<Level, String> {
    let mut levels = Level::ALL.into_iter().filter(|l| *l != Level::Notify);
    levels.clone().find(|l| l.name() == text).ok_or_else(|| {
        let names: Vec<_> = levels.by_ref().map(Level::name).collect();
        format!("there is no such level; choose one of {}", names.join(", "))
    })
}

fn said(out: &mut impl Write, answer: &Value) -> std::io::Result<()> {
    for line in answer
        .get("said")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        writeln!(out, "{}", visible(line))?;
    }
    Ok(())
}

fn all_of(config: &Config, client: Option<&Client>) -> anyhow::Result<Vec<Value>> {
    let answer: Value = match client {
        Some(client) => client.get("/v1/quarantine")?,
        None => offline::list(config)?,
    };
    Ok(answer.as_array().cloned().unwrap_or_default())
}

fn text<'a>(q: &'a Value, name: &str) -> &'a str {
    q.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Neither released nor succeeded by the quarantine of another container?
fn stands(q: &Value) -> bool {
    ["released_at", "succeeded_by"]
        .iter()
        .all(|field| q.get(field).is_none_or(Value::is_null))
}

fn find<'a>(list: &'a [Value], what: &str) -> Option<&'a Value> {
    let hit = |q: &&Value| {
        text(q, "name") == what
            || text(q, "agent") == what
            || (what.len() >= 4 && text(q, "container_id").starts_with(what))
    };
    list.iter()
        .filter(hit)
        .find(|q| stands(q))
        .or_else(|| list.iter().find(hit))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn docker(q: &Value) -> String {
    match q.pointer("/docker_state/state").and_then(Value::as_str) {
        Some("failed") => format!(
            "refused: {}",
            q.pointer("/docker_state/why")
                .and_then(Value::as_str)
                .unwrap_or_default()
        ),
        Some(state) => state.to_owned(),
        None => String::new(),
    }
}

fn table(list: &[Value]) -> anyhow::Result<()> {
    let now = jiff::Zoned::now();
    let mut table = output::table(&["CONTAINER", "AGENT", "SINCE", "ALERT", "DOCKER", "WHY"]);
    for q in list {
        let released = q.get("released_at").and_then(Value::as_u64);
        table.add_row(vec![
            output::cell(text(q, "name")),
            output::cell(text(q, "agent")),
            output::cell(&times::short(
                q.get("at_ms").and_then(Value::as_u64).unwrap_or(0),
                &now,
            )),
            output::cell(q.get("alert").and_then(Value::as_str).unwrap_or("by hand")),
            output::cell(
                &match (released, q.get("succeeded_by").and_then(Value::as_str)) {
                    (Some(at), _) => format!("released {}", times::short(at, &now)),
                    (None, Some(id)) => format!("gone, now {}", short(id)),
                    (None, None) => docker(q),
                },
            ),
            output::cell(text(q, "reason")),
        ]);
    }
    output::print_table(&table, "no container is quarantined")
}

/// Where the evidence is, how large, and what could not be had.
fn evidence(q: &Value, line: &mut dyn FnMut(&str, &str)) {
    let Some(e) = q.get("evidence").filter(|e| !e.is_null()) else {
        return;
    };
    let number = |name: &str| e.get(name).and_then(Value::as_u64).unwrap_or(0);
    if let Some(dir) = e.get("dir").and_then(Value::as_str) {
        line("evidence", dir);
        let mib = number("bytes") as f64 / 1_048_576.0;
        line(
            "",
            &format!(
                "{} files, {mib:.1} MiB; it holds the agent's own secrets",
                number("files")
            ),
        );
        line(
            "manifest",
            &format!("sha256 {}", text(e, "manifest_sha256")),
        );
    }
    line("image", text(q, "evidence_image"));
    let failed: Vec<&str> = e
        .get("failed")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    failed
        .iter()
        .take(FAILED)
        .for_each(|why| line("not kept", why));
    if failed.len() > FAILED {
        let more = failed.len() - FAILED;
        line("not kept", &format!("{more} more; see manifest.json"));
    }
}

/// Failures of the evidence that `show` lists.
const FAILED: usize = 10;

fn describe(q: &Value) -> String {
    use std::fmt::Write;
    let mut s = String::new();
    let now = jiff::Zoned::now();
    let ms = |name: &str| q.get(name).and_then(Value::as_u64);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(s, "{name:<11}{}", visible(value));
        }
    };
    line(
        "container",
        &format!(
            "{} {}",
            text(q, "name"),
            text(q, "container_id").get(..12).unwrap_or_default()
        ),
    );
    line("image", text(q, "image"));
    line(
        "agent",
        &format!("{} ({})", text(q, "agent"), text(q, "profile")),
    );
    line("why", text(q, "reason"));
    line("alert", text(q, "alert"));
    line("since", &times::rfc3339(ms("at_ms").unwrap_or(0)));
    line(
        "frozen",
        &match ms("frozen_us") {
            Some(us) if q.get("frozen_how").is_some_and(|h| !h.is_null()) => format!(
                "in {:.2} ms, by {}",
                us as f64 / 1000.0,
                text(q, "frozen_how")
            ),
            _ if text(q, "level") == "cut" => "no: it runs, off its networks".into(),
            _ => "by Docker alone".into(),
        },
    );
    line("level", text(q, "level"));
    line("docker", &docker(q));
    for step in q
        .get("steps")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let ok = if step.get("ok").and_then(Value::as_bool) == Some(true) {
            "ok"
        } else {
            "failed"
        };
        line(
            "step",
            &format!(
                "{} {} {ok}: {}",
                times::short(step.get("at_ms").and_then(Value::as_u64).unwrap_or(0), &now),
                text(step, "what"),
                text(step, "detail")
            ),
        );
    }
    evidence(q, &mut line);
    match (
        ms("released_at"),
        q.get("succeeded_by").and_then(Value::as_str),
    ) {
        (Some(at), _) => line("released", &times::rfc3339(at)),
        (None, Some(id)) => line(
            "gone",
            &format!(
                "the agent came back in container {}, which is quarantined",
                short(id)
            ),
        ),
        (None, None) => line(
            "release",
            &format!(
                "syscall-monitor quarantine release {}",
                crate::show::quote(text(q, "name"))
            ),
        ),
    }
    s
}
