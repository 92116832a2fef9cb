//! What the tests of the store share: small entries and a store in a folder of its own.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use history::{Entry, Field, Kind, Options, Store};

/// Small blocks, so that a few hundred entries make a super-block.
pub fn options() -> Options {
    Options {
        block_rows: 8,
        min_free_bytes: 0,
        cache_bytes: 8 << 20,
        ..Options::default()
    }
}

pub fn open(dir: &Path) -> Store {
    Store::open(dir, options()).unwrap()
}

pub fn id(number: u64) -> String {
    format!(
        "{}.{:03}:{number}",
        1_795_353_000 + number / 1000,
        number % 1000
    )
}

pub fn time(number: u64) -> u64 {
    1_795_353_000_000 + number
}

/// An activity whose every part follows from its number.
pub fn activity(number: u64) -> Entry {
    Entry {
        kind: Kind::Activity,
        time_ms: time(number),
        id: id(number),
        terms: vec![
            (Field::Container, format!("c{}", number % 5).into_bytes()),
            (Field::Pid, (number / 3).to_string().into_bytes()),
            (
                Field::Exe,
                format!("/usr/bin/tool{}", number % 37).into_bytes(),
            ),
        ]
        .into(),
        body: body(number),
    }
}

pub fn body(number: u64) -> Vec<u8> {
    format!("event {number} {}", "x".repeat((number % 50) as usize)).into_bytes()
}

pub fn finding(kind: Kind, id: &str, time_ms: u64, body: &[u8]) -> Entry {
    Entry {
        kind,
        time_ms,
        id: id.to_owned(),
        terms: vec![(Field::Rule, b"r")].into(),
        body: body.to_vec(),
    }
}
