//! A histogram in the terminal.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::reader::Reader;
use crate::cli::args::{Filters, Output, StoreArgs};
use crate::config::Config;
use crate::output;
use crate::times;
use crate::views::Ask;
use crate::views::timeline::{Bar, Timeline};

/// Events over time, one bar a step, made of a letter for each category; behind it the events that raised an alert, by severity.
///
/// Without --since: the last hour. Text and JSON are the same on a terminal and in a pipe, colour is only on a terminal.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor history timeline --since today --container openclaw-gateway\n  \
    syscall-monitor history timeline --since 7d --step 6h --severity medium"
)]
pub struct TimelineArgs {
    #[command(flatten)]
    filters: Filters,
    /// Time of one bar: 10s, 5m, 1h [default: so that it fits a screen]
    #[arg(long, value_name = "TIME")]
    step: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it; jsonl is one bar a line
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Category, letter, colour (ECMA-48 SGR).
const CATEGORIES: [(&str, char, u8); 11] = [
    ("process", 'p', 32),
    ("file", 'f', 34),
    ("network", 'n', 36),
    ("mount", 'm', 31),
    ("ptrace", 't', 35),
    ("module", 'k', 91),
    ("namespace", 's', 95),
    ("credential", 'c', 33),
    ("seccomp", 'x', 93),
    ("config", 'g', 94),
    ("other", 'o', 37),
];
/// Severity, letter, colour.
const SEVERITIES: [(&str, char, u8); 5] = [
    ("critical", 'C', 31),
    ("high", 'H', 91),
    ("medium", 'M', 33),
    ("low", 'L', 36),
    ("informational", 'I', 37),
];

pub fn run(config: &Config, args: &TimelineArgs) -> anyhow::Result<ExitCode> {
    let (spec, default_window) = super::question(&args.filters, 1)?;
    let step_ms = args
        .step
        .as_deref()
        .map(|text| {
            times::span_ms(text).with_context(|| {
                format!("--step: {text:?} is not a length of time; write it like 30s, 5m, 1h")
            })
        })
        .transpose()
        .map_err(crate::cli::usage)?;
    let reader = Reader::open(config, &args.store)?;
    let timeline: Timeline = reader.ask(&Ask::Timeline { spec, step_ms }, "counting")?;
    let bars = timeline
        .bars
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<(&str, String)> = [
        ("time", "/time".to_owned()),
        ("events", "/events".to_owned()),
    ]
    .into_iter()
    .chain(CATEGORIES.map(|(name, ..)| (name, format!("/categories/{name}"))))
    .chain(SEVERITIES.map(|(name, ..)| (name, format!("/severities/{name}"))))
    .collect();
    let columns: Vec<(&str, &str)> = columns.iter().map(|(n, p)| (*n, p.as_str())).collect();
    output::list(args.output, &bars, &columns, || {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let colour = output::on_terminal();
        let width = if colour { output::width().min(200) } else { 80 };
        draw(&timeline, width, colour, &mut out)
    })?;
    if args.output == Output::Table && default_window {
        eprintln!("(the last hour; --since 1d goes further back)");
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(
    timeline: &Timeline,
    width: usize,
    colour: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let most = timeline.bars.iter().map(|b| b.events).max().unwrap_or(0);
    if most == 0 {
        writeln!(out, "no event matches")?;
        return Ok(());
    }
    let now = jiff::Zoned::now();
    let label = |bar: &Bar| times::at_step(bar.at_ms, timeline.step_ms, &now);
    let widest = |of: &dyn Fn(&Bar) -> usize| timeline.bars.iter().map(of).max().unwrap_or(0);
    let time_width = widest(&|b| label(b).chars().count());
    let count_width = widest(&|b| b.events.to_string().len());
    let severity_width = widest(&|b| severities(b, false).chars().count());
    let room = width
        .saturating_sub(time_width + count_width + severity_width + 6)
        .max(10);
    for bar in &timeline.bars {
        let parts = share(bar, most, room);
        let mut line = format!("{:<time_width$}  ", label(bar));
        let mut length = 0;
        for ((_, letter, code), n) in CATEGORIES.iter().zip(&parts) {
            let part: String = std::iter::repeat_n(*letter, *n).collect();
            length += n;
            if colour && *n > 0 {
                line.push_str(&format!("\x1b[{code}m{part}\x1b[0m"));
            } else {
                line.push_str(&part);
            }
        }
        line.extend(std::iter::repeat_n(' ', room - length));
        line.push_str(&format!("  {:>count_width$}  ", bar.events));
        line.push_str(&severities(bar, colour));
        writeln!(out, "{}", line.trim_end())?;
    }
    let total =
        |of: &dyn Fn(&Bar) -> Option<&u64>| -> u64 { timeline.bars.iter().filter_map(of).sum() };
    let mut legend = Vec::new();
    for (name, letter, _) in CATEGORIES {
        let n = total(&|b: &Bar| b.categories.get(name));
        if n > 0 {
            legend.push(format!("{letter} {name} {n}"));
        }
    }
    let mut alerts = Vec::new();
    for (name, letter, _) in SEVERITIES {
        let n = total(&|b: &Bar| b.severities.get(name));
        if n > 0 {
            alerts.push(format!("{letter} {name} {n}"));
        }
    }
    writeln!(out)?;
    let step = times::span(timeline.step_ms);
    write_wrapped(
        out,
        &format!("{} events, {step} a bar:", timeline.events),
        &legend,
        width,
    )?;
    if !alerts.is_empty() {
        write_wrapped(out, "events that raised an alert:", &alerts, width)?;
    }
    out.flush()?;
    Ok(())
}

/// Letters of each category, in proportion; what is there has one at least, as far as the bar reaches.
fn share(bar: &Bar, most: u64, room: usize) -> [usize; CATEGORIES.len()] {
    let mut out = [0; CATEGORIES.len()];
    if bar.events == 0 {
        return out;
    }
    let length = (u128::from(bar.events) * room as u128).div_ceil(u128::from(most.max(1)));
    let length = usize::try_from(length).unwrap_or(room).clamp(1, room);
    let count = |n: usize| bar.categories.get(CATEGORIES[n].0).copied().unwrap_or(0);
    let exact = |n: usize| count(n) as f64 * length as f64 / bar.events as f64;
    for (n, letters) in out.iter_mut().enumerate() {
        *letters = (exact(n).floor() as usize).max(usize::from(count(n) > 0));
    }
    // Rounding: take from the longest, give to the one with the largest rest.
    while out.iter().sum::<usize>() > length {
        let Some(longest) = (0..out.len()).max_by_key(|n| out[*n]) else {
            break;
        };
        out[longest] -= 1;
    }
    while out.iter().sum::<usize>() < length {
        let rest = |n: &usize| exact(*n) - out[*n] as f64;
        let Some(next) = (0..out.len()).max_by(|a, b| rest(a).total_cmp(&rest(b))) else {
            break;
        };
        out[next] += 1;
    }
    out
}

fn severities(bar: &Bar, colour: bool) -> String {
    let mut parts = Vec::new();
    for (name, letter, code) in SEVERITIES {
        if let Some(n) = bar.severities.get(name).filter(|n| **n > 0) {
            parts.push(if colour {
                format!("\x1b[{code}m{letter}{n}\x1b[0m")
            } else {
                format!("{letter}{n}")
            });
        }
    }
    parts.join(" ")
}

fn write_wrapped(
    out: &mut impl Write,
    title: &str,
    parts: &[String],
    width: usize,
) -> anyhow::Result<()> {
    let mut line = title.to_owned();
    for part in parts {
        if line.chars().count() + part.len() + 3 > width {
            writeln!(out, "{line}")?;
            line = " ".to_owned();
        }
        line.push_str("  ");
        line.push_str(part);
    }
    writeln!(out, "{line}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bar(at_ms: u64, categories: &[(&str, u64)], severities: &[(&str, u64)]) -> Bar {
        let map = |list: &[(&str, u64)]| {
            let items = list.iter().map(|(n, c)| ((*n).to_owned(), *c));
            items.collect::<std::collections::BTreeMap<_, _>>()
        };
        Bar {
            at_ms,
            events: categories.iter().map(|c| c.1).sum(),
            categories: map(categories),
            severities: map(severities),
            ..Bar::default()
        }
    }

    #[test]
    fn bars_fit_eighty_columns_and_have_no_colour_in_a_pipe() {
        let timeline = Timeline {
            step_ms: 60_000,
            events: 1011,
            bars: vec![
                bar(1_795_353_000_000, &[("process", 600), ("file", 400)], &[]),
                bar(1_795_353_060_000, &[], &[]),
                bar(
                    1_795_353_120_000,
                    &[("mount", 1), ("network", 10)],
                    &[("critical", 1), ("low", 12)],
                ),
            ],
            ..Timeline::default()
        };
        let mut out = Vec::new();
        draw(&timeline, 80, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains('\u{1b}'));
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        assert!(text.contains("C1 L12"), "{text}");
        assert!(
            text.contains("p process 600") && text.contains("m mount 1"),
            "{text}"
        );
        let mut out = Vec::new();
        draw(&timeline, 80, true, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("\u{1b}[32mpp"));
    }

    proptest! {
        #[test]
        fn a_bar_is_as_long_as_its_share(counts in proptest::collection::vec(0u64..100_000, 11), more in 0u64..100_000, room in 10usize..150) {
            let names: Vec<(&str, u64)> = CATEGORIES.iter().map(|c| c.0).zip(counts).collect();
            let bar = bar(0, &names, &[]);
            let most = bar.events + more;
            let letters: usize = share(&bar, most, room).iter().sum();
            prop_assert!(letters <= room);
            prop_assert_eq!(letters == 0, bar.events == 0);
        }
    }
}
