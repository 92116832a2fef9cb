//! Secrets that are known by the name before them: `TOKEN=…`, `--api-key=…`, `"password": "…"`, `x-api-key: …`.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::MARK;

/// Parts of a name that make it the name of a secret.
const SECRET: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pass",
    "pwd",
    "apikey",
    "credential",
    "credentials",
    "authtoken",
    "accesstoken",
    "bearer",
    "privatekey",
    "secretkey",
    "accesskey",
    "authkey",
    "apisecret",
    "clientsecret",
    "mnemonic",
    "otp",
    "totp",
    "pgpassword",
    "sshpass",
    "mysqlpwd",
    "jwt",
    "sessionid",
    "userpass",
    "authorization",
];
/// What makes a `key` one that opens something.
const KEYS: &[&str] = &[
    "api",
    "access",
    "private",
    "secret",
    "auth",
    "signing",
    "encryption",
    "master",
    "session",
    "service",
    "storage",
    "account",
    "subscription",
    "shared",
    "deploy",
    "license",
    "webhook",
    "hmac",
    "aws",
];
/// A last part that says that the name is *about* a secret and does not hold one.
const ABOUT: &[&str] = &[
    "file",
    "path",
    "dir",
    "directory",
    "name",
    "names",
    "limit",
    "limits",
    "count",
    "size",
    "length",
    "len",
    "ttl",
    "type",
    "expiry",
    "expires",
    "expiration",
    "timeout",
    "url",
    "uri",
    "endpoint",
    "host",
    "port",
    "prompt",
    "policy",
    "store",
    "helper",
    "provider",
    "format",
    "field",
    "header",
    "env",
    "hash",
    "id",
    "stdin",
    "fd",
    "min",
    "max",
    "cache",
    "age",
    "version",
    "ref",
    "enabled",
    "required",
    "rotation",
    "manager",
    "mount",
    "users",
    "user",
];

/// The parts of a name: cut at `-`, `_`, `.`, `:`, and where camelCase begins a new word; in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| chars.get(i));
        let camel = c.is_ascii_uppercase()
            && (before.is_some_and(|b| b.is_ascii_lowercase())
                || before.is_some_and(|b| b.is_ascii_uppercase())
                    && chars.get(i + 1).is_some_and(|n| n.is_ascii_lowercase()));
        if (camel || !c.is_ascii_alphanumeric()) && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
        }
        if c.is_ascii_alphanumeric() {
            part.push(c.to_ascii_lowercase());
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Is this the name of a secret? `API_KEY`, `--token`, `clientSecret`; not `TOKEN_FILE`, `max_tokens`, `PWD`, `author`.
pub(super) fn is_secret(name: &str) -> bool {
    if name.len() > 128 {
        return false;
    }
    let parts = parts(name);
    let Some(last) = parts.last() else {
        return false;
    };
    // The shell's working directory; and `-pass`, `pass=` alone is said by too many programs of a run that passed.
    if matches!(name, "PWD" | "OLDPWD")
        || (parts.len() == 1 && last == "pass" && !name.starts_with("--"))
    {
        return false;
    }
    let base = last.trim_end_matches(|c: char| c.is_ascii_digit());
    if ABOUT.contains(&base) {
        return false;
    }
    let secret = |p: &str| SECRET.contains(&p.trim_end_matches(|c: char| c.is_ascii_digit()));
    parts.iter().any(|p| secret(p))
        || parts
            .windows(2)
            .any(|w| matches!(w[1].as_str(), "key" | "keys") && KEYS.contains(&w[0].as_str()))
}

/// Is this value one that cannot be a secret: empty, a variable, a word of a configuration, or marked already?
pub(super) fn is_harmless(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']);
    value.is_empty()
        || value.starts_with('$')
        || value.starts_with("{{")
        || value.starts_with(MARK)
        || value.chars().all(|c| matches!(c, '*' | 'x' | 'X' | '.'))
        || matches!(
            value.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "none" | "yes" | "no" | "nil" | "undefined"
        )
}

/// `name`, what stands between, value: quoted, or up to a blank or a separator.
static PAIR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?x)
        (?P<name> -{0,2} [A-Za-z][A-Za-z0-9_.-]{1,127} )
        (?P<between> \\?["']? \s? (?: = | :\s? ) \s? )
        (?P<value>
            \\"(?:[^"\\]|\\[^"])*\\"    # quoted in a quoted string
          | "(?:[^"\\]|\\.)*"? | '[^']*'?
          | [^\s"'&;,|)}\]<>]+
        )"#,
    )
    .ok()
});

pub(super) fn redact(text: &str) -> Cow<'_, str> {
    let Some(pair) = &*PAIR else {
        return Cow::Borrowed(text);
    };
    if !text.contains(['=', ':']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut done = 0;
    let mut at = 0;
    while let Some(found) = pair.captures_at(text, at) {
        let (Some(name), Some(value)) = (found.name("name"), found.name("value")) else {
            break;
        };
        if !is_secret(name.as_str()) || is_harmless(value.as_str()) {
            // The value of one may be the name of the next (`env:TOKEN=x`, `--from-literal=token=x`): look again behind
            // the name.
            at = name.end().max(at + 1);
            while !text.is_char_boundary(at) {
                at += 1;
            }
            if at >= text.len() {
                break;
            }
            continue;
        }
        out.push_str(&text[done..value.start()]);
        out.push_str(&mark(value.as_str()));
        done = value.end();
        at = done;
        if at >= text.len() {
            break;
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The mark in the quotes that the value had.
fn mark(value: &str) -> String {
    for quote in ["\\\"", "\"", "'"] {
        if let Some(rest) = value.strip_prefix(quote) {
            let end = if rest.ends_with(quote) { quote } else { "" };
            return format!("{quote}{MARK}{end}");
        }
    }
    MARK.to_owned()
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_of_secrets() {
        for name in [
            "TOKEN",
            "API_KEY",
            "--api-key",
            "clientSecret",
            "AWS_SECRET_ACCESS_KEY",
            "DB_PASSWORD",
            "db.password",
            "PGPASSWORD",
            "OPENAI_API_KEY",
            "x-api-key",
            "refresh_token",
            "privateKey",
            "TOKEN2",
            "MYSQL_PWD",
            "DB_PASS",
            "--password",
            "TELEGRAM_BOT_TOKEN",
        ] {
            assert!(is_secret(name), "{name}");
        }
    }

    #[test]
    fn names_of_other_things() {
        for name in [
            "PWD",
            "OLDPWD",
            "TOKEN_FILE",
            "max_tokens",
            "author",
            "--author",
            "keyboard",
            "SSH_AUTH_SOCK",
            "PATH",
            "compass",
            "tokenizer",
            "key",
            "sort-key",
            "--password-file",
            "SECRET_NAME",
            "passed",
            "monkey",
            "primary_key",
            "pass",
            "--token-limit",
            "http",
            "bypass",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
