//! What people see: tables that fit the terminal, text from containers made harmless.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use serde_json::Value;

use crate::cli::args::Output;

/// Shows control, bidi and other invisible characters rather than sending them to the terminal.
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c as u32 {
            // A byte that is not UTF-8 (collector::text).
            byte @ 0xF700..=0xF7FF => out.push_str(&format!("\\x{:02x}", byte - 0xF700)),
            0x0a => out.push_str("\\n"),
            0x09 => out.push_str("\\t"),
            0x0d => out.push_str("\\r"),
            code if c.is_control() || is_invisible(code) => {
                out.push_str(&format!("\\u{{{code:x}}}"))
            }
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Zero-width, bidirectional and tag characters: they change how other text looks.
fn is_invisible(code: u32) -> bool {
    matches!(code, 0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFE00..=0xFE0F | 0xFEFF | 0xFFF9..=0xFFFB | 0xE0000..=0xE0FFF)
}

/// Is standard output a terminal?
pub fn on_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// A table in the house style: no frame, columns separated by two blanks, fitted to the terminal.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !on_terminal() {
        table.set_width(160);
        table.force_no_tty();
    }
    table.set_header(
        header
            .iter()
            .map(|h| Cell::new(h).add_attribute(Attribute::Bold))
            .collect::<Vec<_>>(),
    );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Columns of the terminal; 160 when standard output is none.
pub fn width() -> usize {
    if !on_terminal() {
        return 160;
    }
    Table::new().width().map_or(80, usize::from)
}

/// Text cut to the terminal.
pub fn fit(text: &str) -> String {
    cut(text, width())
}

/// How wide the columns of a table are drawn, without their padding.
pub fn widths(table: &Table) -> Vec<u16> {
    let text = table.to_string();
    let Some(titles) = text.lines().next() else {
        return vec![];
    };
    // Titles are drawn at the start of their columns and hold no blanks.
    let plain = plain(titles);
    let starts: Vec<usize> = plain
        .char_indices()
        .filter(|(n, c)| *c != ' ' && (*n == 0 || plain.as_bytes().get(n - 1) == Some(&b' ')))
        .map(|(n, _)| n)
        .collect();
    let end = starts.iter().skip(1).copied().chain([plain.len()]);
    starts
        .iter()
        .zip(end)
        .map(|(from, to)| u16::try_from(to - from).unwrap_or(u16::MAX))
        .collect()
}

/// A list in the chosen form. `columns` are name and JSON pointer of what CSV shows.
pub fn list(
    form: Output,
    items: &[Value],
    columns: &[(&str, &str)],
    table: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if form == Output::Table {
        return table();
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match form {
        Output::Jsonl => items.iter().try_for_each(|item| writeln!(out, "{item}"))?,
        Output::Csv => {
            let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
            writeln!(out, "{}", names.join(","))?;
            for item in items {
                let fields: Vec<_> = columns
                    .iter()
                    .map(|(_, pointer)| csv_field(item, pointer))
                    .collect();
                writeln!(out, "{}", fields.join(","))?;
            }
        }
        Output::Raw => return Err(no_records()),
        Output::Table | Output::Json => writeln!(out, "{}", json_list(items))?,
    }
    out.flush()?;
    Ok(())
}

/// What stands at a JSON pointer, as a field of CSV.
pub fn csv_field(item: &Value, pointer: &str) -> String {
    csv(&csv_text(item.pointer(pointer))).into_owned()
}

/// One thing in the chosen form.
pub fn one(
    form: Output,
    item: &Value,
    table: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match form {
        Output::Table => {
            drop(out);
            table()?;
        }
        Output::Json => writeln!(out, "{item:#}")?,
        Output::Jsonl => writeln!(out, "{item}")?,
        Output::Csv => {
            return Err(crate::cli::usage(anyhow::anyhow!(
                "this is one thing and no list; write it as table, json or jsonl"
            )));
        }
        Output::Raw => return Err(no_records()),
    }
    Ok(())
}

fn no_records() -> anyhow::Error {
    crate::cli::usage(anyhow::anyhow!(
        "raw is the text of the kernel's records, and there are none here; `syscall-monitor history --output raw` has them"
    ))
}

fn json_list(items: &[Value]) -> String {
    format!("{:#}", Value::Array(items.to_vec()))
}

/// A value as a field of CSV: lists with blanks between, objects as JSON.
fn csv_text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => {
            let words: Vec<_> = list.iter().map(|v| csv_text(Some(v))).collect();
            words.join(" ")
        }
        Some(other) => other.to_string(),
    }
}

/// Text without the colours of a terminal.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // CSI … letter
            let _ = chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

/// A cell with text that may come from a container.
pub fn cell(text: &str) -> Cell {
    Cell::new(visible(text))
}

/// A severity with its colour.
pub fn severity_cell(name: &str) -> Cell {
    let cell = Cell::new(name.to_uppercase());
    match name {
        "critical" => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        "high" => cell.fg(Color::Red),
        "medium" => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// Cuts text to a number of characters, with an ellipsis.
pub fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(max.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// Prints a table, or says in words that there is nothing.
pub fn print_table(table: &Table, empty: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if table.row_count() == 0 {
        writeln!(out, "{empty}")?;
        return Ok(());
    }
    for line in table.to_string().lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// One CSV field (RFC 4180).
pub fn csv(text: &str) -> Cow<'_, str> {
    let shown = visible(text);
    // A leading = + - @ is a formula to a spreadsheet.
    let formula = shown.starts_with(['=', '+', '-', '@']);
    if formula || shown.contains(['"', ',', '\n', '\r']) {
        let quote = if formula { "'" } else { "" };
        Cow::Owned(format!("\"{quote}{}\"", shown.replace('"', "\"\"")))
    } else {
        shown
    }
}

/// Did the reader of our output go away?
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        e.downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// `1.5 MiB`
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 || unit == "GiB" {
            return if unit == "B" {
                format!("{n} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{n} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_a_terminal_are_shown_not_sent() {
        assert_eq!(
            visible("\u{1b}[2J\u{202e}x\n\u{f7ff}"),
            "\\u{1b}[2J\\u{202e}x\\n\\xff"
        );
        assert!(matches!(visible("ls -l"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_next_page_of_a_table_has_the_columns_of_the_first() {
        let mut table = table(&["TIME", "WHAT"]);
        table.add_row(vec!["12:00:00", "a long thing"]);
        assert_eq!(widths(&table), [10, 14]);
        assert_eq!(plain("\u{1b}[1mTIME\u{1b}[0m"), "TIME");
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv("=1+1"), "\"'=1+1\"");
        assert_eq!(csv("plain"), "plain");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(
            (bytes(12), bytes(1536), bytes(5 << 30)),
            ("12 B".into(), "1.5 KiB".into(), "5.0 GiB".into())
        );
    }
}
