//! The keys that a rule may have beside Sigma's own: `response` and `supersedes`.

use std::collections::HashMap;

use crate::problem::nearest;
use crate::rule::{RESPONSES, response};

/// Our additions to the Sigma rule format.
#[derive(Default)]
pub(crate) struct Custom {
    pub(crate) response: Option<crate::Response>,
    pub(crate) supersedes: Vec<String>,
}

impl Custom {
    const KEYS: [&'static str; 2] = ["response", "supersedes"];

    /// Generic over the value, whose type the parser does not export.
    pub(crate) fn read<V: YamlValue>(
        attributes: &HashMap<String, V>,
        mut problem: impl FnMut(String, &str, Option<&'static str>),
    ) -> Self {
        let mut custom = Self::default();
        for (key, value) in attributes {
            match key.as_str() {
                "response" => match value.text() {
                    Some(text) => match response(&text) {
                        Some(response) => custom.response = Some(response),
                        None => problem(
                            format!(
                                "response {text:?} is none; the responses are {}",
                                RESPONSES.join(", ")
                            ),
                            "response",
                            nearest(&text, RESPONSES),
                        ),
                    },
                    None => problem(
                        format!("response must be one of {}", RESPONSES.join(", ")),
                        "response",
                        None,
                    ),
                },
                "supersedes" => match value.texts() {
                    Some(ids) => custom.supersedes = ids,
                    None => problem(
                        "supersedes must be a list of rule ids".to_owned(),
                        "supersedes",
                        None,
                    ),
                },
                // Other keys belong to other tools; one that is nearly ours is a slip that must not pass.
                other => {
                    if let Some(meant) = nearest(other, Self::KEYS) {
                        problem(format!("key {other:?} is not known"), other, Some(meant));
                    }
                }
            }
        }
        custom
    }
}

/// What is needed of a YAML value.
pub(crate) trait YamlValue {
    fn text(&self) -> Option<String>;
    fn texts(&self) -> Option<Vec<String>>;
}

impl<T: serde::Serialize> YamlValue for T {
    fn text(&self) -> Option<String> {
        serde_json::to_value(self).ok()?.as_str().map(str::to_owned)
    }

    fn texts(&self) -> Option<Vec<String>> {
        match serde_json::to_value(self).ok()? {
            serde_json::Value::String(text) => Some(vec![text]),
            serde_json::Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect(),
            _ => None,
        }
    }
}
