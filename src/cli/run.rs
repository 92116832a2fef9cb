//! `run`, and the two processes that it starts.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::config::{Chosen, Config, Mode, ProfileName};
use crate::daemon::{self, Options};

/// Watch: load kernel rules, read the audit stream, alert and act. Needs root; runs in the foreground until SIGTERM.
#[derive(Args)]
pub struct RunArgs {
    /// Rule packs: openclaw, clawbot, moltbot, full; may be repeated [default: full]
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub profile: Vec<ProfileName>,
    /// This container is an agent of the first profile, whatever it is called; may be repeated
    #[arg(long, value_name = "NAME")]
    pub container: Vec<String>,
    /// Own the audit stream, or read along
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Decide everything and do nothing: no freeze, no message, no trust file; alerts go to the history
    #[arg(long)]
    pub dry_run: bool,
}

/// What a worker process is given.
#[derive(Args)]
pub struct WorkerArgs {
    /// Options as JSON; in the environment, so that `ps` stays readable
    #[arg(long, env = "SYSCALL_MONITOR_OPTIONS", hide_env_values = true)]
    pub options: String,
}

pub fn run(config_file: Option<&Path>, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config_file)?;
    if !rustix::process::geteuid().is_root() {
        bail!(
            "watching needs root (audit rules are root's); run it with sudo, or let scripts/enable-syscall-monitor.sh --full set everything up"
        );
    }
    let chosen = Chosen::resolve(&args.profile, &config);
    if chosen.profiles.is_empty() {
        bail!("no profile is chosen; name one with --profile openclaw|clawbot|moltbot|full");
    }
    let options = Options {
        config_file: config_file.map(Path::to_owned),
        mode: args.mode.unwrap_or(config.collector.mode),
        chosen,
        containers: args.container.clone(),
        dry_run: args.dry_run,
        config,
    };
    daemon::init_log();
    daemon::supervisor::run(&options)?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &WorkerArgs) -> anyhow::Result<Options> {
    // The worker dies with its parent: a daemon without its watchdog, or a courier without its sensor, is none.
    collector_sys::die_with_parent().context("cannot tie this process to its parent")?;
    daemon::init_log();
    serde_json::from_str(&args.options).context("--options is not what this version writes")
}

pub fn sensor(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let anew = daemon::sensor::run(&options)?;
    Ok(if anew {
        ExitCode::from(daemon::sensor::START_ANEW)
    } else {
        ExitCode::SUCCESS
    })
}

pub fn courier(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    daemon::courier::run(&options)?;
    Ok(ExitCode::SUCCESS)
}
