//! Text of an attacker and planted secrets through every channel, to services that keep their limits: each message is taken, nothing in it
//! is markup, no secret leaves. SYSCALL_MONITOR_LONG=1 sends 10,000 texts, otherwise 150.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::time::{Duration, Instant};

use actions::notify::{
    Command, Discord, Email, EmailOptions, Encryption, Notifier, Outcome, Secret, Slack, Syslog,
    Telegram, Webhook,
};
use actions::{Message, Policy};
use detector::alert::{Alert, AlertContainer, Response, Severity};
use enricher::activity::{Ancestor, Attribution, PathInfo, Source};
use test_support::{discord, hook, slack, smtp, telegram};

/// Numbers that are the same in every run (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn letters(&mut self, n: usize) -> String {
        const ALL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..n)
            .map(|_| char::from(ALL[self.below(ALL.len())]))
            .collect()
    }
}

const PIECES: [&str; 40] = [
    "@everyone",
    "@here",
    "<@1234>",
    "<@&99>",
    "<#1>",
    "<:x:1>",
    "<t:0:R>",
    "<!channel>",
    "<!subteam^S1>",
    "https://evil.example/a?b=c",
    "[x](http://y)",
    "||s||",
    "```js\n",
    "`",
    "**b**",
    "__u__",
    "~~s~~",
    "\n# big",
    "\n-# small",
    "\n> quote",
    "\n1. list",
    "\n- item",
    "\\",
    "</code>",
    "<a href=\"tg://user?id=1\">x</a>",
    "&amp;",
    "& < >",
    "/start",
    "#tag",
    "$CASH",
    "\u{1b}[31m",
    "\u{1b}]8;;http://x\u{7}c\u{1b}]8;;\u{7}",
    "\0",
    "\r\n.\r\nRCPT TO:<x@y>",
    "\r\nBcc: x@evil.example",
    "\u{202e}",
    "\u{200b}",
    "\u{f7ff}\u{f780}",
    "🙂日本é",
    "\"]} ]]>",
];

/// One text: pieces, or a long run, or as much as an argument can be.
fn hostile(random: &mut Random) -> String {
    match random.below(20) {
        0 => random.pick(&PIECES).repeat(100 * 1024 / 8),
        1 => random
            .pick(&["a", "`", "<", "*", "é", "🙂", "\u{f7ff}", "\n"])
            .repeat(5000),
        2 => String::new(),
        3 => (0..50)
            .filter_map(|_| char::from_u32(u32::try_from(random.below(0x11_0000)).unwrap()))
            .collect(),
        _ => (0..random.below(12))
            .map(|_| random.pick(&PIECES))
            .collect::<Vec<_>>()
            .join(random.pick(&["", " "])),
    }
}

fn alert(id: u64, mut text: impl FnMut() -> String) -> Alert {
    Alert {
        id,
        time_ms: 1_772_361_015_042,
        severity: Severity::Critical,
        response: Response::Quarantine,
        rule: "6f1d2f0a-0000-4000-8000-000000000001".into(),
        title: text(),
        description: text(),
        tags: vec![],
        event: text(),
        matched: vec![(text(), text()), ("CommandLine".into(), text())],
        syscall: text(),
        errno: None,
        container: Some(AlertContainer {
            id: "ab".repeat(32),
            name: text(),
            image: Some(text()),
            profile: None,
            agent: Some(text()),
        }),
        attribution: Attribution {
            source: Source::Table,
            certain: true,
        },
        pid: 4242,
        exe: text(),
        comm: text(),
        argv: vec![text(), text(), text()],
        uid: Some(1000),
        user: Some(text()),
        ancestors: vec![Ancestor {
            pid: 1,
            comm: text().as_str().into(),
            exe: "/bin/sh".into(),
        }],
        paths: vec![PathInfo {
            name: text(),
            path: text(),
            host_path: Some(text()),
            nametype: "NORMAL".into(),
            ..PathInfo::default()
        }],
        count: 1,
    }
}

fn message(alert: &Alert) -> Message {
    let decision = Policy::default().decide(alert, 0, false);
    Message::from_alert(alert, &decision).on_host("host\n\u{1b}")
}

/// Every channel with the peer that it speaks to.
struct Services {
    discord: discord::Discord,
    telegram: telegram::Telegram,
    slack: slack::Slack,
    hook: hook::Hook,
    smtp: smtp::Smtp,
    syslog: std::net::UdpSocket,
    dir: tempfile::TempDir,
    channels: Vec<Box<dyn Notifier>>,
}

impl Services {
    fn start() -> Self {
        let (discord, telegram) = (discord::Discord::start(), telegram::Telegram::start());
        let (slack, hook, smtp) = (
            slack::Slack::start(),
            hook::Hook::start(),
            smtp::Smtp::start(),
        );
        let syslog = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        syslog
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("messages").display().to_string();
        let base = |url: String| Some(url);
        let chat = telegram::CHAT.to_string();
        let mail = EmailOptions {
            server: "127.0.0.1".into(),
            port: Some(smtp.port()),
            encryption: Encryption::None,
            from: "Monitor <monitor@example.invalid>".into(),
            to: vec!["root@example.invalid".into()],
            ..EmailOptions::default()
        };
        let script = format!("cat >> {file}; echo >> {file}");
        let channels: Vec<Box<dyn Notifier>> = vec![
            Box::new(
                Discord::new(
                    &Secret::new(&discord::Discord::real_url()),
                    base(discord.base_url()).as_deref(),
                )
                .unwrap(),
            ),
            Box::new(
                Telegram::new(
                    &Secret::new(telegram::TOKEN),
                    &chat,
                    base(telegram.base_url()).as_deref(),
                )
                .unwrap(),
            ),
            Box::new(
                Slack::new(
                    &Secret::new(&slack::Slack::real_url()),
                    base(slack.base_url()).as_deref(),
                )
                .unwrap(),
            ),
            Box::new(
                Webhook::new(
                    &Secret::new(&hook.url()),
                    Some(Secret::new("key")),
                    Some(r#"{"a": "{{title}} {{process}}", "all": "{{text}}"}"#),
                    false,
                )
                .unwrap(),
            ),
            Box::new(Email::new(mail).unwrap()),
            Box::new(
                Syslog::new(&format!("udp://{}", syslog.local_addr().unwrap()), false).unwrap(),
            ),
            Box::new(Command::new(&["/bin/sh".into(), "-c".into(), script]).unwrap()),
        ];
        Self {
            discord,
            telegram,
            slack,
            hook,
            smtp,
            syslog,
            dir,
            channels,
        }
    }

    /// Sends one message through all of them, and gives each text that left, in the channels' order.
    async fn send(&self, message: &Message) -> Vec<String> {
        for channel in &self.channels {
            let outcome = channel.deliver(message, false).await;
            assert!(
                matches!(outcome, Outcome::Accepted { .. }),
                "{} refused {message:?}: {outcome:?}",
                channel.kind()
            );
        }
        for (name, peer) in [
            ("discord", &*self.discord),
            ("telegram", &*self.telegram),
            ("slack", &*self.slack),
            ("webhook", &*self.hook),
        ] {
            assert!(
                peer.malformed().is_empty(),
                "{name}: {:?}",
                peer.malformed()
            );
        }
        let mut buffer = vec![0; 70_000];
        let size = self.syslog.recv(&mut buffer).unwrap();
        let line = String::from_utf8(buffer[..size].to_vec()).unwrap();
        rfc_5424(&line);
        let embed = self.discord.accepted().pop().unwrap();
        nothing_active(&embed.body);
        let letter = self.smtp.letters().pop().unwrap().unwrap();
        let file = self.dir.path().join("messages");
        let piped = std::fs::read_to_string(&file).unwrap();
        serde_json::from_str::<serde_json::Value>(piped.trim()).unwrap();
        std::fs::write(&file, "").unwrap();
        let texts = vec![
            embed.all().replace('\\', ""),
            self.telegram.accepted().pop().unwrap().all(),
            self.slack.accepted().pop().unwrap().all(),
            self.hook.accepted().pop().unwrap().all(),
            decoded(&letter),
            line,
            piped,
        ];
        for peer in [&*self.discord, &*self.telegram, &*self.slack, &*self.hook] {
            peer.clear();
        }
        texts
    }
}

/// Is there a character that Discord would take as markup, anywhere in an embed?
fn nothing_active(body: &serde_json::Value) {
    let embed = &body["embeds"][0];
    let fields = embed["fields"].as_array().into_iter().flatten();
    let mut texts = vec![
        &embed["title"],
        &embed["description"],
        &embed["footer"]["text"],
    ];
    texts.extend(fields.flat_map(|f| [&f["name"], &f["value"]]));
    for text in texts.iter().filter_map(|t| t.as_str()) {
        if let Some(code) = text.strip_prefix('`').and_then(|t| t.strip_suffix('`')) {
            assert!(!code.contains('`'), "{text:?}");
            continue;
        }
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let escaped = c == '\\' && chars.next().is_some_and(|c| c.is_ascii_punctuation());
            let active = "\\*_~`|<>[]()#@:-+.!&".contains(c);
            assert!(escaped || !active, "{c:?} is active in {text:?}");
        }
    }
}

/// Header, structured data, mark and text as RFC 5424 has them, within the length that every receiver takes.
fn rfc_5424(line: &str) {
    assert!(line.len() <= 2048, "{}", line.len());
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let mut words = line.splitn(7, ' ');
    let first = words.next().unwrap();
    let priority = first
        .strip_prefix('<')
        .and_then(|f| f.strip_suffix(">1"))
        .unwrap();
    assert!(priority.parse::<u8>().unwrap() < 192);
    let (_time, host, app) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap(),
    );
    assert!(host.chars().all(|c| c.is_ascii_graphic()) && app == "syscall-monitor");
    let rest = words.nth(2).unwrap();
    // The data ends at the first ] that is not escaped and stands outside of quotes.
    let (mut quoted, mut escaped, mut end) = (false, false, None);
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => {
                end = Some(at);
                break;
            }
            ']' => panic!("an unescaped ] in a value: {rest:?}"),
            _ => {}
        }
    }
    assert!(
        rest[end.unwrap() + 1..].starts_with(" \u{feff}CRITICAL A-"),
        "{rest:?}"
    );
}

/// The body of a letter, its transfer encoding taken off; one part, plain text.
fn decoded(letter: &str) -> String {
    let (head, body) = letter.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain"), "{head}");
    assert_eq!(head.matches("\r\nTo:").count(), 1, "{head}");
    assert!(!head.contains("\r\nBcc"), "{head}");
    let bytes = if head.contains("Content-Transfer-Encoding: base64") {
        base64(body)
    } else if head.contains("quoted-printable") {
        let joined = body.replace("=\r\n", "");
        let mut parts = joined.split('=');
        let mut out = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            out.push(u8::from_str_radix(&part[..2], 16).unwrap());
            out.extend_from_slice(&part.as_bytes()[2..]);
        }
        out
    } else {
        body.as_bytes().to_vec()
    };
    format!("{head}\n{}", String::from_utf8(bytes).unwrap())
}

fn base64(text: &str) -> Vec<u8> {
    const ALL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut n) = (vec![], 0u32, 0);
    for c in text
        .bytes()
        .filter(|c| !c.is_ascii_whitespace() && *c != b'=')
    {
        bits = bits << 6 | u32::try_from(ALL.iter().position(|a| *a == c).unwrap()).unwrap();
        n += 6;
        if n >= 8 {
            n -= 8;
            out.push(u8::try_from(bits >> n & 0xff).unwrap());
        }
    }
    out
}

fn long() -> bool {
    std::env::var_os("SYSCALL_MONITOR_LONG").is_some()
}

#[tokio::test]
async fn hostile_text_is_taken_by_every_service_and_is_no_markup_anywhere() {
    let services = Services::start();
    let mut random = Random(0x5EED_5EED_5EED_5EED);
    let (count, begin) = (if long() { 10_000 } else { 150 }, Instant::now());
    for n in 1..=count {
        let message = message(&alert(n, || hostile(&mut random)));
        let texts = services.send(&message).await;
        for text in texts {
            let hidden = |c: char| matches!(c, '\u{202e}' | '\u{200b}' | '\u{1b}' | '\0' | '\u{7}');
            assert!(!text.contains(hidden), "{n}: {text:?}");
            assert!(
                text.contains(&format!("A-{n}")),
                "{n} has no id to look up: {text}"
            );
        }
    }
    println!(
        "{count} hostile messages through 7 channels in {:?}: all taken, no markup",
        begin.elapsed()
    );
}

/// A secret and a command line that holds it.
fn planted(n: usize, random: &mut Random) -> (String, String) {
    let s = random.letters(24);
    let line = match n % 20 {
        0 => format!("curl https://bob:{s}@example.com/x"),
        1 => format!("git clone https://ghp_{s}AbCdEfGhIjKl@github.com/a/b"),
        2 => format!("postgres://app:{s}@db:5432/app"),
        3 => format!("export AWS_SECRET_ACCESS_KEY={s}"),
        4 => format!("OPENAI_API_KEY=sk-proj-{s}0123456789 node x.js"),
        5 => format!("echo sk-ant-api03-{s}-0123456789_abc"),
        6 => format!("slack xoxb-123456789012-1234567890123-{s}"),
        7 => format!("curl https://discord.com/api/webhooks/1199/{s}"),
        8 => format!("curl https://api.telegram.org/bot1234567890:AAHd{s}0123456/getMe"),
        9 => format!("mysql -u root -p{s} db"),
        10 => format!("mysqldump --password {s} db"),
        11 => format!("sshpass -p {s} ssh root@host"),
        12 => format!("curl -u bob:{s} http://x"),
        13 => format!("curl -H 'Authorization: Bearer {s}' http://x"),
        14 => format!("curl -H 'X-Api-Key: {s}' http://x"),
        15 => format!("docker login -u bob -p {s} registry"),
        16 => format!("redis-cli -a {s} ping"),
        17 => format!(r#"curl -d '{{"client_secret":"{s}"}}' http://x"#),
        18 => format!("https://x/y?access_token={s}&page=2"),
        _ => format!("kubectl create secret generic s --from-literal=password={s}"),
    };
    (s, line)
}

#[tokio::test]
async fn no_planted_secret_leaves_through_any_channel() {
    let services = Services::start();
    let mut random = Random(0xBAD_5EED_0BAD_5EED);
    for n in 0..200 {
        let (secret, line) = planted(n, &mut random);
        let mut place = 0;
        // In one of the texts of the alert, all others are ordinary.
        let at = n % 23;
        let mut alert = alert(u64::try_from(n).unwrap() + 1, || {
            place += 1;
            if place == at {
                line.clone()
            } else {
                "ordinary".into()
            }
        });
        // And as a command is: by itself, and in a shell.
        alert.argv = match n % 2 {
            0 => line.split(' ').map(str::to_owned).collect(),
            _ => vec!["sh".into(), "-c".into(), line.clone()],
        };
        let texts = services.send(&message(&alert)).await;
        for (channel, text) in services.channels.iter().zip(texts) {
            assert!(
                !text.contains(&secret),
                "{} let {secret} of {line:?} out: {text}",
                channel.kind()
            );
            assert!(text.contains("redacted"), "{}: {text}", channel.kind());
        }
    }
    println!("200 planted secrets through 7 channels: none left");
}
