//! Terms: how long ones are cut, how they are hashed on disk, and how `*` matches them.
//!
//! Terms are text that a container chose. None of it can make anything large or slow: length and number are bounded, and the matcher
//! takes time in proportion to pattern times text at the worst.

use std::borrow::Cow;

/// Longest term that is kept as it is, in bytes.
pub(crate) const LONGEST: usize = 512;
/// Most terms of one entry.
pub(crate) const MOST: usize = 512;
/// How much of a longer one is kept in front of its hash.
const KEPT: usize = 472;

/// The term as it is stored and looked up: a long one keeps its beginning, and a hash of the whole takes the place of its end, so that an
/// exact search still finds exactly it.
pub(crate) fn stored(term: &[u8]) -> Cow<'_, [u8]> {
    if term.len() <= LONGEST {
        return Cow::Borrowed(term);
    }
    let hash = blake3::hash(term).to_hex();
    let mut cut = term[..KEPT].to_vec();
    cut.extend_from_slice(b"\xff#");
    cut.extend_from_slice(&hash.as_bytes()[..LONGEST - KEPT - 2]);
    Cow::Owned(cut)
}

/// 24 bits for the index of a super-block. FNV-1a with a final mix: on disk, so it never changes. Somebody who makes terms collide gains
/// that a few more blocks are looked at in vain.
pub(crate) fn hash24(field: u8, term: &[u8]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in std::iter::once(&field).chain(term) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 40) as u32
}

/// Is there anything in it that is not taken literally?
pub(crate) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '\\'])
}

/// `*` is any bytes, `?` one byte, `\` takes the next byte literally; the whole text must match.
pub(crate) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // The usual two-pointer walk: on a mismatch the last star takes one byte more.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') if t < text.len() => Some(1),
            Some(b'\\') if p + 1 < pattern.len() => {
                (text.get(t) == pattern.get(p + 1)).then_some(2)
            }
            Some(byte) if *byte != b'?' => (text.get(t) == Some(byte)).then_some(1),
            Some(_) => None,
            None if t == text.len() => return true,
            None => None,
        };
        match (step, star) {
            (Some(step), _) => {
                p += step;
                t += 1;
            }
            (None, Some((behind, from))) if from < text.len() => {
                star = Some((behind, from + 1));
                p = behind;
                t = from + 1;
            }
            (None, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((b'*', rest)), _) => {
                naive(rest, text) || (!text.is_empty() && naive(pattern, &text[1..]))
            }
            (Some(_), None) => false,
            (Some((b'?', rest)), Some((_, tail))) => naive(rest, tail),
            (Some((b'\\', rest)), Some((t, tail))) if !rest.is_empty() => {
                rest[0] == *t && naive(&rest[1..], tail)
            }
            (Some((p, rest)), Some((t, tail))) => p == t && naive(rest, tail),
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_the_plain_definition_says(pattern in r"[ab*?\\]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn many_stars_end_soon() {
        assert!(!glob("*a".repeat(300).as_bytes(), &[b'b'; 4096]));
        assert!(!glob(
            &[b"*a".repeat(40).as_slice(), b"c"].concat(),
            &[b'a'; 4096]
        ));
    }

    #[test]
    fn long_terms_stay_different() {
        let (a, b) = (vec![b'x'; 2000], vec![b'x'; 2001]);
        assert_eq!(stored(&a).len(), LONGEST);
        assert_ne!(stored(&a), stored(&b));
        assert_eq!(stored(b"short").as_ref(), b"short");
    }

    #[test]
    fn hashes_on_disk_do_not_change() {
        assert_eq!(
            hash24(0, b"openclaw-gateway"),
            hash24(0, b"openclaw-gateway")
        );
        assert_eq!(
            [
                hash24(0, b"openclaw-gateway"),
                hash24(5, b"42"),
                hash24(17, b"")
            ],
            [534_554, 8_070_364, 16_171_993]
        );
    }
}
