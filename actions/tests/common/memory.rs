//! A ledger in memory, for tests: what the store does, without its disk. Cloning it is a view of the same ledger, so a
//! test can drop an outbox and open another one as a restart does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Ledger, LedgerError};

#[derive(Default)]
struct Content {
    next: u64,
    queues: BTreeMap<String, BTreeMap<u64, Vec<u8>>>,
    areas: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    fail: bool,
}

/// The ledger.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Content>>);

impl Memory {
    /// From now on every change is refused, as by a full disk.
    #[allow(dead_code)]
    pub fn fail(&self, fail: bool) {
        self.0.lock().unwrap().fail = fail;
    }

    fn change<T>(&self, on: &str, f: impl FnOnce(&mut Content) -> T) -> Result<T, LedgerError> {
        let mut content = self.0.lock().unwrap();
        if content.fail {
            return Err(LedgerError {
                tried: "write to",
                on: on.to_owned(),
                why: "the test says that the disk is full".into(),
            });
        }
        Ok(f(&mut content))
    }
}

impl Ledger for Memory {
    fn queue_push(&self, queue: &str, value: &[u8]) -> Result<u64, LedgerError> {
        self.change(queue, |c| {
            c.next += 1;
            c.queues
                .entry(queue.to_owned())
                .or_default()
                .insert(c.next, value.to_vec());
            c.next
        })
    }
    fn queue_update(&self, queue: &str, id: u64, value: &[u8]) -> Result<(), LedgerError> {
        self.change(queue, |c| {
            if let Some(slot) = c.queues.entry(queue.to_owned()).or_default().get_mut(&id) {
                *slot = value.to_vec();
            }
        })
    }
    fn queue_remove(&self, queue: &str, id: u64) -> Result<(), LedgerError> {
        self.change(queue, |c| {
            c.queues.entry(queue.to_owned()).or_default().remove(&id);
        })
    }
    fn queue_list(&self, queue: &str) -> Result<Vec<(u64, Vec<u8>)>, LedgerError> {
        let content = self.0.lock().unwrap();
        Ok(content
            .queues
            .get(queue)
            .into_iter()
            .flatten()
            .map(|(k, v)| (*k, v.clone()))
            .collect())
    }
    fn put(&self, area: &str, key: &str, value: &[u8]) -> Result<(), LedgerError> {
        self.change(area, |c| {
            c.areas
                .entry(area.to_owned())
                .or_default()
                .insert(key.to_owned(), value.to_vec());
        })
    }
    fn get(&self, area: &str, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .areas
            .get(area)
            .and_then(|a| a.get(key))
            .cloned())
    }
    fn delete(&self, area: &str, key: &str) -> Result<(), LedgerError> {
        self.change(area, |c| {
            c.areas.entry(area.to_owned()).or_default().remove(key);
        })
    }
    fn scan(&self, area: &str) -> Result<Vec<(String, Vec<u8>)>, LedgerError> {
        let content = self.0.lock().unwrap();
        Ok(content
            .areas
            .get(area)
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }
}
