//! A durable queue and a key-value area for the rooms behind us, through the same tree, writer and flush. Contents are opaque.

use std::sync::Arc;

use crate::error::{Result, StoreError};
use crate::intake::{Changes, Command};
use crate::numbers::next_number;
use crate::shared::Shared;
use crate::store::Handle;
use crate::ticket::{Ticket, ticket};
use crate::{keys, value};

pub(crate) fn put(shared: &Shared, changes: Changes) -> Result<Ticket> {
    let largest = changes
        .iter()
        .filter_map(|(_, v)| v.as_ref())
        .map(Vec::len)
        .max()
        .unwrap_or(0);
    if largest > value::LARGEST {
        return Err(StoreError::TooLarge {
            bytes: largest,
            most: value::LARGEST,
        });
    }
    let (promise, ticket) = ticket();
    shared.intake.command(Command::Put(changes, promise))?;
    Ok(ticket)
}

/// A durable queue. Items keep their number until they are removed, also over a restart.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(crate) handle: Arc<Handle>,
    pub(crate) name: String,
}

impl Queue {
    fn key(&self, id: u64) -> Vec<u8> {
        keys::named(keys::QUEUE, &self.name, &id.to_be_bytes())
    }

    /// Adds an item; returns its number when it is durable. Numbers grow and are never used again.
    pub fn push(&self, item: &[u8]) -> Result<u64> {
        let (id, ticket) = self.push_later(item)?;
        ticket.wait().map(|()| id)
    }

    /// Adds an item; it is durable when the ticket is kept.
    pub fn push_later(&self, item: &[u8]) -> Result<(u64, Ticket)> {
        let id = next_number(&self.handle.shared, &format!("queue/{}", self.name))?;
        Ok((
            id,
            put(
                &self.handle.shared,
                vec![(self.key(id), Some(item.to_vec()))],
            )?,
        ))
    }

    /// Replaces an item, durable on return. One that was removed comes back by this.
    pub fn update(&self, id: u64, item: &[u8]) -> Result<()> {
        put(
            &self.handle.shared,
            vec![(self.key(id), Some(item.to_vec()))],
        )?
        .wait()
    }

    /// Takes an item out, durable on return. None of that number is fine.
    pub fn remove(&self, id: u64) -> Result<()> {
        self.remove_later(id)?.wait()
    }

    /// Takes an item out; durable when the ticket is kept.
    pub fn remove_later(&self, id: u64) -> Result<Ticket> {
        put(&self.handle.shared, vec![(self.key(id), None)])
    }

    /// All items, oldest first. A damaged one is passed over with a warning.
    pub fn list(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        let prefix = keys::named(keys::QUEUE, &self.name, &[]);
        Ok(scan(&self.handle.shared, &prefix)?
            .into_iter()
            .filter_map(|(key, item)| Some((u64::from_be_bytes(key.try_into().ok()?), item)))
            .collect())
    }
}

/// A durable map from keys to values.
#[derive(Clone, Debug)]
pub struct Area {
    pub(crate) handle: Arc<Handle>,
    pub(crate) name: String,
}

impl Area {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        keys::named(keys::AREA, &self.name, key)
    }

    /// Value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(value::get(&self.handle.shared.db, &self.key(key))?.map(|bytes| bytes.to_vec()))
    }

    /// Sets a value, durable on return.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_later(key, value)?.wait()
    }

    /// Sets a value; durable when the ticket is kept.
    pub fn put_later(&self, key: &[u8], value: &[u8]) -> Result<Ticket> {
        put(
            &self.handle.shared,
            vec![(self.key(key), Some(value.to_vec()))],
        )
    }

    /// Sets and takes out several at once: after a crash all of it has happened or none.
    pub fn change(&self, changes: &[(&[u8], Option<&[u8]>)]) -> Result<()> {
        let changes = changes
            .iter()
            .map(|(key, value)| (self.key(key), value.map(<[u8]>::to_vec)))
            .collect();
        put(&self.handle.shared, changes)?.wait()
    }

    /// Takes a key out, durable on return.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        put(&self.handle.shared, vec![(self.key(key), None)])?.wait()
    }

    /// Keys that begin with `prefix`, and their values, in order of the keys. A damaged value is passed over with a warning.
    pub fn scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let found = scan(&self.handle.shared, &self.key(prefix))?;
        Ok(found
            .into_iter()
            .map(|(rest, value)| ([prefix, &rest].concat(), value))
            .collect())
    }
}

/// Values under a prefix, with what their keys have behind it.
fn scan(shared: &Shared, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut out = Vec::new();
    for item in value::scan(&shared.db, prefix) {
        let (key, bytes) = item?;
        match bytes {
            Ok(bytes) => out.push((
                key.get(prefix.len()..).unwrap_or_default().to_vec(),
                bytes.to_vec(),
            )),
            Err(error) => tracing::warn!(%error, "a stored value is damaged and was passed over"),
        }
    }
    Ok(out)
}
