//! What must be true of an event before a rule can match it.
//!
//! A rule's condition is a formula over selections. It is reduced to clauses that all must hold, each a list of tests of
//! which one must hold: `and` keeps the clauses of every child, `or` joins one clause of each, `not` says nothing. Every
//! step may only lose knowledge: what is left is necessary, never sufficient, so an event that fails it cannot match and
//! one that passes it meets the rule itself.

mod literals;

use std::collections::HashMap;

use rsigma_eval::matcher::{CompiledMatcher, GroupMode};
use rsigma_eval::{CompiledDetection, CompiledDetectionItem, CompiledRule};
use rsigma_parser::{ConditionExpr, Quantifier};

/// A test of one value of a field. Texts are lower case and ASCII, the value is put into lower case before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    /// The value is this.
    Equals(String),
    /// The value starts with this.
    Prefix(String),
    /// The value ends with this.
    Suffix(String),
    /// The value has this in it.
    Part(String),
    /// The value has this in it, or a character that is not ASCII: regular expressions fold case otherwise than
    /// `str::to_lowercase` does.
    AsciiPart(String),
    /// The value is this number.
    Number(i64),
    /// There is a value.
    Present,
}

/// A test and the field that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Atom {
    pub(crate) field: String,
    pub(crate) test: Test,
}

/// One of these must hold. Without any, nothing can match.
pub(crate) type Clause = Vec<Atom>;

/// All of these must hold. Without any, nothing is known and every event must be tried.
pub(crate) type Needs = Vec<Clause>;

/// Clauses that a rule keeps: the most telling ones.
const MAX_CLAUSES: usize = 8;

/// What a rule needs, its filters included, the most telling clause first.
pub(crate) fn of_rule(rule: &CompiledRule) -> Needs {
    let conditions = rule
        .conditions
        .iter()
        .map(|condition| of_condition(condition, &rule.detections));
    let mut needs = any(conditions);
    needs.sort_by(|a, b| weight(a).total_cmp(&weight(b)));
    needs.truncate(MAX_CLAUSES);
    needs
}

/// How often a clause will hold, roughly, between 0 and 1: it decides which clause is looked for first, never what matches.
pub(crate) fn weight(clause: &[Atom]) -> f64 {
    clause.iter().map(rate).sum::<f64>().min(1.0)
}

fn rate(atom: &Atom) -> f64 {
    let by_length = |text: &str| match text.len() {
        0 | 1 => 0.6,
        2 => 0.2,
        3 => 0.05,
        4 | 5 => 0.02,
        6 | 7 => 0.008,
        _ => 0.002,
    };
    let rate = match &atom.test {
        Test::Equals(text) if matches!(text.as_str(), "true" | "false" | "yes" | "no") => 0.3,
        Test::Equals(_) => 0.01,
        Test::Number(_) => 0.02,
        Test::Present => 0.5,
        Test::Prefix(text) | Test::Suffix(text) => by_length(text) / 2.0,
        Test::Part(text) | Test::AsciiPart(text) => by_length(text),
    };
    // Many texts to look through, or a value that nearly every event has.
    match atom.field.as_str() {
        "process.ancestors" | "process.argv" => rate * 3.0,
        "type" => rate * 20.0,
        _ => rate,
    }
}

/// Every child must hold.
fn all(children: impl Iterator<Item = Needs>) -> Needs {
    let mut out: Needs = Vec::new();
    for clause in children.flatten() {
        if !out.contains(&clause) {
            out.push(clause);
        }
    }
    out
}

/// One child must hold: one clause of each, joined. Where every child has a clause about the same field, these too.
fn any(children: impl Iterator<Item = Needs>) -> Needs {
    let children: Vec<Needs> = children.collect();
    if let [only] = children.as_slice() {
        return only.clone();
    }
    let mut out = Vec::new();
    let Some(best) = join(&children, |_| true) else {
        return out;
    };
    out.push(best);
    let mut fields: Vec<&str> = children
        .iter()
        .flatten()
        .filter_map(|clause| only_field(clause))
        .collect();
    fields.sort_unstable();
    fields.dedup();
    for field in fields {
        if let Some(joined) = join(&children, |clause| {
            clause.is_empty() || only_field(clause) == Some(field)
        }) && !out.contains(&joined)
        {
            out.push(joined);
        }
    }
    out
}

/// Joins the most telling of the wanted clauses of each child. `None` when a child has none.
fn join(children: &[Needs], wanted: impl Fn(&Clause) -> bool) -> Option<Clause> {
    let mut joined: Clause = Vec::new();
    for child in children {
        let best = child
            .iter()
            .filter(|clause| wanted(clause))
            .min_by(|a, b| weight(a).total_cmp(&weight(b)))?;
        for atom in best {
            if !joined.contains(atom) {
                joined.push(atom.clone());
            }
        }
    }
    Some(joined)
}

/// The field that all tests of a clause are about.
fn only_field(clause: &Clause) -> Option<&str> {
    let field = clause.first()?.field.as_str();
    clause
        .iter()
        .all(|atom| atom.field == field)
        .then_some(field)
}

fn of_condition(
    condition: &ConditionExpr,
    detections: &HashMap<String, CompiledDetection>,
) -> Needs {
    match condition {
        ConditionExpr::Identifier(name) => match detections.get(name) {
            Some(detection) => of_detection(detection),
            None => never(),
        },
        ConditionExpr::And(children) => all(children.iter().map(|c| of_condition(c, detections))),
        ConditionExpr::Or(children) => any(children.iter().map(|c| of_condition(c, detections))),
        ConditionExpr::Not(_) => Vec::new(),
        ConditionExpr::Selector {
            quantifier,
            pattern,
        } => {
            let chosen = detections
                .iter()
                .filter(|(name, _)| pattern.matches_detection_name(name))
                .map(|(_, detection)| of_detection(detection));
            match quantifier {
                Quantifier::All => all(chosen),
                Quantifier::Count(0) => Vec::new(),
                Quantifier::Any | Quantifier::Count(_) => any(chosen),
            }
        }
    }
}

/// Nothing can match: a clause that nothing fulfils.
fn never() -> Needs {
    vec![Vec::new()]
}

fn of_detection(detection: &CompiledDetection) -> Needs {
    match detection {
        CompiledDetection::AllOf(items) => all(items.iter().map(of_item)),
        CompiledDetection::AnyOf(children) => any(children.iter().map(of_detection)),
        CompiledDetection::And(children) => all(children.iter().map(of_detection)),
        CompiledDetection::Conditional { named, condition } => of_condition(condition, named),
        // Words that may stand in any field, and members of arrays: looked for by the rule itself.
        CompiledDetection::Keywords(_) | CompiledDetection::ArrayMatch { .. } => Vec::new(),
    }
}

fn of_item(item: &CompiledDetectionItem) -> Needs {
    let Some(field) = item.field.as_deref() else {
        return Vec::new();
    };
    let present = || vec![atom(field, Test::Present)];
    match item.exists {
        Some(true) => return vec![present()],
        Some(false) => return Vec::new(),
        None => {}
    }
    // A field that is absent matches null and nothing else, not even a negated value.
    if matches!(item.matcher, CompiledMatcher::Null) {
        return Vec::new();
    }
    let mut needs = of_matcher(field, &item.matcher);
    if needs.is_empty() {
        needs.push(present());
    }
    needs
}

fn of_matcher(field: &str, matcher: &CompiledMatcher) -> Needs {
    let one = |test| vec![vec![atom(field, test)]];
    match matcher {
        CompiledMatcher::Exact { value, .. } => match ascii(value) {
            Ascii::Whole(text) => one(Test::Equals(text)),
            Ascii::Some(text) => one(Test::Part(text)),
            Ascii::None => Vec::new(),
        },
        CompiledMatcher::Contains { value, .. } => part(field, value),
        CompiledMatcher::StartsWith { value, .. } => match ascii(value) {
            Ascii::Whole(text) if !text.is_empty() => one(Test::Prefix(text)),
            _ => part(field, value),
        },
        CompiledMatcher::EndsWith { value, .. } => match ascii(value) {
            Ascii::Whole(text) if !text.is_empty() => one(Test::Suffix(text)),
            _ => part(field, value),
        },
        CompiledMatcher::AhoCorasickSet { needles, .. } => {
            any(needles.iter().map(|needle| part(field, needle)))
        }
        CompiledMatcher::Regex(regex) => of_regex(field, regex.as_str()),
        CompiledMatcher::RegexSetMatch { set, mode } => {
            let children = set.patterns().iter().map(|p| of_regex(field, p));
            match mode {
                GroupMode::Any => any(children),
                GroupMode::All => all(children),
            }
        }
        CompiledMatcher::NumericEq(number) => match whole(*number) {
            Some(number) => one(Test::Number(number)),
            None => Vec::new(),
        },
        CompiledMatcher::BoolEq(expected) => {
            let words = if *expected {
                ["true", "1", "yes"]
            } else {
                ["false", "0", "no"]
            };
            vec![
                words
                    .map(|word| atom(field, Test::Equals(word.to_owned())))
                    .to_vec(),
            ]
        }
        CompiledMatcher::AnyOf(children)
        | CompiledMatcher::CaseInsensitiveGroup {
            children,
            mode: GroupMode::Any,
        } => any(children.iter().map(|child| of_matcher(field, child))),
        CompiledMatcher::AllOf(children)
        | CompiledMatcher::CaseInsensitiveGroup {
            children,
            mode: GroupMode::All,
        } => all(children.iter().map(|child| of_matcher(field, child))),
        // Comparisons, networks, other fields, times, negations: no text that must be there.
        _ => Vec::new(),
    }
}

fn of_regex(field: &str, pattern: &str) -> Needs {
    literals::required(pattern)
        .into_iter()
        .map(|texts| {
            texts
                .into_iter()
                .map(|text| atom(field, Test::AsciiPart(text)))
                .collect()
        })
        .collect()
}

fn part(field: &str, value: &str) -> Needs {
    match ascii(value) {
        Ascii::Whole(text) | Ascii::Some(text) if !text.is_empty() => {
            vec![vec![atom(field, Test::Part(text))]]
        }
        _ => Vec::new(),
    }
}

fn atom(field: &str, test: Test) -> Atom {
    Atom {
        field: field.to_owned(),
        test,
    }
}

/// A number that a 64-bit integer holds exactly.
fn whole(number: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)] // Checked: it is whole and small.
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

enum Ascii {
    /// All of the text, in lower case.
    Whole(String),
    /// The longest stretch of it.
    Some(String),
    /// It has no ASCII.
    None,
}

/// What of a text is ASCII: lower case is the same for it in every text around it.
fn ascii(text: &str) -> Ascii {
    if text.is_ascii() {
        return Ascii::Whole(text.to_ascii_lowercase());
    }
    match text
        .split(|c: char| !c.is_ascii())
        .max_by_key(|piece| piece.len())
    {
        Some(piece) if !piece.is_empty() => Ascii::Some(piece.to_ascii_lowercase()),
        _ => Ascii::None,
    }
}
