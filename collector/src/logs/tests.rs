//! Formats, compression, broken lines, rotation.

use std::fs;
use std::io::Write;

use super::*;
use proptest::prelude::*;

type Owned = (Option<String>, u16, u64, u32, String);

fn own(record: LogRecord<'_>) -> Owned {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        record.node.map(text),
        record.kind.0,
        record.millis,
        record.serial,
        text(record.body),
    )
}

fn read(bytes: &[u8]) -> (Vec<Owned>, LogStats) {
    let mut reader = LogReader::new(bytes).unwrap();
    let mut records = Vec::new();
    reader
        .for_each_record(|record| records.push(own(record)))
        .unwrap();
    (records, reader.stats().clone())
}

const LOG: &str = "type=SYSCALL msg=audit(1795353018.414:5): arch=c000003e syscall=59\u{1d}ARCH=x86_64\n\
                   node=web1 type=UNKNOWN[1399] msg=audit(1.001:6): x=1\r\n\
                   ----\n\
                   time->Sun Nov 22 13:10:18 2026\n\
                   \n\
                   type=EOE msg=audit(1795353018.414:5): \n\
                   [   12.5] audit: type=1400 audit(2.002:7): apparmor=\"DENIED\"\n\
                   type=CWD msg=audit(1795353018.414:8): cwd=\"/\"";

fn expected() -> Vec<Owned> {
    vec![
        (
            None,
            1300,
            1_795_353_018_414,
            5,
            "arch=c000003e syscall=59\u{1d}ARCH=x86_64".into(),
        ),
        (Some("web1".into()), 1399, 1001, 6, "x=1".into()),
        (None, 1320, 1_795_353_018_414, 5, String::new()),
        (None, 1400, 2002, 7, "apparmor=\"DENIED\"".into()),
        (None, 1307, 1_795_353_018_414, 8, "cwd=\"/\"".into()),
    ]
}

#[test]
fn every_format_is_read() {
    let (records, stats) = read(LOG.as_bytes());
    assert_eq!(records, expected());
    assert_eq!((stats.lines, stats.records, stats.malformed), (8, 5, 0));
}

#[test]
fn compressed_logs_are_told_by_their_first_bytes() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(LOG.as_bytes()).unwrap();
    assert_eq!(read(&gzip.finish().unwrap()).0, expected());
    // Two frames behind each other, as `zstd >> file` leaves them.
    let (first, second) = LOG.as_bytes().split_at(100);
    let frames = [
        zstd::encode_all(first, 1).unwrap(),
        zstd::encode_all(second, 1).unwrap(),
    ]
    .concat();
    assert_eq!(read(&frames).0, expected());
    let mut cut = LogReader::new(&frames[..frames.len() - 3]).unwrap();
    assert!(matches!(
        cut.for_each_record(|_| {}),
        Err(LogError::Read { .. })
    ));
}

#[test]
fn broken_lines_are_counted_with_their_numbers() {
    let long = [
        b"type=CWD msg=audit(1.001:1): cwd=".as_slice(),
        &vec![b'A'; MAX_LINE + CHUNK],
        b"\n",
    ]
    .concat();
    let log = [
        b"type=CWD msg=audit(1.001:1): a=1\nnonsense\n".as_slice(),
        &long,
        b"type= msg=audit(1.001:1): x\nnode= type=CWD msg=audit(1.001:1): x\n\xff\xfe\ntype=CWD msg=audit(1.001:2): b=2\n",
    ]
    .concat();
    let (records, stats) = read(&log);
    assert_eq!(records.iter().map(|r| r.3).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((stats.lines, stats.records, stats.malformed), (7, 2, 5));
    assert_eq!(stats.malformed_lines, [2, 3, 4, 5, 6]);
}

#[test]
fn reading_goes_on_behind_a_break() {
    let mut reader = LogReader::new(LOG.as_bytes()).unwrap();
    let mut records = Vec::new();
    while reader
        .try_for_each_record(|record| {
            records.push(own(record));
            ControlFlow::Break(())
        })
        .unwrap()
        .is_break()
    {}
    assert_eq!(records, expected());
}

#[test]
fn a_growing_log_is_followed_across_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let line = |n: u32| format!("type=CWD msg=audit(1.001:{n}): cwd=\"/\"\n");
    let append = |text: &str| {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    let rotate = || {
        for n in (1..5).rev() {
            let _ = fs::rename(
                dir.path().join(format!("audit.log.{n}")),
                dir.path().join(format!("audit.log.{}", n + 1)),
            );
        }
        fs::rename(&path, dir.path().join("audit.log.1")).unwrap();
    };
    append(&line(1));
    let mut follower = Follower::open(&path).unwrap();
    let mut seen = Vec::new();
    let mut poll = |follower: &mut Follower| {
        follower.poll(|r| seen.push(r.serial)).unwrap();
        seen.clone()
    };
    assert_eq!(poll(&mut follower), [1]);
    // A line comes in two writes.
    append(&line(2)[..10]);
    assert_eq!(poll(&mut follower), [1]);
    append(&line(2)[10..]);
    assert_eq!(poll(&mut follower), [1, 2]);
    // Written, renamed, and no new file yet.
    append(&line(3));
    rotate();
    assert_eq!(poll(&mut follower), [1, 2, 3]);
    append(&line(4));
    assert_eq!(poll(&mut follower), [1, 2, 3, 4]);
    // Two rotations between two looks.
    append(&line(5));
    rotate();
    append(&line(6));
    rotate();
    append(&line(7));
    assert_eq!(poll(&mut follower), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(follower.rotations(), 3);
    // Cut in place.
    fs::write(&path, "").unwrap();
    poll(&mut follower);
    append(&line(8));
    assert_eq!(poll(&mut follower), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(follower.stats().malformed, 0);
}

#[test]
fn log_time_never_goes_back() {
    let mut clock = LogClock::new();
    let start = clock.at(1_000);
    assert_eq!(clock.at(3_500) - start, Duration::from_millis(2_500));
    assert_eq!(clock.at(2_000) - start, Duration::from_millis(2_500));
    assert!(clock.at(u64::MAX) > start);
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_the_end(bytes: Vec<u8>) {
        prop_assume!(!bytes.starts_with(&[0x1f, 0x8b]));
        let (_, stats) = read(&bytes);
        let breaks = bytes.iter().filter(|b| **b == b'\n').count() as u64;
        prop_assert_eq!(stats.lines, breaks + u64::from(!bytes.is_empty() && !bytes.ends_with(b"\n")));
    }

    #[test]
    fn any_mutation_of_a_log_is_read_to_the_end(at in 0..LOG.len(), byte: u8, cut in 0..LOG.len()) {
        let mut bytes = LOG.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(cut);
        let (records, stats) = read(&bytes);
        prop_assert_eq!(records.len() as u64, stats.records);
    }
}
