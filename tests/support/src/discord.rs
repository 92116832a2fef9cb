//! A Discord that keeps its limits: `POST /api/webhooks/ID/TOKEN` (Discord developer portal: "Execute Webhook", "Embed
//! limits"). Stricter than the real one where that finds faults: unknown keys are refused, and so is a message that does
//! not switch mentions off.

use std::ops::Deref;

use serde_json::{Map, Value, json};

use crate::peer::{Down, Manners, Peer, Verdict, units};

/// Id of its webhook.
pub const ID: &str = "1199000000000000001";
/// Token of its webhook.
pub const TOKEN: &str = "fake-discord-token_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdefghij";

/// The service; see [`Peer`] for script and what was received.
#[derive(Debug)]
pub struct Discord {
    peer: Peer,
}

impl Discord {
    /// Starts it on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self {
            peer: Peer::start(Ways),
        }
    }

    /// Starts it where it was down until now.
    pub fn start_at(place: Down) -> Self {
        Self {
            peer: Peer::start_at(place, Ways),
        }
    }

    /// Address of the webhook here.
    pub fn url(&self) -> String {
        format!("{}/api/webhooks/{ID}/{TOKEN}", self.peer.base_url())
    }

    /// Address as a user has it, to be used with [`Peer::base_url`].
    pub fn real_url() -> String {
        format!("https://discord.com/api/webhooks/{ID}/{TOKEN}")
    }
}

impl Deref for Discord {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

struct Ways;

impl Manners for Ways {
    fn look(&self, path: &str, query: &str, content_type: &str, body: &Value) -> Verdict {
        let wrong = |status: u16, message: &str, code: u32| {
            Verdict::Wrong(
                status,
                json!({ "message": message, "code": code }),
                message.to_owned(),
            )
        };
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api", "webhooks", id, token] | ["api", "v10", "webhooks", id, token] => {
                if *id != ID {
                    return wrong(404, "Unknown Webhook", 10015);
                }
                if *token != TOKEN {
                    return wrong(401, "Invalid Webhook Token", 50027);
                }
            }
            // "Edit Webhook Message": by PATCH, of a message that was taken.
            ["api", "webhooks", id, token, "messages", message] => {
                if *id != ID || *token != TOKEN {
                    return wrong(401, "Invalid Webhook Token", 50027);
                }
                if !message.starts_with("12000000000000") {
                    return wrong(404, "Unknown Message", 10008);
                }
            }
            _ => return wrong(404, "404: Not Found", 0),
        }
        if !content_type.starts_with("application/json") {
            return wrong(
                400,
                "Expected \"Content-Type\" header to be one of {'application/json'}",
                50035,
            );
        }
        if let Err(problem) = form(body) {
            let answer = json!({ "message": "Invalid Form Body", "code": 50035, "errors": { "_": problem } });
            return Verdict::Wrong(400, answer, problem);
        }
        // An edit is always answered with the message.
        let wait = self.patches(path) || query.split('&').any(|p| p == "wait=true");
        Verdict::Right {
            answer: Box::new(move |id| {
                if wait {
                    (
                        200,
                        json!({ "id": format!("12000000000000{id:05}"), "type": 0, "channel_id": "1", "webhook_id": ID }),
                    )
                } else {
                    (204, Value::Null)
                }
            }),
            text: None,
        }
    }

    fn refusal(&self, status: u16, retry_after: Option<f64>) -> Value {
        match (status, retry_after) {
            (429, seconds) => json!({
                "message": "You are being rate limited.", "retry_after": seconds.unwrap_or(1.0), "global": false,
            }),
            (401, _) => json!({ "message": "Invalid Webhook Token", "code": 50027 }),
            (403, _) => json!({ "message": "Missing Permissions", "code": 50013 }),
            (404, _) => json!({ "message": "Unknown Webhook", "code": 10015 }),
            _ => json!({ "message": format!("{status}: error"), "code": 0 }),
        }
    }

    fn retry_after_header(&self) -> bool {
        true
    }

    fn patches(&self, path: &str) -> bool {
        path.contains("/messages/")
    }
}

fn form(body: &Value) -> Result<(), String> {
    let body = object(body, "the body")?;
    known(
        body,
        "the body",
        &[
            "content",
            "username",
            "avatar_url",
            "tts",
            "embeds",
            "allowed_mentions",
            "flags",
        ],
    )?;
    let content = text(body, "content", 0, 2000)?.unwrap_or_default();
    let embeds = match body.get("embeds") {
        None => &[][..],
        Some(Value::Array(embeds)) => embeds.as_slice(),
        Some(_) => return Err("embeds is no list".into()),
    };
    if content.trim().is_empty() && embeds.is_empty() {
        return Err("Cannot send an empty message (50006)".into());
    }
    if embeds.len() > 10 {
        return Err("more than 10 embeds".into());
    }
    if body.get("allowed_mentions") != Some(&json!({ "parse": [] })) {
        return Err("allowed_mentions does not switch every mention off".into());
    }
    let mut total = 0;
    for embed in embeds {
        total += one(embed)?;
    }
    if total > 6000 {
        return Err(format!("Embed size exceeds maximum size of 6000: {total}"));
    }
    Ok(())
}

/// Checks one embed; gives its size.
fn one(embed: &Value) -> Result<usize, String> {
    let embed = object(embed, "an embed")?;
    let keys = [
        "title",
        "type",
        "description",
        "url",
        "timestamp",
        "color",
        "footer",
        "image",
        "thumbnail",
        "author",
        "fields",
    ];
    known(embed, "an embed", &keys)?;
    let mut size = 0;
    size += text(embed, "title", 0, 256)?.map_or(0, |t| units(&t));
    size += text(embed, "description", 0, 4096)?.map_or(0, |t| units(&t));
    if let Some(footer) = embed.get("footer") {
        let footer = object(footer, "footer")?;
        known(footer, "footer", &["text", "icon_url"])?;
        size += text(footer, "text", 1, 2048)?.map_or(0, |t| units(&t));
    }
    if embed.get("author").is_some_and(|a| !a.is_object()) {
        return Err("author is no object".into());
    }
    if let Some(color) = embed.get("color")
        && color.as_u64().is_none_or(|c| c > 0xFF_FFFF)
    {
        return Err(format!("color {color} is none"));
    }
    if let Some(time) = text(embed, "timestamp", 0, 64)? {
        let digits = time.get(..19).is_some_and(|t| {
            t.chars()
                .zip("0000-00-00T00:00:00".chars())
                .all(|(c, p)| if p == '0' { c.is_ascii_digit() } else { c == p })
        });
        if !digits || !(time.ends_with('Z') || time.contains('+')) {
            return Err(format!("timestamp {time:?} is not ISO 8601"));
        }
    }
    let fields = match embed.get("fields") {
        None => &[][..],
        Some(Value::Array(fields)) => fields.as_slice(),
        Some(_) => return Err("fields is no list".into()),
    };
    if fields.len() > 25 {
        return Err(format!("{} fields are more than 25", fields.len()));
    }
    for field in fields {
        let field = object(field, "a field")?;
        known(field, "a field", &["name", "value", "inline"])?;
        for (name, most) in [("name", 256), ("value", 1024)] {
            let value =
                text(field, name, 1, most)?.ok_or_else(|| format!("a field without {name}"))?;
            size += units(&value);
        }
        if field.get("inline").is_some_and(|i| !i.is_boolean()) {
            return Err("inline is no boolean".into());
        }
    }
    Ok(size)
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| format!("{what} is no object"))
}

fn known(object: &Map<String, Value>, what: &str, keys: &[&str]) -> Result<(), String> {
    match object.keys().find(|k| !keys.contains(&k.as_str())) {
        Some(key) => Err(format!("{what} has an unknown key {key:?}")),
        None => Ok(()),
    }
}

fn text(
    object: &Map<String, Value>,
    key: &str,
    least: usize,
    most: usize,
) -> Result<Option<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            // Discord takes blanks at both ends away before it counts.
            let count = units(text.trim());
            if count < least {
                return Err(format!("{key}: This field is required"));
            }
            if units(text) > most {
                return Err(format!(
                    "{key}: Must be {most} or fewer in length, is {}",
                    units(text)
                ));
            }
            Ok(Some(text.clone()))
        }
        Some(_) => Err(format!("{key} is no text")),
    }
}
