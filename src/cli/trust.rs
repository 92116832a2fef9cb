//! `trust`: the scores of the agents, from the files that other ASF tools read.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use actions::trust::{Trust, TrustOptions};
use anyhow::bail;
use clap::{Args, Subcommand};

use super::args::Output;
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
    for problem in problems {
        eprintln!("syscall-monitor: {problem}");
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
                        "  {:+4}  {} {} (event {}, at {})",
                        r.delta,
                        r.severity,
                        output::visible(r.title.as_deref().unwrap_or(&r.rule)),
                        r.event_id,
                        r.at
                    )?;
                }
                Ok(())
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
