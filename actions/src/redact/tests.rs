use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

/// Lines with a planted secret each, named by the part that must not come through.
const PLANTED: &[(&str, &str)] = &[
    ("curl https://bob:hunter22@example.com/x", "hunter22"),
    (
        "git clone https://ghp_0123456789abcdefghijABCDEFGHIJ012345@github.com/a/b",
        "ghp_0123456789",
    ),
    (
        "git clone https://oauth2:glpat-AbCdEfGhIjKlMnOpQrSt@gitlab.com/a/b.git",
        "AbCdEfGhIjKl",
    ),
    ("postgres://app:s3cr3t-pw@db:5432/app", "s3cr3t-pw"),
    ("redis://:only-a-password@cache:6379/0", "only-a-password"),
    (
        "export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "wJalrXUtnFEMI",
    ),
    (
        "aws --key AKIAIOSFODNN7EXAMPLE s3 ls",
        "AKIAIOSFODNN7EXAMPLE",
    ),
    (
        "aws configure set aws_secret_access_key wJalrXUtnFEMI/K7MDENG",
        "wJalrXUtnFEMI",
    ),
    (
        "OPENAI_API_KEY=sk-proj-abcdefghijklmnopqrstuvwxyz0123456789 node x.js",
        "abcdefghijklmnop",
    ),
    (
        "echo sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWxYz-0123456789_abc",
        "AbCdEfGhIjKl",
    ),
    (
        "echo github_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456789",
        "11ABCDEFG0aBc",
    ),
    (
        "slack xoxb-123456789012-1234567890123-AbCdEfGhIjKl",
        "AbCdEfGhIjKl",
    ),
    (
        "curl -d x https://hooks.slack.com/services/T00000000/B00000000/XXXXyyyyZZZZ1234",
        "XXXXyyyyZZZZ",
    ),
    (
        "curl https://discord.com/api/webhooks/1199/AbCd-EfGh_IjKl0123456789",
        "AbCd-EfGh_IjKl",
    ),
    (
        "bot MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs12",
        "ZnCjm1XVW7vRze",
    ),
    (
        "curl https://api.telegram.org/bot1234567890:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0/getMe",
        "AAHdqTcvCH1v",
    ),
    (
        "TELEGRAM_BOT_TOKEN=1234567890:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0",
        "AAHdqTcvCH1v",
    ),
    ("mysql -u root -phunter22 db", "hunter22"),
    ("mysqldump --password=hunter22 db", "hunter22"),
    ("mysqldump --password hunter22 db", "hunter22"),
    ("sshpass -p hunter22 ssh root@host", "hunter22"),
    ("sshpass -phunter22 ssh root@host", "hunter22"),
    ("curl -u bob:hunter22 http://x", "hunter22"),
    ("curl -ubob:hunter22 http://x", "hunter22"),
    ("curl --user bob:hunter22 http://x", "hunter22"),
    ("cat x | curl -s -u bob:hunter22 http://x", "hunter22"),
    (
        "curl -H 'Authorization: Bearer abcdef0123456789abcdef' http://x",
        "abcdef0123456789",
    ),
    (
        "curl -H \"Authorization: Basic Ym9iOmh1bnRlcjIyMjI=\" http://x",
        "Ym9iOmh1bnRlcjIy",
    ),
    ("curl -H 'X-Api-Key: 0123-4567-89' http://x", "0123-4567-89"),
    ("curl -H 'Cookie: session=AbCdEf; id=7' http://x", "AbCdEf"),
    (
        "wget --header='Authorization: token ABCDEFG' http://x",
        "ABCDEFG",
    ),
    ("docker login -u bob -p hunter22 registry", "hunter22"),
    ("redis-cli -a hunter22 ping", "hunter22"),
    (
        "openssl enc -aes-256-cbc -pass pass:hunter22 -in x",
        "hunter22",
    ),
    ("openssl enc -aes-256-cbc -k hunter22 -in x", "hunter22"),
    ("unzip -P hunter22 x.zip", "hunter22"),
    ("7z x -phunter22 x.7z", "hunter22"),
    ("ldapsearch -D cn=admin -w hunter22", "hunter22"),
    ("smbclient //h/s -U bob%hunter22", "hunter22"),
    ("htpasswd -bc file bob hunter22", "hunter22"),
    ("node x.js --token hunter22", "hunter22"),
    ("node x.js --token=hunter22", "hunter22"),
    ("node x.js --api-key hunter22 --port 80", "hunter22"),
    (
        "kubectl create secret generic s --from-literal=password=hunter22",
        "hunter22",
    ),
    ("docker run -e DB_PASSWORD=hunter22 x", "hunter22"),
    ("env DB_PASS=hunter22 PORT=80 node x", "hunter22"),
    (r#"{"password": "hunter22", "port": 80}"#, "hunter22"),
    (
        r#"curl -d '{"client_secret":"hunter 22"}' http://x"#,
        "hunter 22",
    ),
    (r#"sh -c "echo \"token\": \"hunter22\"""#, "hunter22"),
    ("https://x/y?access_token=hunter22&page=2", "hunter22"),
    ("password: hunter22", "hunter22"),
    (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4",
        "SflKxwRJSMeKKF2",
    ),
    (
        "x AIzaSyD-0123456789abcdefghijklmnopqrstu y",
        "AIzaSyD-01234",
    ),
    (
        "npm config set //registry.npmjs.org/:_authToken npm_abcdefghijklmnopqrstuvwxyz0123456789",
        "abcdefghijklm",
    ),
    (
        "npm config set //registry.npmjs.org/:_authToken 0f0f-short",
        "0f0f-short",
    ),
    ("echo hf_abcdefghijklmnopqrstuvwxyz", "abcdefghijklm"),
    ("stripe sk_live_abcdefghijklmnop0123", "abcdefghijklmnop"),
    (
        "echo -----BEGIN RSA PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA\\n-----END RSA PRIVATE KEY----- > k",
        "MIIEpAIBAAKC",
    ),
    (
        "echo -----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk",
        "b3BlbnNzaC1rZXk",
    ),
    (
        "the api token is q7Zp2Xv9Lk4Rt8Wm1Nc6By3Hd",
        "q7Zp2Xv9Lk4Rt8",
    ),
    ("export KEY q7Zp2Xv9Lk4Rt8Wm1Nc6By3Hd", "q7Zp2Xv9Lk4Rt8"),
    (
        "vault login hvs.CAESIAbCdEfGhIjKlMnOpQrStUv",
        "CAESIAbCdEfGh",
    ),
    ("PGPASSWORD=hunter22 psql -h db", "hunter22"),
    ("sudo env X=1 mysql -phunter22", "hunter22"),
    ("gpg --batch --passphrase hunter22 -d x", "hunter22"),
];

/// Command lines of an agent's ordinary day, and others that look a little like secrets.
const ORDINARY: &[&str] = &[
    "node dist/index.js gateway --bind lan --port 18789",
    "node -e fetch('http://127.0.0.1:18789/healthz').then(r=>process.exit(r.ok?0:1))",
    "git clone --depth 1 https://github.com/openclaw/openclaw.git /home/node/work",
    "git log --author=bob --format=%H -n 5",
    "git commit -m 'token handling: pass the key on'",
    "git show 0123456789abcdef0123456789abcdef01234567",
    "npm install --save-dev typescript@5.4.0",
    "curl -fsSL https://example.com/install.sh -o /tmp/install.sh",
    "curl -u bob http://x",
    "docker run -p 8080:80 --name web nginx",
    "ssh -p 2222 user@host uptime",
    "mkdir -p /home/node/.openclaw/workspace",
    "mysql -u root -p db",
    "python3 train.py --max-tokens 4096 --tokenizer gpt2 --lr 1e-4",
    "python3 x.py --token-limit 5 --password-file /run/secrets/pw",
    "env PWD=/home/node HOME=/home/node PATH=/usr/bin:/bin sh",
    "sort --key=2 file",
    "ls -la /etc/passwd /run/secrets",
    "grep -r password src",
    "cat /home/node/.openclaw/credentials/readme",
    "ffmpeg -i in.mp4 -pass 1 -c:v libx264 out.mp4",
    "chromium --no-sandbox --user-data-dir=/tmp/x --remote-debugging-port=9222",
    "openssl x509 -in cert.pem -noout -subject",
    "psql -h db -U app -c 'select 1'",
    "echo $TOKEN; echo ${API_KEY}",
    "TOKEN=$TOKEN sh x.sh",
    "keytool -list -keystore x.jks",
    "rsync -a --password-file=/etc/rsync.pw src/ host::mod/",
    "SSH_AUTH_SOCK=/run/user/1000/agent.sock ssh-add -l",
    "tar -xzf x.tgz -C /tmp",
    "/usr/bin/bash -c ls && cd /tmp",
    "ssh-keygen -t ed25519 -f /tmp/key",
    "http://127.0.0.1:18789/a:b@c",
];

#[test]
fn every_shape_compiles() {
    assert!(shapes::all_compile());
}

#[test]
fn planted_secrets_are_taken_out_of_a_line() {
    for (line, secret) in PLANTED {
        let out = redact(line);
        assert!(!out.contains(secret), "{line:?} gave {out:?}");
        assert!(out.contains(MARK), "{line:?} gave {out:?}");
    }
}

#[test]
fn planted_secrets_are_taken_out_of_arguments() {
    for (line, secret) in PLANTED {
        let whole = redact_argv(&["sh", "-c", line]).join(" ");
        assert!(!whole.contains(secret), "sh -c {line:?} gave {whole:?}");
        let argv: Vec<String> = split(line);
        let out = redact_argv(&argv).join(" ");
        assert!(!out.contains(secret), "{argv:?} gave {out:?}");
    }
}

#[test]
fn ordinary_command_lines_are_unchanged() {
    for line in ORDINARY {
        let out = redact(line);
        assert!(
            matches!(out, Cow::Borrowed(_)) && out == *line,
            "{line:?} became {out:?}"
        );
        let argv = split(line);
        for (word, out) in argv.iter().zip(redact_argv(&argv)) {
            assert_eq!(*word, out, "in {argv:?}");
        }
    }
}

#[test]
fn what_is_not_secret_stays_readable() {
    assert_eq!(
        redact("curl -u bob:hunter22 http://x/y"),
        "curl -u bob:[redacted] http://x/y"
    );
    assert_eq!(
        redact("x --token hunter22 --port 80"),
        "x --token [redacted] --port 80"
    );
    assert_eq!(
        redact("https://a:b@host/path?x=1"),
        "https://[redacted]@host/path?x=1"
    );
    assert_eq!(
        redact(r#"{"password": "p", "port": 80}"#),
        r#"{"password": "[redacted]", "port": 80}"#
    );
    assert_eq!(
        command_line(&["sh", "-c", "mysql -px y"]),
        "sh -c 'mysql -p[redacted] y'"
    );
    assert_eq!(value_of("api_key", "abc"), MARK);
    assert_eq!(value_of("syscall", "mount"), "mount");
}

/// Arguments of a line as a shell would make them, well enough for the table.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut quote = None;
    let mut any = false;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                any = true;
            }
            (Some(q), c) if q == c => quote = None,
            (None, ' ' | '\n') => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (_, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever stands around it, a key of a known shape does not come through; and nothing panics.
    #[test]
    fn a_known_shape_never_comes_through(
        before in "[ -~\u{a0}-\u{2ff}\u{f700}-\u{f7ff}]{0,40}",
        after in "\\PC{0,40}",
        body in "[A-Za-z0-9]{36}",
        shape in prop::sample::select(vec!["ghp_", "sk-ant-api03-", "sk-proj-", "xoxb-", "github_pat_", "hf_"]),
    ) {
        // A letter before it would make it part of another word.
        let line = format!("{before} {shape}{body} {after}");
        prop_assert!(!redact(&line).contains(&body));
        let argv = [before, format!("{shape}{body}"), after];
        prop_assert!(!redact_argv(&argv).join(" ").contains(&body));
    }

    #[test]
    fn a_named_secret_never_comes_through(
        before in "[ -~]{0,20}",
        name in prop::sample::select(vec!["TOKEN", "db_password", "--client-secret", "x-api-key", "apiKey"]),
        between in prop::sample::select(vec!["=", ": ", ":", "=\"", "='"]),
        body in "[A-Za-z0-9]{12,40}",
    ) {
        let line = format!("{before} {name}{between}{body}");
        prop_assert!(!redact(&line).contains(&body), "{}", line);
    }

    #[test]
    fn any_text_is_taken(text in any::<String>(), argv in prop::collection::vec(any::<String>(), 0..6)) {
        let once = redact(&text).into_owned();
        prop_assert_eq!(redact_argv(&argv).len(), argv.len());
        let _ = command_line(&argv);
        let _ = redact(&once);
    }
}

/// Not a benchmark: a guard against a pattern that goes quadratic on text of an attacker's choice.
#[test]
fn hostile_text_costs_no_time_worth_speaking_of() {
    for unit in [
        "a=\"",
        "token: ",
        "é=",
        "-----BEGIN PRIVATE KEY",
        "://a",
        "\"\\\"",
        "x.y.z",
        "eyJ",
        "a:b@",
        "bearer ",
        "-p ",
    ] {
        let text = unit.repeat(8000 / unit.len());
        let begin = std::time::Instant::now();
        let _ = redact(&text);
        let took = begin.elapsed();
        // Unoptimised and on a busy machine; what this finds takes minutes.
        assert!(
            took < std::time::Duration::from_secs(5),
            "{unit:?}: {took:?}"
        );
        println!("{unit:?}: {took:?}");
    }
}
