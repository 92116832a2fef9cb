//! Filters, as every command that searches takes them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// FILTERS: a filter repeated is or, different filters are and, `*` globs.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Filters (repeat one: or; different ones: and; * globs)")]
pub struct Filters {
    /// From: 15m, 2h, today, 2026-03-01, RFC 3339 [default: the last hour]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Container: name, id prefix, compose service or glob
    #[arg(long, value_name = "NAME")]
    pub container: Vec<String>,
    /// Rule pack of the container: openclaw, clawbot, moltbot
    #[arg(long, value_name = "PROFILE")]
    pub profile: Vec<String>,
    /// Agent (instance)
    #[arg(long, value_name = "AGENT")]
    pub agent: Vec<String>,
    /// Image
    #[arg(long, value_name = "IMAGE")]
    pub image: Vec<String>,
    /// Host pid
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Path of the program
    #[arg(long, value_name = "PATH")]
    pub exe: Vec<String>,
    /// Name of the process
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// User: name or uid
    #[arg(long, value_name = "USER")]
    pub user: Vec<String>,
    /// System call
    #[arg(long, value_name = "NAME")]
    pub syscall: Vec<String>,
    /// process, file, network, mount, ptrace, module, namespace, credential, seccomp, config, other
    #[arg(long, value_name = "CATEGORY")]
    pub category: Vec<String>,
    /// This severity and above: informational, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY")]
    pub severity: Option<detector::Severity>,
    /// Alert rule: id or title
    #[arg(long, value_name = "RULE")]
    pub rule: Vec<String>,
    /// Key of the kernel rule
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
    /// File, or a folder and all below it
    #[arg(long, value_name = "PATH")]
    pub path: Vec<String>,
    /// Network address, address:port, or socket path
    #[arg(long, value_name = "ADDR")]
    pub addr: Vec<String>,
    /// Event id, 1795353018.414:5
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
    /// Text anywhere in the records
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,
    /// Regular expression anywhere in the records
    #[arg(long, value_name = "REGEX")]
    pub regex: Vec<String>,
    /// Only calls that failed
    #[arg(long)]
    pub failed: bool,
    /// All but this, written FILTER=VALUE: --not comm=node
    #[arg(long, value_name = "FILTER=VALUE")]
    pub not: Vec<String>,
}

/// Where the store is, when it is not the daemon's.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreArgs {
    /// Read this store rather than the daemon's
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// How a list is written. The words are the same everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people, fitted to the terminal
    #[default]
    Table,
    /// One JSON object a line
    Jsonl,
    /// One JSON document
    Json,
    /// Comma-separated values
    Csv,
    /// The kernel's records, as ausearch reads them
    Raw,
}
