//! From FILTERS to a query of the store, and from rows to JSON. The daemon's API and the command line without a daemon
//! both come through here, so that both give the same answer.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, bail};
use history::{Clause, Cursor, Field, Kind, Pattern, Query, Row, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::args::Filters;
use crate::entries;
use crate::search::Search;
use crate::times;

/// One condition: a filter by its name, the values that satisfy it (or).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub filter: String,
    pub values: Vec<String>,
    #[serde(default)]
    pub negate: bool,
}

/// A query as it travels over the socket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    /// `activity`, `alert`, `decision`, `notice`.
    pub kinds: Vec<String>,
    pub since_ms: Option<u64>,
    pub until_ms: Option<u64>,
    pub conditions: Vec<Condition>,
    /// Text that must all occur.
    pub text: Vec<String>,
    /// Regular expressions of which one must match.
    pub regex: Vec<String>,
    /// Text of which none may occur.
    #[serde(default)]
    pub not_text: Vec<String>,
    /// Regular expressions of which none may match.
    #[serde(default)]
    pub not_regex: Vec<String>,
    /// Newest first.
    pub newest_first: bool,
    pub limit: Option<usize>,
    /// Only what comes behind this place: a [`Cursor`] as text.
    pub after: Option<String>,
}

/// One row of the answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    pub kind: String,
    /// The place of this row, to go on from.
    pub cursor: String,
    pub json: Value,
    /// The kernel's records as text, when they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}

/// How far a query is, for whoever waits for it; and the way to end it early.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Blocks done so far.
    pub done: Arc<AtomicU64>,
    /// Blocks in all; 0 while that is not known.
    pub total: Arc<AtomicU64>,
    /// Nobody waits any more.
    pub cancel: Arc<AtomicBool>,
}

impl Watch {
    /// Progress of something that counts blocks.
    pub fn blocks(&self, progress: history::Progress) -> ControlFlow<()> {
        self.done.store(progress.done, Ordering::Relaxed);
        self.total.store(progress.total, Ordering::Relaxed);
        if self.cancel.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Blocks done, and blocks in all.
    pub fn at(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }
}

impl Spec {
    /// Resolves times and names.
    pub fn from_filters(filters: &Filters, kinds: &[&str]) -> anyhow::Result<Self> {
        let now = jiff::Zoned::now();
        let time = |t: &Option<String>, name: &str| {
            t.as_deref()
                .map(|t| times::parse(t, &now))
                .transpose()
                .with_context(|| format!("--{name}"))
        };
        let mut conditions = Vec::new();
        let mut add = |filter: &str, values: Vec<String>| {
            if !values.is_empty() {
                conditions.push(Condition {
                    filter: filter.into(),
                    values,
                    negate: false,
                });
            }
        };
        add("container", filters.container.clone());
        add("profile", filters.profile.clone());
        add("agent", filters.agent.clone());
        add("image", filters.image.clone());
        add("pid", filters.pid.iter().map(u32::to_string).collect());
        add("exe", filters.exe.clone());
        add("comm", filters.comm.clone());
        add("user", filters.user.clone());
        add("syscall", filters.syscall.clone());
        add("category", filters.category.clone());
        add(
            "severity",
            filters
                .severity
                .iter()
                .map(|s| s.name().to_owned())
                .collect(),
        );
        add("rule", filters.rule.clone());
        add("key", filters.key.clone());
        add("path", filters.path.clone());
        add("addr", filters.addr.clone());
        add("id", filters.id.clone());
        if filters.failed {
            add("failed", vec!["1".into()]);
        }
        let (mut not_text, mut not_regex) = (vec![], vec![]);
        for not in &filters.not {
            let Some((filter, value)) = not.split_once('=') else {
                bail!("--not {not}: write it FILTER=VALUE, for example --not comm=node");
            };
            let filter = filter.trim_start_matches("--");
            match filter {
                "text" => {
                    not_text.push(value.to_owned());
                    continue;
                }
                "regex" => {
                    not_regex.push(value.to_owned());
                    continue;
                }
                _ => {}
            }
            conditions.push(Condition {
                filter: filter.into(),
                values: vec![value.into()],
                negate: true,
            });
        }
        let spec = Self {
            kinds: kinds.iter().map(|k| (*k).to_owned()).collect(),
            since_ms: time(&filters.since, "since")?,
            until_ms: time(&filters.until, "until")?,
            conditions,
            text: filters.text.clone(),
            regex: filters.regex.clone(),
            not_text,
            not_regex,
            ..Self::default()
        };
        spec.clauses(&|_| vec![])?;
        spec.search()?;
        if let (Some(since), Some(until)) = (spec.since_ms, spec.until_ms)
            && since > until
        {
            bail!(
                "--since {} is later than --until {}",
                times::rfc3339(since),
                times::rfc3339(until)
            );
        }
        Ok(spec)
    }

    /// With one more condition that must hold.
    #[must_use]
    pub fn and(mut self, filter: &str, values: Vec<String>) -> Self {
        self.conditions.push(Condition {
            filter: filter.into(),
            values,
            negate: false,
        });
        self
    }

    fn search(&self) -> anyhow::Result<Option<Search>> {
        Search::with(&self.text, &self.regex, &self.not_text, &self.not_regex)
    }

    /// Is there text to search for, so that events must be read?
    pub fn searches(&self) -> bool {
        let lists = [&self.text, &self.regex, &self.not_text, &self.not_regex];
        lists.iter().any(|list| !list.is_empty())
    }

    /// The query of the store. `watch` is told how far it is.
    pub fn query(&self, store: &Store, watch: &Watch) -> anyhow::Result<Query> {
        let search = self.search()?;
        let kinds: Vec<Kind> = self
            .kinds
            .iter()
            .map(|k| kind(k))
            .collect::<anyhow::Result<_>>()?;
        let sieve = match &search {
            Some(search) if kinds == [Kind::Activity] => search.sieve(),
            _ => vec![],
        };
        Ok(Query {
            kinds,
            since_ms: self.since_ms,
            until_ms: self.until_ms,
            all: self.clauses(&|name| ids_of(store, name))?,
            reverse: self.newest_first,
            limit: self.limit,
            after: self
                .after
                .as_deref()
                .map(str::parse::<Cursor>)
                .transpose()?,
            search: sieve,
            body: search.map(Search::test),
            progress: Some((watch.done.clone(), watch.total.clone())),
            cancel: Some(watch.cancel.clone()),
            ..Query::default()
        })
    }

    fn clauses(&self, ids_of: &dyn Fn(&str) -> Vec<String>) -> anyhow::Result<Vec<Clause>> {
        self.conditions.iter().map(|c| clause(c, ids_of)).collect()
    }
}

/// Names of the filters, for `--not` and for errors.
const FILTERS: [(&str, Field); 19] = [
    ("container", Field::Container),
    ("profile", Field::Profile),
    ("agent", Field::Agent),
    ("image", Field::Image),
    ("pid", Field::Pid),
    ("exe", Field::Exe),
    ("comm", Field::Comm),
    ("user", Field::User),
    ("syscall", Field::Syscall),
    ("category", Field::Category),
    ("severity", Field::Severity),
    ("rule", Field::Rule),
    ("key", Field::Key),
    ("path", Field::Path),
    ("addr", Field::Addr),
    ("id", Field::Id),
    ("failed", Field::Failed),
    ("alert", Field::Alert),
    ("phase", Field::Phase),
];

fn clause(condition: &Condition, ids_of: &dyn Fn(&str) -> Vec<String>) -> anyhow::Result<Clause> {
    // `severity-is` is a severity and not those above it; for summaries.
    let exactly = condition.filter == "severity-is";
    let name = condition
        .filter
        .strip_suffix("-is")
        .unwrap_or(&condition.filter);
    let Some(&(_, field)) = FILTERS.iter().find(|(n, _)| *n == name) else {
        let hint = crate::nearest::nearest(name, FILTERS.iter().map(|f| f.0))
            .map(|n| format!("; did you mean {n}?"));
        let known: Vec<_> = FILTERS.iter().map(|f| f.0).collect();
        bail!(
            "{name:?} is not a filter{} (filters: {})",
            hint.unwrap_or_default(),
            known.join(", ")
        );
    };
    let mut any = Vec::new();
    for value in &condition.values {
        match field {
            Field::Severity if !exactly => {
                let lowest = value.parse::<detector::Severity>()?;
                any.extend(entries::severities_from(lowest).into_iter().map(exact));
            }
            Field::Container => {
                any.push(pattern(value));
                any.extend(ids_of(value).iter().map(|id| exact(id)));
                // A prefix of an id, as Docker prints it.
                if value.len() >= 4
                    && value.len() < 64
                    && value.bytes().all(|b| b.is_ascii_hexdigit())
                {
                    any.push(Pattern::Glob(format!(
                        "{value}{}",
                        "?".repeat(64 - value.len())
                    )));
                }
            }
            Field::Path => any.push(pattern(if value.len() > 1 {
                value.trim_end_matches('/')
            } else {
                value
            })),
            _ => any.push(pattern(value)),
        }
    }
    Ok(Clause {
        field,
        any,
        negate: condition.negate,
    })
}

fn exact(text: &str) -> Pattern {
    Pattern::Exact(text.as_bytes().to_vec())
}

fn pattern(text: &str) -> Pattern {
    if text.contains(['*', '?']) {
        Pattern::Glob(text.to_owned())
    } else {
        exact(text)
    }
}

fn kind(name: &str) -> anyhow::Result<Kind> {
    Ok(match name {
        "activity" => Kind::Activity,
        "alert" => Kind::Alert,
        "decision" => Kind::Decision,
        "notice" => Kind::Notice,
        _ => bail!("{name:?} is not a kind of entry"),
    })
}

/// Ids of the containers that had that name: events can be older than the engine's answer.
fn ids_of(store: &Store, name: &str) -> Vec<String> {
    let Ok(known) = store.area("containers").scan(b"") else {
        return vec![];
    };
    known
        .iter()
        .filter_map(|(id, body)| {
            let c: enricher::Container = serde_json::from_slice(body).ok()?;
            let names = [c.name.as_deref(), c.label("com.docker.compose.service")];
            let hit = names
                .into_iter()
                .flatten()
                .any(|n| enricher::glob::matches(name, n));
            hit.then(|| String::from_utf8_lossy(id).into_owned())
        })
        .collect()
}

/// Runs a query and hands over the rows as they are stored. What cannot be read is told once, at the end.
pub fn rows(
    store: &Store,
    spec: &Spec,
    watch: &Watch,
    each: &mut dyn FnMut(Row) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let query = spec.query(store, watch)?;
    let stats = store.query(&query, each)?;
    if stats.blocks_damaged > 0 {
        bail!(
            "{} blocks of the history cannot be read, so this may not be all; `syscall-monitor history verify` names the times that are concerned",
            stats.blocks_damaged
        );
    }
    Ok(())
}

/// Runs a query; `each` gets one answer after the other and may stop.
pub fn run(
    store: &Store,
    spec: &Spec,
    raw: bool,
    watch: &Watch,
    each: &mut dyn FnMut(Answer) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let mut failed = None;
    rows(store, spec, watch, &mut |row| {
        let mut json = match entries::to_json(row.kind, &row.body) {
            Ok(json) => json,
            Err(e) => {
                failed = Some(e);
                return ControlFlow::Continue(());
            }
        };
        fill_name(store, &mut json);
        let records = raw.then(|| raw_records(row.kind, &row.body)).flatten();
        each(Answer {
            kind: row.kind.name().into(),
            cursor: row.cursor().to_string(),
            json,
            raw: records,
        })
    })?;
    match failed {
        Some(e) => Err(e.context("an entry of the history cannot be decoded; `syscall-monitor status` and the daemon's log may say more")),
        None => Ok(()),
    }
}

fn raw_records(kind: Kind, body: &[u8]) -> Option<String> {
    if kind != Kind::Activity {
        return None;
    }
    let mut out = Vec::new();
    enricher::Activity::decode(body)
        .ok()?
        .event
        .write_raw(&mut out);
    // Bytes that are not UTF-8 survive the way through JSON; whoever writes them out turns them back.
    Some(collector::text::to_text(&out).into_owned())
}

/// A container whose name came after the event was stored.
fn fill_name(store: &Store, json: &mut Value) {
    if let Some(c) = json.get_mut("container").and_then(Value::as_object_mut)
        && c.get("name").is_some_and(Value::is_null)
        && let Some(id) = c.get("id").and_then(Value::as_str)
        && let Ok(Some(body)) = store.area("containers").get(id.as_bytes())
        && let Ok(known) = serde_json::from_slice::<enricher::Container>(&body)
    {
        c.insert("name".into(), known.name.into());
        c.insert("image".into(), known.image.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_named_with_the_nearest() {
        let filters = Filters {
            not: vec!["contaner=x".into()],
            ..Filters::default()
        };
        let error = Spec::from_filters(&filters, &["activity"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean container?"), "{error}");
    }

    #[test]
    fn severity_means_that_and_above() {
        let c = Condition {
            filter: "severity".into(),
            values: vec!["high".into()],
            negate: false,
        };
        let clause = clause(&c, &|_| vec![]).unwrap();
        assert_eq!(clause.any, [exact("high"), exact("critical")]);
    }
}
