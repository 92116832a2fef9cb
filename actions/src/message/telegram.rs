//! Telegram's form: HTML, at most 4,096 UTF-16 units after the markup is taken out; we keep it below that with the markup.
//!
//! Telegram makes links, mentions, hash tags and commands out of plain words, but never inside `<code>`: so everything
//! that is not our own word stands in one.

use serde_json::{Value, json};

use super::Message;
use super::text::{escaped_within, length};

/// Longest text.
pub const TEXT: usize = 4096;

/// Text in Telegram's HTML.
pub fn html(message: &Message, repeat: bool) -> String {
    // Parts in the order of their worth; the order on the page is the same.
    let mut out = Page::default();
    let id = message.alert.as_deref().unwrap_or("");
    out.line(
        &format!("<b>{}</b>", message.severity.name().to_uppercase()),
        &[id, &message.title],
        400,
    );
    if repeat {
        out.line("Note", &[&message.repeat_line()], 200);
    }
    if let Some(digest) = message.digest_line() {
        out.line("Digest", &[&digest], 1200);
    }
    out.line("Action taken", &[&message.action], 600);
    if let Some(release) = &message.release {
        out.line("Release it with", &[release], 600);
    }
    if let Some(container) = &message.container {
        out.line(
            "Container",
            &[container, message.container_id.as_deref().unwrap_or("")],
            400,
        );
    }
    out.line("Agent", &[message.agent.as_deref().unwrap_or("")], 300);
    out.line("Image", &[message.image.as_deref().unwrap_or("")], 300);
    out.line("Why", &[&message.why], 700);
    out.line("How sure", &[&message.sure], 300);
    out.line("Process", &[message.process.as_deref().unwrap_or("")], 900);
    let host = message.host.as_deref().unwrap_or("");
    let tail = format!("Details: {}", code(&message.look_up(), 200));
    out.reserve = length(&tail) + 1;
    out.line("Host", &[host], 200);
    for (name, value) in &message.fields {
        let name = code(name, 120);
        out.line(&name, &[value], 400);
    }
    out.text.push_str(&tail);
    out.text
}

/// Body of `sendMessage`.
pub fn body(chat_id: &str, text: &str, message: &Message) -> Value {
    let mut body = json!({
        "chat_id": chat_id,
        "text": text,
        "parse_mode": "HTML",
        "link_preview_options": { "is_disabled": true },
    });
    if let Some(buttons) = &message.buttons {
        let row: Vec<Value> = buttons
            .verbs
            .iter()
            .map(|v| json!({ "text": v.label(), "callback_data": buttons.data(*v) }))
            .collect();
        body["reply_markup"] = json!({ "inline_keyboard": [row] });
    }
    body
}

/// The shortest form, without markup, for when the full one was refused.
pub fn minimal(message: &Message) -> String {
    let id = message.alert.as_deref().unwrap_or("notice");
    let release = message
        .release
        .as_deref()
        .map(|r| format!(" Frozen; release: {}", code(r, 400)))
        .unwrap_or_default();
    let digest = message
        .digest_line()
        .map(|d| format!(" {}.", code(&d, 1200)))
        .unwrap_or_default();
    format!(
        "{} {id}.{release}{digest} Details: {}",
        message.severity.name().to_uppercase(),
        code(&message.look_up(), 200)
    )
}

#[derive(Default)]
struct Page {
    text: String,
    used: usize,
    reserve: usize,
}

impl Page {
    /// `label: <code>…</code> <code>…</code>`; left out when it is empty or does not fit.
    fn line(&mut self, label: &str, values: &[&str], limit: usize) {
        let values: Vec<String> = values
            .iter()
            .filter(|v| !v.is_empty())
            .map(|v| code(v, limit))
            .collect();
        if values.is_empty() {
            return;
        }
        let line = format!("{label}: {}\n", values.join(" "));
        let size = length(&line);
        // 160: room for the tail while it is not known yet.
        if self.used + size + self.reserve.max(160) <= TEXT {
            self.used += size;
            self.text.push_str(&line);
        }
    }
}

fn code(text: &str, limit: usize) -> String {
    format!("<code>{}</code>", escaped_within(text, limit, escape))
}

fn escape(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        c => out.push(c),
    }
}
