//! Lists events.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use comfy_table::{ColumnConstraint, Width};
use serde_json::{Value, json};

use super::HistoryArgs;
use super::progress::Bar;
use super::reader::Reader;
use crate::cli::args::Output;
use crate::client::Line;
use crate::config::Config;
use crate::output;
use crate::query::{Answer, Spec, Watch};
use crate::times;

/// Rows of a table that are written at once when it is written as it is found.
const PAGE: usize = 100;
/// What was found is on the screen after this.
const SOON: Duration = Duration::from_millis(200);

pub fn run(config: &Config, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let (mut spec, default_window) = super::question(&args.filters, 1)?;
    if let Some(cursor) = &args.after {
        cursor
            .parse::<history::Cursor>()
            .map_err(crate::cli::usage)?;
        spec.after = Some(cursor.clone());
    }
    let reader = Reader::open(config, &args.store)?;
    let limit = args
        .limit
        .or((args.output == Output::Table).then_some(1000));
    list(&reader, &mut spec, limit, args, default_window)?;
    if args.follow {
        let mut out = Writer::new(args.output);
        out.headless = true;
        return follow(&reader, spec, args.output == Output::Raw, &mut |row| {
            match row {
                Follow::Row(answer) => out.write(&answer)?,
                Follow::Pause => out.flush()?,
            }
            Ok(())
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest `limit` rows, newest last; or first with --reverse; or all, oldest first.
fn list(
    reader: &Reader,
    spec: &mut Spec,
    limit: Option<usize>,
    args: &HistoryArgs,
    default_window: bool,
) -> anyhow::Result<()> {
    let mut out = Writer::new(args.output);
    let raw = args.output == Output::Raw;
    let backwards = args.reverse || limit.is_some();
    spec.newest_first = backwards;
    // One more than asked for tells whether there is more.
    spec.limit = limit.map(|n| n.saturating_add(1));
    let (mut rows, mut cut) = (Vec::new(), false);
    let (mut first, mut last) = (None, None);
    let mut count = 0usize;
    let watch = Watch::default();
    // Rows that are written to the terminal meanwhile show by themselves how far it is.
    let writes = !backwards || args.reverse;
    let bar = (!(writes && output::on_terminal())).then(|| Bar::start(&watch, "searching"));
    reader.query(spec, raw, &watch, &mut |answer| {
        if limit.is_some_and(|n| count >= n) {
            cut = true;
            return Ok(false);
        }
        count += 1;
        first.get_or_insert_with(|| answer.cursor.clone());
        last = Some(answer.cursor.clone());
        if writes {
            out.write(&answer)?;
        } else {
            rows.push(answer);
        }
        Ok(true)
    })?;
    drop(bar);
    rows.iter().rev().try_for_each(|a| out.write(a))?;
    out.finish("no event matches")?;
    if args.output == Output::Table || cut {
        footer(args, count, last.as_deref().filter(|_| cut), default_window);
    }
    // What comes behind the newest row is new.
    spec.newest_first = false;
    spec.limit = None;
    spec.after = if backwards { first } else { last };
    Ok(())
}

/// Says on standard error what was left out, so that a pipe gets data only.
fn footer(args: &HistoryArgs, count: usize, cut_at: Option<&str>, default_window: bool) {
    let mut notes = Vec::new();
    if let Some(cursor) = cut_at {
        notes.push(format!(
            "{} {count} are shown; --limit N shows more, --after {cursor} the ones before them",
            if args.after.is_some() {
                "only"
            } else {
                "only the newest"
            }
        ));
    }
    if default_window {
        notes.push("the last hour; --since 1d goes further back".to_owned());
    }
    if !notes.is_empty() {
        eprintln!("({})", notes.join("; "));
    }
}

/// What a follower gets.
pub enum Follow {
    Row(Box<Answer>),
    /// Nothing more for now: show what there is.
    Pause,
}

/// Hands over what comes from now on, and what came since the spec's cursor. Ends when the daemon ends.
pub fn follow(
    reader: &Reader,
    spec: Spec,
    raw: bool,
    each: &mut dyn FnMut(Follow) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let Reader::Daemon(client) = reader else {
        bail!(
            "--follow needs the running daemon; start it with scripts/enable-syscall-monitor.sh --full"
        );
    };
    each(Follow::Pause)?;
    let body = json!({"spec": spec, "raw": raw});
    client.chunks("/v1/follow", &body, &mut |lines: Vec<Line<Answer>>| {
        for line in lines {
            match line {
                Line::Row(answer) => each(Follow::Row(Box::new(answer)))?,
                Line::Lost(count) => eprintln!(
                    "(too slow: {count} events are not shown here; they are in the history)"
                ),
                Line::Progress(..) | Line::Result(_) => {}
            }
        }
        each(Follow::Pause)?;
        Ok(true)
    })?;
    bail!("the daemon ended")
}

/// Writes events in the chosen form, and so that the first are seen soon.
pub struct Writer<W: Write = std::io::StdoutLock<'static>> {
    out: std::io::BufWriter<W>,
    output: Output,
    page: Vec<[String; 5]>,
    /// Widths of the columns of the first page; later pages keep them.
    widths: Option<Vec<u16>>,
    now: jiff::Zoned,
    count: usize,
    /// Without a line of titles.
    headless: bool,
    flushed: Instant,
}

const CSV_HEADER: &str = "id,time,category,syscall,success,errno,container,profile,agent,pid,ppid,exe,comm,user,command,path,address,keys,alerts";

impl Writer {
    pub fn new(output: Output) -> Self {
        Self::to(std::io::stdout().lock(), output)
    }
}

impl<W: Write> Writer<W> {
    pub fn to(out: W, output: Output) -> Self {
        Self {
            out: std::io::BufWriter::with_capacity(64 << 10, out),
            output,
            page: vec![],
            widths: None,
            now: jiff::Zoned::now(),
            count: 0,
            headless: false,
            flushed: Instant::now(),
        }
    }

    /// Rows so far.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn write(&mut self, answer: &Answer) -> anyhow::Result<()> {
        let json = &answer.json;
        match self.output {
            Output::Jsonl => writeln!(self.out, "{json}")?,
            Output::Json => {
                // One document, written as it grows: nobody holds a million events.
                self.out
                    .write_all(if self.count == 0 { b"[\n" } else { b",\n" })?;
                write!(self.out, "{json}")?;
            }
            Output::Raw => {
                let text = answer.raw.as_deref().unwrap_or_default();
                self.out.write_all(&collector::text::to_bytes(text))?;
            }
            Output::Csv => {
                if self.count == 0 && !self.headless {
                    writeln!(self.out, "{CSV_HEADER}")?;
                }
                writeln!(self.out, "{}", csv_line(json))?;
            }
            Output::Table => self.row(json),
        }
        self.count += 1;
        if self.page.len() >= PAGE || self.flushed.elapsed() > SOON {
            self.flush()?;
        }
        Ok(())
    }

    fn row(&mut self, json: &Value) {
        self.page.push([
            times::short(crate::show::millis(json), &self.now),
            crate::show::container_name(json),
            json.pointer("/process/pid")
                .map(Value::to_string)
                .unwrap_or_default(),
            crate::show::call(json),
            output::cut(&crate::show::what(json), 400),
        ]);
        // An event that raised an alert names it.
        let alerts = json.get("alerts").and_then(Value::as_array);
        let ids: Vec<_> = alerts
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !ids.is_empty() {
            let mut line = [const { String::new() }; 5];
            line[4] = format!("└ alert {}", ids.join(", "));
            self.page.push(line);
        }
    }

    /// Shows what there is.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if !self.page.is_empty() {
            let mut table = output::table(&["TIME", "CONTAINER", "PID", "CALL", "WHAT"]);
            for row in self.page.drain(..) {
                table.add_row(row.map(|text| output::cell(&text)));
            }
            match &self.widths {
                Some(widths) => {
                    for (column, width) in table.column_iter_mut().zip(widths) {
                        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(*width)));
                    }
                }
                None => self.widths = Some(output::widths(&table)),
            }
            // A page of a table that was begun has no titles.
            let skip = usize::from(self.headless);
            for line in table.to_string().lines().skip(skip) {
                writeln!(self.out, "{}", line.trim_end())?;
            }
            self.headless = true;
        }
        self.out.flush()?;
        self.flushed = Instant::now();
        Ok(())
    }

    /// Ends the document; `empty` is said in place of an empty table.
    pub fn finish(mut self, empty: &str) -> anyhow::Result<()> {
        self.end(empty)
    }

    /// Ends the document and gives back what it was written to.
    pub fn into_inner(mut self) -> anyhow::Result<W> {
        self.end("")?;
        self.out.into_inner().map_err(|e| e.into_error().into())
    }

    fn end(&mut self, empty: &str) -> anyhow::Result<()> {
        match self.output {
            Output::Table if self.count == 0 => writeln!(self.out, "{empty}")?,
            Output::Json if self.count == 0 => writeln!(self.out, "[]")?,
            Output::Json => writeln!(self.out, "\n]")?,
            Output::Csv if self.count == 0 && !self.headless => {
                writeln!(self.out, "{CSV_HEADER}")?;
            }
            _ => {}
        }
        self.flush()
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
