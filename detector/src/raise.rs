//! Makes an [`Alert`] of a match. Text is cut here: the whole of it is in the history, under the event's id.

use enricher::activity::Activity;
use rsigma_eval::{EvaluationResult, ResultBody};
use serde_json::Value;

use crate::alert::{Alert, AlertContainer};
use crate::rule::RuleInfo;

/// Bytes of all arguments that an alert carries.
const MAX_ARGV: usize = 4096;
/// Bytes of one matched value that an alert carries.
const MAX_VALUE: usize = 1024;
/// Fields, paths and ancestors that an alert carries.
const MAX_ITEMS: usize = 16;

/// Fields that matched with their values, each once, in the order in which the rule names them.
pub(crate) fn matched(result: &EvaluationResult) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut add = |field: &str, value: String| {
        if out.len() < MAX_ITEMS && !out.iter().any(|(f, v)| f == field && *v == value) {
            out.push((field.to_owned(), value));
        }
    };
    match &result.body {
        ResultBody::Detection(body) => body
            .matched_fields
            .iter()
            .for_each(|m| add(&m.field, text(&m.value))),
        ResultBody::Correlation(body) => {
            body.group_key
                .iter()
                .for_each(|(field, value)| add(field, cut(value, MAX_VALUE)));
            add(
                body.correlation_type.as_str(),
                body.aggregated_value.to_string(),
            );
        }
    }
    out
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text, MAX_VALUE),
        Value::Array(items) => cut(
            &items.iter().map(text).collect::<Vec<_>>().join(", "),
            MAX_VALUE,
        ),
        other => cut(&other.to_string(), MAX_VALUE),
    }
}

/// The text, or its start and `…`.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn arguments(argv: &[String]) -> Vec<String> {
    let mut left = MAX_ARGV;
    let mut out = Vec::new();
    for arg in argv {
        if left == 0 {
            out.push("…".to_owned());
            break;
        }
        out.push(cut(arg, left));
        left = left.saturating_sub(arg.len().max(1));
    }
    out
}

/// The alert of a match, without a number.
pub(crate) fn alert(rule: &RuleInfo, matched: Vec<(String, String)>, activity: &Activity) -> Alert {
    let process = &activity.process;
    Alert {
        id: 0,
        time_ms: activity.event.id.millis,
        severity: rule.level,
        response: rule.response,
        rule: rule.id.clone(),
        title: rule.title.clone(),
        description: rule.description.clone(),
        tags: rule.tags.clone(),
        event: activity.event.id.to_string(),
        matched,
        syscall: activity
            .syscall
            .as_ref()
            .map(|c| c.name.to_string())
            .unwrap_or_default(),
        errno: activity
            .syscall
            .as_ref()
            .and_then(|c| c.errno.as_ref())
            .map(|e| e.to_string()),
        container: activity.container.as_deref().map(|c| AlertContainer {
            id: c.id.clone(),
            name: c.display_name().to_owned(),
            image: c.image.clone(),
            profile: c.profile,
            agent: c.agent.clone(),
        }),
        attribution: activity.attribution,
        pid: process.pid,
        exe: process.exe.clone(),
        comm: process.comm.clone(),
        argv: arguments(&process.argv),
        uid: process.uid,
        user: process.user.clone(),
        ancestors: process.ancestors.iter().take(MAX_ITEMS).cloned().collect(),
        paths: activity.paths.iter().take(MAX_ITEMS).cloned().collect(),
        count: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("grün", 3), "gr…");
        assert_eq!(cut("grün", 4), "grü…");
        assert_eq!(cut("grün", 5), "grün");
    }

    #[test]
    fn a_long_command_line_does_not_make_a_long_alert() {
        let argv = vec!["a".repeat(4000), "b".repeat(4000), "c".repeat(4000)];
        let cut = arguments(&argv);
        assert_eq!(cut.len(), 3);
        assert!(cut.iter().map(String::len).sum::<usize>() < MAX_ARGV + 20);
        assert_eq!(cut[2], "…");
        assert_eq!(
            arguments(&["sh".into(), "-c".into(), "id".into()]),
            ["sh", "-c", "id"]
        );
    }
}
