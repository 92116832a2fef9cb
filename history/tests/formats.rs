//! Stores that every earlier format wrote are opened, read, proven and written on.
//!
//! `tests/formats/N.tar.zst` is a store of format N as the program of that time left it when it was killed. A new format gets a new file:
//! `SYSCALL_MONITOR_MAKE_FIXTURE=history/tests/formats/N.tar.zst cargo test -p history --test formats`; the old ones stay.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use common::{activity, body, finding, id, open, options, time};
use history::{Amendment, Clause, Field, Kind, Pattern, Query, Store, StoreError};

const ENTRIES: u64 = 603;
/// More than one part of a value.
const LARGE: usize = 400_000;

fn fill(store: &Store) {
    store
        .append_all((0..ENTRIES - 5).map(activity).collect())
        .unwrap();
    store
        .append_all(
            (0..20)
                .map(|n| finding(Kind::Alert, &format!("A-{n}"), time(n), b"a"))
                .collect(),
        )
        .unwrap();
    store
        .append_durable(finding(Kind::Notice, "N-1", time(7), b"notice"))
        .unwrap();
    for number in [3, 597] {
        let amendment = Amendment {
            kind: Kind::Activity,
            id: id(number),
            time_ms: time(number),
            terms: vec![(Field::Alert, b"A-3".to_vec())],
            body: Some(b"amended".to_vec()),
        };
        store.amend_with(amendment).unwrap().wait().unwrap();
    }
    store.area("area").put(b"key", b"value").unwrap();
    store.queue("queue").push(&vec![5; LARGE]).unwrap();
    store.next_number("alert").unwrap();
    store
        .append_all((ENTRIES - 5..ENTRIES).map(activity).collect())
        .unwrap();
    store.flush().unwrap();
}

fn make(file: &str) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    // As a killed program leaves it: copied when nothing is written any more, and never closed.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let encoder = zstd::Encoder::new(File::create(path).unwrap(), 19).unwrap();
    let mut tar = tar::Builder::new(encoder);
    tar.append_dir_all(".", dir.path()).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
}

fn unpack(format: u32, to: &Path) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/formats/{format}.tar.zst"));
    let file = File::open(path).unwrap();
    tar::Archive::new(zstd::Decoder::new(file).unwrap())
        .unpack(to)
        .unwrap();
}

fn check(store: &Store, more: u64) {
    let all = store
        .rows(&Query {
            kinds: vec![Kind::Activity],
            ..Query::default()
        })
        .unwrap();
    assert_eq!(all.len() as u64, ENTRIES + more);
    for (number, row) in all.iter().enumerate().take(ENTRIES as usize) {
        assert_eq!(
            (&row.id, row.time_ms),
            (&id(number as u64), time(number as u64))
        );
        match number {
            3 | 597 => assert_eq!(row.body, b"amended"),
            _ => assert_eq!(row.body, body(number as u64)),
        }
    }
    let with = |field, term: &[u8]| Query {
        all: vec![Clause {
            field,
            any: vec![Pattern::Exact(term.to_vec())],
            negate: false,
        }],
        ..Query::default()
    };
    let found = store.rows(&with(Field::Alert, b"A-3")).unwrap();
    assert_eq!(
        found.iter().map(|r| r.id.clone()).collect::<Vec<_>>(),
        [id(3), id(597)]
    );
    let sevens = (0..ENTRIES + more).filter(|n| n % 37 == 7).count();
    assert_eq!(
        store
            .rows(&with(Field::Exe, b"/usr/bin/tool7"))
            .unwrap()
            .len(),
        sevens
    );
    assert_eq!(store.rows(&with(Field::Rule, b"r")).unwrap().len(), 21);
    assert_eq!(store.area("area").get(b"key").unwrap().unwrap(), b"value");
    assert_eq!(store.queue("queue").list().unwrap()[0].1, vec![5; LARGE]);
    let report = store.verify(&mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn a_store_of_every_format_is_read_proven_and_written_on() {
    if let Ok(file) = std::env::var("SYSCALL_MONITOR_MAKE_FIXTURE") {
        return make(&file);
    }
    for format in 1..=history::FORMAT {
        let dir = tempfile::tempdir().unwrap();
        unpack(format, dir.path());
        let read_only = Store::open_existing(
            dir.path(),
            history::Options {
                read_only: true,
                ..options()
            },
        )
        .unwrap();
        check(&read_only, 0);
        drop(read_only);
        let store = open(dir.path());
        check(&store, 0);
        assert!(store.next_number("alert").unwrap() > 1);
        store
            .append_all((ENTRIES..ENTRIES + 700).map(activity).collect())
            .unwrap();
        store.close().unwrap();
        let store = open(dir.path());
        check(&store, 700);
    }
}

#[test]
fn a_format_of_the_future_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    unpack(1, dir.path());
    let manifest = dir.path().join("manifest");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("format = 1", "format = 99")).unwrap();
    let error = Store::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, StoreError::Version { found: 99, .. }));
    let text = error.to_string();
    assert!(text.contains("use the program that wrote it"), "{text}");
}
