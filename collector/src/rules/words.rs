//! A rule line in words, and a test in its three parts.

use super::rule::Op;
use super::values::Wrong;

/// A word and its byte offset in the line.
pub(super) struct Word {
    pub(super) at: usize,
    pub(super) text: String,
}

/// An error and its byte offset in the line.
pub(super) type At<T> = Result<T, (usize, Wrong)>;

/// Splits at blanks that are not between quotes; the quotes go.
pub(super) fn words(line: &str) -> At<Vec<Word>> {
    let mut words: Vec<Word> = Vec::new();
    let mut open: Option<(usize, char)> = None;
    let mut inside = false;
    for (at, c) in line.char_indices() {
        match open {
            Some((_, quote)) if c == quote => open = None,
            None if c.is_whitespace() => inside = false,
            _ => {
                if !inside {
                    words.push(Word {
                        at,
                        text: String::new(),
                    });
                    inside = true;
                }
                match c {
                    '"' | '\'' if open.is_none() => open = Some((at, c)),
                    c => words
                        .last_mut()
                        .into_iter()
                        .for_each(|word| word.text.push(c)),
                }
            }
        }
    }
    match open {
        Some((at, _)) => Err((at, Wrong::new("this quote is never closed"))),
        None => Ok(words),
    }
}

/// `name<op>value`.
pub(super) fn split_test(word: &Word) -> At<(&str, Op, usize)> {
    let is_sign = |c: char| "=!<>&".contains(c);
    let found = word.text.find(is_sign).and_then(|at| {
        let sign = &word.text[at..];
        Op::NAMED
            .iter()
            .find(|(.., text)| sign.starts_with(text))
            .map(|(op, _, text)| (at, *op, text.len()))
    });
    match found {
        Some((at, op, len)) => Ok((&word.text[..at], op, at + len)),
        None => Err((
            word.at,
            Wrong::new(format!(
                "{:?} has no comparison (= != < <= > >= & &=)",
                word.text
            )),
        )),
    }
}
