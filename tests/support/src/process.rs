//! Running programs with a time limit, and signals to processes that a test started.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::wait::within;

/// What a program did: its status and everything that it wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit status, or `None` when it was still running at the limit and was killed.
    pub status: Option<ExitStatus>,
    /// Standard output, bytes that are no UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// True when it ended with status 0.
    pub fn ok(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The exit code; `None` when it was killed.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Gives standard output back.
    ///
    /// # Panics
    /// When the program failed; the message holds all that it wrote.
    pub fn expect_ok(self) -> String {
        assert!(
            self.ok(),
            "{} ended with {:?}\nstdout: {}\nstderr: {}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// Each line of standard output as JSON.
    ///
    /// # Panics
    /// When the program failed or a line is no JSON.
    pub fn jsonl(self) -> Vec<serde_json::Value> {
        let command = self.command.clone();
        let text = self.expect_ok();
        let parse = |line: &str| {
            serde_json::from_str(line)
                .unwrap_or_else(|e| panic!("{command} printed no JSON ({e}): {line}"))
        };
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(parse)
            .collect()
    }

    /// The whole of standard output as one JSON value.
    ///
    /// # Panics
    /// When the program failed or its output is no JSON.
    pub fn json(self) -> serde_json::Value {
        let command = self.command.clone();
        let text = self.expect_ok();
        serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{command} printed no JSON ({e}): {text}"))
    }
}

/// Runs a command to its end, or kills it at the limit.
///
/// # Panics
/// When the program cannot be started.
pub fn run(command: &mut Command, limit: Duration) -> Output {
    // Into files rather than pipes: a child's child that keeps a pipe open cannot hang us, and no pipe can fill up.
    let (mut out, mut err) = (scratch(), scratch());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(clone(&out))
        .stderr(clone(&err))
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let status = within(limit, || child.try_wait().ok().flatten());
    if status.is_none() {
        end(&mut child);
    }
    Output {
        command: format!("{command:?}"),
        status,
        stdout: text(&mut out),
        stderr: text(&mut err),
    }
}

/// A process that is killed when this goes away.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a command with no standard input and its output thrown away.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start(command: &mut Command) -> Self {
        Self::start_with(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// Starts a command with no standard input and its output where the command says.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start_with(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        Self(child)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Sends a signal; a process that is gone already is no failure.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // ESRCH: it has ended, which is what most signals here are after.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// True while the process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The state letter of /proc/PID/stat: `R`, `S`, `D`, `T`, `Z`, …
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, a parenthesis too; the state follows the last one.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Processes whose program is `exe` and whose first argument is one of `commands`.
pub fn find(exe: &std::path::Path, commands: &[&str]) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return vec![];
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let same = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == exe);
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = line.split(|&b| b == 0).nth(1).unwrap_or_default();
            same && commands.iter().any(|command| command.as_bytes() == first)
        })
        .collect()
}

fn end(child: &mut Child) {
    // Errors mean that it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn scratch() -> File {
    tempfile::tempfile().unwrap_or_else(|e| panic!("cannot make a temporary file: {e}"))
}

fn clone(file: &File) -> File {
    file.try_clone()
        .unwrap_or_else(|e| panic!("cannot copy a file descriptor: {e}"))
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // A file of our own that was written through another descriptor: what cannot be read is simply missing.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_output_and_status() {
        let output = run(
            Command::new("/bin/sh").args(["-c", "echo '{\"a\":1}'; echo no >&2; exit 3"]),
            Duration::from_secs(10),
        );
        assert_eq!((output.code(), output.stderr.as_str()), (Some(3), "no\n"));
        assert!(!output.ok());
    }

    #[test]
    fn kills_at_the_limit() {
        let output = run(
            Command::new("/bin/sleep").arg("60"),
            Duration::from_millis(50),
        );
        assert!(output.status.is_none());
    }

    #[test]
    fn finds_a_process_by_program_and_first_argument() {
        let exe = std::fs::canonicalize("/bin/sleep").unwrap();
        let running = Running::start(Command::new(&exe).arg("54321"));
        let pid = running.pid();
        crate::eventually("the sleep to be found", Duration::from_secs(5), || {
            find(&exe, &["54321"]).contains(&pid).then_some(())
        });
        assert!(is_alive(pid));
        drop(running);
        assert!(!is_alive(pid));
    }
}
