//! A process tree with times.

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
use crate::views::tree::{Node, Tree};

/// Who started whom, what each process ran, when it was first seen and for how long.
///
/// A process stands in the tree when an event of it, or of a child of it, fits the filters; `⇒` joins the programs that one process ran
/// one after the other. Without --since: the last hour; with --alert: ten minutes before and after it.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  syscall-monitor history tree --container openclaw-gateway --since 15m\n  \
    syscall-monitor history tree --alert A-42\n  \
    syscall-monitor history tree --since today --output jsonl | jq 'select(.alerts != [])'"
)]
pub struct TreeArgs {
    #[command(flatten)]
    filters: Filters,
    /// The process that raised this alert, its ancestors and its descendants
    #[arg(long, value_name = "A-N", visible_alias = "incident")]
    alert: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    /// How to write it; jsonl is one process a line
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub fn run(config: &Config, args: &TreeArgs) -> anyhow::Result<ExitCode> {
    let (mut spec, default_window) = super::question(&args.filters, 1)?;
    if args.alert.is_some() && default_window {
        spec.since_ms = None;
    }
    let reader = Reader::open(config, &args.store)?;
    let ask = Ask::Tree {
        spec,
        alert: args.alert.clone(),
    };
    let tree: Tree = reader.ask(&ask, "reading events")?;
    let nodes = tree
        .nodes
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<Vec<_>, _>>()
        .context("the tree cannot be written as JSON")?;
    let columns = [
        ("pid", "/pid"),
        ("depth", "/depth"),
        ("container", "/container"),
        ("first", "/first"),
        ("last", "/last"),
        ("events", "/events"),
        ("comm", "/comm"),
        ("exe", "/exe"),
        ("user", "/user"),
        ("commands", "/commands"),
        ("alerts", "/alerts"),
    ];
    output::list(args.output, &nodes, &columns, || {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        draw(&tree, output::width(), &mut out)
    })?;
    if args.output == Output::Table {
        if tree.left_out > 0 {
            eprintln!(
                "({} of {} events are of processes that are too many for one tree; narrow it with --since or a filter)",
                tree.left_out, tree.events
            );
        }
        if default_window && args.alert.is_none() {
            eprintln!("(the last hour; --since 1d goes further back)");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Deeper processes are shown with a number in place of the lines.
const DEEPEST: usize = 20;

fn draw(tree: &Tree, width: usize, out: &mut impl Write) -> anyhow::Result<()> {
    if tree.nodes.is_empty() {
        writeln!(out, "no event matches")?;
        return Ok(());
    }
    let now = jiff::Zoned::now();
    let starts = |n: &&Node| n.first_ms > 0;
    let time_width = tree
        .nodes
        .iter()
        .filter(starts)
        .map(|n| times::short(n.first_ms, &now).len())
        .max()
        .unwrap_or(0)
        .max(5);
    let last = lasts(tree);
    writeln!(out, "{:<time_width$}  {:>6}  PROCESS", "FIRST", "FOR")?;
    let mut container = None;
    let mut above: Vec<bool> = Vec::new();
    for (place, node) in tree.nodes.iter().enumerate() {
        if node.depth == 0 && container != Some(&node.container) {
            let name = node.container.as_deref().unwrap_or("host");
            let id = node.container_id.as_deref().and_then(|id| id.get(..12));
            let title = format!("{name}  {}", id.unwrap_or_default());
            writeln!(out, "{}", output::visible(title.trim_end()))?;
            container = Some(&node.container);
        }
        above.truncate(node.depth);
        let mut lines = String::new();
        if node.depth > DEEPEST {
            lines = format!("… {} deep └─ ", node.depth);
        } else if node.depth > 0 {
            for is_last in above.iter().skip(1) {
                lines.push_str(if *is_last { "   " } else { "│  " });
            }
            lines.push_str(if last[place] { "└─ " } else { "├─ " });
        }
        above.push(last[place]);
        let (first, span) = if node.first_ms > 0 {
            (
                times::short(node.first_ms, &now),
                times::span(node.last_ms - node.first_ms),
            )
        } else {
            (String::new(), String::new())
        };
        let text = format!("{first:<time_width$}  {span:>6}  {lines}{}", label(node));
        writeln!(out, "{}", output::cut(&text, width).trim_end())?;
    }
    out.flush()?;
    Ok(())
}

/// Is it the last child of its parent?
fn lasts(tree: &Tree) -> Vec<bool> {
    let mut last = vec![true; tree.nodes.len()];
    let mut seen = std::collections::HashSet::new();
    for (place, node) in tree.nodes.iter().enumerate().rev() {
        last[place] = seen.insert(node.parent);
    }
    last
}

fn label(node: &Node) -> String {
    let run = if node.commands.is_empty() {
        node.comm.clone()
    } else {
        node.commands.join(" ⇒ ")
    };
    // In front, where it is not cut off.
    let alerts = if node.alerts.is_empty() {
        String::new()
    } else {
        let more = node.alerts.len().saturating_sub(3);
        let list = node.alerts.iter().take(3).cloned().collect::<Vec<_>>();
        let more = if more > 0 {
            format!(" +{more}")
        } else {
            String::new()
        };
        format!("[{}{more}] ", list.join(" "))
    };
    format!("{} {alerts}{}", node.pid, output::visible(&run))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pid: u32, parent: Option<usize>, depth: usize, command: &str) -> Node {
        Node {
            pid,
            parent,
            depth,
            container: Some("gw".into()),
            first_ms: 1_795_353_018_414,
            last_ms: 1_795_353_018_414 + u64::from(pid) * 1000,
            commands: vec![command.into()],
            ..Node::default()
        }
    }

    #[test]
    fn lines_lead_from_parents_to_children_and_fit_the_terminal() {
        let mut nodes = vec![
            node(1, None, 0, "node app.js"),
            node(20, Some(0), 1, "sh -c \u{1b}[2J"),
            node(21, Some(1), 2, &"x".repeat(200)),
            node(30, Some(0), 1, "ls"),
        ];
        nodes[1].alerts = vec!["A-1".into()];
        let tree = Tree {
            nodes,
            events: 4,
            left_out: 0,
        };
        let mut out = Vec::new();
        draw(&tree, 80, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        for part in [
            "├─ 20 [A-1] sh -c \\u{1b}[2J",
            "│  └─ 21 xxx",
            "└─ 30 ls",
            "  20s  ",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }
}
