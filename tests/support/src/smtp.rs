//! A mail server that keeps its limits (RFC 5321: lines of 1,000 octets, RFC 5322: header lines of 998): takes one message a connection, on a
//! thread of its own, without TLS (this very host).

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The server.
#[derive(Debug)]
pub struct Smtp {
    port: u16,
    letters: Arc<Mutex<Vec<Result<String, String>>>>,
    answer: Arc<Mutex<&'static str>>,
}

impl Smtp {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .unwrap_or_else(|e| panic!("cannot listen on 127.0.0.1: {e}"));
        let port = listener.local_addr().map_or(0, |a| a.port());
        let letters: Arc<Mutex<Vec<_>>> = Arc::default();
        let answer = Arc::new(Mutex::new("250 2.0.0 Ok: queued as 1"));
        let (taken, says) = (letters.clone(), answer.clone());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (taken, says) = (taken.clone(), says.clone());
                std::thread::spawn(move || {
                    let said = *says.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(letter) = serve(&stream, said) {
                        taken
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(letter);
                    }
                });
            }
        });
        Self {
            port,
            letters,
            answer,
        }
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it says to the end of each further letter.
    pub fn says(&self, answer: &'static str) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Letters that came whole; Err: what was wrong with one.
    pub fn letters(&self) -> Vec<Result<String, String>> {
        self.letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One conversation over TLS from its start, by `openssl s_server` with this certificate and key; gives the letter, if one came.
///
/// # Panics
/// When openssl cannot be started.
pub fn over_tls(port: u16, certificate: &Path, key: &Path) -> Option<Result<String, String>> {
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-naccept", "1", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-cert")
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start openssl: {e}"));
    let letter = match (server.stdout.take(), server.stdin.take()) {
        (Some(said), Some(answers)) => converse(BufReader::new(said), answers, "250 Ok"),
        _ => None,
    };
    let _ = server.kill();
    let _ = server.wait();
    letter
}

/// One conversation; gives the letter.
fn serve(stream: &TcpStream, said: &str) -> Option<Result<String, String>> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    let out = stream.try_clone().ok()?;
    converse(BufReader::new(stream), out, said)
}

fn converse(
    mut lines: impl BufRead,
    mut out: impl Write,
    said: &str,
) -> Option<Result<String, String>> {
    let mut say = |text: &str| write!(out, "{text}\r\n").and_then(|()| out.flush()).ok();
    say("220 fake ESMTP")?;
    let mut letter = None;
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).ok()? == 0 {
            return letter;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = text.split([' ', ':']).next().unwrap_or("").to_uppercase();
        match verb.as_str() {
            "EHLO" => say("250-fake\r\n250-8BITMIME\r\n250 SMTPUTF8")?,
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => say("250 Ok")?,
            "DATA" => {
                say("354 End data with <CR><LF>.<CR><LF>")?;
                letter = Some(data(&mut lines)?);
                say(said)?;
                if !said.starts_with('2') {
                    letter = None;
                }
            }
            "QUIT" => {
                say("221 Bye")?;
                return letter;
            }
            _ => say("502 Command not implemented")?,
        }
    }
}

/// The letter up to the dot, checked.
fn data(lines: &mut impl BufRead) -> Option<Result<String, String>> {
    let mut text = String::new();
    let mut problem = None;
    let mut header = true;
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if line == b".\r\n" {
            break;
        }
        if line.len() > 1000 {
            problem.get_or_insert(format!("a line of {} octets", line.len()));
        }
        if !line.ends_with(b"\r\n") {
            problem.get_or_insert("a line that does not end with CR LF".to_owned());
        }
        if line == b"\r\n" {
            header = false;
        }
        let body = &line[..line.len().saturating_sub(2)];
        if body.contains(&0) || body.contains(&b'\r') || header && !body.is_ascii() {
            problem.get_or_insert(format!(
                "a line with octets that must not be there: {body:?}"
            ));
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
    Some(match problem {
        Some(problem) => Err(problem),
        None => Ok(text),
    })
}
