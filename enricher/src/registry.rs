//! Containers, from the first sign of them until long after their end.

use std::collections::HashMap;
use std::sync::Arc;

use crate::container::{Container, Engine};
use crate::mounts::{MountTable, Policy};
use crate::runtime::Runtime;
use crate::table::Key;
use crate::users::Passwd;

/// What is known of one container.
#[derive(Debug)]
pub struct Entry {
    /// As events carry it.
    pub container: Arc<Container>,
    /// The engine has told name, image and mounts.
    pub known: bool,
    /// As long as it runs: cgroups, devices, mounts.
    pub runtime: Option<Runtime>,
    /// Mounts joined with the host's; the engine's word until a process could be read.
    pub mounts: MountTable,
    /// Users of the container.
    pub passwd: Option<Passwd>,
    /// Monotonic time of its end.
    pub gone_ns: Option<u64>,
    /// How often reading the runtime was tried, and when it was last.
    pub tries: (u32, u64),
    /// Number of programs started as its first one: 0 means that no start was seen.
    pub starts: u32,
}

/// The registry. Numbers are never used twice, so that a row of the table cannot come to mean another container.
#[derive(Debug)]
pub struct Registry {
    entries: HashMap<Key, Entry>,
    by_id: HashMap<String, Key>,
    by_init: HashMap<u32, Key>,
    next: Key,
    limit: usize,
    /// Containers forgotten because there were too many.
    pub forgotten: u64,
}

impl Registry {
    /// An empty registry for at most `limit` containers.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            by_id: HashMap::new(),
            by_init: HashMap::new(),
            next: 1,
            limit: limit.max(1),
            forgotten: 0,
        }
    }

    /// Number of a container; it is entered when it is new.
    pub fn key(&mut self, id: &str, engine: Engine) -> Key {
        if let Some(key) = self.by_id.get(id).copied() {
            if engine != Engine::Unknown
                && let Some(entry) = self.entries.get_mut(&key)
                && entry.container.engine == Engine::Unknown
            {
                Arc::make_mut(&mut entry.container).engine = engine;
            }
            return key;
        }
        self.make_room();
        let key = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        let container = Arc::new(Container {
            engine,
            ..Container::from_id(id)
        });
        let entry = Entry {
            container,
            known: false,
            runtime: None,
            mounts: MountTable::default(),
            passwd: None,
            gone_ns: None,
            tries: (0, 0),
            starts: 0,
        };
        self.entries.insert(key, entry);
        self.by_id.insert(id.to_owned(), key);
        key
    }

    fn make_room(&mut self) {
        while self.entries.len() >= self.limit {
            // The one that has been gone longest, else the oldest.
            let victim = self
                .entries
                .iter()
                .min_by_key(|(key, e)| (e.gone_ns.is_none(), e.gone_ns, **key))
                .map(|(key, _)| *key);
            let Some(key) = victim else { return };
            self.forgotten += 1;
            self.remove(key);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.by_id.remove(&entry.container.id);
            self.by_init.retain(|_, k| *k != key);
        }
    }

    /// An entry by number.
    pub fn get(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key)
    }

    /// An entry by number.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(&key)
    }

    /// Number of an id.
    pub fn find(&self, id: &str) -> Option<Key> {
        self.by_id.get(id).copied()
    }

    /// An entry by id.
    pub fn by_id(&self, id: &str) -> Option<&Entry> {
        self.entries.get(self.by_id.get(id)?)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Entry)> {
        self.entries.iter().map(|(key, entry)| (*key, entry))
    }

    /// Remembers the first process of a container.
    pub fn set_init(&mut self, key: Key, pid: u32) {
        self.by_init.retain(|p, k| *k != key && *p != pid);
        if pid != 0 {
            self.by_init.insert(pid, key);
        }
    }

    /// The supervisor's program tells which runtime runs the container.
    pub fn set_oci_runtime(&mut self, key: Key, name: &str) {
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.container.oci_runtime.is_none()
        {
            Arc::make_mut(&mut entry.container).oci_runtime = Some(name.to_owned());
        }
    }

    /// The container whose first process has this pid.
    pub fn by_init(&self, pid: u32) -> Option<Key> {
        self.by_init.get(&pid).copied()
    }

    /// The container whose root file system has this device.
    pub fn by_root_dev(&self, dev: (u32, u32)) -> Option<Key> {
        self.entries
            .iter()
            .find(|(_, e)| e.runtime.as_ref().is_some_and(|r| r.root_dev == Some(dev)))
            .map(|(key, _)| *key)
    }

    /// A container starts (again): what was read of its last life is no longer true.
    pub fn restart(&mut self, key: Key) {
        self.by_init.retain(|_, k| *k != key);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.runtime = None;
            entry.passwd = None;
            entry.gone_ns = None;
            entry.tries = (0, 0);
        }
    }

    /// A container ended. `false` when that was known.
    pub fn gone(&mut self, key: Key, now_ns: u64) -> bool {
        self.by_init.retain(|_, k| *k != key);
        let Some(entry) = self.entries.get_mut(&key) else {
            return false;
        };
        let news = entry.gone_ns.is_none();
        entry.gone_ns = Some(now_ns.max(1));
        entry.runtime = None;
        news
    }

    /// What the engine says. Returns the number, and whether what is declared changed.
    pub fn update(&mut self, mut container: Container, policy: &Policy<'_>) -> (Key, bool) {
        let key = self.key(&container.id, container.engine);
        policy.profiles.assign(&mut container);
        let Some(entry) = self.entries.get_mut(&key) else {
            return (key, false);
        };
        if container.engine == Engine::Unknown {
            container.engine = entry.container.engine;
        }
        // Who reaches the engine can rename a container; an agent stays the agent that it was.
        if entry.known && entry.container.profile.is_some() {
            container.profile = entry.container.profile;
            container.agent.clone_from(&entry.container.agent);
        }
        // The supervisor's program told it, the engine did not.
        if container.oci_runtime.is_none() {
            container.oci_runtime = entry.container.oci_runtime.clone();
        }
        entry.known = container.name.is_some();
        entry.container = Arc::new(container);
        let changed = entry.declare(policy);
        (key, changed)
    }
}

impl Entry {
    /// Decides again which mounts are declared, in the table, in the runtime and in the container. Did anything change?
    pub fn declare(&mut self, policy: &Policy<'_>) -> bool {
        let before = self.runtime.clone();
        if self.runtime.is_none() && self.mounts.is_empty() {
            self.mounts = MountTable::from_engine(&self.container.mounts);
        }
        self.mounts.declare(
            &self.container.id,
            self.container.profile,
            self.known,
            policy,
        );
        if let Some(runtime) = &mut self.runtime {
            runtime.set_mounts(&self.mounts);
        }
        let mounts = &self.mounts;
        let declared = |destination: &str| {
            mounts
                .covering(destination)
                .is_some_and(|p| p.destination == destination && p.declared)
        };
        if self
            .container
            .mounts
            .iter()
            .any(|m| m.declared != declared(&m.destination))
        {
            let container = Arc::make_mut(&mut self.container);
            container
                .mounts
                .iter_mut()
                .for_each(|m| m.declared = declared(&m.destination));
        }
        self.runtime != before
    }
}
