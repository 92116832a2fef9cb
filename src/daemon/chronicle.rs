//! The history as the sensor has it: opened with care, told about elsewhere, and without secrets where that is wished.
//!
//! A storage engine can end a whole process over a damaged file. So after an end that was none in order a child opens the history first;
//! what cannot be opened is moved aside, watching goes on with a new one, and people are told. Every hour, and at the end, the place where
//! the chain of blocks has come to (an anchor) goes to the system log and the security log: who rewrites the history on the host cannot
//! rewrite what another host was told.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use actions::redact::{redact as redact_text, redact_argv};
use actions::seclog::{Level, SecurityLog};
use anyhow::Context;
use collector::decode::encode_text;
use collector::text::{to_bytes, to_text};
use collector::{Event, RecordType};
use detector::{Alert, Severity};
use enricher::Activity;
use history::{Store, StoreError};
use serde_json::json;

use super::respond::Inbox;
use super::sensor::private_dir;
use super::state::Shared;
use crate::config::Config;
use crate::times::now_ms;

/// Where programs of this host tell the system log what happens (syslog(3)).
const SYSLOG: &str = "/dev/log";
/// Facility `authpriv`, level `notice`: RFC 3164, section 4.1.1.
const SYSLOG_PRIORITY: u8 = 10 * 8 + 5;
/// A child that has not opened the history by then never will.
const PROBE_LIMIT: Duration = Duration::from_secs(120);
/// A command of a person may have it open for a moment.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// Exit status of a probe that found the history in use, which says nothing about what is in it (`EX_TEMPFAIL` of sysexits.h).
const IN_USE: u8 = 75;

/// A history that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Where it is now.
    pub to: PathBuf,
    /// What was wrong.
    pub why: String,
}

/// The history, and the one that it takes the place of.
pub struct Opened {
    pub store: Store,
    pub aside: Option<Aside>,
}

/// Opens the history; a broken one is moved aside.
pub fn open(config: &Config) -> anyhow::Result<Opened> {
    open_with(config, Path::new("/proc/self/exe"))
}

fn open_with(config: &Config, program: &Path) -> anyhow::Result<Opened> {
    let dir = config.history_dir();
    // Arguments of commands hold secrets: the history is root's alone.
    private_dir(&dir, 0o700)?;
    let mut aside = None;
    if !history::was_closed(&dir)
        && let Err(why) = probe(program, &dir)
    {
        aside = Some(set_aside(&dir, why)?);
    }
    let options = history::Options {
        max_age: config.max_age(),
        max_bytes: (config.history.max_bytes > 0).then_some(config.history.max_bytes),
        ..history::Options::default()
    };
    let limit = Instant::now() + LOCK_LIMIT;
    loop {
        let failed = || format!("cannot open the history {}", dir.display());
        match Store::open(&dir, options.clone()) {
            Ok(store) => return Ok(Opened { store, aside }),
            Err(StoreError::Locked { .. }) if Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(50));
            }
            // Closed in order, and damaged since.
            Err(e @ StoreError::Corrupt { .. }) if aside.is_none() => {
                aside = Some(set_aside(&dir, e.to_string())?);
            }
            other => {
                other.with_context(failed)?;
            }
        }
    }
}

fn set_aside(dir: &Path, why: String) -> anyhow::Result<Aside> {
    let to = history::set_aside(dir)
        .with_context(|| format!("the history {} cannot be opened ({why})", dir.display()))?;
    tracing::error!(
        "the history could not be opened ({why}); it was moved aside to {}, and a new one is begun",
        to.display()
    );
    private_dir(dir, 0o700)?;
    Ok(Aside { to, why })
}

/// Lets a child open the history. Err says what was wrong.
fn probe(program: &Path, dir: &Path) -> Result<(), String> {
    let child = Command::new(program)
        .arg("probe-store")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => {
            // Nobody could look; opening it ourselves tells.
            tracing::warn!("cannot probe the history: {e}");
            return Ok(());
        }
    };
    let limit = Instant::now() + PROBE_LIMIT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() >= limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it was not open after {} s", PROBE_LIMIT.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(e.to_string()),
        }
    };
    if status.success() || status.code() == Some(i32::from(IN_USE)) {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        use std::io::Read;
        let mut bytes = Vec::new();
        let _ = stderr.by_ref().take(64 << 10).read_to_end(&mut bytes);
        said = String::from_utf8_lossy(&bytes).into_owned();
    }
    let line = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("");
    let why = line.strip_prefix("syscall-monitor: ").unwrap_or(line);
    Err(format!(
        "the probe ended with {status}{}{}",
        if why.is_empty() { "" } else { ": " },
        crate::output::cut(why, 500)
    ))
}

/// What the child does.
pub fn probe_here(dir: &Path) -> anyhow::Result<ExitCode> {
    match history::probe(dir) {
        // Nothing there yet is nothing broken.
        Ok(()) | Err(StoreError::Missing { .. }) => Ok(ExitCode::SUCCESS),
        Err(StoreError::Locked { .. }) => Ok(ExitCode::from(IN_USE)),
        Err(e) => Err(e.into()),
    }
}

/// Tells people, the history and `status` that the history before is somewhere else.
pub fn report_aside(aside: &Aside, shared: &Shared, responder: &Sender<Inbox>) {
    let to = aside.to.display();
    shared.reason(
        "history",
        format!(
            "the history could not be opened and was moved aside to {to}; `syscall-monitor history verify --store {to}` says what of it is whole. Quarantines of before are not known any more: look at `docker ps --filter status=paused`"
        ),
    );
    let _ = responder.send(Inbox::Report {
        what: "history-aside",
        details: json!({"to": to.to_string(), "why": aside.why}),
        severity: Severity::High,
        title: "History moved aside",
        text: format!(
            "The history could not be opened ({}) and was moved aside to {to}. Watching goes on with a new one. What is whole in the old one can be read: syscall-monitor history --store {to}. Messages that waited and quarantines of before are in the old one.",
            aside.why
        ),
    });
}

/// Tells an anchor now, and again after every time that the configuration says.
pub async fn anchor_every(store: Store, config: Config, dry_run: bool) {
    let minutes = config.history.anchor_minutes;
    if minutes == 0 {
        return;
    }
    let period = Duration::from_secs(u64::from(minutes) * 60);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    loop {
        ticks.tick().await;
        let (store, log) = (store.clone(), log(&config, dry_run));
        let _ = tokio::task::spawn_blocking(move || tell_anchor(&store, log.as_ref())).await;
    }
}

/// Closes the history and tells where it ended: what is written while it is closed is covered, too.
pub fn close(store: Store, config: &Config, dry_run: bool) -> anyhow::Result<()> {
    let last = store.clone();
    store.close()?;
    if config.history.anchor_minutes > 0 {
        tell_anchor(&last, log(config, dry_run).as_ref());
    }
    Ok(())
}

fn log(config: &Config, dry_run: bool) -> Option<SecurityLog> {
    (!dry_run)
        .then(|| SecurityLog::open(&config.trust.log).ok())
        .flatten()
}

/// One line to the system log and one to the security log. Where one of them cannot be written, the other one has it.
fn tell_anchor(store: &Store, log: Option<&SecurityLog>) {
    let anchor = match store.anchor() {
        Ok(anchor) => anchor,
        Err(e) => {
            tracing::error!("no anchor of the history can be made: {e}");
            return;
        }
    };
    let text = format!("history anchor {anchor}");
    if let Err(e) = syslog(Path::new(SYSLOG), &text) {
        tracing::debug!("the system log was not told the anchor: {e}");
    }
    if let Some(log) = log
        && let Err(e) = log.write(now_ms(), Level::Info, "SYSCALL-MONITOR", "ANCHOR", &text)
    {
        tracing::error!("{e}");
    }
    tracing::info!("{text}");
}

/// One datagram of RFC 3164 without a host's name, as syslog(3) sends it.
fn syslog(socket: &Path, text: &str) -> std::io::Result<()> {
    let out = UnixDatagram::unbound()?;
    // A log that hangs must not hold the monitor.
    out.set_nonblocking(true)?;
    let time = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
    let line = format!(
        "<{SYSLOG_PRIORITY}>{time} syscall-monitor[{}]: {text}",
        std::process::id()
    );
    out.send_to(line.as_bytes(), socket).map(drop)
}

/// The activity without secrets in its arguments, records included; `None` when there are none.
pub fn without_secrets(activity: &Activity) -> Option<Activity> {
    let argv = &activity.process.argv;
    let clean = redact_argv(argv);
    let title = activity.process.title.as_deref();
    let clean_title = title.map(redact_text);
    let same = clean.iter().zip(argv).all(|(a, b)| a == b) && clean_title.as_deref() == title;
    let event = event_without_secrets(&activity.event);
    if same && event.is_none() {
        return None;
    }
    let mut out = activity.clone();
    out.process.title = clean_title.map(|t| t.into_owned());
    out.process.argv = clean.into_iter().map(|a| a.into_owned()).collect();
    if let Some(event) = event {
        out.event = event;
    }
    Some(out)
}

/// EXECVE and PROCTITLE written anew where a secret stands in them.
fn event_without_secrets(event: &Event) -> Option<Event> {
    let argv = event.argv().unwrap_or_default();
    let words: Vec<_> = argv.iter().map(|arg| to_text(arg)).collect();
    let clean = redact_argv(&words);
    let argv_same = clean.iter().zip(&words).all(|(a, b)| a == b);
    let title = event.title().unwrap_or_default();
    let parts: Vec<_> = title.split(|b| *b == 0).map(to_text).collect();
    let clean_title = redact_argv(&parts);
    let title_same = clean_title.iter().zip(&parts).all(|(a, b)| a == b);
    if argv_same && title_same {
        return None;
    }
    let mut out = Event::new(event.id.clone());
    let mut written = false;
    for record in event.records() {
        match record.kind {
            RecordType::EXECVE if !argv_same => {
                if !std::mem::replace(&mut written, true) {
                    out.push(record.kind, &execve(&clean));
                }
            }
            RecordType::PROCTITLE if !title_same => {
                let joined: Vec<_> = clean_title.iter().map(|p| to_bytes(p)).collect();
                let body = [b"proctitle=", &encode_text(&joined.join(&0))[..]].concat();
                out.push(record.kind, &body);
            }
            kind => out.push(kind, record.body),
        }
    }
    out.complete = event.complete;
    Some(out)
}

fn execve(argv: &[std::borrow::Cow<'_, str>]) -> Vec<u8> {
    let mut body = format!("argc={}", argv.len()).into_bytes();
    for (n, arg) in argv.iter().enumerate() {
        body.extend_from_slice(format!(" a{n}=").as_bytes());
        body.extend_from_slice(&encode_text(&to_bytes(arg)));
    }
    body
}

/// An alert as it is stored then.
pub fn alert_without_secrets(alert: &Alert) -> Alert {
    let mut out = alert.clone();
    out.argv = redact_argv(&alert.argv)
        .into_iter()
        .map(|a| a.into_owned())
        .collect();
    for (_, value) in &mut out.matched {
        *value = redact_text(value).into_owned();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use collector::EventId;

    fn config(dir: &Path) -> Config {
        Config {
            state_dir: dir.to_owned(),
            ..Config::default()
        }
    }

    fn script(dir: &Path, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let file = dir.join("probe.sh");
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        file
    }

    /// A history that was not closed.
    fn unclean(config: &Config) {
        let dir = config.history_dir();
        let opened = open_with(config, Path::new("/bin/true")).unwrap();
        opened
            .store
            .append_durable(crate::entries::notice("N-1".into(), "test", json!({})))
            .unwrap();
        opened.store.close().unwrap();
        std::fs::write(dir.join("running"), "").unwrap();
        assert!(!history::was_closed(&dir));
    }

    #[test]
    fn a_history_that_a_child_cannot_open_is_moved_aside_and_a_new_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        unclean(&config);
        let dies = script(
            dir.path(),
            "echo 'syscall-monitor: all is lost' >&2; kill -ABRT $$",
        );
        let opened = open_with(&config, &dies).unwrap();
        let aside = opened.aside.unwrap();
        assert!(aside.why.contains("all is lost"), "{}", aside.why);
        assert!(aside.to.join("manifest").exists(), "{}", aside.to.display());
        assert_eq!(opened.store.stats().entries, [0; 4]);
        // What is whole in the old one can be read.
        let old = Store::open_existing(&aside.to, history::Options::default()).unwrap();
        assert_eq!(old.stats().entries[3], 1);
    }

    #[test]
    fn a_history_that_opens_or_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        for status in [0, IN_USE] {
            unclean(&config);
            let program = script(dir.path(), &format!("exit {status}"));
            let opened = open_with(&config, &program).unwrap();
            assert_eq!(opened.aside, None);
            assert_eq!(opened.store.stats().entries[3], 1);
        }
    }

    #[test]
    fn the_system_log_gets_one_line_that_verify_reads() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("log");
        let log = UnixDatagram::bind(&socket).unwrap();
        let store = Store::open(&dir.path().join("s"), history::Options::default()).unwrap();
        let anchor = store.anchor().unwrap().to_string();
        syslog(&socket, &format!("history anchor {anchor}")).unwrap();
        let mut buffer = [0; 2048];
        let n = log.recv(&mut buffer).unwrap();
        let line = std::str::from_utf8(&buffer[..n]).unwrap();
        assert!(line.starts_with("<85>"), "{line}");
        assert_eq!(crate::views::care::anchors_in(line).concat(), anchor);
        // The security log redacts what looks like a secret; a hash is none.
        let file = dir.path().join("security.log");
        tell_anchor(&store, SecurityLog::open(&file).ok().as_ref());
        let told = std::fs::read_to_string(file).unwrap();
        let told = crate::views::care::anchors_in(&told);
        assert_eq!(told.len(), 1);
        assert_eq!(
            told[0].split(' ').skip(3).collect::<Vec<_>>(),
            anchor.split(' ').skip(3).collect::<Vec<_>>()
        );
    }

    fn exec(argv: &[&str]) -> Activity {
        let mut event = Event::new(EventId::local(1, 1));
        event.push(RecordType::SYSCALL, br#"arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=0 ppid=7 pid=8 uid=0 comm="curl" exe="/usr/bin/curl""#);
        let words: Vec<_> = argv
            .iter()
            .map(|a| std::borrow::Cow::Borrowed(*a))
            .collect();
        event.push(RecordType::EXECVE, &execve(&words));
        let title = encode_text(argv.join("\0").as_bytes());
        event.push(RecordType::PROCTITLE, &[b"proctitle=", &title[..]].concat());
        enricher::Enricher::offline().enrich(event)
    }

    #[test]
    fn secrets_are_neither_in_the_arguments_nor_in_the_records() {
        let activity = exec(&["curl", "-u", "me:hunter2secret", "https://x.example/a b"]);
        let clean = without_secrets(&activity).unwrap();
        let text = clean.to_json().to_string();
        assert!(!text.contains("hunter2secret"), "{text}");
        let hex: String = "hunter2secret"
            .bytes()
            .map(|b| format!("{b:02X}"))
            .collect();
        assert!(!text.contains(&hex), "{text}");
        assert_eq!(clean.process.argv[3], "https://x.example/a b");
        let mut bytes = Vec::new();
        clean.encode(&mut bytes);
        let stored = Activity::decode(&bytes).unwrap();
        assert_eq!(stored.process.argv, clean.process.argv);
        assert_eq!(stored.event.records().len(), 3);
    }

    #[test]
    fn an_ordinary_command_is_left_as_it_is() {
        assert!(without_secrets(&exec(&["ls", "-l", "/tmp/a b"])).is_none());
    }
}
