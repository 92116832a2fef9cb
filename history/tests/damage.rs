//! A change anywhere in what is stored is found, and the store goes on working.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use common::{activity, finding, id, open, time};
use history::{Kind, Query, Store, VerifyReport};

fn engine(dir: &Path) -> sled::Db {
    for _ in 0..500 {
        if let Ok(db) = sled::Config::new()
            .path(dir.join("sled"))
            .segment_size(16 << 20)
            .open()
        {
            return db;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the store was not let go");
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn verify(store: &Store) -> VerifyReport {
    store.verify(&mut |_| ControlFlow::Continue(())).unwrap()
}

fn filled(dir: &Path) {
    let store = open(dir);
    store.append_all((0..600).map(activity).collect()).unwrap();
    store
        .append_all(
            (0..20)
                .map(|n| finding(Kind::Alert, &format!("A-{n}"), time(n), b"a"))
                .collect(),
        )
        .unwrap();
    store
        .amend(Kind::Activity, &id(3), time(3), b"amended".to_vec())
        .unwrap()
        .wait()
        .unwrap();
    store.area("a").put(b"k", b"v").unwrap();
    store.queue("q").push(&vec![5; 400_000]).unwrap();
    store.next_number("n").unwrap();
    assert_eq!(verify(&store).problems, []);
}

#[test]
fn one_changed_byte_anywhere_is_found_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let db = engine(dir.path());
    let all: Vec<_> = db.iter().map(Result::unwrap).collect();
    drop(db);
    // Every sort of value, and first, middle and late bytes of a spread of them.
    let kinds: std::collections::BTreeSet<u8> = all.iter().map(|(k, _)| k[0]).collect();
    assert_eq!(
        kinds.iter().map(|b| char::from(*b)).collect::<String>(),
        "abcilmnpqsvwxy"
    );
    for kind in kinds {
        let mine: Vec<_> = all
            .iter()
            .filter(|(k, v)| k[0] == kind && !v.is_empty())
            .collect();
        for step in 0..3usize {
            let Some((key, good)) = mine.get(mine.len() * step / 3) else {
                continue;
            };
            let place = good.len() * step / 3;
            let mut bad = good.to_vec();
            bad[place] ^= 1 << (step % 8);
            let copy = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), copy.path());
            let db = engine(copy.path());
            db.insert(key, bad).unwrap();
            db.flush().unwrap();
            drop(db);
            let store = open(copy.path());
            let report = verify(&store);
            assert!(
                !report.problems.is_empty(),
                "byte {place} of a {} value",
                char::from(kind)
            );
            // What is not damaged is still there, and the store still works.
            let rows = store
                .rows(&Query {
                    kinds: vec![Kind::Activity],
                    ..Query::default()
                })
                .unwrap();
            assert!(
                rows.len() >= 580,
                "{} left after byte {place} of {}",
                rows.len(),
                char::from(kind)
            );
            let _ = store.get(Kind::Alert, "A-7");
            store.append_durable(activity(9999)).unwrap();
        }
    }
}

#[test]
fn blocks_that_are_missing_or_rewritten_are_named_with_their_times() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let meta = |block: u64| [&b"m\0"[..], &block.to_be_bytes()].concat();
    let db = engine(dir.path());
    db.remove(meta(10)).unwrap();
    db.flush().unwrap();
    drop(db);
    let store = open(dir.path());
    let report = verify(&store);
    let problem = report
        .problems
        .iter()
        .find(|p| p.block == Some((0, 10)))
        .unwrap();
    assert_eq!(problem.times, Some((time(80), time(87))));
    let mut rows = 0;
    let stats = store
        .query(&Query::default(), &mut |_| {
            rows += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((rows, stats.blocks_damaged), (620 - 8, 1));
    store.append_durable(activity(9999)).unwrap();
}

#[test]
fn two_blocks_that_changed_places_are_found() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let meta = |block: u64| [&b"m\0"[..], &block.to_be_bytes()].concat();
    let db = engine(dir.path());
    let (a, b) = (
        db.get(meta(20)).unwrap().unwrap(),
        db.get(meta(21)).unwrap().unwrap(),
    );
    db.insert(meta(20), b).unwrap();
    db.insert(meta(21), a).unwrap();
    db.flush().unwrap();
    drop(db);
    let blocks: Vec<_> = verify(&open(dir.path()))
        .problems
        .iter()
        .filter_map(|p| p.block)
        .collect();
    assert!(
        blocks.contains(&(0, 20)) && blocks.contains(&(0, 21)),
        "{blocks:?}"
    );
}

/// The value with another payload and a checksum to match, as somebody would make it who knows how.
fn forged(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&(key.len() as u32).to_be_bytes())
        .update(key)
        .update(payload);
    [&[1, 0, 0], &hasher.finalize().as_bytes()[..8], payload].concat()
}

#[test]
fn a_block_rewritten_with_right_checksums_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let meta_key = [&b"m\0"[..], &20u64.to_be_bytes()].concat();
    let frame_key = [&b"b\0"[..], &20u64.to_be_bytes(), &[0, 0]].concat();
    let other_key = [&b"b\0"[..], &25u64.to_be_bytes(), &[0, 0]].concat();
    let full = |key: &[u8], payload: &[u8]| -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&(key.len() as u32).to_be_bytes())
            .update(key)
            .update(payload);
        *hasher.finalize().as_bytes()
    };
    let db = engine(dir.path());
    // The bodies of another block in the place of this one's, and the block's directory made to agree.
    let old = db.get(&frame_key).unwrap().unwrap()[11..].to_vec();
    let new = db.get(&other_key).unwrap().unwrap()[11..].to_vec();
    let (old_hash, new_hash) = (full(&frame_key, &old), full(&frame_key, &new));
    let mut meta = db.get(&meta_key).unwrap().unwrap()[11..].to_vec();
    let place = meta.windows(32).position(|w| w == old_hash).unwrap();
    meta[place..place + 32].copy_from_slice(&new_hash);
    db.insert(&frame_key, forged(&frame_key, &new)).unwrap();
    db.insert(&meta_key, forged(&meta_key, &meta)).unwrap();
    db.flush().unwrap();
    drop(db);
    let report = verify(&open(dir.path()));
    let problem = report
        .problems
        .iter()
        .find(|p| p.block == Some((0, 21)))
        .unwrap();
    assert_eq!(
        problem.what,
        "the block before it is not the one that was there when it was written"
    );
    assert_eq!(problem.times, Some((time(168), time(175))));
}

#[test]
fn an_amendment_that_was_rewritten_or_taken_out_does_not_fit_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = open(dir.path());
    // Another one to take the payload of, and enough rows to seal the blocks that name both.
    store
        .amend(
            history::Kind::Activity,
            &id(4),
            time(4),
            b"forgery".to_vec(),
        )
        .unwrap()
        .wait()
        .unwrap();
    store
        .append_all((600..700).map(activity).collect())
        .unwrap();
    store.flush().unwrap();
    assert_eq!(verify(&store).problems, []);
    drop(store);
    let key = |number: u64| {
        let block = [&b"v\0"[..], &0u64.to_be_bytes(), &[0]].concat();
        [&block[..], id(number).as_bytes()].concat()
    };
    let db = engine(dir.path());
    let other = db.get(key(4)).unwrap().unwrap();
    db.insert(key(3), forged(&key(3), &other[11..])).unwrap();
    db.remove(key(4)).unwrap();
    db.flush().unwrap();
    drop(db);
    let store = open(dir.path());
    let report = verify(&store);
    let found: Vec<_> = report
        .problems
        .iter()
        .map(|p| (p.block, p.times, p.what.as_str()))
        .collect();
    let times = Some((time(0), time(7)));
    assert!(
        found.contains(&(Some((0, 0)), times, "an amendment is not what was written")),
        "{found:?}"
    );
    assert!(
        found.contains(&(Some((0, 0)), times, "an amendment is missing")),
        "{found:?}"
    );
}

#[test]
fn a_store_that_was_set_back_says_that_its_end_is_lost() {
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path());
    copy_dir(dir.path(), old.path());
    let store = open(dir.path());
    store.append_durable(activity(700)).unwrap();
    drop(store);
    // The engine's folder as it was some time ago.
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    copy_dir(&old.path().join("sled"), &dir.path().join("sled"));
    let store = open(dir.path());
    let problems = verify(&store).problems;
    assert!(
        problems
            .iter()
            .any(|p| p.what.contains("the end of the store is lost")),
        "{problems:?}"
    );
}
