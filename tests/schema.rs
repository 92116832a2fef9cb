//! What `replay` prints is what docs/event.schema.json says, on the golden capture.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use serde_json::Value;

#[test]
fn every_event_of_the_capture_keeps_to_the_schema() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema: Value =
        serde_json::from_slice(&std::fs::read(root.join("docs/event.schema.json")).unwrap())
            .unwrap();
    let corpus = std::fs::read_dir(root.join("collector/tests/corpus")).unwrap();
    let mut logs: Vec<_> = corpus
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "log" || e == "zst"))
        .collect();
    logs.sort();
    let mut events = 0;
    for log in logs {
        let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_syscall-monitor"))
            .arg("replay")
            .arg(&log)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            check(&schema, &event, "");
            events += 1;
        }
    }
    assert!(events > 11_000, "only {events} events in the captures");
}

/// The part of JSON Schema that the file uses: type, properties, required, items, enum, const; nothing undescribed.
fn check(schema: &Value, value: &Value, at: &str) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match &schema["type"] {
        Value::String(t) => assert_eq!(t, kind, "{at}"),
        Value::Array(list) => assert!(list.iter().any(|t| t == kind), "{at} is {kind}"),
        _ => {}
    }
    if let Some(constant) = schema.get("const") {
        assert_eq!(value, constant, "{at}");
    }
    if let Some(list) = schema["enum"].as_array() {
        assert!(list.contains(value), "{at} is {value}");
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{at}/{n}"));
    }
    if let (Some(object), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, inner) in object {
            let Some(inner_schema) = known.get(name) else {
                panic!("{at}/{name} is not in the schema")
            };
            check(inner_schema, inner, &format!("{at}/{name}"));
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            assert!(object.contains_key(name), "{at}/{name} is missing");
        }
    }
}
