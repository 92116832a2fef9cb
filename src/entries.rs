//! Between the rooms and the store: what is kept of an activity, an alert, a decision, and under which terms it is found.

use std::collections::BTreeSet;

use detector::{Alert, Severity};
use enricher::{Activity, Container};
use history::{Entry, Field, Kind};
use serde_json::{Value, json};

use crate::times;

/// Terms of one entry, each once.
#[derive(Default)]
struct Terms(BTreeSet<(u8, Vec<u8>)>, Vec<(Field, Vec<u8>)>);

impl Terms {
    fn add(&mut self, field: Field, text: &str) {
        // A term is for finding; a megabyte of argument is not a term.
        let bytes = text.as_bytes();
        let bytes = &bytes[..bytes.len().min(512)];
        if !bytes.is_empty() && self.0.insert((field as u8, bytes.to_vec())) {
            self.1.push((field, bytes.to_vec()));
        }
    }

    fn add_opt(&mut self, field: Field, text: Option<&str>) {
        if let Some(text) = text {
            self.add(field, text);
        }
    }

    /// A path and every folder above it, so that `--path /etc` finds all below /etc.
    fn add_path(&mut self, path: &str) {
        self.add(Field::Path, path);
        let mut rest = path;
        while let Some(slash) = rest.rfind('/') {
            rest = &rest[..slash];
            self.add(Field::Path, if rest.is_empty() { "/" } else { rest });
        }
    }

    fn add_container(&mut self, c: &Container) {
        self.add(Field::Container, &c.id);
        self.add_opt(Field::Container, c.name.as_deref());
        self.add_opt(Field::Container, c.label("com.docker.compose.service"));
        self.add_opt(Field::Image, c.image.as_deref());
        self.add_opt(Field::Profile, c.profile.map(|p| p.name()));
        self.add_opt(Field::Agent, c.agent.as_deref());
    }
}

/// Name of a category or phase as serde writes it.
fn word<T: serde::Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(s)) => s,
        _ => String::new(),
    }
}

/// An activity with the severity of the gravest alert that it raised.
pub fn activity(activity: &Activity, alerts: &[Alert]) -> Entry {
    let mut t = Terms::default();
    let p = &activity.process;
    if let Some(c) = &activity.container {
        t.add_container(c);
    }
    t.add(Field::Pid, &p.pid.to_string());
    t.add(Field::Exe, &p.exe);
    t.add(Field::Comm, &p.comm);
    t.add_opt(Field::User, p.user.as_deref());
    t.add_opt(Field::User, p.uid.map(|u| u.to_string()).as_deref());
    t.add(Field::Category, &word(activity.category));
    t.add(Field::Phase, &word(activity.phase));
    if let Some(s) = &activity.syscall {
        t.add(Field::Syscall, &s.name);
        if s.success == Some(false) {
            t.add(Field::Failed, "1");
        }
    }
    for key in &activity.keys {
        t.add(Field::Key, key);
    }
    for path in &activity.paths {
        t.add_path(&path.path);
        if let Some(host) = &path.host_path {
            t.add_path(host);
        }
    }
    if let Some(s) = &activity.socket {
        t.add(Field::Addr, &s.address);
        if let Some(port) = s.port {
            t.add(Field::Addr, &format!("{}:{port}", s.address));
        }
    }
    for alert in alerts {
        t.add(Field::Rule, &alert.rule);
        t.add(Field::Rule, &alert.title);
        if alert.id > 0 {
            t.add(Field::Alert, &alert.short_id());
        }
    }
    if let Some(worst) = alerts.iter().map(|a| a.severity).max() {
        t.add(Field::Severity, worst.name());
    }
    let mut body = Vec::new();
    activity.encode(&mut body);
    Entry {
        kind: Kind::Activity,
        time_ms: activity.event.id.millis,
        id: activity.event.id.to_string(),
        terms: t.1,
        body,
    }
}

/// An alert.
pub fn alert(a: &Alert) -> Entry {
    let mut t = Terms::default();
    if let Some(c) = &a.container {
        t.add(Field::Container, &c.id);
        t.add(Field::Container, &c.name);
        t.add_opt(Field::Image, c.image.as_deref());
        t.add_opt(Field::Profile, c.profile.map(|p| p.name()));
        t.add_opt(Field::Agent, c.agent.as_deref());
    }
    t.add(Field::Severity, a.severity.name());
    t.add(Field::Rule, &a.rule);
    t.add(Field::Rule, &a.title);
    t.add(Field::Syscall, &a.syscall);
    t.add(Field::Pid, &a.pid.to_string());
    t.add(Field::Exe, &a.exe);
    t.add(Field::Comm, &a.comm);
    t.add_opt(Field::User, a.user.as_deref());
    t.add_opt(Field::User, a.uid.map(|u| u.to_string()).as_deref());
    t.add(Field::Alert, &a.short_id());
    if a.errno.is_some() {
        t.add(Field::Failed, "1");
    }
    for path in &a.paths {
        t.add_path(&path.path);
        if let Some(host) = &path.host_path {
            t.add_path(host);
        }
    }
    Entry {
        kind: Kind::Alert,
        time_ms: a.time_ms,
        id: a.short_id(),
        terms: t.1,
        body: json_body(a),
    }
}

/// What was decided about an alert, also when that was to do nothing.
pub fn decision(d: &actions::policy::Decision) -> Entry {
    let mut t = Terms::default();
    if let Some(c) = &d.container {
        t.add(Field::Container, &c.id);
        t.add(Field::Container, &c.name);
    }
    t.add(Field::Alert, &format!("A-{}", d.alert));
    Entry {
        kind: Kind::Decision,
        time_ms: d.at_ms,
        id: d.id.clone(),
        terms: t.1,
        body: json_body(d),
    }
}

/// Something about the monitor itself: a gap, a loss, a change of the kernel's settings.
pub fn notice(id: String, what: &str, details: Value) -> Entry {
    let time_ms = times::now_ms();
    let body = json!({"schema": "syscall-monitor/notice/1", "id": id, "time": times::rfc3339(time_ms), "what": what, "details": details});
    Entry {
        kind: Kind::Notice,
        time_ms,
        id,
        terms: vec![(Field::Category, b"config".to_vec())],
        body: body.to_string().into_bytes(),
    }
}

fn json_body<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // These types hold strings, numbers and lists: serialising them cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// What is stored of one row, as the JSON that every output is made from.
pub fn to_json(kind: Kind, body: &[u8]) -> anyhow::Result<Value> {
    match kind {
        Kind::Activity => Ok(Activity::decode(body)?.to_json()),
        Kind::Alert => Ok(alert_json(&serde_json::from_slice(body)?)),
        Kind::Decision => {
            let mut value: Value = serde_json::from_slice(body)?;
            value["schema"] = "syscall-monitor/decision/1".into();
            Ok(value)
        }
        Kind::Notice => Ok(serde_json::from_slice(body)?),
    }
}

/// An alert as JSON: all its fields, with `id` as people write it.
pub fn alert_json(a: &Alert) -> Value {
    let mut value = serde_json::to_value(a).unwrap_or(Value::Null);
    value["schema"] = "syscall-monitor/alert/1".into();
    value["id"] = a.short_id().into();
    value["number"] = a.id.into();
    value["time"] = times::rfc3339(a.time_ms).into();
    value
}

/// Severities from one upwards, as terms.
pub fn severities_from(lowest: Severity) -> Vec<&'static str> {
    [
        Severity::Informational,
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ]
    .into_iter()
    .filter(|s| *s >= lowest)
    .map(Severity::name)
    .collect()
}
