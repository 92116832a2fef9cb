//! Fields of a record: `name=value`, whatever the bytes.
//!
//! Whether a value is text that the kernel may have written as hex is a property of the field (`audit_log_untrustedstring`
//! and `audit_log_d_path` in `kernel/audit.c`, and libaudit's `audit_encode_nv_string`), never of how the value looks.

use std::borrow::Cow;

use super::{RecordType, decimal};

/// A value as it stands in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawValue<'a> {
    /// The bytes, without quotes.
    pub bytes: &'a [u8],
    /// Did it stand in quotes, so that it is literal?
    pub quoted: bool,
    /// Is it one of the fields that are written as hex when they do not fit into quotes, without quotes, and not of an odd
    /// length, which is no hex?
    pub encoded: bool,
}

impl<'a> RawValue<'a> {
    /// The bytes as they stand, without quotes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What the value means: hex is undone for the fields that are written so. A value of such a field that is neither
    /// quoted nor hex (`(null)`, `?`) stays as it is.
    pub fn decode(&self) -> Cow<'a, [u8]> {
        match self.encoded && !self.quoted {
            true => unhex(self.bytes).map_or(Cow::Borrowed(self.bytes), Cow::Owned),
            false => Cow::Borrowed(self.bytes),
        }
    }

    /// Appends what [`Self::decode`] gives.
    pub fn decode_into(&self, out: &mut Vec<u8>) {
        if !(self.encoded && !self.quoted && unhex_into(self.bytes, out)) {
            out.extend_from_slice(self.bytes);
        }
    }

    /// [`Self::decode`], or `None` where the kernel says that there is nothing: `(null)`, `(none)` or `?` without quotes.
    pub fn text(&self) -> Option<Cow<'a, [u8]>> {
        (!self.is_null()).then(|| self.decode())
    }

    /// Is it one of the words for "nothing"?
    pub fn is_null(&self) -> bool {
        !self.quoted && matches!(self.bytes, b"(null)" | b"(none)" | b"?" | b"")
    }

    /// An unsigned decimal number.
    pub fn u64(&self) -> Option<u64> {
        decimal(self.bytes)
    }

    /// An unsigned decimal number of 32 bits; `-1` is the unset id (4294967295), as some records write it.
    pub fn u32(&self) -> Option<u32> {
        match self.bytes {
            b"-1" => Some(u32::MAX),
            bytes => decimal(bytes).and_then(|n| u32::try_from(n).ok()),
        }
    }

    /// A signed decimal number.
    pub fn i64(&self) -> Option<i64> {
        match self.bytes.strip_prefix(b"-") {
            Some(digits) => decimal(digits).and_then(|n| 0i64.checked_sub_unsigned(n)),
            None => decimal(self.bytes).and_then(|n| i64::try_from(n).ok()),
        }
    }

    /// A hexadecimal number, with or without `0x`.
    pub fn hex(&self) -> Option<u64> {
        radix(self.bytes.strip_prefix(b"0x").unwrap_or(self.bytes), 4)
    }

    /// An octal number, with or without leading zeros.
    pub fn octal(&self) -> Option<u64> {
        radix(self.bytes, 3)
    }
}

/// A number of digits of `bits` bits each.
fn radix(bytes: &[u8], bits: u32) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, byte| {
        let digit = (*byte as char).to_digit(1 << bits)?;
        (value.leading_zeros() >= bits).then(|| value << bits | u64::from(digit))
    })
}

/// Bytes of a hex string; `None` when it is none.
pub(crate) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 2);
    unhex_into(text, &mut out).then_some(out)
}

/// Appends the bytes of a hex string; `false`, and nothing appended, when it is none.
fn unhex_into(text: &[u8], out: &mut Vec<u8>) -> bool {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return false;
    }
    let start = out.len();
    let mut all = 0;
    out.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (NIBBLE[usize::from(*high)], NIBBLE[usize::from(*low)]);
        all |= high | low;
        high << 4 | low
    }));
    if all > 15 {
        out.truncate(start);
    }
    all <= 15
}

/// Place of the first byte that is one of two; the length when there is none. Names and values are short: eight bytes at a
/// time beat both a loop over bytes and a call of memchr.
#[inline]
fn find(text: &[u8], one: u8, other: u8) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Bit 7 of each byte that is 0, exact up to the first.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, rest) = text.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (ONES * u64::from(one))) | zeros(word ^ (ONES * u64::from(other)));
        if found != 0 {
            return n * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let tail = rest.iter().position(|b| *b == one || *b == other);
    words.len() * 8 + tail.unwrap_or(rest.len())
}

/// Value of a hex digit, 16 for everything else.
const NIBBLE: [u8; 256] = {
    let mut table = [16u8; 256];
    let mut i = 0;
    while i < 10 {
        table[b'0' as usize + i] = i as u8;
        i += 1;
    }
    let mut i = 0;
    while i < 6 {
        table[b'a' as usize + i] = 10 + i as u8;
        table[b'A' as usize + i] = 10 + i as u8;
        i += 1;
    }
    table
};

/// Is this a field whose value is quoted text or hex?
fn is_encoded(kind: RecordType, name: &[u8]) -> bool {
    match name {
        b"comm" | b"exe" | b"name" | b"cwd" | b"proctitle" | b"key" | b"ocomm" | b"path" => true,
        b"acct" | b"cmd" | b"data" | b"dir" | b"file" | b"grp" | b"vm" | b"watch" | b"sw"
        | b"root_dir" => true,
        b"trawcon" | b"srawcon" | b"invalid_context" | b"interface" | b"image" | b"img-ctx" => true,
        b"old-disk" | b"new-disk" | b"old-chardev" | b"new-chardev" | b"old-rng" | b"new-rng" => {
            true
        }
        // AppArmor's and the other security modules' own fields; elsewhere these words are plain.
        b"dev" | b"profile" | b"namespace" | b"target" | b"peer" | b"label" | b"info"
        | b"operation" | b"requested" => {
            matches!(kind.0, 1400..=1599)
        }
        [b'a', rest @ ..] => {
            kind == RecordType::EXECVE
                && rest.first().is_some_and(u8::is_ascii_digit)
                && !rest.ends_with(b"_len")
        }
        _ => false,
    }
}

/// The fields of a piece of text, in order. Words without `=` (an AVC record has them) are passed over.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    kind: RecordType,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Fields of `text` as it stands in a record of that type.
    #[inline]
    pub fn new(kind: RecordType, text: &'a [u8]) -> Self {
        Self { kind, rest: text }
    }

    /// Takes the value at the start of what is left.
    fn value(&mut self, name: &[u8]) -> RawValue<'a> {
        let rest = self.rest;
        let (bytes, quoted, used) = match rest.first() {
            // The kernel never writes a quote inside of quotes, it takes hex then.
            Some(b'"') => match find(&rest[1..], b'"', b'"') {
                len if len + 1 < rest.len() => (&rest[1..=len], true, len + 2),
                _ => (&rest[1..], true, rest.len()),
            },
            // Text of user space goes to the last quote of the record, since it may hold more of them.
            Some(b'\'') => {
                let end = match name {
                    b"msg" => memchr::memrchr(b'\'', &rest[1..]),
                    _ => memchr::memchr(b'\'', &rest[1..]),
                };
                match end {
                    Some(len) => (&rest[1..=len], true, len + 2),
                    None => (&rest[1..], true, rest.len()),
                }
            }
            // `SADDR={ saddr_fam=inet laddr=127.0.0.1 lport=80 }` of the enriched format.
            Some(b'{') => match memchr::memchr(b'}', rest) {
                Some(end) => (&rest[..=end], false, end + 1),
                None => (rest, false, rest.len()),
            },
            _ => {
                let mut end = find(rest, b' ', b' ');
                // AppArmor's labels hold a space: `subj=docker-default (enforce)`.
                if matches!(name, b"subj" | b"obj")
                    && rest[end..].starts_with(b" (")
                    && let Some(close) = memchr::memchr(b')', &rest[end..])
                {
                    end += close + 1;
                }
                (&rest[..end], false, end)
            }
        };
        self.rest = &rest[used..];
        RawValue {
            bytes,
            quoted,
            // Most values are one digit: that is settled before the name is looked at.
            encoded: !quoted && bytes.len().is_multiple_of(2) && is_encoded(self.kind, name),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], RawValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.rest.iter().position(|b| *b != b' ')?;
            let rest = &self.rest[start..];
            let end = find(rest, b'=', b' ');
            match rest.get(end) {
                Some(b'=') if end > 0 => {
                    let name = &rest[..end];
                    self.rest = &rest[end + 1..];
                    return Some((name, self.value(name)));
                }
                // A lone '=' is no name: past it.
                Some(b'=') => self.rest = &rest[1..],
                _ => self.rest = &rest[end..],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::*;
    use proptest::prelude::*;

    fn record(kind: RecordType, body: &str) -> Record<'_> {
        Record {
            kind,
            body: body.as_bytes(),
        }
    }

    fn list(fields: Fields<'_>) -> Vec<(String, String)> {
        fields
            .map(|(n, v)| {
                (
                    String::from_utf8_lossy(n).into_owned(),
                    String::from_utf8_lossy(&v.decode()).into_owned(),
                )
            })
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn hex_is_decided_by_the_field() {
        let path = record(
            RecordType::PATH,
            "item=0 name=2F746D702F6120622E inode=11 dev=00:2b mode=0100644 ouid=10",
        );
        assert_eq!(&*path.get("name").unwrap().decode(), b"/tmp/a b.");
        assert_eq!(&*path.get("inode").unwrap().decode(), b"11");
        assert_eq!(path.get("mode").unwrap().octal(), Some(0o100_644));
        let quoted = record(RecordType::CWD, "cwd=\"2F746D70\"");
        assert_eq!(&*quoted.get("cwd").unwrap().decode(), b"2F746D70");
        let null = record(RecordType::PATH, "item=0 name=(null)");
        assert_eq!(null.get("name").unwrap().text(), None);
        let call = record(RecordType::SYSCALL, "arch=c000003e a0=7ffe a1=10 exe=2F");
        assert_eq!(&*call.get("a1").unwrap().decode(), b"10");
        assert_eq!(call.get("a0").unwrap().hex(), Some(0x7ffe));
        assert_eq!(&*call.get("exe").unwrap().decode(), b"/");
        let exec = record(
            RecordType::EXECVE,
            "argc=3 a0=\"sh\" a1_len=4 a1[0]=4142 a1[1]=4344 a2=\"41\"",
        );
        assert_eq!(
            list(exec.fields()),
            pairs(&[
                ("argc", "3"),
                ("a0", "sh"),
                ("a1_len", "4"),
                ("a1[0]", "AB"),
                ("a1[1]", "CD"),
                ("a2", "41")
            ])
        );
    }

    #[test]
    fn text_of_user_space_is_kept_apart() {
        let forged = record(
            RecordType::USER_CMD,
            "pid=7 uid=0 auid=1 ses=2 msg='cwd=\"/\" pid=1 cmd=6C73 exe=\"/bin/x\" it's res=success' pid=9\u{1d}UID=\"root\" AUID=\"o'x\"",
        );
        assert_eq!(forged.get("pid").unwrap().u64(), Some(7));
        assert_eq!(
            list(forged.message().unwrap()),
            pairs(&[
                ("cwd", "/"),
                ("pid", "1"),
                ("cmd", "ls"),
                ("exe", "/bin/x"),
                ("res", "success")
            ])
        );
        assert_eq!(
            list(forged.enriched()),
            pairs(&[("UID", "root"), ("AUID", "o'x")])
        );
        assert_eq!(forged.get("UID"), None);
    }

    #[test]
    fn words_without_a_value_are_passed_over() {
        let avc = record(
            RecordType::AVC,
            "avc:  denied  { read } for  pid=5 comm=\"cat\" name=\"shadow\" dev=\"dm-0\" ino=7 tclass=file",
        );
        assert_eq!(
            list(avc.fields()),
            pairs(&[
                ("pid", "5"),
                ("comm", "cat"),
                ("name", "shadow"),
                ("dev", "dm-0"),
                ("ino", "7"),
                ("tclass", "file")
            ])
        );
        assert_eq!(
            list(Fields::new(RecordType::AVC, b"= == a= b=\"")),
            pairs(&[("a", ""), ("b", "")])
        );
        let saddr = Fields::new(
            RecordType::SOCKADDR,
            b"SADDR={ saddr_fam=inet laddr=127.0.0.1 lport=80 } X=1",
        );
        assert_eq!(
            list(saddr),
            pairs(&[
                ("SADDR", "{ saddr_fam=inet laddr=127.0.0.1 lport=80 }"),
                ("X", "1")
            ])
        );
    }

    #[test]
    fn numbers_are_whole_or_nothing() {
        let value = |text: &'static str| RawValue {
            bytes: text.as_bytes(),
            quoted: false,
            encoded: false,
        };
        assert_eq!(value("-13").i64(), Some(-13));
        assert_eq!(value("-9223372036854775808").i64(), Some(i64::MIN));
        assert_eq!(value("9223372036854775808").i64(), None);
        assert_eq!(value("4294967295").u32(), Some(u32::MAX));
        assert_eq!(value("-1").u32(), Some(u32::MAX));
        assert_eq!(value("ffffffffffffffff").hex(), Some(u64::MAX));
        assert_eq!(value("10000000000000000").hex(), None);
        assert_eq!(value("").hex(), None);
        assert_eq!(value("12x").u64(), None);
        assert_eq!(value("18446744073709551615").u64(), Some(u64::MAX));
        assert_eq!(value("18446744073709551616").u64(), None);
        assert_eq!(value("0755").octal(), Some(0o755));
        assert_eq!(value("08").octal(), None);
    }

    proptest! {
        #[test]
        fn the_first_of_two_bytes_is_found(text in "[ =ax]{0,40}", one in 0..4usize, other in 0..4usize) {
            let (one, other) = (b" =xb"[one], b" =xb"[other]);
            let plain = text.bytes().position(|b| b == one || b == other).unwrap_or(text.len());
            prop_assert_eq!(find(text.as_bytes(), one, other), plain);
        }

        #[test]
        fn any_bytes_are_read_to_the_end(kind: u16, body: Vec<u8>) {
            let record = Record { kind: RecordType(kind), body: &body };
            for (name, value) in record.fields().chain(record.enriched()).chain(record.message().into_iter().flatten()) {
                prop_assert!(!name.is_empty() && name.len() + value.bytes.len() < body.len());
                let mut into = vec![7];
                value.decode_into(&mut into);
                prop_assert_eq!(&into[1..], &*value.decode());
                let _ = (value.decode(), value.text(), value.u64(), value.u32(), value.i64(), value.hex(), value.octal());
            }
        }

        #[test]
        fn text_survives_the_kernels_way_of_writing_it(text: Vec<u8>) {
            prop_assume!(!text.is_empty());
            let body = [b"item=0 name=".as_slice(), &crate::decode::encode_text(&text), b" inode=5"].concat();
            let record = Record { kind: RecordType::PATH, body: &body };
            prop_assert_eq!(record.get("name").unwrap().decode().into_owned(), text);
            prop_assert_eq!(record.get("inode").unwrap().u64(), Some(5));
        }
    }
}
