//! Commands to the kernel's audit: status, settings, rules.
//!
//! In: [`Change`]s and [`Rule`]s. Out: what the kernel says, with every acknowledgement checked. It keeps no state but a
//! sequence number, and its socket never carries records.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_audit::AuditMessage;
use netlink_packet_audit::constants::{
    AUDIT_ADD_RULE, AUDIT_DEL_RULE, AUDIT_GET, AUDIT_LIST_RULES,
};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkSerializable};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_AUDIT};

use crate::netlink::{NLMSG_DONE, NLMSG_ERROR, errno, message, split};
use crate::rules::Rule;
use crate::status::{Change, Status};

/// Why a command failed. Every message names the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Rights are missing.
    #[error(
        "may not {what}: the kernel wants CAP_AUDIT_CONTROL in the initial user and pid namespaces; run as root on the host"
    )]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// The kernel has no audit.
    #[error("this kernel has no audit; boot one with CONFIG_AUDIT=y and CONFIG_AUDITSYSCALL=y")]
    NoAudit,
    /// `enabled` is 2.
    #[error(
        "could not {what}: the audit configuration is locked (enabled 2) until the next boot; reboot to change it"
    )]
    Locked {
        /// What was tried.
        what: String,
    },
    /// The kernel has this rule already.
    #[error("the kernel has this rule already: {rule}; delete it first, or leave it")]
    RuleExists {
        /// The rule.
        rule: String,
    },
    /// The kernel has no such rule.
    #[error("the kernel has no such rule: {rule}; list the rules to see what is loaded")]
    NoSuchRule {
        /// The rule.
        rule: String,
    },
    /// Another process owns the stream.
    #[error("another process owns the audit stream (auditd?); stop it, or use mode \"shared\"")]
    OwnerExists,
    /// The path of a rule does not exist.
    #[error("the path of the rule does not exist: {rule}; make it, or leave the rule out")]
    NoSuchPath {
        /// The rule.
        rule: String,
    },
    /// The kernel refused in another way.
    #[error("the kernel refused to {what}: {} (errno {errno}); `dmesg` may say more", io::Error::from_raw_os_error(*errno))]
    Kernel {
        /// The errno.
        errno: i32,
        /// What was tried.
        what: String,
    },
    /// The kernel did not answer.
    #[error(
        "the kernel did not answer within {limit:?} when asked to {what}; look at `status` and try again"
    )]
    Timeout {
        /// What was tried.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The kernel's answer cannot be understood.
    #[error(
        "could not {what}: the kernel's answer makes no sense ({why}); report this with the kernel's version"
    )]
    Answer {
        /// What was tried.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The socket failed.
    #[error("could not {what} on the audit control socket: {source}; open it again")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Waited for one answer. The kernel lists thousands of rules in far less.
const ANSWER: Duration = Duration::from_secs(5);
/// A rule with every string at its longest stays below it.
const BUFFER: usize = 64 * 1024;

/// The control socket. Not to be cloned (netlink-sys closes the descriptor with each clone).
#[derive(Debug)]
pub struct Control {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

enum Request<'a> {
    Plain,
    Add(&'a Rule),
    Delete(&'a Rule),
}

impl Control {
    /// Opens the socket. It needs no rights yet.
    ///
    /// # Errors
    /// [`ControlError::NoAudit`] or [`ControlError::Io`].
    pub fn open() -> Result<Self, ControlError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source: io::Error| match source.raw_os_error() {
                Some(libc::EPROTONOSUPPORT) => ControlError::NoAudit,
                _ => ControlError::Io { what, source },
            }
        };
        let mut socket = Socket::new(NETLINK_AUDIT).map_err(failed("open a socket"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        // A long list of rules must fit, since the kernel does not wait long for us.
        let _ = collector_sys::set_receive_buffer(&socket, 4 << 20);
        socket
            .set_non_blocking(true)
            .map_err(failed("set non-blocking mode"))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Asks for the status.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn status(&mut self) -> Result<Status, ControlError> {
        let what = "read the audit status";
        let (kind, payload) = serialized(&AuditMessage::GetStatus(None));
        let mut status = None;
        self.transact(
            what,
            kind,
            &payload,
            &Request::Plain,
            Until::Reply,
            |kind, payload| {
                if kind == AUDIT_GET {
                    status = Some(
                        Status::parse(payload)
                            .ok_or_else(|| format!("a status of {} bytes", payload.len()))?,
                    );
                }
                Ok(())
            },
        )?;
        status.ok_or_else(|| ControlError::Answer {
            what: what.into(),
            why: "there is no status in it".into(),
        })
    }

    /// Changes settings.
    ///
    /// # Errors
    /// [`ControlError`]; with several settings in one change the kernel may have set some of them.
    pub fn set(&mut self, change: &Change) -> Result<(), ControlError> {
        if change.is_empty() {
            return Ok(());
        }
        let (kind, payload) = serialized(&AuditMessage::SetStatus(change.to_message()));
        let what = format!("set {change}");
        self.transact(
            &what,
            kind,
            &payload,
            &Request::Plain,
            Until::Ack,
            |_, _| Ok(()),
        )
    }

    /// Lists the kernel's rules, in its order.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn rules(&mut self) -> Result<Vec<Rule>, ControlError> {
        let (kind, payload) = serialized(&AuditMessage::ListRules(None));
        let mut rules = Vec::new();
        self.transact(
            "list the audit rules",
            kind,
            &payload,
            &Request::Plain,
            Until::Done,
            |kind, payload| {
                if kind == AUDIT_LIST_RULES {
                    rules.push(Rule::decode(payload).map_err(|e| e.to_string())?);
                }
                Ok(())
            },
        )?;
        Ok(rules)
    }

    /// Loads a rule. A rule that is to be put in front is loaded even when the kernel has it already (it compares the wish
    /// with the list, where no rule has it): look with [`crate::rules::diff`] first.
    ///
    /// # Errors
    /// [`ControlError::RuleExists`], [`ControlError::NoSuchPath`] and the rest of [`ControlError`].
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), ControlError> {
        let what = format!("load the rule {rule}");
        self.transact(
            &what,
            AUDIT_ADD_RULE,
            &rule.encode(),
            &Request::Add(rule),
            Until::Ack,
            |_, _| Ok(()),
        )
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// [`ControlError::NoSuchRule`] and the rest of [`ControlError`].
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), ControlError> {
        let what = format!("delete the rule {rule}");
        // The kernel forgets that a rule was to be put in front, and finds no rule that says so.
        let mut listed = rule.clone();
        listed.set_prepend(false);
        self.transact(
            &what,
            AUDIT_DEL_RULE,
            &listed.encode(),
            &Request::Delete(rule),
            Until::Ack,
            |_, _| Ok(()),
        )
    }

    /// Sends a request and reads until its end has come: the acknowledgement, and what `until` names (the kernel's answers
    /// come from a thread of its own, before or after the acknowledgement).
    fn transact(
        &mut self,
        what: &str,
        kind: u16,
        payload: &[u8],
        request: &Request<'_>,
        until: Until,
        mut take: impl FnMut(u16, &[u8]) -> Result<(), String>,
    ) -> Result<(), ControlError> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let bytes = message(kind, NLM_F_REQUEST | NLM_F_ACK, self.sequence, payload);
        if let Err(source) = self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0) {
            return Err(match source.raw_os_error() {
                Some(libc::EPERM | libc::ECONNREFUSED) => {
                    ControlError::NotPermitted { what: what.into() }
                }
                _ => ControlError::Io {
                    what: what.into(),
                    source,
                },
            });
        }
        let deadline = Instant::now() + ANSWER;
        let (mut acknowledged, mut finished) = (false, until == Until::Ack);
        while !(acknowledged && finished) {
            self.buffer.clear();
            let sender = match self.socket.recv_from(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok((_, sender)) => sender,
                Err(e)
                    if e.kind() == io::ErrorKind::WouldBlock
                        || e.kind() == io::ErrorKind::Interrupted =>
                {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(ControlError::Timeout {
                            what: what.into(),
                            limit: ANSWER,
                        });
                    }
                    crate::live::wait_readable(&[self.socket.as_fd()], left).map_err(|source| {
                        ControlError::Io {
                            what: what.into(),
                            source,
                        }
                    })?;
                    continue;
                }
                Err(source) => {
                    return Err(ControlError::Io {
                        what: what.into(),
                        source,
                    });
                }
            };
            let Some((kind, sequence, payload)) = split(&self.buffer) else {
                continue;
            };
            // Answers to an earlier request that was given up, and what other processes send to our port, are not for us.
            if sender.port_number() != 0 || sequence != self.sequence {
                continue;
            }
            match kind {
                NLMSG_ERROR => match errno(payload) {
                    Some(0) => acknowledged = true,
                    Some(code) => return Err(self.refused(what, code, request)),
                    None => {
                        return Err(ControlError::Answer {
                            what: what.into(),
                            why: "an error without its number".into(),
                        });
                    }
                },
                NLMSG_DONE => finished = true,
                kind => {
                    take(kind, payload).map_err(|why| ControlError::Answer {
                        what: what.into(),
                        why,
                    })?;
                    finished |= until == Until::Reply;
                }
            }
        }
        Ok(())
    }

    /// The error for an errno. EPERM has two reasons, which only the status tells apart.
    fn refused(&mut self, what: &str, code: i32, request: &Request<'_>) -> ControlError {
        let what = what.to_owned();
        match (code, request) {
            (libc::EPERM | libc::EACCES | libc::ECONNREFUSED, _) => {
                let asking_for_status = what.starts_with("read");
                match if asking_for_status {
                    None
                } else {
                    self.status().ok()
                } {
                    Some(status) if status.enabled == 2 => ControlError::Locked { what },
                    // Only the owner itself may end its ownership.
                    Some(status) if code == libc::EACCES && status.pid != 0 => {
                        ControlError::OwnerExists
                    }
                    _ => ControlError::NotPermitted { what },
                }
            }
            (libc::EEXIST, Request::Add(rule)) => ControlError::RuleExists {
                rule: rule.to_string(),
            },
            (libc::EEXIST, Request::Plain) => ControlError::OwnerExists,
            (libc::ENOENT | libc::ENOTDIR, Request::Add(rule)) => ControlError::NoSuchPath {
                rule: rule.to_string(),
            },
            (libc::ENOENT | libc::ENOTDIR, Request::Delete(rule)) => ControlError::NoSuchRule {
                rule: rule.to_string(),
            },
            (errno, _) => ControlError::Kernel { errno, what },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The acknowledgement is all.
    Ack,
    /// One answer.
    Reply,
    /// Answers until `NLMSG_DONE`.
    Done,
}

/// Type and payload of a message that netlink-packet-audit builds. It is right for status messages and for the request of a
/// list; rules go through our own codec (see [`crate::rules`]), and answers are never given to
/// `NetlinkMessage::deserialize`, which rejects a status of 32 bytes and a list with rules that the crate does not know.
fn serialized(message: &AuditMessage) -> (u16, Vec<u8>) {
    let mut payload = vec![0; NetlinkSerializable::buffer_len(message)];
    NetlinkSerializable::serialize(message, &mut payload);
    (message.message_type(), payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_a_next_step() {
        let what = || "do it".to_owned();
        for (error, step) in [
            (ControlError::NotPermitted { what: what() }, "run as root"),
            (ControlError::NoAudit, "boot one with"),
            (ControlError::Locked { what: what() }, "reboot"),
            (ControlError::RuleExists { rule: what() }, "delete it first"),
            (ControlError::OwnerExists, "stop it"),
            (ControlError::NoSuchPath { rule: what() }, "make it"),
            (
                ControlError::Kernel {
                    errno: 22,
                    what: what(),
                },
                "dmesg",
            ),
        ] {
            assert!(error.to_string().contains(step), "{error}");
        }
    }
}
