//! Which rules an event can match at all.
//!
//! Every rule is reduced to what it needs (`reduce`). Needs that are about facts of an event which take few values (the
//! call, the phase, …) are settled once for each combination of facts, in a [`Plan`]; the texts of what is left are
//! looked for in the fields that the plan names, each once. A rule whose texts are there, and which needs nothing else that
//! is absent, is a candidate and is evaluated; so is a rule for which nothing is known.

mod field;
mod plan;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use rsigma_eval::{CompiledRule, Event, EventValue};

use crate::reduce::{self, Test};
use field::{AtomId, FieldTests, Hits};
use plan::Plan;

/// A fact of an event that is known before any rule is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Fact<'a> {
    /// Fields that say it.
    pub(crate) fields: &'a [&'a str],
    pub(crate) value: FactValue<'a>,
}

/// What a fact is.
#[derive(Clone, Debug)]
pub(crate) enum FactValue<'a> {
    /// The event does not have the field.
    Absent,
    /// This text.
    Text(Cow<'a, str>),
    /// A text that no rule compares the field with as a whole.
    Other,
    /// A call by this name, whose number is a value of the field, too.
    Call(&'a str),
    /// A call whose name no rule compares the field with, and its number.
    OtherCall,
}

/// Plans that are kept. There are some hundred combinations of facts in what a host does.
const MAX_PLANS: usize = 4096;

/// Keys are our own and at most [`MAX_PLANS`], so that nobody can choose them to collide: a multiplication mixes enough.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_u128(&mut self, key: u128) {
        #[allow(clippy::cast_possible_truncation)] // Both halves are taken.
        let (low, high) = (key as u64, (key >> 64) as u64);
        let mixed = (low ^ high.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The rules of one kind of view, with what they need.
pub(crate) struct Index {
    rules: Vec<Vec<Vec<AtomId>>>,
    /// Test of each atom, and the number of its field.
    atoms: Vec<(Test, u32)>,
    fields: Vec<(String, FieldTests)>,
    plans: HashMap<u128, Plan, BuildHasherDefault<KeyHasher>>,
    hits: Hits,
    scanned: Vec<u64>,
    candidates: Vec<u32>,
    /// Rules evaluated so far.
    evaluated: u64,
}

impl Index {
    /// # Errors
    /// When the texts of a field make too large an automaton.
    pub(crate) fn build<'a>(
        rules: impl Iterator<Item = &'a CompiledRule>,
    ) -> Result<Self, aho_corasick::BuildError> {
        let mut atoms: Vec<(Test, u32)> = Vec::new();
        let mut known: HashMap<reduce::Atom, AtomId> = HashMap::new();
        let mut names: Vec<String> = Vec::new();
        let mut intern = |atom: reduce::Atom| {
            if let Some(id) = known.get(&atom) {
                return *id;
            }
            let field = names
                .iter()
                .position(|name| *name == atom.field)
                .unwrap_or_else(|| {
                    names.push(atom.field.clone());
                    names.len() - 1
                });
            #[allow(clippy::cast_possible_truncation)] // Files of rules are of a bounded size.
            let (id, field) = (atoms.len() as AtomId, field as u32);
            atoms.push((atom.test.clone(), field));
            known.insert(atom, id);
            id
        };
        let rules: Vec<Vec<Vec<AtomId>>> = rules
            .map(|rule| {
                let needs = reduce::of_rule(rule).into_iter();
                needs
                    .map(|clause| clause.into_iter().map(&mut intern).collect())
                    .collect()
            })
            .collect();
        let mut fields = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let tests = atoms
                .iter()
                .zip(0..)
                .filter(|((_, field), _)| *field as usize == number)
                .map(|((test, _), id)| (test, id));
            let tests = FieldTests::build(tests)?;
            fields.push((name, tests));
        }
        Ok(Self {
            rules,
            atoms,
            fields,
            plans: HashMap::default(),
            hits: Hits::default(),
            scanned: Vec::new(),
            candidates: Vec::new(),
            evaluated: 0,
        })
    }

    /// Texts that rules compare one of these fields with as a whole, sorted: every other value is [`FactValue::Other`].
    pub(crate) fn whole_texts(&self, fields: &[&str]) -> Vec<String> {
        let mut texts: Vec<String> = self
            .atoms
            .iter()
            .filter(|(_, field)| fields.contains(&self.fields[*field as usize].0.as_str()))
            .filter_map(|(test, _)| match test {
                Test::Equals(text) => Some(text.clone()),
                _ => None,
            })
            .collect();
        texts.sort_unstable();
        texts.dedup();
        texts
    }

    /// Is nothing known of what the rule needs, so that every event of its log source meets it?
    pub(crate) fn is_always_tried(&self, rule: usize) -> bool {
        self.rules.get(rule).is_some_and(Vec::is_empty)
    }

    /// Rules that were evaluated since the index was built.
    pub(crate) fn evaluated(&self) -> u64 {
        self.evaluated
    }

    /// Calls `candidate` with every rule that the event can match, in their order.
    ///
    /// `key` stands for the facts and for the rules that are meant: two events with the same key have the same of both.
    pub(crate) fn each_candidate<'f, E: Event>(
        &mut self,
        key: u128,
        facts: impl FnOnce() -> Vec<Fact<'f>>,
        meant: impl Fn(usize) -> bool,
        event: &E,
        mut candidate: impl FnMut(usize),
    ) {
        if !self.plans.contains_key(&key) {
            if self.plans.len() >= MAX_PLANS {
                self.plans.clear();
            }
            let plan = Plan::build(&self.rules, &self.atoms, &self.fields, &facts(), meant);
            self.plans.insert(key, plan);
        }
        let Some(plan) = self.plans.get(&key) else {
            return;
        };
        self.candidates.clear();
        self.candidates.extend_from_slice(&plan.always);
        if plan.scan.is_empty() && self.candidates.is_empty() {
            return;
        }
        self.hits.reset(self.atoms.len());
        self.scanned.clear();
        self.scanned.resize(self.fields.len().div_ceil(64), 0);
        for field in &plan.scan {
            scan(
                &self.fields,
                *field,
                event,
                &mut self.scanned,
                &mut self.hits,
            );
        }
        for at in 0..self.hits.list.len() {
            for trigger in plan.triggers_of(self.hits.list[at]) {
                self.candidates.push(trigger.entry);
            }
        }
        self.candidates.sort_unstable();
        self.candidates.dedup();
        for entry in &self.candidates {
            let entry = &plan.entries[*entry as usize];
            let possible = entry.checks.iter().all(|clause| {
                clause.iter().any(|atom| self.hits.has(*atom))
                    || clause.iter().any(|atom| {
                        let field = self.atoms[*atom as usize].1;
                        scan(
                            &self.fields,
                            field,
                            event,
                            &mut self.scanned,
                            &mut self.hits,
                        );
                        self.hits.has(*atom)
                    })
            });
            if possible {
                self.evaluated += 1;
                candidate(entry.rule as usize);
            }
        }
    }
}

/// Looks through a field, unless that was done.
fn scan<E: Event>(
    fields: &[(String, FieldTests)],
    field: u32,
    event: &E,
    scanned: &mut [u64],
    hits: &mut Hits,
) {
    let (word, bit) = (field as usize / 64, 1 << (field % 64));
    if scanned[word] & bit != 0 {
        return;
    }
    scanned[word] |= bit;
    let (name, tests) = &fields[field as usize];
    if let Some(value) = event.get_field(name) {
        match value {
            EventValue::Null => {}
            value => tests.scan(&value, hits),
        }
    }
}
