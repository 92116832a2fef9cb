//! `trust`: the scores of the agents, from the files that other ASF tools read.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use actions::trust::{EVENTS, Trust, TrustOptions};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::Output;
use crate::client::Client;
use crate::config::Config;
use crate::output;

#[derive(Args)]
pub struct TrustArgs {
    #[command(subcommand)]
    pub command: TrustCommand,
}

#[derive(Subcommand)]
pub enum TrustCommand {
    /// Score and band of every agent
    List {
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Every change of an agent's score, oldest first
    History {
        /// Agent (instance), as `trust list` names it
        agent: String,
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Set an agent's score; what was taken before is forgiven
    Set {
        /// Agent (instance), as `trust list` names it
        agent: String,
        /// 0 to 100
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        score: u8,
    },
    /// Why an agent has its score: every point lost
    Show {
        /// Agent (instance), as `trust list` names it
        agent: String,
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

pub fn run(config: Option<&Path>, args: &TrustArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    let dir = config.trust_dir();
    let (trust, problems) = Trust::open(TrustOptions {
        dir: dir.clone(),
        log: None,
        ..TrustOptions::default()
    })?;
    let mut trust = trust;
    for problem in problems {
        eprintln!("syscall-monitor: {problem}");
    }
    if let TrustCommand::Set { agent, score } = &args.command {
        return set(&config, &mut trust, agent, *score);
    }
    let scores: Vec<_> = trust.list().collect();
    match &args.command {
        TrustCommand::List { output: form } => {
            let items = scores
                .iter()
                .map(serde_json::to_value)
                .collect::<Result<Vec<_>, _>>()?;
            let columns = [
                ("agent", "/agent"),
                ("score", "/score"),
                ("band", "/band"),
                ("profile", "/profile"),
                ("container", "/container/name"),
                ("updated_at", "/updated_at"),
            ];
            output::list(*form, &items, &columns, || {
                let mut table =
                    output::table(&["AGENT", "SCORE", "BAND", "PROFILE", "CONTAINER", "UPDATED"]);
                for s in &scores {
                    table.add_row(vec![
                        output::cell(&s.agent),
                        output::cell(&s.score.to_string()),
                        output::cell(s.band.name()),
                        output::cell(s.profile.map_or("-", |p| p.name())),
                        output::cell(&s.container.name),
                        output::cell(&s.updated_at),
                    ]);
                }
                output::print_table(
                    &table,
                    "no agent has lost trust yet (a new agent starts at 100)",
                )
            })?;
        }
        TrustCommand::History {
            agent,
            output: form,
        } => history(&dir, agent, *form)?,
        // Done above.
        TrustCommand::Set { .. } => {}
        TrustCommand::Show {
            agent,
            output: form,
        } => {
            let Some(s) = scores.iter().find(|s| s.agent == *agent) else {
                bail!(
                    "no trust file for agent {agent:?} in {}; `syscall-monitor trust list` names those that have one (an agent without one has 100)",
                    dir.display()
                );
            };
            output::one(*form, &serde_json::to_value(s)?, || {
                let mut out = std::io::stdout().lock();
                writeln!(
                    out,
                    "{}: score {} of 100, band {}",
                    output::visible(&s.agent),
                    s.score,
                    s.band.name()
                )?;
                writeln!(
                    out,
                    "  base score {}, before {}, updated {}",
                    s.base_score, s.previous_score, s.updated_at
                )?;
                for r in &s.reasons {
                    writeln!(
                        out,
                        "  {:+4}  {} {} (event {}, at {}; {})",
                        r.delta,
                        r.severity,
                        output::visible(r.title.as_deref().unwrap_or(&r.rule)),
                        r.event_id,
                        r.at,
                        r.expires_at.as_ref().map_or_else(
                            || "a person gives it back".to_owned(),
                            |at| format!("comes back at {at}")
                        )
                    )?;
                }
                Ok(())
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Through the daemon, which holds the scores; by hand while none runs.
fn set(config: &Config, trust: &mut Trust, agent: &str, score: u8) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if let Some(client) = Client::connect(&config.socket())? {
        let answer: Value =
            client.post("/v1/trust/set", &json!({"agent": agent, "score": score}))?;
        let said = answer.get("said").and_then(Value::as_array);
        for line in said.into_iter().flatten().filter_map(Value::as_str) {
            writeln!(out, "{}", output::visible(line))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let change = trust.set(agent, score, crate::times::now_ms())?;
    writeln!(
        out,
        "{}: score {} (was {}), band {}",
        output::visible(agent),
        change.score,
        change.previous_score,
        change.band
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The event log, as other tools read it.
fn history(dir: &Path, agent: &str, form: Output) -> anyhow::Result<()> {
    let file = dir.join(EVENTS);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", file.display())),
    };
    // A line that a crash cut off is no event.
    let changes: Vec<Value> = text
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .filter(|c| c.get("agent").and_then(Value::as_str) == Some(agent))
        .collect();
    let columns = [
        ("at", "/at"),
        ("type", "/type"),
        ("delta", "/delta"),
        ("score", "/score"),
        ("band", "/band"),
        ("severity", "/severity"),
        ("title", "/title"),
        ("rule", "/rule"),
        ("event_id", "/event_id"),
    ];
    output::list(form, &changes, &columns, || {
        let mut table = output::table(&["AT", "WHAT", "POINTS", "SCORE", "BAND", "WHY"]);
        let text = |c: &Value, key: &str| match c.get(key) {
            Some(Value::String(s)) => s.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        for c in &changes {
            table.add_row(vec![
                output::cell(&text(c, "at")),
                output::cell(&text(c, "type")),
                output::cell(&text(c, "delta")),
                output::cell(&text(c, "score")),
                output::cell(&text(c, "band")),
                output::cell(&format!("{} {}", text(c, "severity"), text(c, "title"))),
            ]);
        }
        output::print_table(&table, "no change of this agent's score is known")
    })
}
