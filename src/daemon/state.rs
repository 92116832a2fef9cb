//! What `status` shows, and what the sensor's tasks share to make it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use collector::realtime::HeldCounters;
use enricher::{Container, Runtime};
use serde::{Deserialize, Serialize};

/// One object that says how the monitor is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub schema: String,
    /// `healthy`, `partial`, `starting`, `stopped`, `failed`.
    pub state: String,
    /// Why it is not simply healthy, each a sentence with the next step.
    pub reasons: Vec<String>,
    pub version: String,
    pub pid: Option<u32>,
    pub mode: Option<String>,
    pub dry_run: bool,
    pub profiles: Vec<String>,
    pub uptime_s: u64,
    pub kernel: Option<Kernel>,
    pub docker: DockerState,
    pub containers: Vec<ContainerState>,
    pub channels: Vec<ChannelState>,
    pub losses: Losses,
    pub others: Vec<Other>,
    /// What the records come to in text, as another reader's log would hold them; an estimate from the last minutes.
    pub mb_per_day: Option<f64>,
    pub events: u64,
    pub alerts: u64,
    /// Names of the quarantined containers.
    pub quarantined: Vec<String>,
    pub history: Option<HistoryState>,
    pub rules: RulesState,
    /// Real-time priorities; `None` where the configuration gives none.
    #[serde(default)]
    pub realtime: Option<RealtimeState>,
}

/// The real-time priorities of our two threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealtimeState {
    /// The reader; the kernel's audit thread has the same priority.
    pub reader: PriorityState,
    /// The thread that assembles, enriches and judges.
    pub stages: PriorityState,
}

/// The priority of a thread, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityState {
    /// As configured; 0 is an ordinary thread.
    pub priority: u8,
    /// Does the thread have it now?
    pub held: bool,
    /// Times that it was given up, since the thread used nearly all of a processor.
    pub given_up: u64,
    /// Times that it was taken back after a calm minute.
    pub taken_back: u64,
}

impl PriorityState {
    fn new(priority: u8, counters: &HeldCounters) -> Self {
        Self {
            priority,
            held: counters.held.load(Ordering::Relaxed),
            given_up: counters.given_up.load(Ordering::Relaxed),
            taken_back: counters.taken_back.load(Ordering::Relaxed),
        }
    }
}

/// The kernel's audit settings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kernel {
    pub enabled: u32,
    pub owner_pid: u32,
    pub backlog: u32,
    pub backlog_limit: u32,
    pub backlog_wait_jiffies: u32,
    pub lost: u32,
    pub rate_limit: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DockerState {
    pub connected: bool,
    pub version: Option<String>,
    pub why: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerState {
    pub id: String,
    pub name: String,
    pub image: Option<String>,
    pub profile: Option<String>,
    pub agent: Option<String>,
    pub quarantined: bool,
    /// Its first process started before audit was first enabled: its own calls are invisible until it is restarted.
    pub older_than_audit: bool,
    /// What is not seen of it, in words.
    pub blind: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelState {
    pub name: String,
    pub configured: bool,
    /// `ok`, `waiting`, or why it is stopped.
    pub state: String,
    /// Messages that wait.
    pub waiting: u64,
}

/// Everything that was lost, each counted where it was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// At the kernel boundary.
    #[serde(flatten)]
    pub collector: collector::losses::Losses,
    /// Records that came after their event and could not be added to it.
    pub late_records_dropped: u64,
    /// Entries that the history could not take.
    pub history_dropped: u64,
    /// Records from user space inside a container, which may say anything; dropped.
    pub forged_records: u64,
}

impl Losses {
    /// Is there anything that may hide an event?
    pub fn any(&self) -> bool {
        self.collector.any() || self.late_records_dropped + self.history_dropped > 0
    }
}

/// Somebody else who gets the same records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    pub name: String,
    pub how: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HistoryState {
    pub dir: String,
    pub entries: u64,
    pub bytes: u64,
    pub oldest: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RulesState {
    /// Kernel rules in force, per-container ones included.
    pub kernel: usize,
    pub per_container: usize,
    /// Is a rule on the operations of io_uring in force?
    #[serde(default)]
    pub io_uring: bool,
    /// Rules that could not be loaded, and why.
    pub skipped: Vec<String>,
    /// Alert rules.
    pub alert: usize,
}

/// The kernel's rules and where ours come from, for `rules list`; each rule as `kernel::rule_to_hex` writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RuleList {
    /// What the daemon was started with.
    pub profiles: Vec<String>,
    /// Only the narrow rules are wanted, since somebody else owns the stream.
    pub narrow: bool,
    /// Everything that the kernel had when the keeper last looked.
    pub kernel: Vec<String>,
    /// Built for single containers, by id.
    pub containers: BTreeMap<String, Vec<String>>,
}

/// Counters that several tasks write.
#[derive(Default)]
pub struct Counts {
    pub events: AtomicU64,
    pub alerts: AtomicU64,
    pub forged: AtomicU64,
    pub gaps: AtomicU64,
    pub history_dropped: AtomicU64,
    pub late_dropped: AtomicU64,
    pub undecodable: AtomicU64,
    /// Records with a field that the decoder refused.
    pub undecodable_fields: AtomicU64,
    /// Records that the kernel threw away since we started.
    pub kernel_lost: AtomicU64,
}

/// What the sensor's tasks share. Each lock is held for a copy only.
pub struct Shared {
    pub started: Instant,
    pub counts: Counts,
    pub mode: Mutex<Option<String>>,
    pub kernel: Mutex<Kernel>,
    pub docker: Mutex<DockerState>,
    pub containers: RwLock<Vec<Arc<Container>>>,
    pub runtimes: RwLock<HashMap<String, Runtime>>,
    pub channels: Mutex<BTreeMap<String, ChannelState>>,
    pub rules: Mutex<RulesState>,
    pub rule_list: Mutex<RuleList>,
    pub reasons: Mutex<BTreeMap<&'static str, String>>,
    pub reader: Mutex<Option<Arc<collector::live::Counters>>>,
    pub assembled: Mutex<collector::AssembleCounters>,
    /// Frozen containers by id, and since when (milliseconds since the epoch).
    pub quarantined: RwLock<HashMap<String, u64>>,
    /// The last release of a container by name: rule, and when.
    pub released: RwLock<HashMap<String, (String, u64)>>,
    /// Who else gets the records.
    pub others: Mutex<Vec<Other>>,
    /// What became of the real-time priority of the stages.
    pub stages: Arc<HeldCounters>,
    /// Quarantines in force, and how their agents are known again.
    pub standing: RwLock<Vec<actions::quarantine::Claim>>,
}

impl Shared {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            counts: Counts::default(),
            mode: Mutex::default(),
            kernel: Mutex::default(),
            docker: Mutex::default(),
            containers: RwLock::default(),
            runtimes: RwLock::default(),
            channels: Mutex::default(),
            rules: Mutex::default(),
            rule_list: Mutex::default(),
            reasons: Mutex::default(),
            reader: Mutex::default(),
            assembled: Mutex::default(),
            quarantined: RwLock::default(),
            released: RwLock::default(),
            others: Mutex::default(),
            stages: Arc::default(),
            standing: RwLock::default(),
        }
    }

    /// Something that keeps the monitor from being simply healthy.
    pub fn reason(&self, what: &'static str, text: impl Into<String>) {
        lock(&self.reasons).insert(what, text.into());
    }

    /// It is over.
    pub fn clear_reason(&self, what: &'static str) {
        lock(&self.reasons).remove(what);
    }

    /// The real-time priorities, where `[collector] realtime` gives any.
    pub fn realtime(&self, priority: u8) -> Option<RealtimeState> {
        let reader = lock(&self.reader).clone().unwrap_or_default();
        (priority > 0).then(|| RealtimeState {
            reader: PriorityState::new(priority, &reader.realtime),
            stages: PriorityState::new(
                super::stages::priority(priority).unwrap_or(0),
                &self.stages,
            ),
        })
    }

    /// The ledger of losses.
    pub fn losses(&self) -> Losses {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let reader = lock(&self.reader).clone();
        let assembled = *lock(&self.assembled);
        let c = &self.counts;
        let beyond = collector::losses::Beyond {
            kernel_lost: get(&c.kernel_lost),
            undecodable: get(&c.undecodable),
            undecodable_fields: get(&c.undecodable_fields),
            gaps: get(&c.gaps),
        };
        Losses {
            collector: collector::losses::Losses::of(
                &reader.unwrap_or_default(),
                &assembled,
                beyond,
            ),
            late_records_dropped: get(&c.late_dropped),
            history_dropped: get(&c.history_dropped),
            forged_records: get(&c.forged),
        }
    }
}

/// A lock whose holder panicked still holds good data here: every write is a whole replacement.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for reading.
pub fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// The same for writing.
pub fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
