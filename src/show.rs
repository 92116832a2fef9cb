//! One event or alert in words, from its JSON (so that it is the same through the daemon and without it).

use std::fmt::Write;

use serde_json::Value;

use crate::output::visible;

fn text<'a>(json: &'a Value, pointer: &str) -> &'a str {
    json.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Time of an event or alert, milliseconds since the epoch.
pub fn millis(json: &Value) -> u64 {
    json.get("time")
        .and_then(Value::as_str)
        .and_then(|t| t.parse::<jiff::Timestamp>().ok())
        .and_then(|t| u64::try_from(t.as_millisecond()).ok())
        .unwrap_or(0)
}

/// Name of the container, its short id while the name is not known, `host` for none.
pub fn container_name(json: &Value) -> String {
    match json.get("container") {
        Some(c) if c.is_object() => {
            let name = c.get("name").and_then(Value::as_str);
            let id = c.get("id").and_then(Value::as_str).unwrap_or_default();
            name.unwrap_or_else(|| id.get(..12).unwrap_or(id))
                .to_owned()
        }
        _ => "host".to_owned(),
    }
}

/// `mount`, `mount EPERM`
pub fn call(json: &Value) -> String {
    let name = text(json, "/syscall/name");
    let errno = text(json, "/syscall/errno");
    if name.is_empty() {
        text(json, "/category").to_owned()
    } else if errno.is_empty() {
        name.to_owned()
    } else {
        format!("{name} {errno}")
    }
}

/// Arguments of the call in words, `dir=AT_FDCWD flags=O_WRONLY|O_CREAT`; empty where they say nothing.
pub fn arguments(json: &Value) -> String {
    let words = json
        .pointer("/syscall/interpreted")
        .and_then(Value::as_object);
    let words: Vec<_> = words
        .into_iter()
        .flatten()
        .map(|(name, meaning)| format!("{name}={}", meaning.as_str().unwrap_or_default()))
        .collect();
    words.join(" ")
}

/// What was done, in one line: the command of an exec, else program and object.
pub fn what(json: &Value) -> String {
    let argv: Vec<&str> = json
        .pointer("/process/argv")
        .and_then(Value::as_array)
        .map(|l| l.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let name = text(json, "/syscall/name");
    if matches!(name, "execve" | "execveat") && !argv.is_empty() {
        return argv.join(" ");
    }
    let mut out = text(json, "/process/comm").to_owned();
    if out.is_empty() {
        out = text(json, "/process/exe").to_owned();
    }
    let paths: Vec<&str> = json
        .get("paths")
        .and_then(Value::as_array)
        .map(|l| {
            l.iter()
                .filter(|p| text(p, "/nametype") != "PARENT")
                .map(|p| text(p, "/path"))
                .collect()
        })
        .unwrap_or_default();
    for path in paths {
        out.push(' ');
        out.push_str(path);
    }
    let address = text(json, "/socket/address");
    if !address.is_empty() {
        let _ = write!(out, " {address}");
        if let Some(port) = json.pointer("/socket/port").and_then(Value::as_u64) {
            let _ = write!(out, ":{port}");
        }
    }
    out
}

/// Everything about one event, for people.
pub fn event(json: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<11}{}", visible(value));
        }
    };
    line("event", text(json, "/id"));
    line("time", text(json, "/time"));
    let result = match json.pointer("/syscall/success").and_then(Value::as_bool) {
        Some(true) => {
            " = ".to_owned()
                + &json
                    .pointer("/syscall/exit")
                    .map(Value::to_string)
                    .unwrap_or_default()
        }
        Some(false) => format!(" refused, {}", text(json, "/syscall/errno")),
        None => String::new(),
    };
    line(
        "call",
        &format!(
            "{} ({}){result}",
            text(json, "/syscall/name"),
            text(json, "/syscall/arch")
        ),
    );
    line("arguments", &arguments(json));
    line("phase", text(json, "/phase"));
    if json.get("container").is_some_and(Value::is_object) {
        let certain = if json.pointer("/container/certain").and_then(Value::as_bool) == Some(true) {
            "certain"
        } else {
            "not certain"
        };
        line(
            "container",
            &format!(
                "{} {} ({}, told by {}, {certain})",
                container_name(json),
                text(json, "/container/id").get(..12).unwrap_or_default(),
                text(json, "/container/image"),
                text(json, "/container/source")
            ),
        );
        line(
            "agent",
            &[
                text(json, "/container/agent"),
                text(json, "/container/profile"),
            ]
            .join(" · "),
        );
    } else {
        line("container", "none (host)");
    }
    let n = |p: &str| json.pointer(p).map(Value::to_string).unwrap_or_default();
    line(
        "process",
        &format!(
            "pid {} ({}) {}, user {} ({})",
            n("/process/pid"),
            text(json, "/process/comm"),
            text(json, "/process/exe"),
            text(json, "/process/user"),
            n("/process/uid")
        ),
    );
    let argv: Vec<String> = json
        .pointer("/process/argv")
        .and_then(Value::as_array)
        .map(|l| l.iter().filter_map(Value::as_str).map(quote).collect())
        .unwrap_or_default();
    line("command", &argv.join(" "));
    line("directory", text(json, "/process/cwd"));
    let ancestors: Vec<String> = json
        .pointer("/process/ancestors")
        .and_then(Value::as_array)
        .map(|l| {
            l.iter()
                .map(|a| format!("{}({})", text(a, "/comm"), n_of(a, "pid")))
                .collect()
        })
        .unwrap_or_default();
    line("ancestors", &ancestors.join(" ← "));
    for path in json
        .get("paths")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let place = |what: &str, name: &str| match text(path, name) {
            "" => String::new(),
            place => format!("  ({what}: {place})"),
        };
        let elsewhere = place("leads to", "/real_path") + &place("host", "/host_path");
        line(
            "path",
            &format!(
                "{} {} inode {} dev {}{elsewhere}",
                text(path, "/nametype"),
                text(path, "/path"),
                n_of(path, "inode"),
                text(path, "/dev")
            ),
        );
    }
    if json.get("socket").is_some_and(Value::is_object) {
        line(
            "socket",
            &format!(
                "{} {} {}",
                text(json, "/socket/family"),
                text(json, "/socket/address"),
                n_of(&json["socket"], "port")
            ),
        );
    }
    let list = |p: &str| {
        json.pointer(p)
            .and_then(Value::as_array)
            .map(|l| {
                l.iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            })
            .unwrap_or_default()
    };
    line("keys", &list("/keys"));
    line("alerts", &list("/alerts"));
    let _ = writeln!(out, "records");
    for record in json
        .get("records")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let fields: Vec<String> = record
            .get("fields")
            .and_then(Value::as_object)
            .map(|f| {
                f.iter()
                    .map(|(k, v)| {
                        format!("{k}={}", v.as_str().map_or_else(|| v.to_string(), quote))
                    })
                    .collect()
            })
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "  {:<10} {}",
            text(record, "/type"),
            visible(&fields.join(" "))
        );
    }
    if json.get("complete").and_then(Value::as_bool) == Some(false) {
        let _ = writeln!(
            out,
            "This event is not complete: the kernel's last record of it did not come."
        );
    }
    out
}

fn n_of(json: &Value, name: &str) -> String {
    match json.get(name) {
        Some(Value::Null) | None => String::new(),
        Some(value) => value.to_string(),
    }
}

/// An argument as a shell would need it.
pub fn quote(arg: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=,@%+".contains(&b);
    if !arg.is_empty() && arg.bytes().all(plain) {
        arg.to_owned()
    } else {
        format!("'{}'", arg.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_exec_reads_as_its_command_and_a_mount_as_its_target() {
        let exec =
            json!({"syscall": {"name": "execve"}, "process": {"argv": ["ls", "-l"], "comm": "ls"}});
        assert_eq!(what(&exec), "ls -l");
        let mount = json!({"syscall": {"name": "mount", "errno": "EPERM"}, "process": {"comm": "mount"}, "paths": [{"path": "/mnt", "nametype": "NORMAL"}]});
        assert_eq!(
            (what(&mount).as_str(), call(&mount).as_str()),
            ("mount /mnt", "mount EPERM")
        );
    }

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote("--flag=/x"), "--flag=/x");
    }
}
