//! What to look for in the text of an entry: the bytes of its body as they are stored, and its terms.
//!
//! Nothing is decoded to search. An expression is put to a whole frame at once, hundreds of bodies one behind the other, and to each
//! different term of a block once; only where it is found is a row looked at. So `^` and `$` are the ends of a body or of a term.

use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::block::Frame;
use crate::rowset::RowSet;

/// Bytes that a compiled expression may take.
const COMPILED: usize = 4 << 20;

/// The expression cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{pattern:?} is not a regular expression that can be searched for: {why}")]
pub struct SearchError {
    pattern: String,
    why: String,
}

/// A text or an expression, compiled.
#[derive(Clone)]
pub struct Search {
    regex: Arc<Regex>,
    /// Whether it fits says nothing about what stands around it, and it never fits nothing: it can be put to many bodies at once.
    local: bool,
}

/// Matches across two bodies in one frame after which each body is looked at alone.
const ACROSS: usize = 8;

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Search({:?})", self.regex.as_str())
    }
}

impl Search {
    /// Exactly this text. A blank in it also stands for the zero byte between two arguments of a command line.
    pub fn text(text: &str) -> Result<Self, SearchError> {
        let escaped = regex::escape(text).replace(' ', r"[ \x00]");
        Self::compile(&escaped, text)
    }

    /// A regular expression of the crate `regex`; `(?i)` in front ignores case.
    pub fn regex(pattern: &str) -> Result<Self, SearchError> {
        Self::compile(pattern, pattern)
    }

    /// Any of several expressions.
    pub fn any_of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, SearchError> {
        let list: Vec<&str> = patterns.into_iter().collect();
        for pattern in &list {
            // Each alone first, so that the error names the one that is wrong, and `a)|(b` is none.
            Self::compile(pattern, pattern)?;
        }
        match list[..] {
            [one] => Self::regex(one),
            _ => {
                let joined: Vec<String> = list.iter().map(|p| format!("(?:{p})")).collect();
                Self::regex(&joined.join("|"))
            }
        }
    }

    fn compile(pattern: &str, shown: &str) -> Result<Self, SearchError> {
        RegexBuilder::new(pattern)
            .size_limit(COMPILED)
            .dfa_size_limit(COMPILED)
            .build()
            .map(|regex| Self {
                regex: Arc::new(regex),
                local: is_local(pattern),
            })
            .map_err(|error| SearchError {
                pattern: shown.to_owned(),
                why: error.to_string(),
            })
    }

    /// Is it in these bytes?
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.regex.is_match(bytes)
    }

    /// Rows of a frame that have it in their body.
    pub(crate) fn rows_of(&self, frame: &Frame) -> RowSet {
        let mut found = RowSet::empty(frame.rows());
        let (mut row, mut across) = (0, 0);
        if self.local {
            let raw = frame.raw();
            // The leftmost match begins in the first row that can have one.
            while across < ACROSS
                && let Some(start) = frame.start(row)
                && let Some(hit) = self.regex.find_at(raw, start)
            {
                row = frame.row_at(hit.start());
                let Some(body) = frame.body(row) else {
                    return found;
                };
                across += usize::from(frame.start(row + 1).is_none_or(|end| hit.end() > end));
                if self.regex.is_match(body) {
                    found.insert(row);
                }
                row += 1;
            }
            if across < ACROSS {
                return found;
            }
        }
        while let Some(body) = frame.body(row) {
            if self.regex.is_match(body) {
                found.insert(row);
            }
            row += 1;
        }
        found
    }
}

fn is_local(pattern: &str) -> bool {
    regex_syntax::ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(pattern)
        .is_ok_and(|hir| {
            let properties = hir.properties();
            properties.look_set().is_empty() && properties.minimum_len().is_some_and(|n| n > 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_literally_and_spans_arguments() {
        let text = Search::text("curl x | sh").unwrap();
        assert!(text.is_in(b"\xffsh\0-c\0curl\0x\0|\0sh\0"));
        assert!(text.is_in(b"curl x | sh"));
        assert!(!text.is_in(b"curl y | sh"));
    }

    #[test]
    fn what_is_no_expression_is_named() {
        let error = Search::any_of(["a", "b("]).unwrap_err().to_string();
        assert!(error.contains("\"b(\""), "{error}");
        assert!(Search::any_of(["a)|(b", "c"]).is_err());
        assert!(Search::regex(&"(a{1000}){1000}".repeat(3)).is_err());
    }

    #[test]
    fn any_of_several_is_found() {
        let any = Search::any_of(["^x", "y$"]).unwrap();
        assert!(any.is_in(b"xa") && any.is_in(b"ay") && !any.is_in(b"axya"));
    }
}
