//! JSON's small change: strings, numbers, times, written straight into a buffer.
//!
//! An event is some three kilobytes of short pieces; building a tree of values first costs several times what the bytes do.

use std::io::Write as _;

use collector::text::to_text;

const fn each(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// Bit 7 of each byte of the word that is 0, exact up to the first.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(each(1)) & !word & each(0x80)
}

/// Bit 7 of each byte that JSON escapes (a quote, a backslash, below 0x20), exact up to the first.
const fn escapes(word: u64) -> u64 {
    (word.wrapping_sub(each(0x20)) & !word & each(0x80))
        | zeros(word ^ each(b'"'))
        | zeros(word ^ each(b'\\'))
}

/// At most eight bytes as a word, the first of them lowest, blanks behind them. No call of memcpy, which costs more than this.
#[inline]
pub(super) fn word(bytes: &[u8]) -> u64 {
    const BLANKS: u64 = each(b' ');
    if let Some(first) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*first);
    }
    let len = bytes.len();
    let low = match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first))
                | u64::from(u32::from_le_bytes(*last)) << (8 * (len - 4))
        }
        _ => match *bytes {
            [] => return BLANKS,
            [a] => u64::from(a),
            [a, b] => u64::from(a) | u64::from(b) << 8,
            [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
        },
    };
    low | BLANKS << (8 * len)
}

/// Appends bytes that need no escapes, with `ascii` are none above 0x7e either; `false`, and nothing appended, for others.
#[inline]
fn append_plain(out: &mut Vec<u8>, bytes: &[u8], ascii: bool) -> bool {
    let high = if ascii { each(0x80) } else { 0 };
    let bad = |word: u64| (escapes(word) | word & high) != 0;
    if bytes.len() <= 8 {
        let word = word(bytes);
        if bad(word) {
            return false;
        }
        let end = out.len() + bytes.len();
        out.extend_from_slice(&word.to_le_bytes());
        out.truncate(end);
        return true;
    }
    let (words, rest) = bytes.as_chunks::<8>();
    let mut found = false;
    for word in words {
        found |= bad(u64::from_le_bytes(*word));
    }
    if found || bad(word(rest)) {
        return false;
    }
    out.extend_from_slice(bytes);
    true
}

/// A string with its quotes.
#[inline]
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    inner(out, text);
    out.push(b'"');
}

/// A string without its quotes.
#[inline]
pub(super) fn inner(out: &mut Vec<u8>, text: &str) {
    if !append_plain(out, text.as_bytes(), false) {
        escaped(out, text.as_bytes());
    }
}

/// Bytes of the kernel in [`collector::text`]'s form, without quotes.
#[inline]
pub(super) fn kernel_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if !append_plain(out, bytes, true) {
        escaped(out, to_text(bytes).as_bytes());
    }
}

/// The same for bytes that `append` appends.
#[inline]
pub(super) fn kernel_text_by(out: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    append(out);
    let (words, rest) = out[start..].as_chunks::<8>();
    let bad = |word: u64| (escapes(word) | word & each(0x80)) != 0;
    if words.iter().any(|word| bad(u64::from_le_bytes(*word))) || bad(word(rest)) {
        let bytes = out.split_off(start);
        escaped(out, to_text(&bytes).as_bytes());
    }
}

/// What needs escapes; valid UTF-8.
#[cold]
fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut plain = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let (high, low) = (
                    DIGITS[usize::from(byte >> 4)],
                    DIGITS[usize::from(byte & 15)],
                );
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&text[plain..]);
}

/// `null`, or a string with its quotes.
#[inline]
pub(super) fn maybe(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// A decimal number.
#[inline]
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        return out.push(b'0' + number as u8);
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A decimal number with a sign when it is negative.
#[inline]
pub(super) fn signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    number(out, value.unsigned_abs());
}

/// `null`, or a decimal number.
#[inline]
pub(super) fn maybe_number(out: &mut Vec<u8>, value: Option<u64>) {
    match value {
        Some(value) => number(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// `true` or `false`.
#[inline]
pub(super) fn boolean(out: &mut Vec<u8>, yes: bool) {
    out.extend_from_slice(if yes { b"true" } else { b"false" });
}

/// `0x…`, without quotes.
#[inline]
pub(super) fn hex(out: &mut Vec<u8>, number: u64) {
    digits_of(out, b"0x", number, 4, 1);
}

/// Octal with leading zeros to seven digits, without quotes.
#[inline]
pub(super) fn octal7(out: &mut Vec<u8>, number: u32) {
    digits_of(out, b"", u64::from(number), 3, 7);
}

/// A number of digits of `bits` bits each, at least `least` of them.
#[inline]
fn digits_of(out: &mut Vec<u8>, prefix: &[u8], number: u64, bits: u32, least: u32) {
    out.extend_from_slice(prefix);
    let used = (u64::BITS - number.leading_zeros())
        .div_ceil(bits)
        .max(least);
    for digit in (0..used).rev() {
        let value = (number >> (digit * bits)) as u8 & ((1 << bits) - 1);
        out.push(if value < 10 {
            b'0' + value
        } else {
            b'a' - 10 + value
        });
    }
}

/// RFC 3339 in UTC with milliseconds, without quotes; the bare number for a time that no calendar has.
pub(super) fn rfc3339(out: &mut Vec<u8>, millis: u64) {
    /// Where the calendar of jiff ends, a day before the year 9999 does.
    const END: u64 = 253_402_207_200_000;
    if millis >= END {
        return number(out, millis);
    }
    let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
    // Days to a date, as in Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is the last.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, len: usize, mut value: u64| {
        for place in text[at..at + len].iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3_600_000);
    put(14, 2, of_day / 60_000 % 60);
    put(17, 2, of_day / 1000 % 60);
    put(20, 3, of_day % 1000);
    out.extend_from_slice(&text);
}

/// What has a `Display`, without quotes. Only for what needs no escapes.
pub(super) fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing into a vector cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the calendar's own crate has it.
    fn rfc3339_of(millis: u64) -> String {
        let stamp = jiff::Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap();
        format!("{stamp:.3}")
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_character_below_two_hundred_is_read_back() {
        for n in 0..200u32 {
            for before in 0..9 {
                let text = format!("{}{}x", "a".repeat(before), char::from_u32(n).unwrap());
                let json = written(|out| string(out, &text));
                assert_eq!(
                    json,
                    serde_json::to_string(&text)
                        .unwrap()
                        .replace("\\b", "\\u0008")
                        .replace("\\f", "\\u000c")
                );
                assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            }
        }
    }

    #[test]
    fn numbers_at_their_ends() {
        for n in [0, 1, 9, 10, 99, 100, u64::MAX] {
            assert_eq!(written(|out| number(out, n)), n.to_string());
            assert_eq!(written(|out| hex(out, n)), format!("{n:#x}"));
        }
        for n in [i64::MIN, -1, 0, i64::MAX] {
            assert_eq!(written(|out| signed(out, n)), n.to_string());
        }
        for n in [0, 0o100_644, u32::MAX] {
            assert_eq!(written(|out| octal7(out, n)), format!("{n:07o}"));
        }
    }

    #[test]
    fn times_at_the_turns_of_the_calendar() {
        for millis in [
            0,
            951_782_399_999,
            951_782_400_000,
            951_868_800_000,
            4_107_542_399_999,
            4_107_542_400_000,
            253_402_207_199_999,
        ] {
            assert_eq!(written(|out| rfc3339(out, millis)), rfc3339_of(millis));
        }
        for none in [253_402_207_200_000, u64::MAX] {
            assert_eq!(written(|out| rfc3339(out, none)), none.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_what_serde_reads(text: String) {
            let json = written(|out| string(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_what_to_text_makes_of_them(bytes: Vec<u8>) {
            let json = format!("\"{}\"", written(|out| kernel_text(out, &bytes)));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), to_text(&bytes).into_owned());
            let by = format!("\"{}\"", written(|out| kernel_text_by(out, |out| out.extend_from_slice(&bytes))));
            prop_assert_eq!(by, json);
        }

        #[test]
        fn any_number_is_written(n: u64, i: i64, mode: u32) {
            prop_assert_eq!(written(|out| number(out, n)), n.to_string());
            prop_assert_eq!(written(|out| signed(out, i)), i.to_string());
            prop_assert_eq!(written(|out| hex(out, n)), format!("{n:#x}"));
            prop_assert_eq!(written(|out| octal7(out, mode)), format!("{mode:07o}"));
        }

        #[test]
        fn any_time_is_the_calendars(millis in 0..253_402_207_200_000u64) {
            prop_assert_eq!(written(|out| rfc3339(out, millis)), rfc3339_of(millis));
        }
    }
}
