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

/// In a thread of its own, because capabilities are a thread's: what a socket gets with and without CAP_NET_ADMIN.
fn room(buffer: usize, before: usize, privileged: bool) -> Option<Room> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    std::thread::spawn(move || {
        let mut own = capabilities(None).unwrap();
        if privileged && !own.effective.contains(CapabilitySet::NET_ADMIN) {
            return None;
        }
        if !privileged {
            own.effective.remove(CapabilitySet::NET_ADMIN);
            set_capabilities(None, own).unwrap();
        }
        let socket = Socket::new(NETLINK_CONNECTOR).unwrap();
        if before > 0 {
            collector_sys::set_receive_buffer(&socket, before).unwrap();
        }
        Some(Room::make(&socket, buffer).unwrap())
    })
    .join()
    .unwrap()
}

#[test]
fn the_queue_holds_what_comes_while_the_reader_is_not_run() {
    let Some(room) = room(RECEIVE_BUFFER, 0, true) else {
        println!("skipped: CAP_NET_ADMIN is missing");
        return;
    };
    // 45,092 messages were the most that a storm queued.
    assert!(!room.is_short() && room.messages() > 80_000, "{room:?}");
    assert!(
        (room.messages() as u64) < MAX_DRAIN,
        "a full queue is read in one go"
    );
}

#[test]
fn without_the_right_to_more_the_room_is_said_as_it_is() {
    let most: usize = std::fs::read_to_string("/proc/sys/net/core/rmem_max")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let room = room(most + (4 << 20), 0, false).unwrap();
    assert_eq!(room.got, 2 * most);
    assert!(room.is_short(), "{room:?}");
}

#[test]
fn a_buffer_that_is_larger_already_is_left_alone() {
    let room = room(8 << 10, 16 << 10, false).unwrap();
    assert_eq!(room.got, 32 << 10);
}
