//! One line of a log.

use super::LogRecord;
use crate::record::{RecordType, parse_header};

/// A longer name of a machine is none (host names have at most 255 bytes).
const MAX_NODE: usize = 255;

/// Reads `type=SYSCALL msg=audit(1795353018.414:5): …`, with `node=web1` in front or without it, as auditd and
/// `ausearch --raw` write it; and `audit: type=1300 audit(1795353018.414:5): …` behind anything, as the kernel's log has it.
/// A carriage return at the end is taken off. `None` for any other line.
#[inline]
pub fn parse_line(line: &[u8]) -> Option<LogRecord<'_>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(rest) = line.strip_prefix(b"type=") {
        return parse_typed(None, rest);
    }
    if let Some(rest) = line.strip_prefix(b"node=") {
        let end = memchr::memchr(b' ', rest).filter(|len| *len > 0 && *len <= MAX_NODE)?;
        return parse_typed(Some(&rest[..end]), rest[end + 1..].strip_prefix(b"type=")?);
    }
    let at = memchr::memmem::find(line, b"audit: type=")?;
    parse_typed(None, &line[at + b"audit: type=".len()..])
}

#[inline]
fn parse_typed<'a>(node: Option<&'a [u8]>, rest: &'a [u8]) -> Option<LogRecord<'a>> {
    let end = rest.iter().position(|b| *b == b' ')?;
    let kind = RecordType::from_name(&rest[..end])?;
    let rest = &rest[end + 1..];
    let header = parse_header(rest.strip_prefix(b"msg=").unwrap_or(rest))?;
    Some(LogRecord {
        node,
        kind,
        millis: header.millis,
        serial: header.serial,
        body: header.body,
    })
}

/// Is it one of the lines that ausearch puts between records, or empty?
pub(super) fn is_separator(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.is_empty() || line == b"----" || line.starts_with(b"time->")
}
