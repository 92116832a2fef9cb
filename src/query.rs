//! From FILTERS to a query of the store, and from rows to JSON. The daemon's API and the command line without a daemon
//! both come through here, so that both give the same answer.

use std::ops::ControlFlow;

use anyhow::{Context, bail};
use history::{Clause, Cursor, Field, Kind, Pattern, Query, Store};
use regex::RegexSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::args::Filters;
use crate::entries;
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
        for not in &filters.not {
            let Some((filter, value)) = not.split_once('=') else {
                bail!("--not {not}: write it FILTER=VALUE, for example --not comm=node");
            };
            conditions.push(Condition {
                filter: filter.trim_start_matches("--").into(),
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
            ..Self::default()
        };
        spec.clauses(&|_| vec![])?;
        spec.regex_set()?;
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

    fn regex_set(&self) -> anyhow::Result<RegexSet> {
        RegexSet::new(&self.regex).context("--regex")
    }

    fn clauses(&self, ids_of: &dyn Fn(&str) -> Vec<String>) -> anyhow::Result<Vec<Clause>> {
        self.conditions.iter().map(|c| clause(c, ids_of)).collect()
    }
}

/// Names of the filters, for `--not` and for errors.
const FILTERS: [(&str, Field); 17] = [
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
];

fn clause(condition: &Condition, ids_of: &dyn Fn(&str) -> Vec<String>) -> anyhow::Result<Clause> {
    let name = condition.filter.as_str();
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
            Field::Severity => {
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

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Activity => "activity",
        Kind::Alert => "alert",
        Kind::Decision => "decision",
        Kind::Notice => "notice",
    }
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

/// Runs a query; `each` gets one answer after the other and may stop.
pub fn run(
    store: &Store,
    spec: &Spec,
    raw: bool,
    each: &mut dyn FnMut(Answer) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let set = spec.regex_set()?;
    let query = Query {
        kinds: spec
            .kinds
            .iter()
            .map(|k| kind(k))
            .collect::<anyhow::Result<_>>()?,
        since_ms: spec.since_ms,
        until_ms: spec.until_ms,
        all: spec.clauses(&|name| ids_of(store, name))?,
        reverse: spec.newest_first,
        // Rows that text or an expression refuses must not count.
        limit: if spec.text.is_empty() && spec.regex.is_empty() {
            spec.limit
        } else {
            None
        },
        after: spec
            .after
            .as_deref()
            .map(str::parse::<Cursor>)
            .transpose()?,
        ..Query::default()
    };
    let mut left = spec.limit.unwrap_or(usize::MAX);
    let mut failed = None;
    store.query(&query, &mut |row| {
        if left == 0 {
            return ControlFlow::Break(());
        }
        let mut json = match entries::to_json(row.kind, &row.body) {
            Ok(json) => json,
            Err(e) => {
                failed = Some(e);
                return ControlFlow::Continue(());
            }
        };
        if !matches_text(&json, &spec.text, &set) {
            return ControlFlow::Continue(());
        }
        fill_name(store, &mut json);
        left -= 1;
        let records = raw.then(|| raw_records(row.kind, &row.body)).flatten();
        each(Answer {
            kind: kind_name(row.kind).into(),
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
    Some(String::from_utf8_lossy(&out).into_owned())
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

fn matches_text(json: &Value, text: &[String], set: &RegexSet) -> bool {
    if text.is_empty() && set.is_empty() {
        return true;
    }
    let mut strings = Vec::new();
    collect_strings(json, &mut strings);
    // Arguments also as one line, so that a text may span them.
    if let Some(argv) = json
        .pointer("/process/argv")
        .or_else(|| json.get("argv"))
        .and_then(Value::as_array)
    {
        strings.push(
            argv.iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(" "),
        );
    }
    text.iter()
        .all(|t| strings.iter().any(|s| s.contains(t.as_str())))
        && (set.is_empty() || strings.iter().any(|s| set.is_match(s)))
}

fn collect_strings(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(s) => out.push(s.clone()),
        Value::Array(list) => list.iter().for_each(|v| collect_strings(v, out)),
        Value::Object(map) => map.values().for_each(|v| collect_strings(v, out)),
        _ => {}
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

    #[test]
    fn text_may_span_arguments() {
        let json = serde_json::json!({"process": {"argv": ["sh", "-c", "curl x | sh"]}});
        let none = RegexSet::empty();
        assert!(matches_text(&json, &["sh -c curl".into()], &none));
        assert!(!matches_text(&json, &["wget".into()], &none));
        assert!(matches_text(
            &json,
            &[],
            &RegexSet::new(["curl .* sh$"]).unwrap()
        ));
    }
}
