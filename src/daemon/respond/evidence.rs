//! Evidence of what was frozen: begun when Docker has paused it, taken on a thread of its own.
//!
//! Docker's part comes from the courier, everything else from /proc, the overlay and our own history. Nothing waits for it: a
//! container is frozen, its people are told, and then there is time.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use actions::courier::wire::ToCourier;
use actions::evidence::{self, Contribution, Limits, Summary};
use actions::quarantine::Quarantine;
use history::{Kind, Store};

use super::{Inbox, Responder};
use crate::config;
use crate::query::{self, Spec, Watch};
use crate::times::now_ms;

/// Docker is given so long to pause, before what is frozen without it is looked at.
const PATIENCE: Duration = Duration::from_secs(5);
/// Docker's answers for the pack.
const ANSWER: Duration = Duration::from_secs(15);
/// Packs that are taken at once.
const AT_ONCE: usize = 2;
/// Our own events of the container that go into a pack: the last ones, of so long.
const EVENTS: usize = 20_000;
const EVENTS_MS: u64 = 3_600_000;

/// Settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub enabled: bool,
    pub dir: PathBuf,
    pub budget: u64,
    pub limits: Limits,
    /// Packs go after this.
    pub max_age: Option<Duration>,
    /// Make an image too.
    pub commit: bool,
}

impl Settings {
    pub fn new(config: &config::Config) -> Self {
        let e = &config.evidence;
        Self {
            enabled: e.enabled,
            dir: config.state_dir.join(&e.dir),
            budget: e.max_bytes,
            limits: Limits {
                pack: e.pack_bytes.min(e.max_bytes),
                file: e.file_bytes,
                ..Limits::default()
            },
            max_age: (e.max_age_days > 0)
                .then(|| Duration::from_secs(u64::from(e.max_age_days) * 86_400)),
            commit: e.commit,
        }
    }
}

/// What the responder remembers.
#[derive(Default)]
pub struct Work {
    /// Containers whose evidence is to be taken, and when at the latest.
    due: VecDeque<(String, Instant)>,
    /// Docker was asked about these, and is waited for until then.
    asked: HashMap<String, Instant>,
    running: usize,
    /// When old packs were last looked for.
    retired: Option<Instant>,
}

/// Old packs are looked for this often.
const RETIRE: Duration = Duration::from_secs(3600);

impl Responder {
    /// Packs that are too old go, but for those of containers in quarantine.
    pub(super) fn retire_evidence(&mut self) {
        let Some(age) = self.parts.evidence.max_age else {
            return;
        };
        let work = &mut self.state.evidence;
        if work.retired.is_some_and(|t| t.elapsed() < RETIRE) {
            return;
        }
        work.retired = Some(Instant::now());
        let keep = self.kept();
        match evidence::retire(&self.parts.evidence.dir, age, &keep, now_ms()) {
            Ok(gone) => {
                for dir in gone {
                    tracing::info!("evidence: {} is too old and was removed", dir.display());
                    self.notice("evidence-retired", serde_json::json!({"dir": dir}));
                }
            }
            Err(e) => tracing::warn!("cannot look for old evidence: {e}"),
        }
    }

    /// Packs of containers in quarantine.
    fn kept(&self) -> Vec<PathBuf> {
        self.parts
            .quarantines
            .standing()
            .filter_map(|q| q.evidence.as_ref()?.dir.clone())
            .collect()
    }

    /// An image of the frozen container, if root wants one.
    fn commit(&mut self, id: &str) {
        let found = self
            .parts
            .quarantines
            .standing()
            .find(|q| q.container_id == id);
        if let Some(q) = found.filter(|_| self.parts.evidence.commit) {
            let (repo, tag) = evidence::image_name(q, now_ms());
            self.parts.link.ask(ToCourier::Commit {
                container_id: id.to_owned(),
                repo,
                tag,
            });
        }
    }

    pub(super) fn on_committed(
        &mut self,
        id: &str,
        result: &Result<String, String>,
        now: u64,
    ) -> Result<(), String> {
        self.notice(
            "evidence-image",
            serde_json::json!({"container_id": id, "image": result.as_ref().ok(), "why": result.as_ref().err()}),
        );
        self.parts
            .quarantines
            .on_committed(id, result, now)
            .map_err(|e| e.to_string())
    }

    /// A container was frozen: its evidence is taken when Docker has paused it, or does not.
    pub(super) fn want_evidence(&mut self, id: &str) {
        if !self.parts.evidence.enabled || self.state.evidence.due.iter().any(|(d, _)| d == id) {
            return;
        }
        self.state
            .evidence
            .due
            .push_back((id.to_owned(), Instant::now() + PATIENCE));
    }

    /// Docker is done with it.
    pub(super) fn evidence_is_due(&mut self, id: &str) {
        if let Some(due) = self.state.evidence.due.iter_mut().find(|(d, _)| d == id) {
            due.1 = Instant::now();
        }
    }

    /// Begins what is due.
    pub(super) fn look_at_evidence(&mut self) {
        let now = Instant::now();
        let work = &mut self.state.evidence;
        let late: Vec<String> = work
            .asked
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            let why = || Err("Docker did not answer in time".to_owned());
            self.take_evidence(&id, why(), why());
        }
        let work = &mut self.state.evidence;
        if work.running + work.asked.len() >= AT_ONCE {
            return;
        }
        let Some(n) = work.due.iter().position(|(_, at)| *at <= now) else {
            return;
        };
        let Some((id, _)) = work.due.remove(n) else {
            return;
        };
        let request = ToCourier::Describe {
            container_id: id.clone(),
        };
        if self.parts.link.ask(request) {
            self.state.evidence.asked.insert(id, now + ANSWER);
        } else {
            let why = || Err("too many requests wait for Docker".to_owned());
            self.take_evidence(&id, why(), why());
        }
    }

    /// Docker's part is here: the rest is a thread's.
    pub(super) fn on_described(
        &mut self,
        id: &str,
        inspect: Result<String, String>,
        log: Result<String, String>,
    ) {
        if self.state.evidence.asked.contains_key(id) {
            self.take_evidence(id, inspect, log);
        }
    }

    fn take_evidence(
        &mut self,
        id: &str,
        inspect: Result<String, String>,
        log: Result<String, String>,
    ) {
        self.state.evidence.asked.remove(id);
        let found = self
            .parts
            .quarantines
            .standing()
            .find(|q| q.container_id == id)
            .cloned();
        let Some(q) = found else {
            return tracing::info!(
                "{} was released before its evidence was taken",
                super::short(id)
            );
        };
        let keep = self.kept();
        let (settings, store, inbox) = (
            self.parts.evidence.clone(),
            self.parts.store.clone(),
            self.parts.inbox.clone(),
        );
        let others = vec![
            Contribution {
                name: "docker/inspect.json".into(),
                bytes: inspect.map(String::into_bytes),
            },
            Contribution {
                name: "docker/output.txt".into(),
                bytes: log.map(String::into_bytes),
            },
        ];
        let started = std::thread::Builder::new()
            .name("evidence".into())
            .spawn(move || take(&settings, &store, &q, others, &keep, &inbox));
        match started {
            Ok(_) => self.state.evidence.running += 1,
            Err(e) => tracing::error!("no thread for the evidence of {}: {e}", super::short(id)),
        }
    }

    pub(super) fn on_evidence(&mut self, id: &str, summary: Summary) {
        self.state.evidence.running = self.state.evidence.running.saturating_sub(1);
        for why in summary.failed.iter().take(5) {
            tracing::info!("evidence of {}: {why}", super::short(id));
        }
        self.notice(
            "evidence",
            serde_json::json!({
                "container_id": id, "dir": summary.dir, "files": summary.files, "bytes": summary.bytes,
                "manifest_sha256": summary.manifest_sha256, "failed": summary.failed.len(),
            }),
        );
        // Before it may be stopped; Docker does one after the other.
        self.commit(id);
        let next = self.parts.quarantines.on_evidence(id, summary, now_ms());
        if let Err(e) = self.go_on(next) {
            tracing::error!("{e}");
        }
    }
}

fn take(
    settings: &Settings,
    store: &Store,
    q: &Quarantine,
    mut others: Vec<Contribution>,
    keep: &[PathBuf],
    inbox: &Sender<Inbox>,
) {
    let now = now_ms();
    match evidence::make_room(&settings.dir, settings.budget, settings.limits.pack, keep) {
        Ok(gone) => gone.iter().for_each(|dir| {
            tracing::info!("evidence: {} made room for a newer pack", dir.display())
        }),
        Err(e) => tracing::warn!("cannot look at the room that evidence takes: {e}"),
    }
    others.extend(own(store, q, now));
    let summary =
        evidence::take(&settings.dir, q, others, &settings.limits, now).unwrap_or_else(|e| {
            tracing::error!("{e}");
            Summary {
                failed: vec![e.to_string()],
                at_ms: now,
                ..Summary::default()
            }
        });
    let _ = inbox.send(Inbox::Evidence {
        id: q.container_id.clone(),
        summary: Box::new(summary),
    });
}

/// What our own history has of the container: its last events, its alerts and what was decided, its process tree.
fn own(store: &Store, q: &Quarantine, now: u64) -> Vec<Contribution> {
    // What happened a moment ago may still be on its way to the disk.
    let flushed = store.flush();
    let spec = |kind: Kind| {
        Spec {
            kinds: vec![kind.name().into()],
            since_ms: Some(now.saturating_sub(EVENTS_MS)),
            newest_first: true,
            limit: Some(EVENTS),
            ..Spec::default()
        }
        .and("container", vec![q.container_id.clone()])
    };
    let lines = |kind: Kind| -> Result<Vec<u8>, String> {
        if let Err(e) = &flushed {
            tracing::debug!("evidence: {e}");
        }
        let mut rows = Vec::new();
        query::run(
            store,
            &spec(kind),
            false,
            &Watch::default(),
            &mut |answer| {
                rows.push(answer.json.to_string());
                ControlFlow::Continue(())
            },
        )
        .map_err(|e| format!("{e:#}"))?;
        rows.reverse();
        rows.push(String::new());
        Ok(rows.join("\n").into_bytes())
    };
    let tree = crate::views::tree::tree(store, &spec(Kind::Activity), None, &Watch::default())
        .map_err(|e| format!("{e:#}"))
        .and_then(|tree| serde_json::to_vec_pretty(&tree).map_err(|e| e.to_string()));
    let part = |name: &str, bytes| Contribution {
        name: name.into(),
        bytes,
    };
    vec![
        part("history/events.jsonl", lines(Kind::Activity)),
        part("history/alerts.jsonl", lines(Kind::Alert)),
        part("history/decisions.jsonl", lines(Kind::Decision)),
        part("history/tree.json", tree),
    ]
}
