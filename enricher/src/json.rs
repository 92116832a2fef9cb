//! The event as JSON, `syscall-monitor/event/1`.
//!
//! Bytes of the kernel that are not UTF-8 are written in [`collector::text`]'s form, so that a reader gets them back.

use collector::record::Record;
use collector::text::to_text;
use serde_json::{Map, Value, json};

use crate::activity::{Activity, PathInfo, Phase, Process};

/// Name and version of the form.
pub const SCHEMA: &str = "syscall-monitor/event/1";

impl Activity {
    /// The whole event, with every record.
    pub fn to_json(&self) -> Value {
        let id = &self.event.id;
        let container = self.container.as_ref().map(|c| {
            json!({
                "id": c.id, "name": c.name, "image": c.image, "profile": c.profile, "agent": c.agent, "privileged": c.privileged,
                "engine": c.engine, "source": self.attribution.source, "certain": self.attribution.certain,
            })
        });
        let syscall = self.syscall.as_ref().map(|s| {
            json!({
                "name": s.name, "number": s.number, "arch": s.arch, "success": s.success, "exit": s.exit, "errno": s.errno,
                "args": s.args.iter().map(|a| format!("{a:#x}")).collect::<Vec<_>>(),
            })
        });
        let socket = self
            .socket
            .as_ref()
            .map(|s| json!({"family": s.family, "address": s.address, "port": s.port}));
        let target = self
            .target
            .as_ref()
            .map(|t| json!({"pid": t.pid, "comm": t.comm, "container": t.container}));
        json!({
            "schema": SCHEMA,
            "id": id.to_string(),
            "time": rfc3339(id.millis),
            "serial": id.serial,
            "node": id.node.as_deref(),
            "category": self.category,
            "phase": self.phase,
            "entered": self.entered,
            "syscall": syscall,
            "process": process(&self.process),
            "container": container,
            "attribution": {"source": self.attribution.source, "certain": self.attribution.certain},
            "paths": self.paths.iter().map(path).collect::<Vec<_>>(),
            "socket": socket,
            "target": target,
            "keys": self.keys,
            "alerts": self.alerts,
            "records": self.event.records().map(record).collect::<Vec<_>>(),
            "complete": self.event.complete,
        })
    }

    /// Is the event the host's, and not a container's?
    pub fn is_host(&self) -> bool {
        self.phase == Phase::Host
    }
}

/// RFC 3339 in UTC with milliseconds; the number itself for a time that no calendar has.
pub fn rfc3339(millis: u64) -> String {
    let stamp = i64::try_from(millis)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| millis.to_string(), |t| format!("{t:.3}"))
}

fn process(p: &Process) -> Value {
    let ancestors: Vec<_> = p
        .ancestors
        .iter()
        .map(|a| json!({"pid": a.pid, "comm": a.comm, "exe": a.exe}))
        .collect();
    json!({
        "pid": p.pid, "ppid": p.ppid, "exe": p.exe, "comm": p.comm, "argv": p.argv, "cwd": p.cwd, "title": p.title,
        "uid": p.uid, "euid": p.euid, "gid": p.gid, "auid": p.auid, "user": p.user, "tty": p.tty,
        "previous_exe": p.previous_exe, "ancestors": ancestors,
    })
}

fn path(p: &PathInfo) -> Value {
    json!({
        "name": p.name, "path": p.path, "host_path": p.host_path, "undeclared": p.undeclared, "inode": p.inode, "dev": p.dev,
        "mode": p.mode.map(|m| format!("{m:07o}")), "ouid": p.ouid, "nametype": p.nametype,
    })
}

/// Type and fields of a record. A field that comes twice is a list. What is no field is kept under `raw`.
fn record(record: Record<'_>) -> Value {
    let mut fields = Map::new();
    for (name, value) in record.fields() {
        let name = to_text(name).into_owned();
        let value = Value::String(to_text(&value.decode()).into_owned());
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    let mut out = json!({"type": record.kind.to_string(), "fields": fields});
    if let (Some(object), true) = (out.as_object_mut(), fields_missing(record)) {
        object.insert(
            "raw".to_owned(),
            Value::String(to_text(record.body).into_owned()),
        );
    }
    out
}

/// Did nothing of a record that has a body turn out to be a field?
fn fields_missing(record: Record<'_>) -> bool {
    !record.body.is_empty() && record.fields().next().is_none()
}
