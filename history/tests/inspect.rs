//! What commands ask of a store beside queries: counts, neighbours, anchors, searching, pruning, compacting.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::ops::ControlFlow;

use common::{activity, finding, id, open, options, time};
use history::{
    Amendment, Anchor, AnchorCheck, Clause, Field, Kind, Options, Pattern, Query, Search, Store,
    StoreError, TallyOf,
};

fn filled(store: &Store, count: u64) {
    store
        .append_all((0..count).map(activity).collect())
        .unwrap();
    store
        .append_all(
            (0..20)
                .map(|n| finding(Kind::Alert, &format!("A-{n}"), time(n), b"a"))
                .collect(),
        )
        .unwrap();
    store.flush().unwrap();
}

fn ids(store: &Store, query: &Query) -> Vec<String> {
    store
        .rows(query)
        .unwrap()
        .into_iter()
        .map(|r| r.id)
        .collect()
}

#[test]
fn a_tally_counts_what_a_query_finds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    filled(&store, 603);
    for number in [5, 601] {
        let amendment = Amendment {
            kind: Kind::Activity,
            id: id(number),
            time_ms: time(number),
            terms: vec![(Field::Container, b"late".to_vec())],
            body: None,
        };
        store.amend_with(amendment).unwrap().wait().unwrap();
    }
    let query = Query {
        kinds: vec![Kind::Activity],
        since_ms: Some(time(3)),
        until_ms: Some(time(603)),
        all: vec![Clause {
            field: Field::Container,
            any: vec![Pattern::Glob("c[".into()), Pattern::Glob("c?".into())],
            negate: false,
        }],
        ..Query::default()
    };
    let of = TallyOf {
        fields: vec![Field::Container, Field::Exe],
        slot_ms: Some(100),
        most_terms: 0,
    };
    let tally = store
        .tally(&query, &of, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(tally.all.rows, [600, 0, 0, 0]);
    assert_eq!(tally.slots.values().map(|s| s.rows[0]).sum::<u64>(), 600);
    assert!(tally.slots.keys().all(|start| start % 100 == 0));
    let top = tally.all.top(Field::Container);
    assert_eq!(
        top,
        [
            (&b"c0"[..], 120),
            (b"c1", 120),
            (b"c2", 120),
            (b"c3", 120),
            (b"c4", 120),
            (b"late", 2)
        ]
    );
    for (term, count) in tally.all.top(Field::Exe) {
        let clause = Clause {
            field: Field::Exe,
            any: vec![Pattern::Exact(term.to_vec())],
            negate: false,
        };
        let mut query = query.clone();
        query.all.push(clause);
        assert_eq!(ids(&store, &query).len() as u64, count);
    }
    let few = TallyOf {
        most_terms: 3,
        ..of
    };
    let tally = store
        .tally(&query, &few, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert!(tally.all.terms.len() == 3 && tally.cut > 0);
}

#[test]
fn a_row_has_the_neighbours_that_stand_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    filled(&store, 300);
    let row = store.get(Kind::Activity, &id(150)).unwrap().unwrap();
    let same = Query {
        kinds: vec![Kind::Activity],
        all: vec![Clause {
            field: Field::Container,
            any: vec![Pattern::Exact(b"c0".to_vec())],
            negate: false,
        }],
        ..Query::default()
    };
    let (before, after) = store.neighbours(&row, &same, 2, 3).unwrap();
    let ids_of = |rows: &[history::Row]| rows.iter().map(|r| r.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids_of(&before), [id(140), id(145)]);
    assert_eq!(ids_of(&after), [id(155), id(160), id(165)]);
}

#[test]
fn text_and_expressions_are_found_in_bodies_and_in_terms() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    filled(&store, 300);
    let search = |search: Search| Query {
        search: vec![search],
        kinds: vec![Kind::Activity],
        ..Query::default()
    };
    let body = search(Search::text("event 77 ").unwrap());
    assert_eq!(ids(&store, &body), [id(77)]);
    let term = search(Search::regex("^/usr/bin/tool3[56]$").unwrap());
    let expected: Vec<String> = (0..300)
        .filter(|n| [35, 36].contains(&(n % 37)))
        .map(id)
        .collect();
    assert_eq!(ids(&store, &term), expected);
    // Bodies stand one behind the other in a frame: an expression must not see two as one.
    let across = search(Search::regex(r"(?s)event 10 .*event 11").unwrap());
    assert!(ids(&store, &across).is_empty());
    let anchored = search(Search::regex(r"^event 2[0-9]?0 x*$").unwrap());
    let expected: Vec<String> = [20, 200, 210, 220, 230, 240, 250, 260, 270, 280, 290]
        .map(id)
        .to_vec();
    assert_eq!(ids(&store, &anchored), expected);
    let both = Query {
        search: vec![
            Search::regex("event 2[0-9]{2} ").unwrap(),
            Search::text("tool3").unwrap(),
        ],
        limit: Some(3),
        reverse: true,
        ..Query::default()
    };
    let expected: Vec<String> = (200..300u64)
        .rev()
        .filter(|n| (n % 37).to_string().starts_with('3'))
        .take(3)
        .map(id)
        .collect();
    assert_eq!(ids(&store, &both), expected);
}

#[test]
fn an_anchor_holds_until_a_block_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(
        store.check_anchor(&store.anchor().unwrap()).unwrap(),
        AnchorCheck::Holds
    );
    filled(&store, 600);
    let anchor = store.anchor().unwrap();
    store
        .append_all((600..1200).map(activity).collect())
        .unwrap();
    store.flush().unwrap();
    assert_eq!(store.check_anchor(&anchor).unwrap(), AnchorCheck::Holds);
    let mut other: Anchor = anchor.to_string().parse().unwrap();
    assert_eq!(other, anchor);
    other.heads[0].1[5] ^= 1;
    assert_eq!(
        store.check_anchor(&other).unwrap(),
        AnchorCheck::Differs { lane: 0, block: 74 }
    );
    other = anchor.clone();
    other.heads[0].0 = 1000;
    assert!(matches!(
        store.check_anchor(&other).unwrap(),
        AnchorCheck::Differs { .. }
    ));
    store.prune(u64::MAX, true).unwrap();
    assert_eq!(store.check_anchor(&anchor).unwrap(), AnchorCheck::Gone);
}

#[test]
fn pruning_takes_whole_blocks_and_leaves_alerts_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    filled(&store, 1000);
    let gone = store.prune(time(500), false).unwrap();
    assert_eq!((gone.blocks, gone.entries), (62, 496));
    let all = Query::default();
    assert_eq!(ids(&store, &all).len(), 1000 - 496 + 20);
    store.prune(time(900), true).unwrap();
    assert_eq!(ids(&store, &all).len(), 1000 - 896 + 4);
    let report = |store: &Store| {
        store
            .verify(&mut |_| ControlFlow::Continue(()))
            .unwrap()
            .problems
    };
    assert_eq!(report(&store), []);
    drop(store);
    let store = open(dir.path());
    assert_eq!(ids(&store, &all).len(), 1000 - 896 + 4);
    store
        .append_all((1000..2500).map(activity).collect())
        .unwrap();
    store.flush().unwrap();
    assert_eq!(report(&store), []);
    assert_eq!(ids(&store, &all).len(), 2500 - 896 + 4);
    // Through the summaries of super-blocks of which the first blocks are gone.
    drop(store);
    let store = open(dir.path());
    assert_eq!(report(&store), []);
    assert_eq!(ids(&store, &all).len(), 2500 - 896 + 4);
}

#[test]
fn a_compacted_store_holds_the_same() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("history");
    let store = open(&dir);
    filled(&store, 2000);
    store.area("a").put(b"k", b"v").unwrap();
    store.prune(time(1000), false).unwrap();
    let before = ids(&store, &Query::default());
    assert!(matches!(
        history::compact(&dir),
        Err(StoreError::Locked { .. })
    ));
    store.close().unwrap();
    let done = history::compact(&dir).unwrap();
    assert!(done.before > 0 && done.after > 0, "{done:?}");
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
    let store = open(&dir);
    assert_eq!(ids(&store, &Query::default()), before);
    assert_eq!(store.area("a").get(b"k").unwrap().unwrap(), b"v");
    store.append_durable(activity(3000)).unwrap();
}

#[test]
fn where_no_store_is_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    for read_only in [false, true] {
        let options = Options {
            read_only,
            ..options()
        };
        assert!(matches!(
            Store::open_existing(&none, options),
            Err(StoreError::Missing { .. })
        ));
    }
    assert!(matches!(
        history::probe(&none),
        Err(StoreError::Missing { .. })
    ));
    assert!(!none.exists());
}
