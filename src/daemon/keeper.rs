//! The keeper of the kernel's rules and settings: a thread of its own with a command socket of its own.
//!
//! It loads the rules of the packs, adds those of single containers when they are seen and takes them away when they are
//! gone, looks every second at the kernel's counters, and every five seconds whether anybody changed what we set.

mod containers;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use collector::control::Control;
use collector::live::{ActiveMode, Switch};
use collector::losses::KernelLost;
use collector::rules::{self, FieldId, Rule};
use collector::settings::{Wanted, assert_settings};
use enricher::Runtime;
use serde_json::json;

pub use containers::PerContainer;
use containers::{MAX_DYNAMIC, container_rules};

use super::kernel::rule_to_hex;
use super::respond;
use super::state::{Kernel, Other, Shared, lock};

const LOOK: Duration = Duration::from_secs(1);
const ASSERT: Duration = Duration::from_secs(5);

/// What the keeper is told.
pub enum Inbox {
    /// A container was seen, or what is declared of its mounts changed.
    Seen { runtime: Box<Runtime> },
    /// It is gone.
    Gone { id: String },
    /// The end.
    Stop,
}

pub struct Keeper {
    pub control: Control,
    pub shared: Arc<Shared>,
    pub responder: Sender<respond::Inbox>,
    /// Every rule of the packs: what is loaded as the owner.
    pub whole: Vec<Rule>,
    /// What is loaded beside another owner, whose log gets our volume too.
    pub narrow: Vec<Rule>,
    /// As the owner, what the settings should be.
    pub wanted: Wanted,
    /// Owner or listener, and the way from one to the other.
    pub switch: Switch,
    /// May the mode change by itself?
    pub auto: bool,
    pub own_pids: Vec<u32>,
    /// Rules that the kernel had after the last change, encoded.
    pub loaded: BTreeSet<Vec<u8>>,
    /// Per container.
    pub dynamic: PerContainer,
}

impl Keeper {
    /// Runs until it is told to stop.
    pub fn run(mut self, inbox: &Receiver<Inbox>) {
        let mut next_look = Instant::now();
        let mut next_assert = Instant::now() + ASSERT;
        let mut lost: Option<KernelLost> = None;
        loop {
            match inbox.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Ok(Inbox::Seen { runtime }) => self.on_seen(&runtime),
                Ok(Inbox::Gone { id }) => self.on_gone(&id),
                Ok(Inbox::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // By the clock, not by silence: containers that come and go all the time must not keep it from looking.
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK;
                self.look(&mut lost);
                if Instant::now() >= next_assert {
                    next_assert = Instant::now() + ASSERT;
                    self.assert();
                }
            }
        }
    }

    fn owns(&self) -> bool {
        self.switch.mode() == ActiveMode::Exclusive
    }

    fn desired(&self) -> Vec<Rule> {
        if !self.owns() {
            return self.narrow.clone();
        }
        let mut all = self.whole.clone();
        all.extend(self.dynamic.rules().cloned());
        all
    }

    /// Makes the kernel's rules what they should be. Returns how many of ours somebody else had taken away.
    pub fn apply(&mut self) -> anyhow::Result<usize> {
        let kernel = self.control.rules()?;
        let desired = self.desired();
        let changes = rules::diff(&desired, &kernel);
        // What was loaded before and has to be loaded again was removed; what never could be loaded (a path that does not
        // exist) is merely tried again.
        let removed = changes
            .add
            .iter()
            .filter(|r| self.loaded.contains(&r.encode()))
            .count();
        let applied = rules::apply(&mut self.control, &changes)?;
        self.loaded = desired
            .iter()
            .filter(|r| !applied.skipped.iter().any(|(s, _)| s == *r))
            .map(Rule::encode)
            .collect();
        let kernel = match changes.is_empty() {
            true => kernel,
            false => self.control.rules()?,
        };
        self.tell_list(&kernel);
        let mut state = lock(&self.shared.rules);
        state.kernel = self.loaded.len();
        state.per_container = if self.switch.mode() == ActiveMode::Exclusive {
            self.dynamic.rules().count()
        } else {
            0
        };
        state.io_uring = desired
            .iter()
            .any(|r| r.list() == rules::List::IoUring && self.loaded.contains(&r.encode()));
        state.skipped = skipped(&applied.skipped);
        drop(state);
        Ok(removed)
    }

    fn tell_list(&self, kernel: &[Rule]) {
        let mut list = lock(&self.shared.rule_list);
        list.narrow = !self.owns();
        list.kernel = kernel.iter().map(rule_to_hex).collect();
        list.containers = self
            .dynamic
            .iter()
            .map(|(id, rules)| (id.clone(), rules.iter().map(rule_to_hex).collect()))
            .collect();
    }

    fn on_seen(&mut self, runtime: &Runtime) {
        let changed = self.dynamic.seen(&runtime.id, container_rules(runtime));
        self.on_dynamic(changed);
    }

    fn on_gone(&mut self, id: &str) {
        let changed = self.dynamic.gone(id);
        self.on_dynamic(changed);
    }

    fn on_dynamic(&mut self, changed: bool) {
        match self.dynamic.waiting() {
            0 => self.shared.clear_reason("dynamic-rules"),
            n => self.shared.reason("dynamic-rules", format!("there would be more than {MAX_DYNAMIC} rules for single containers: {n} of the newest are watched by the common rules only")),
        }
        // Beside another owner they wait until there is none.
        if changed && self.owns() {
            self.apply_or_say();
        }
    }

    fn apply_or_say(&mut self) {
        if let Err(e) = self.apply() {
            self.shared
                .reason("rules", format!("kernel rules could not be changed: {e:#}"));
            tracing::error!("kernel rules could not be changed: {e:#}");
        } else {
            self.shared.clear_reason("rules");
        }
    }

    /// Counters and owner.
    fn look(&mut self, lost: &mut Option<KernelLost>) {
        let status = match self.control.status() {
            Ok(status) => status,
            Err(e) => {
                self.shared.reason(
                    "kernel",
                    format!("the kernel does not tell its audit status: {e}"),
                );
                return;
            }
        };
        self.shared.clear_reason("kernel");
        let total = lost
            .get_or_insert_with(|| KernelLost::new(&status))
            .update(&status);
        self.shared
            .counts
            .kernel_lost
            .store(total, Ordering::Relaxed);
        *lock(&self.shared.kernel) = Kernel {
            enabled: status.enabled,
            owner_pid: status.pid,
            backlog: status.backlog,
            backlog_limit: status.backlog_limit,
            backlog_wait_jiffies: status.backlog_wait_time,
            lost: status.lost,
            rate_limit: status.rate_limit,
        };
        let ours = std::process::id();
        if self.owns() && status.pid != ours {
            self.integrity(
                "owner-lost",
                json!({"owner": status.pid}),
                "the monitor does not own the audit stream any more",
            );
            self.change_over(status.pid);
        } else if !self.owns() && self.auto && gone(status.pid) && status.enabled != 2 {
            self.change_over(status.pid);
        }
        if let Some(listeners) = others(&self.own_pids, status.pid) {
            *lock(&self.shared.others) = listeners;
        }
    }

    /// The owner of the stream changed: becomes what the mode asks for, while records flow.
    fn change_over(&mut self, owner: u32) {
        let done = match self.auto {
            true => self.switch.follow(owner),
            false => self
                .switch
                .to(ActiveMode::Exclusive)
                .map(|()| Some(ActiveMode::Exclusive)),
        };
        match done {
            Ok(None) => {}
            Ok(Some(mode)) => self.changed_over(mode),
            // A new sensor finds the right mode, or says why there is none.
            Err(e) => {
                let why = format!("the owner of the audit stream changed: {e}");
                let _ = self.responder.send(respond::Inbox::Restart(why));
            }
        }
    }

    fn changed_over(&mut self, mode: ActiveMode) {
        if mode == ActiveMode::Exclusive
            && let Err(e) = assert_settings(&mut self.control, &self.wanted)
        {
            tracing::error!("cannot set the kernel's audit settings: {e}");
        }
        self.apply_or_say();
        say_mode(&self.shared, mode);
        self.integrity(
            "mode-changed",
            json!({"mode": mode_name(mode)}),
            match mode {
                ActiveMode::Exclusive => "the monitor owns the audit stream now",
                ActiveMode::Shared => {
                    "the monitor listens beside another owner of the audit stream now"
                }
            },
        );
    }

    /// Is everything as we set it?
    fn assert(&mut self) {
        if !self.owns() {
            let kernel = lock(&self.shared.kernel).clone();
            if kernel.enabled == 0 {
                self.shared.reason(
                    "blind",
                    "audit is switched off by the owner of the stream: nothing is seen",
                );
            } else if kernel.rate_limit != 0 {
                self.shared.reason("blind", format!("the owner of the stream limits it to {} records a second: what is over that is not seen", kernel.rate_limit));
            } else {
                self.shared.clear_reason("blind");
            }
        }
        if self.owns() {
            match assert_settings(&mut self.control, &self.wanted) {
                Ok(drifts) => {
                    for d in drifts.iter().filter(|d| d.what != "owner") {
                        let text = format!(
                            "somebody changed the kernel's audit setting {} to {} ({})",
                            d.what,
                            d.found,
                            if d.put_right {
                                format!("put back to {}", d.wanted)
                            } else {
                                d.why.to_owned()
                            }
                        );
                        self.integrity(
                            "settings-changed",
                            json!({"setting": d.what, "found": d.found, "wanted": d.wanted}),
                            &text,
                        );
                    }
                }
                Err(e) => tracing::error!("cannot check the kernel's audit settings: {e}"),
            }
        }
        match self.apply() {
            Ok(0) => {}
            Ok(n) => self.integrity(
                "rules-changed",
                json!({"put_right": n}),
                &format!("somebody removed {n} of the monitor's kernel rules (put back)"),
            ),
            Err(e) => self
                .shared
                .reason("rules", format!("kernel rules cannot be checked: {e:#}")),
        }
    }

    fn integrity(&self, what: &'static str, details: serde_json::Value, text: &str) {
        tracing::warn!("{text}");
        let _ = self.responder.send(respond::Inbox::Integrity {
            what,
            details,
            text: text.to_owned(),
        });
    }
}

/// An owner that is gone stays in the kernel's status until it next tries to send to it.
fn gone(owner: u32) -> bool {
    owner == 0 || !Path::new(&format!("/proc/{owner}")).exists()
}

fn mode_name(mode: ActiveMode) -> &'static str {
    match mode {
        ActiveMode::Exclusive => "exclusive",
        ActiveMode::Shared => "shared",
    }
}

/// Puts the mode, and what is missing in it, where `status` finds them.
pub fn say_mode(shared: &Shared, mode: ActiveMode) {
    *lock(&shared.mode) = Some(mode_name(mode).to_owned());
    match mode {
        ActiveMode::Exclusive => {
            shared.clear_reason("shared");
            shared.clear_reason("blind");
        }
        ActiveMode::Shared => shared.reason(
            "shared",
            "another program owns the audit stream: only exec, mount and ptrace are watched, and a flood can lose records; stop the other program (auditd) for the whole",
        ),
    }
}

/// What could not be loaded, in a few words: both ABIs of a rule are one thing to a reader.
fn skipped(list: &[(Rule, String)]) -> Vec<String> {
    let mut out = Vec::new();
    for (rule, why) in list {
        let path = rule
            .text_of(FieldId::DIR)
            .or_else(|| rule.text_of(FieldId::PATH))
            .map(String::from_utf8_lossy);
        let text = match path {
            Some(path) if why.contains("does not exist") => format!("{path} does not exist"),
            Some(path) => format!("{path}: {why}"),
            None => why.clone(),
        };
        if !out.contains(&text) {
            out.push(text);
        }
    }
    out
}

/// Who else gets the records: the owner, when that is not us, and whoever listens on the multicast group
/// (`/proc/net/netlink`: protocol 9, group 1).
fn others(own: &[u32], owner: u32) -> Option<Vec<Other>> {
    let text = std::fs::read_to_string("/proc/net/netlink").ok()?;
    // A port number of netlink need not be a pid: our own sockets are told by their inodes.
    let sockets: BTreeSet<String> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| std::fs::read_link(e.path()).ok())
        .filter_map(|l| {
            Some(
                l.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let mut list = Vec::new();
    if owner != 0 && !own.contains(&owner) {
        list.push(Other {
            name: comm(owner).unwrap_or_else(|| format!("pid {owner}")),
            how: "owner of the stream".into(),
        });
    }
    for line in text.lines().skip(1) {
        let f: Vec<&str> = line.split_whitespace().collect();
        let [_, protocol, pid, groups, .., inode] = f[..] else {
            continue;
        };
        let listens = u32::from_str_radix(groups, 16).is_ok_and(|g| g & 1 != 0);
        let Ok(pid) = pid.parse::<u32>() else {
            continue;
        };
        if protocol == "9"
            && listens
            && !own.contains(&pid)
            && pid != owner
            && !sockets.contains(inode)
        {
            list.push(Other {
                name: comm(pid).unwrap_or_else(|| "a process".into()),
                how: "multicast".into(),
            });
        }
    }
    Some(list)
}

fn comm(pid: u32) -> Option<String> {
    Some(
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim()
            .to_owned(),
    )
}
