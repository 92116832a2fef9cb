//! The process table's beginning, and its repair: what `/proc` shows.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::Enricher;
use crate::activity::{Phase, Source};
use crate::clock::{monotonic_ns, suspended_ns};
use crate::procfs::{Procfs, Snapshot, USER_HZ};
use crate::runtime_args::{self, RuntimeArgs, Verb};
use crate::table::role::{Role, Standing};
use crate::table::{Image, Key};

use crate::container::Engine;

/// A repair reads all of `/proc`: not more often than this.
const REPAIR_EVERY_NS: u64 = 2_000_000_000;

/// Without the connector, how often the names in `/proc` are read: a tenth of a millisecond for a hundred processes.
const SWEEP_EVERY_NS: u64 = 5_000_000_000;

/// Start of a process, monotonic nanoseconds, from its ticks since boot: true to 10 ms, never later than the truth.
pub(super) fn start_ns(ticks: u64) -> u64 {
    (ticks.saturating_mul(1_000_000_000 / USER_HZ)).saturating_sub(suspended_ns())
}

impl Enricher {
    /// Reads every process that lives now. To miss nothing, subscribe to the proc connector before, and feed its messages after.
    pub fn seed(&mut self) {
        let Some(proc) = self.proc.clone() else {
            return;
        };
        self.refresh_host(self.clock.now());
        let read_ns = monotonic_ns();
        let all: HashMap<u32, Snapshot> = proc
            .pids()
            .into_iter()
            .filter_map(|pid| Some((pid, proc.snapshot(pid, self.options.limits.argv_bytes)?)))
            .collect();
        let mut inits: Vec<(Key, u32)> = Vec::new();
        let mut order: Vec<u32> = all.keys().copied().collect();
        order.sort_unstable();
        for pid in order {
            let Some(snapshot) = all.get(&pid) else {
                continue;
            };
            let (standing, init) = self.standing_of(&proc, snapshot, &all);
            if let (true, Role::Contained(key, _)) = (init, standing.role) {
                inits.push((key, pid));
            }
            self.table.seed(crate::table::Seed {
                pid,
                ppid: snapshot.stat.ppid,
                threads: snapshot.stat.threads,
                start_ns: start_ns(snapshot.stat.start_ticks),
                read_ns,
                image: Arc::new(Image {
                    exe: snapshot
                        .exe
                        .strip_suffix(" (deleted)")
                        .unwrap_or(&snapshot.exe)
                        .into(),
                    comm: snapshot.stat.comm.clone(),
                    argv: snapshot.argv.clone(),
                    by_root: owner(&proc, pid) == Some(0),
                }),
                standing,
            });
        }
        self.table.tie();
        for (key, pid) in inits {
            self.read_runtime(key, pid, true);
        }
        self.now_ns = self.now_ns.max(read_ns);
    }

    /// Whose a process is, by what `/proc` shows, and whether it is a container's first one.
    fn standing_of(
        &mut self,
        proc: &Procfs,
        process: &Snapshot,
        all: &HashMap<u32, Snapshot>,
    ) -> (Standing, bool) {
        let told = |role| Standing {
            role,
            source: Source::Proc,
            certain: true,
            health: false,
        };
        let Some(container) = &process.membership.container else {
            let args = runtime_args::read(&process.exe, &process.argv);
            let role = match args {
                Some(RuntimeArgs::Shim { id, engine }) => {
                    let key = self.registry.key(&id, engine);
                    if let Some(name) = runtime_args::isolated(runtime_args::base(&process.exe)) {
                        self.registry.set_oci_runtime(key, name);
                    }
                    Role::Shim(key)
                }
                Some(RuntimeArgs::Runtime { id, verb }) => {
                    Role::Runtime(self.registry.key(&id, Engine::Unknown), verb)
                }
                None => Role::Host { entered: false },
            };
            let certain = matches!(role, Role::Host { .. }) || owner(proc, process.pid) == Some(0);
            return (
                Standing {
                    certain,
                    ..told(role)
                },
                false,
            );
        };
        let key = self.registry.key(&container.id, container.engine);
        if self.is_setup(process, all) {
            return (
                Standing {
                    role: Role::SetupClone(key, Verb::Create),
                    source: Source::Proc,
                    certain: false,
                    health: false,
                },
                false,
            );
        }
        // Up to the first process of this container in the line of parents: the container's own, or one that exec started.
        let mut top = process;
        for _ in 0..64 {
            match all.get(&top.stat.ppid) {
                Some(parent)
                    if parent
                        .membership
                        .container
                        .as_ref()
                        .is_some_and(|c| c.id == container.id) =>
                {
                    top = parent
                }
                _ => break,
            }
        }
        let first = proc.inner_pid(top.pid) == Some(1);
        let alone = !all.values().any(|p| {
            p.pid != top.pid
                && p.membership
                    .container
                    .as_ref()
                    .is_some_and(|c| c.id == container.id)
                && proc.inner_pid(p.pid) == Some(1)
        });
        let phase = if first || alone {
            Phase::Running
        } else {
            Phase::Exec
        };
        (
            told(Role::Contained(key, phase)),
            first && top.pid == process.pid,
        )
    }

    /// A runtime's clone that prepares a container at this very moment: it is named like one, still runs the runtime's program,
    /// and its parent is a runtime or shim outside. All of that can be forged by a process that was there before us, so it is
    /// never certain and is believed for a short time only.
    pub(super) fn is_setup(&self, process: &Snapshot, all: &HashMap<u32, Snapshot>) -> bool {
        let program = runtime_args::base(
            process
                .exe
                .strip_suffix(" (deleted)")
                .unwrap_or(&process.exe),
        );
        let named =
            process.stat.comm.starts_with("runc:[") || process.stat.comm.starts_with("crun:[");
        let own = process.exe == "/"
            || process.exe.starts_with("/memfd:runc_cloned")
            || runtime_args::is_runtime(program);
        let parent = all
            .get(&process.stat.ppid)
            .filter(|p| p.membership.container.is_none());
        named
            && own
            && parent.is_some_and(|p| {
                runtime_args::is_runtime(runtime_args::base(&p.exe))
                    || p.exe.contains("containerd-shim")
            })
    }

    /// After an overrun: what `/proc` shows is right again, what it does not show ended.
    pub(super) fn repair_when_due(&mut self) {
        let Some(due) = self.repair_at_ns else { return };
        if self.now_ns < due {
            return;
        }
        let Some(proc) = self.proc.clone() else {
            self.repair_at_ns = None;
            return;
        };
        self.counters.repairs += 1;
        let before = monotonic_ns();
        self.seed();
        let shown: HashSet<u32> = proc.pids().into_iter().collect();
        self.counters.repaired_exits +=
            self.table.end_missing(before, |pid| shown.contains(&pid)) as u64;
        let lost: Vec<Key> = self
            .registry
            .iter()
            .filter(|(_, e)| {
                e.gone_ns.is_none()
                    && e.runtime
                        .as_ref()
                        .is_some_and(|r| r.init_pid != 0 && !shown.contains(&r.init_pid))
            })
            .map(|(key, _)| key)
            .collect();
        lost.into_iter().for_each(|key| self.gone(key));
        self.repair_at_ns = None;
        // The next overrun waits, so that a storm does not make us read /proc all the time.
        self.next_repair_ns = self.now_ns + REPAIR_EVERY_NS;
    }
}

impl Enricher {
    /// Without the connector nobody says who ended: now and then whoever `/proc` does not show any more is taken out.
    pub(super) fn sweep_when_due(&mut self) {
        if self.table.is_connected() || self.now_ns < self.next_sweep_ns {
            return;
        }
        let Some(proc) = &self.proc else { return };
        self.next_sweep_ns = self.now_ns + SWEEP_EVERY_NS;
        let before = monotonic_ns();
        let shown: HashSet<u32> = proc.pids().into_iter().collect();
        self.table.end_missing(before, |pid| shown.contains(&pid));
    }
}

/// User that a process runs as.
fn owner(proc: &Procfs, pid: u32) -> Option<u32> {
    std::fs::metadata(proc.path(pid, "")).ok().map(|m| m.uid())
}
