//! Texts that every match of a regular expression has in it.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Alternatives that one stretch of a pattern may have.
const MAX_TEXTS: usize = 48;
/// Characters of a class that are written out as alternatives.
const MAX_CLASS: usize = 3;
/// A shorter text stands in nearly every value.
const MIN_LEN: usize = 2;

/// Lists of texts, lower case and ASCII: of each list one is in everything that the pattern matches, provided that this is
/// ASCII and was put into lower case. Empty when nothing is known.
pub(super) fn required(pattern: &str) -> Vec<Vec<String>> {
    match regex_syntax::parse(pattern) {
        Ok(hir) => of(&hir),
        // The pattern was compiled before, so it parses; not to know is safe.
        Err(_) => Vec::new(),
    }
}

fn of(hir: &Hir) -> Vec<Vec<String>> {
    if let Some(texts) = exact(hir) {
        return useful(texts).into_iter().collect();
    }
    match hir.kind() {
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => of(&repetition.sub),
        HirKind::Concat(pieces) => concat(pieces),
        HirKind::Alternation(branches) => alternation(branches),
        _ => Vec::new(),
    }
}

/// Neighbours whose texts are known make longer texts together.
fn concat(pieces: &[Hir]) -> Vec<Vec<String>> {
    let mut lists = Vec::new();
    let mut run = vec![String::new()];
    for piece in pieces {
        match exact(piece) {
            Some(texts) => match cross(&run, &texts) {
                Some(longer) => run = longer,
                None => lists.extend(useful(std::mem::replace(&mut run, texts))),
            },
            None => {
                lists.extend(useful(std::mem::replace(&mut run, vec![String::new()])));
                lists.extend(of(piece));
            }
        }
    }
    lists.extend(useful(run));
    lists
}

/// One branch matches: the most telling list of each, joined.
fn alternation(branches: &[Hir]) -> Vec<Vec<String>> {
    let mut joined: Vec<String> = Vec::new();
    for branch in branches {
        let lists = of(branch);
        let Some(best) = lists
            .into_iter()
            .max_by_key(|texts| texts.iter().map(String::len).min().unwrap_or(0))
        else {
            return Vec::new();
        };
        joined.extend(best);
    }
    joined.sort_unstable();
    joined.dedup();
    vec![joined]
}

/// Every text that this matches, when these are few; characters that are not ASCII are left out.
fn exact(hir: &Hir) -> Option<Vec<String>> {
    let texts = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![String::new()],
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            if !text.is_ascii() {
                return None;
            }
            vec![text.to_ascii_lowercase()]
        }
        HirKind::Class(class) => of_class(class)?,
        HirKind::Capture(capture) => exact(&capture.sub)?,
        HirKind::Concat(pieces) => {
            let mut texts = vec![String::new()];
            for piece in pieces {
                texts = cross(&texts, &exact(piece)?)?;
            }
            texts
        }
        HirKind::Alternation(branches) => {
            let mut texts = Vec::new();
            for branch in branches {
                texts.extend(exact(branch)?);
            }
            texts
        }
        HirKind::Repetition(repetition) => match (repetition.min, repetition.max) {
            (0, Some(1)) => {
                let mut texts = exact(&repetition.sub)?;
                texts.push(String::new());
                texts
            }
            (1, Some(1)) => exact(&repetition.sub)?,
            _ => return None,
        },
    };
    let mut texts = texts;
    texts.sort_unstable();
    texts.dedup();
    (texts.len() <= MAX_TEXTS).then_some(texts)
}

/// The ASCII characters of a class in lower case, when these are few. A class without any matches no ASCII at all.
fn of_class(class: &Class) -> Option<Vec<String>> {
    let mut letters: Vec<char> = Vec::new();
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => class
            .iter()
            .map(|range| (u32::from(range.start()), u32::from(range.end())))
            .collect(),
        Class::Bytes(class) => class
            .iter()
            .map(|range| (u32::from(range.start()), u32::from(range.end())))
            .collect(),
    };
    for (start, end) in ranges {
        for code in start..=end.min(0x7f) {
            let letter = char::from_u32(code)?.to_ascii_lowercase();
            if !letters.contains(&letter) {
                letters.push(letter);
            }
            if letters.len() > MAX_CLASS {
                return None;
            }
        }
    }
    (!letters.is_empty()).then(|| letters.into_iter().map(String::from).collect())
}

/// Every text of the one followed by every text of the other; `None` when these are too many.
fn cross(first: &[String], second: &[String]) -> Option<Vec<String>> {
    if first.len() * second.len() > MAX_TEXTS {
        return None;
    }
    let pairs = first
        .iter()
        .flat_map(|a| second.iter().map(move |b| format!("{a}{b}")));
    Some(pairs.collect())
}

/// A list that says something.
fn useful(mut texts: Vec<String>) -> Option<Vec<String>> {
    if texts.iter().any(|text| text.len() < MIN_LEN) {
        return None;
    }
    texts.sort_unstable();
    texts.dedup();
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(pattern: &str) -> Vec<Vec<String>> {
        required(pattern)
    }

    #[test]
    fn texts_that_must_be_there_are_found() {
        assert_eq!(lists(r"^/proc/\d+/mem$"), [["/proc/"], ["/mem"]]);
        assert_eq!(
            lists(r"(?i)of=/DEV/(?:sd|hd)"),
            [["of=/dev/hd", "of=/dev/sd"]]
        );
        assert_eq!(lists(r"(?s)\|\s*(?:ba|da)?sh\b"), [["bash", "dash", "sh"]]);
        assert_eq!(
            lists(r"curl.*(?:\d+exec|system\()"),
            [vec!["curl"], vec!["exec", "system("]]
        );
        assert_eq!(lists("(?:abc)+x?"), [["abc"]]);
    }

    #[test]
    fn what_may_be_absent_is_no_text() {
        assert!(lists(r"\s-[a-zA-Z]*R").is_empty());
        assert!(lists("(?:abc)*").is_empty());
        assert!(lists("abc|[^x]+").is_empty());
        assert!(lists("a?").is_empty());
        assert!(lists("[äöü]{3}").is_empty());
    }

    #[test]
    fn letters_that_fold_into_ascii_stay_alternatives_of_ascii_only() {
        // The Kelvin sign is a k for the regular expression: the caller takes values that are not ASCII as hits.
        assert_eq!(lists("(?i)docker"), [["docker"]]);
    }
}
