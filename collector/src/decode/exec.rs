//! EXECVE, CWD and PROCTITLE: what was started, where, and how a process calls itself.

use crate::event::Event;
use crate::record::{RawValue, RecordType};

/// How many arguments a record may claim by `argc` alone before we stop believing it. An argument of no bytes leaves no
/// trace but this count, so it cannot be bounded by the size of the record.
const MAX_CLAIMED: usize = 65_536;

impl Event {
    /// The arguments of an exec, put together again from their pieces: `None` when there is no EXECVE record.
    ///
    /// Long arguments come as `a1_len=…` and pieces `a1[0]=…`, in several records. Arguments that are missing (empty
    /// ones are not always written) are empty, as many as `argc` says, at most 65,536.
    pub fn argv(&self) -> Option<Vec<Vec<u8>>> {
        let mut argc = None;
        let mut argv: Vec<Vec<u8>> = Vec::new();
        for record in self.records().filter(|r| r.kind == RecordType::EXECVE) {
            argc.get_or_insert(0);
            for (name, value) in record.fields() {
                if name == b"argc" {
                    argc = value.u64().and_then(|n| usize::try_from(n).ok()).or(argc);
                } else if let Some(index) = argument_index(name) {
                    put(&mut argv, index, value);
                }
            }
        }
        let argc = argc?.min(MAX_CLAIMED);
        if argv.len() < argc {
            argv.resize(argc, Vec::new());
        }
        Some(argv)
    }

    /// The working directory, in the mount namespace of the process. `None` when there is no CWD record.
    pub fn cwd(&self) -> Option<Vec<u8>> {
        Some(
            self.record(RecordType::CWD)?
                .get("cwd")?
                .text()?
                .into_owned(),
        )
    }

    /// The command line of the process as it is in its own memory, which it may change: arguments separated by NUL, cut by
    /// the kernel at 128 bytes. For a container's first program it is still the runtime's.
    pub fn title(&self) -> Option<Vec<u8>> {
        Some(
            self.record(RecordType::PROCTITLE)?
                .get("proctitle")?
                .text()?
                .into_owned(),
        )
    }
}

/// Adds a value to the argument of that index. An index far beyond those before it is not believed.
fn put(argv: &mut Vec<Vec<u8>>, index: usize, value: RawValue<'_>) {
    if index >= argv.len() {
        if index - argv.len() > MAX_CLAIMED {
            return;
        }
        argv.resize(index + 1, Vec::new());
    }
    argv[index].extend_from_slice(&value.decode());
}

/// 1 for `a1` and `a1[0]`; `None` for `a1_len` and everything else.
fn argument_index(name: &[u8]) -> Option<usize> {
    let digits = name.strip_prefix(b"a")?;
    let digits = match digits.iter().position(|b| *b == b'[') {
        Some(at) if digits.ends_with(b"]") => &digits[..at],
        Some(_) => return None,
        None => digits,
    };
    crate::record::decimal(digits).and_then(|n| usize::try_from(n).ok())
}

/// Writes text as the kernel does: in quotes, or as hex when there is a quote, a space, a control byte or one above 0x7e in
/// it (`audit_log_n_untrustedstring`).
pub fn encode_text(text: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if text.iter().any(|b| *b == b'"' || *b < 0x21 || *b > 0x7e) {
        return text
            .iter()
            .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
            .collect();
    }
    [b"\"", text, b"\""].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;
    use proptest::prelude::*;

    fn argv(bodies: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
        let mut event = Event::new(EventId::local(1, 1));
        bodies
            .iter()
            .for_each(|body| event.push(RecordType::EXECVE, body));
        event.argv()
    }

    #[test]
    fn pieces_and_empty_arguments_come_together() {
        let got = argv(&[
            b"argc=5 a0=\"sh\" a1=2D6320 a3_len=6 a3[0]=\"abc\"",
            b"a3[1]=646566",
        ])
        .unwrap();
        assert_eq!(got, [&b"sh"[..], b"-c ", b"", b"abcdef", b""]);
        assert_eq!(argv(&[]), None);
        assert_eq!(argv(&[b"argc=1 a0=\"\""]).unwrap(), [b""]);
    }

    #[test]
    fn a_lie_about_the_count_costs_little() {
        assert_eq!(
            argv(&[b"argc=18446744073709551615 a99999999999=\"x\""])
                .unwrap()
                .len(),
            MAX_CLAIMED
        );
        assert!(argv(&[b"argc=x a0[=1 a[0]=1 a]=2"]).unwrap().is_empty());
    }

    #[test]
    fn directory_and_title_are_text() {
        let mut event = Event::new(EventId::local(1, 1));
        event.push(RecordType::CWD, b"cwd=\"/root\"");
        event.push(RecordType::PROCTITLE, b"proctitle=6C73002D6C");
        assert_eq!(event.cwd().as_deref(), Some(&b"/root"[..]));
        assert_eq!(event.title().as_deref(), Some(&b"ls\0-l"[..]));
    }

    proptest! {
        #[test]
        fn arguments_survive_any_way_of_cutting_them(
            args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            piece in 1usize..7,
        ) {
            let mut bodies = vec![format!("argc={}", args.len()).into_bytes()];
            for (i, arg) in args.iter().enumerate() {
                if arg.len() <= piece {
                    bodies[0].extend(format!(" a{i}=").bytes().chain(encode_text(arg)));
                    continue;
                }
                for (n, chunk) in arg.chunks(piece).enumerate() {
                    bodies.push(format!("a{i}[{n}]=").bytes().chain(encode_text(chunk)).collect());
                }
            }
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(argv(&bodies).unwrap(), args);
        }
    }
}
