//! Plain text, one line a fact: for logs, mail and commands.

use super::Message;
use super::text::rfc3339_millis;

/// Text with line breaks of our own only.
pub fn text(message: &Message, repeat: bool) -> String {
    let mut lines = Vec::new();
    let id = message
        .alert
        .as_deref()
        .map(|id| format!("{id}: "))
        .unwrap_or_default();
    lines.push(format!(
        "{} {id}{}",
        message.severity.name().to_uppercase(),
        message.title
    ));
    if repeat {
        lines.push(message.repeat_line());
    }
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{name}: {value}"));
        }
    };
    add("Action taken", &message.action);
    add("Release it with", message.release.as_deref().unwrap_or(""));
    if let Some(container) = &message.container {
        add(
            "Container",
            &format!(
                "{container} ({})",
                message.container_id.as_deref().unwrap_or("")
            ),
        );
    }
    add("Agent", message.agent.as_deref().unwrap_or(""));
    add("Image", message.image.as_deref().unwrap_or(""));
    add("Why", &message.why);
    add("How sure", &message.sure);
    add("Process", message.process.as_deref().unwrap_or(""));
    for (name, value) in &message.fields {
        add(name, value);
    }
    add("Digest", message.digest_line().as_deref().unwrap_or(""));
    add("Host", message.host.as_deref().unwrap_or(""));
    add("Time", &rfc3339_millis(message.time_ms));
    add("Details", &message.look_up());
    lines.join("\n") + "\n"
}
