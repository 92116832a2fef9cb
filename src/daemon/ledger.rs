//! The store as the actions see it.

use actions::ledger::{Ledger, LedgerError};
use history::Store;

/// Queues and areas over the history store.
pub struct StoreLedger {
    store: Store,
}

impl StoreLedger {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

fn failed<'a>(
    tried: &'static str,
    on: &'a str,
) -> impl FnOnce(history::StoreError) -> LedgerError + 'a {
    move |e| LedgerError {
        tried,
        on: on.to_owned(),
        why: e.to_string(),
    }
}

impl Ledger for StoreLedger {
    fn queue_push(&self, queue: &str, value: &[u8]) -> Result<u64, LedgerError> {
        self.store
            .queue(queue)
            .push(value)
            .map_err(failed("append to queue", queue))
    }

    fn queue_update(&self, queue: &str, id: u64, value: &[u8]) -> Result<(), LedgerError> {
        self.store
            .queue(queue)
            .update(id, value)
            .map(drop)
            .map_err(failed("change an entry of queue", queue))
    }

    fn queue_remove(&self, queue: &str, id: u64) -> Result<(), LedgerError> {
        self.store
            .queue(queue)
            .remove(id)
            .map(drop)
            .map_err(failed("remove from queue", queue))
    }

    fn queue_list(&self, queue: &str) -> Result<Vec<(u64, Vec<u8>)>, LedgerError> {
        self.store
            .queue(queue)
            .list()
            .map_err(failed("list queue", queue))
    }

    fn put(&self, area: &str, key: &str, value: &[u8]) -> Result<(), LedgerError> {
        self.store
            .area(area)
            .put(key.as_bytes(), value)
            .map_err(failed("write to area", area))
    }

    fn get(&self, area: &str, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.store
            .area(area)
            .get(key.as_bytes())
            .map_err(failed("read from area", area))
    }

    fn delete(&self, area: &str, key: &str) -> Result<(), LedgerError> {
        self.store
            .area(area)
            .delete(key.as_bytes())
            .map(drop)
            .map_err(failed("delete from area", area))
    }

    fn scan(&self, area: &str) -> Result<Vec<(String, Vec<u8>)>, LedgerError> {
        let all = self
            .store
            .area(area)
            .scan(b"")
            .map_err(failed("list area", area))?;
        Ok(all
            .into_iter()
            .map(|(k, v)| (String::from_utf8_lossy(&k).into_owned(), v))
            .collect())
    }
}
