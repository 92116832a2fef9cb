//! `rules`: are the files right, what is loaded, what differs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use collector::control::Control;
use collector::rules::{FieldId, Rule, parse_rules};
use serde::Serialize;
use serde_json::json;

use super::args::Output;
use crate::client::Client;
use crate::config::{Chosen, Config, ProfileName};
use crate::daemon::kernel;
use crate::daemon::state::RuleList;
use crate::output::{self, cell, cut};

#[derive(Args)]
pub struct RulesArgs {
    #[command(subcommand)]
    pub command: RulesCommand,
}

#[derive(Subcommand)]
pub enum RulesCommand {
    /// Are rule files right? Names file, line, column and what may have been meant
    ///
    /// Reads kernel rules (`*.rules`, the syntax of auditctl) and alert rules (`*.yml`, Sigma); of a folder everything below it.
    /// Nothing is loaded, and no privileges are needed. Exit status 1 when something is wrong.
    #[command(
        after_help = "Kernel rules, one a line (auditctl(8) has all of it):\n  \
            -a always,exit -F arch=b64 -S execve,execveat -F key=sm-exec   every program that is executed\n  \
            -a always,exit -F path=/etc/shadow -F perm=wa -F key=sm-x      a file, whatever name it is reached by\n  \
            -w /etc/cron.d -p wa -k sm-x                                   the same for a folder and all below it\n\n\
            Each needs a key that begins with sm-, by which it is known again and taken away at the end, and -S with the calls\n\
            that it is about (or path=), since every process of the host walks it at each call that it names.\n\
            A comment `# optional` before a rule says that its path need not exist on every host.\n\n\
            Examples:\n  syscall-monitor rules check\n  syscall-monitor rules check my.rules audit-rules/openclaw/"
    )]
    Check {
        /// Files and folders [default: the folders of the configuration]
        path: Vec<PathBuf>,
    },
    /// Every kernel rule: from which file, in the kernel or not, ours or somebody else's
    ///
    /// Asks the daemon, or as root the kernel itself. `loaded`: in a file and in the kernel. `missing`: in a file only.
    /// `skipped`: in a file, optional, and its path does not exist here. `container`: built for one container while the monitor runs.
    /// `left over`: ours, but wanted by nothing. `other`: of somebody else, and left alone.
    List {
        #[command(flatten)]
        args: ListArgs,
    },
    /// What differs between the files and the kernel; exit status 1 when anything does
    ///
    /// `+` is in a file and not in the kernel, `-` is ours, in the kernel, and in no file. Rules of others, rules for single
    /// containers, and optional ones whose path does not exist here make no difference.
    Diff {
        #[command(flatten)]
        args: ListArgs,
    },
}

#[derive(Args)]
pub struct ListArgs {
    /// Packs to compare with: openclaw, clawbot, moltbot, full [default: what the daemon runs with, else the configuration]
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub profile: Vec<ProfileName>,
    /// How to write it: table, jsonl, json
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

pub fn run(config: Option<&Path>, args: &RulesArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(config)?;
    match &args.command {
        RulesCommand::Check { path } => check(&config, path),
        RulesCommand::List { args } => list(&config, args),
        RulesCommand::Diff { args } => diff(&config, args),
    }
}

// --- check ----------------------------------------------------------------------------------------------------------

/// What a file or folder came to.
#[derive(Default)]
struct Checked {
    rules: usize,
    files: usize,
    wrong: Vec<String>,
    doubtful: Vec<String>,
}

fn check(config: &Config, paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let paths = if paths.is_empty() {
        &config.rules.dirs
    } else {
        paths
    };
    let mut all = Checked::default();
    let mut alerts: BTreeMap<PathBuf, Option<PathBuf>> = BTreeMap::new();
    for path in paths {
        let data =
            std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if data.is_dir() {
            walk(path, &mut all, &mut alerts)?;
        } else if is_alert(path) {
            let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
            alerts.insert(dir.unwrap_or(Path::new(".")).into(), Some(path.clone()));
        } else {
            kernel_file(path, &mut all)?;
        }
    }
    for (dir, only) in &alerts {
        alert_folder(dir, only.as_deref(), &mut all);
    }
    if all.files == 0 {
        bail!("there are neither *.rules nor *.yml files; name a file or a folder of rules");
    }
    let mut out = std::io::stdout().lock();
    for line in all.wrong.iter().chain(&all.doubtful) {
        writeln!(out, "{}", output::visible(line))?;
    }
    if all.wrong.is_empty() {
        writeln!(out, "{} rules in {} files are right", all.rules, all.files)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{} mistakes", all.wrong.len())?;
    Ok(ExitCode::from(1))
}

fn is_alert(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yml" || e == "yaml")
}

fn walk(
    dir: &Path,
    all: &mut Checked,
    alerts: &mut BTreeMap<PathBuf, Option<PathBuf>>,
) -> anyhow::Result<()> {
    let read = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut entries: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        // A link could lead in a circle.
        if path.is_symlink() {
            continue;
        } else if path.is_dir() {
            walk(&path, all, alerts)?;
        } else if path.extension().is_some_and(|e| e == "rules") {
            kernel_file(&path, all)?;
        } else if is_alert(&path) {
            alerts.insert(dir.to_owned(), None);
        }
    }
    Ok(())
}

fn kernel_file(path: &Path, all: &mut Checked) -> anyhow::Result<()> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    all.files += 1;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(e) => {
            let line = bytes[..e.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            all.wrong.push(format!("{name}:{line}: this is no UTF-8"));
            return Ok(());
        }
    };
    match parse_rules(text, &name) {
        Ok(rules) => {
            all.rules += rules.len();
            for parsed in &rules {
                let (line, rule) = (parsed.line, &parsed.rule);
                if !rule.is_ours() {
                    all.wrong.push(format!(
                        "{name}:{line}: no key begins with sm-, so the monitor could not know this rule again; add -F key=sm-NAME"
                    ));
                }
                if let Some(why) = parsed.doubtful {
                    all.doubtful.push(format!("{name}:{line}: doubtful: {why}"));
                }
            }
        }
        Err(errors) => all.wrong.extend(errors.iter().map(ToString::to_string)),
    }
    Ok(())
}

/// The alert rules of a folder; of one file only what concerns it.
fn alert_folder(dir: &Path, only: Option<&Path>, all: &mut Checked) {
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    // audit-rules/openclaw/alerts is the pack openclaw.
    let pack = match name(dir).as_deref() {
        Some("alerts") => dir.parent().and_then(name),
        other => other.map(str::to_owned),
    };
    let known = ["common", "openclaw", "clawbot", "moltbot"];
    let pack = detector::Pack {
        name: pack
            .filter(|p| known.contains(&p.as_str()))
            .unwrap_or_else(|| "common".to_owned()),
        dir: dir.to_owned(),
    };
    match detector::Detector::load(&[pack], detector::Options::default()) {
        Ok(loaded) => {
            all.files += 1;
            all.rules += loaded.rules().len();
        }
        Err(e) => {
            all.files += 1;
            let concerns = |file: Option<&Path>| match (only.and_then(name), file.and_then(name)) {
                (Some(only), Some(file)) => only == file,
                _ => true,
            };
            all.wrong.extend(
                e.problems
                    .iter()
                    .filter(|p| concerns(p.file.as_deref()))
                    .map(ToString::to_string),
            );
        }
    }
}

// --- list and diff --------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Loaded,
    Missing,
    Skipped,
    Container,
    LeftOver,
    Other,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
            Self::Container => "container",
            Self::LeftOver => "left over",
            Self::Other => "other",
        }
    }
}

/// One rule, and where it is.
#[derive(Debug, Serialize)]
struct Row {
    state: State,
    /// Does a key begin with `sm-`?
    ours: bool,
    keys: Vec<String>,
    /// As auditctl prints it.
    rule: String,
    /// `file:line`.
    file: Option<String>,
    optional: bool,
    container: Option<String>,
}

impl Row {
    fn new(state: State, rule: &Rule) -> Self {
        Self {
            state,
            ours: rule.is_ours(),
            keys: rule
                .keys()
                .map(|key| collector::text::to_text(key).into_owned())
                .collect(),
            rule: rule.to_string(),
            file: None,
            optional: false,
            container: None,
        }
    }
}

/// A rule of a file.
struct Wished {
    rule: Rule,
    at: String,
    optional: bool,
}

/// What the kernel has, and what the monitor built for single containers.
struct Found {
    kernel: Vec<Rule>,
    built: Vec<(Rule, String)>,
    profiles: Option<Vec<ProfileName>>,
    narrow: bool,
}

/// From the daemon, which also knows what it built; without one from the kernel.
fn found(config: &Config) -> anyhow::Result<Found> {
    if let Some(client) = Client::connect(&config.socket())? {
        let list: RuleList = client.get("/v1/rules")?;
        let decode = |hex: &str| kernel::rule_from_hex(hex);
        return Ok(Found {
            kernel: list.kernel.iter().filter_map(|r| decode(r)).collect(),
            built: list
                .containers
                .iter()
                .flat_map(|(id, rules)| rules.iter().map(move |r| (r, id)))
                .filter_map(|(r, id)| Some((decode(r)?, id.clone())))
                .collect(),
            profiles: Some(
                serde_json::from_value(json!(list.profiles))
                    .context("the daemon runs with profiles that this version does not know")?,
            ),
            narrow: list.narrow,
        });
    }
    if !rustix::process::geteuid().is_root() {
        bail!("no daemon runs, and only root may ask the kernel for its rules; use sudo");
    }
    let mut control = Control::open()?;
    Ok(Found {
        kernel: control.rules()?,
        built: vec![],
        profiles: None,
        narrow: false,
    })
}

fn rows(config: &Config, args: &ListArgs) -> anyhow::Result<Vec<Row>> {
    let found = found(config)?;
    let profiles = match (&args.profile[..], found.profiles) {
        ([], Some(running)) => running,
        (named, _) => named.to_vec(),
    };
    let chosen = Chosen::resolve(&profiles, config);
    let packs: Vec<String> = std::iter::once("common".to_owned())
        .chain(chosen.profiles.iter().map(|p| p.name().to_owned()))
        .collect();
    let wished = wished(config, &packs, found.narrow)?;
    Ok(compare(&wished, &found.kernel, &found.built))
}

fn wished(config: &Config, packs: &[String], narrow: bool) -> anyhow::Result<Vec<Wished>> {
    let all = kernel::located_rules(config, packs)?;
    Ok(all
        .into_iter()
        .filter(|(_, parsed)| !narrow || kernel::is_narrow(&parsed.rule))
        .map(|(file, parsed)| Wished {
            rule: parsed.rule,
            at: format!("{file}:{}", parsed.line),
            optional: parsed.optional,
        })
        .collect())
}

/// Files first, in their order, then what only the kernel has.
fn compare(wished: &[Wished], kernel: &[Rule], built: &[(Rule, String)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for wish in wished {
        let state = if kernel.iter().any(|rule| rule.same_as(&wish.rule)) {
            State::Loaded
        } else if wish.optional && !path_exists(&wish.rule) {
            State::Skipped
        } else {
            State::Missing
        };
        rows.push(Row {
            file: Some(wish.at.clone()),
            optional: wish.optional,
            ..Row::new(state, &wish.rule)
        });
    }
    for rule in kernel {
        if wished.iter().any(|wish| wish.rule.same_as(rule)) {
            continue;
        }
        let owner = built.iter().find(|(other, _)| other.same_as(rule));
        let state = match owner {
            Some(_) => State::Container,
            None if rule.keys().any(|key| key == b"sm-self") => State::Loaded,
            None if rule.is_ours() => State::LeftOver,
            None => State::Other,
        };
        rows.push(Row {
            container: owner.map(|(_, id)| id.clone()),
            ..Row::new(state, rule)
        });
    }
    rows
}

/// The kernel takes a directory that exists, and a file whose directory does.
fn path_exists(rule: &Rule) -> bool {
    let path = |id| rule.text_of(id).map(String::from_utf8_lossy);
    match (path(FieldId::DIR), path(FieldId::PATH)) {
        (Some(dir), _) => Path::new(&*dir).is_dir(),
        (_, Some(file)) => Path::new(&*file).parent().is_none_or(Path::is_dir),
        _ => true,
    }
}

fn list(config: &Config, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let rows = rows(config, args)?;
    match args.output {
        Output::Table => {
            let mut table = output::table(&["STATE", "KEY", "RULE", "FROM"]);
            for row in &rows {
                let short = row.container.as_ref().map(|id| cut(id, 13));
                let from = row.file.as_deref().map(short_file).or(short);
                table.add_row([
                    cell(row.state.word()),
                    cell(&row.keys.join(" ")),
                    cell(&shortened(&row.rule)),
                    cell(&from.unwrap_or_default()),
                ]);
            }
            output::print_table(&table, "no rules: neither in the files nor in the kernel")?;
        }
        output => write_rows(&rows, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn diff(config: &Config, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let mut rows = rows(config, args)?;
    rows.retain(|row| matches!(row.state, State::Missing | State::LeftOver));
    if args.output == Output::Table {
        let mut out = std::io::stdout().lock();
        for row in &rows {
            let (sign, why) = match &row.file {
                Some(file) => ('+', format!("  # {file}")),
                None => ('-', String::new()),
            };
            writeln!(
                out,
                "{sign} {}{}",
                output::visible(&row.rule),
                output::visible(&why)
            )?;
        }
        if rows.is_empty() {
            writeln!(out, "no difference")?;
        }
    } else {
        write_rows(&rows, args.output)?;
    }
    Ok(ExitCode::from(u8::from(!rows.is_empty())))
}

fn write_rows(rows: &[Row], output: Output) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Jsonl => rows
            .iter()
            .try_for_each(|row| writeln!(out, "{}", json!(row)))?,
        Output::Json => writeln!(out, "{:#}", json!(rows))?,
        _ => {
            return Err(super::usage(anyhow::anyhow!(
                "rules can be written as table, jsonl or json"
            )));
        }
    }
    Ok(())
}

/// The last two parts of a path: `common/kernel.rules:12`.
fn short_file(at: &str) -> String {
    let mut parts: Vec<&str> = at.rsplit('/').take(2).collect();
    parts.reverse();
    parts.join("/")
}

/// A rule for a table: long lists of calls are cut in the middle, the rest stays.
fn shortened(rule: &str) -> String {
    let words = rule.split(' ').map(|word| {
        let calls: Vec<&str> = word.split(',').collect();
        if calls.len() > 5 && !word.contains('=') {
            format!("{},…({} calls)", calls[..3].join(","), calls.len())
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        parse_rules(text, "test").unwrap().remove(0).rule
    }

    fn wish(text: &str, optional: bool) -> Wished {
        Wished {
            rule: rule(text),
            at: "dir/common/kernel.rules:3".into(),
            optional,
        }
    }

    #[test]
    fn every_rule_is_said_to_be_where_it_is() {
        let exec = "-a always,exit -F arch=b64 -S execve -F key=sm-exec";
        let nowhere = "-a always,exit -F arch=b64 -S open -F dir=/no/such/place -F key=sm-x";
        let built = "-a always,exit -F arch=b64 -S open -F devminor=7 -F key=sm-proc";
        let theirs = "-a always,exit -F arch=b64 -S umask -F key=theirs";
        let old = "-a always,exit -F arch=b64 -S umask -F key=sm-old";
        let own = "-a never,exit -S umask -F pid=7 -F key=sm-self";
        let wished = [wish(exec, false), wish(nowhere, true), wish(nowhere, false)];
        let kernel = [exec, built, theirs, old, own].map(rule);
        let rows = compare(&wished, &kernel, &[(rule(built), "c1".into())]);
        let states: Vec<State> = rows.iter().map(|row| row.state).collect();
        assert_eq!(
            states,
            [
                State::Loaded,
                State::Skipped,
                State::Missing,
                State::Container,
                State::Other,
                State::LeftOver,
                State::Loaded
            ]
        );
        assert_eq!(rows[3].container.as_deref(), Some("c1"));
        assert!(!rows[4].ours && rows[5].ours);
        assert_eq!(rows[0].keys, ["sm-exec"]);
    }

    #[test]
    fn a_table_shows_the_beginning_of_long_lists_of_calls() {
        assert_eq!(
            shortened("-a always,exit -S a,b,c,d,e,f -F key=sm-x"),
            "-a always,exit -S a,b,c,…(6 calls) -F key=sm-x"
        );
        assert_eq!(
            short_file("/a/b/common/kernel.rules:12"),
            "common/kernel.rules:12"
        );
    }

    #[test]
    fn mistakes_are_told_with_their_place_and_what_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine.rules");
        std::fs::write(
            &file,
            "-a always,exit -F arch=b64 -S exceve -F key=sm-x\n-w /etc/passwd -p wa -k theirs\n-a always,exit -F pid=1 -k sm-y\n",
        )
        .unwrap();
        let mut all = Checked::default();
        kernel_file(&file, &mut all).unwrap();
        assert_eq!(
            all.wrong.len(),
            1,
            "a file that does not parse is not looked at further"
        );
        assert!(
            all.wrong[0].ends_with(
                "mine.rules:1:31: x86_64 has no system call \"exceve\"; did you mean \"execve\"?"
            ),
            "{}",
            all.wrong[0]
        );
        std::fs::write(
            &file,
            "-w /etc/passwd -p wa -k theirs\n-a always,exit -F pid=1 -k sm-y\n",
        )
        .unwrap();
        let mut all = Checked::default();
        kernel_file(&file, &mut all).unwrap();
        assert!(
            all.wrong[0].contains("mine.rules:1: no key begins with sm-"),
            "{:?}",
            all.wrong
        );
        assert!(
            all.doubtful[0].contains("mine.rules:2: doubtful"),
            "{:?}",
            all.doubtful
        );
    }
}
