//! `history`: search everything that was seen.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{Filters, Output, StoreArgs};
use crate::client::Client;
use crate::config::Config;
use crate::output;
use crate::query::{Answer, Spec};
use crate::times;

/// Search everything that was seen.
///
/// Without --since: the last hour, newest last. Works while the daemon runs (through its socket) and while it does not.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    syscall-monitor history --container openclaw-gateway --syscall mount --output jsonl\n  \
    syscall-monitor history --since today --severity high\n  \
    syscall-monitor history --path /etc/cron.d --not comm=dpkg\n  \
    syscall-monitor history show 1795353018.414:5"
)]
pub struct HistoryArgs {
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,
    #[command(flatten)]
    pub filters: Filters,
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// At most that many, the newest ones [default: 1000 as a table, else all]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Newest first
    #[arg(long)]
    pub reverse: bool,
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Subcommand)]
pub enum HistoryCommand {
    /// What happened to the monitor itself: times when nobody watched, losses, changed settings, releases
    Notices {
        /// From [default: the last day]
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        #[command(flatten)]
        store: StoreArgs,
        /// How to write it
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Everything about one event
    Show {
        /// Event id, 1795353018.414:5
        id: String,
        #[command(flatten)]
        store: StoreArgs,
        /// How to write it
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// Where answers come from: the daemon, or the store itself while no daemon runs.
pub enum Reader {
    Daemon(Client),
    Store(history::Store),
}

impl Reader {
    pub fn open(config: &Config, store: &StoreArgs) -> anyhow::Result<Self> {
        if let Some(dir) = &store.store {
            return Ok(Self::Store(open_store(dir)?));
        }
        match Client::connect(&config.socket())? {
            Some(client) => Ok(Self::Daemon(client)),
            None => {
                not_while_starting(config)?;
                Ok(Self::Store(open_store(&config.history_dir())?))
            }
        }
    }

    pub fn query(
        &self,
        spec: &Spec,
        raw: bool,
        each: &mut dyn FnMut(Answer) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Daemon(client) => {
                client.lines("/v1/query", &json!({"spec": spec, "raw": raw}), each)
            }
            Self::Store(store) => {
                let mut done = Ok(());
                crate::query::run(store, spec, raw, &mut |answer| match each(answer) {
                    Ok(true) => ControlFlow::Continue(()),
                    Ok(false) => ControlFlow::Break(()),
                    Err(e) => {
                        done = Err(e);
                        ControlFlow::Break(())
                    }
                })?;
                done
            }
        }
    }
}

/// A daemon that starts or stops needs the store for itself.
pub fn not_while_starting(config: &Config) -> anyhow::Result<()> {
    if let Some(pid) = crate::daemon::pidfile::holder(&config.pid_file())? {
        bail!("the monitor (pid {pid}) is starting or stopping; try again in a moment");
    }
    Ok(())
}

fn open_store(dir: &Path) -> anyhow::Result<history::Store> {
    if !dir.exists() {
        bail!(
            "there is no history in {}; start the monitor, or name another store with --store DIR",
            dir.display()
        );
    }
    history::Store::open(dir, history::Options::default())
        .with_context(|| format!("cannot open the history {}", dir.display()))
}

pub fn run(config: Option<&Path>, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    match &args.command {
        Some(HistoryCommand::Show { id, store, output }) => {
            return show(&config, id, store, *output);
        }
        Some(HistoryCommand::Notices {
            since,
            store,
            output,
        }) => return notices(&config, since.as_deref(), store, *output),
        None => {}
    }
    let mut spec = Spec::from_filters(&args.filters, &["activity"]).map_err(super::usage)?;
    let default_window =
        spec.since_ms.is_none() && spec.until_ms.is_none() && args.filters.id.is_empty();
    if default_window {
        spec.since_ms = Some(times::now_ms().saturating_sub(3_600_000));
    }
    let reader = Reader::open(&config, &args.store)?;
    let limit = args
        .limit
        .or((args.output == Output::Table).then_some(1000));
    list(&reader, &mut spec, limit, args, default_window)?;
    if args.follow {
        return follow(&reader, spec, args);
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest `limit` rows, newest last (or first with --reverse).
fn list(
    reader: &Reader,
    spec: &mut Spec,
    limit: Option<usize>,
    args: &HistoryArgs,
    default_window: bool,
) -> anyhow::Result<()> {
    let mut out = Writer::new(args.output);
    let raw = args.output == Output::Raw;
    let mut last = None;
    let mut cut = false;
    if args.reverse || limit.is_some() {
        spec.newest_first = true;
        // One more than asked for tells whether there is more.
        spec.limit = limit.map(|n| n.saturating_add(1));
        let mut rows = Vec::new();
        reader.query(spec, raw, &mut |answer| {
            if last.is_none() {
                last = Some(answer.cursor.clone());
            }
            if limit.is_some_and(|n| rows.len() >= n) {
                cut = true;
                return Ok(false);
            }
            rows.push(answer);
            Ok(true)
        })?;
        if args.reverse {
            rows.iter().try_for_each(|a| out.write(a))?;
        } else {
            rows.iter().rev().try_for_each(|a| out.write(a))?;
        }
    } else {
        reader.query(spec, raw, &mut |answer| {
            last = Some(answer.cursor.clone());
            out.write(&answer)?;
            Ok(true)
        })?;
    }
    let count = out.count;
    out.finish("no event matches")?;
    if args.output == Output::Table {
        footer(count, cut, default_window);
    }
    spec.newest_first = false;
    spec.limit = None;
    spec.after = last;
    Ok(())
}

/// Says on standard error what was left out, so that a pipe gets data only.
fn footer(count: usize, cut: bool, default_window: bool) {
    let mut notes = Vec::new();
    if cut {
        notes.push(format!(
            "only the newest {count} are shown; --limit N shows more"
        ));
    }
    if default_window {
        notes.push("the last hour; --since 1d goes further back".to_owned());
    }
    if !notes.is_empty() {
        eprintln!("({})", notes.join("; "));
    }
}

fn follow(reader: &Reader, mut spec: Spec, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let Reader::Daemon(_) = reader else {
        bail!(
            "--follow needs the running daemon; start it with scripts/enable-syscall-monitor.sh --full"
        );
    };
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let mut out = Writer::new(args.output);
        out.headless = true;
        let mut last = None;
        reader.query(&spec, args.output == Output::Raw, &mut |answer| {
            last = Some(answer.cursor.clone());
            out.write(&answer)?;
            Ok(true)
        })?;
        if out.count > 0 {
            out.finish("")?;
        }
        if last.is_some() {
            spec.after = last;
        }
    }
}

fn show(config: &Config, id: &str, store: &StoreArgs, output: Output) -> anyhow::Result<ExitCode> {
    let id: collector::EventId = id.parse().map_err(super::usage)?;
    let filters = Filters {
        id: vec![id.to_string()],
        ..Filters::default()
    };
    let mut spec = Spec::from_filters(&filters, &["activity"])?;
    spec.since_ms = Some(id.millis);
    spec.until_ms = Some(id.millis + 1);
    let reader = Reader::open(config, store)?;
    let mut found = None;
    reader.query(&spec, true, &mut |answer| {
        found = Some(answer);
        Ok(false)
    })?;
    let Some(answer) = found else {
        bail!(
            "no event {id} in the history; it may be older than the history reaches, or have been lost (`syscall-monitor status` counts losses)"
        );
    };
    let mut out = std::io::stdout().lock();
    match output {
        Output::Table => write!(out, "{}", crate::show::event(&answer.json))?,
        Output::Raw => write!(out, "{}", answer.raw.unwrap_or_default())?,
        Output::Json => writeln!(out, "{:#}", answer.json)?,
        Output::Jsonl | Output::Csv => writeln!(out, "{}", answer.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn notices(
    config: &Config,
    since: Option<&str>,
    store: &StoreArgs,
    form: Output,
) -> anyhow::Result<ExitCode> {
    let filters = Filters {
        since: Some(since.unwrap_or("1d").to_owned()),
        ..Filters::default()
    };
    let mut list = Vec::new();
    Reader::open(config, store)?.query(
        &Spec::from_filters(&filters, &["notice"]).map_err(super::usage)?,
        false,
        &mut |answer| {
            list.push(answer.json);
            Ok(true)
        },
    )?;
    let mut out = std::io::stdout().lock();
    match form {
        Output::Json => writeln!(out, "{:#}", Value::Array(list))?,
        Output::Jsonl => list.iter().try_for_each(|n| writeln!(out, "{n}"))?,
        Output::Csv | Output::Raw => bail!("notices are written as table, json or jsonl"),
        Output::Table => {
            drop(out);
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
            output::print_table(&table, "nothing happened to the monitor itself")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes events in the chosen form.
struct Writer {
    output: Output,
    table: comfy_table::Table,
    document: Vec<Value>,
    now: jiff::Zoned,
    count: usize,
    headless: bool,
}

const CSV_HEADER: &str = "id,time,category,syscall,success,errno,container,profile,agent,pid,ppid,exe,comm,user,command,path,address,keys,alerts";

impl Writer {
    fn new(output: Output) -> Self {
        Self {
            output,
            table: output::table(&["TIME", "CONTAINER", "PID", "CALL", "WHAT"]),
            document: vec![],
            now: jiff::Zoned::now(),
            count: 0,
            headless: false,
        }
    }

    fn write(&mut self, answer: &Answer) -> anyhow::Result<()> {
        let json = &answer.json;
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Jsonl => writeln!(out, "{json}")?,
            Output::Json => self.document.push(json.clone()),
            Output::Raw => write!(out, "{}", answer.raw.as_deref().unwrap_or_default())?,
            Output::Csv => {
                if self.count == 0 && !self.headless {
                    writeln!(out, "{CSV_HEADER}")?;
                }
                writeln!(out, "{}", csv_line(json))?;
            }
            Output::Table => self.row(json),
        }
        self.count += 1;
        Ok(())
    }

    fn row(&mut self, json: &Value) {
        let text = |pointer: &str| {
            json.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let millis = crate::show::millis(json);
        let call = crate::show::call(json);
        let what = crate::show::what(json);
        self.table.add_row(vec![
            output::cell(&times::short(millis, &self.now)),
            output::cell(&crate::show::container_name(json)),
            output::cell(
                &json
                    .pointer("/process/pid")
                    .map(Value::to_string)
                    .unwrap_or_default(),
            ),
            output::cell(&call),
            output::cell(&output::cut(&what, 400)),
        ]);
        // An event that raised an alert names it.
        if let Some(alerts) = json.get("alerts").and_then(Value::as_array)
            && !alerts.is_empty()
        {
            let ids: Vec<_> = alerts.iter().filter_map(Value::as_str).collect();
            self.table.add_row(vec![
                output::cell(""),
                output::cell(""),
                output::cell(""),
                output::cell(text("/none")),
                output::cell(&format!("└ alert {}", ids.join(", "))),
            ]);
        }
    }

    fn finish(self, empty: &str) -> anyhow::Result<()> {
        match self.output {
            Output::Table if self.headless => {
                let mut out = std::io::stdout().lock();
                for line in self.table.to_string().lines().skip(1) {
                    writeln!(out, "{}", line.trim_end())?;
                }
                Ok(())
            }
            Output::Table => output::print_table(&self.table, empty),
            Output::Json => Ok(writeln!(
                std::io::stdout().lock(),
                "{:#}",
                Value::Array(self.document)
            )?),
            _ => Ok(()),
        }
    }
}

fn csv_line(json: &Value) -> String {
    let value = |pointer: &str| match json.pointer(pointer) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let list = |pointer: &str| -> String {
        let items = json.pointer(pointer).and_then(Value::as_array);
        items
            .map(|l| {
                l.iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .unwrap_or_default()
    };
    let fields = [
        value("/id"),
        value("/time"),
        value("/category"),
        value("/syscall/name"),
        value("/syscall/success"),
        value("/syscall/errno"),
        crate::show::container_name(json),
        value("/container/profile"),
        value("/container/agent"),
        value("/process/pid"),
        value("/process/ppid"),
        value("/process/exe"),
        value("/process/comm"),
        value("/process/user"),
        list("/process/argv"),
        value("/paths/0/path"),
        value("/socket/address"),
        list("/keys"),
        list("/alerts"),
    ];
    fields
        .iter()
        .map(|f| output::csv(f))
        .collect::<Vec<_>>()
        .join(",")
}
