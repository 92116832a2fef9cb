//! `struct audit_status` (`linux/audit.h`): what the kernel says about auditing, and what we may ask it to change.

use std::{fmt, mem};

use netlink_packet_audit::{StatusMessage, StatusMessageBuffer};
use netlink_packet_core::Parseable;
use serde::{Deserialize, Serialize};

use crate::netlink::u32_at;

// The crate has no names for the mask (AUDIT_STATUS_* in linux/audit.h).
const MASK_ENABLED: u32 = 0x01;
const MASK_FAILURE: u32 = 0x02;
const MASK_PID: u32 = 0x04;
const MASK_RATE_LIMIT: u32 = 0x08;
const MASK_BACKLOG_LIMIT: u32 = 0x10;
const MASK_BACKLOG_WAIT_TIME: u32 = 0x20;

/// The crate's structure, and a little more than any kernel sends.
const CRATE_LEN: usize = 40;
/// Length of the oldest form that is accepted: up to and with `backlog`.
const MIN_LEN: usize = 32;

/// Answer to `AUDIT_GET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// 0 off, 1 on, 2 on and locked until the next boot.
    pub enabled: u32,
    /// What the kernel does when a record is lost: 0 nothing, 1 a line in the kernel log, 2 panic.
    pub failure: u32,
    /// Process that owns the stream, 0 for none.
    pub pid: u32,
    /// Records a second that are let through, 0 for no limit.
    pub rate_limit: u32,
    /// Records that may wait for the owner, 0 for no limit.
    pub backlog_limit: u32,
    /// Records lost since boot, or since somebody set the count back. It wraps.
    pub lost: u32,
    /// Records that wait at this moment.
    pub backlog: u32,
    /// `AUDIT_FEATURE_BITMAP_*`; 0 from a kernel that does not say.
    pub features: u32,
    /// How long a process waits when the backlog is full, in jiffies (see [`crate::hz`]).
    pub backlog_wait_time: u32,
    /// How long processes have waited in all, in jiffies; `None` from a kernel before 5.9.
    pub backlog_wait_time_actual: Option<u32>,
}

impl Status {
    /// Reads the payload of an answer: 32 bytes from old kernels, 40, or 44.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() < MIN_LEN {
            return None;
        }
        // netlink-packet-audit wants 40 bytes exactly or more, and knows nothing of the eleventh word.
        let mut padded = [0; CRATE_LEN];
        let known = payload.len().min(CRATE_LEN);
        padded[..known].copy_from_slice(&payload[..known]);
        let message = StatusMessage::parse(&StatusMessageBuffer::new(&padded[..])).ok()?;
        Some(Self {
            enabled: message.enabled,
            failure: message.failure,
            pid: message.pid,
            rate_limit: message.rate_limiting,
            backlog_limit: message.backlog_limit,
            lost: message.lost,
            backlog: message.backlog,
            features: message.feature_bitmap,
            backlog_wait_time: message.backlog_wait_time,
            backlog_wait_time_actual: u32_at(payload, CRATE_LEN),
        })
    }
}

/// What is to be changed (`AUDIT_SET`); `None` leaves a setting as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// See [`Status::enabled`].
    pub enabled: Option<u32>,
    /// See [`Status::failure`].
    pub failure: Option<u32>,
    /// See [`Status::rate_limit`].
    pub rate_limit: Option<u32>,
    /// See [`Status::backlog_limit`].
    pub backlog_limit: Option<u32>,
    /// See [`Status::backlog_wait_time`].
    pub backlog_wait_time: Option<u32>,
    /// Own pid to become the owner (of the socket that sends it), 0 to cease to be.
    pub pid: Option<u32>,
}

impl Change {
    /// Is there anything to change?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The message for it.
    pub(crate) fn to_message(self) -> StatusMessage {
        let mut message = StatusMessage::new();
        let mut put = |value: Option<u32>, bit: u32, field: fn(&mut StatusMessage) -> &mut u32| {
            if let Some(value) = value {
                message.mask |= bit;
                *field(&mut message) = value;
            }
        };
        put(self.enabled, MASK_ENABLED, |m| &mut m.enabled);
        put(self.failure, MASK_FAILURE, |m| &mut m.failure);
        put(self.rate_limit, MASK_RATE_LIMIT, |m| &mut m.rate_limiting);
        put(self.backlog_limit, MASK_BACKLOG_LIMIT, |m| {
            &mut m.backlog_limit
        });
        put(self.backlog_wait_time, MASK_BACKLOG_WAIT_TIME, |m| {
            &mut m.backlog_wait_time
        });
        put(self.pid, MASK_PID, |m| &mut m.pid);
        message
    }
}

/// `backlog_limit 8192, failure 1`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = [
            ("enabled", self.enabled),
            ("failure", self.failure),
            ("rate_limit", self.rate_limit),
            ("backlog_limit", self.backlog_limit),
            ("backlog_wait_time", self.backlog_wait_time),
            ("pid", self.pid),
        ];
        let mut first = true;
        for (name, value) in settings
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
        {
            if !mem::replace(&mut first, false) {
                f.write_str(", ")?;
            }
            write!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: u32) -> Vec<u8> {
        (0..count).flat_map(|n| (100 + n).to_ne_bytes()).collect()
    }

    #[test]
    fn answers_of_every_kernel_are_read() {
        let new = Status::parse(&words(11)).unwrap();
        assert_eq!(
            (
                new.enabled,
                new.failure,
                new.pid,
                new.rate_limit,
                new.backlog_limit
            ),
            (101, 102, 103, 104, 105)
        );
        assert_eq!((new.lost, new.backlog, new.features), (106, 107, 108));
        assert_eq!(
            (new.backlog_wait_time, new.backlog_wait_time_actual),
            (109, Some(110))
        );
        let middle = Status::parse(&words(10)).unwrap();
        assert_eq!(
            (middle.backlog_wait_time, middle.backlog_wait_time_actual),
            (109, None)
        );
        let old = Status::parse(&words(8)).unwrap();
        assert_eq!(
            (old.backlog, old.features, old.backlog_wait_time),
            (107, 0, 0)
        );
        assert_eq!(Status::parse(&words(7)), None);
    }

    #[test]
    fn a_change_names_exactly_its_settings() {
        let message = Change {
            failure: Some(0),
            backlog_wait_time: Some(25),
            ..Change::default()
        }
        .to_message();
        assert_eq!(
            (message.mask, message.failure, message.backlog_wait_time),
            (0x22, 0, 25)
        );
        assert!(Change::default().is_empty());
        assert_eq!(Change::default().to_message().mask, 0);
    }
}
