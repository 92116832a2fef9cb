//! Hostile text made harmless to look at, measured and cut.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Makes everything visible that a reader would not see as what it is: control characters, bytes that are no UTF-8
/// (the collector writes them into U+F700…), characters that turn the direction of writing, that take no room, or
/// that break lines. What stays can be read, is one line, and looks the same to everybody.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if !is_hidden(c) {
            out.push(c);
            continue;
        }
        let code = c as u32;
        // Writing into a String does not fail.
        let _ = match (c, code) {
            ('\n', _) => write!(out, "\\n"),
            ('\r', _) => write!(out, "\\r"),
            ('\t', _) => write!(out, "\\t"),
            (_, 0..=0x7f) => write!(out, "\\x{code:02x}"),
            (_, 0xF700..=0xF7FF) => write!(out, "\\x{:02x}", code - 0xF700),
            _ => write!(out, "\\u{{{code:x}}}"),
        };
    }
    Cow::Owned(out)
}

fn is_hidden(c: char) -> bool {
    match c {
        ' '..='~' => false,
        c if c.is_control() => true,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}'
        | '\u{2800}'
        | '\u{3000}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{a0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200a}' => true,
        // Private use (the bytes of collector::text among it), musical and tag characters, variation selectors.
        '\u{e000}'..='\u{f8ff}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{10ffff}' => true,
        _ => false,
    }
}

/// Length as Discord, Telegram and JavaScript count it: UTF-16 units, never less than the number of characters.
pub fn length(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Pushes `piece` when the whole stays within `limit` units; says whether it did.
pub(crate) fn push_within(out: &mut String, used: &mut usize, piece: &str, limit: usize) -> bool {
    let more = length(piece);
    if *used + more > limit {
        return false;
    }
    out.push_str(piece);
    *used += more;
    true
}

/// `text`, each character written by `escape`, cut to `limit` units with an ellipsis; an escape is never cut in two.
pub(crate) fn escaped_within(
    text: &str,
    limit: usize,
    escape: impl Fn(&mut String, char),
) -> String {
    let mut out = String::new();
    let mut used = 0;
    let mut before_end = None;
    let mut piece = String::new();
    for c in text.chars() {
        piece.clear();
        escape(&mut piece, c);
        // Where an ellipsis would still fit behind.
        if used < limit {
            before_end = Some((out.len(), used));
        }
        if !push_within(&mut out, &mut used, &piece, limit) {
            if let Some((end, _)) = before_end {
                out.truncate(end);
                out.push('…');
            }
            return out;
        }
    }
    out
}

/// First `limit` units of `text`, with an ellipsis when something is missing.
pub fn cut(text: &str, limit: usize) -> String {
    escaped_within(text, limit, |out, c| out.push(c))
}

/// Milliseconds since the epoch as `2026-03-01T10:30:15Z`.
pub fn rfc3339_seconds(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(0);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("@{seconds}"), |t| t.to_string())
}

/// Milliseconds since the epoch as `2026-03-01T10:30:15.042Z`.
pub fn rfc3339_millis(ms: u64) -> String {
    let whole = i64::try_from(ms).unwrap_or(0);
    jiff::Timestamp::from_millisecond(whole)
        .map_or_else(|_| format!("@{whole}ms"), |t| format!("{t:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_seen_is_shown() {
        assert_eq!(
            visible("a\nb\x1b[31m\0\u{202e}\u{200b}\u{f7ff}"),
            "a\\nb\\x1b[31m\\x00\\u{202e}\\u{200b}\\xff"
        );
        assert!(matches!(
            visible("ganz gewöhnlich — 日本 🙂"),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(rfc3339_seconds(1_772_361_015_999), "2026-03-01T10:30:15Z");
        assert_eq!(
            rfc3339_millis(1_772_361_015_042),
            "2026-03-01T10:30:15.042Z"
        );
        assert!(!rfc3339_seconds(u64::MAX).is_empty());
    }

    proptest! {
        #[test]
        fn visible_text_is_one_plain_line(text in any::<String>()) {
            let shown = visible(&text).into_owned();
            prop_assert!(!shown.chars().any(is_hidden));
            prop_assert_eq!(visible(&shown).into_owned(), shown.clone());
        }

        #[test]
        fn cutting_keeps_the_limit(text in any::<String>(), limit in 0usize..40) {
            let short = cut(&text, limit);
            prop_assert!(length(&short) <= limit);
            prop_assert_eq!(short == text, length(&text) <= limit);
        }
    }
}
