//! Secrets that are known by their place: after a flag, as the argument of a program that takes passwords there, or a
//! random-looking word close behind a word like "token".

use super::MARK;
use super::names::{is_harmless, is_secret};

/// What of a word is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All of it.
    All,
    /// From this byte on.
    From(usize),
}

impl Place {
    pub fn replace(self, word: &str) -> String {
        match self {
            Self::All => MARK.to_owned(),
            Self::From(at) => format!("{}{MARK}", word.get(..at).unwrap_or("")),
        }
    }
}

/// A flag of a program whose value is secret. `glued`: the value follows in the same word (`-pSECRET`). `pair`: only what
/// stands behind the first `:` or `%` is secret.
struct Flag {
    programs: &'static [&'static str],
    flag: &'static str,
    glued: bool,
    next: bool,
    pair: bool,
}

const fn flag(
    programs: &'static [&'static str],
    flag: &'static str,
    glued: bool,
    next: bool,
    pair: bool,
) -> Flag {
    Flag {
        programs,
        flag,
        glued,
        next,
        pair,
    }
}

const MYSQL: &[&str] = &[
    "mysql",
    "mysqldump",
    "mysqladmin",
    "mysqlimport",
    "mysqlcheck",
    "mariadb",
    "mariadb-dump",
    "mariadb-admin",
];
const CURL: &[&str] = &["curl"];

const FLAGS: &[Flag] = &[
    flag(MYSQL, "-p", true, false, false),
    flag(&["sshpass"], "-p", true, true, false),
    flag(CURL, "-u", true, true, true),
    flag(CURL, "--user", false, true, true),
    flag(CURL, "-U", true, true, true),
    flag(CURL, "--proxy-user", false, true, true),
    flag(CURL, "-b", false, true, false),
    flag(CURL, "--cookie", false, true, false),
    flag(CURL, "--oauth2-bearer", false, true, false),
    flag(&["wget", "wget2"], "--http-passwd", false, true, false),
    flag(
        &["redis-cli", "valkey-cli", "keydb-cli"],
        "-a",
        false,
        true,
        false,
    ),
    flag(
        &["docker", "podman", "nerdctl", "helm", "az", "oc"],
        "-p",
        false,
        true,
        false,
    ),
    flag(&["unzip", "zip"], "-P", true, true, false),
    flag(
        &["7z", "7za", "7zr", "rar", "unrar"],
        "-p",
        true,
        false,
        false,
    ),
    flag(
        &[
            "ldapsearch",
            "ldapmodify",
            "ldapadd",
            "ldapwhoami",
            "ldappasswd",
        ],
        "-w",
        true,
        true,
        false,
    ),
    flag(
        &["smbclient", "rpcclient", "smbmap"],
        "-U",
        false,
        true,
        true,
    ),
    flag(
        &[
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "mongoexport",
        ],
        "-p",
        false,
        true,
        false,
    ),
    flag(&["openssl"], "-k", false, true, false),
    flag(&["openssl"], "-K", false, true, false),
    flag(&["useradd", "usermod"], "-p", false, true, false),
    flag(&["expect-lite", "nmcli"], "password", false, true, false),
    flag(
        &["vncviewer", "xfreerdp", "rdesktop"],
        "-p",
        false,
        true,
        false,
    ),
    flag(&["ipmitool"], "-P", false, true, false),
    flag(
        &["influx", "sqlcmd", "bcp", "isql"],
        "-P",
        true,
        true,
        false,
    ),
    flag(&["cadaver", "lftp"], "-u", false, true, true),
    flag(&["htpasswd"], "-b", false, false, false),
];

/// A docker `-p` is a port unless it logs in.
fn applies(flag: &Flag, program: &str, words_before: &[&str]) -> bool {
    if !flag.programs.contains(&program) {
        return false;
    }
    !matches!(
        program,
        "docker" | "podman" | "nerdctl" | "helm" | "az" | "oc"
    ) || words_before.iter().rev().take(8).any(|w| *w == "login")
}

/// Name of a program without its directory and quotes.
fn program(word: &str) -> &str {
    let word = word.trim_matches(['"', '\'', '(', '{', '`', '$']);
    word.rsplit('/').next().unwrap_or(word)
}

/// Words after which a program's name stands.
fn begins_command(word: &str) -> bool {
    matches!(
        word,
        "|" | "||"
            | "&&"
            | ";"
            | "&"
            | "sudo"
            | "env"
            | "exec"
            | "nohup"
            | "time"
            | "nice"
            | "doas"
            | "xargs"
            | "then"
            | "do"
            | "else"
            | "{"
            | "("
            | "-c"
    ) || word.ends_with(';')
        || word.ends_with("&&")
        || word.ends_with('|')
}

/// Which words hold a secret by their place. As many answers as words.
pub(super) fn secrets_in(words: &[&str]) -> Vec<Option<Place>> {
    let mut out = vec![None; words.len()];
    let mut running = "";
    let mut begin = 0;
    let mut expect_program = true;
    for (i, word) in words.iter().enumerate() {
        let assignment = word.contains('=') && !word.starts_with('=');
        if expect_program && !word.starts_with('-') && !assignment && !begins_command(word) {
            running = program(word);
            begin = i;
            expect_program = false;
        }
        if begins_command(word) {
            expect_program = true;
            if *word != "-c" {
                continue;
            }
        }
        if out[i].is_some() {
            continue;
        }
        let next = words.get(i + 1).copied();
        // `--token x`; the value of `--token=x` is found by its name.
        if word.starts_with('-')
            && !word.contains('=')
            && is_secret(word)
            && next.is_some_and(|n| !n.starts_with("--") && !is_harmless(n))
        {
            out[i + 1] = Some(keep_quote(words[i + 1]));
            continue;
        }
        // `password: x` that was cut into words.
        if let Some(name) = word.strip_suffix(':').or_else(|| word.strip_suffix('='))
            && !name.contains("//")
            && is_secret(name)
            && next.is_some_and(|n| !is_harmless(n))
        {
            out[i + 1] = Some(keep_quote(words[i + 1]));
            continue;
        }
        // `aws configure set aws_secret_access_key x`, `git config x.token y`, `npm config set //r/:_authToken y`.
        if !word.starts_with('-')
            && word.contains(['_', '.', '-'])
            && is_secret(word)
            && words[begin..i]
                .iter()
                .any(|w| matches!(*w, "set" | "config" | "configure"))
            && next.is_some_and(|n| !n.starts_with('-') && !is_harmless(n))
        {
            out[i + 1] = Some(keep_quote(words[i + 1]));
            continue;
        }
        // `openssl … -passin pass:x`.
        if let Some(at) = word
            .find("pass:")
            .filter(|at| *at == 0 && running == "openssl")
        {
            out[i] = Some(Place::From(at + 5));
            continue;
        }
        if let Some(found) = FLAGS
            .iter()
            .find(|f| applies(f, running, &words[begin..i]) && fits(f, word))
        {
            let value_here = word.len() > found.flag.len();
            if value_here && found.glued {
                let at = found.flag.len();
                out[i] = secret_part(found, &word[at..]).map(|p| shift(p, at));
            } else if !value_here
                && found.next
                && let Some(value) = next.filter(|n| !n.starts_with("--") && !is_harmless(n))
            {
                out[i + 1] = secret_part(found, value);
            }
            continue;
        }
        if looks_random(word) && words[i.saturating_sub(3)..i].iter().any(|w| says_secret(w)) {
            out[i] = Some(keep_quote(word));
        }
    }
    private_key(words, &mut out);
    // `htpasswd -b FILE USER PASSWORD`.
    if let Some(at) = words.iter().position(|w| program(w) == "htpasswd")
        && words[at..]
            .iter()
            .any(|w| w.starts_with('-') && !w.starts_with("--") && w.contains('b'))
        && let Some(last) = out.last_mut()
        && words.len() >= at + 4
    {
        *last = Some(Place::All);
    }
    out
}

/// A private key whose blanks made words of it: from its first line to its last, or to the end.
fn private_key(words: &[&str], out: &mut [Option<Place>]) {
    let Some(begin) = words.iter().position(|w| w.contains("-----BEGIN")) else {
        return;
    };
    let head = words
        .get(begin..words.len().min(begin + 5))
        .unwrap_or_default();
    if !head.contains(&"PRIVATE") {
        return;
    }
    let mut ends = words
        .iter()
        .enumerate()
        .skip(begin)
        .filter(|(_, w)| w.ends_with("KEY-----"))
        .map(|(i, _)| i);
    let last = ends
        .next_back()
        .filter(|i| *i > begin + 3)
        .unwrap_or(words.len() - 1);
    for place in &mut out[begin..=last] {
        *place = Some(Place::All);
    }
}

fn fits(flag: &Flag, word: &str) -> bool {
    word == flag.flag || flag.glued && word.len() > flag.flag.len() && word.starts_with(flag.flag)
}

fn secret_part(flag: &Flag, value: &str) -> Option<Place> {
    if !flag.pair {
        return Some(keep_quote(value));
    }
    // `user` alone asks for the password, and is no secret.
    value
        .find([':', '%', ','])
        .filter(|at| *at + 1 < value.len())
        .map(|at| Place::From(at + 1))
}

fn shift(place: Place, by: usize) -> Place {
    match place {
        Place::All => Place::From(by),
        Place::From(at) => Place::From(at + by),
    }
}

fn keep_quote(word: &str) -> Place {
    if word.starts_with(['"', '\'']) {
        Place::From(1)
    } else {
        Place::All
    }
}

/// A word that announces a secret, in prose or as a bare name.
fn says_secret(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    is_secret(word) || word.eq_ignore_ascii_case("key") || word.eq_ignore_ascii_case("pass")
}

/// At least 20 characters of a key's alphabet, letters and digits mixed, with the entropy of something that was drawn and
/// not written. No paths, no addresses.
fn looks_random(word: &str) -> bool {
    let word =
        word.trim_matches(|c: char| matches!(c, '"' | '\'' | ',' | ';' | '.' | '(' | ')' | '`'));
    if !(20..=512).contains(&word.len())
        || word.starts_with(['/', '-', '.', '~'])
        || !word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'_' | b'=' | b'-'))
        || !word.bytes().any(|b| b.is_ascii_digit())
        || !word.bytes().any(|b| b.is_ascii_alphabetic())
    {
        return false;
    }
    let mut count = [0u32; 128];
    word.bytes().for_each(|b| count[usize::from(b & 127)] += 1);
    let all = word.len() as f64;
    let entropy: f64 = count
        .iter()
        .filter(|n| **n > 0)
        .map(|n| f64::from(*n) / all)
        .map(|p| -p * p.log2())
        .sum();
    entropy > 3.0
}

/// The same over one line: the words are looked at where they stand, and everything between them stays. `None` when
/// there is nothing to take out.
pub(super) fn redact_line(text: &str) -> Option<String> {
    let mut words = Vec::new();
    let mut starts = Vec::new();
    for word in text.split_ascii_whitespace() {
        starts.push(word.as_ptr() as usize - text.as_ptr() as usize);
        words.push(word);
    }
    let places = secrets_in(&words);
    if places.iter().all(Option::is_none) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for ((word, start), place) in words.iter().zip(&starts).zip(places) {
        let Some(place) = place else { continue };
        if word.contains(MARK) {
            continue;
        }
        out.push_str(&text[done..*start]);
        out.push_str(&place.replace(word));
        // A quote or bracket that closes what was opened further left stays.
        let tail = word.trim_end_matches(['"', '\'', ')', ';']);
        out.push_str(&word[tail.len()..]);
        done = start + word.len();
    }
    out.push_str(&text[done..]);
    Some(out)
}
