//! From the rules that the kernel has to the rules that it should have.

use super::Rule;
use crate::control::{Control, ControlError};

/// The smallest way from one list to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rules to load, in the order of the wished list.
    pub add: Vec<Rule>,
    /// Our rules that are not wished any more, in the kernel's order.
    pub delete: Vec<Rule>,
}

impl Changes {
    /// Is nothing to be done?
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.delete.is_empty()
    }
}

/// What leads from `kernel` to `desired`. Rules of others (none of whose keys starts with `sm-`) are left alone, and so is a wished
/// rule that the kernel has already, whoever loaded it. A rule wished twice is loaded once.
pub fn diff(desired: &[Rule], kernel: &[Rule]) -> Changes {
    let has = |rules: &[Rule], rule: &Rule| rules.iter().any(|other| other.same_as(rule));
    let mut add: Vec<Rule> = Vec::new();
    for rule in desired {
        if !has(kernel, rule) && !has(&add, rule) {
            add.push(rule.clone());
        }
    }
    Changes {
        add,
        delete: kernel
            .iter()
            .filter(|rule| rule.is_ours() && !has(desired, rule))
            .cloned()
            .collect(),
    }
}

/// What became of [`Changes`].
#[derive(Debug, Default)]
pub struct Applied {
    /// Rules loaded.
    pub added: usize,
    /// Rules deleted.
    pub deleted: usize,
    /// Rules that were not loaded or deleted, with the reason: a path that does not exist, or what the kernel said.
    pub skipped: Vec<(Rule, String)>,
}

/// Brings the changes to the kernel: first what is new, then what is to go, so that nothing is unwatched in between.
///
/// # Errors
/// [`ControlError::NotPermitted`], [`ControlError::NoAudit`], [`ControlError::Locked`], [`ControlError::Timeout`] and
/// [`ControlError::Io`], which would meet every other rule too; what was done before stays done. Whatever concerns one rule alone
/// is in [`Applied::skipped`].
pub fn apply(control: &mut Control, changes: &Changes) -> Result<Applied, ControlError> {
    let mut applied = Applied::default();
    for rule in &changes.add {
        match control.add_rule(rule) {
            // It came from elsewhere between the list and now: that is what was wished.
            Ok(()) | Err(ControlError::RuleExists { .. }) => applied.added += 1,
            Err(e) if concerns_all(&e) => return Err(e),
            Err(e) => applied.skipped.push((rule.clone(), e.to_string())),
        }
    }
    for rule in &changes.delete {
        match control.delete_rule(rule) {
            Ok(()) | Err(ControlError::NoSuchRule { .. }) => applied.deleted += 1,
            Err(e) if concerns_all(&e) => return Err(e),
            Err(e) => applied.skipped.push((rule.clone(), e.to_string())),
        }
    }
    Ok(applied)
}

fn concerns_all(error: &ControlError) -> bool {
    matches!(
        error,
        ControlError::NotPermitted { .. }
            | ControlError::NoAudit
            | ControlError::Locked { .. }
            | ControlError::Timeout { .. }
            | ControlError::Io { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Action, Field, FieldId, List, SyscallMask};

    fn rule(key: &str, pid: u32) -> Rule {
        let mut rule = Rule::new(List::Exit, Action::Always, SyscallMask::all());
        assert!(
            rule.push(Field::number(FieldId::PID, pid))
                && rule.push(Field::text(FieldId::KEY, key))
        );
        rule
    }

    #[test]
    fn ours_come_and_go_and_others_stay() {
        let kernel = [rule("theirs", 1), rule("sm-old", 2), rule("sm-same", 3)];
        let desired = [
            rule("sm-new", 5),
            rule("sm-same", 3),
            rule("sm-also", 4),
            rule("sm-new", 5),
        ];
        let changes = diff(&desired, &kernel);
        assert_eq!(changes.add, [rule("sm-new", 5), rule("sm-also", 4)]);
        assert_eq!(changes.delete, [rule("sm-old", 2)]);
        assert!(diff(&desired[1..2], &kernel[2..]).is_empty());
    }

    #[test]
    fn a_rule_to_be_put_in_front_is_the_one_that_the_kernel_lists() {
        let mut first = rule("sm-first", 1);
        first.set_prepend(true);
        assert!(diff(&[first], &[rule("sm-first", 1)]).is_empty());
    }

    #[test]
    fn a_rule_on_every_call_is_known_again_without_the_bits_that_the_kernel_takes_out() {
        let wished = rule("sm-all", 1);
        let mut bytes = wished.encode();
        bytes[12 + 63 * 4..12 + 64 * 4].copy_from_slice(&0xffffu32.to_ne_bytes());
        let listed = Rule::decode(&bytes).unwrap();
        assert_ne!(listed, wished);
        assert!(diff(&[wished], &[listed]).is_empty());
    }

    #[test]
    fn a_key_among_several_makes_a_rule_ours() {
        assert!(rule("a\u{1}sm-b", 1).is_ours());
        assert!(!rule("not-sm-b", 1).is_ours());
        assert_eq!(
            rule("a\u{1}sm-b", 1).keys().collect::<Vec<_>>(),
            [&b"a"[..], b"sm-b"]
        );
    }
}
