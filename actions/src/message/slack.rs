//! Slack's form: a header of 150 characters, sections of 3,000, 50 blocks, all of them `plain_text`.

use serde_json::{Value, json};

use super::text::{cut, escaped_within};
use super::{Message, plain};

/// Header.
pub const HEADER: usize = 150;
/// Text of a section.
pub const SECTION: usize = 3000;
/// Text beside the blocks.
pub const TEXT: usize = 4000;
/// Sections; more would fit, and nobody would read them.
const SECTIONS: usize = 10;

/// Body for the webhook.
pub fn body(message: &Message, repeat: bool) -> Value {
    let text = plain::text(message, repeat);
    let mut lines = text.lines();
    let header = cut(lines.next().unwrap_or_default(), HEADER);
    let mut blocks = vec![json!({ "type": "header", "text": plain_text(&header) })];
    let mut section = String::new();
    let mut close = |section: &mut String| {
        if !section.trim().is_empty() && blocks.len() <= SECTIONS {
            blocks.push(json!({ "type": "section", "text": plain_text(section) }));
        }
        section.clear();
    };
    for line in lines {
        let line = cut(line, SECTION - 1);
        if super::text::length(&section) + super::text::length(&line) + 1 > SECTION {
            close(&mut section);
        }
        section.push_str(&line);
        section.push('\n');
    }
    close(&mut section);
    json!({
        "text": minimal(message),
        "mrkdwn": false,
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
        "blocks": blocks,
    })
}

/// The shortest form.
pub fn minimal(message: &Message) -> String {
    let id = message.alert.as_deref().unwrap_or("notice");
    let container = message.container.as_deref().unwrap_or("host");
    let mut text = format!(
        "{} {id} in {container}",
        message.severity.name().to_uppercase()
    );
    if let Some(digest) = message.digest_line() {
        text.push_str("; ");
        text.push_str(&digest);
    }
    text.push_str(". Details: ");
    text.push_str(&message.look_up());
    escaped_within(&text, TEXT, |out, c| match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    })
}

fn plain_text(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}
