//! The events that are open: a slab, an index by key, and two queues in order of their deadlines.
//!
//! All of a queue's events wait equally long, so that adding at the back keeps it sorted, and removing from the middle
//! is a matter of two links. Links are indexes into the slab, [`NONE`] at the ends.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Instant;

use super::Key;
use crate::event::Event;
use crate::record::RecordType;

const NONE: u32 = u32::MAX;

/// Which queue an event waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Only records that can also stand alone: a short wait.
    Brief = 0,
    /// Part of a system call: until EOE.
    Full = 1,
}

#[derive(Debug)]
struct Pending {
    key: Key,
    deadline: Instant,
    list: List,
    prev: u32,
    next: u32,
    event: Event,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    head: u32,
    tail: u32,
}

#[derive(Debug)]
pub(super) struct Open {
    slots: Vec<Option<Pending>>,
    free: Vec<u32>,
    index: HashMap<Key, u32, KeyHashing>,
    queues: [Ends; 2],
    bytes: usize,
    /// Records of one event mostly follow each other.
    last: (Key, u32),
}

impl Default for Open {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::with_hasher(KeyHashing::new()),
            queues: [Ends {
                head: NONE,
                tail: NONE,
            }; 2],
            bytes: 0,
            last: (Key::default(), NONE),
        }
    }
}

impl Open {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(super) fn find(&mut self, key: Key) -> Option<u32> {
        if self.last.1 != NONE && self.last.0 == key {
            return Some(self.last.1);
        }
        let slot = *self.index.get(&key)?;
        self.last = (key, slot);
        Some(slot)
    }

    pub(super) fn insert(&mut self, key: Key, event: Event, list: List, deadline: Instant) {
        self.bytes += event.size();
        let pending = Pending {
            key,
            deadline,
            list,
            prev: NONE,
            next: NONE,
            event,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                // Bounded by `Limits::max_events`, and 2^32 events do not fit into memory.
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize] = Some(pending);
        self.link(slot);
        self.index.insert(key, slot);
        self.last = (key, slot);
    }

    /// Adds a record; `false` when it is there already.
    pub(super) fn push(&mut self, slot: u32, kind: RecordType, body: &[u8]) -> bool {
        let Some(pending) = self.slots[slot as usize].as_mut() else {
            return false;
        };
        if pending.event.has_recent(kind, body) {
            return false;
        }
        let before = pending.event.size();
        pending.event.push(kind, body);
        self.bytes += pending.event.size() - before;
        true
    }

    /// Moves an event from the brief queue to the other: it is part of a system call.
    pub(super) fn wait_longer(&mut self, slot: u32, deadline: Instant) {
        if self.slots[slot as usize]
            .as_ref()
            .is_none_or(|p| p.list == List::Full)
        {
            return;
        }
        self.unlink(slot);
        if let Some(pending) = self.slots[slot as usize].as_mut() {
            pending.list = List::Full;
            pending.deadline = deadline;
        }
        self.link(slot);
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<(Key, Event)> {
        self.unlink(slot);
        let pending = self.slots[slot as usize].take()?;
        self.free.push(slot);
        self.index.remove(&pending.key);
        self.bytes -= pending.event.size();
        if self.last.1 == slot {
            self.last.1 = NONE;
        }
        Some((pending.key, pending.event))
    }

    /// Slot and deadline of the event that has waited longest in a queue.
    pub(super) fn oldest(&self, list: List) -> Option<(u32, Instant)> {
        let head = self.queues[list as usize].head;
        let pending = self.slots.get(head as usize)?.as_ref()?;
        Some((head, pending.deadline))
    }

    /// The event whose time is up first.
    pub(super) fn oldest_of_all(&self) -> Option<(u32, List)> {
        let both = [List::Brief, List::Full]
            .into_iter()
            .filter_map(|list| Some((self.oldest(list)?, list)));
        both.min_by_key(|((_, deadline), _)| *deadline)
            .map(|((slot, _), list)| (slot, list))
    }

    fn link(&mut self, slot: u32) {
        let Some(list) = self.slots[slot as usize].as_ref().map(|p| p.list) else {
            return;
        };
        let tail = std::mem::replace(&mut self.queues[list as usize].tail, slot);
        if let Some(pending) = self.slots[slot as usize].as_mut() {
            (pending.prev, pending.next) = (tail, NONE);
        }
        match self.at(tail) {
            Some(before) => before.next = slot,
            None => self.queues[list as usize].head = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(pending) = self.at(slot) else { return };
        let (list, prev, next) = (pending.list, pending.prev, pending.next);
        match self.at(prev) {
            Some(before) => before.next = next,
            None => self.queues[list as usize].head = next,
        }
        match self.at(next) {
            Some(after) => after.prev = prev,
            None => self.queues[list as usize].tail = prev,
        }
    }

    fn at(&mut self, slot: u32) -> Option<&mut Pending> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }
}

/// Hashing of keys: two multiplications instead of SipHash, started from a random number so that a log cannot be made
/// to collide.
#[derive(Clone, Debug)]
pub(super) struct KeyHashing(u64);

impl KeyHashing {
    fn new() -> Self {
        Self(RandomState::new().hash_one(0u8))
    }
}

impl BuildHasher for KeyHashing {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0)
    }
}

pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u64(u64::from(*b)));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        let wide = u128::from(self.0 ^ n) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
