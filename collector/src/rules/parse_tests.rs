//! Tests of the rule parser.

use super::*;

fn one(line: &str) -> Rule {
    match parse_rules(line, "test.rules") {
        Ok(rules) if rules.len() == 1 => rules[0].rule.clone(),
        other => panic!("{line}: {other:?}"),
    }
}

fn error(line: &str) -> RuleError {
    parse_rules(line, "test.rules")
        .map(|rules| format!("{rules:?}"))
        .expect_err(line)
        .remove(0)
}

#[test]
fn both_orders_of_list_and_action_are_one_rule() {
    let a = one("-a always,exit -F arch=b64 -S execve -k sm-exec");
    assert_eq!(a, one("-a exit,always -S execve -F arch=b64 -k sm-exec"));
    assert_eq!(a.keys().collect::<Vec<_>>(), [b"sm-exec"]);
    assert!(a.is_ours() && !a.prepend());
    assert!(one("-A always,exit -F arch=b64 -S execve").prepend());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn names_mean_the_numbers_of_the_rules_architecture() {
    for (name, b64, b32) in [
        ("mount", 165, 21),
        ("fsopen", 430, 430),
        ("move_mount", 429, 429),
        ("open_tree", 428, 428),
        ("mount_setattr", 442, 442),
        ("openat2", 437, 437),
        ("pidfd_getfd", 438, 438),
        ("process_vm_writev", 311, 348),
        ("fchmodat2", 452, 452),
        ("open_tree_attr", 467, 467),
        ("io_uring_setup", 425, 425),
    ] {
        for (arch, number) in [("b64", b64), ("b32", b32)] {
            let rule = one(&format!("-a always,exit -F arch={arch} -S {name}"));
            assert_eq!(
                rule.syscalls().iter().collect::<Vec<_>>(),
                [number],
                "{arch} {name}"
            );
        }
    }
    assert_eq!(
        one("-a always,exit -F arch=aarch64 -S mount")
            .syscalls()
            .iter()
            .collect::<Vec<_>>(),
        [40]
    );
    assert!(
        error("-a always,exit -F arch=aarch64 -S open")
            .message
            .contains("no system call")
    );
}

#[test]
fn operations_of_io_uring_have_their_own_names_and_list() {
    let rule = one("-a always,io_uring -S openat,openat2 -F uid!=0 -k sm-uring");
    assert_eq!(rule.list(), List::IoUring);
    assert_eq!(rule.syscalls().iter().collect::<Vec<_>>(), [18, 28]);
    assert_eq!(rule.encode()[0], 7);
    assert_eq!(
        rule.to_string(),
        "-a always,io_uring -S openat,openat2 -F uid!=0 -F key=sm-uring"
    );
    assert!(
        error("-a always,io_uring -S openat -F perm=w")
            .message
            .contains("no meaning")
    );
}

#[test]
fn comments_blank_lines_and_optional_rules_are_told_apart() {
    let text = "# a file\n\n# optional: not every host has it\n-w /etc/x -p wa -k sm-a\n  -w /etc/y -p r -k sm-b  \n# optional\n\n-w /etc/z -k k\n";
    let rules = parse_rules(text, "f").unwrap();
    assert_eq!(
        rules
            .iter()
            .map(|rule| (rule.line, rule.optional))
            .collect::<Vec<_>>(),
        [(4, true), (5, false), (8, false)]
    );
}

#[test]
fn quotes_keep_blanks_together() {
    let rule = one("-w \"/srv/my files\" -p wa -k 'sm-x y'");
    assert_eq!(rule.text_of(FieldId::PATH), Some(&b"/srv/my files"[..]));
    assert_eq!(rule.keys().collect::<Vec<_>>(), [b"sm-x y"]);
    assert_eq!(one(&rule.to_string()), rule);
    assert_eq!(error("-w \"/srv").column, 4);
}

#[test]
fn settings_and_commands_are_refused_with_the_reason() {
    for (line, reason) in [
        ("-D", "rules of others"),
        ("-b 8192", "is a setting"),
        ("-f 2", "is a setting"),
        ("-e 2", "is a setting"),
        ("-r 100", "is a setting"),
        ("--backlog_wait_time 0", "is a setting"),
        ("-c", "hides errors"),
        ("-d always,exit", "is a command"),
        ("-Z", "no option"),
    ] {
        assert!(
            error(line).message.contains(reason),
            "{line}: {}",
            error(line)
        );
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_hardly_meant_is_taken_and_said() {
    let doubt = |line: &str| parse_rules(line, "f").unwrap().remove(0).doubtful;
    let without_arch = "-a always,exit -S execve";
    assert_eq!(
        one(without_arch).syscalls().iter().collect::<Vec<_>>(),
        [59],
        "like auditctl"
    );
    assert!(doubt(without_arch).unwrap().contains("arch="));
    assert!(doubt("-a always,exit -F uid=7").unwrap().contains("-S"));
    assert_eq!(doubt("-a always,exit -F arch=b64 -S execve"), None);
    assert_eq!(doubt("-a always,exit -F path=/etc/passwd -F perm=wa"), None);
    assert_eq!(doubt("-a never,exclude -F msgtype=CWD"), None);
}

#[test]
fn a_call_of_x32_cannot_be_named_and_a_directory_keeps_its_slash() {
    let wrong = error("-a always,exit -F arch=b64 -S 0x4000003b -k sm-x").message;
    assert!(wrong.contains("x32"), "{wrong}");
    let rule = one("-a always,exit -F arch=b64 -S open -F dir=/etc/");
    assert_eq!(rule.text_of(FieldId::DIR), Some(&b"/etc/"[..]));
    assert_eq!(
        one("-w /etc/ -k x").text_of(FieldId::DIR),
        Some(&b"/etc"[..])
    );
}

#[test]
fn an_error_names_its_place_and_what_was_meant() {
    for (line, column, suggestion) in [
        (
            "-a always,exit -F arch=b64 -S exceve -k x",
            31,
            Some("execve"),
        ),
        (
            "-a always,exit -F arch=b64 -S open,mont -k x",
            36,
            Some("mount"),
        ),
        ("-a always,exit -F arch=b46 -S open", 24, Some("b64")),
        (
            "-a always,exit -F arch=b64 -S open -F pth=/x",
            39,
            Some("path"),
        ),
        (
            "-a always,exit -F arch=b64 -S open -F exit=-EACCESS",
            44,
            Some("-EACCES"),
        ),
        ("-a always,exti -F pid=1", 4, Some("exit")),
        ("-a always,entry -F pid=1", 4, Some("exit")),
        ("-a alwas,exit -F pid=1", 4, Some("always")),
        ("-a always,exclude -F msgtype=CWDD", 30, Some("CWD")),
        (
            "-a always,exit -F arch=b64 -S open -F success=yes",
            47,
            Some("1"),
        ),
        (
            "-a always,exit -F arch=b64 -S execve -C uid!=euidd",
            41,
            Some("uid!=euid"),
        ),
        ("-w relative", 4, None),
        ("-w /a/../b", 4, None),
        ("-w /a -p wq", 10, None),
        ("-a always,exit -F arch=b64 -S 2048", 31, None),
        ("-a always,exit -F arch=b64 -S 2040", 31, None),
        ("-a always,exit -F arch", 19, None),
        ("-a always,exit -F uid&3", 22, None),
        ("-a always,exit -F path!=/x", 23, None),
        ("-a always,exit -F pid=4294967296", 23, None),
        ("-a always,exit -F uid=nobody-here", 23, None),
        ("-a always,exit -F msgtype=CWD", 19, None),
        ("-a always,exclude -S open", 22, None),
        ("-a always,exit", 4, None),
        ("-a always,exit -S", 16, None),
        ("-k x", 1, None),
        ("-a always,exit -F path=/x -F dir=/y", 30, None),
    ] {
        let error = error(line);
        assert_eq!(
            (error.column, error.suggestion.as_deref()),
            (column, suggestion),
            "{line}: {error}"
        );
    }
    let error = error("-a always,exit -F arch=b64 -S exceve");
    assert_eq!(
        error.to_string(),
        "test.rules:1:31: x86_64 has no system call \"exceve\"; did you mean \"execve\"?"
    );
}

#[test]
fn every_mistake_of_a_file_is_reported() {
    let errors = parse_rules("-w x\n-w /ok\n-b 1\n", "f").unwrap_err();
    assert_eq!(errors.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn users_have_names_and_can_be_unset() {
    for line in ["-F uid=0", "-F uid=root"] {
        assert_eq!(
            one(&format!("-a never,user {line}")).fields()[0].value,
            Value::Number(0)
        );
    }
    for value in ["unset", "-1", "4294967295"] {
        let rule = one(&format!(
            "-a always,exit -F arch=b64 -S open -F auid={value}"
        ));
        assert_eq!(rule.fields()[1].value, Value::Number(u32::MAX));
    }
}

#[test]
fn too_long_keys_and_too_many_fields_are_refused() {
    let key = "k".repeat(200);
    assert!(
        error(&format!("-w /x -k {key} -k {key}"))
            .message
            .contains("256")
    );
    let fields = " -F pid!=1".repeat(65);
    assert!(
        error(&format!("-a always,exit{fields}"))
            .message
            .contains("64")
    );
    let fields = " -F pid!=1".repeat(64);
    assert!(
        error(&format!("-a always,exit{fields} -k x"))
            .message
            .contains("64")
    );
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(-[aAwpSFCk] |[ -~]{0,6}|always,exit|arch=b64|[\\PC\n]{0,3}| ){0,12}") {
        let _ = parse_rules(&text, "f");
    }
}
