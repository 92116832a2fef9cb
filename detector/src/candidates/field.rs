//! All tests of one field, answered together: its value is put into lower case once and looked through once.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};
use rsigma_eval::EventValue;

use crate::reduce::Test;

/// Number of an atom.
pub(super) type AtomId = u32;

/// Where in the value a pattern must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Anywhere,
    Start,
    End,
}

/// The tests of a field.
pub(super) struct FieldTests {
    equals: HashMap<Box<str>, Vec<AtomId>>,
    /// Suffixes that are a blank path component, `/curl`, by what stands behind the slash.
    components: HashMap<Box<str>, Vec<AtomId>>,
    automaton: Option<AhoCorasick>,
    /// By pattern of the automaton.
    patterns: Vec<Vec<(Place, AtomId)>>,
    numbers: Vec<(i64, AtomId)>,
    present: Vec<AtomId>,
    /// They hold for every value that is not ASCII.
    ascii_only: Vec<AtomId>,
}

/// Atoms that hold for the event at hand.
#[derive(Default)]
pub(super) struct Hits {
    bits: Vec<u64>,
    /// The same, in the order of their finding.
    pub(super) list: Vec<AtomId>,
    lower: String,
}

impl Hits {
    pub(super) fn reset(&mut self, atoms: usize) {
        self.bits.clear();
        self.bits.resize(atoms.div_ceil(64), 0);
        self.list.clear();
    }

    pub(super) fn has(&self, atom: AtomId) -> bool {
        self.bits
            .get(atom as usize / 64)
            .is_some_and(|word| word >> (atom % 64) & 1 == 1)
    }

    fn add(&mut self, atom: AtomId) {
        if let Some(word) = self.bits.get_mut(atom as usize / 64) {
            let bit = 1 << (atom % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.list.push(atom);
            }
        }
    }

    fn add_all(&mut self, atoms: &[AtomId]) {
        atoms.iter().for_each(|atom| self.add(*atom));
    }
}

impl FieldTests {
    /// # Errors
    /// When the texts make too large an automaton.
    pub(super) fn build<'a>(
        tests: impl Iterator<Item = (&'a Test, AtomId)>,
    ) -> Result<Self, aho_corasick::BuildError> {
        let mut field = Self {
            equals: HashMap::new(),
            components: HashMap::new(),
            automaton: None,
            patterns: Vec::new(),
            numbers: Vec::new(),
            present: Vec::new(),
            ascii_only: Vec::new(),
        };
        let mut texts: Vec<&str> = Vec::new();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for (test, atom) in tests {
            let (text, place) = match test {
                Test::Equals(text) => {
                    let atoms = field.equals.entry(text.as_str().into()).or_default();
                    atoms.push(atom);
                    continue;
                }
                Test::Suffix(text) if is_component(text) => {
                    let atoms = field.components.entry(text[1..].into()).or_default();
                    atoms.push(atom);
                    continue;
                }
                Test::Number(number) => {
                    field.numbers.push((*number, atom));
                    continue;
                }
                Test::Present => {
                    field.present.push(atom);
                    continue;
                }
                Test::AsciiPart(text) => {
                    field.ascii_only.push(atom);
                    (text, Place::Anywhere)
                }
                Test::Part(text) => (text, Place::Anywhere),
                Test::Prefix(text) => (text, Place::Start),
                Test::Suffix(text) => (text, Place::End),
            };
            let number = *numbers.entry(text).or_insert_with(|| {
                texts.push(text);
                field.patterns.push(Vec::new());
                texts.len() - 1
            });
            field.patterns[number].push((place, atom));
        }
        if !texts.is_empty() {
            let kind = if texts.len() <= DFA_TEXTS {
                AhoCorasickKind::DFA
            } else {
                AhoCorasickKind::ContiguousNFA
            };
            field.automaton = Some(
                AhoCorasickBuilder::new()
                    .kind(Some(kind))
                    .match_kind(MatchKind::Standard)
                    .build(&texts)?,
            );
        }
        Ok(field)
    }

    /// Adds what holds for the value, an array's members each by itself.
    pub(super) fn scan(&self, value: &EventValue<'_>, hits: &mut Hits) {
        match value {
            EventValue::Null => {}
            EventValue::Array(members) => {
                hits.add_all(&self.present);
                members.iter().for_each(|m| self.scan_one(m, hits));
            }
            one => {
                hits.add_all(&self.present);
                self.scan_one(one, hits);
            }
        }
    }

    fn scan_one(&self, value: &EventValue<'_>, hits: &mut Hits) {
        if !self.numbers.is_empty()
            && let Some(number) = value.as_f64()
        {
            for (wanted, atom) in &self.numbers {
                #[allow(clippy::cast_precision_loss)] // Reduction keeps what a float holds exactly.
                if (number - *wanted as f64).abs() < f64::EPSILON {
                    hits.add(*atom);
                }
            }
        }
        match value {
            EventValue::Str(text) => self.scan_text(text, hits),
            EventValue::Array(members) => members.iter().for_each(|m| self.scan_one(m, hits)),
            EventValue::Null | EventValue::Map(_) => {}
            EventValue::Int(_) | EventValue::Float(_) | EventValue::Bool(_) => {
                if let Some(text) = value.as_str() {
                    self.scan_text(&text, hits);
                }
            }
        }
    }

    /// Adds what holds for a text.
    pub(super) fn scan_text(&self, text: &str, hits: &mut Hits) {
        let mut lower = std::mem::take(&mut hits.lower);
        lower.clear();
        if text.is_ascii() {
            lower.push_str(text);
            lower.make_ascii_lowercase();
        } else {
            lower.push_str(&text.to_lowercase());
            hits.add_all(&self.ascii_only);
        }
        self.scan_lower(&lower, hits);
        hits.lower = lower;
    }

    fn scan_lower(&self, text: &str, hits: &mut Hits) {
        if !self.equals.is_empty()
            && let Some(atoms) = self.equals.get(text)
        {
            hits.add_all(atoms);
        }
        if !self.components.is_empty()
            && let Some(at) = memchr::memrchr(b'/', text.as_bytes())
            && let Some(atoms) = self.components.get(&text[at + 1..])
        {
            hits.add_all(atoms);
        }
        let Some(automaton) = &self.automaton else {
            return;
        };
        for found in automaton.find_overlapping_iter(text) {
            for (place, atom) in &self.patterns[found.pattern().as_usize()] {
                let fits = match place {
                    Place::Anywhere => true,
                    Place::Start => found.start() == 0,
                    Place::End => found.end() == text.len(),
                };
                if fits {
                    hits.add(*atom);
                }
            }
        }
    }
}

/// With so many texts an automaton still has a table of transitions for every state, which is the fastest and the largest form.
const DFA_TEXTS: usize = 2000;

fn is_component(text: &str) -> bool {
    text.strip_prefix('/')
        .is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
}

/// Does a test hold for a text, `None` when the field is absent? For facts that are known before a value is looked at.
pub(super) fn holds(test: &Test, text: Option<&str>) -> bool {
    let Some(text) = text else { return false };
    let lower = text.to_lowercase();
    match test {
        Test::Equals(wanted) => lower == *wanted,
        Test::Prefix(wanted) => lower.starts_with(wanted),
        Test::Suffix(wanted) => lower.ends_with(wanted),
        Test::Part(wanted) => lower.contains(wanted),
        Test::AsciiPart(wanted) => !text.is_ascii() || lower.contains(wanted),
        #[allow(clippy::cast_precision_loss)]
        Test::Number(wanted) => text
            .parse::<f64>()
            .is_ok_and(|n| (n - *wanted as f64).abs() < f64::EPSILON),
        Test::Present => true,
    }
}
