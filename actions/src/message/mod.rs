//! What people are told: neutral, redacted, and the same for every service; the services' own forms stand beside.

pub mod discord;
pub mod plain;
pub mod slack;
pub mod telegram;
pub mod text;

use detector::{Alert, Severity};
use serde::{Deserialize, Serialize};

use crate::policy::{Decision, Verdict};
use crate::redact::{command_line, redact};
use text::visible;

/// Longest value that a message carries, in bytes before escaping; a 100 KB argument is not news.
const VALUE: usize = 4000;
/// Most evidence fields.
const FIELDS: usize = 20;
/// Longest list of ids in a digest, in characters; the next alert begins another one. Every service's form has room for so much.
const DIGEST: usize = 800;

/// A message. All text is redacted and visible (no control characters) already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Alert, `A-42`; nothing for a test or a report of our own.
    pub alert: Option<String>,
    /// Severity.
    pub severity: Severity,
    /// What happened, in a few words.
    pub title: String,
    /// Why it matters.
    pub why: String,
    /// Name of the container.
    pub container: Option<String>,
    /// Short id of the container.
    pub container_id: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Instance.
    pub agent: Option<String>,
    /// Who did it: program, pid, user and command line.
    pub process: Option<String>,
    /// What it is seen from: name and value.
    pub fields: Vec<(String, String)>,
    /// How sure it is whose deed it was.
    pub sure: String,
    /// What was done about it, and why.
    pub action: String,
    /// The exact command that releases the container, when it was frozen.
    pub release: Option<String>,
    /// Time of the event, milliseconds since the epoch.
    pub time_ms: u64,
    /// Name of the host.
    pub host: Option<String>,
    /// Further alerts that this message stands for (a digest of a storm).
    #[serde(default)]
    pub more: Option<More>,
    /// Buttons below it, where the service has such and somebody may press them.
    #[serde(default)]
    pub buttons: Option<crate::phone::Buttons>,
}

/// Alerts that a digest stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// How many.
    pub count: u64,
    /// Their ids, all of them.
    pub ids: Vec<String>,
}

impl Message {
    /// Message for an alert and what was decided about it.
    pub fn from_alert(alert: &Alert, decision: &Decision) -> Self {
        let container = alert.container.as_ref();
        let held = matches!(decision.verdict, Verdict::Freeze | Verdict::Cut);
        Self {
            alert: Some(alert.short_id()),
            severity: alert.severity,
            title: clean(&alert.title),
            why: clean(&alert.description),
            container: container.map(|c| clean(&c.name)),
            container_id: container.map(|c| clean(c.id.get(..12).unwrap_or(&c.id))),
            image: container.and_then(|c| c.image.as_deref()).map(clean),
            agent: container.and_then(|c| c.agent.as_deref()).map(clean),
            process: Some(process(alert)),
            fields: evidence(alert),
            sure: sure(alert),
            action: action(decision),
            release: container
                .filter(|_| held && !decision.dry_run)
                .map(|c| release_command(&c.name, &c.id)),
            time_ms: alert.time_ms,
            host: None,
            more: None,
            buttons: None,
        }
    }

    /// A report of our own (`notify test`, a loss, a start).
    pub fn notice(severity: Severity, title: &str, why: &str, now_ms: u64) -> Self {
        Self {
            alert: None,
            severity,
            title: clean(title),
            why: clean(why),
            container: None,
            container_id: None,
            image: None,
            agent: None,
            process: None,
            fields: Vec::new(),
            sure: String::new(),
            action: String::new(),
            release: None,
            time_ms: now_ms,
            host: None,
            more: None,
            buttons: None,
        }
    }

    /// With the name of the host.
    #[must_use]
    pub fn on_host(mut self, host: &str) -> Self {
        self.host = Some(clean(host));
        self
    }

    /// Takes another message into this one, which becomes a digest: nothing of it is lost but its details, which the id
    /// gives back (`syscall-monitor alerts show A-42`).
    pub fn absorb(&mut self, other: &Self) {
        let more = self.more.get_or_insert_default();
        let theirs = other.more.clone().unwrap_or_default();
        more.count += 1 + theirs.count;
        let ids = other.alert.iter().cloned().chain(theirs.ids);
        more.ids.extend(ids);
        self.severity = self.severity.max(other.severity);
    }

    /// Is this alert told by this message?
    pub fn names(&self, alert: &str) -> bool {
        let more = self.more.iter().flat_map(|m| &m.ids);
        self.alert.iter().chain(more).any(|id| id == alert)
    }

    /// Do the ids that the digest would name fit into every service's form?
    pub fn has_room_for(&self, other: &Self) -> bool {
        let ids = |m: &Self| m.more.clone().unwrap_or_default().ids;
        let mut all = ids(self);
        all.extend(other.alert.clone());
        all.extend(ids(other));
        ranges(&all).len() <= DIGEST
    }

    /// The line that says what else this message stands for.
    pub(crate) fn digest_line(&self) -> Option<String> {
        let more = self.more.as_ref()?;
        let mut line = format!("and {} more alerts", more.count);
        if !more.ids.is_empty() {
            line.push_str(": ");
            line.push_str(&ranges(&more.ids));
        }
        Some(line)
    }

    /// The line that says that it may have arrived before.
    pub(crate) fn repeat_line(&self) -> String {
        match &self.alert {
            Some(id) => {
                format!("possible repeat of {id}: whether the first one arrived is not known")
            }
            None => "possible repeat: whether the first one arrived is not known".to_owned(),
        }
    }

    /// Where to look up what was cut.
    pub(crate) fn look_up(&self) -> String {
        match &self.alert {
            Some(id) => format!("syscall-monitor alerts show {id}"),
            None => "syscall-monitor status".to_owned(),
        }
    }
}

/// The command that releases a container. A name that a shell could take for more than a name is replaced by the id, and
/// an id that is none by nothing.
pub fn release_command(name: &str, id: &str) -> String {
    format!("syscall-monitor quarantine release {}", pasted(name, id))
}

/// The command that stops a container for good, as safe to paste.
pub fn stop_command(name: &str, id: &str) -> String {
    format!(
        "syscall-monitor quarantine apply {} --level stop",
        pasted(name, id)
    )
}

fn pasted<'a>(name: &'a str, id: &'a str) -> &'a str {
    let safe = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.len() <= 255
            && s.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
    };
    if safe(name) {
        name
    } else if safe(id) {
        id.get(..12).unwrap_or(id)
    } else {
        "CONTAINER"
    }
}

/// Ids in a short form: `A-3, A-5 to A-9`. What is no id of an alert stands as it is.
fn ranges(ids: &[String]) -> String {
    let number = |id: &str| id.strip_prefix("A-").and_then(|n| n.parse::<u64>().ok());
    let mut parts: Vec<String> = Vec::new();
    // First and last of the range that the last part is.
    let mut open: Option<(u64, u64)> = None;
    for id in ids {
        match (number(id), open) {
            (Some(n), Some((first, last))) if n == last + 1 => {
                parts.pop();
                parts.push(format!("A-{first} to A-{n}"));
                open = Some((first, n));
            }
            (n, _) => {
                parts.push(id.clone());
                open = n.map(|n| (n, n));
            }
        }
    }
    parts.join(", ")
}

/// Redacted, visible, and of a bounded length.
fn clean(text: &str) -> String {
    // Cut before redacting: a regular expression over 100 KB of an attacker's choice is his time, not ours. The cut may
    // go through a secret, so a little more is looked at than is shown.
    let head = head(text, VALUE * 2);
    let shown = visible(&redact(head)).into_owned();
    bounded(&shown, text.len() > head.len())
}

fn clean_argv(argv: &[String]) -> String {
    let mut size = 0;
    let few: Vec<String> = argv
        .iter()
        .take_while(|a| {
            let before = size;
            size += a.len().min(VALUE * 2) + 1;
            before < VALUE * 2
        })
        .map(|a| head(a, VALUE * 2).to_owned())
        .collect();
    let missing = few.len() < argv.len();
    bounded(&visible(&command_line(&few)), missing)
}

fn head(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit)
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    &text[..end]
}

fn bounded(text: &str, missing: bool) -> String {
    let short = head(text, VALUE);
    if missing || short.len() < text.len() {
        format!("{short}…")
    } else {
        short.to_owned()
    }
}

fn process(alert: &Alert) -> String {
    let mut line = String::new();
    line.push_str(&clean(if alert.exe.is_empty() {
        &alert.comm
    } else {
        &alert.exe
    }));
    line.push_str(&format!(" (pid {}", alert.pid));
    match (&alert.user, alert.uid) {
        (Some(user), _) => line.push_str(&format!(", user {}", clean(user))),
        (None, Some(uid)) => line.push_str(&format!(", uid {uid}")),
        (None, None) => {}
    }
    line.push(')');
    if !alert.argv.is_empty() {
        line.push_str(": ");
        line.push_str(&clean_argv(&alert.argv));
    }
    line
}

fn evidence(alert: &Alert) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let call = match &alert.errno {
        Some(errno) => format!("{} (refused: {errno})", alert.syscall),
        None => alert.syscall.clone(),
    };
    fields.push(("System call".to_owned(), clean(&call)));
    if !alert.ancestors.is_empty() {
        let names: Vec<&str> = alert
            .ancestors
            .iter()
            .take(8)
            .map(|a| a.comm.as_str())
            .collect();
        fields.push(("Started by".to_owned(), clean(&names.join(" ← "))));
    }
    let mut paths: Vec<&str> = alert
        .paths
        .iter()
        .filter(|p| p.nametype != "PARENT")
        .map(|p| p.path.as_str())
        .filter(|p| !p.is_empty())
        .collect();
    paths.dedup();
    if !paths.is_empty() {
        let more = paths.len().saturating_sub(6);
        let mut line = paths
            .iter()
            .take(6)
            .map(|p| clean(p))
            .collect::<Vec<_>>()
            .join(", ");
        if more > 0 {
            line.push_str(&format!(" and {more} more"));
        }
        fields.push(("Files".to_owned(), line));
    }
    let on_host: Vec<String> = alert
        .paths
        .iter()
        .filter_map(|p| p.host_path.as_deref())
        .take(3)
        .map(clean)
        .collect();
    if !on_host.is_empty() {
        fields.push(("On the host".to_owned(), on_host.join(", ")));
    }
    if alert.count > 1 {
        fields.push(("How often".to_owned(), alert.count.to_string()));
    }
    for (name, value) in &alert.matched {
        // A field of the rule may be named like a secret; then its value is one.
        let value = crate::redact::value_of(name, value);
        fields.push((clean(name), clean(&value)));
    }
    fields.push(("Event".to_owned(), clean(&alert.event)));
    fields.truncate(FIELDS);
    fields
}

fn sure(alert: &Alert) -> String {
    use enricher::activity::Source;
    if alert.container.is_none() {
        return "on the host, in no container that is known".to_owned();
    }
    let by = match alert.attribution.source {
        Source::Table => "the container was inherited from the process that forked it",
        Source::Lineage => "it descends from the runtime that started the container",
        Source::Proc => "the process was found in the container's cgroup",
        Source::None => "the process was gone before it could be looked up",
    };
    if alert.attribution.certain {
        format!("certain: {by}")
    } else {
        format!("not certain: {by}")
    }
}

fn action(decision: &Decision) -> String {
    let failed = |what: &str| {
        decision
            .steps
            .iter()
            .find(|s| s.what == what && !s.ok)
            .map(|s| s.detail.clone())
    };
    let text = match (decision.verdict, decision.dry_run) {
        (Verdict::Freeze, true) => format!(
            "dry run, nothing was done; it would be frozen: {}",
            decision.reason
        ),
        (Verdict::Freeze, false) => match failed("freeze") {
            Some(why) => format!(
                "NOT frozen although it should be ({why}): {}",
                decision.reason
            ),
            None if decision.level.stops() => format!(
                "frozen, and stopped when its evidence is taken: {}",
                decision.reason
            ),
            None => format!("frozen: {}", decision.reason),
        },
        (Verdict::Cut, true) => format!(
            "dry run, nothing was done; it would be taken off its networks: {}",
            decision.reason
        ),
        (Verdict::Cut, false) => format!(
            "it runs, and is being taken off its networks: {}",
            decision.reason
        ),
        (Verdict::NotifyOnly, _) => format!("not frozen: {}", decision.reason),
        (Verdict::Nothing, _) => format!("nothing: {}", decision.reason),
    };
    clean(&text)
}

#[cfg(test)]
mod tests;
