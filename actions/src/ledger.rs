//! The store as this room sees it: durable queues and durable key-value areas.
//!
//! The program implements [`Ledger`] over the history store. What "durable" means is the store's word: the call returned,
//! so a kill -9 does not undo it.

/// The store refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store could not {tried} {on:?}: {why}")]
pub struct LedgerError {
    /// What was tried, a verb: `append to queue`.
    pub tried: &'static str,
    /// Name of the queue or area.
    pub on: String,
    /// The store's own words, with what to do next.
    pub why: String,
}

/// Queues and areas. Every call that changes something is durable when it returns.
pub trait Ledger: Send + Sync {
    /// Appends to a queue; gives the number of the entry, rising within the queue and never used again.
    fn queue_push(&self, queue: &str, value: &[u8]) -> Result<u64, LedgerError>;
    /// Replaces an entry; an entry that is gone is not an error and stays gone.
    fn queue_update(&self, queue: &str, id: u64, value: &[u8]) -> Result<(), LedgerError>;
    /// Removes an entry; one that is gone is not an error.
    fn queue_remove(&self, queue: &str, id: u64) -> Result<(), LedgerError>;
    /// All entries, oldest first.
    fn queue_list(&self, queue: &str) -> Result<Vec<(u64, Vec<u8>)>, LedgerError>;
    /// Writes a value.
    fn put(&self, area: &str, key: &str, value: &[u8]) -> Result<(), LedgerError>;
    /// Reads a value.
    fn get(&self, area: &str, key: &str) -> Result<Option<Vec<u8>>, LedgerError>;
    /// Deletes a value; one that is gone is not an error.
    fn delete(&self, area: &str, key: &str) -> Result<(), LedgerError>;
    /// All keys of an area with their values, sorted by key.
    fn scan(&self, area: &str) -> Result<Vec<(String, Vec<u8>)>, LedgerError>;
}

#[cfg(test)]
#[path = "../tests/common/memory.rs"]
pub(crate) mod memory;
