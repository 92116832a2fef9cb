//! A Telegram that keeps its limits: `POST /botTOKEN/sendMessage` (core.telegram.org/bots/api: "sendMessage", "HTML style").

use std::ops::Deref;

use serde_json::{Value, json};

use crate::peer::{Manners, Peer, Verdict, units};

/// Token of its bot.
pub const TOKEN: &str = "1234567890:AAFakeTelegramToken_0123456789abcdefg";
/// Chat that the bot may write to.
pub const CHAT: i64 = -1_001_234_567_890;

/// The service; see [`Peer`] for script and what was received.
#[derive(Debug)]
pub struct Telegram {
    peer: Peer,
}

impl Telegram {
    /// Starts it on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self {
            peer: Peer::start(Ways),
        }
    }
}

impl Deref for Telegram {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

struct Ways;

impl Manners for Ways {
    fn look(&self, path: &str, _query: &str, content_type: &str, body: &Value) -> Verdict {
        let wrong = |status: u16, why: &str| {
            let answer = json!({ "ok": false, "error_code": status, "description": why });
            Verdict::Wrong(status, answer, why.to_owned())
        };
        let Some((token, method)) = path.strip_prefix("/bot").and_then(|p| p.split_once('/'))
        else {
            return wrong(404, "Not Found");
        };
        if token != TOKEN {
            return wrong(401, "Unauthorized");
        }
        if method != "sendMessage" {
            return wrong(404, "Not Found");
        }
        if !content_type.starts_with("application/json") {
            return wrong(400, "Bad Request: message text is empty");
        }
        let Some(object) = body.as_object() else {
            return wrong(400, "Bad Request: can't parse the body");
        };
        let keys = [
            "chat_id",
            "text",
            "parse_mode",
            "link_preview_options",
            "disable_notification",
            "protect_content",
            "reply_parameters",
            "reply_markup",
            "message_thread_id",
        ];
        if let Some(key) = object.keys().find(|k| !keys.contains(&k.as_str())) {
            return wrong(400, &format!("Bad Request: unknown key {key:?}"));
        }
        let chat = match object.get("chat_id") {
            Some(Value::Number(n)) => n.as_i64(),
            Some(Value::String(s)) => s.parse().ok(),
            _ => return wrong(400, "Bad Request: chat_id is empty"),
        };
        if chat != Some(CHAT) {
            return wrong(400, "Bad Request: chat not found");
        }
        let Some(text) = object
            .get("text")
            .and_then(Value::as_str)
            .filter(|t| !t.trim().is_empty())
        else {
            return wrong(400, "Bad Request: message text is empty");
        };
        let seen = match object.get("parse_mode").and_then(Value::as_str) {
            Some("HTML") => match html(text) {
                Ok(seen) => seen,
                Err(why) => {
                    return wrong(400, &format!("Bad Request: can't parse entities: {why}"));
                }
            },
            None => Seen {
                text: text.to_owned(),
                outside_code: text.to_owned(),
            },
            Some(mode) => {
                return wrong(400, &format!("Bad Request: unsupported parse_mode {mode}"));
            }
        };
        if units(&seen.text) > 4096 {
            return wrong(400, "Bad Request: message is too long");
        }
        if let Some(active) = active(&seen.outside_code) {
            return wrong(
                400,
                &format!("strict fake: {active:?} would become a link, mention, tag or command"),
            );
        }
        let plain = seen.text.clone();
        Verdict::Right {
            answer: Box::new(move |id| {
                let chat = json!({ "id": CHAT, "type": "supergroup", "title": "test" });
                let result = json!({ "message_id": id, "date": 1_780_000_000, "chat": chat, "text": seen.text });
                (200, json!({ "ok": true, "result": result }))
            }),
            text: Some(plain),
        }
    }

    fn refusal(&self, status: u16, retry_after: Option<f64>) -> Value {
        let description = match status {
            401 => "Unauthorized".to_owned(),
            403 => "Forbidden: bot was kicked from the supergroup chat".to_owned(),
            404 => "Not Found".to_owned(),
            429 => format!("Too Many Requests: retry after {}", seconds(retry_after)),
            _ => "Internal Server Error".to_owned(),
        };
        let mut answer = json!({ "ok": false, "error_code": status, "description": description });
        if status == 429 {
            answer["parameters"] = json!({ "retry_after": seconds(retry_after) });
        }
        answer
    }

    fn retry_after_header(&self) -> bool {
        false
    }
}

/// Telegram speaks in whole seconds.
fn seconds(retry_after: Option<f64>) -> u64 {
    retry_after.map_or(1, |s| s.ceil().clamp(0.0, 86_400.0) as u64)
}

struct Seen {
    /// All text, markup taken out.
    text: String,
    /// What of it Telegram looks through for links, mentions, tags and commands.
    outside_code: String,
}

/// Takes Telegram's HTML apart; an error is a message that Telegram refuses.
fn html(text: &str) -> Result<Seen, String> {
    let tags = [
        "b",
        "strong",
        "i",
        "em",
        "u",
        "ins",
        "s",
        "strike",
        "del",
        "code",
        "pre",
        "a",
        "tg-spoiler",
        "blockquote",
    ];
    let mut seen = Seen {
        text: String::new(),
        outside_code: String::new(),
    };
    let mut open: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut push = |c: char| {
            seen.text.push(c);
            if open.iter().any(|t| t == "code" || t == "pre") {
                seen.outside_code.push(' ');
            } else {
                seen.outside_code.push(c);
            }
        };
        match c {
            '<' => {
                let end = rest.find('>').ok_or("unclosed start tag")?;
                let inner = &rest[1..end];
                rest = &rest[end + 1..];
                if let Some(name) = inner.strip_prefix('/') {
                    match open.pop() {
                        Some(last) if last == name => {}
                        last => return Err(format!("end tag {name:?} does not match {last:?}")),
                    }
                } else {
                    let name = inner.split_whitespace().next().unwrap_or("");
                    if !tags.contains(&name) {
                        return Err(format!("unsupported start tag {name:?}"));
                    }
                    open.push(name.to_owned());
                }
                continue;
            }
            '&' => {
                let end = rest.find(';').ok_or("a & that begins no entity")?;
                match &rest[1..end] {
                    "lt" => push('<'),
                    "gt" => push('>'),
                    "amp" => push('&'),
                    "quot" => push('"'),
                    other => return Err(format!("unknown entity {other:?}")),
                }
                rest = &rest[end + 1..];
                continue;
            }
            '>' => return Err("a > that closes nothing".into()),
            c => push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    match open.pop() {
        Some(tag) => Err(format!("{tag:?} is not closed")),
        None => Ok(seen),
    }
}

/// A word that Telegram would make active by itself.
fn active(text: &str) -> Option<&str> {
    text.split_whitespace().find(|word| {
        let word = word.trim_matches(|c: char| matches!(c, '(' | ')' | ',' | '"'));
        word.len() > 1 && word.starts_with(['@', '#', '/', '$'])
            || word.contains("://")
            || word.contains("@")
            || word.starts_with("www.")
    })
}
