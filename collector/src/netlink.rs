//! The sixteen bytes in front of every netlink message.
//!
//! Our own reader stands beside netlink-packet-core's because the kernel's audit records carry a `nlmsg_len` that leaves out
//! the header (`__audit_log_end` in `kernel/audit.c`): the crate believes it and cuts the last 16 bytes of each record.
//! Here the received length alone counts.

use netlink_packet_core::NetlinkHeader;

/// Length of `struct nlmsghdr`, `linux/netlink.h`.
pub const HEADER_LEN: usize = 16;
/// `NLMSG_ERROR`: an errno, 0 for an acknowledgement.
pub const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a list.
pub const NLMSG_DONE: u16 = 3;

/// Type, sequence number and payload of a datagram that holds one message; `None` when it is shorter than a header.
pub fn split(datagram: &[u8]) -> Option<(u16, u32, &[u8])> {
    let kind = u16_at(datagram, 4)?;
    let sequence = u32_at(datagram, 8)?;
    Some((kind, sequence, datagram.get(HEADER_LEN..)?))
}

/// The errno of an `NLMSG_ERROR` payload, as a positive number; 0 is an acknowledgement. `None` when it is cut.
pub fn errno(payload: &[u8]) -> Option<i32> {
    u32_at(payload, 0).map(|code| (code as i32).wrapping_neg())
}

/// A whole message with that payload.
pub fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = HEADER_LEN + payload.len();
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(length).unwrap_or(u32::MAX);
    header.message_type = kind;
    header.flags = flags;
    header.sequence_number = sequence;
    let mut out = vec![0; length.next_multiple_of(4)];
    netlink_packet_core::Emitable::emit(&header, &mut out[..HEADER_LEN]);
    out[HEADER_LEN..length].copy_from_slice(payload);
    out
}

/// The native-endian number at an offset.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// The native-endian number at an offset.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// The native-endian number at an offset.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_apart_as_it_was_put_together() {
        let bytes = message(1000, 5, 77, b"abc");
        assert_eq!(bytes.len(), 20);
        assert_eq!(u32_at(&bytes, 0), Some(19));
        assert_eq!(u16_at(&bytes, 6), Some(5));
        assert_eq!(split(&bytes), Some((1000, 77, &b"abc\0"[..])));
        assert_eq!(split(&bytes[..15]), None);
    }

    #[test]
    fn an_error_is_a_positive_errno() {
        assert_eq!(errno(&(-17i32).to_ne_bytes()), Some(17));
        assert_eq!(errno(&0i32.to_ne_bytes()), Some(0));
        assert_eq!(errno(b"abc"), None);
        assert_eq!(errno(&i32::MIN.to_ne_bytes()), Some(i32::MIN));
    }
}
