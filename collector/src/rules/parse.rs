//! auditctl's rule syntax (auditctl(8), "SYNTAX"), as in `/etc/audit/rules.d/*.rules`.
//!
//! Beyond it: list `io_uring`, system calls newer than the installed auditctl by name, `loginuid_set`, more file system types,
//! quotes around values with blanks, and a comment `# optional` in front of a rule that may fail to load (because its path
//! does not exist on every host). Settings (`-D`, `-b`, `-e` …) are refused: they are the monitor's.

use std::fmt;

use super::fields::{COMPARISONS, FIELDS, Kind, by_name, list_allowed, op_allowed};
use super::rule::{Action, Field, FieldId, KEY_SEPARATOR, List, Op, Rule, SyscallMask, Value};
use super::values::{self, Wrong, nearest};
use super::words::{At, Word, split_test, words};
use crate::decode::{
    ARCH_IO_URING, arch_name, arch_number, syscall_number, syscalls::syscalls_of, uring_op_name,
};

/// Longest key, several together (`AUDIT_MAX_KEY_LEN`).
const MAX_KEY: usize = 256;

/// Bit 30 of a system call's number on x86_64: the x32 ABI (`__X32_SYSCALL_BIT`).
const X32: u32 = 1 << 30;

/// A rule and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRule {
    /// The rule.
    pub rule: Rule,
    /// Line, from 1.
    pub line: usize,
    /// A comment `# optional` stands in front of it: that it cannot be loaded is no failure.
    pub optional: bool,
    /// What the kernel takes, and is hardly meant.
    pub doubtful: Option<&'static str>,
}

/// Something in a rule file that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Name of the file, as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}",
            self.file, self.line, self.column, self.message
        )?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean {suggestion:?}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for RuleError {}

/// Reads a rule file. User and group names are looked up in this host's files, and `-w` looks whether its path is a directory.
///
/// # Errors
/// Every mistake in the file, at most one a line.
pub fn parse_rules(text: &str, file: &str) -> Result<Vec<ParsedRule>, Vec<RuleError>> {
    let (mut rules, mut errors, mut optional) = (Vec::new(), Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        let content = line.trim();
        if let Some(comment) = content.strip_prefix('#') {
            optional |= comment.trim_start().starts_with("optional");
            continue;
        }
        if content.is_empty() {
            optional = false;
            continue;
        }
        match words(line).and_then(|words| parse_line(&words)) {
            Ok(rule) => rules.push(ParsedRule {
                doubtful: doubt(&rule),
                rule,
                line: index + 1,
                optional,
            }),
            Err((at, wrong)) => errors.push(RuleError {
                file: file.to_owned(),
                line: index + 1,
                column: line.get(..at).map_or(at, |before| before.chars().count()) + 1,
                message: wrong.message,
                suggestion: wrong.suggestion,
            }),
        }
        optional = false;
    }
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(errors)
    }
}

fn doubt(rule: &Rule) -> Option<&'static str> {
    if rule.list() != List::Exit {
        return None;
    }
    // Rules with path= are kept by inode, and only those who touch the file walk them.
    if rule.syscalls().is_all() {
        return rule.text_of(FieldId::PATH).is_none().then_some(
            "every process of the host walks this rule at every call; name the calls with -S",
        );
    }
    rule.number_of(FieldId::ARCH).is_none().then_some(
        "without arch= the numbers of these calls are taken for those of other architectures too; put -F arch=b64 in front, and add the rule for b32",
    )
}

/// What a line says, before it is one rule.
#[derive(Default)]
struct Draft<'a> {
    rule: Option<(&'a Word, List, Action, bool)>,
    watch: Option<&'a Word>,
    perm: Option<&'a Word>,
    calls: Vec<&'a Word>,
    /// Fields and comparisons, in order.
    tests: Vec<(&'a Word, bool)>,
    keys: Vec<&'a Word>,
}

fn parse_line(words: &[Word]) -> At<Rule> {
    let mut draft = Draft::default();
    let mut rest = words.iter();
    while let Some(option) = rest.next() {
        let mut value = |what: &str| {
            rest.next().ok_or_else(|| {
                (
                    option.at,
                    Wrong::new(format!("{} wants {what} behind it", option.text)),
                )
            })
        };
        match option.text.as_str() {
            "-a" | "-A" => {
                let word = value("list,action")?;
                if let Some((_, _, _, _)) = draft.rule {
                    return Err((option.at, Wrong::new("a second rule on one line")));
                }
                let (list, action) =
                    list_and_action(&word.text).map_err(|wrong| (word.at, wrong))?;
                draft.rule = Some((word, list, action, option.text == "-A"));
            }
            "-w" => draft.watch = Some(value("a path")?),
            "-p" => draft.perm = Some(value("a kind of access")?),
            "-S" => draft.calls.push(value("a system call")?),
            "-F" => draft.tests.push((value("field=value")?, false)),
            "-C" => draft.tests.push((value("field=field")?, true)),
            "-k" => draft.keys.push(value("a key")?),
            other => return Err((option.at, refused(other))),
        }
    }
    match (&draft.rule, draft.watch) {
        (Some(_), None) => syscall_rule(&draft),
        (None, Some(path)) => watch_rule(&draft, path),
        (Some((word, ..)), Some(_)) => Err((
            word.at,
            Wrong::new("-a and -w on one line; use -F path= or -F dir="),
        )),
        (None, None) => Err((
            words.first().map_or(0, |word| word.at),
            Wrong::new("this line adds no rule; it needs -a list,action or -w path"),
        )),
    }
}

fn refused(option: &str) -> Wrong {
    let ours = "is a setting of the kernel's audit, which the monitor sets and restores itself; leave it out";
    let command = "is a command, not a rule; leave it out";
    Wrong::new(match option {
        "-D" => {
            "-D would delete the rules of others; the monitor deletes its own itself, leave it out"
                .to_owned()
        }
        "-b"
        | "-e"
        | "-f"
        | "-r"
        | "--backlog_wait_time"
        | "--backlog_wait_time_actual"
        | "--loginuid-immutable"
        | "--reset-lost"
        | "--reset_backlog_wait_time_actual"
        | "--signal" => format!("{option} {ours}"),
        "-c" | "-i" => format!(
            "{option} hides errors; write a comment \"# optional\" in front of the one rule that may fail"
        ),
        "-d" | "-W" | "-l" | "-s" | "-m" | "-q" | "-R" | "-t" | "-v" | "-h" => {
            format!("{option} {command}")
        }
        _ => {
            return Wrong::near(
                format!("there is no option {option:?}"),
                option,
                ["-a", "-A", "-w", "-p", "-S", "-F", "-C", "-k"].into_iter(),
            );
        }
    })
}

fn list_and_action(text: &str) -> Result<(List, Action), Wrong> {
    const LISTS: [(&str, List); 6] = [
        ("exit", List::Exit),
        ("task", List::Task),
        ("user", List::User),
        ("exclude", List::Exclude),
        ("filesystem", List::Filesystem),
        ("io_uring", List::IoUring),
    ];
    const ACTIONS: [(&str, Action); 2] = [("always", Action::Always), ("never", Action::Never)];
    let Some((left, right)) = text.split_once(',') else {
        return Err(Wrong::new(format!(
            "{text:?} is not list,action, like exit,always"
        )));
    };
    let list = |text: &str| {
        LISTS
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, list)| *list)
    };
    let action = |text: &str| {
        ACTIONS
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, action)| *action)
    };
    match (list(left), action(right), list(right), action(left)) {
        (Some(list), Some(action), ..) | (.., Some(list), Some(action)) => Ok((list, action)),
        (Some(_), ..) => Err(not_named(
            right,
            "action",
            ACTIONS.iter().map(|(name, _)| *name),
        )),
        (_, Some(_), ..) => Err(not_named(left, "list", LISTS.iter().map(|(name, _)| *name))),
        (.., Some(_), _) => Err(not_named(
            left,
            "action",
            ACTIONS.iter().map(|(name, _)| *name),
        )),
        (.., Some(_)) => Err(not_named(
            right,
            "list",
            LISTS.iter().map(|(name, _)| *name),
        )),
        _ => Err(Wrong::new(format!(
            "{text:?} names neither a list nor an action, like always,exit"
        ))),
    }
}

fn not_named(text: &str, what: &str, names: impl Iterator<Item = &'static str> + Clone) -> Wrong {
    if text == "entry" {
        return Wrong {
            message: "the kernel has no list \"entry\" any more".into(),
            suggestion: Some("exit".into()),
        };
    }
    let all = names.clone().collect::<Vec<_>>().join(", ");
    Wrong::near(
        format!("there is no {what} {text:?} (there are {all})"),
        text,
        names,
    )
}

fn watch_rule(draft: &Draft<'_>, word: &Word) -> At<Rule> {
    if let Some(other) = draft
        .calls
        .first()
        .or(draft.tests.first().map(|(word, _)| word))
    {
        return Err((
            other.at,
            Wrong::new("-w takes -p and -k alone; use -a always,exit -F path= with the rest"),
        ));
    }
    let path = values::watched_path(&word.text).map_err(|wrong| (word.at, wrong))?;
    let dir =
        word.text.ends_with('/') || std::fs::metadata(&word.text).is_ok_and(|data| data.is_dir());
    let perm = match draft.perm {
        Some(perm) => values::parse(Kind::Perm, &perm.text).map_err(|wrong| (perm.at, wrong))?,
        None => Value::Number(0xf),
    };
    let mut rule = Rule::new(List::Exit, Action::Always, SyscallMask::all());
    rule.fields.push(Field::text(
        if dir { FieldId::DIR } else { FieldId::PATH },
        path,
    ));
    rule.fields.push(Field {
        id: FieldId::PERM,
        op: Op::Equal,
        value: perm,
    });
    push_keys(
        &mut rule,
        draft.keys.iter().map(|word| (word.at, &word.text[..])),
    )?;
    Ok(rule)
}

fn syscall_rule(draft: &Draft<'_>) -> At<Rule> {
    let Some((word, list, action, prepend)) = draft.rule else {
        return Err((0, Wrong::new("no rule")));
    };
    if let Some(perm) = draft.perm {
        return Err((perm.at, Wrong::new("-p belongs to -w; use -F perm=")));
    }
    let mut rule = Rule::new(list, action, SyscallMask::none());
    rule.set_prepend(prepend);
    let mut keys: Vec<(usize, &str)> = Vec::new();
    let mut arch = None;
    for (word, comparison) in &draft.tests {
        let field = if *comparison {
            parse_comparison(word)?
        } else {
            parse_field(word, list)?
        };
        match (field.id, &field.value) {
            (FieldId::KEY, _) => {
                let start = word.text.find('=').map_or(0, |at| at + 1);
                keys.push((word.at + start, &word.text[start..]));
                continue;
            }
            (FieldId::ARCH, Value::Number(number)) if arch.is_none() => arch = Some(*number),
            (FieldId::ARCH, _) => return Err((word.at, Wrong::new("a second arch="))),
            (FieldId::PATH | FieldId::DIR, _)
                if rule
                    .fields()
                    .iter()
                    .any(|f| f.id == FieldId::PATH || f.id == FieldId::DIR) =>
            {
                return Err((
                    word.at,
                    Wrong::new("one path= or dir= is all that a rule can have"),
                ));
            }
            _ => {}
        }
        if !rule.push(field) {
            return Err((
                word.at,
                Wrong::new("a rule has at most 64 fields, and no value may hold a NUL"),
            ));
        }
    }
    if !list.has_syscalls() {
        if let Some(call) = draft.calls.first() {
            return Err((
                call.at,
                Wrong::new(format!("-S has no meaning in the list {list}")),
            ));
        }
        // libaudit fills the mask for every list but this one, and the kernel compares it.
        if list != List::Task {
            rule.syscalls = SyscallMask::all();
        }
    } else if draft.calls.is_empty() {
        rule.syscalls = SyscallMask::all();
    }
    for word in &draft.calls {
        add_calls(&mut rule.syscalls, word, list, arch)?;
    }
    if rule.fields.is_empty()
        && rule.syscalls.is_all()
        && list == List::Exit
        && action == Action::Always
    {
        return Err((
            word.at,
            Wrong::new(
                "this rule would record every system call of the host; name calls or fields",
            ),
        ));
    }
    push_keys(
        &mut rule,
        draft
            .keys
            .iter()
            .map(|word| (word.at, &word.text[..]))
            .chain(keys),
    )?;
    Ok(rule)
}

fn parse_field(word: &Word, list: List) -> At<Field> {
    let (name, op, value_at) = split_test(word)?;
    let spec = by_name(name).ok_or_else(|| {
        let names = FIELDS.iter().map(|spec| spec.name).chain(["key"]);
        (
            word.at,
            Wrong::near(format!("there is no field {name:?}"), name, names),
        )
    })?;
    if !op_allowed(&spec, op) {
        return Err((
            word.at + name.len(),
            Wrong::new(format!("the kernel does not take {} for {name}", op.sign())),
        ));
    }
    if !list_allowed(&spec, list) {
        return Err((
            word.at,
            Wrong::new(format!("{name} has no meaning in the list {list}")),
        ));
    }
    let value = values::parse(spec.kind, &word.text[value_at..])
        .map_err(|wrong| (word.at + value_at, wrong))?;
    Ok(Field {
        id: spec.id,
        op,
        value,
    })
}

fn parse_comparison(word: &Word) -> At<Field> {
    let (left, op, right_at) = split_test(word)?;
    let right = &word.text[right_at..];
    if !matches!(op, Op::Equal | Op::NotEqual) {
        return Err((
            word.at + left.len(),
            Wrong::new("-C compares with = or != only"),
        ));
    }
    COMPARISONS
        .iter()
        .find(|(a, b, _)| (left, right) == (*a, *b) || (left, right) == (*b, *a))
        .map(|(.., number)| Field {
            id: FieldId::FIELD_COMPARE,
            op,
            value: Value::Number(*number),
        })
        .ok_or_else(|| {
            let known = |name: &str| COMPARISONS.iter().any(|(a, b, _)| *a == name || *b == name);
            let names = || COMPARISONS.iter().flat_map(|(a, b, _)| [*a, *b]);
            let message = format!("the kernel cannot compare {left:?} with {right:?}");
            let suggestion = match (known(left), known(right)) {
                (true, false) => {
                    nearest(right, names()).map(|right| format!("{left}{}{right}", op.sign()))
                }
                (false, true) => {
                    nearest(left, names()).map(|left| format!("{left}{}{right}", op.sign()))
                }
                _ => None,
            };
            (
                word.at,
                Wrong {
                    message,
                    suggestion,
                },
            )
        })
}

fn add_calls(mask: &mut SyscallMask, word: &Word, list: List, arch: Option<u32>) -> At<()> {
    let mut at = word.at;
    for name in word.text.split(',') {
        call(mask, name, list, arch).map_err(|wrong| (at, wrong))?;
        at += name.len() + 1;
    }
    Ok(())
}

fn call(mask: &mut SyscallMask, name: &str, list: List, arch: Option<u32>) -> Result<(), Wrong> {
    if name == "all" {
        mask.union(&SyscallMask::all());
        return Ok(());
    }
    let number = if name.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
        values::integer(name).ok_or_else(|| Wrong::new(format!("{name:?} is not a number")))?
    } else if list == List::IoUring {
        syscall_number(ARCH_IO_URING, name).ok_or_else(|| {
            Wrong::near(
                format!("there is no io_uring operation {name:?}"),
                name,
                (0..256).filter_map(uring_op_name),
            )
        })?
    } else {
        // Like auditctl, which warns.
        let arch = arch.or_else(|| arch_number("b64")).unwrap_or_default();
        syscall_number(arch, name).ok_or_else(|| {
            let machine = arch_name(arch).map_or_else(|| format!("0x{arch:X}"), str::to_owned);
            let names = syscalls_of(arch).map(|(_, name)| name);
            Wrong::near(
                format!("{machine} has no system call {name:?}"),
                name,
                names,
            )
        })?
    };
    // The top sixteen bits are the kernel's classes (`AUDIT_SYSCALL_CLASSES`), not calls.
    if number >= SyscallMask::BITS - 16 || !mask.insert(number) {
        return Err(Wrong::new(if number & X32 != 0 {
            format!(
                "{number} is a call of the x32 ABI, which no kernel rule can name (its mask ends at 2047); boot with syscall.x32=n"
            )
        } else {
            format!("{number} is no system call; a rule holds numbers below 2032")
        }));
    }
    Ok(())
}

fn push_keys<'a>(rule: &mut Rule, keys: impl Iterator<Item = (usize, &'a str)>) -> At<()> {
    let mut joined: Vec<u8> = Vec::new();
    let mut last = None;
    for (at, key) in keys {
        if key.is_empty() || key.bytes().any(|byte| byte == KEY_SEPARATOR || byte == 0) {
            return Err((
                at,
                Wrong::new("a key is neither empty nor does it hold control characters"),
            ));
        }
        if !joined.is_empty() {
            joined.push(KEY_SEPARATOR);
        }
        joined.extend_from_slice(key.as_bytes());
        if joined.len() > MAX_KEY {
            return Err((
                at,
                Wrong::new("the keys of a rule are longer than 256 bytes together"),
            ));
        }
        last = Some(at);
    }
    match last {
        Some(at) if !rule.push(Field::text(FieldId::KEY, joined)) => {
            Err((at, Wrong::new("a rule has at most 64 fields")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
