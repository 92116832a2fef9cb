//! Secrets taken out of everything that leaves the host.
//!
//! Three looks, each for what the others miss: *shapes* (a GitHub token is known by its form, wherever it stands), *names*
//! (`TOKEN=…`, `"password": "…"`, `Authorization: …`), and *places* (`--password x`, `curl -u user:x`, `mysql -px`). What
//! was taken out is written [`MARK`]. An ordinary command line comes back unchanged, and borrowed.

mod names;
mod places;
mod shapes;

use std::borrow::Cow;

/// Stands where a secret stood.
pub const MARK: &str = "[redacted]";

/// `text` without secrets: a command line, a path, a message.
pub fn redact(text: &str) -> Cow<'_, str> {
    let shaped = shapes::redact(text);
    let named = apply(shaped, names::redact);
    apply(named, |t| {
        places::redact_line(t).map_or(Cow::Borrowed(t), Cow::Owned)
    })
}

/// Arguments without secrets, argument by argument: a flag in one and its secret in the next are seen together.
pub fn redact_argv<S: AsRef<str>>(argv: &[S]) -> Vec<Cow<'_, str>> {
    let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    let places = places::secrets_in(&words);
    words
        .iter()
        .zip(places)
        .map(|(word, place)| match place {
            Some(place) => Cow::Owned(place.replace(word)),
            // An argument that is a line of its own (`sh -c '…'`) is looked at as one.
            None => redact(word),
        })
        .collect()
}

/// Arguments as one line, redacted; an argument with blanks or quotes in it is quoted, so that it is seen as one.
pub fn command_line<S: AsRef<str>>(argv: &[S]) -> String {
    let mut line = String::new();
    for word in redact_argv(argv) {
        if !line.is_empty() {
            line.push(' ');
        }
        if !word.is_empty()
            && !word.contains(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '\\'))
        {
            line.push_str(&word);
        } else {
            line.push('\'');
            line.push_str(&word.replace('\'', r"'\''"));
            line.push('\'');
        }
    }
    line
}

/// Value of a field that has a name: all of it is secret when the name says so.
pub fn value_of<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if names::is_secret(name) && !value.is_empty() {
        Cow::Borrowed(MARK)
    } else {
        redact(value)
    }
}

fn apply<'a>(text: Cow<'a, str>, f: impl for<'b> Fn(&'b str) -> Cow<'b, str>) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(t) => f(t),
        Cow::Owned(t) => match f(&t) {
            Cow::Borrowed(_) => Cow::Owned(t),
            Cow::Owned(changed) => Cow::Owned(changed),
        },
    }
}

#[cfg(test)]
mod tests;
