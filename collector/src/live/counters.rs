//! What the reader counts. Every place where a record can be lost has its own counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::realtime::HeldCounters;

/// Counters of one reader; they only grow.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Audit records received.
    pub records: AtomicU64,
    /// Bytes of their payloads.
    pub bytes: AtomicU64,
    /// Batches handed on.
    pub batches: AtomicU64,
    /// Records longer than the buffer of one datagram; handed on cut.
    pub truncated: AtomicU64,
    /// Times that the kernel said ENOBUFS: multicast records were dropped for want of room.
    pub enobufs: AtomicU64,
    /// Messages of the proc connector.
    pub connector_messages: AtomicU64,
    /// Times that the connector overflowed or a gap in its count was seen.
    pub connector_overruns: AtomicU64,
    /// Connector messages missing by their count.
    pub connector_missing: AtomicU64,
    /// Turns that the next stage was not ready for; what they read was held back for it.
    pub held_turns: AtomicU64,
    /// Batches dropped because the next stage took nothing until our own room was full and the socket's half full.
    pub queue_dropped_batches: AtomicU64,
    /// Records in those batches.
    pub queue_dropped_records: AtomicU64,
    /// Datagrams that the kernel did not send: forgeries, dropped.
    pub foreign: AtomicU64,
    /// Datagrams without a whole header, dropped.
    pub malformed: AtomicU64,
    /// What became of the real-time priority of the thread.
    pub realtime: Arc<HeldCounters>,
    /// Records that the kernel still held when the stream was left.
    pub left_behind: AtomicU64,
    /// Times that the stream was changed over from owner to listener or back while it ran.
    pub switches: AtomicU64,
    /// Times that somebody else tried to become the owner (`AUDIT_REPLACE`). The kernel only wants to see whether the
    /// message can be delivered; there is nothing to answer.
    pub replace_requests: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    if n > 0 {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
