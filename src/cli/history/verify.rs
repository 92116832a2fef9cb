//! Is everything as it was written?

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::reader::Reader;
use crate::cli::args::{Output, StoreArgs};
use crate::config::Config;
use crate::output::{self, visible};
use crate::views::Ask;
use crate::views::care::{Verified, anchors_in};

/// Checks every block, its place in the chain, every index and value; names the times that are concerned. Exit status 1 when something
/// is not as it was written.
///
/// Who can write the history can also make a new chain over it. What he cannot take back are the anchors that were told elsewhere before:
/// the monitor tells one every hour and at its end to the system log and the security log, and once a day with an alert. Give a file with
/// them (or one line, or its hash) to --anchor.
#[derive(Args)]
#[command(after_help = "Examples:\n  syscall-monitor history verify\n  \
    ssh loghost grep anchor /var/log/hosts/web1 > told; syscall-monitor history verify --anchor told\n  \
    syscall-monitor history verify --store /backup/history")]
pub struct VerifyArgs {
    /// File with anchors (any log), one anchor as it was told, or a hash; may be repeated
    #[arg(long, value_name = "FILE|ANCHOR|HASH")]
    anchor: Vec<String>,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it: table, json or jsonl
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(config: &Config, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut anchors = Vec::new();
    for given in &args.anchor {
        anchors.extend(read(given)?);
    }
    let reader = Reader::open(config, &args.store)?;
    let verified: Verified = reader.ask(&Ask::Verify { anchors }, "verifying")?;
    output::one(args.output, &serde_json::to_value(&verified)?, || {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        write(&verified, &mut out)
    })?;
    Ok(if verified.whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn read(given: &str) -> anyhow::Result<Vec<String>> {
    let is_hash = given.len() == 64 && given.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hash {
        return Ok(vec![given.to_ascii_lowercase()]);
    }
    let found = anchors_in(given);
    if !found.is_empty() {
        return Ok(found);
    }
    let text = std::fs::read(given).with_context(|| {
        format!("--anchor: {given:?} is neither an anchor nor a hash, and cannot be read as a file")
    })?;
    let found = anchors_in(&String::from_utf8_lossy(&text));
    if found.is_empty() {
        bail!(
            "--anchor: there is no anchor in {given}; the monitor writes it in one line, `history anchor 1 TIME ENTRIES BLOCKS:HASH …`"
        );
    }
    Ok(found)
}

fn write(v: &Verified, out: &mut impl Write) -> anyhow::Result<()> {
    for p in &v.problems {
        let place = match (&p.lane, p.block) {
            (Some(lane), Some(block)) => format!("{lane}, block {block}: "),
            _ => String::new(),
        };
        let times = match (&p.from, &p.until) {
            (Some(from), Some(until)) => format!(" (from {from} until {until})"),
            _ => String::new(),
        };
        writeln!(out, "{place}{}{times}", visible(&p.what))?;
    }
    if v.more_problems > 0 {
        writeln!(out, "and {} problems more", v.more_problems)?;
    }
    for a in &v.anchors {
        let made = a.made.as_deref().map(|at| format!(" of {at}"));
        writeln!(
            out,
            "anchor{} {}: {}",
            made.unwrap_or_default(),
            a.result,
            a.why
        )?;
    }
    let blocks = format!("{} blocks with {} entries", v.blocks, v.entries);
    if v.problems.is_empty() {
        writeln!(out, "{blocks}: all as they were written")?;
    } else {
        writeln!(
            out,
            "{blocks} are whole or named above; the history goes on, and what is whole can be read"
        )?;
    }
    writeln!(out, "anchor now: {}\n  hash {}", v.anchor, v.hash)?;
    out.flush()?;
    Ok(())
}
