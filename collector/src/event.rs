//! `Event`: every record that the kernel wrote for one system call (or one stand-alone message), as bytes.
//!
//! An event owns one buffer with the bodies of its records back to back, so that assembling costs one copy
//! and no allocation a record. Nothing is decoded here: `decode` reads the bodies when somebody asks.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::record::{Record, RecordType};

/// What makes an event unique: the node that wrote it, the kernel's time stamp and its serial number
/// (`audit(1795353018.414:5)`, see `audit_log_start` in the kernel's `audit.c`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId {
    /// Milliseconds since the epoch. It is the coarse clock: its resolution is one tick (1 to 10 ms).
    pub millis: u64,
    /// Serial number. It starts again at 1 after a boot and wraps at 2^32.
    pub serial: u32,
    /// Name in front of a forwarded record (`node=web1 type=…`), `None` on the machine itself.
    pub node: Option<Arc<str>>,
}

impl EventId {
    /// The event of this machine with that time stamp and serial number.
    pub fn local(millis: u64, serial: u32) -> Self {
        Self {
            millis,
            serial,
            node: None,
        }
    }
}

/// `1795353018.414:5`, with `node/` in front when there is one.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}/")?;
        }
        write!(
            f,
            "{}.{:03}:{}",
            self.millis / 1000,
            self.millis % 1000,
            self.serial
        )
    }
}

/// The text is not an event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event id; write it like 1795353018.414:5")]
pub struct EventIdError(String);

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (node, rest) = match text.rsplit_once('/') {
                Some((node, rest)) => (Some(Arc::from(node)), rest),
                None => (None, text),
            };
            let (time, serial) = rest.split_once(':')?;
            let (secs, millis) = time.split_once('.')?;
            if millis.len() != 3 {
                return None;
            }
            let millis = secs
                .parse::<u64>()
                .ok()?
                .checked_mul(1000)?
                .checked_add(millis.parse().ok()?)?;
            Some(Self {
                millis,
                serial: serial.parse().ok()?,
                node,
            })
        };
        parse().ok_or_else(|| EventIdError(text.to_owned()))
    }
}

/// Where one record lies in the event's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    kind: u16,
    end: u32,
}

/// Records of one event, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Identity.
    pub id: EventId,
    /// Is it known that nothing follows (EOE, a type that stands alone, or in a log PROCTITLE)? `false` for an event of a
    /// system call that a timer, an eviction or the end of the input closed.
    pub complete: bool,
    spans: SmallVec<[Span; 8]>,
    #[serde(with = "as_bytes")]
    bytes: Vec<u8>,
}

/// The buffer in one piece: serde would take a vector of bytes apart into its elements. In postcard both are the same bytes.
mod as_bytes {
    use serde::de::{Deserializer, SeqAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

impl Event {
    /// An event without records.
    pub fn new(id: EventId) -> Self {
        Self {
            id,
            complete: false,
            spans: SmallVec::new(),
            bytes: Vec::new(),
        }
    }

    /// Adds a record: its type and what stands behind `audit(…): `.
    pub fn push(&mut self, kind: RecordType, body: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(body.len().max(1024));
        }
        self.bytes.extend_from_slice(body);
        self.spans.push(Span {
            kind: kind.0,
            end: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
        });
    }

    /// Every record, in the order of arrival.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = Record<'_>> + ExactSizeIterator {
        (0..self.spans.len()).map(|i| {
            let start = if i == 0 {
                0
            } else {
                self.spans[i - 1].end as usize
            };
            let span = self.spans[i];
            Record {
                kind: RecordType(span.kind),
                body: &self.bytes[start..span.end as usize],
            }
        })
    }

    /// The first record of a type.
    pub fn record(&self, kind: RecordType) -> Option<Record<'_>> {
        self.records().find(|r| r.kind == kind)
    }

    /// Is there no record yet?
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Is the same record among the last ones? Bounded, so that an event of many records costs no more than its size.
    pub(crate) fn has_recent(&self, kind: RecordType, body: &[u8]) -> bool {
        self.records()
            .rev()
            .take(128)
            .any(|r| r.kind == kind && r.body == body)
    }

    /// The event as auditd writes it: a line `type=SYSCALL msg=audit(…): …` for each record, which ausearch reads back, and
    /// EOE after the records of a complete system call. A line break inside of a body (only text of user space can have
    /// one) becomes a space, as it would forge a line.
    pub fn write_raw(&self, out: &mut Vec<u8>) {
        let mut line = |kind: RecordType, body: &[u8]| {
            if let Some(node) = &self.id.node {
                out.extend_from_slice(b"node=");
                out.extend_from_slice(&crate::text::to_bytes(node));
                out.push(b' ');
            }
            let (secs, millis) = (self.id.millis / 1000, self.id.millis % 1000);
            // Writing into a vector cannot fail.
            let _ = write!(
                out,
                "type={kind} msg=audit({secs}.{millis:03}:{}): ",
                self.id.serial
            );
            out.extend(
                body.iter()
                    .map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }),
            );
            out.push(b'\n');
        };
        self.records().for_each(|r| line(r.kind, r.body));
        if self.complete
            && self
                .records()
                .any(|r| !r.kind.stands_alone() && !r.kind.may_stand_alone())
        {
            line(RecordType::EOE, b"");
        }
    }

    /// Bytes held, for accounting.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.spans.len() * size_of::<Span>() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text() {
        for text in [
            "1795353018.414:5",
            "0.000:0",
            "web1/1795353018.004:4294967295",
        ] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
        for text in ["", "5", "1.1:5", "1.001:", "x.001:1", "1.001:4294967296"] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }

    #[test]
    fn records_come_back_as_they_went_in() {
        let mut event = Event::new(EventId::local(1, 1));
        event.push(RecordType::SYSCALL, b"arch=c000003e syscall=59");
        event.push(RecordType::CWD, b"");
        event.push(RecordType::PATH, b"item=0");
        let got: Vec<_> = event.records().map(|r| (r.kind, r.body)).collect();
        assert_eq!(
            got,
            [
                (RecordType::SYSCALL, &b"arch=c000003e syscall=59"[..]),
                (RecordType::CWD, b""),
                (RecordType::PATH, b"item=0")
            ]
        );
    }
}
