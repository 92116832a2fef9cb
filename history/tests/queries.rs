//! Any query gives what a plain filter over all entries gives.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::options;
use history::{Amendment, Clause, Entry, Field, Kind, Pattern, Query, Store};
use proptest::prelude::*;

const FIELDS: [Field; 3] = [Field::Container, Field::Exe, Field::Id];

#[derive(Clone, Debug)]
struct Made {
    kind: u8,
    time_ms: u64,
    terms: Vec<(usize, String)>,
    body: String,
}

fn made() -> impl Strategy<Value = Made> {
    let terms = proptest::collection::vec((0usize..3, "[ab]{1,3}"), 0..4);
    (0u8..4, 0u64..200, terms, "[xyz]{0,6}").prop_map(|(kind, time_ms, terms, body)| Made {
        kind,
        time_ms,
        terms,
        body,
    })
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        "[ab]{1,3}".prop_map(|s| Pattern::Exact(s.into_bytes())),
        "[ab*?]{1,3}".prop_map(Pattern::Glob),
        (0u32..120).prop_map(|n| Pattern::Exact(format!("id{n}").into_bytes())),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let clause = (
        0usize..3,
        proptest::collection::vec(pattern(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(field, any, negate)| Clause {
            field: FIELDS[field],
            any,
            negate,
        });
    (
        proptest::collection::vec(0u8..4, 0..3),
        proptest::option::of(0u64..200),
        proptest::option::of(0u64..200),
        proptest::collection::vec(clause, 0..3),
        any::<bool>(),
        proptest::option::of(0usize..20),
        proptest::option::of("[xyz]{1,2}"),
    )
        .prop_map(
            |(kinds, since_ms, until_ms, all, reverse, limit, text)| Query {
                kinds: kinds.into_iter().filter_map(Kind::from_u8).collect(),
                since_ms,
                until_ms,
                all,
                reverse,
                limit,
                text: text.map(String::into_bytes),
                ..Query::default()
            },
        )
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob(rest, text) || (!text.is_empty() && glob(pattern, &text[1..]))
        }
        (Some((b'?', rest)), Some((_, tail))) => glob(rest, tail),
        (Some((p, rest)), Some((t, tail))) => p == t && glob(rest, tail),
        _ => false,
    }
}

fn fits(query: &Query, entry: &Entry) -> bool {
    let clause = |c: &Clause| {
        let own = (Field::Id, entry.id.clone().into_bytes());
        let found = entry
            .terms
            .iter()
            .chain([(own.0, &own.1[..])])
            .any(|(field, term)| {
                field == c.field
                    && c.any.iter().any(|p| match p {
                        Pattern::Exact(e) => e == term,
                        Pattern::Glob(g) => glob(g.as_bytes(), term),
                    })
            });
        found != c.negate
    };
    (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
        && query.since_ms.is_none_or(|t| entry.time_ms >= t)
        && query.until_ms.is_none_or(|t| entry.time_ms < t)
        && query.all.iter().all(clause)
        && query
            .text
            .as_ref()
            .is_none_or(|t| entry.body.windows(t.len()).any(|w| w == t))
}

fn expected(query: &Query, entries: &[(u64, Entry)]) -> Vec<(u64, String)> {
    let mut hits: Vec<_> = entries
        .iter()
        .filter(|(_, e)| fits(query, e))
        .map(|(seq, e)| (e.time_ms, *seq, e.id.clone()))
        .collect();
    hits.sort();
    if query.reverse {
        hits.reverse();
    }
    hits.truncate(query.limit.unwrap_or(usize::MAX));
    hits.into_iter().map(|(_, seq, id)| (seq, id)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn queries_give_what_a_plain_filter_gives(
        all in proptest::collection::vec(made(), 1..400),
        queries in proptest::collection::vec(query(), 30),
        rows in 1usize..5,
        amended in proptest::collection::vec((any::<prop::sample::Index>(), "[ab]{1,3}", proptest::option::of("[xyz]{1,4}")), 0..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), history::Options { block_rows: rows, ..options() }).unwrap();
        let mut entries: Vec<(u64, Entry)> = all.iter().enumerate().map(|(n, m)| (n as u64, Entry {
            kind: Kind::from_u8(m.kind).unwrap(),
            time_ms: m.time_ms,
            id: format!("id{n}"),
            terms: m.terms.iter().map(|(f, t)| (FIELDS[*f], t)).collect(),
            body: m.body.clone().into_bytes(),
        })).collect();
        store.append_all(entries.iter().map(|(_, e)| e.clone()).collect()).unwrap();
        for (which, term, body) in amended {
            let (_, entry) = which.get(&entries).clone();
            let terms = vec![(Field::Exe, term.into_bytes())];
            let body = body.map(String::into_bytes);
            store.amend_with(Amendment { kind: entry.kind, id: entry.id.clone(), time_ms: entry.time_ms, terms: terms.clone(), body: body.clone() }).unwrap().wait().unwrap();
            let entry = &mut entries.iter_mut().find(|(_, e)| e.id == entry.id).unwrap().1;
            terms.iter().for_each(|(field, term)| entry.terms.push(*field, term));
            if let Some(body) = body { entry.body = body; }
        }
        store.flush().unwrap();
        for round in 0..2 {
            for query in &queries {
                let got: Vec<_> = store.rows(query).unwrap().into_iter().map(|r| (r.seq, r.id)).collect();
                prop_assert_eq!(&got, &expected(query, &entries), "{:?} round {}", query, round);
            }
            for (seq, entry) in &entries {
                let row = store.get(entry.kind, &entry.id).unwrap().unwrap();
                prop_assert_eq!((row.seq, &row.body), (*seq, &entry.body));
            }
            drop(store);
            store = Store::open(dir.path(), options()).unwrap();
        }
    }
}
