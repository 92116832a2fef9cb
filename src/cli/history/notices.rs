//! What happened to the monitor itself.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::reader::Reader;
use crate::cli::args::{Filters, Output, StoreArgs};
use crate::config::Config;
use crate::query::{Spec, Watch};
use crate::{output, times};

/// What happened to the monitor itself: times when nobody watched, losses, changed settings, releases.
#[derive(Args)]
pub struct NoticesArgs {
    /// From [default: the last day]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(config: &Config, args: &NoticesArgs) -> anyhow::Result<ExitCode> {
    let filters = Filters {
        since: Some(args.since.clone().unwrap_or_else(|| "1d".into())),
        ..Filters::default()
    };
    let spec = Spec::from_filters(&filters, &["notice"]).map_err(crate::cli::usage)?;
    let mut list = Vec::new();
    Reader::open(config, &args.store)?.query(&spec, false, &Watch::default(), &mut |answer| {
        list.push(answer.json);
        Ok(true)
    })?;
    let columns = [
        ("time", "/time"),
        ("what", "/what"),
        ("details", "/details"),
    ];
    output::list(args.output, &list, &columns, || {
        let now = jiff::Zoned::now();
        let mut table = output::table(&["TIME", "WHAT", "DETAILS"]);
        for n in &list {
            let details = n.get("details").map(Value::to_string).unwrap_or_default();
            table.add_row(vec![
                output::cell(&times::short(crate::show::millis(n), &now)),
                output::cell(n.get("what").and_then(Value::as_str).unwrap_or_default()),
                output::cell(&details),
            ]);
        }
        output::print_table(&table, "nothing happened to the monitor itself")
    })?;
    Ok(ExitCode::SUCCESS)
}
