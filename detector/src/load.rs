//! Reads rule packs: Sigma files in, checked rules out, and every problem that was found on the way.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use enricher::container::Profile;
use rsigma_eval::RuleFieldSet;
use rsigma_parser::{
    ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, FilterRule,
    FilterRuleTarget, Level, SigmaCollection, SigmaRule, parse_sigma_yaml,
};

use crate::custom::Custom;
use crate::fields;
use crate::lane::Scope;
use crate::problem::{Problem, line_in_message, line_of_key, line_of_text, nearest};
use crate::rule::{RuleInfo, severity};

/// A rule file of this size is none.
const MAX_FILE: u64 = 1 << 20;
/// So deep do folders go inside a pack.
const MAX_DEPTH: usize = 8;
/// Pack that applies to every container.
const COMMON: &str = "common";

/// A folder of rules and whom they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// `common`, or the name of a profile: its rules apply to containers of that profile only.
    pub name: String,
    /// Folder; every `*.yml` below it is read, in the order of the names.
    pub dir: PathBuf,
}

/// What the files said.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) rules: Vec<(SigmaRule, RuleInfo, Scope, bool)>,
    pub(crate) correlations: Vec<(CorrelationRule, RuleInfo)>,
    pub(crate) filters: Vec<(FilterRule, PathBuf)>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads every pack.
pub(crate) fn load(packs: &[Pack]) -> Loaded {
    let mut loaded = Loaded::default();
    for pack in packs {
        let profile = match Profile::ALL.into_iter().find(|p| p.name() == pack.name) {
            Some(profile) => Some(profile),
            None if pack.name == COMMON => None,
            None => {
                let known = Profile::ALL.map(Profile::name).into_iter().chain([COMMON]);
                loaded.problems.push(
                    Problem::in_file(
                        &pack.dir,
                        None,
                        format!("{:?} is not a rule pack", pack.name),
                    )
                    .suggest(nearest(&pack.name, known)),
                );
                continue;
            }
        };
        let mut files = Vec::new();
        find_files(&pack.dir, MAX_DEPTH, &mut files, &mut loaded.problems);
        files.sort();
        for file in files {
            Reader {
                pack,
                profile,
                file: &file,
                loaded: &mut loaded,
            }
            .read();
        }
    }
    check_references(&mut loaded);
    loaded
}

fn find_files(dir: &Path, depth: usize, out: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => {
            return problems.push(Problem::in_file(
                dir,
                None,
                format!("the folder of rules cannot be read: {e}"),
            ));
        }
    };
    for entry in entries {
        match entry {
            Err(e) => problems.push(Problem::in_file(
                dir,
                None,
                format!("the folder of rules cannot be read: {e}"),
            )),
            Ok(entry) => {
                let path = entry.path();
                if path.is_dir() {
                    if depth > 0 {
                        find_files(&path, depth - 1, out, problems);
                    }
                } else if path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
                    out.push(path);
                }
            }
        }
    }
}

/// One file on its way in.
struct Reader<'a> {
    pack: &'a Pack,
    profile: Option<Profile>,
    file: &'a Path,
    loaded: &'a mut Loaded,
}

impl Reader<'_> {
    fn read(&mut self) {
        let text = match read_text(self.file) {
            Ok(text) => text,
            Err(message) => return self.problem(None, message),
        };
        let collection = match parse_sigma_yaml(&text) {
            Ok(collection) => collection,
            Err(e) => return self.problem(line_in_message(&e.to_string()), e.to_string()),
        };
        for message in &collection.errors {
            let problem = parse_problem(self.file, &text, message);
            self.loaded.problems.push(problem);
        }
        if collection.is_empty() && collection.errors.is_empty() {
            self.problem(None, "there is no rule in this file".to_owned());
        }
        let SigmaCollection {
            rules,
            correlations,
            filters,
            ..
        } = collection;
        rules.into_iter().for_each(|rule| self.rule(rule, &text));
        correlations
            .into_iter()
            .for_each(|rule| self.correlation(rule, &text));
        filters
            .into_iter()
            .for_each(|filter| self.filter(filter, &text));
    }

    fn problem(&mut self, line: Option<usize>, message: String) {
        self.loaded
            .problems
            .push(Problem::in_file(self.file, line, message));
    }

    fn rule(&mut self, rule: SigmaRule, text: &str) {
        let scope = match Scope::of(&rule.logsource) {
            Ok(scope) => scope,
            Err(message) => return self.problem(line_of_key(text, "logsource"), message),
        };
        let mut one = SigmaCollection::new();
        one.rules.push(rule);
        let names = named_fields(&one);
        self.check_fields(&names, scope == Scope::Auditd, text);
        let Some(rule) = one.rules.pop() else { return };
        let custom = Custom::read(&rule.custom_attributes, |message, key, suggestion| {
            let line = line_of_key(text, key);
            self.loaded
                .problems
                .push(Problem::in_file(self.file, line, message).suggest(suggestion));
        });
        let head = Head {
            id: &rule.id,
            title: &rule.title,
            level: rule.level,
            tags: &rule.tags,
        };
        if let Some(mut info) = self.info(&head, custom, text) {
            info.description = rule.description.clone().unwrap_or_default();
            info.logsource = scope.name();
            info.falsepositives.clone_from(&rule.falsepositives);
            info.references.clone_from(&rule.references);
            let names_phase = names.iter().any(|name| name == "phase");
            self.loaded.rules.push((rule, info, scope, names_phase));
        }
    }

    fn correlation(&mut self, mut rule: CorrelationRule, text: &str) {
        all_by_default(&mut rule);
        let mut names = rule.group_by.clone();
        names.extend(
            rule.aliases
                .iter()
                .flat_map(|a| a.mapping.values().cloned()),
        );
        names.retain(|name| !rule.aliases.iter().any(|a| a.alias == *name));
        self.check_fields(&names, false, text);
        let custom = Custom::read(&rule.custom_attributes, |message, key, suggestion| {
            let line = line_of_key(text, key);
            self.loaded
                .problems
                .push(Problem::in_file(self.file, line, message).suggest(suggestion));
        });
        let head = Head {
            id: &rule.id,
            title: &rule.title,
            level: rule.level,
            tags: &rule.tags,
        };
        if let Some(mut info) = self.info(&head, custom, text) {
            info.description = rule.description.clone().unwrap_or_default();
            info.logsource = "correlation".to_owned();
            info.falsepositives.clone_from(&rule.falsepositives);
            info.references.clone_from(&rule.references);
            info.correlation = true;
            self.loaded.correlations.push((rule, info));
        }
    }

    fn filter(&mut self, filter: FilterRule, text: &str) {
        let mut one = SigmaCollection::new();
        one.filters.push(filter);
        for name in named_fields(&one) {
            if !fields::is_known(&name, false) && !fields::is_known(&name, true) {
                self.check_fields(&[name], false, text);
            }
        }
        self.loaded
            .filters
            .extend(one.filters.pop().map(|f| (f, self.file.to_owned())));
    }

    fn check_fields(&mut self, names: &[String], auditd: bool, text: &str) {
        for name in names.iter().filter(|name| !fields::is_known(name, auditd)) {
            let problem = Problem::in_file(
                self.file,
                line_of_key(text, name),
                format!("field {name:?} is not known for this log source"),
            );
            self.loaded
                .problems
                .push(problem.suggest(nearest(name, fields::suggestions(auditd))));
        }
    }

    fn info(&mut self, head: &Head<'_>, custom: Custom, text: &str) -> Option<RuleInfo> {
        let line = line_of_text(text, head.title);
        let Some(id) = head.id.clone() else {
            self.problem(line, format!("rule {:?} has no id; alerts and exceptions refer to it, so give it a fixed UUID", head.title));
            return None;
        };
        let Some(level) = head.level.map(severity) else {
            self.problem(
                line,
                format!(
                    "rule {:?} has no level; the level decides what an alert does",
                    head.title
                ),
            );
            return None;
        };
        Some(RuleInfo {
            id,
            title: head.title.to_owned(),
            description: String::new(),
            level,
            response: custom
                .response
                .unwrap_or_else(|| crate::Response::of(level)),
            pack: self.pack.name.clone(),
            profile: self.profile,
            file: self.file.to_owned(),
            tags: head.tags.to_vec(),
            logsource: String::new(),
            falsepositives: Vec::new(),
            references: Vec::new(),
            correlation: false,
            supersedes: custom.supersedes,
        })
    }
}

/// A temporal correlation without a condition means that every rule it names has matched (Sigma correlation rules 2.0,
/// `temporal`). The parser of rsigma 0.23 says so too, and then fills in that one of them has.
fn all_by_default(rule: &mut CorrelationRule) {
    let temporal = matches!(
        rule.correlation_type,
        CorrelationType::Temporal | CorrelationType::TemporalOrdered
    );
    if let CorrelationCondition::Threshold {
        predicates,
        field: None,
        ..
    } = &mut rule.condition
        && temporal
        && *predicates == [(ConditionOperator::Gte, 1)]
    {
        *predicates = vec![(ConditionOperator::Gte, rule.rules.len() as u64)];
    }
}

/// What detection rules and correlations have in common.
struct Head<'a> {
    id: &'a Option<String>,
    title: &'a str,
    level: Option<Level>,
    tags: &'a [String],
}

fn read_text(file: &Path) -> Result<String, String> {
    let size = fs::metadata(file)
        .map_err(|e| format!("the rule file cannot be read: {e}"))?
        .len();
    if size > MAX_FILE {
        return Err(format!(
            "the rule file has {size} bytes; the limit is {MAX_FILE}"
        ));
    }
    fs::read_to_string(file).map_err(|e| format!("the rule file cannot be read: {e}"))
}

/// Names of the fields that detections use; the list `fields:` of a rule only says what to show and is not checked.
fn named_fields(collection: &SigmaCollection) -> Vec<String> {
    use rsigma_eval::FieldSource::{Detection, Filter};
    let set = RuleFieldSet::collect(collection, &[], true);
    set.iter()
        .filter(|(_, origin)| {
            origin.sources.contains(&Detection) || origin.sources.contains(&Filter)
        })
        .map(|(name, _)| name.split('[').next().unwrap_or(name).to_owned())
        .collect()
}

/// Sigma's modifiers, to suggest one.
const MODIFIERS: [&str; 25] = [
    "contains",
    "startswith",
    "endswith",
    "all",
    "base64",
    "base64offset",
    "wide",
    "utf16le",
    "utf16be",
    "utf16",
    "windash",
    "re",
    "cidr",
    "cased",
    "exists",
    "expand",
    "fieldref",
    "gt",
    "gte",
    "lt",
    "lte",
    "neq",
    "i",
    "m",
    "s",
];

fn parse_problem(file: &Path, text: &str, message: &str) -> Problem {
    if let Some(modifier) = message
        .strip_prefix("Unknown modifier '")
        .and_then(|rest| rest.strip_suffix('\''))
    {
        let line = line_of_text(text, &format!("|{modifier}"));
        return Problem::in_file(file, line, format!("modifier {modifier:?} is not known"))
            .suggest(nearest(modifier, MODIFIERS));
    }
    Problem::in_file(file, line_in_message(message), message)
}

/// Ids are unique, and what filters and correlations refer to exists.
fn check_references(loaded: &mut Loaded) {
    let mut seen: HashMap<String, PathBuf> = HashMap::new();
    let mut names: Vec<String> = Vec::new();
    let infos = loaded
        .rules
        .iter()
        .map(|(_, info, ..)| info)
        .chain(loaded.correlations.iter().map(|(_, info)| info));
    for info in infos {
        names.extend([info.id.clone(), info.title.clone()]);
        if let Some(other) = seen.insert(info.id.clone(), info.file.clone()) {
            let message = format!("id {} is taken already, by {}", info.id, other.display());
            loaded
                .problems
                .push(Problem::in_file(&info.file, None, message));
        }
    }
    names.extend(
        loaded
            .rules
            .iter()
            .filter_map(|(rule, ..)| rule.name.clone()),
    );
    names.extend(
        loaded
            .correlations
            .iter()
            .filter_map(|(rule, _)| rule.name.clone()),
    );
    let known = |name: &String| names.contains(name);
    for (rule, info) in &loaded.correlations {
        for name in rule.rules.iter().filter(|name| !known(name)) {
            let message = format!("the correlation refers to a rule {name:?} that is not loaded");
            loaded.problems.push(
                Problem::in_file(&info.file, None, message)
                    .suggest(nearest(name, names.iter().map(String::as_str))),
            );
        }
    }
    // A filter may be meant for a pack that is not in use here, so this is no error. It only takes away: one that is
    // misspelt leaves an alert where none was wanted.
    for (filter, file) in &loaded.filters {
        let FilterRuleTarget::Specific(targets) = &filter.rules else {
            continue;
        };
        for name in targets.iter().filter(|name| !known(name)) {
            tracing::warn!(file = %file.display(), rule = %name, "the filter refers to a rule that is not loaded");
        }
    }
}
