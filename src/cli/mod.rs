//! The command line as clap sees it. What each command does is in a file of its own beside this one.

pub mod alerts;
pub mod args;
pub mod config;
pub mod history;
pub mod incident;
pub mod notify;
pub mod quarantine;
pub mod replay;
pub mod restore;
pub mod rules;
pub mod run;
pub mod shell;
pub mod status;
pub mod trust;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Watch what containers that run AI agents do to the kernel, through the audit subsystem alone.
///
/// It programs audit rules, names the container of every event, keeps a history that can be queried, warns over
/// Discord or Telegram, and freezes an agent's container before it does harm.
#[derive(Parser)]
#[command(
    version,
    name = "syscall-monitor",
    max_term_width = 100,
    after_help = "Start everything:  scripts/enable-syscall-monitor.sh --full\n\
                  What happened:     syscall-monitor alerts --since 1h\n\
                  Undo a freeze:     syscall-monitor quarantine release CONTAINER"
)]
pub struct Cli {
    /// Configuration file [default: /etc/syscall-monitor/config.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SYSCALL_MONITOR_CONFIG"
    )]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Watch: load kernel rules, read the audit stream, alert and act (as root, in the foreground)
    Run(run::RunArgs),
    /// Decode audit logs into events; no privileges, no side effects
    Replay(replay::ReplayArgs),
    /// Search everything that was seen
    History(history::HistoryArgs),
    /// List alerts, or show one
    Alerts(alerts::AlertsArgs),
    /// One page about an alert: what happened, secrets touched, peers contacted, what to rotate
    Incident(incident::IncidentArgs),
    /// List, show, apply or release quarantines
    Quarantine(quarantine::QuarantineArgs),
    /// Show the trust scores of the agents
    Trust(trust::TrustArgs),
    /// Check rule files; list the kernel's rules; what differs between the two
    Rules(rules::RulesArgs),
    /// Set up and test the channels that tell people
    Notify(notify::NotifyArgs),
    /// Check or show the configuration
    Config(config::ConfigArgs),
    /// Is it watching, what does it see, what was lost?
    Status(status::StatusArgs),
    /// Put the kernel's audit rules and settings back as they were before the monitor ran
    Restore(restore::RestoreArgs),
    /// Print completions for a shell
    Completions(shell::CompletionsArgs),
    /// Write manual pages
    Man(shell::ManArgs),
    /// The process that holds audit rights; `run` starts it
    #[command(hide = true)]
    Sensor(run::WorkerArgs),
    /// Opens a history and lets it go: the sensor lets a child do this after an end that was none in order
    #[command(hide = true)]
    ProbeStore { dir: PathBuf },
    /// The process that talks to Docker and networks; the sensor starts it
    #[command(hide = true)]
    Courier(run::WorkerArgs),
}

/// Wrong usage that clap cannot see: exit status 2.
#[derive(Debug)]
pub struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Turns an error about what was typed into one.
pub fn usage(error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Usage(format!("{:#}", error.into())))
}

/// Runs the command and gives the exit status: 0 done, 1 failed, 2 wrong usage (clap's own).
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = cli.config.as_deref();
    let done = match &cli.command {
        Command::Run(args) => run::run(config, args),
        Command::Sensor(args) => run::sensor(args),
        Command::Courier(args) => run::courier(args),
        Command::ProbeStore { dir } => crate::daemon::chronicle::probe_here(dir),
        Command::Replay(args) => replay::run(config, args),
        Command::History(args) => history::run(config, args),
        Command::Alerts(args) => alerts::run(config, args),
        Command::Incident(args) => incident::run(config, args),
        Command::Quarantine(args) => quarantine::run(config, args),
        Command::Trust(args) => trust::run(config, args),
        Command::Rules(args) => rules::run(config, args),
        Command::Notify(args) => notify::run(config, args),
        Command::Config(args) => config::run(config, args),
        Command::Status(args) => status::run(config, args),
        Command::Restore(args) => restore::run(config, args),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
    };
    match done {
        Ok(code) => code,
        // A reader that went away (`| head`) is no failure.
        Err(e) if crate::output::is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("syscall-monitor: {e:#}");
            ExitCode::from(if e.is::<Usage>() { 2 } else { 1 })
        }
    }
}
