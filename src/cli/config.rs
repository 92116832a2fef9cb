//! `config`: check or show the configuration.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::{Config, DEFAULT_FILE};

#[derive(Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Is the file right? An error names line and nearest known key
    Check {
        /// File to check [default: the one in use]
        file: Option<PathBuf>,
    },
    /// Every setting that is in force, defaults included, as TOML (no secrets: those are in files of their own)
    Show,
}

pub fn run(config: Option<&Path>, args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match &args.command {
        ConfigCommand::Check { file } => {
            let file = file.as_deref().or(config);
            Config::load(file)?;
            let name = file.unwrap_or(Path::new(DEFAULT_FILE));
            let note = if name.exists() {
                "is right"
            } else {
                "does not exist; the defaults hold"
            };
            writeln!(out, "{} {note}", name.display())?;
        }
        ConfigCommand::Show => write!(out, "{}", toml::to_string(&Config::load(config)?)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
