//! What a detector makes of matches: alerts, repeats, whom a pack is for, and what it says when rules are wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use detector::{Detected, Detector, LoadError, Options, Pack, Response, Severity};
use enricher::activity::Phase;
use enricher::container::Profile;

const RULE: &str = "
title: A test of the loader
id: 11111111-2222-4333-8444-555555555555
description: Only for tests, and long enough to be one.
logsource:
  product: linux
  service: syscall-monitor
detection:
  selection:
    syscall.name: chroot
  condition: selection
level: critical
";

#[test]
fn the_first_match_is_an_alert_and_the_next_one_counts_on_it() {
    let mut detector = all_packs();
    let first = evaluate(&mut detector, &call("mount"));
    let Detected::New(alert) = &first[0] else {
        panic!("{first:?}")
    };
    assert_eq!(
        (alert.id, alert.count, alert.syscall.as_str()),
        (0, 1, "mount")
    );
    assert_eq!(alert.event, "1795353018.414:5");
    assert_eq!(alert.container.as_ref().unwrap().name, "openclaw-gateway");
    assert_eq!(
        alert.matched,
        [("syscall.name".to_owned(), "mount".to_owned())]
    );
    detector.confirm(&detector::Alert {
        id: 42,
        ..alert.clone()
    });
    let again = evaluate(&mut detector, &call("umount2").at(1000));
    let Detected::Repeat {
        container,
        of,
        count,
        alert,
        ..
    } = &again[0]
    else {
        panic!("{again:?}")
    };
    assert_eq!(
        (container.as_deref(), *of, *count),
        (Some(CONTAINER), 42, 2)
    );
    assert_eq!(
        (alert.id, alert.count, alert.response),
        (42, 2, Response::Quarantine),
        "the verdict is not swallowed"
    );
    let later = evaluate(&mut detector, &call("mount").at(300_000));
    assert!(matches!(later[0], Detected::New(_)));
}

#[test]
fn a_release_makes_the_next_match_new() {
    let mut detector = all_packs();
    evaluate(&mut detector, &call("mount"));
    detector.forget(CONTAINER);
    assert!(matches!(
        evaluate(&mut detector, &call("mount").at(1))[0],
        Detected::New(_)
    ));
    assert_eq!(detector.counters().new, 2);
}

#[test]
fn two_containers_have_alerts_of_their_own() {
    let mut detector = all_packs();
    evaluate(&mut detector, &call("mount"));
    let other = evaluate(
        &mut detector,
        &call("mount").container(|c| c.id = "ffff".into()),
    );
    assert!(matches!(other[0], Detected::New(_)));
}

#[test]
fn a_pack_of_a_profile_is_for_its_containers() {
    let act = exec("/usr/bin/xdotool", "xdotool type hello");
    for (profile, matches) in [
        (None, 0),
        (Some(Profile::Openclaw), 0),
        (Some(Profile::Clawbot), 0),
        (Some(Profile::Moltbot), 1),
    ] {
        let mut detector = all_packs();
        assert_eq!(
            evaluate(&mut detector, &act.clone().profile(profile)).len(),
            matches,
            "{profile:?}"
        );
    }
}

#[test]
fn a_container_that_is_no_agent_gets_the_common_rules() {
    let mut detector = all_packs();
    let detected = evaluate(&mut detector, &call("mount").profile(None));
    assert_eq!(
        detected[0].alert().response,
        Response::Quarantine,
        "whether it is frozen is decided by who acts"
    );
}

#[test]
fn a_rule_that_names_the_phase_sees_the_host() {
    let text = RULE.replace(
        "syscall.name: chroot",
        "syscall.name: chroot\n    phase: host",
    );
    let mut detector = with_rule(&text).unwrap();
    assert_eq!(evaluate(&mut detector, &call("chroot").host()).len(), 1);
    assert_eq!(evaluate(&mut detector, &call("chroot")).len(), 0);
    assert_eq!(
        evaluate(&mut detector, &call("chroot").phase(Phase::Setup)).len(),
        0
    );
    let mut detector = with_rule(RULE).unwrap();
    assert_eq!(evaluate(&mut detector, &call("chroot").host()).len(), 0);
    assert_eq!(evaluate(&mut detector, &call("chroot")).len(), 1);
}

#[test]
fn a_response_in_the_rule_or_in_the_options_wins_over_the_level() {
    let mut detector = with_rule(&format!("{RULE}response: alert\n")).unwrap();
    let detected = evaluate(&mut detector, &call("chroot"));
    assert_eq!(
        (detected[0].alert().severity, detected[0].alert().response),
        (Severity::Critical, Response::Alert)
    );
    let mount = detector_rule_id("common/mount-call");
    let options = Options {
        responses: [(mount.clone(), Response::Log)].into(),
        ..Options::default()
    };
    let mut detector = Detector::load(&packs(&["common"]), options).unwrap();
    assert_eq!(
        evaluate(&mut detector, &call("mount"))[0].alert().response,
        Response::Log
    );
    let options = Options {
        disabled: vec![mount],
        ..Options::default()
    };
    let mut detector = Detector::load(&packs(&["common"]), options).unwrap();
    assert!(evaluate(&mut detector, &call("mount")).is_empty());
}

fn detector_rule_id(name: &str) -> String {
    let detector = all_packs();
    detector
        .rules()
        .iter()
        .find(|r| name_of(&detector, &r.id) == name)
        .unwrap()
        .id
        .clone()
}

#[test]
fn the_more_telling_rule_stands_for_the_other_one() {
    let mut detector = all_packs();
    let act = call("openat")
        .args([0, 0, 1, 0])
        .host_path("/m/etc/cron.d/x", "/etc/cron.d/x", true);
    let detected = evaluate(&mut detector, &act);
    assert_eq!(
        rules_of(&detector, &detected),
        ["common/host-trusted-write"]
    );
    assert_eq!(detector.counters().superseded, 1);
}

#[test]
fn a_sigma_filter_takes_its_case_out_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yml"), RULE).unwrap();
    let filter = "
title: The builder may
filter:
  rules:
    - 11111111-2222-4333-8444-555555555555
  selection:
    container.name: builder
  condition: not selection
";
    std::fs::write(dir.path().join("b.yml"), filter).unwrap();
    let pack = Pack {
        name: "common".into(),
        dir: dir.path().into(),
    };
    let mut detector = Detector::load(&[pack], Options::default()).unwrap();
    assert!(
        evaluate(
            &mut detector,
            &call("chroot").container(|c| c.name = Some("builder".into()))
        )
        .is_empty()
    );
    assert_eq!(evaluate(&mut detector, &call("chroot")).len(), 1);
}

fn sigma(logsource: &str, selection: &str) -> String {
    let rule = RULE.replace("service: syscall-monitor", logsource);
    rule.replace("syscall.name: chroot", selection)
}

#[test]
fn rules_in_the_words_of_sigmahq_work() {
    let fires = |text: String, act: Act| {
        let mut detector = with_rule(&text).unwrap();
        evaluate(&mut detector, &act).len() == 1
    };
    let process = |selection: &str| sigma("category: process_creation", selection);
    let curl = exec("/usr/bin/curl", "curl -x socks5://a").parent("/usr/bin/bash");
    assert!(fires(
        process("Image|endswith: /curl\n    CommandLine|contains: socks5://"),
        curl.clone()
    ));
    assert!(fires(
        process("ParentImage|endswith: /bash\n    User: '1000'"),
        curl.clone()
    ));
    assert!(!fires(
        process("Image|endswith: /curl"),
        curl.clone().refused("ENOENT")
    ));
    assert!(
        !fires(process("ParentCommandLine|contains: x"), curl),
        "known and not carried by audit"
    );
    let file = sigma(
        "category: file_event",
        "TargetFilename|startswith: /etc/cron.d/",
    );
    let open = call("openat")
        .path("/etc/cron.d", "PARENT")
        .path("/etc/cron.d/x", "CREATE");
    assert!(fires(file.clone(), open.clone().args([0, 0, 0o101, 0])));
    assert!(!fires(file, open.args([0, 0, 0, 0])));
    let network = sigma(
        "category: network_connection",
        "DestinationPort: 4444\n    DestinationIp|cidr: 10.0.0.0/8\n    Initiated: 'true'",
    );
    assert!(fires(
        network.clone(),
        call("connect").socket("inet", "10.1.2.3", Some(4444))
    ));
    assert!(!fires(
        network.clone(),
        call("connect").socket("inet", "11.1.2.3", Some(4444))
    ));
    assert!(!fires(
        network,
        call("bind").socket("inet", "10.1.2.3", Some(4444))
    ));
}

#[test]
fn neither_a_link_nor_a_rings_first_operation_hides_what_was_done() {
    let fires = |selection: &str, act: &Act| {
        let mut detector = with_rule(&sigma("service: syscall-monitor", selection)).unwrap();
        evaluate(&mut detector, act).len() == 1
    };
    // Opened by the name of a link; a rule may know either.
    let link = call("openat").path("/tmp/l", "NORMAL").with(|a| {
        a.paths.last_mut().unwrap().real_path = Some("/etc/shadow".into());
    });
    assert!(fires("path.path: /etc/shadow", &link));
    assert!(fires("path.path: /tmp/l", &link));
    assert!(!fires("path.path: /etc/passwd", &link));

    let ring = call("socket").with(|a| {
        let call = a.syscall.as_mut().unwrap();
        call.arch = "io_uring".into();
        call.within = Some("io_uring_enter".into());
        call.operations = vec!["socket".into(), "openat".into()];
    });
    for name in ["socket", "openat"] {
        assert!(fires(&format!("syscall.name: {name}"), &ring), "{name}");
    }
    assert!(!fires("syscall.name: io_uring_enter", &ring));
    assert!(fires("syscall.within: io_uring_enter", &ring));

    let check = call("execve").with(|a| {
        a.phase = Phase::Exec;
        a.health_check = true;
    });
    assert!(fires("health_check: true", &check));
    assert!(!fires("health_check: true", &call("execve")));
}

#[test]
fn auditd_rules_are_evaluated_on_single_records() {
    let execve = call("execve").with(|a| {
        let event = &mut a.event;
        event.push(
            collector::RecordType::SYSCALL,
            b"arch=c000003e syscall=59 success=yes a0=55d a1=7f exe=\"/usr/bin/ls\" key=\"k\"",
        );
        event.push(
            collector::RecordType::EXECVE,
            b"argc=2 a0=\"ls\" a1=2F746D702F612062",
        );
        event.push(collector::RecordType::EOE, b"");
    });
    let fires = |selection: &str| {
        let mut detector = with_rule(&sigma("service: auditd", selection)).unwrap();
        evaluate(&mut detector, &execve).len() == 1
    };
    assert!(fires("type: EXECVE\n    a0: ls\n    a1|contains: /tmp/a b"));
    assert!(fires(
        "type: SYSCALL\n    SYSCALL: execve\n    exe|endswith: /ls"
    ));
    assert!(
        !fires("type: SYSCALL\n    a0: ls"),
        "a0 is a register there"
    );
    assert!(
        !fires("a0: ls\n    exe|endswith: /ls"),
        "two records are not one"
    );
    assert!(fires("type: EXECVE\n    container.name: openclaw-gateway"));

    // Around an operation of a ring the record is of another call than the activity.
    let ring = call("openat").with(|a| {
        let call = a.syscall.as_mut().unwrap();
        (call.arch, call.within) = ("io_uring".into(), Some("io_uring_enter".into()));
        a.event.push(
            collector::RecordType::SYSCALL,
            b"arch=c000003e syscall=426 success=yes a0=4 exe=\"/bin/ring\" key=\"k\"",
        );
    });
    let around = sigma(
        "service: auditd",
        "type: SYSCALL\n    SYSCALL: io_uring_enter",
    );
    let mut detector = with_rule(&around).unwrap();
    assert_eq!(evaluate(&mut detector, &ring).len(), 1);
}

fn problems(text: &str) -> Vec<String> {
    match with_rule(text) {
        Ok(_) => Vec::new(),
        Err(LoadError { problems }) => problems
            .iter()
            .map(|p| {
                p.to_string()
                    .split_once("rule.yml:")
                    .map_or(p.to_string(), |(_, rest)| rest.to_owned())
            })
            .collect(),
    }
}

#[test]
fn a_wrong_rule_is_told_with_line_and_suggestion() {
    assert_eq!(problems(RULE), [""; 0]);
    assert_eq!(
        problems(&RULE.replace("syscall.name", "syscal.name")),
        ["10: field \"syscal.name\" is not known for this log source; did you mean syscall.name?"]
    );
    assert_eq!(
        problems(&RULE.replace("syscall.name", "syscall.name|startwith")),
        ["10: modifier \"startwith\" is not known; did you mean startswith?"]
    );
    assert_eq!(
        problems(&format!("{RULE}response: quarantin\n")),
        [
            "13: response \"quarantin\" is none; the responses are quarantine, alert-and-log, alert, log; did you mean quarantine?"
        ]
    );
    assert_eq!(
        problems(&format!("{RULE}respons: alert\n")),
        ["13: key \"respons\" is not known; did you mean response?"]
    );
    assert!(
        problems(&RULE.replace("product: linux", "product: windows"))[0]
            .starts_with("5: log source product \"windows\"")
    );
    assert!(problems(&RULE.replace("level: critical", ""))[0].contains("has no level"));
    assert!(
        problems(&RULE.replace("condition: selection", "condition: selektion"))[0]
            .contains("selektion")
    );
    assert!(!problems("a: [").is_empty());
    assert!(!problems("").is_empty(), "an empty file is no rule");
    let twice = problems(&format!("{RULE}---{RULE}"));
    assert!(twice[0].contains("is taken already"), "{twice:?}");
}

#[test]
fn every_problem_is_listed_and_a_missing_folder_is_one() {
    let text = RULE.replace(
        "syscall.name: chroot",
        "syscal.name: chroot\n    phse: running",
    );
    assert_eq!(problems(&text).len(), 2);
    let missing = Pack {
        name: "common".into(),
        dir: "/nonexistent/rules".into(),
    };
    let unknown = Pack {
        name: "openclow".into(),
        dir: "/tmp".into(),
    };
    let error = Detector::load(&[missing, unknown], Options::default())
        .err()
        .unwrap();
    assert_eq!(error.problems.len(), 2);
    assert!(
        error.to_string().contains("did you mean openclaw?"),
        "{error}"
    );
    let options = Options {
        disabled: vec!["nobody".into()],
        ..Options::default()
    };
    assert!(Detector::load(&packs(&["common"]), options).is_err());
}

#[test]
fn hostile_text_breaks_nothing() {
    let mut detector = all_packs();
    for text in [
        "",
        "\u{0}",
        "\u{F7FF}\u{F700}",
        "|||||||((((",
        &"curl ".repeat(50_000),
        &"-".repeat(100_000),
        "🦞|sh",
    ] {
        let act = exec_args(text, &[text, text, text])
            .path(text, text)
            .key(text)
            .socket(text, text, None);
        evaluate(&mut detector, &act);
        evaluate(&mut detector, &shell(text));
    }
}

/// The filter that docs/fields.md shows, as it stands there.
#[test]
fn the_documents_exception_for_bubblewrap_covers_that_agent_and_program_alone() {
    let document = include_str!("../../docs/fields.md");
    let text: Vec<&str> = document
        .lines()
        .skip_while(|line| !line.starts_with("An exception is a filter"))
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("filter.yml"), text.join("\n")).unwrap();
    let mut all = packs(&["common"]);
    all.push(Pack {
        name: "common".into(),
        dir: dir.path().into(),
    });
    let mut detector = Detector::load(&all, Options::default()).unwrap();
    let mut fires = |exe: &str, name: &str| {
        let act = call("mount")
            .exe(exe)
            .container(|c| c.name = Some(name.into()));
        !evaluate(&mut detector, &act).is_empty()
    };
    assert!(!fires("/usr/bin/bwrap", "builder-agent"));
    assert!(fires("/tmp/bwrap", "builder-agent"), "a renamed binary");
    assert!(fires("/usr/bin/bwrap", "openclaw-gateway"));
}
