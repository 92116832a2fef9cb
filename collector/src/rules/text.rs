//! A rule as `auditctl -l` prints it (`print_rule` in audit-userspace's `auditctl-listing.c`).

use std::fmt::{self, Write};

use super::fields::{COMPARISONS, by_id};
use super::rule::{Action, FieldId, List, Op, Rule, Value};
use super::values::format;
use crate::decode::{ARCH_IO_URING, arch_number, syscall_name};
use crate::text::to_text;

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Task => f.write_str("task"),
            Self::Exit => f.write_str("exit"),
            Self::Exclude => f.write_str("exclude"),
            Self::Filesystem => f.write_str("filesystem"),
            Self::IoUring => f.write_str("io_uring"),
            Self::Other(number) => write!(f, "list{number}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Possible => f.write_str("possible"),
            Self::Always => f.write_str("always"),
            Self::Other(number) => write!(f, "action{number}"),
        }
    }
}

/// The line that `auditctl -l` of audit 3.0 prints for it (which 4.0 prints as well, except that it has no `-w`).
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watch = is_watch(self);
        let mut line = Line {
            out: String::with_capacity(128),
        };
        if !watch {
            line.word(&format!(
                "-{} {},{}",
                if self.prepend() { 'A' } else { 'a' },
                self.action(),
                self.list()
            ));
            for field in self
                .fields()
                .iter()
                .filter(|field| field.id == FieldId::ARCH)
            {
                if let Value::Number(arch) = field.value {
                    line.field(
                        "arch",
                        field.op,
                        &format(by_id(field.id).map(|s| s.kind), arch),
                    );
                }
            }
            syscalls(self, &mut line);
        }
        for field in self
            .fields()
            .iter()
            .filter(|field| field.id != FieldId::ARCH)
        {
            let spec = by_id(field.id);
            match (&field.value, spec) {
                (Value::Text(path), _)
                    if watch && (field.id == FieldId::PATH || field.id == FieldId::DIR) =>
                {
                    line.word(&format!("-w {}", quoted(&to_text(path))));
                }
                (Value::Text(_), _) if field.id == FieldId::KEY => {
                    for key in self.keys() {
                        let key = to_text(key);
                        line.word(&format!(
                            "{}{}",
                            if watch { "-k " } else { "-F key=" },
                            quoted(&key)
                        ));
                    }
                }
                (Value::Number(number), Some(spec)) if watch => {
                    line.word(&format!("-p {}", format(Some(spec.kind), *number)));
                }
                (Value::Number(number), _) if field.id == FieldId::FIELD_COMPARE => {
                    match COMPARISONS.iter().find(|(.., n)| n == number) {
                        Some((left, right, _)) => {
                            line.word(&format!("-C {left}{}{right}", field.op.sign()))
                        }
                        None => line.word(&format!("-C compare{number}")),
                    }
                }
                (Value::Number(number), Some(spec)) => {
                    line.field(spec.name, field.op, &format(Some(spec.kind), *number))
                }
                (Value::Text(text), Some(spec)) => {
                    line.field(spec.name, field.op, &quoted(&to_text(text)))
                }
                (Value::Number(number), None) => {
                    line.field(&format!("f{}", field.id.0), field.op, &number.to_string())
                }
                (Value::Text(text), None) => line.field(
                    &format!("f{}", field.id.0),
                    field.op,
                    &quoted(&to_text(text)),
                ),
            }
        }
        f.write_str(&line.out)
    }
}

struct Line {
    out: String,
}

impl Line {
    fn word(&mut self, word: &str) {
        if !self.out.is_empty() {
            self.out.push(' ');
        }
        self.out.push_str(word);
    }

    fn field(&mut self, name: &str, op: Op, value: &str) {
        self.word(&format!("-F {name}{}{value}", op.sign()));
    }
}

/// Control characters never reach a terminal; blanks need quotes for our parser.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    if out.contains(' ') {
        format!("\"{out}\"")
    } else {
        out
    }
}

/// Would `-w` make it?
fn is_watch(rule: &Rule) -> bool {
    let is = |id: FieldId| rule.fields().iter().any(|field| field.id == id);
    rule.list() == List::Exit
        && rule.action() == Action::Always
        && !rule.prepend()
        && rule.syscalls().is_all()
        && is(FieldId::PERM)
        && (is(FieldId::PATH) || is(FieldId::DIR))
        && rule.fields().iter().all(|field| {
            field.op == Op::Equal
                && [FieldId::PATH, FieldId::DIR, FieldId::PERM, FieldId::KEY].contains(&field.id)
        })
}

fn syscalls(rule: &Rule, line: &mut Line) {
    if !rule.list().has_syscalls() || rule.syscalls().is_none() {
        return;
    }
    if rule.syscalls().is_all() {
        return line.word("-S all");
    }
    let arch = match rule.list() {
        List::IoUring => Some(ARCH_IO_URING),
        _ => rule.number_of(FieldId::ARCH).or_else(|| arch_number("b64")),
    };
    let names: Vec<String> = rule
        .syscalls()
        .iter()
        .map(|number| {
            arch.and_then(|arch| syscall_name(arch, number))
                .map_or_else(|| number.to_string(), str::to_owned)
        })
        .collect();
    line.word(&format!("-S {}", names.join(",")));
}
