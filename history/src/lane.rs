//! Where the chain of a lane begins and ends, as it is stored.

use crate::value::Hash;
use crate::wire::{Reader, put_uint};

/// State of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaneState {
    /// First block that retention left.
    pub(crate) base: u64,
    /// Hash of the meta before it; zero at the very beginning.
    pub(crate) base_previous: Hash,
    /// Number of the open block.
    pub(crate) open: u64,
    /// Hash of the newest sealed meta.
    pub(crate) head: Hash,
    /// Place in the order of arrival that the next row gets, at least.
    pub(crate) next_seq: u64,
}

impl LaneState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        put_uint(&mut out, self.base);
        out.extend_from_slice(&self.base_previous);
        put_uint(&mut out, self.open);
        out.extend_from_slice(&self.head);
        put_uint(&mut out, self.next_seq);
        out
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            base: reader.uint()?,
            base_previous: reader.hash()?,
            open: reader.uint()?,
            head: reader.hash()?,
            next_seq: reader.uint()?,
        })
    }
}
