//! Debian's auditctl and we: the same lines are taken, and come to the same rules in the kernel.

use super::*;
use collector::rules::{Field, FieldId, Op, Value};

/// Loads a line with auditctl and gives the one rule that the kernel then has more; `None` when it refused.
fn by_auditctl(control: &mut Control, line: &str) -> Option<Rule> {
    let before = control.rules().unwrap();
    // Its words are separated by blanks and know no quotes.
    let out = Command::new("auditctl")
        .args(line.split(' '))
        .output()
        .unwrap();
    let after = control.rules().unwrap();
    let new = after
        .into_iter()
        .find(|rule| !before.iter().any(|old| old.same_as(rule)));
    if let Some(rule) = &new {
        control.delete_rule(rule).unwrap();
    }
    assert!(
        new.is_some() || !out.status.success() || !out.stderr.is_empty(),
        "{line}: auditctl said yes, and there is no rule"
    );
    new
}

/// The same with our parser and our bytes.
fn by_us(control: &mut Control, line: &str) -> Result<Rule, String> {
    let parsed = parse_rules(line, "line").map_err(|errors| errors[0].to_string())?;
    let rule = &parsed[0].rule;
    control.add_rule(rule).map_err(|e| e.to_string())?;
    let listed = control.rules().unwrap();
    let found = listed.iter().find(|other| other.same_as(rule)).cloned();
    control.delete_rule(rule).unwrap();
    found.ok_or_else(|| "the kernel made something else of it".to_owned())
}

/// Each field with each comparison and some values, alone and in the lists of auditctl.
fn lines() -> Vec<String> {
    let fields: [(&str, &[&str]); 45] = [
        ("pid", &["1", "0x10"]),
        ("ppid", &["1"]),
        ("uid", &["0", "root", "unset", "-1", "4294967295", "010"]),
        ("euid", &["5"]),
        ("suid", &["5"]),
        ("fsuid", &["5"]),
        ("gid", &["0", "root", "unset"]),
        ("egid", &["5"]),
        ("sgid", &["5"]),
        ("fsgid", &["5"]),
        ("auid", &["1000", "unset", "-1"]),
        ("loginuid", &["1000"]),
        ("obj_uid", &["5", "root"]),
        ("obj_gid", &["5"]),
        ("sessionid", &["3", "unset"]),
        ("pers", &["8"]),
        (
            "arch",
            &["b64", "b32", "x86_64", "i386", "i686", "0xc000003e", "b65"],
        ),
        ("msgtype", &["CWD", "1302", "NOSUCH"]),
        ("devmajor", &["8"]),
        ("devminor", &["3"]),
        ("inode", &["4000000000", "5"]),
        ("exit", &["0", "-1", "-EACCES", "EPERM", "-ENOSUCH", "3"]),
        ("success", &["0", "1", "yes", "2"]),
        (
            "path",
            &["/etc/passwd", "/etc/passwd/", "relative", "/no/such/file"],
        ),
        ("dir", &["/etc", "/etc/", "/no/such"]),
        ("perm", &["r", "rwxa", "aw", "z", "rr"]),
        (
            "filetype",
            &[
                "file",
                "dir",
                "socket",
                "link",
                "character",
                "block",
                "fifo",
                "32768",
                "nosuch",
            ],
        ),
        ("exe", &["/bin/sh", "relative"]),
        (
            "saddr_fam",
            &["2", "inet", "inet6", "local", "netlink", "nosuch", "40"],
        ),
        ("a0", &["1", "-1", "0xffffffff", "010"]),
        ("a1", &["1"]),
        ("a2", &["1"]),
        ("a3", &["1"]),
        ("key", &["sm-k"]),
        ("fstype", &["tracefs", "debugfs", "0x74726163"]),
        ("nosuch", &["1"]),
        ("uid ", &["1"]),
        ("subj_user", &["x"]),
        ("subj_role", &["x"]),
        ("subj_type", &["x"]),
        ("subj_sen", &["x"]),
        ("subj_clr", &["x"]),
        ("obj_user", &["x"]),
        ("obj_type", &["x"]),
        ("obj_lev_low", &["x"]),
    ];
    let mut lines = Vec::new();
    for (field, values) in fields {
        for (n, value) in values.iter().enumerate() {
            // Every sign once, and one for each further value.
            let signs = ["=", "!=", "<", "<=", ">", ">=", "&", "&="];
            for sign in &signs[..if n == 0 { 8 } else { 1 }] {
                lines.push(format!("-a always,exit -S umask -F {field}{sign}{value}"));
            }
            for list in ["task", "user", "exclude", "filesystem"] {
                if n == 0 {
                    lines.push(format!("-a never,{list} -F {field}={value}"));
                }
            }
        }
    }
    let pairs = [
        "uid", "gid", "euid", "egid", "auid", "suid", "sgid", "fsuid", "fsgid", "obj_uid",
        "obj_gid", "pid",
    ];
    for left in pairs {
        for right in pairs {
            lines.push(format!(
                "-a always,exit -F arch=b64 -S umask -C {left}!={right}"
            ));
        }
    }
    lines.extend(
        [
            "-w /etc/passwd -p wa -k sm-x",
            "-w /etc -p r -k sm-x -k two",
            "-w /etc/ -k sm-x",
            "-w relative -p r",
            "-w /etc/passwd -p z",
            "-a exit,always -F arch=b64 -S open -S close,read",
            "-A exit,never -F arch=b32 -S 5,6 -k sm-x",
            "-a always,exit -S open",
            "-a always,exit -F arch=b64 -S nosuch",
            "-a always,exit -F arch=b64 -S all -F uid=7",
            "-a always,exit -F uid=7",
            "-a always,entry -S open",
            "-a possible,exit -S open",
            "-a always -S open",
            "-a always,exit -F arch=b64 -F arch=b32 -S open",
            "-a always,exit -F path=/etc/passwd -F dir=/etc",
            "-a always,exit -F arch=b64 -S 2031 -F uid=7",
            "-a always,exit -F arch=b64 -S 2048 -F uid=7",
            "-a always,exit -F arch=b64 -S -1 -F uid=7",
            "-a always,exclude -F msgtype=CWD -F uid=0",
            "-a never,exclude -F msgtype>=1100 -F msgtype<=1199",
            "-a always,exclude -F msgtype=CWD -S open",
        ]
        .map(str::to_owned),
    );
    lines
}

/// What auditctl takes and we refuse on purpose.
fn on_purpose(line: &str) -> bool {
    // It drops every sign but "=" in silence.
    line.contains("key!=") || line.contains("key<") || line.contains("key>") || line.contains("key&")
        // It takes any number for "yes", and any name of an address family for 0.
        || line.contains("success=2")
        || line.contains("saddr_fam=nosuch")
        // It looks up the calls of whichever architecture comes last.
        || line.matches("arch=").count() > 1
}

#[test]
fn auditctl_takes_what_we_take_and_makes_the_same_of_it() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let (mut same, mut refused, mut more, mut differ) = (0, 0, 0, Vec::new());
    for line in lines() {
        let (theirs, ours) = (by_auditctl(&mut control, &line), by_us(&mut control, &line));
        match (&theirs, &ours) {
            (Some(theirs), Ok(ours)) if theirs.same_as(ours) => same += 1,
            (None, Err(_)) => refused += 1,
            // The kernel took it; auditctl is stricter than need be.
            (None, Ok(_)) => more += 1,
            (Some(_), Err(_)) if on_purpose(&line) => {}
            // To auditctl every name of an address family is 0.
            (Some(theirs), Ok(_)) if theirs.number_of(FieldId(113)) == Some(0) => {}
            (Some(theirs), Ok(ours)) => {
                differ.push(format!("{line}\n  auditctl: {theirs}\n  we: {ours}"));
            }
            (Some(theirs), Err(e)) => {
                differ.push(format!("{line}\n  auditctl: {theirs}\n  we: {e}"));
            }
        }
    }
    println!("{refused} lines are refused by both, {more} are taken by the kernel from us alone");
    println!("{same} lines come to the same");
    assert!(
        differ.is_empty(),
        "{} differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
}

#[test]
fn the_rules_that_come_with_the_program_load_with_auditctl_too() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../audit-rules");
    let mut files = 0;
    for pack in std::fs::read_dir(dir).unwrap() {
        let file = pack.unwrap().path().join("kernel.rules");
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        files += 1;
        // `-R` stops at the first rule that does not load, so that what may be missing on a host has `-i` in front.
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(copy.path(), format!("-i\n{text}")).unwrap();
        let out = Command::new("auditctl")
            .arg("-R")
            .arg(copy.path())
            .output()
            .unwrap();
        let theirs = control.rules().unwrap();
        let wished: Vec<_> = parse_rules(&text, "file").unwrap();
        let mut loaded = 0;
        for parsed in &wished {
            let there = theirs.iter().any(|rule| rule.same_as(&parsed.rule));
            loaded += usize::from(there);
            if !there {
                // What auditctl could not load we cannot either: a path that is not on this host.
                assert!(
                    parsed.optional,
                    "{}\n{}",
                    parsed.rule,
                    String::from_utf8_lossy(&out.stderr)
                );
                assert!(
                    matches!(
                        control.add_rule(&parsed.rule),
                        Err(ControlError::NoSuchPath { .. })
                    ),
                    "{}",
                    parsed.rule
                );
            }
        }
        println!(
            "{}: auditctl loaded {loaded} of {}",
            file.display(),
            wished.len()
        );
        for rule in theirs.iter().filter(|rule| rule.is_ours()) {
            control.delete_rule(rule).unwrap();
        }
    }
    assert!(files > 0);
}

#[test]
fn rules_of_others_come_back_byte_for_byte() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    // One that no text of ours makes: a comparison and a list position that a newer program may use.
    let mut odd = rule("-a always,exit -F arch=b64 -S umask -F key=theirs");
    assert!(odd.push(Field {
        id: FieldId::PID,
        op: Op::NotEqual,
        value: Value::Number(77)
    }));
    for rule in [odd, rule("-a never,exclude -F msgtype=CWD -F key=theirs")] {
        control.add_rule(&rule).unwrap();
        let listed = control.rules().unwrap();
        let found = listed.iter().find(|other| other.same_as(&rule)).unwrap();
        assert_eq!(Rule::decode(&found.encode()).unwrap(), *found);
        control.delete_rule(found).unwrap();
        control.add_rule(found).unwrap();
        assert_eq!(control.rules().unwrap(), listed, "as it was");
        control.delete_rule(found).unwrap();
    }
}
