//! Names of machines as numbers, so that a key is small and an event's id shares the name.

use std::collections::HashMap;
use std::sync::Arc;

use super::Key;
use crate::event::EventId;

/// So many names are known at a time. A log of more machines forgets all of them and starts again with new numbers.
const MAX_NODES: usize = 1024;
/// A longer name is cut (host names have at most 255 bytes).
const MAX_NAME: usize = 255;

#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Number of the first name in `names`; 0 is "this machine".
    first: u32,
    names: Vec<Arc<str>>,
    by_name: HashMap<Vec<u8>, u32>,
    last: (Vec<u8>, u32),
}

impl Nodes {
    pub(super) fn id(&mut self, name: &[u8]) -> u32 {
        let name = &name[..name.len().min(MAX_NAME)];
        if self.last.1 != 0 && self.last.0 == name {
            return self.last.1;
        }
        let id = self
            .by_name
            .get(name)
            .copied()
            .unwrap_or_else(|| self.add(name));
        self.last.0.clear();
        self.last.0.extend_from_slice(name);
        self.last.1 = id;
        id
    }

    fn add(&mut self, name: &[u8]) -> u32 {
        if self.names.len() == MAX_NODES {
            self.first = self.first.wrapping_add(MAX_NODES as u32);
            self.names.clear();
            self.by_name.clear();
        }
        self.names.push(Arc::from(crate::text::to_text(name)));
        let id = self.first.wrapping_add(self.names.len() as u32);
        self.by_name.insert(name.to_vec(), id);
        id
    }

    /// The id of an event. Only for a key that was made since the names were last forgotten, which [`super::Assembler`]
    /// does: it asks with the key of the record at hand.
    pub(super) fn event_id(&self, key: Key) -> EventId {
        let node = key
            .node
            .wrapping_sub(self.first)
            .checked_sub(1)
            .and_then(|i| self.names.get(i as usize).cloned());
        EventId {
            millis: key.millis,
            serial: key.serial,
            node,
        }
    }
}
