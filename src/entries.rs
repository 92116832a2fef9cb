//! Between the rooms and the store: what is kept of an activity, an alert, a decision, and under which terms it is found.

use detector::{Alert, Severity};
use enricher::Activity;
use history::{Entry, Field, Kind, Terms};
use serde_json::{Value, json};

use crate::stored::{self, add, add_opt, add_path};
use crate::times;

/// An activity with the severity of the gravest alert that it raised.
pub fn activity(activity: &Activity, alerts: &[Alert]) -> Entry {
    let mut entry = stored::activity(activity);
    let t = &mut entry.terms;
    for alert in alerts {
        add(t, Field::Rule, &alert.rule);
        add(t, Field::Rule, &alert.title);
        if alert.id > 0 {
            add(t, Field::Alert, &alert.short_id());
        }
    }
    if let Some(worst) = alerts.iter().map(|a| a.severity).max() {
        add(t, Field::Severity, worst.name());
    }
    entry
}

/// An alert.
pub fn alert(a: &Alert) -> Entry {
    let mut terms = Terms::default();
    let t = &mut terms;
    if let Some(c) = &a.container {
        add(t, Field::Container, &c.id);
        add(t, Field::Container, &c.name);
        add_opt(t, Field::Image, c.image.as_deref());
        add_opt(t, Field::Profile, c.profile.map(|p| p.name()));
        add_opt(t, Field::Agent, c.agent.as_deref());
    }
    add(t, Field::Severity, a.severity.name());
    add(t, Field::Rule, &a.rule);
    add(t, Field::Rule, &a.title);
    add(t, Field::Syscall, &a.syscall);
    add(t, Field::Pid, &a.pid.to_string());
    add(t, Field::Exe, &a.exe);
    add(t, Field::Comm, &a.comm);
    add_opt(t, Field::User, a.user.as_deref());
    add_opt(t, Field::User, a.uid.map(|u| u.to_string()).as_deref());
    add(t, Field::Alert, &a.short_id());
    if a.errno.is_some() {
        add(t, Field::Failed, "1");
    }
    for path in &a.paths {
        add_path(t, &path.path);
        for elsewhere in path.real_path.iter().chain(&path.host_path) {
            add_path(t, elsewhere);
        }
    }
    Entry {
        kind: Kind::Alert,
        time_ms: a.time_ms,
        id: a.short_id(),
        terms,
        body: json_body(a),
    }
}

/// What was decided about an alert, also when that was to do nothing.
pub fn decision(d: &actions::policy::Decision) -> Entry {
    let mut terms = Terms::default();
    let t = &mut terms;
    if let Some(c) = &d.container {
        add(t, Field::Container, &c.id);
        add(t, Field::Container, &c.name);
    }
    add(t, Field::Alert, &format!("A-{}", d.alert));
    Entry {
        kind: Kind::Decision,
        time_ms: d.at_ms,
        id: d.id.clone(),
        terms,
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
        terms: vec![(Field::Category, b"config")].into(),
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
