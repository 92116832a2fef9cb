//! What is kept of an activity, and the terms it is found by. Every event of every container passes here: one piece of memory for all
//! terms, one for the body.

use enricher::activity::{Category, Phase};
use enricher::{Activity, Container};
use history::{Entry, Field, Kind, Terms};

/// Longest term, in bytes: a term is for finding, a megabyte of argument is not one.
const LONGEST: usize = 512;

pub fn add(terms: &mut Terms, field: Field, text: &str) {
    let bytes = text.as_bytes();
    if !bytes.is_empty() {
        terms.push(field, &bytes[..bytes.len().min(LONGEST)]);
    }
}

pub fn add_opt(terms: &mut Terms, field: Field, text: Option<&str>) {
    if let Some(text) = text {
        add(terms, field, text);
    }
}

pub fn add_number(terms: &mut Terms, field: Field, number: u32) {
    let mut digits = [0u8; 10];
    let (mut start, mut left) = (digits.len(), number);
    loop {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    terms.push(field, &digits[start..]);
}

/// A path and every folder above it, so that `--path /etc` finds all below /etc.
pub fn add_path(terms: &mut Terms, path: &str) {
    add(terms, Field::Path, path);
    let mut rest = path;
    while let Some(slash) = rest.rfind('/') {
        rest = &rest[..slash];
        add(terms, Field::Path, if rest.is_empty() { "/" } else { rest });
    }
}

pub fn add_container(terms: &mut Terms, c: &Container) {
    add(terms, Field::Container, &c.id);
    add_opt(terms, Field::Container, c.name.as_deref());
    add_opt(
        terms,
        Field::Container,
        c.label("com.docker.compose.service"),
    );
    add_opt(terms, Field::Image, c.image.as_deref());
    add_opt(terms, Field::Profile, c.profile.map(|p| p.name()));
    add_opt(terms, Field::Agent, c.agent.as_deref());
}

/// The word for it in JSON and in filters.
pub fn category(category: Category) -> &'static str {
    match category {
        Category::Process => "process",
        Category::File => "file",
        Category::Network => "network",
        Category::Mount => "mount",
        Category::Ptrace => "ptrace",
        Category::Module => "module",
        Category::Namespace => "namespace",
        Category::Credential => "credential",
        Category::Seccomp => "seccomp",
        Category::Config => "config",
        Category::Other => "other",
    }
}

/// The word for it in JSON and in filters.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Setup => "setup",
        Phase::Running => "running",
        Phase::Exec => "exec",
        Phase::Host => "host",
    }
}

/// An activity, without what alerts say of it.
pub fn activity(activity: &Activity) -> Entry {
    let mut terms = Terms::with_capacity(40, 1024);
    let t = &mut terms;
    let p = &activity.process;
    if let Some(c) = &activity.container {
        add_container(t, c);
    }
    add_number(t, Field::Pid, p.pid);
    add(t, Field::Exe, &p.exe);
    add(t, Field::Comm, &p.comm);
    add_opt(t, Field::User, p.user.as_deref());
    if let Some(uid) = p.uid {
        add_number(t, Field::User, uid);
    }
    add(t, Field::Category, category(activity.category));
    add(t, Field::Phase, phase(activity.phase));
    if let Some(s) = &activity.syscall {
        add(t, Field::Syscall, &s.name);
        if s.success == Some(false) {
            add(t, Field::Failed, "1");
        }
    }
    for key in &activity.keys {
        add(t, Field::Key, key);
    }
    for path in &activity.paths {
        add_path(t, &path.path);
        for elsewhere in path.real_path.iter().chain(&path.host_path) {
            add_path(t, elsewhere);
        }
    }
    if let Some(s) = &activity.socket {
        add(t, Field::Addr, &s.address);
        if let Some(port) = s.port {
            add(t, Field::Addr, &format!("{}:{port}", s.address));
        }
    }
    let mut body = Vec::with_capacity(activity.event.size() + 512);
    activity.encode(&mut body);
    Entry {
        kind: Kind::Activity,
        time_ms: activity.event.id.millis,
        id: activity.event.id.to_string(),
        terms,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_json() {
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        for c in [
            Category::Process,
            Category::File,
            Category::Network,
            Category::Mount,
            Category::Ptrace,
            Category::Module,
            Category::Namespace,
            Category::Credential,
            Category::Seccomp,
            Category::Config,
            Category::Other,
        ] {
            assert_eq!(
                category(c),
                word(serde_json::to_value(c).unwrap_or_default())
            );
        }
        for p in [Phase::Setup, Phase::Running, Phase::Exec, Phase::Host] {
            assert_eq!(phase(p), word(serde_json::to_value(p).unwrap_or_default()));
        }
    }

    #[test]
    fn numbers_and_folders_are_terms() {
        let mut terms = Terms::default();
        for number in [0, 7, 4_294_967_295] {
            add_number(&mut terms, Field::Pid, number);
        }
        add_path(&mut terms, "/a/b");
        let all: Vec<_> = terms
            .iter()
            .map(|(_, t)| String::from_utf8_lossy(t).into_owned())
            .collect();
        assert_eq!(all, ["0", "7", "4294967295", "/a/b", "/a", "/"]);
    }
}
