//! One byte of the files changed anywhere: the change is found or harmless, and the program that has the store lives. SYSCALL_MONITOR_LONG=1
//! makes 500 rounds of it, else 12.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{activity, body, finding, id, time};
use history::{Kind, Options, Query, Store};

const CHILD: &str = "HISTORY_TEST_DAMAGED_DIR";
const ENTRIES: u64 = 50_000;

fn options() -> Options {
    Options {
        min_free_bytes: 0,
        cache_bytes: 8 << 20,
        ..Options::default()
    }
}

/// Not a test of its own: looks at a damaged store and says what it sees.
#[test]
fn reader_process() {
    let Ok(dir) = std::env::var(CHILD) else {
        println!(
            "skipped: runs as the child of one_changed_byte_in_the_files_is_found_or_harmless"
        );
        return;
    };
    let store = match Store::open_existing(Path::new(&dir), options()) {
        Ok(store) => store,
        Err(error) => {
            // What is whole in it can still be read.
            let new = tempfile::tempdir().unwrap();
            let salvaged = history::salvage(Path::new(&dir), new.path())
                .and_then(|()| Store::open_existing(new.path(), options()))
                .and_then(|store| store.rows(&Query::default()))
                .map_or(0, |rows| rows.len());
            println!("\nsays not opened: salvaged {salvaged} of it: {error}");
            return;
        }
    };
    let problems = match store.verify(&mut |_| ControlFlow::Continue(())) {
        Ok(report) => {
            for problem in report.problems.iter().take(3) {
                println!("\nproblem {problem:?}");
            }
            report.problems.len()
        }
        Err(error) => {
            println!("\nsays verify: {error}");
            return;
        }
    };
    let mut next = 0;
    let query = Query {
        kinds: vec![Kind::Activity],
        ..Query::default()
    };
    let read = store.query(&query, &mut |row| {
        let same = row.id == id(next) && (row.body == body(next) || row.body == b"amended");
        next += u64::from(same);
        ControlFlow::Continue(())
    });
    let damaged = read.map_or(1, |stats| stats.blocks_damaged);
    let alerts = (0..20).all(|n| matches!(store.get(Kind::Alert, &format!("A-{n}")), Ok(Some(_))));
    let queue = store.queue("q").list().is_ok_and(|list| list.len() == 1);
    let area = matches!(store.area("a").get(b"k"), Ok(Some(v)) if v == b"v");
    let whole = next == ENTRIES && alerts && queue && area;
    println!(
        "\nsays problems {} whole {whole} rows {next}",
        problems as u64 + damaged
    );
}

fn files(dir: &Path, out: &mut Vec<(PathBuf, u64)>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            files(&entry.path(), out);
        } else {
            out.push((entry.path(), meta.len()));
        }
    }
}

fn copy(from: &Path, to: &Path, all: &[(PathBuf, u64)]) {
    for (file, _) in all {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, &target).unwrap();
    }
}

#[test]
fn one_changed_byte_in_the_files_is_found_or_harmless() {
    let long = std::env::var_os("SYSCALL_MONITOR_LONG").is_some();
    let rounds: u64 = if long { 500 } else { 12 };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    for start in (0..ENTRIES).step_by(1000) {
        store
            .append_all((start..start + 1000).map(activity).collect())
            .unwrap();
        store.flush().unwrap();
    }
    let alerts = (0..20).map(|n| finding(Kind::Alert, &format!("A-{n}"), time(n), b"a"));
    store.append_all(alerts.collect()).unwrap();
    for number in [3, 40_000] {
        let ticket = store.amend(
            Kind::Activity,
            &id(number),
            time(number),
            b"amended".to_vec(),
        );
        ticket.unwrap().wait().unwrap();
    }
    store.area("a").put(b"k", b"v").unwrap();
    store.queue("q").push(b"item").unwrap();
    store.flush().unwrap();
    // As a killed program leaves it: nothing is written any more, and it was not closed.
    let mut all = Vec::new();
    files(dir.path(), &mut all);
    let base = tempfile::tempdir().unwrap();
    copy(dir.path(), base.path(), &all);
    drop(store);
    let mut all = Vec::new();
    files(base.path(), &mut all);
    // What is not zero is what was written: bytes of unused room are of no interest.
    let used: Vec<(PathBuf, Vec<u8>)> = all
        .iter()
        .map(|(path, _)| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let total: u64 = used.iter().map(|(_, bytes)| bytes.len() as u64).sum();

    let look = |dir: &Path| {
        let out = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "reader_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, dir)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let undamaged = tempfile::tempdir().unwrap();
    copy(base.path(), undamaged.path(), &all);
    let text = look(undamaged.path());
    assert!(text.contains("says problems 0 whole true"), "{text}");

    let (mut found, mut harmless, mut refused, mut salvaged, mut crashed) = (0, 0, 0, 0, 0);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..rounds {
        // A place in the files; every fourth round in the last part of the log, where the newest is, and every tenth in a small file.
        let (path, place) = loop {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let mut at = (random >> 16) % total;
            let list: Vec<_> = used
                .iter()
                .filter(|(_, b)| round % 10 != 9 || b.len() < 1 << 20)
                .collect();
            let sum: u64 = list.iter().map(|(_, b)| b.len() as u64).sum();
            at %= sum;
            let (path, bytes) = list
                .iter()
                .find(|(_, b)| {
                    let inside = at < b.len() as u64;
                    if !inside {
                        at -= b.len() as u64;
                    }
                    inside
                })
                .unwrap();
            if round % 4 == 3 && bytes.len() > 1 << 20 {
                let end = bytes.iter().rposition(|b| *b != 0).unwrap() as u64;
                at = end - at % (end / 20).max(1);
            }
            if bytes[at as usize] != 0 || round % 7 == 0 {
                break (path.clone(), at);
            }
        };
        let damaged = tempfile::tempdir().unwrap();
        copy(base.path(), damaged.path(), &all);
        let target = damaged.path().join(path.strip_prefix(base.path()).unwrap());
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&target)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << (round % 8))], place)
            .unwrap();
        drop(file);
        let text = look(damaged.path());
        let says = text.lines().find_map(|l| l.strip_prefix("says "));
        let what = format!("byte {place} of {}", target.display());
        match says {
            None => crashed += 1,
            Some(says) if says.starts_with("not opened") => {
                refused += 1;
                let rows = says.split(' ').nth(3).and_then(|n| n.parse::<u64>().ok());
                salvaged += u64::from(rows.is_some_and(|rows| rows > 0));
                println!("{what}: {says}");
            }
            Some(says) if says.starts_with("problems 0 whole true") => harmless += 1,
            Some(says) if says.starts_with("problems 0") => {
                panic!("round {round}: {what} took something away in silence: {says}")
            }
            Some(_) => found += 1,
        }
    }
    println!(
        "{rounds} rounds: {found} found, {harmless} harmless, {refused} refused at open ({salvaged} of these read all the same), {crashed} ended the child"
    );
}
