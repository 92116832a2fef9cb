//! `Detector`: activities in, alerts out.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use enricher::activity::Activity;
use enricher::container::Profile;
use rsigma_eval::{CompiledRule, CorrelationConfig, CorrelationEngine, Engine, EvaluationResult};
use rsigma_parser::{FilterRuleTarget, SigmaCollection, SigmaRule};

use crate::alert::{Alert, Response};
use crate::lane::{Lane, Scope};
use crate::load::{self, Loaded, Pack};
use crate::matching::{Matching, Search};
use crate::problem::{LoadError, Problem};
use crate::raise;
use crate::repeat::{Repeats, Seen};
use crate::rule::RuleInfo;
use crate::view::ActivityView;
use crate::warm;

/// Groups that correlations remember, all rules together.
const MAX_CORRELATION_GROUPS: usize = 20_000;
/// Matches that a correlation remembers in one group.
const MAX_GROUP_ENTRIES: usize = 1_000;

/// Settings of a [`Detector`].
#[derive(Clone, Debug)]
pub struct Options {
    /// So long after an alert the same rule in the same container is a repeat of it.
    pub repeat_window: Duration,
    /// Alerts that may be open for repeats at a time.
    pub max_open: usize,
    /// Response by rule id, instead of what the rule says.
    pub responses: HashMap<String, Response>,
    /// Ids of rules that are not used.
    pub disabled: Vec<String>,
    /// How matches are found; the results are the same.
    pub search: Search,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            repeat_window: Duration::from_secs(300),
            max_open: 65_536,
            responses: HashMap::new(),
            disabled: Vec::new(),
            search: Search::default(),
        }
    }
}

/// A rule matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detected {
    /// A new alert. Its id is 0: number it, then tell [`Detector::confirm`].
    New(Alert),
    /// The same rule in the same container again, within the window of an alert. The response of the rule is still to be
    /// carried out: a verdict is never swallowed because something was said already.
    Repeat {
        /// Id of the rule.
        rule: String,
        /// Id of the container, `None` on the host.
        container: Option<String>,
        /// Number of the alert that it repeats, 0 when that was never confirmed.
        of: u64,
        /// Matches that this alert stands for, this one included.
        count: u64,
        /// The match itself, with `id` and `count` as above.
        alert: Alert,
    },
}

impl Detected {
    /// The match, new or not.
    pub fn alert(&self) -> &Alert {
        match self {
            Self::New(alert) | Self::Repeat { alert, .. } => alert,
        }
    }
}

/// What a detector has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Activities evaluated.
    pub activities: u64,
    /// Rules that these met because the index named them.
    pub evaluated: u64,
    /// Matches that became new alerts.
    pub new: u64,
    /// Matches that were repeats.
    pub repeats: u64,
    /// Matches that a more telling rule stood in for.
    pub superseded: u64,
    /// Open alerts that were closed early because there were too many.
    pub evicted: u64,
    /// Alerts that are open for repeats now.
    pub open: u64,
}

/// The loaded rules and what they remember.
pub struct Detector {
    rules: Vec<RuleInfo>,
    by_id: HashMap<String, usize>,
    /// Rules that only feed correlations (`generate: false`).
    silent: HashSet<usize>,
    matching: Matching,
    correlations: Option<CorrelationEngine>,
    repeats: Repeats,
    counters: Counters,
}

impl Detector {
    /// Reads and compiles the rules of some packs.
    ///
    /// # Errors
    /// Every problem of every file at once: nothing is loaded when one rule is wrong, since a rule that is silently
    /// absent is a detection that silently does not happen.
    pub fn load(packs: &[Pack], options: Options) -> Result<Self, LoadError> {
        let mut loaded = load::load(packs);
        apply_options(&mut loaded, &options);
        let lanes = lanes(&mut loaded);
        let correlations = correlations(&mut loaded);
        if !loaded.problems.is_empty() {
            return Err(LoadError {
                problems: loaded.problems,
            });
        }
        let silent = feeders(&loaded);
        let detections = loaded.rules.into_iter().map(|(_, info, ..)| info);
        let rules: Vec<RuleInfo> = detections
            .chain(loaded.correlations.into_iter().map(|(_, info)| info))
            .collect();
        let by_id: HashMap<String, usize> = rules
            .iter()
            .enumerate()
            .map(|(i, rule)| (rule.id.clone(), i))
            .collect();
        let profile = |rule: &CompiledRule| {
            let number = rule.id.as_ref().and_then(|id| by_id.get(id));
            number.and_then(|number| rules[*number].profile)
        };
        let matching =
            Matching::new(lanes, options.search, profile).map_err(|error| LoadError {
                problems: vec![Problem::in_options(format!(
                    "the texts in the rules are too many to look for at once: {error}"
                ))],
            })?;
        Ok(Self {
            by_id,
            rules,
            silent,
            matching,
            correlations,
            repeats: Repeats::new(
                u64::try_from(options.repeat_window.as_millis()).unwrap_or(u64::MAX),
                options.max_open,
            ),
            counters: Counters::default(),
        })
    }

    /// The loaded rules.
    pub fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    /// A loaded rule by its id.
    pub fn rule(&self, id: &str) -> Option<&RuleInfo> {
        self.by_id.get(id).map(|i| &self.rules[*i])
    }

    /// Evaluates an activity and adds what it means to `out`, most severe first.
    pub fn evaluate(&mut self, activity: &Activity, out: &mut Vec<Detected>) {
        self.counters.activities += 1;
        let view = ActivityView::new(activity);
        let mut results = Vec::new();
        self.matching.evaluate(&view, &mut results);
        if results.is_empty() {
            return;
        }
        let profile = activity.container.as_ref().and_then(|c| c.profile);
        results.retain(|result| self.applies(result, profile));
        if let Some(engine) = &mut self.correlations
            && !results.is_empty()
        {
            let seconds = i64::try_from(activity.event.id.millis / 1000).unwrap_or(i64::MAX);
            results = engine.process_with_detections(&view, results, seconds);
            results.retain(|result| self.applies(result, profile));
        }
        let mut hits: Vec<(usize, EvaluationResult)> = results
            .into_iter()
            .filter_map(|result| Some((self.index_of(&result)?, result)))
            .filter(|(rule, _)| !self.silent.contains(rule))
            .collect();
        self.drop_superseded(&mut hits);
        hits.sort_by_key(|(rule, _)| std::cmp::Reverse(self.rules[*rule].level));
        for (rule, result) in hits {
            let detected = self.raise(rule, &result, activity);
            out.push(detected);
        }
    }

    /// The daemon has numbered a new alert: repeats will name that number. Also opens an alert again after a restart.
    pub fn confirm(&mut self, alert: &Alert) {
        if let Some(rule) = self.by_id.get(&alert.rule) {
            let container = alert.container.as_ref().map_or("", |c| c.id.as_str());
            self.repeats
                .confirm(*rule, container, alert.time_ms, alert.count, alert.id);
        }
    }

    /// Closes what is open for a container, by its full id: after a release its next match is a new alert.
    pub fn forget(&mut self, container: &str) {
        self.repeats.forget(container);
    }

    /// Evaluates every rule on made-up activities, whose matches are forgotten: what a rule builds when it is first asked
    /// (a regular expression's automaton is made while it runs) is there before the first event comes.
    pub fn warm_up(&mut self) {
        warm::warm_up(&mut self.matching);
    }

    /// Ids of rules that every activity of their log source meets, since no text and no fact is known that they need.
    pub fn always_tried(&self) -> impl Iterator<Item = &str> {
        self.matching.always_tried()
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        Counters {
            evaluated: self.matching.evaluated(),
            evicted: self.repeats.evicted(),
            open: self.repeats.len() as u64,
            ..self.counters
        }
    }

    fn index_of(&self, result: &EvaluationResult) -> Option<usize> {
        self.by_id.get(result.header.rule_id.as_deref()?).copied()
    }

    /// The rules of a profile's pack are for its containers only.
    fn applies(&self, result: &EvaluationResult, profile: Option<Profile>) -> bool {
        self.index_of(result)
            .is_some_and(|i| self.rules[i].profile.is_none_or(|p| Some(p) == profile))
    }

    fn drop_superseded(&mut self, hits: &mut Vec<(usize, EvaluationResult)>) {
        if hits.len() < 2 {
            return;
        }
        let silent: Vec<usize> = hits
            .iter()
            .flat_map(|(rule, _)| &self.rules[*rule].supersedes)
            .filter_map(|id| self.by_id.get(id).copied())
            .collect();
        let before = hits.len();
        hits.retain(|(rule, _)| !silent.contains(rule));
        self.counters.superseded += (before - hits.len()) as u64;
    }

    fn raise(&mut self, rule: usize, result: &EvaluationResult, activity: &Activity) -> Detected {
        let mut alert = raise::alert(&self.rules[rule], raise::matched(result), activity);
        let container = activity.container.as_ref().map_or("", |c| c.id.as_str());
        match self.repeats.see(rule, container, alert.time_ms) {
            Seen::First => {
                self.counters.new += 1;
                Detected::New(alert)
            }
            Seen::Again { alert: of, count } => {
                self.counters.repeats += 1;
                alert.id = of;
                alert.count = count;
                let container = activity.container.as_ref().map(|c| c.id.clone());
                Detected::Repeat {
                    rule: alert.rule.clone(),
                    container,
                    of,
                    count,
                    alert,
                }
            }
        }
    }
}

/// Responses and exclusions of the options; an id that is no rule's is a problem.
fn apply_options(loaded: &mut Loaded, options: &Options) {
    for id in options.responses.keys().chain(&options.disabled) {
        let known = loaded.rules.iter().any(|(_, info, ..)| info.id == *id)
            || loaded.correlations.iter().any(|(_, info)| info.id == *id);
        if !known {
            loaded.problems.push(Problem::in_options(format!(
                "the options name a rule {id:?} that is not loaded"
            )));
        }
    }
    loaded
        .rules
        .retain(|(_, info, ..)| !options.disabled.contains(&info.id));
    loaded
        .correlations
        .retain(|(_, info)| !options.disabled.contains(&info.id));
    let infos = loaded
        .rules
        .iter_mut()
        .map(|(_, info, ..)| info)
        .chain(loaded.correlations.iter_mut().map(|(_, info)| info));
    for info in infos {
        if let Some(response) = options.responses.get(&info.id) {
            info.response = *response;
        }
    }
}

/// Compiles the detection rules, each into the lane of its log source, and the filters into the rules they are for.
fn lanes(loaded: &mut Loaded) -> Vec<Lane> {
    let mut keys: Vec<(Scope, bool)> = Vec::new();
    for (_, _, scope, names_phase) in &loaded.rules {
        if !keys.contains(&(*scope, *names_phase)) {
            keys.push((*scope, *names_phase));
        }
    }
    let mut lanes = Vec::new();
    for (scope, names_phase) in keys {
        let of_lane: Vec<&(SigmaRule, RuleInfo, Scope, bool)> = loaded
            .rules
            .iter()
            .filter(|(_, _, s, p)| (*s, *p) == (scope, names_phase))
            .collect();
        let mut engine = Engine::new();
        for (i, error) in engine.add_rules(of_lane.iter().map(|(rule, ..)| rule)) {
            loaded.problems.push(Problem::in_file(
                &of_lane[i].1.file,
                None,
                error.to_string(),
            ));
        }
        for (filter, file) in &loaded.filters {
            let meant = match &filter.rules {
                FilterRuleTarget::Any => true,
                FilterRuleTarget::Specific(ids) => of_lane
                    .iter()
                    .any(|(_, info, ..)| ids.contains(&info.id) || ids.contains(&info.title)),
            };
            if meant && let Err(error) = engine.apply_filter(filter) {
                loaded
                    .problems
                    .push(Problem::in_file(file, None, error.to_string()));
            }
        }
        lanes.push(Lane {
            scope,
            names_phase,
            engine,
        });
    }
    lanes
}

/// Rules that are referred to by a correlation which does not ask for their own alerts. The correlation engine has a
/// filter for them as well, but it knows ids only, and correlations mostly use names.
fn feeders(loaded: &Loaded) -> HashSet<usize> {
    let quiet = loaded
        .correlations
        .iter()
        .filter(|(rule, _)| !rule.generate);
    let names: HashSet<&String> = quiet.flat_map(|(rule, _)| &rule.rules).collect();
    let is_fed = |(rule, info, ..): &(SigmaRule, RuleInfo, Scope, bool)| {
        names.contains(&info.id) || rule.name.as_ref().is_some_and(|name| names.contains(name))
    };
    loaded
        .rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| is_fed(rule))
        .map(|(i, _)| i)
        .collect()
}

/// Compiles the correlations, with the rules that they refer to so that names and cycles are checked.
fn correlations(loaded: &mut Loaded) -> Option<CorrelationEngine> {
    if loaded.correlations.is_empty() || !loaded.problems.is_empty() {
        return None;
    }
    let config = CorrelationConfig {
        max_state_entries: MAX_CORRELATION_GROUPS,
        max_group_entries: Some(MAX_GROUP_ENTRIES),
        ..CorrelationConfig::default()
    };
    let mut engine = CorrelationEngine::new(config);
    let mut collection = SigmaCollection::new();
    let wanted: Vec<&String> = loaded
        .correlations
        .iter()
        .flat_map(|(rule, _)| &rule.rules)
        .collect();
    let is_wanted = |rule: &SigmaRule| {
        [&rule.id, &rule.name]
            .into_iter()
            .flatten()
            .any(|name| wanted.contains(&name))
    };
    collection.rules = loaded
        .rules
        .iter()
        .map(|(rule, ..)| rule)
        .filter(|rule| is_wanted(rule))
        .cloned()
        .collect();
    collection.correlations = loaded
        .correlations
        .iter()
        .map(|(rule, _)| rule.clone())
        .collect();
    if let Err(error) = engine.add_collection(&collection) {
        loaded.problems.push(Problem::in_options(error.to_string()));
        return None;
    }
    Some(engine)
}
