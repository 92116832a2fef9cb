//! A Telegram that keeps its limits: `POST /botTOKEN/sendMessage` (core.telegram.org/bots/api: "sendMessage", "HTML style"), and the
//! buttons below a message: `getUpdates` ("Getting updates": what an offset passes is confirmed and never comes again, what is not
//! confirmed comes again), `answerCallbackQuery`.

use std::ops::Deref;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::peer::{Manners, Peer, Verdict, units};

/// Token of its bot.
pub const TOKEN: &str = "1234567890:AAFakeTelegramToken_0123456789abcdefg";
/// Chat that the bot may write to.
pub const CHAT: i64 = -1_001_234_567_890;

/// The service; see [`Peer`] for script and what was received.
#[derive(Debug)]
pub struct Telegram {
    peer: Peer,
    bot: Arc<Mutex<Bot>>,
}

/// What the bot's owner does not see.
#[derive(Debug, Default)]
struct Bot {
    updates: Vec<(i64, Value)>,
    last_update: i64,
    answers: Vec<(String, String)>,
}

fn lock(bot: &Mutex<Bot>) -> std::sync::MutexGuard<'_, Bot> {
    // A test that panicked elsewhere must not hide what was received.
    bot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Telegram {
    /// Starts it on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let bot = Arc::new(Mutex::new(Bot {
            last_update: 815_000_000,
            ..Bot::default()
        }));
        Self {
            peer: Peer::start(Ways(bot.clone())),
            bot,
        }
    }

    /// Somebody presses a button that carries this; gives the id of the press, to find its answer.
    pub fn press(&self, user: i64, data: &str) -> String {
        self.press_in(CHAT, user, data)
    }

    /// The same below a message of another chat.
    pub fn press_in(&self, chat: i64, user: i64, data: &str) -> String {
        let mut bot = lock(&self.bot);
        bot.last_update += 1;
        let (update, id) = (bot.last_update, format!("callback-{}", bot.last_update));
        let press = json!({
            "update_id": update,
            "callback_query": {
                "id": id,
                "from": { "id": user, "is_bot": false, "first_name": "Some\u{202e}body", "username": "somebody" },
                "message": { "message_id": 1, "date": 1_780_000_000, "chat": { "id": chat, "type": "supergroup", "title": "test" } },
                "chat_instance": "1",
                "data": data,
            },
        });
        bot.updates.push((update, press));
        id
    }

    /// What the button with this label below the newest message carries.
    ///
    /// # Panics
    /// When no message has such a button.
    pub fn button(&self, label: &str) -> String {
        let with = |r: &crate::Received| {
            let keyboard = &r.body["reply_markup"]["inline_keyboard"];
            let rows = keyboard.as_array().into_iter().flatten();
            rows.filter_map(Value::as_array)
                .flatten()
                .find(|b| b["text"] == label)
                .and_then(|b| b["callback_data"].as_str().map(str::to_owned))
        };
        match self.accepted().iter().rev().find_map(with) {
            Some(data) => data,
            None => panic!("no message has a button {label:?}"),
        }
    }

    /// Text that answered a press.
    pub fn answer_to(&self, press: &str) -> Option<String> {
        let bot = lock(&self.bot);
        let found = bot.answers.iter().find(|(id, _)| id == press);
        found.map(|(_, text)| text.clone())
    }

    /// Presses that were not confirmed.
    pub fn unconfirmed(&self) -> usize {
        lock(&self.bot).updates.len()
    }
}

impl Deref for Telegram {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

struct Ways(Arc<Mutex<Bot>>);

impl Ways {
    /// `getUpdates` and `answerCallbackQuery`.
    fn of_presses(&self, method: &str, body: &Value) -> Result<Verdict, String> {
        let body = body.as_object().ok_or("can't parse the body")?;
        let known = |keys: &[&str]| match body.keys().find(|k| !keys.contains(&k.as_str())) {
            Some(key) => Err(format!("unknown key {key:?}")),
            None => Ok(()),
        };
        let number = |key: &str| match body.get(key) {
            None => Ok(None),
            Some(value) => value
                .as_i64()
                .map(Some)
                .ok_or(format!("{key} is no number")),
        };
        if method == "answerCallbackQuery" {
            known(&[
                "callback_query_id",
                "text",
                "show_alert",
                "url",
                "cache_time",
            ])?;
            let id = body.get("callback_query_id").and_then(Value::as_str);
            let id =
                id.ok_or("query is too old and response timeout expired or query ID is invalid")?;
            let text = body.get("text").and_then(Value::as_str).unwrap_or_default();
            if units(text) > 200 {
                return Err("MESSAGE_TOO_LONG".into());
            }
            lock(&self.0).answers.push((id.to_owned(), text.to_owned()));
            return Ok(Verdict::Aside {
                ask: Box::new(|| Some(json!({ "ok": true, "result": true }))),
                wait: Duration::ZERO,
                otherwise: Value::Null,
            });
        }
        known(&["offset", "limit", "timeout", "allowed_updates"])?;
        let limit = number("limit")?.unwrap_or(100);
        if !(1..=100).contains(&limit) {
            return Err("limit is between 1 and 100".into());
        }
        let wait = u64::try_from(number("timeout")?.unwrap_or(0)).map_err(|e| e.to_string())?;
        if let Some(offset) = number("offset")? {
            lock(&self.0).updates.retain(|(id, _)| *id >= offset);
        }
        let bot = self.0.clone();
        let most = usize::try_from(limit).unwrap_or(100);
        Ok(Verdict::Aside {
            ask: Box::new(move || {
                let bot = lock(&bot);
                let list: Vec<Value> = bot
                    .updates
                    .iter()
                    .take(most)
                    .map(|(_, u)| u.clone())
                    .collect();
                (!list.is_empty()).then(|| json!({ "ok": true, "result": list }))
            }),
            wait: Duration::from_secs(wait),
            otherwise: json!({ "ok": true, "result": [] }),
        })
    }
}

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
        if matches!(method, "getUpdates" | "answerCallbackQuery") {
            let refused = |why: String| wrong(400, &format!("Bad Request: {why}"));
            return self.of_presses(method, body).unwrap_or_else(refused);
        }
        if !matches!(method, "sendMessage" | "editMessageText") {
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
            "message_id",
        ];
        if let Some(key) = object.keys().find(|k| !keys.contains(&k.as_str())) {
            return wrong(400, &format!("Bad Request: unknown key {key:?}"));
        }
        let edited = object.get("message_id").and_then(Value::as_i64);
        if (method == "editMessageText") != edited.is_some_and(|id| id > 0) {
            return wrong(400, "Bad Request: message to edit not found");
        }
        if let Some(Err(why)) = object.get("reply_markup").map(keyboard) {
            return wrong(400, &format!("Bad Request: {why}"));
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

/// Checks `InlineKeyboardMarkup`.
fn keyboard(markup: &Value) -> Result<(), String> {
    let only = |object: &Map<String, Value>, keys: &[&str]| {
        object.keys().all(|k| keys.contains(&k.as_str()))
    };
    let markup = markup.as_object().filter(|m| only(m, &["inline_keyboard"]));
    let rows = markup.and_then(|m| m.get("inline_keyboard")?.as_array());
    for row in rows.ok_or("object expected as reply markup")? {
        for button in row.as_array().ok_or("a row is no list")? {
            let button = button
                .as_object()
                .filter(|b| only(b, &["text", "callback_data"]))
                .ok_or("a button is no object, or has unknown keys")?;
            let field = |key: &str| button.get(key).and_then(Value::as_str).unwrap_or_default();
            if field("text").trim().is_empty() {
                return Err("text buttons are not allowed to be empty".into());
            }
            if !(1..=64).contains(&field("callback_data").len()) {
                return Err("BUTTON_DATA_INVALID".into());
            }
        }
    }
    Ok(())
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
