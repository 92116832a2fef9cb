//! The actor of an event: which process, in which epoch, of which container, and how sure that is.

use std::sync::Arc;

use super::Enricher;
use super::doubt::TICK_NS;
use super::seed::start_ns;
use crate::activity::{Activity, Attribution, Phase, Source};
use crate::clock::Window;
use crate::container::Engine;
use crate::derive;
use crate::health;
use crate::mountinfo;
use crate::runtime_args::{self, RuntimeArgs, Verb};
use crate::table::role::{Role, Standing};
use crate::table::{Image, Key, Row};

/// Who acted.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub row: Row,
    pub key: Option<Key>,
    /// Program in that epoch; after an exec the new one.
    pub image: Option<Arc<Image>>,
}

/// A setup that was found in `/proc`, not seen from its beginning, is believed for so long.
const SEEDED_SETUP_NS: u64 = 30_000_000_000;

impl Enricher {
    /// Finds the actor and fills phase, container, attribution, `entered` and the program before an exec.
    pub(super) fn actor(&mut self, activity: &mut Activity, window: Window) -> Actor {
        let (pid, ppid) = (activity.process.pid, activity.process.ppid);
        let known_ppid = (ppid != 0).then_some(ppid);
        let found = self
            .table
            .find(pid, window, known_ppid)
            .filter(|f| self.believe(f.row, pid, ppid, window));
        let (row, other) = match found {
            Some(found) => (found.row, found.other),
            None => {
                let parent = self.living_parent(ppid, window);
                (self.table.deduce(pid, ppid, parent, window), None)
            }
        };
        self.table.touch(row, window.from);

        let call = activity.syscall.as_ref();
        let is_exec = call.is_some_and(|c| matches!(c.name.as_str(), "execve" | "execveat"));
        let (index, mut standing) = if is_exec && call.is_some_and(|c| c.success == Some(true)) {
            self.exec(activity, row, window)
        } else {
            let index = self.table.epoch_of_call(row, window);
            if call.is_some() && !is_exec {
                self.table.named_in_record(row, index);
            }
            (
                index,
                self.table.standing(row, index).unwrap_or(Standing::UNKNOWN),
            )
        };
        if standing.role == Role::Unknown {
            standing = self.ask_proc(row, index, pid, ppid, window);
        }
        if let (Role::SetupClone(key, _), false, Source::Proc) =
            (standing.role, standing.certain, standing.source)
            && self
                .table
                .start_of(pid)
                .is_some_and(|start| window.from > start + SEEDED_SETUP_NS)
        {
            standing.role = Role::Contained(key, Phase::Running);
        }

        let (key, phase) = standing.role.actor().unwrap_or((None, Phase::Host));
        let mut certain = standing.certain && self.table.is_checked(row);
        if certain && !self.table.is_connected() {
            certain = self.corroborated(row, pid, window);
        }
        if let Some(other) = other {
            // Two processes had this pid in one tick; only where both answers are the same it is sure.
            self.counters.ambiguous += 1;
            let index = self.table.epoch_of_call(other, window);
            let same = self
                .table
                .standing(other, index)
                .is_some_and(|s| s.role.actor() == standing.role.actor());
            certain &= same;
        }
        activity.phase = phase;
        activity.health_check = standing.health && phase == Phase::Exec;
        activity.entered = standing.role == Role::Host { entered: true };
        activity.attribution = Attribution {
            source: standing.source,
            certain,
        };
        activity.container = key
            .and_then(|k| self.registry.get(k))
            .map(|e| Arc::clone(&e.container));
        self.learn(activity, key, standing, pid);
        if let Some(key) = key {
            // The registry may just have learnt more.
            activity.container = self.registry.get(key).map(|e| Arc::clone(&e.container));
        }
        Actor {
            row,
            key,
            image: self.table.image(row, index),
        }
    }

    /// An exec that succeeded.
    fn exec(&mut self, activity: &mut Activity, row: Row, window: Window) -> (usize, Standing) {
        let process = &activity.process;
        let image = Arc::new(Image {
            exe: process.exe.as_str().into(),
            comm: process.comm.as_str().into(),
            argv: cut(&process.argv, self.options.limits.argv_bytes),
            by_root: process.euid == Some(0),
        });
        // The id must be whole, also when the arguments are long: it is looked up in what the record says, not in what is kept.
        let whole = if image.argv == process.argv {
            Arc::clone(&image)
        } else {
            Arc::new(Image {
                argv: process.argv.clone(),
                exe: image.exe.clone(),
                comm: image.comm.clone(),
                by_root: image.by_root,
            })
        };
        let registry = &mut self.registry;
        let Some(assigned) = self.table.assign(row, window, image, &whole, |args| {
            Some(match args {
                RuntimeArgs::Shim { id, engine } => registry.key(id, *engine),
                RuntimeArgs::Runtime { id, .. } => registry.key(id, Engine::Unknown),
            })
        }) else {
            return (0, Standing::UNKNOWN);
        };
        let mut now = assigned.now;
        activity.process.previous_exe = assigned
            .previous
            .as_ref()
            .map(|i| i.exe.to_string())
            .filter(|e| !e.is_empty());
        if let (Role::Shim(key), Some(name)) = (
            now.role,
            runtime_args::isolated(runtime_args::base(&activity.process.exe)),
        ) {
            self.registry.set_oci_runtime(key, name);
        }
        // A new life of a container begins.
        if let (Role::Runtime(key, Verb::Create), true) = (now.role, now.certain) {
            self.registry.restart(key);
        }
        if let (Some(before), Role::Contained(key, phase)) = (assigned.before, now.role)
            && !matches!(before.role, Role::Contained(..) | Role::Unknown)
        {
            self.first_program(key, phase, activity.process.pid);
            let known = self.registry.get(key).map(|e| &e.container.health_check);
            if phase == Phase::Exec && known.is_some_and(|h| health::is_check(h, &whole.argv)) {
                now.health = true;
                self.table.remember(row, assigned.index, now);
            }
        }
        if matches!(now.role, Role::Host { .. }) {
            now = self.host_exec(
                activity,
                row,
                assigned.index,
                now,
                assigned.previous.as_deref(),
                window,
            );
        }
        (assigned.index, now)
    }

    /// The first program of a container or of an exec session.
    fn first_program(&mut self, key: Key, phase: Phase, pid: u32) {
        let init = phase == Phase::Running;
        if let Some(entry) = self.registry.get_mut(key) {
            entry.starts += u32::from(init);
        }
        if init {
            self.registry.set_init(key, pid);
        }
        self.read_runtime(key, pid, init);
    }

    /// A process of the host executes a file that does not lie on the host's own file systems: a runtime that we do not know,
    /// or somebody who entered a container.
    fn host_exec(
        &mut self,
        activity: &Activity,
        row: Row,
        index: usize,
        standing: Standing,
        previous: Option<&Image>,
        window: Window,
    ) -> Standing {
        const UNKNOWN_RUNTIMES: [&str; 8] = [
            "lxc-start",
            "lxc-attach",
            "lxd",
            "incusd",
            "systemd-nspawn",
            "crun",
            "youki",
            "runc",
        ];
        let Some(dev) = activity.paths.first().and_then(derive::dev_of) else {
            return standing;
        };
        let by_runtime =
            previous.is_some_and(|i| UNKNOWN_RUNTIMES.contains(&runtime_args::base(&i.exe)));
        if self.proc.is_none() || !(by_runtime || self.is_foreign(dev)) {
            return standing;
        }
        if standing.role != (Role::Host { entered: true })
            && let Some(told) = self.read_membership(activity.process.pid, window)
            && matches!(told.role, Role::Contained(..))
        {
            self.table.remember(row, index, told);
            return told;
        }
        // Through a mount that the host itself has (a backup, a search below /var/lib/docker): it entered nothing.
        let from_outside = self
            .host_mounts
            .iter()
            .any(|m| m.dev == dev && mountinfo::is_below(&activity.process.exe, &m.mount_point));
        if !from_outside && self.registry.by_root_dev(dev).is_some() {
            let entered = Standing {
                role: Role::Host { entered: true },
                ..standing
            };
            self.table.remember(row, index, entered);
            return entered;
        }
        standing
    }

    /// Is this device none that the host has mounted, other than as the layers of a container?
    fn is_foreign(&mut self, dev: (u32, u32)) -> bool {
        self.refresh_host(self.clock.now());
        dev.0 == 0
            && !self.host_mounts.iter().any(|m| {
                m.dev == dev
                    && !matches!(
                        m.fstype.as_str(),
                        "overlay" | "aufs" | "fuse.fuse-overlayfs"
                    )
            })
    }

    /// What `/proc` says of an actor whose lineage is not known.
    fn ask_proc(
        &mut self,
        row: Row,
        index: usize,
        pid: u32,
        ppid: u32,
        window: Window,
    ) -> Standing {
        if let Some(mut told) = self.read_membership(pid, window) {
            if let Role::Contained(key, _) = told.role {
                let parent = self.table.find(ppid, window, None).map(|f| f.row);
                let parent = parent.and_then(|p| {
                    let index = self.table.epoch_of_call(p, window);
                    self.table.standing(p, index)
                });
                if let Some(Standing {
                    role: Role::Contained(of, phase),
                    health,
                    ..
                }) = parent
                    && of == key
                {
                    told.role = Role::Contained(key, phase);
                    told.health = health;
                }
            }
            self.table.remember(row, index, told);
            return told;
        }
        // Gone. Its parent tells at least where it came from.
        let Some(parent) = self.living_parent(ppid, window) else {
            return Standing::UNKNOWN;
        };
        let index = self.table.epoch_of_call(parent, window);
        match self.table.standing(parent, index) {
            Some(
                standing @ Standing {
                    role: Role::Contained(..) | Role::Host { .. },
                    ..
                },
            ) => Standing {
                source: Source::Lineage,
                certain: false,
                ..standing.of_child(false)
            },
            _ => Standing::UNKNOWN,
        }
    }

    /// `/proc/PID/cgroup`, when the process that has the pid now had it in the window too.
    pub(super) fn read_membership(&mut self, pid: u32, window: Window) -> Option<Standing> {
        self.read_process(pid, window).map(|(standing, _)| standing)
    }

    /// The same, with the start of that process, monotonic.
    pub(super) fn read_process(&mut self, pid: u32, window: Window) -> Option<(Standing, u64)> {
        let proc = self.proc.as_ref()?;
        self.counters.proc_reads += 1;
        let Some((membership, stat)) = proc.membership(pid) else {
            self.counters.proc_late += 1;
            return None;
        };
        let start = start_ns(stat.start_ticks);
        if start > window.to {
            self.counters.proc_late += 1;
            return None;
        }
        // /proc cuts to hundredths of a second: only a start before the window is surely not that of a later process.
        let certain = start + TICK_NS <= window.from;
        let role = match membership.container {
            Some(id) => Role::Contained(self.registry.key(&id.id, id.engine), Phase::Running),
            None => Role::Host { entered: false },
        };
        let standing = Standing {
            role,
            source: Source::Proc,
            certain,
            health: false,
        };
        Some((standing, start))
    }

    /// Takes from a living process what is not known of its container yet.
    fn learn(&mut self, activity: &Activity, key: Option<Key>, standing: Standing, pid: u32) {
        let Some(key) = key else { return };
        match standing.role {
            // runc mounts everything, moves the root with pivot_root, and takes the old root away with umount2: from then on
            // every mount is where the container will see it, and no program of it has run yet.
            Role::SetupClone(_, Verb::Create) => {
                let done = activity.syscall.as_ref().is_some_and(|c| {
                    matches!(c.name.as_str(), "umount2" | "umount") && c.success == Some(true)
                });
                if done {
                    self.read_runtime(key, pid, true);
                }
            }
            Role::Contained(..) if self.registry.get(key).is_some_and(|e| e.runtime.is_none()) => {
                self.read_runtime(key, pid, false)
            }
            _ => {}
        }
    }
}

/// The first arguments, as many as fit; at least the program's name.
fn cut(argv: &[String], max: usize) -> Vec<String> {
    let mut left = max;
    let mut out = Vec::with_capacity(argv.len().min(16));
    for arg in argv {
        if arg.len() > left {
            if out.is_empty() {
                out.push(arg.chars().take(left).collect());
            }
            break;
        }
        left -= arg.len();
        out.push(arg.clone());
    }
    out
}
