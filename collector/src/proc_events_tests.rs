//! Tests of the proc connector.

use super::*;
use proptest::prelude::*;

fn kind() -> impl Strategy<Value = ProcEventKind> {
    use ProcEventKind as K;
    let n = any::<u32>;
    prop_oneof![
        (n(), n(), n(), n()).prop_map(|(parent_pid, parent_tgid, child_pid, child_tgid)| {
            K::Fork {
                parent_pid,
                parent_tgid,
                child_pid,
                child_tgid,
            }
        }),
        (n(), n()).prop_map(|(pid, tgid)| K::Exec { pid, tgid }),
        (n(), n(), n(), n()).prop_map(|(pid, tgid, code, signal)| K::Exit {
            pid,
            tgid,
            code,
            signal
        }),
        (n(), n(), any::<[u8; 16]>()).prop_map(|(pid, tgid, comm)| K::Comm { pid, tgid, comm }),
        (n(), n(), n(), n()).prop_map(|(pid, tgid, real, effective)| K::Uid {
            pid,
            tgid,
            real,
            effective
        }),
        (n(), n(), n(), n()).prop_map(|(pid, tgid, real, effective)| K::Gid {
            pid,
            tgid,
            real,
            effective
        }),
        (n(), n()).prop_map(|(pid, tgid)| K::Sid { pid, tgid }),
        (n(), n(), n(), n()).prop_map(|(pid, tgid, tracer_pid, tracer_tgid)| K::Ptrace {
            pid,
            tgid,
            tracer_pid,
            tracer_tgid
        }),
        (n(), n()).prop_map(|(pid, tgid)| K::Coredump { pid, tgid }),
        n().prop_map(|error| K::Ack { error }),
        (0x400u32..0x4000_0000).prop_map(|what| K::Unknown { what }),
    ]
}

proptest! {
    #[test]
    fn an_event_survives_its_bytes(at_ns: u64, cpu: u32, seq: u32, kind in kind()) {
        let event = ProcEvent { at_ns, cpu, seq, kind };
        prop_assert_eq!(ProcEvent::parse(&encode(&event)), Some(event));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, cut in 0usize..80, kind in kind()) {
        let _ = ProcEvent::parse(&bytes);
        let good = encode(&ProcEvent { at_ns: 1, cpu: 2, seq: 3, kind });
        let short = &good[..cut.min(good.len())];
        prop_assert!(short.len() == good.len() || ProcEvent::parse(short).is_none());
    }
}

#[test]
fn a_fork_is_read_where_the_header_file_puts_it() {
    // nlmsghdr, cn_msg and proc_event word by word, `linux/cn_proc.h`.
    let mut bytes = vec![];
    for word in [76u32, 3, 0, 0, 1, 1, 4711, 0, 40, 1, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(&1_345_770_000_000u64.to_ne_bytes());
    for word in [100u32, 100, 101, 101, 0, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    assert_eq!(
        ProcEvent::parse(&bytes),
        Some(ProcEvent {
            at_ns: 1_345_770_000_000,
            cpu: 0,
            seq: 4711,
            kind: ProcEventKind::Fork {
                parent_pid: 100,
                parent_tgid: 100,
                child_pid: 101,
                child_tgid: 101
            }
        })
    );
}

#[test]
fn gaps_are_counted_by_processor_and_across_the_wrap() {
    let mut gaps = SeqGaps::default();
    let event = |cpu, seq| ProcEvent {
        at_ns: 0,
        cpu,
        seq,
        kind: ProcEventKind::Exec { pid: 1, tgid: 1 },
    };
    assert_eq!(gaps.missing(&event(0, u32::MAX)), 0);
    assert_eq!(gaps.missing(&event(1, 5)), 0);
    assert_eq!(gaps.missing(&event(0, 0)), 0);
    assert_eq!(gaps.missing(&event(0, 3)), 2);
    assert_eq!(gaps.missing(&event(1, 6)), 0);
    assert_eq!(gaps.missing(&event(1, 6)), 0, "a repeat is no gap");
    assert_eq!(
        gaps.missing(&event(u32::MAX, 1)),
        0,
        "a processor that cannot be takes no memory"
    );
}
