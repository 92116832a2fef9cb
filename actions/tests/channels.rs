//! The channels beside Discord and Telegram, to services that keep their limits: what each answer means, what is signed, what is never sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::time::Duration;

use actions::Message;
use actions::notify::{
    Email, EmailOptions, Encryption, Notifier, Outcome, Secret, Slack, Syslog, Webhook,
};
use detector::Severity;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use test_support::Behaviour::{CloseAfterRead, Ok as Takes, Status, TakeAndClose, TooMany};
use test_support::{hook, slack, smtp};

fn message() -> Message {
    Message {
        alert: Some("A-7".into()),
        ..Message::notice(Severity::High, "A title", "a reason", 1_772_361_015_042)
    }
}

fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { .. } => "accepted".into(),
        Outcome::Unknown { .. } => "unknown".into(),
        Outcome::Refused { channel: true, .. } => "stop".into(),
        Outcome::Refused {
            permanent: true, ..
        } => "never".into(),
        Outcome::Refused {
            retry_after_ms: Some(ms),
            ..
        } => format!("later {ms}"),
        Outcome::Refused { .. } => "later".into(),
    }
}

#[tokio::test]
async fn answers_of_slack_and_of_a_webhook_are_told_apart() {
    let (s, h) = (slack::Slack::start(), hook::Hook::start());
    let base = s.base_url();
    let to_slack = Slack::new(&Secret::new(&slack::Slack::real_url()), Some(&base)).unwrap();
    let to_hook = Webhook::new(&Secret::new(&h.url()), None, None, false).unwrap();
    let channels: [(&dyn Notifier, &test_support::peer::Peer); 2] =
        [(&to_slack, &s), (&to_hook, &h)];
    for (channel, fake) in channels {
        for (behaviour, expected) in [
            (Takes, "accepted"),
            (TooMany(3.0), "later 3000"),
            (Status(500), "later"),
            (Status(503), "later"),
            (Status(502), "unknown"),
            (Status(401), "stop"),
            (Status(403), "stop"),
            (Status(404), "stop"),
            (Status(410), "stop"),
            (Status(302), "never"),
            (CloseAfterRead, "unknown"),
            (TakeAndClose, "unknown"),
        ] {
            fake.script([behaviour]);
            let outcome = channel.deliver(&message(), false).await;
            let kind = channel.kind();
            assert_eq!(
                said(&outcome),
                expected,
                "{kind} {behaviour:?}: {outcome:?}"
            );
            let shown = format!("{outcome:?} {to_slack:?} {to_hook:?}");
            assert!(!shown.contains("Token"), "{shown}");
        }
        assert!(fake.malformed().is_empty(), "{:?}", fake.malformed());
    }
}

#[tokio::test]
async fn slack_gets_the_shortest_form_where_the_full_one_is_refused() {
    let s = slack::Slack::start();
    s.script([Status(400), Takes]);
    let base = s.base_url();
    let channel = Slack::new(&Secret::new(&slack::Slack::real_url()), Some(&base)).unwrap();
    assert_eq!(said(&channel.deliver(&message(), false).await), "accepted");
    assert!(s.accepted()[0].body.get("blocks").is_none());
    assert!(s.accepted()[0].all().contains("A-7"));
}

#[tokio::test]
async fn what_is_posted_is_signed_and_a_repeat_says_so() {
    let h = hook::Hook::start();
    let key = Some(Secret::new("a key of the receiver"));
    let channel = Webhook::new(&Secret::new(&h.url()), key, None, false).unwrap();
    channel.deliver(&message(), false).await;
    channel.deliver(&message(), true).await;
    let raw = h.raw();
    assert_eq!(
        (&raw[0].repeat, raw[1].repeat.as_deref()),
        (&None, Some("1"))
    );
    for one in &raw {
        assert_eq!(one.alert.as_deref(), Some("A-7"));
        let signature = one.signature.clone().unwrap();
        let (time, hex) = signature
            .strip_prefix("t=")
            .unwrap()
            .split_once(",v1=")
            .unwrap();
        assert!(time.parse::<u64>().unwrap() > 1_700_000_000);
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a key of the receiver").unwrap();
        mac.update(&[time.as_bytes(), b".", &one.body].concat());
        let expected: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hex, expected);
    }
    let body: serde_json::Value = serde_json::from_slice(&raw[0].body).unwrap();
    assert_eq!(body["schema"], "syscall-monitor/message/1");
    assert_eq!(
        (&body["id"], &body["title"]),
        (&"A-7".into(), &"A title".into())
    );
}

#[tokio::test]
async fn plain_http_goes_to_this_host_only_unless_a_private_address_is_allowed() {
    let new = |url: &str, private| Webhook::new(&Secret::new(url), None, None, private).is_ok();
    for (url, private, good) in [
        ("https://example.invalid/x", false, true),
        ("http://127.0.0.1:1/x", false, true),
        ("http://[::1]:1/x", false, true),
        ("http://10.1.2.3/x", false, false),
        ("http://10.1.2.3/x", true, true),
        ("http://[fd00::1]/x", true, true),
        ("http://8.8.8.8/x", true, false),
        ("http://example.invalid/x", true, false),
        ("ftp://127.0.0.1/x", true, false),
    ] {
        assert_eq!(new(url, private), good, "{url} {private}");
    }
}

fn mail(port: u16, encryption: Encryption) -> Email {
    Email::new(EmailOptions {
        server: "127.0.0.1".into(),
        port: Some(port),
        encryption,
        from: "Monitor <monitor@example.invalid>".into(),
        to: vec![
            "root@example.invalid".into(),
            "On Call <on@call.invalid>".into(),
        ],
        ..EmailOptions::default()
    })
    .unwrap()
}

#[tokio::test]
async fn a_letter_is_taken_once_and_a_repeat_has_the_same_name() {
    let server = smtp::Smtp::start();
    let channel = mail(server.port(), Encryption::None);
    assert_eq!(said(&channel.deliver(&message(), false).await), "accepted");
    assert_eq!(said(&channel.deliver(&message(), true).await), "accepted");
    let letters: Vec<String> = server.letters().into_iter().map(Result::unwrap).collect();
    assert_eq!(letters.len(), 2);
    let header = |letter: &str, name: &str| {
        let line = letter.lines().find(|l| l.starts_with(name)).unwrap();
        line.to_owned()
    };
    assert_eq!(
        header(&letters[0], "Subject:"),
        "Subject: [HIGH] A-7: A title"
    );
    assert_eq!(
        header(&letters[0], "Message-ID:"),
        header(&letters[1], "Message-ID:")
    );
    assert!(
        letters[1].contains("possible repeat of A-7"),
        "{}",
        letters[1]
    );
    for (answer, expected) in [
        ("451 4.3.0 Try again", "later"),
        ("554 5.7.1 No", "never"),
        ("535 5.7.8 Bad login", "stop"),
    ] {
        server.says(answer);
        let outcome = channel.deliver(&message(), false).await;
        assert_eq!(said(&outcome), expected, "{answer}: {outcome:?}");
    }
}

#[tokio::test]
async fn no_letter_goes_where_there_is_no_tls_and_nobody_is_there() {
    let server = smtp::Smtp::start();
    let outcome = mail(server.port(), Encryption::StartTls)
        .deliver(&message(), false)
        .await;
    assert_ne!(said(&outcome), "accepted", "{outcome:?}");
    assert!(server.letters().is_empty());
    let away = EmailOptions {
        server: "mail.example.invalid".into(),
        encryption: Encryption::None,
        from: "a@b.invalid".into(),
        to: vec!["a@b.invalid".into()],
        ..EmailOptions::default()
    };
    let error = Email::new(away).unwrap_err().to_string();
    assert!(error.contains("this host only"), "{error}");
    let down = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let outcome = mail(down, Encryption::None)
        .deliver(&message(), false)
        .await;
    assert_eq!(said(&outcome), "later", "{outcome:?}");
}

#[tokio::test]
async fn the_system_log_is_told_over_each_of_its_ways() {
    use std::io::Read;
    let limit = Some(Duration::from_secs(5));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let unix = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    unix.set_read_timeout(limit).unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(limit).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut buffer = vec![0; 4096];
    let new = |address: String| Syslog::new(&address, false).unwrap();
    let begins = |line: &[u8]| {
        let line = std::str::from_utf8(line).unwrap().to_owned();
        assert!(
            line.starts_with("<83>1 2026-03-01T10:30:15.042Z - syscall-monitor "),
            "{line}"
        );
        assert!(line.contains("alert=\"A-7\""), "{line}");
    };

    let outcome = new(format!("unix:{}", path.display()))
        .deliver(&message(), false)
        .await;
    assert_eq!(said(&outcome), "accepted");
    let n = unix.recv(&mut buffer).unwrap();
    begins(&buffer[..n]);

    let outcome = new(format!("udp://{}", udp.local_addr().unwrap()))
        .deliver(&message(), false)
        .await;
    assert_eq!(said(&outcome), "accepted");
    let n = udp.recv(&mut buffer).unwrap();
    begins(&buffer[..n]);

    let outcome = new(format!("tcp://{}", tcp.local_addr().unwrap()))
        .deliver(&message(), false)
        .await;
    assert_eq!(said(&outcome), "accepted");
    let mut all = String::new();
    tcp.accept().unwrap().0.read_to_string(&mut all).unwrap();
    let (octets, line) = all.split_once(' ').unwrap();
    assert_eq!(octets.parse::<usize>().unwrap(), line.len());
    begins(line.as_bytes());

    let gone = new(format!("unix:{}", dir.path().join("gone").display()));
    assert_eq!(said(&gone.deliver(&message(), false).await), "later");
}

#[tokio::test]
async fn mail_goes_over_tls_to_a_server_that_is_trusted_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    for trusted in [false, true] {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (cert, key) = (certificate.clone(), key.clone());
        let server = std::thread::spawn(move || smtp::over_tls(port, &cert, &key));
        let channel = Email::new(EmailOptions {
            server: "localhost".into(),
            port: Some(port),
            encryption: Encryption::Tls,
            from: "monitor@example.invalid".into(),
            to: vec!["root@example.invalid".into()],
            certificate: trusted.then(|| std::fs::read(&certificate).unwrap()),
            ..EmailOptions::default()
        })
        .unwrap();
        let mut outcome = channel.deliver(&message(), false).await;
        // The server may not listen yet.
        for _ in 0..100 {
            if !format!("{outcome:?}")
                .to_lowercase()
                .contains("refused (os")
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            outcome = channel.deliver(&message(), false).await;
        }
        let letter = server.join().unwrap();
        match trusted {
            true => {
                assert_eq!(said(&outcome), "accepted", "{outcome:?}");
                assert!(letter.unwrap().unwrap().contains("A-7: A title"));
            }
            false => {
                assert_eq!(said(&outcome), "later", "{outcome:?}");
                assert!(letter.is_none(), "{letter:?}");
            }
        }
    }
}
