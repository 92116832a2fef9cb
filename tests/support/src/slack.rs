//! A Slack that keeps its limits: an incoming webhook (docs.slack.dev: "Sending messages using incoming webhooks", "Blocks"). Stricter than
//! the real one: only text of type `plain_text` is taken, and markup must be switched off.

use std::ops::Deref;

use serde_json::{Map, Value, json};

use crate::peer::{Manners, Peer, Verdict, units};

/// Path of its webhook, with the token in it.
pub const PATH: &str = "/services/T00000000/B00000000/FakeSlackTokenAbCdEfGhIj";

/// The service; see [`Peer`] for script and what was received.
#[derive(Debug)]
pub struct Slack {
    peer: Peer,
}

impl Slack {
    /// Starts it on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self {
            peer: Peer::start(Ways),
        }
    }

    /// Address as a user has it, to be used with [`Peer::base_url`].
    pub fn real_url() -> String {
        format!("https://hooks.slack.com{PATH}")
    }
}

impl Deref for Slack {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

struct Ways;

impl Manners for Ways {
    fn look(&self, path: &str, _query: &str, content_type: &str, body: &Value) -> Verdict {
        if path != PATH {
            return Verdict::Wrong(404, "no_service".into(), "no_service".into());
        }
        if !content_type.starts_with("application/json") {
            return Verdict::Wrong(400, "invalid_payload".into(), "no JSON".into());
        }
        match form(body) {
            Ok(text) => Verdict::Right {
                answer: Box::new(|_| (200, "ok".into())),
                text: Some(text),
            },
            Err(problem) => Verdict::Wrong(400, "invalid_blocks".into(), problem),
        }
    }

    fn refusal(&self, status: u16, _retry_after: Option<f64>) -> Value {
        match status {
            403 => "action_prohibited",
            404 => "no_service",
            410 => "channel_is_archived",
            429 => "rate_limited",
            _ => "rollup_error",
        }
        .into()
    }

    fn retry_after_header(&self) -> bool {
        true
    }
}

/// Checks a message; gives the text as people see it.
fn form(body: &Value) -> Result<String, String> {
    let body = body.as_object().ok_or("the body is no object")?;
    let keys = [
        "text",
        "mrkdwn",
        "link_names",
        "unfurl_links",
        "unfurl_media",
        "blocks",
    ];
    if let Some(key) = body.keys().find(|k| !keys.contains(&k.as_str())) {
        return Err(format!("an unknown key {key:?}"));
    }
    let text = body.get("text").and_then(Value::as_str).unwrap_or_default();
    if text.trim().is_empty() || units(text) > 4000 {
        return Err(format!("text has {} characters", units(text)));
    }
    if body.get("mrkdwn") != Some(&json!(false)) {
        return Err("mrkdwn is not switched off".into());
    }
    let bare = ["&amp;", "&lt;", "&gt;"]
        .iter()
        .fold(text.to_owned(), |t, e| t.replace(e, ""));
    if bare.contains(['<', '>', '&']) {
        return Err("text has a < > or & that is not escaped: a mention or a link".into());
    }
    let blocks = match body.get("blocks") {
        None => return Ok(text.to_owned()),
        Some(blocks) => blocks.as_array().ok_or("blocks is no list")?,
    };
    if blocks.is_empty() || blocks.len() > 50 {
        return Err(format!("{} blocks", blocks.len()));
    }
    let mut seen = String::new();
    for block in blocks {
        let block = block.as_object().ok_or("a block is no object")?;
        only(block, &["type", "text"])?;
        let most = match block.get("type").and_then(Value::as_str) {
            Some("header") => 150,
            Some("section") => 3000,
            other => return Err(format!("a block of type {other:?}")),
        };
        let inner = block.get("text").and_then(Value::as_object);
        let inner = inner.ok_or("a block without text")?;
        only(inner, &["type", "text", "emoji"])?;
        if inner.get("type") != Some(&json!("plain_text"))
            || inner.get("emoji") != Some(&json!(false))
        {
            return Err("only plain_text without emoji is taken".into());
        }
        let text = inner
            .get("text")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if text.trim().is_empty() || units(text) > most {
            return Err(format!("a text of {} characters", units(text)));
        }
        seen.push_str(text);
        seen.push('\n');
    }
    Ok(seen)
}

fn only(object: &Map<String, Value>, keys: &[&str]) -> Result<(), String> {
    match object.keys().find(|k| !keys.contains(&k.as_str())) {
        Some(key) => Err(format!("an unknown key {key:?}")),
        None => Ok(()),
    }
}
