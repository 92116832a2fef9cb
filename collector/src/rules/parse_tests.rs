//! Tests of the rule parser.

use super::*;

fn one(line: &str) -> Rule {
    match parse_rules(line, "test.rules") {
        Ok(rules) if rules.len() == 1 => rules[0].rule.clone(),
        other => panic!("{line}: {other:?}"),
    }
}

fn error(line: &str) -> RuleError {
    parse_rules(line, "test.rules").map(|rules| format!("{rules:?}")).expect_err(line).remove(0)
}
