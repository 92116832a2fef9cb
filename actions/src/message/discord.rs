//! Discord's form: one embed. Limits: title 256, description 4,096 (we keep 2,000), 25 fields with names of 256 and values
//! of 1,024, footer 2,048, 6,000 in all (docs: Discord developer portal, "Embed limits").

use detector::Severity;
use serde_json::{Value, json};

use super::Message;
use super::text::{escaped_within, length, rfc3339_millis};

/// Most fields.
pub const FIELDS: usize = 25;
/// Title, and name of a field.
pub const NAME: usize = 256;
/// Value of a field.
pub const VALUE: usize = 1024;
/// Description, and content.
pub const TEXT: usize = 2000;
/// All text of the embed.
pub const TOTAL: usize = 6000;

/// Body for the webhook: mentions are off, and text from outside is not markup.
pub fn embed(message: &Message, repeat: bool) -> Value {
    let mut room = TOTAL;
    let take = |text: &str, limit: usize, room: &mut usize| -> String {
        let piece = escaped_within(text, limit.min(*room), escape);
        *room -= length(&piece);
        piece
    };
    let title = match &message.alert {
        Some(id) => format!(
            "{} {id}: {}",
            message.severity.name().to_uppercase(),
            message.title
        ),
        None => message.title.clone(),
    };
    let title = take(&title, NAME, &mut room);
    let footer = take(&footer(message), 200, &mut room);
    // What a person must have, before what is good to have.
    let mut description = String::new();
    if repeat {
        description.push_str(&message.repeat_line());
        description.push_str(". ");
    }
    description.push_str(&message.why);
    let description = take(&description, TEXT, &mut room);

    let mut fields = Vec::new();
    let mut add = |name: &str, value: &str, limit: usize, room: &mut usize, code: bool| {
        if value.trim().is_empty() || fields.len() == FIELDS {
            return;
        }
        // Name, value, and the two backticks must fit, or the field is left out.
        // A field without a name is refused by the service.
        let name = if name.trim().is_empty() {
            "(field)"
        } else {
            name
        };
        let name = escaped_within(name, NAME, escape);
        let frame = length(&name) + if code { 2 } else { 0 };
        if *room < frame + 16 {
            return;
        }
        *room -= frame;
        let limit = limit.min(*room);
        let value = if code {
            let inner = escaped_within(value, limit.min(VALUE - 2), code_escape);
            *room -= length(&inner);
            format!("`{inner}`")
        } else {
            let value = escaped_within(value, limit, escape);
            *room -= length(&value);
            value
        };
        fields.push(json!({ "name": name, "value": value, "inline": false }));
    };
    if let Some(digest) = message.digest_line() {
        add("Digest", &digest, VALUE, &mut room, false);
    }
    add("Action taken", &message.action, 700, &mut room, false);
    if let Some(release) = &message.release {
        add("Release it with", release, VALUE, &mut room, true);
    }
    if let Some(container) = &message.container {
        let id = message.container_id.as_deref().unwrap_or("");
        add(
            "Container",
            &format!("{container} ({id})"),
            400,
            &mut room,
            false,
        );
    }
    add(
        "Agent",
        message.agent.as_deref().unwrap_or(""),
        300,
        &mut room,
        false,
    );
    add(
        "Image",
        message.image.as_deref().unwrap_or(""),
        300,
        &mut room,
        false,
    );
    add("How sure", &message.sure, 300, &mut room, false);
    add(
        "Process",
        message.process.as_deref().unwrap_or(""),
        VALUE,
        &mut room,
        false,
    );
    for (name, value) in &message.fields {
        add(name, value, 600, &mut room, false);
    }
    json!({
        "allowed_mentions": { "parse": [] },
        "embeds": [{
            "title": title,
            "description": description,
            "color": color(message.severity),
            "fields": fields,
            "footer": { "text": footer },
            "timestamp": rfc3339_millis(message.time_ms),
        }],
    })
}

/// The shortest form, for when the full one was refused.
pub fn minimal(message: &Message) -> Value {
    let id = message.alert.as_deref().unwrap_or("notice");
    let container = message.container.as_deref().unwrap_or("host");
    let mut text = format!(
        "{} {id} in {container}",
        message.severity.name().to_uppercase()
    );
    if let Some(release) = &message.release {
        text.push_str(". Frozen; release: ");
        text.push_str(release);
    }
    if let Some(digest) = message.digest_line() {
        text.push_str("; ");
        text.push_str(&digest);
    }
    text.push_str(". Details: ");
    text.push_str(&message.look_up());
    json!({ "allowed_mentions": { "parse": [] }, "content": escaped_within(&text, TEXT, escape) })
}

fn footer(message: &Message) -> String {
    let host = message
        .host
        .as_deref()
        .map(|h| format!(" on {h}"))
        .unwrap_or_default();
    format!("syscall-monitor{host} · {}", message.look_up())
}

fn color(severity: Severity) -> u32 {
    match severity {
        Severity::Critical => 0xD0_021B,
        Severity::High => 0xF5_A623,
        Severity::Medium => 0xF8_E71C,
        Severity::Low | Severity::Informational => 0x4A_90E2,
    }
}

/// Discord takes a backslash before any punctuation as "this is not markup". So every punctuation that begins something
/// anywhere in Discord's markdown gets one, the colon because it makes emoji, links and timestamps, the at sign because it
/// makes mentions, dot and dash and plus because they make lists.
fn escape(out: &mut String, c: char) {
    if is_active(c) {
        out.push('\\');
    }
    out.push(c);
}

pub(crate) fn is_active(c: char) -> bool {
    matches!(
        c,
        '\\' | '*'
            | '_'
            | '~'
            | '`'
            | '|'
            | '<'
            | '>'
            | '['
            | ']'
            | '('
            | ')'
            | '#'
            | '@'
            | ':'
            | '-'
            | '+'
            | '.'
            | '!'
            | '&'
    )
}

/// In a code span nothing is markup but the end of the span.
fn code_escape(out: &mut String, c: char) {
    out.push(if c == '`' { 'ˋ' } else { c });
}
