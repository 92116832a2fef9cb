//! [`Enricher`]: keeps the process table and the registry of containers, and answers for each event who did it.

mod actor;
mod complete;
mod doubt;
mod seed;

use std::path::PathBuf;
use std::sync::Arc;

use collector::Event;
use collector::proc_events::{ProcEvent, ProcEventKind};
use serde::{Deserialize, Serialize};

use crate::activity::{Activity, Source};
use crate::cgroup::Hierarchies;
use crate::clock::{Clock, Window};
use crate::container::Container;
use crate::derive;
use crate::mountinfo::Mount;
use crate::mounts::Policy;
use crate::procfs::Procfs;
use crate::profile::ProfileTable;
use crate::registry::Registry;
use crate::resolve::{Budget, Known};
use crate::runtime::{self, Runtime};
use crate::table::{Key, Table, TableCounters, TableLimits};
use crate::users::Passwd;

/// Bounds of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most processes, dead ones that are still kept included.
    pub processes: usize,
    /// Most dead processes kept for records that come late.
    pub dead: usize,
    /// How long a dead process is kept, seconds.
    pub dead_seconds: u64,
    /// Most containers, those that are gone included.
    pub containers: usize,
    /// Most bytes of arguments kept of one program.
    pub argv_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 262_144,
            dead: 32_768,
            dead_seconds: 60,
            containers: 4096,
            argv_bytes: 1024,
        }
    }
}

/// What the enricher is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// `/proc`.
    pub proc: PathBuf,
    /// Which container is an agent.
    pub profiles: ProfileTable,
    /// Mounts that are no finding, globs over host source or destination.
    pub expected_mounts: Vec<String>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            profiles: ProfileTable::builtin(),
            expected_mounts: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// News about containers, for whoever keeps kernel rules or shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A container runs, and its mounts are complete.
    ContainerSeen {
        /// Full id.
        id: String,
        /// What can be done to it.
        runtime: Runtime,
    },
    /// What is declared changed, because the engine told the container's name.
    ContainerChanged {
        /// Full id.
        id: String,
        /// As it is now.
        runtime: Runtime,
    },
    /// It does not run any more.
    ContainerGone {
        /// Full id.
        id: String,
    },
}

/// What the enricher counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnricherCounters {
    /// Events enriched.
    pub events: u64,
    /// Attributed by the table.
    pub by_table: u64,
    /// By lineage.
    pub by_lineage: u64,
    /// By `/proc`.
    pub by_proc: u64,
    /// Not attributed: the actor was gone and nothing was seen of it.
    pub unattributed: u64,
    /// Attributed, but not surely.
    pub uncertain: u64,
    /// Two processes had the pid within one tick.
    pub ambiguous: u64,
    /// Sources that disagreed: lineage said one container, `/proc` another.
    pub contradictions: u64,
    /// Times that `/proc/PID` was asked, and what of that came too late.
    pub proc_reads: u64,
    /// Of those, the process was gone.
    pub proc_late: u64,
    /// Overruns of the proc connector.
    pub overruns: u64,
    /// Times the table was compared with `/proc` after an overrun.
    pub repairs: u64,
    /// Processes whose exit was found to be missing in a repair.
    pub repaired_exits: u64,
    /// Containers known, those that are gone included.
    pub containers: u64,
    /// Containers forgotten because there were too many.
    pub containers_forgotten: u64,
    /// Notices dropped because nobody took them.
    pub notices_dropped: u64,
    /// The process table's own.
    pub table: TableCounters,
}

/// Most notices that wait.
const MAX_NOTICES: usize = 8192;
/// Mounts of the host are read again when they are older.
const HOST_MOUNTS_NS: u64 = 1_000_000_000;
/// A container whose processes could not be read is tried again, so often and after so long.
const MAX_TRIES: u32 = 50;
const RETRY_NS: u64 = 50_000_000;

/// Who did it. One thread owns it.
#[derive(Debug)]
pub struct Enricher {
    options: Options,
    /// `None` for logs of the past.
    proc: Option<Procfs>,
    clock: Clock,
    table: Table,
    registry: Registry,
    hierarchies: Hierarchies,
    host_mounts: Vec<Mount>,
    host_mounts_ns: u64,
    host_users: Passwd,
    notices: Vec<Notice>,
    counters: EnricherCounters,
    /// Newest time seen, monotonic.
    now_ns: u64,
    /// An overrun waits for its repair.
    repair_at_ns: Option<u64>,
    /// Not before.
    next_repair_ns: u64,
    /// Without the connector: when who ended is looked for next.
    next_sweep_ns: u64,
    /// Names that may still be looked up in this second because a file of the host is behind them.
    resolving: Budget,
    /// Names in a container's own root that may still be looked up in this second: they must not take the others' place.
    linking: Budget,
    /// Where those led.
    known: Known,
}

impl Enricher {
    /// For the running system. Nothing is read before [`Enricher::seed`].
    pub fn new(options: Options) -> Self {
        let proc = Procfs::new(&options.proc);
        Self::build(options, Some(proc), Clock::live(), Passwd::host())
    }

    /// For logs: no `/proc`, no names of users of this machine; lineage from the records alone, which is never certain.
    pub fn offline() -> Self {
        let mut enricher = Self::build(
            Options::default(),
            None,
            Clock::offline(),
            Passwd::default(),
        );
        enricher.table = enricher.table.trusting();
        enricher
    }

    /// For captured sequences: no `/proc`, and a fixed offset (realtime minus monotonic) and tick, in nanoseconds.
    pub fn captured(options: Options, offset_ns: i128, tick_ns: u64) -> Self {
        Self::build(
            options,
            None,
            Clock::fixed(offset_ns, tick_ns),
            Passwd::default(),
        )
    }

    /// For captured sequences: these processes were the host's from the beginning, as seeding would have found.
    pub fn assume_host(&mut self, pids: &[u32]) {
        for &pid in pids {
            self.table.seed(crate::table::Seed {
                pid,
                ppid: 0,
                threads: 1,
                start_ns: 0,
                read_ns: 0,
                image: Arc::default(),
                standing: crate::table::Standing::HOST,
            });
        }
    }

    fn build(options: Options, proc: Option<Procfs>, clock: Clock, host_users: Passwd) -> Self {
        let limits = options.limits;
        let table = TableLimits {
            rows: limits.processes,
            dead: limits.dead,
            dead_ns: limits.dead_seconds * 1_000_000_000,
        };
        Self {
            registry: Registry::new(limits.containers),
            table: Table::new(table),
            options,
            proc,
            clock,
            hierarchies: Hierarchies::default(),
            host_mounts: Vec::new(),
            host_mounts_ns: 0,
            host_users,
            notices: Vec::new(),
            counters: EnricherCounters::default(),
            now_ns: 0,
            repair_at_ns: None,
            next_repair_ns: 0,
            next_sweep_ns: 0,
            resolving: Budget::default(),
            linking: Budget::default(),
            known: Known::default(),
        }
    }

    /// A message of the proc connector. All messages that were queued before a batch of records come before its events.
    pub fn on_proc_event(&mut self, event: &ProcEvent) {
        self.now_ns = self.now_ns.max(event.at_ns);
        match event.kind {
            ProcEventKind::Fork {
                parent_tgid,
                child_pid,
                child_tgid,
                ..
            } if child_pid == child_tgid => {
                self.table.fork(event.at_ns, parent_tgid, child_tgid);
            }
            ProcEventKind::Fork { child_tgid, .. } => {
                self.table.thread(event.at_ns, child_tgid, 1);
            }
            ProcEventKind::Exec { tgid, .. } => self.table.exec(event.at_ns, tgid),
            ProcEventKind::Exit { pid, tgid, .. } => {
                let ended = if pid == tgid {
                    self.table.exit(event.at_ns, tgid)
                } else {
                    self.table.thread(event.at_ns, tgid, -1)
                };
                if ended.is_some()
                    && let Some(key) = self.registry.by_init(tgid)
                {
                    self.gone(key);
                }
            }
            ProcEventKind::Comm { pid, tgid, comm } if pid == tgid => self.table.comm(tgid, &comm),
            _ => {}
        }
    }

    /// The connector lost messages. The table is compared with `/proc`; until then, and for what ended in between, nothing
    /// that rests on it is certain.
    pub fn on_connector_overrun(&mut self) {
        self.counters.overruns += 1;
        self.table.overrun();
        self.repair_at_ns.get_or_insert(self.next_repair_ns);
        self.repair_when_due();
    }

    /// Adds to an event who did it.
    pub fn enrich(&mut self, event: Event) -> Activity {
        self.counters.events += 1;
        let mut activity = derive::derive(event);
        // What another machine wrote says nothing about our processes.
        if activity.process.pid == 0 || activity.event.id.node.is_some() {
            return activity;
        }
        let window = self.clock.window(activity.event.id.millis);
        self.now_ns = self.now_ns.max(if self.proc.is_some() {
            self.clock.now()
        } else {
            window.from
        });
        self.repair_when_due();
        self.sweep_when_due();
        self.table.advance(self.now_ns);
        let actor = self.actor(&mut activity, window);
        self.complete(&mut activity, window, &actor);
        self.count(&activity);
        activity
    }

    fn count(&mut self, activity: &Activity) {
        let counter = match activity.attribution.source {
            Source::Table => &mut self.counters.by_table,
            Source::Lineage => &mut self.counters.by_lineage,
            Source::Proc => &mut self.counters.by_proc,
            Source::None => &mut self.counters.unattributed,
        };
        *counter += 1;
        if !activity.attribution.certain {
            self.counters.uncertain += 1;
        }
    }

    /// What the engine says about a container; it may come at any time, also for one that is unknown or gone.
    pub fn update_container(&mut self, container: Container) {
        let init = container.init_pid;
        let policy = Policy {
            profiles: &self.options.profiles,
            expected: &self.options.expected_mounts,
        };
        let (key, changed) = self.registry.update(container, &policy);
        let Some(entry) = self.registry.get(key) else {
            return;
        };
        match &entry.runtime {
            Some(runtime) if changed => {
                let notice = Notice::ContainerChanged {
                    id: entry.container.id.clone(),
                    runtime: runtime.clone(),
                };
                self.notify(notice);
            }
            None if init != 0 => self.read_runtime(key, init, true),
            _ => {}
        }
    }

    /// The engine says that a container's first process ended. Not believed while that process lives: the news may be about
    /// the life before.
    pub fn container_stopped(&mut self, id: &str) {
        let Some(key) = self.registry.find(id) else {
            return;
        };
        let lives = self
            .registry
            .get(key)
            .and_then(|e| e.runtime.as_ref())
            .is_some_and(|r| {
                let stat = self.proc.as_ref().and_then(|p| p.stat(r.init_pid));
                r.init_pid != 0
                    && stat.is_some_and(|s| s.start_ticks == r.init_start_ticks && s.state != 'Z')
            });
        if !lives {
            self.gone(key);
        }
    }

    fn gone(&mut self, key: Key) {
        if self.registry.gone(key, self.now_ns)
            && let Some(entry) = self.registry.get(key)
        {
            let id = entry.container.id.clone();
            self.notify(Notice::ContainerGone { id });
        }
    }

    /// Every container known, those that are gone included.
    pub fn containers(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.registry.iter().map(|(_, entry)| &entry.container)
    }

    /// A container by its full id.
    pub fn container(&self, id: &str) -> Option<&Arc<Container>> {
        self.registry.by_id(id).map(|e| &e.container)
    }

    /// How a running container can be reached; `None` when it does not run or could not be read.
    pub fn runtime(&self, id: &str) -> Option<Runtime> {
        self.registry.by_id(id)?.runtime.clone()
    }

    /// Takes what happened to containers since the last time.
    pub fn drain_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn notify(&mut self, notice: Notice) {
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(notice);
        } else {
            self.counters.notices_dropped += 1;
        }
    }

    /// Counted so far.
    pub fn counters(&self) -> EnricherCounters {
        EnricherCounters {
            table: self.table.counters(),
            contradictions: self.counters.contradictions + self.table.counters().contradicted,
            containers: self.registry.iter().count() as u64,
            containers_forgotten: self.registry.forgotten,
            ..self.counters
        }
    }

    /// Reads cgroups, devices and mounts of a container from one of its processes, once in each of its lives.
    fn read_runtime(&mut self, key: Key, pid: u32, is_init: bool) {
        if self.proc.is_none() {
            return;
        }
        let now = self.clock.now();
        // The pid may be another process's by now.
        let (started, before) = self
            .table
            .find(pid, Window { from: now, to: now }, None)
            .and_then(|f| self.table.start_of_row(f.row))
            .unwrap_or((0, true));
        let Some(entry) = self.registry.get_mut(key) else {
            return;
        };
        if entry
            .runtime
            .as_ref()
            .is_some_and(|r| r.init_pid != 0 || !is_init)
        {
            return;
        }
        let (tries, last) = entry.tries;
        if !is_init && (tries >= MAX_TRIES || now < last + RETRY_NS) {
            return;
        }
        entry.tries = (tries + 1, now);
        let id = entry.container.id.clone();
        self.refresh_host(now);
        let Some(proc) = &self.proc else { return };
        self.counters.proc_reads += 1;
        let start = proc.stat(pid).map(|s| seed::start_ns(s.start_ticks));
        if start.is_none_or(|s| started != 0 && !before && s.abs_diff(started) > 25_000_000) {
            self.counters.proc_late += 1;
            return;
        }
        let runtime::Found {
            mut runtime,
            mounts,
            host,
        } = match runtime::read(proc, &self.hierarchies, &id, pid, is_init) {
            Ok(found) => found,
            Err(runtime::Unread::Early) => return,
            Err(runtime::Unread::Gone) => {
                self.counters.proc_late += 1;
                return;
            }
            Err(runtime::Unread::Contradiction(named)) => {
                self.counters.contradictions += 1;
                tracing::debug!(container = id, pid, ?named, "lineage and /proc disagree");
                return;
            }
        };
        let passwd = proc
            .stat(pid)
            .and_then(|s| Passwd::of_process(proc, pid, s.start_ticks));
        (self.host_mounts, self.host_mounts_ns) = (host, now);
        let policy = Policy {
            profiles: &self.options.profiles,
            expected: &self.options.expected_mounts,
        };
        let Some(entry) = self.registry.get_mut(key) else {
            return;
        };
        let container = Arc::make_mut(&mut entry.container);
        if is_init {
            container.init_pid = pid;
        } else {
            runtime.init_pid = 0;
        }
        let again = entry.runtime.is_some();
        entry.gone_ns = None;
        entry.mounts = mounts;
        entry.passwd = passwd.or(entry.passwd.take());
        entry.runtime = Some(runtime);
        entry.declare(&policy);
        let Some(runtime) = entry.runtime.clone() else {
            return;
        };
        if is_init {
            self.registry.set_init(key, pid);
        }
        self.notify(if again {
            Notice::ContainerChanged { id, runtime }
        } else {
            Notice::ContainerSeen { id, runtime }
        });
    }

    fn refresh_host(&mut self, now: u64) {
        if let Some(proc) = &self.proc
            && (self.host_mounts.is_empty() || now > self.host_mounts_ns + HOST_MOUNTS_NS)
        {
            self.host_mounts = proc.own_mounts();
            self.hierarchies = Hierarchies::from_mounts(&self.host_mounts);
            self.host_mounts_ns = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::{monotonic_ns, suspended_ns};

    /// `/proc/PID` of the first process of Docker's container `aaaa…`, with a tmpfs that has minor 50.
    fn first_process(proc: &Path, pid: u32) {
        let dir = proc.join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let ticks = (monotonic_ns() - 1_000_000_000 + suspended_ns()) / 10_000_000;
        let stat = format!("{pid} (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 1 1");
        std::fs::write(dir.join("stat"), stat).unwrap();
        let id = "a".repeat(64);
        std::fs::write(dir.join("cgroup"), format!("0::/docker/{id}\n")).unwrap();
        std::fs::write(
            dir.join("mountinfo"),
            "9 1 0:40 / / rw - overlay overlay rw\n10 9 0:50 / /scratch rw - tmpfs tmpfs rw\n",
        )
        .unwrap();
    }

    /// chmod(2) by pid 100 of a file that lies below `root`.
    fn chmod(root: &Path, serial: u32, cwd: &str, name: &str, file: &str) -> Event {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(root.join(file)).unwrap();
        let (dev, inode) = (meta.dev(), meta.ino());
        let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let mut event = Event::new(collector::EventId::local(now.as_millis() as u64, serial));
        for (kind, body) in [
            (
                collector::RecordType::SYSCALL,
                "arch=c000003e syscall=90 success=yes exit=0 a0=1 a1=180 a2=0 a3=0 items=1 ppid=1 pid=100 auid=4294967295 uid=0 gid=0 \
                 euid=0 comm=\"chmod\" exe=\"/bin/busybox\" key=\"k\""
                    .to_owned(),
            ),
            (collector::RecordType::CWD, format!("cwd=\"{cwd}\"")),
            (
                collector::RecordType::PATH,
                format!(
                    "item=0 name=\"{name}\" inode={inode} dev={major:02x}:{minor:02x} mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL"
                ),
            ),
        ] {
            event.push(kind, body.as_bytes());
        }
        event
    }

    #[test]
    fn links_are_followed_in_the_containers_root_and_the_file_is_the_recorded_one() {
        use std::os::unix::fs::{MetadataExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc/deep")).unwrap();
        std::fs::create_dir(root.join("tmp")).unwrap();
        for file in ["etc/shadow", "etc/other"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        symlink("/etc/shadow", root.join("tmp/link")).unwrap();
        symlink("/etc/deep", root.join("tmp/deep")).unwrap();
        let proc = dir.path().join("proc");
        first_process(&proc, 100);
        symlink(&root, proc.join("100/root")).unwrap();
        let dev = root.metadata().unwrap().dev();
        let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
        let mounts = format!("9 1 {major}:{minor} / / rw - overlay overlay rw\n");
        std::fs::write(proc.join("100/mountinfo"), mounts).unwrap();
        let mut enricher = Enricher::new(Options {
            proc,
            ..Options::default()
        });
        let real = |file: &str| Some(root.join(file).to_str().unwrap().to_owned());
        let cases = [
            (
                "/",
                "/tmp/link",
                "etc/shadow",
                "/tmp/link",
                real("etc/shadow"),
            ),
            // By the names alone it would be /tmp/shadow.
            (
                "/tmp",
                "deep/../shadow",
                "etc/shadow",
                "/tmp/shadow",
                real("etc/shadow"),
            ),
            // Somebody changed the link meanwhile: it does not lead to the file that was touched.
            ("/", "/tmp/link", "etc/other", "/tmp/link", None),
        ];
        for (n, (cwd, name, file, path, wanted)) in cases.into_iter().enumerate() {
            let event = chmod(&root, n as u32 + 1, cwd, name, file);
            let activity = enricher.enrich(event);
            let item = &activity.paths[0];
            assert_eq!(activity.phase, crate::activity::Phase::Running, "{name}");
            assert_eq!(
                (item.path.as_str(), &item.real_path),
                (path, &wanted),
                "{name}"
            );
        }
    }

    #[test]
    fn without_the_connector_whoever_is_gone_does_not_stay_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut enricher = Enricher::new(Options {
            proc: dir.path().to_owned(),
            limits: Limits {
                dead: 10,
                ..Limits::default()
            },
            ..Options::default()
        });
        first_process(dir.path(), 100);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let call = |enricher: &mut Enricher, pid: u32| {
            let id = collector::EventId::local(now.as_millis() as u64 - 500, pid);
            let mut event = Event::new(id);
            let body = format!(
                "arch=c000003e syscall=39 success=yes exit=1 items=0 ppid=1 pid={pid} uid=0 comm=\"x\" exe=\"/x\" key=(null)"
            );
            event.push(collector::RecordType::SYSCALL, body.as_bytes());
            enricher.enrich(event)
        };
        // One that lives, and a thousand that acted and are gone.
        call(&mut enricher, 100);
        for pid in 1000..2000 {
            call(&mut enricher, pid);
        }
        assert!(enricher.counters().table.rows > 1000);
        enricher.next_sweep_ns = 0;
        call(&mut enricher, 2000);
        let rows = enricher.counters().table.rows;
        assert!(rows < 20, "{rows} rows");
        let told = call(&mut enricher, 100);
        assert_eq!(told.container.map(|c| c.id.clone()), Some("a".repeat(64)));
    }

    #[test]
    fn the_hosts_mounts_are_read_behind_those_of_the_container() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("self")).unwrap();
        let own = dir.path().join("self/mountinfo");
        let root = "27 1 254:0 / / rw - ext4 /dev/vda rw\n";
        // A tmpfs of the host, which is unmounted before the container gets one with the same minor.
        let before = format!("{root}28 27 0:50 / /srv/secret rw - tmpfs tmpfs rw\n");
        std::fs::write(&own, before).unwrap();
        let mut enricher = Enricher::new(Options {
            proc: dir.path().to_owned(),
            ..Options::default()
        });
        enricher.refresh_host(enricher.clock.now());
        assert_eq!(enricher.host_mounts.len(), 2);
        std::fs::write(&own, root).unwrap();
        first_process(dir.path(), 100);
        let id = "a".repeat(64);
        let key = enricher.registry.key(&id, crate::container::Engine::Docker);
        enricher.read_runtime(key, 100, true);
        let runtime = enricher.runtime(&id).unwrap();
        assert_eq!(runtime.init_pid, 100);
        assert_eq!(runtime.mounts, [], "its own tmpfs is not the host's");
    }
}
