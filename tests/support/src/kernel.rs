//! The kernel's audit state, of which there is one on a machine: who may use it, how it stands, how it is put back.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use crate::process::run;

/// Whoever changes audit rules or uses Docker in a test holds this lock (flock) meanwhile.
pub const LOCK: &str = "/run/lock/syscall-monitor-test.lock";
const LIMIT: Duration = Duration::from_secs(20);

/// Whether tests that use the kernel and Docker were asked for (`SYSCALL_MONITOR_KERNEL_TESTS=1`). Says so when not.
pub fn wanted(test: &str) -> bool {
    let wanted = std::env::var_os("SYSCALL_MONITOR_KERNEL_TESTS").is_some_and(|v| v == "1");
    if !wanted {
        eprintln!(
            "skipped: {test} needs root, audit and Docker; scripts/test.sh provides them (SYSCALL_MONITOR_KERNEL_TESTS=1)"
        );
    }
    wanted
}

/// The lock on audit and Docker, held until this goes away. `scripts/test.sh` holds it for all its tests and says so in
/// `SYSCALL_MONITOR_TEST_LOCK_HELD`.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "an open file is the lock")] Option<File>);

impl Lock {
    /// Waits for the lock.
    ///
    /// # Panics
    /// When the lock file cannot be made or locked.
    pub fn take() -> Self {
        if std::env::var_os("SYSCALL_MONITOR_TEST_LOCK_HELD").is_some_and(|v| v == "1") {
            return Self(None);
        }
        let file = File::options()
            .create(true)
            .append(true)
            .open(LOCK)
            .unwrap_or_else(|e| panic!("cannot open the test lock {LOCK}: {e}"));
        file.lock()
            .unwrap_or_else(|e| panic!("cannot lock {LOCK}: {e}"));
        Self(Some(file))
    }
}

/// The kernel's audit settings and rules, as auditctl tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditState {
    /// 0 off, 1 on, 2 locked until the next boot.
    pub enabled: u32,
    /// What the kernel does when it loses a record: 0 nothing, 1 a line in its log, 2 panic.
    pub failure: u32,
    /// Owner of the stream; 0 when nobody reads it or the reader is gone.
    pub pid: u32,
    /// Records a second, 0 is no limit.
    pub rate_limit: u32,
    /// Records that may wait.
    pub backlog_limit: u32,
    /// Jiffies that a program waits when the backlog is full.
    pub backlog_wait_time: u32,
    /// The rules in the kernel's order, in auditctl's words.
    pub rules: Vec<String>,
}

impl AuditState {
    /// Asks the kernel.
    ///
    /// # Panics
    /// When auditctl is missing or may not ask.
    pub fn read() -> Self {
        let status = auditctl(&["-s"]);
        let value = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                .unwrap_or_else(|| panic!("auditctl -s tells no {name}: {status}"))
        };
        let owner: u32 = value("pid ");
        Self {
            enabled: value("enabled "),
            failure: value("failure "),
            // The kernel forgets a dead owner only when it next fails to reach it.
            pid: if owner != 0 && crate::process::is_alive(owner) {
                owner
            } else {
                0
            },
            rate_limit: value("rate_limit "),
            backlog_limit: value("backlog_limit "),
            backlog_wait_time: value("backlog_wait_time "),
            rules: auditctl(&["-l"])
                .lines()
                .filter(|line| line.starts_with('-'))
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Puts rules and settings back to this state where they differ, and says what it had to do.
    pub fn restore(&self) -> Vec<String> {
        let now = Self::read();
        let mut done = vec![];
        if now.rules != self.rules {
            auditctl(&["-D"]);
            for rule in &self.rules {
                auditctl(&rule.split_whitespace().collect::<Vec<_>>());
            }
            done.push(format!(
                "rules: {} found, {} put back",
                now.rules.len(),
                self.rules.len()
            ));
        }
        let settings = [
            ("enabled", "-e", now.enabled, self.enabled),
            ("failure", "-f", now.failure, self.failure),
            ("rate_limit", "-r", now.rate_limit, self.rate_limit),
            ("backlog_limit", "-b", now.backlog_limit, self.backlog_limit),
            (
                "backlog_wait_time",
                "--backlog_wait_time",
                now.backlog_wait_time,
                self.backlog_wait_time,
            ),
        ];
        for (name, option, found, wanted) in settings {
            // Locked until reboot, or a panic on loss: no test may set these.
            if found != wanted && !(matches!(option, "-e" | "-f") && wanted == 2) {
                auditctl(&[option, &wanted.to_string()]);
                done.push(format!("{name}: {found} was {wanted}"));
            }
        }
        done
    }
}

fn auditctl(args: &[&str]) -> String {
    run(Command::new("auditctl").args(args), LIMIT).expect_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_changed_is_put_back() {
        if !wanted("what_a_test_changed_is_put_back") {
            return;
        }
        let _lock = Lock::take();
        let before = AuditState::read();
        auditctl(&[
            "-a",
            "always,exit",
            "-F",
            "arch=b64",
            "-S",
            "swapon",
            "-k",
            "support-test",
        ]);
        auditctl(&["-b", "333"]);
        assert_ne!(AuditState::read(), before);
        assert_eq!(before.restore().len(), 2);
        assert_eq!(AuditState::read(), before);
        assert_eq!(before.restore(), Vec::<String>::new());
    }
}
