//! Pieces of text that every hit must hold, whatever form the kernel gave it.
//!
//! A value stands in the encoded event as it is or in upper-case hexadecimal, so a piece of it does, too. What is put together from
//! several values (arguments with blanks between them, a path with its directory) is only whole after decoding, so a piece never reaches
//! over a blank or a slash; what is calculated (addresses, times) has digits where the encoding has others, so a piece of nothing but
//! these is none.

use history::Search;
use regex_syntax::hir::{Hir, HirKind};

/// A shorter piece refuses nearly nothing.
const SHORTEST: usize = 3;
/// More alternatives than this are slower than decoding.
const MOST: usize = 64;
/// A very long argument comes in parts, and a piece may lie on a seam.
const IN_PARTS: &str = "_len=";

/// The best piece of a text.
pub fn of_text(text: &str) -> Option<String> {
    text.split([' ', '/', '\t', '\n', '@', '\0'])
        .filter(|piece| usable(piece))
        .max_by_key(|piece| piece.len())
        .map(str::to_owned)
}

fn usable(piece: &str) -> bool {
    let calculated = |c: char| c.is_ascii_hexdigit() || "x.:,-+TZ[]%".contains(c);
    piece.len() >= SHORTEST
        && !piece.chars().all(calculated)
        // Bytes that are not UTF-8 are characters of ours.
        && !piece.chars().any(|c| ('\u{F700}'..='\u{F7FF}').contains(&c) || c.is_control())
}

/// Pieces of which every match of the expression holds one.
pub fn of_regex(expression: &str) -> Option<Vec<String>> {
    required(&regex_syntax::parse(expression).ok()?)
}

fn required(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Literal(literal) => {
            of_text(std::str::from_utf8(&literal.0).ok()?).map(|piece| vec![piece])
        }
        HirKind::Capture(group) => required(&group.sub),
        HirKind::Repetition(repeated) if repeated.min > 0 => required(&repeated.sub),
        // The one whose shortest piece is longest refuses most.
        HirKind::Concat(parts) => parts
            .iter()
            .filter_map(required)
            .max_by_key(|set| set.iter().map(String::len).min()),
        HirKind::Alternation(ways) => {
            let all: Option<Vec<_>> = ways.iter().map(required).collect();
            all.map(|all| all.concat()).filter(|set| set.len() <= MOST)
        }
        _ => None,
    }
}

/// Finds one of the pieces in encoded bytes, plain or in hexadecimal.
pub fn sieve(pieces: &[String]) -> Option<Search> {
    if pieces.is_empty() || pieces.len() > MOST {
        return None;
    }
    let mut ways = vec![IN_PARTS.to_owned()];
    for piece in pieces {
        ways.push(regex::escape(piece));
        ways.push(piece.bytes().map(|b| format!("{b:02X}")).collect());
    }
    Search::regex(&ways.join("|")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_word_between_blanks_and_slashes_is_the_piece() {
        assert_eq!(
            of_text("curl http://evil.example/x").as_deref(),
            Some("evil.example")
        );
        assert_eq!(of_text("10.0.0.5:443"), None);
        assert_eq!(of_text("a b c"), None);
    }

    #[test]
    fn an_expression_gives_what_all_its_matches_hold() {
        let of = |e| of_regex(e).unwrap_or_default();
        assert_eq!(of("^/usr/.*python3?$"), ["python"]);
        assert_eq!(of("(wget|curl) "), ["wget", "curl"]);
        assert_eq!(of("(wget)?x*"), [""; 0]);
        assert_eq!(of("(?i)curl"), [""; 0]);
        assert_eq!(of("nc|wget"), [""; 0]);
        assert_eq!(of("(?:bash)+ -i"), ["bash"]);
    }
}
