//! Our parser, encoder and printer against auditctl's.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use collector::rules::{FieldId, List, Rule, parse_rules};

struct Golden {
    rule: String,
    list: String,
    bytes: Vec<u8>,
}

fn golden() -> Vec<Golden> {
    let text = include_str!("rules/auditctl-3.0.9.txt");
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut all = vec![];
    while let Some(rule) = lines.next() {
        let field = |line: &str, name: &str| line.strip_prefix(name).expect(name).to_owned();
        let runs = lines.clone().nth(1).unwrap();
        let bytes = field(runs, "bytes ")
            .split(' ')
            .flat_map(|run| {
                let (byte, count) = run.split_once('*').unwrap_or((run, "1"));
                vec![u8::from_str_radix(byte, 16).unwrap(); count.parse().unwrap()]
            })
            .collect();
        all.push(Golden {
            rule: field(rule, "rule "),
            list: field(lines.next().unwrap(), "list "),
            bytes,
        });
        lines.next();
    }
    all
}

fn parse(line: &str) -> Rule {
    match parse_rules(line, "golden") {
        Ok(mut rules) => rules.remove(0).rule,
        Err(errors) => panic!("{line}: {}", errors[0]),
    }
}

#[test]
fn the_bytes_are_auditctls() {
    assert_eq!(golden().len(), 20);
    for golden in golden() {
        assert_eq!(
            parse(&golden.rule).encode(),
            golden.bytes,
            "{}",
            golden.rule
        );
        assert_eq!(
            Rule::decode(&golden.bytes),
            Ok(parse(&golden.rule)),
            "{}",
            golden.rule
        );
    }
}

#[test]
fn the_text_is_auditctls_but_for_two_of_its_mistakes() {
    for golden in golden() {
        let mut rule = parse(&golden.rule);
        // The kernel does not keep it.
        rule.set_prepend(false);
        let expected = golden
            .list
            // It prints a number for a type that it takes by name, and "=" whatever the comparison of exe is.
            .replace("filetype=32768", "filetype=file")
            .replace("exe=/usr/bin/runc", "exe!=/usr/bin/runc");
        assert_eq!(rule.to_string(), expected);
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    for golden in golden() {
        let rule = parse(&golden.rule);
        assert_eq!(parse(&rule.to_string()), rule, "{rule}");
    }
}

#[test]
fn the_rules_that_come_with_the_program_are_right_and_ours() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../audit-rules");
    let mut seen = 0;
    for profile in std::fs::read_dir(dir).unwrap() {
        let path = profile.unwrap().path().join("kernel.rules");
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let rules = match parse_rules(&text, &path.to_string_lossy()) {
            Ok(rules) => rules,
            Err(errors) => panic!(
                "{}",
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
        };
        for parsed in &rules {
            assert!(
                parsed.rule.is_ours(),
                "{}:{}: no key starts with sm-",
                path.display(),
                parsed.line
            );
            assert_ne!(
                parsed.rule.list(),
                List::Exclude,
                "{}:{}: nothing is excluded by default",
                path.display(),
                parsed.line
            );
            assert_eq!(parsed.doubtful, None, "{}:{}", path.display(), parsed.line);
            // Rules with path= are kept by inode.
            let narrow =
                !parsed.rule.syscalls().is_all() || parsed.rule.text_of(FieldId::PATH).is_some();
            assert!(
                narrow,
                "{}:{}: every call of the host walks this rule",
                path.display(),
                parsed.line
            );
        }
        seen += rules.len();
    }
    assert!(seen > 20, "{seen}");
}
