//! What is left of the rules' needs when the facts of an event are settled.

use super::field::{AtomId, FieldTests, holds};
use super::{Fact, FactValue};
use crate::reduce::{self, Atom, Test};

/// A rule that the events of a plan may match.
pub(super) struct Entry {
    pub(super) rule: u32,
    /// Beside what triggers it: of each list one must hold.
    pub(super) checks: Vec<Vec<AtomId>>,
}

/// An atom that makes a rule a candidate.
pub(super) struct Trigger {
    atom: AtomId,
    /// Which of the entries.
    pub(super) entry: u32,
}

/// The rules for events with the same facts.
pub(super) struct Plan {
    /// By number of the rule.
    pub(super) entries: Vec<Entry>,
    /// Entries that need nothing else.
    pub(super) always: Vec<u32>,
    /// By atom.
    triggers: Vec<Trigger>,
    /// Fields that the triggers look at.
    pub(super) scan: Vec<u32>,
}

impl Plan {
    pub(super) fn build(
        rules: &[Vec<Vec<AtomId>>],
        atoms: &[(Test, u32)],
        fields: &[(String, FieldTests)],
        facts: &[Fact<'_>],
        meant: impl Fn(usize) -> bool,
    ) -> Self {
        let mut plan = Self {
            entries: Vec::new(),
            always: Vec::new(),
            triggers: Vec::new(),
            scan: Vec::new(),
        };
        let name = |atom: AtomId| fields[atoms[atom as usize].1 as usize].0.as_str();
        for (rule, needs) in rules.iter().enumerate().filter(|(rule, _)| meant(*rule)) {
            let mut left = Vec::new();
            let mut possible = true;
            for clause in needs {
                let mut open = Vec::new();
                let mut settled = false;
                for atom in clause {
                    match settle(&atoms[*atom as usize].0, name(*atom), facts) {
                        Some(true) => settled = true,
                        Some(false) => {}
                        None => open.push(*atom),
                    }
                }
                if !settled {
                    possible &= !open.is_empty();
                    left.push(open);
                }
            }
            if possible {
                plan.add(rule, left, atoms, &name);
            }
        }
        plan.triggers.sort_by_key(|trigger| trigger.atom);
        plan.scan.sort_unstable();
        plan.scan.dedup();
        plan
    }

    fn add<'a>(
        &mut self,
        rule: usize,
        mut clauses: Vec<Vec<AtomId>>,
        atoms: &[(Test, u32)],
        name: &impl Fn(AtomId) -> &'a str,
    ) {
        let weight = |clause: &Vec<AtomId>| {
            let tests: Vec<Atom> = clause
                .iter()
                .map(|atom| Atom {
                    field: name(*atom).to_owned(),
                    test: atoms[*atom as usize].0.clone(),
                })
                .collect();
            reduce::weight(&tests)
        };
        clauses.sort_by(|a, b| weight(a).total_cmp(&weight(b)));
        #[allow(clippy::cast_possible_truncation)] // As many as there are rules.
        let (entry, rule) = (self.entries.len() as u32, rule as u32);
        if clauses.is_empty() {
            self.always.push(entry);
        } else {
            for atom in clauses.remove(0) {
                self.triggers.push(Trigger { atom, entry });
                self.scan.push(atoms[atom as usize].1);
            }
        }
        self.entries.push(Entry {
            rule,
            checks: clauses,
        });
    }

    /// What an atom makes a candidate.
    pub(super) fn triggers_of(&self, atom: AtomId) -> &[Trigger] {
        let start = self.triggers.partition_point(|t| t.atom < atom);
        let len = self.triggers[start..].partition_point(|t| t.atom == atom);
        &self.triggers[start..start + len]
    }
}

/// Does a test hold, as far as the facts tell?
fn settle(test: &Test, field: &str, facts: &[Fact<'_>]) -> Option<bool> {
    let fact = facts.iter().find(|fact| fact.fields.contains(&field))?;
    Some(match &fact.value {
        FactValue::Absent => false,
        FactValue::Text(text) => holds(test, Some(text)),
        FactValue::Call(name) => is_of_number(test) || holds(test, Some(name)),
        FactValue::OtherCall => is_of_number(test) || !matches!(test, Test::Equals(_)),
        // It may hold; a rule that is tried for nothing is no harm.
        FactValue::Other => !matches!(test, Test::Equals(_)),
    })
}

/// Could the test be meant for a call's number, which differs between the ABIs and is no part of the facts?
fn is_of_number(test: &Test) -> bool {
    match test {
        Test::Number(_) | Test::Present => true,
        Test::Equals(text)
        | Test::Prefix(text)
        | Test::Suffix(text)
        | Test::Part(text)
        | Test::AsciiPart(text) => text.bytes().all(|b| b.is_ascii_digit()),
    }
}
