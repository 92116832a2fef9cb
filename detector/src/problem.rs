//! What is wrong with rule files, said so that the person who wrote them can mend them at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong with a rule file or with the options that name rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File, as it was reached; `None` for an option.
    pub file: Option<PathBuf>,
    /// Line in the file, from 1, where it could be told.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl Problem {
    pub(crate) fn in_file(file: &Path, line: Option<usize>, message: impl Into<String>) -> Self {
        Self {
            file: Some(file.to_owned()),
            line,
            message: message.into(),
            suggestion: None,
        }
    }

    pub(crate) fn in_options(message: impl Into<String>) -> Self {
        Self {
            file: None,
            line: None,
            message: message.into(),
            suggestion: None,
        }
    }

    pub(crate) fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }
}

/// `file:line: message; did you mean …?`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, _) => {}
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(s) => write!(f, "; did you mean {s}?"),
            None => Ok(()),
        }
    }
}

/// The rules cannot be used; every problem is listed, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} problem(s) in the alert rules:\n{}", problems.len(), lines(problems))]
pub struct LoadError {
    /// Everything that was found, in the order of the files.
    pub problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|p| format!("  {p}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The known name nearest to what was written, when it is near enough to be meant.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = written.to_lowercase();
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&lower, &name.to_lowercase()),
                name,
            )
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| {
            *distance
                <= 3.max(written.len() / 4)
                    .min(written.len().saturating_sub(1))
        })
        .map(|(_, name)| name)
}

/// Line of a key (`Image|endswith:`) in a rule file, from 1.
pub(crate) fn line_of_key(text: &str, key: &str) -> Option<usize> {
    text.lines()
        .position(|line| {
            let line = line
                .trim_start()
                .trim_start_matches("- ")
                .trim_start_matches(['"', '\'', ' ']);
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(['|', ':', '[', '"', '\'', ' ']))
        })
        .map(|i| i + 1)
}

/// Line that holds a text, from 1.
pub(crate) fn line_of_text(text: &str, needle: &str) -> Option<usize> {
    text.lines()
        .position(|line| line.contains(needle))
        .map(|i| i + 1)
}

/// `… at line 7 column 3` of a YAML error.
pub(crate) fn line_in_message(message: &str) -> Option<usize> {
    let (_, rest) = message.rsplit_once("line ")?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_when_it_is_near() {
        let known = ["CommandLine", "container.name", "phase"];
        assert_eq!(nearest("Comandline", known), Some("CommandLine"));
        assert_eq!(nearest("container.nam", known), Some("container.name"));
        assert_eq!(nearest("whatever.it.is", known), None);
        assert_eq!(nearest("x", known), None);
    }

    #[test]
    fn a_key_is_found_on_its_line() {
        let text = "detection:\n  sel:\n    - Image|endswith: /x\n      'Foo': 1\n";
        assert_eq!(line_of_key(text, "Image"), Some(3));
        assert_eq!(line_of_key(text, "Foo"), Some(4));
        assert_eq!(line_of_key(text, "Imag"), None);
        assert_eq!(
            line_in_message("did not find expected key at line 12 column 3"),
            Some(12)
        );
    }
}
