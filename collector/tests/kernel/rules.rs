//! Rules: what the kernel keeps of them, what auditctl makes of them, and the smallest change.

use super::*;

#[test]
fn every_kind_of_rule_comes_back_from_the_kernel_and_reads_like_auditctls() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let golden = include_str!("../rules/auditctl-3.0.9.txt");
    let lines = golden.lines().filter_map(|line| line.strip_prefix("rule "));
    let beyond_auditctl = [
        "-a always,io_uring -S openat,openat2 -F uid!=0 -F key=sm-uring",
        "-a always,exit -F arch=b64 -S open -F loginuid_set=1 -F subj_user=x",
        "-a never,exit -S all -F pid=77 -F key=sm-self",
    ];
    let others = control.rules().unwrap();
    for line in lines.chain(beyond_auditctl) {
        let rule = rule(&format!("{line} -k sm-roundtrip"));
        match control.add_rule(&rule) {
            Ok(()) => {}
            // A label of a security module that is not there.
            Err(ControlError::Kernel { errno: 22, .. }) if line.contains("subj_") => continue,
            Err(e) => panic!("{line}: {e}"),
        }
        let listed = control.rules().unwrap();
        let ours: Vec<_> = listed.iter().filter(|rule| rule.is_ours()).collect();
        assert!(
            ours.len() == 1 && ours[0].same_as(&rule),
            "{line}: {listed:?}"
        );
        assert!(
            rule.prepend()
                || matches!(
                    control.add_rule(&rule),
                    Err(ControlError::RuleExists { .. })
                ),
            "{line}"
        );
        if !line.contains("io_uring") && !line.contains("loginuid_set") {
            let text = ours[0]
                .to_string()
                .replace("filetype=file", "filetype=32768")
                .replace("exe!=", "exe=");
            assert!(
                auditctl("-l").lines().any(|line| line == text),
                "{text}\n{}",
                auditctl("-l")
            );
        }
        control.delete_rule(&rule).unwrap();
        assert!(
            matches!(
                control.delete_rule(&rule),
                Err(ControlError::NoSuchRule { .. })
            ),
            "{line}"
        );
    }
    assert_eq!(control.rules().unwrap(), others);
}

#[test]
fn the_kernel_takes_the_difference_and_nothing_else() {
    let Some(_kernel) = Kernel::take() else {
        return;
    };
    let mut control = control();
    let theirs = rule("-a always,exit -F arch=b64 -S umask -F pid=1 -F key=theirs");
    control.add_rule(&theirs).unwrap();
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../audit-rules/common/kernel.rules"
    );
    let mut wished: Vec<Rule> = parse_rules(&std::fs::read_to_string(file).unwrap(), file)
        .unwrap()
        .into_iter()
        .map(|parsed| parsed.rule)
        .collect();
    wished.extend(dynamic::container_proc_writes(4000, "sm-proc"));
    wished.extend(dynamic::watch_path(
        "/etc",
        true,
        dynamic::Perm::ACCESS,
        "sm-hostfs",
    ));
    wished.extend(dynamic::watch_path(
        "/no/such/directory",
        false,
        dynamic::Perm::CHANGE,
        "sm-hostfs",
    ));
    let changes = diff(&wished, &control.rules().unwrap());
    let applied = apply(&mut control, &changes).unwrap();
    assert!(
        applied
            .skipped
            .iter()
            .any(|(rule, why)| rule.to_string().contains("/no/such")
                && why.contains("does not exist"))
    );
    let missing: Vec<Rule> = applied
        .skipped
        .iter()
        .map(|(rule, _)| rule.clone())
        .collect();
    for (rule, why) in &applied.skipped {
        println!("skipped {}: {why}", rule.keys().count());
    }
    assert_eq!(
        diff(&wished, &control.rules().unwrap()).add,
        missing,
        "what is loaded is not wished again"
    );
    assert!(diff(&wished, &control.rules().unwrap()).delete.is_empty());

    let applied = {
        let changes = diff(&[], &control.rules().unwrap());
        apply(&mut control, &changes).unwrap()
    };
    assert!(
        applied.deleted > 20 && applied.skipped.is_empty(),
        "{applied:?}"
    );
    let left = control.rules().unwrap();
    assert!(
        left.iter().all(|rule| !rule.is_ours()) && left.iter().any(|rule| rule.same_as(&theirs))
    );
    control.delete_rule(&theirs).unwrap();
}
