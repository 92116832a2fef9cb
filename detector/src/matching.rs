//! Rules and activities brought together: which compiled rules an activity matches.

use collector::record::{Record, RecordType};
use enricher::activity::Phase;
use enricher::container::Profile;
use rsigma_eval::{CompiledRule, EvaluationResult, evaluate_rule};

use crate::calls;
use crate::candidates::{Fact, FactValue, Index};
use crate::lane::{Lane, Scope};
use crate::record_view::RecordView;
use crate::view::{ActivityView, phase_name};

/// How the rules that an activity matches are found. All three find the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// By an index: an activity meets the rules whose needs it fulfils.
    #[default]
    Candidates,
    /// By the engine of rsigma alone, to compare with.
    Engine,
    /// Every activity meets every rule of its log source: slow, and beyond doubt.
    Every,
}

/// One compiled rule.
struct Rule {
    compiled: CompiledRule,
    lane: usize,
    /// Containers that it is for, all when `None`.
    profile: Option<Profile>,
}

/// The rules that look at activities, or those that look at single records.
struct Family {
    rules: Vec<Rule>,
    index: Index,
    /// Names of calls that rules name, sorted.
    calls: Vec<String>,
}

/// All rules.
pub(crate) struct Matching {
    lanes: Vec<Lane>,
    activities: Family,
    records: Family,
    search: Search,
    /// Rules that a record of the activity at hand has matched already.
    matched: Vec<usize>,
}

/// In place of a call's number in a key: the event has none.
const NO_CALL: u64 = 0;
/// No rule names it.
const UNNAMED: u64 = 1;
/// The event has several operations of a ring: nothing is settled by the name.
const SEVERAL: u64 = 2;
/// The first of those that rules name.
const FIRST_NAMED: u64 = 3;

/// Fields that say which call it is.
const CALL_FIELDS: [&str; 2] = ["syscall", "syscall.name"];
/// The same of a record.
const RECORD_CALL_FIELDS: [&str; 2] = ["syscall", "SYSCALL"];

impl Matching {
    /// Indexes the rules of the lanes. `profile`: containers that the rule of an id is for.
    ///
    /// # Errors
    /// When the texts in the rules are too many for an index.
    pub(crate) fn new(
        lanes: Vec<Lane>,
        search: Search,
        profile: impl Fn(&CompiledRule) -> Option<Profile>,
    ) -> Result<Self, aho_corasick::BuildError> {
        let (mut activities, mut records) = (Vec::new(), Vec::new());
        for (number, lane) in lanes.iter().enumerate() {
            let rules = lane.engine.rules().iter().map(|compiled| Rule {
                compiled: compiled.clone(),
                lane: number,
                profile: profile(compiled),
            });
            if lane.scope == Scope::Auditd {
                records.extend(rules);
            } else {
                activities.extend(rules);
            }
        }
        Ok(Self {
            lanes,
            activities: Family::new(activities, &CALL_FIELDS)?,
            records: Family::new(records, &RECORD_CALL_FIELDS)?,
            search,
            matched: Vec::new(),
        })
    }

    /// Adds what an activity matches to `out`.
    pub(crate) fn evaluate(&mut self, view: &ActivityView<'_>, out: &mut Vec<EvaluationResult>) {
        // There are 15 scopes of activities and one of records, each at most twice.
        let mut taken = 0u32;
        for (number, lane) in self.lanes.iter().enumerate() {
            if lane.takes(view) {
                taken |= 1 << number;
            }
        }
        if taken == 0 {
            return;
        }
        match self.search {
            Search::Candidates => self.activities.by_index(view, taken, out),
            Search::Engine => {
                for lane in lanes_taken(&self.lanes, taken, false) {
                    out.append(&mut lane.engine.evaluate(view));
                }
            }
            Search::Every => {
                for rule in self.activities.rules.iter().filter(|r| r.is_in(taken)) {
                    out.extend(evaluate_rule(&rule.compiled, view));
                }
            }
        }
        if lanes_taken(&self.lanes, taken, true).next().is_some() {
            self.evaluate_records(view, taken, out);
        }
    }

    fn evaluate_records(
        &mut self,
        view: &ActivityView<'_>,
        taken: u32,
        out: &mut Vec<EvaluationResult>,
    ) {
        self.matched.clear();
        let event = &view.activity.event;
        for record in event.records().filter(|r| r.kind != RecordType::EOE) {
            match self.search {
                Search::Candidates => {
                    self.records
                        .records_by_index(record, view, taken, &mut self.matched, out);
                }
                Search::Engine => {
                    let record = RecordView::new(record, view);
                    for lane in lanes_taken(&self.lanes, taken, true) {
                        add_new(lane.engine.evaluate(&record), out);
                    }
                }
                Search::Every => {
                    let record = RecordView::new(record, view);
                    for rule in self.records.rules.iter().filter(|r| r.is_in(taken)) {
                        add_new(evaluate_rule(&rule.compiled, &record), out);
                    }
                }
            }
        }
    }

    /// Ids of rules for which no text and no fact is known that they need: every activity of their log source meets them.
    pub(crate) fn always_tried(&self) -> impl Iterator<Item = &str> {
        [&self.activities, &self.records]
            .into_iter()
            .flat_map(|family| {
                let rules = family.rules.iter().enumerate();
                rules
                    .filter(|(number, _)| family.index.is_always_tried(*number))
                    .filter_map(|(_, rule)| rule.compiled.id.as_deref())
            })
    }

    /// Rules that were evaluated because the index named them.
    pub(crate) fn evaluated(&self) -> u64 {
        self.activities.index.evaluated() + self.records.index.evaluated()
    }

    /// Every compiled rule.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &CompiledRule> {
        [&self.activities, &self.records]
            .into_iter()
            .flat_map(|family| family.rules.iter().map(|rule| &rule.compiled))
    }
}

fn lanes_taken(lanes: &[Lane], taken: u32, records: bool) -> impl Iterator<Item = &Lane> {
    lanes.iter().enumerate().filter_map(move |(number, lane)| {
        (taken >> number & 1 == 1 && (lane.scope == Scope::Auditd) == records).then_some(lane)
    })
}

/// A rule that matches several records of an activity has matched it once.
fn add_new(results: impl IntoIterator<Item = EvaluationResult>, out: &mut Vec<EvaluationResult>) {
    for result in results {
        if !out
            .iter()
            .any(|r| r.header.rule_id == result.header.rule_id)
        {
            out.push(result);
        }
    }
}

impl Rule {
    fn is_in(&self, taken: u32) -> bool {
        taken >> self.lane & 1 == 1
    }
}

/// What all events of a plan have in common: the lanes that take them, the call, the profile, the phase. Bits 36 to
/// 63 are free.
fn key(taken: u32, call: u64, profile: Option<Profile>, phase: Phase) -> u128 {
    let phase = match phase {
        Phase::Setup => 0,
        Phase::Running => 1,
        Phase::Exec => 2,
        Phase::Host => 3,
    };
    u128::from(call) << 64
        | u128::from(taken)
        | u128::from(profile_number(profile)) << 32
        | phase << 34
}

/// Number of a container's profile in a key; 0 for none.
fn profile_number(profile: Option<Profile>) -> u64 {
    profile
        .and_then(|profile| Profile::ALL.iter().position(|p| *p == profile))
        .map_or(0, |position| position as u64 + 1)
}

impl Family {
    fn new(rules: Vec<Rule>, call_fields: &[&str]) -> Result<Self, aho_corasick::BuildError> {
        let index = Index::build(rules.iter().map(|rule| &rule.compiled))?;
        let calls = index.whole_texts(call_fields);
        Ok(Self {
            rules,
            index,
            calls,
        })
    }

    /// Number of a call in a key.
    fn call_number(&self, name: Option<&str>) -> u64 {
        match name {
            None => NO_CALL,
            Some(name) => match self.calls.binary_search_by(|call| call.as_str().cmp(name)) {
                Ok(position) => position as u64 + FIRST_NAMED,
                Err(_) => UNNAMED,
            },
        }
    }

    fn by_index(&mut self, view: &ActivityView<'_>, taken: u32, out: &mut Vec<EvaluationResult>) {
        let activity = view.activity;
        let profile = activity.container.as_ref().and_then(|c| c.profile);
        let call = activity.syscall.as_ref();
        let number = match call {
            Some(call) if !call.operations.is_empty() => SEVERAL,
            call => self.call_number(call.map(calls::name)),
        };
        let success = call.and_then(|c| c.success);
        let write = view.changes_file();
        let key = key(taken, number, profile, activity.phase)
            | u128::from(write) << 36
            | success.map_or(0, |s| 1 + u128::from(s)) << 37;
        let facts = || {
            let name = match (number, call) {
                (NO_CALL, _) | (_, None) => Some(FactValue::Absent),
                (SEVERAL, _) => None,
                (UNNAMED, _) => Some(FactValue::Other),
                (_, Some(call)) => Some(text(calls::name(call))),
            };
            let mut facts = vec![
                fact(&["phase"], text(phase_name(activity.phase))),
                fact(
                    &["syscall.success"],
                    success.map_or(FactValue::Absent, |s| text(word(s))),
                ),
                fact(&["open.write"], text(word(write))),
            ];
            facts.extend(name.map(|name| fact(&CALL_FIELDS, name)));
            facts
        };
        let rules = &self.rules;
        self.index.each_candidate(
            key,
            facts,
            |rule| rules[rule].is_meant(taken, profile),
            view,
            |rule| out.extend(evaluate_rule(&rules[rule].compiled, view)),
        );
    }

    fn records_by_index(
        &mut self,
        record: Record<'_>,
        view: &ActivityView<'_>,
        taken: u32,
        matched: &mut Vec<usize>,
        out: &mut Vec<EvaluationResult>,
    ) {
        let activity = view.activity;
        let profile = activity.container.as_ref().and_then(|c| c.profile);
        // Only of this record it is sure that its number is the number of that call; a socketcall has two names, and around an
        // operation of a ring the record is of another call than the activity.
        let call = activity.syscall.as_ref().filter(|c| {
            record.kind == RecordType::SYSCALL && c.name != "socketcall" && c.within.is_none()
        });
        let number = self.call_number(call.map(|c| c.name.as_str()));
        let key = key(taken, number, profile, activity.phase) | u128::from(record.kind.0) << 36;
        let facts = || {
            let mut facts = vec![
                fact(&["type"], text(record.kind.to_string())),
                fact(&["phase"], text(phase_name(activity.phase))),
            ];
            if let Some(call) = call {
                let name = match number {
                    UNNAMED => FactValue::OtherCall,
                    _ => FactValue::Call(&call.name),
                };
                facts.push(fact(&RECORD_CALL_FIELDS, name));
            }
            facts
        };
        let record = RecordView::new(record, view);
        let rules = &self.rules;
        self.index.each_candidate(
            key,
            facts,
            |rule| rules[rule].is_meant(taken, profile),
            &record,
            |rule| {
                if !matched.contains(&rule)
                    && let Some(result) = evaluate_rule(&rules[rule].compiled, &record)
                {
                    matched.push(rule);
                    out.push(result);
                }
            },
        );
    }
}

impl Rule {
    fn is_meant(&self, taken: u32, profile: Option<Profile>) -> bool {
        self.is_in(taken) && self.profile.is_none_or(|p| Some(p) == profile)
    }
}

fn fact<'a>(fields: &'a [&'a str], value: FactValue<'a>) -> Fact<'a> {
    Fact { fields, value }
}

fn text<'a>(text: impl Into<std::borrow::Cow<'a, str>>) -> FactValue<'a> {
    FactValue::Text(text.into())
}

fn word(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}
