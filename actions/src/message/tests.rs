use proptest::prelude::*;
use serde_json::Value;

use super::text::length;
use super::*;
use crate::fixture::alert;
use crate::policy::{Policy, Scope};

fn message(alert: &Alert) -> Message {
    Message::from_alert(alert, &Policy::default().decide(alert, 0, false)).on_host("machine")
}

#[test]
fn it_says_what_a_person_needs() {
    let text = plain::text(&message(&alert(42)), false);
    for part in [
        "CRITICAL A-42: Mount in a container",
        "openclaw-gateway (abababababab)",
        "openclaw:local",
        "/usr/bin/mount (pid 4242, user node): mount -t tmpfs none /mnt",
        "mount (refused: EPERM)",
        "sh ← node",
        "certain: ",
        "Action taken: frozen: ",
        "Release it with: syscall-monitor quarantine release openclaw-gateway",
        "2026-03-01T10:30:15.042Z",
        "syscall-monitor alerts show A-42",
        "1772361015.042:5",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn who_was_not_frozen_has_no_release_command() {
    let a = alert(1);
    for policy in [
        Policy {
            dry_run: true,
            ..Policy::default()
        },
        Policy {
            scope: Scope::None,
            ..Policy::default()
        },
    ] {
        let message = Message::from_alert(&a, &policy.decide(&a, 0, false));
        assert_eq!(message.release, None);
        assert!(!plain::text(&message, false).contains("Action taken: frozen"));
    }
}

#[test]
fn a_freeze_that_failed_is_said() {
    let a = alert(1);
    let mut decision = Policy::default().decide(&a, 0, false);
    decision.steps.push(crate::policy::Step {
        what: "freeze".into(),
        ok: false,
        detail: "no cgroup".into(),
        at_ms: 0,
        took_us: 0,
    });
    assert!(
        plain::text(&Message::from_alert(&a, &decision), false)
            .contains("NOT frozen although it should be (no cgroup)")
    );
}

#[test]
fn a_repeat_is_marked_in_every_form() {
    let message = message(&alert(42));
    let marked = "possible repeat of A-42";
    assert!(plain::text(&message, true).contains(marked));
    assert!(telegram::html(&message, true).contains(marked));
    assert!(
        unescaped(&discord::embed(&message, true)["embeds"][0]["description"]).contains(marked)
    );
    assert!(!plain::text(&message, false).contains(marked));
}

#[test]
fn a_digest_names_what_it_stands_for() {
    let mut digest = message(&alert(1));
    digest.severity = Severity::Medium;
    digest.absorb(&message(&alert(2)));
    let mut further = message(&alert(3));
    further.absorb(&message(&alert(4)));
    digest.absorb(&further);
    assert_eq!(digest.severity, Severity::Critical);
    assert_eq!(
        digest.digest_line().unwrap(),
        "and 3 more alerts: A-2 to A-4"
    );
    assert!(plain::text(&digest, false).contains("A-4"));
}

#[test]
fn secrets_do_not_leave() {
    let mut a = alert(1);
    a.argv = [
        "curl",
        "-u",
        "bob:hunter22",
        "--token",
        "hunter22",
        "https://x:hunter22@h/",
    ]
    .map(String::from)
    .to_vec();
    a.matched = vec![
        ("process.argv".into(), "--password=hunter22".into()),
        ("token".into(), "hunter22".into()),
    ];
    a.paths[0].path = "/x?access_token=hunter22".into();
    let message = message(&a);
    let all = [
        plain::text(&message, false),
        telegram::html(&message, false),
        discord::embed(&message, false).to_string(),
        serde_json::to_string(&message).unwrap(),
    ];
    for text in all {
        assert!(!text.contains("hunter22"), "{text}");
    }
}

/// What a reader sees of Discord's text: backslashes before punctuation taken away.
fn unescaped(value: &Value) -> String {
    let mut out = String::new();
    let mut chars = value.as_str().unwrap_or("").chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// Is there a character in it that Discord would take as markup?
fn has_markup(text: &str) -> bool {
    if let Some(code) = text.strip_prefix('`').and_then(|t| t.strip_suffix('`')) {
        return code.contains('`');
    }
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_some_and(|c| c.is_ascii_punctuation()) => {}
            '\\' => return true,
            c if discord::is_active(c) => return true,
            _ => {}
        }
    }
    false
}

/// Checks Discord's limits and that nothing is markup.
fn check_discord(body: &Value) -> Result<(), TestCaseError> {
    prop_assert_eq!(
        &body["allowed_mentions"],
        &serde_json::json!({ "parse": [] })
    );
    let embed = &body["embeds"][0];
    let mut total = 0;
    let mut text = |value: &Value, most: usize| -> Result<(), TestCaseError> {
        let value = value.as_str().unwrap_or("");
        prop_assert!(length(value) <= most, "{} > {most}", length(value));
        prop_assert!(!has_markup(value), "{value:?}");
        total += length(value);
        Ok(())
    };
    text(&embed["title"], 256)?;
    text(&embed["description"], 2000)?;
    text(&embed["footer"]["text"], 2048)?;
    let fields = embed["fields"].as_array().unwrap();
    prop_assert!(fields.len() <= 25);
    for field in fields {
        text(&field["name"], 256)?;
        text(&field["value"], 1024)?;
        prop_assert!(!field["name"].as_str().unwrap().trim().is_empty());
        prop_assert!(!field["value"].as_str().unwrap().trim().is_empty());
    }
    prop_assert!(total <= 6000, "{total}");
    Ok(())
}

/// Checks Telegram's limit and that every tag is ours and closed; everything that is not ours stands in code.
fn check_telegram(html: &str) -> Result<(), TestCaseError> {
    prop_assert!(length(html) <= 4096, "{}", length(html));
    let bare = html.replace("<b>", "").replace("</b>", "");
    let (mut depth, mut rest) = (0i32, bare.as_str());
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("<code>") {
            depth += 1;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("</code>") {
            depth -= 1;
            rest = after;
        } else {
            return Err(TestCaseError::fail(format!("a foreign tag: {rest:?}")));
        }
        prop_assert!((0..=1).contains(&depth));
    }
    prop_assert_eq!(depth, 0);
    Ok(())
}

/// Text of an attacker: markup of both services, control and bidi characters, long runs, anything.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[@#*_~`|<>\\[\\]()\\\\:&;\n\r\t\0\u{1b}\u{202e}\u{200b}\u{f7ff}a-c ]{0,200}",
        prop::sample::select(vec![
            "@everyone <@1234> <#1> <:x:1> <t:0> https://evil.example [x](http://y) ||s|| ```js\n```",
            "</code><a href=\"tg://user?id=1\">x</a> & &lt; /start @user #tag",
            "\u{1b}]8;;http://x\u{7}click\u{1b}]8;;\u{7}\u{1b}[2J",
            "-# small\n# big\n> quote\n1. list\n- item\n\\",
            "`````` `a` ``b``",
        ]).prop_map(String::from),
        (0usize..6_000, "[a`<*é🙂]").prop_map(|(n, c)| c.repeat(n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_text_is_never_markup_and_keeps_the_limits(
        texts in prop::collection::vec(hostile(), 14),
        argv in prop::collection::vec(hostile(), 0..5),
        matched in prop::collection::vec((hostile(), hostile()), 0..30),
        repeat: bool,
    ) {
        let mut a = alert(7);
        let mut next = texts.into_iter();
        let mut t = || next.next().unwrap_or_default();
        (a.title, a.description, a.exe, a.comm, a.event, a.syscall) = (t(), t(), t(), t(), t(), t());
        a.user = Some(t());
        a.errno = Some(t());
        a.argv = argv;
        a.matched = matched;
        a.paths[0].path = t();
        a.paths[0].host_path = Some(t());
        a.ancestors[0].comm = t().as_str().into();
        if let Some(c) = &mut a.container {
            (c.name, c.image, c.agent) = (t(), Some(t()), Some(t()));
        }
        let mut message = message(&a);
        if repeat {
            message.absorb(&message.clone());
        }
        check_discord(&discord::embed(&message, repeat))?;
        let minimal = discord::minimal(&message);
        let content = minimal["content"].as_str().unwrap();
        prop_assert!(length(content) <= 2000 && !has_markup(content));
        check_telegram(&telegram::html(&message, repeat))?;
        check_telegram(&telegram::minimal(&message))?;
        let plain = plain::text(&message, repeat);
        prop_assert!(!plain.chars().any(|c| c.is_control() && c != '\n'));
        prop_assert!(plain.lines().count() <= 40, "hostile text broke a line");
    }
}

#[test]
fn ids_that_follow_one_another_are_a_range() {
    let ids = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        super::ranges(&ids(&["A-1", "A-3", "A-4", "A-5", "A-4", "B", "A-9"])),
        "A-1, A-3 to A-5, A-4, B, A-9"
    );
    assert_eq!(super::ranges(&[]), "");
}
