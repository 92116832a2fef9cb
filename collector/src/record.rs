//! `Record`: one audit message, its type and its body.
//!
//! In: bytes from the kernel or a log. Out: the header, and [`Fields`] that borrow from the body. Any bytes are accepted.

mod fields;
mod types;

pub(crate) use fields::unhex;
pub use fields::{Fields, RawValue};
pub use types::{RecordType, RecordTypeError};

/// One record of an event: what stands behind `audit(…): `, undecoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Type.
    pub kind: RecordType,
    /// `name=value` fields as the kernel wrote them.
    pub body: &'a [u8],
}

/// What stands in front of a record's body, `audit(1795353018.414:5): ` (`audit_log_start` in the kernel's `audit.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Milliseconds since the epoch.
    pub millis: u64,
    /// Serial number of the event.
    pub serial: u32,
    /// The record's body.
    pub body: &'a [u8],
}

/// Takes the header off a record as it comes from the netlink socket. `None` when it has none.
#[inline]
pub fn parse_header(payload: &[u8]) -> Option<Header<'_>> {
    let rest = payload.strip_prefix(b"audit(")?;
    let (secs, rest) = leading_digits(rest)?;
    let (millis, rest) = leading_digits(rest.strip_prefix(b".")?)?;
    let (serial, rest) = leading_digits(rest.strip_prefix(b":")?)?;
    let rest = rest.strip_prefix(b"):")?;
    if millis > 999 {
        return None;
    }
    let mut body = rest.strip_prefix(b" ").unwrap_or(rest);
    while let Some(shorter) = body.strip_suffix(b"\0") {
        body = shorter;
    }
    Some(Header {
        millis: secs.checked_mul(1000)?.checked_add(millis)?,
        serial: u32::try_from(serial).ok()?,
        body,
    })
}

/// A decimal number of at least one digit at the start, and what follows it.
#[inline]
fn leading_digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut len = 0;
    while let Some(digit) = bytes.get(len).map(|b| b.wrapping_sub(b'0'))
        && digit < 10
    {
        // Nineteen digits always fit into 64 bits.
        value = if len < 19 {
            value * 10 + u64::from(digit)
        } else {
            value.checked_mul(10)?.checked_add(u64::from(digit))?
        };
        len += 1;
    }
    (len > 0).then(|| (value, &bytes[len..]))
}

/// The whole of the bytes as a decimal number.
#[inline]
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    match leading_digits(bytes)? {
        (value, []) => Some(value),
        _ => None,
    }
}

impl<'a> Record<'a> {
    /// The record's own fields, in order. Not what auditd's enriched format adds behind them ([`Self::enriched`]), and
    /// not what stands inside the `msg='…'` of a record from user space ([`Self::message`]).
    #[inline]
    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.kind, self.split().0)
    }

    /// The first field of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<RawValue<'a>> {
        let name = name.as_ref();
        self.fields().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Fields that auditd's enriched format adds (`ARCH=x86_64 SYSCALL=execve UID="root"`): names as they were on the
    /// machine that wrote the log.
    pub fn enriched(&self) -> Fields<'a> {
        Fields::new(self.kind, self.split().1)
    }

    /// Fields inside `msg='…'` of a record from user space: claims of the program that sent it, which may be anybody's.
    pub fn message(&self) -> Option<Fields<'a>> {
        self.get("msg")
            .map(|text| Fields::new(self.kind, text.as_bytes()))
    }

    /// The body without, and only, the tail behind the group separator (0x1d).
    #[inline]
    fn split(&self) -> (&'a [u8], &'a [u8]) {
        // The kernel writes a 0x1d of a file name as hex. Only user space's text can hold one, and then the last counts.
        let at = if self.kind.is_user() {
            memchr::memrchr(0x1d, self.body)
        } else {
            memchr::memchr(0x1d, self.body)
        };
        match at {
            Some(at) => (&self.body[..at], &self.body[at + 1..]),
            None => (self.body, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_taken_off() {
        let header = parse_header(b"audit(1795353018.414:5): arch=c000003e").unwrap();
        assert_eq!(
            (header.millis, header.serial, header.body),
            (1_795_353_018_414, 5, &b"arch=c000003e"[..])
        );
        assert_eq!(parse_header(b"audit(0.000:4294967295):").unwrap().body, b"");
        assert_eq!(parse_header(b"audit(1.001:7): \0").unwrap().body, b"");
        for bad in [
            "",
            "audit",
            "audit(",
            "audit(1:2): ",
            "audit(1.001:4294967296): ",
            "audit(1.1001:2): ",
            "audit(1.001:): ",
            "audit(1.001:5) x",
            "audit(99999999999999999999.001:5): x",
            "audit(-1.001:5): x",
        ] {
            assert!(parse_header(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
