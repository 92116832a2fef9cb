//! Bytes of the kernel as text, without loss.
//!
//! File names and arguments are bytes, JSON and Sigma want text. `to_text` keeps valid UTF-8 as it is and writes every
//! other byte `0xNN` as the private-use character U+F7NN; a real character from U+F700 to U+F7FF is taken apart
//! into its three bytes in the same way. So the mapping is one to one, and `to_bytes` gives back what came in.

use std::borrow::Cow;

const BASE: u32 = 0xF700;

fn is_escape(c: char) -> bool {
    (BASE..=BASE + 0xFF).contains(&(c as u32))
}

/// Text for bytes; borrowed when they are plain UTF-8.
pub fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && (text.is_ascii() || !text.chars().any(is_escape))
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    let escape = |out: &mut String, byte: u8| out.extend(char::from_u32(BASE + u32::from(byte)));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_escape(c) {
                let mut buf = [0; 4];
                c.encode_utf8(&mut buf)
                    .bytes()
                    .for_each(|b| escape(&mut out, b));
            } else {
                out.push(c);
            }
        }
        chunk.invalid().iter().for_each(|&b| escape(&mut out, b));
    }
    Cow::Owned(out)
}

/// [`to_text`] of bytes that nobody else needs: plain ASCII is not copied.
pub fn into_text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text,
        Ok(text) => to_text(text.as_bytes()).into_owned(),
        Err(error) => to_text(error.as_bytes()).into_owned(),
    }
}

/// The bytes that `to_text` was given.
pub fn to_bytes(text: &str) -> Cow<'_, [u8]> {
    if !text.chars().any(is_escape) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        if is_escape(c) {
            out.push((c as u32 - BASE) as u8);
        } else {
            let mut buf = [0; 4];
            out.extend_from_slice(c.encode_utf8(&mut buf).as_bytes());
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_survive(bytes: Vec<u8>) {
            prop_assert_eq!(to_bytes(&to_text(&bytes)).into_owned(), &bytes[..]);
            prop_assert_eq!(to_text(&bytes).into_owned(), into_text(bytes));
        }

        #[test]
        fn private_use_text_survives(text in "[a\u{F700}-\u{F7FF}\u{F6FF}\u{F800}é]{0,12}") {
            let bytes = text.into_bytes();
            prop_assert_eq!(to_bytes(&to_text(&bytes)).into_owned(), bytes);
        }
    }

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(to_text("grün".as_bytes()), Cow::Borrowed("grün")));
    }
}
