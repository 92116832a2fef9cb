//! Statistics from the terms that entries are found by: no event is read, so ten million of them take a moment.
//!
//! Terms are made for finding: an event has a term for each folder above its file, for an address with and without port, for a user's
//! name and number, for a container's id and name. What people want counted is picked out here.

use std::collections::HashMap;
use std::ops::ControlFlow;

use history::{Counts, Field, Kind, Store, TallyOf};

use super::stats::{Rate, Stats, Top, busiest};
use crate::query::{Spec, Watch};
use crate::times;

/// Statistics of the events that the question selects; it has no text to search for.
pub fn stats(store: &Store, spec: &Spec, top: usize, watch: &Watch) -> anyhow::Result<Stats> {
    let query = spec.query(store, watch)?;
    let of = TallyOf {
        fields: vec![
            Field::Container,
            Field::Exe,
            Field::Path,
            Field::Addr,
            Field::Syscall,
            Field::Category,
            Field::User,
            Field::Failed,
        ],
        ..TallyOf::default()
    };
    let tally = store.tally(&query, &of, &mut |p| watch.blocks(p))?;
    let all = &tally.all;
    let plain = |field| busiest(words(all, field), top);
    let events = all.rows[Kind::Activity.index()];
    let containers = containers(store, all);
    let in_containers: u64 = containers.values().sum();
    let host = ("host".to_owned(), events.saturating_sub(in_containers));
    Ok(Stats {
        events,
        failed: words(all, Field::Failed).map(|(_, count)| count).sum(),
        rate: rate(store, spec, events)?,
        containers: busiest(
            containers.into_iter().chain((host.1 > 0).then_some(host)),
            top,
        ),
        programs: plain(Field::Exe),
        paths: Top {
            uncounted: tally.cut,
            ..busiest(leaves(words(all, Field::Path).collect()), top)
        },
        peers: busiest(peers(words(all, Field::Addr).collect()), top),
        syscalls: plain(Field::Syscall),
        categories: plain(Field::Category),
        users: busiest(users(words(all, Field::User).collect()), top),
        ..Stats::default()
    })
}

fn words(counts: &Counts, field: Field) -> impl Iterator<Item = (String, u64)> + '_ {
    counts
        .terms
        .iter()
        .filter(move |((of, _), _)| *of == field)
        .map(|((_, term), count)| (String::from_utf8_lossy(term).into_owned(), *count))
}

/// By id, which every event of a container has; shown by name.
fn containers(store: &Store, all: &Counts) -> HashMap<String, u64> {
    let area = store.area("containers");
    let mut out = HashMap::new();
    for (id, count) in words(all, Field::Container) {
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            continue;
        }
        let known = area.get(id.as_bytes()).ok().flatten();
        let name = known
            .and_then(|body| serde_json::from_slice::<enricher::Container>(&body).ok())
            .and_then(|c| c.name)
            .unwrap_or_else(|| id[..12].to_owned());
        *out.entry(name).or_default() += count;
    }
    out
}

/// Paths themselves, without the folders that are there because something below them was touched.
fn leaves(counts: HashMap<String, u64>) -> HashMap<String, u64> {
    let mut below: HashMap<&str, u64> = HashMap::new();
    for (path, count) in &counts {
        if let Some((parent, name)) = path.rsplit_once('/')
            && !name.is_empty()
        {
            let parent = if parent.is_empty() { "/" } else { parent };
            *below.entry(parent).or_default() += count;
        }
    }
    counts
        .iter()
        .map(|(path, count)| {
            let children = below.get(path.as_str()).copied().unwrap_or(0);
            (path.clone(), count.saturating_sub(children))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Addresses with their port where there is one.
fn peers(counts: HashMap<String, u64>) -> HashMap<String, u64> {
    let base = |peer: &str| {
        let (address, port) = peer.rsplit_once(':')?;
        (port.parse::<u16>().is_ok() && counts.contains_key(address)).then(|| address.to_owned())
    };
    let with_port: std::collections::HashSet<String> =
        counts.keys().filter_map(|peer| base(peer)).collect();
    counts
        .iter()
        .filter(|(peer, _)| !with_port.contains(*peer))
        .map(|(peer, count)| (peer.clone(), *count))
        .collect()
}

/// Names; a number only when it is not the number of one of them.
fn users(counts: HashMap<String, u64>) -> HashMap<String, u64> {
    let is_number = |user: &str| user.bytes().all(|b| b.is_ascii_digit());
    let named: std::collections::HashSet<u64> = counts
        .iter()
        .filter(|(user, _)| !is_number(user))
        .map(|(_, count)| *count)
        .collect();
    counts
        .into_iter()
        .filter(|(user, count)| !is_number(user) || !named.contains(count))
        .collect()
}

fn rate(store: &Store, spec: &Spec, events: u64) -> anyhow::Result<Rate> {
    let of = TallyOf {
        slot_ms: Some(1000),
        ..TallyOf::default()
    };
    let query = spec.query(store, &Watch::default())?;
    let tally = store.tally(&query, &of, &mut |_| ControlFlow::Continue(()))?;
    let count = |counts: &Counts| counts.rows[Kind::Activity.index()];
    let (Some(first), Some(last)) = (tally.slots.keys().next(), tally.slots.keys().next_back())
    else {
        return Ok(Rate::default());
    };
    // Slots are made wider where there would be too many; the nearest two tell how wide at most.
    let width = tally
        .slots
        .keys()
        .zip(tally.slots.keys().skip(1))
        .map(|(a, b)| b - a)
        .min()
        .unwrap_or(1000)
        .min(if last - first < 100_000_000 {
            1000
        } else {
            u64::MAX
        });
    let best = tally.slots.iter().max_by_key(|(_, counts)| count(counts));
    Ok(Rate {
        mean: events as f64 / ((last - first + width) as f64 / 1000.0),
        busiest: best.map_or(0, |(_, counts)| count(counts)),
        busiest_ms: width,
        busiest_at: best.map(|(at, _)| times::rfc3339(*at)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, u64)]) -> HashMap<String, u64> {
        list.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect()
    }

    #[test]
    fn folders_above_a_file_do_not_count() {
        let counts = map(&[("/", 6), ("/etc", 5), ("/etc/passwd", 4), ("/tmp", 1)]);
        assert_eq!(
            leaves(counts),
            map(&[("/etc/passwd", 4), ("/tmp", 1), ("/etc", 1)])
        );
    }

    #[test]
    fn an_address_counts_once() {
        let counts = map(&[
            ("10.0.0.5", 3),
            ("10.0.0.5:443", 3),
            ("::1", 2),
            ("::1:80", 2),
            ("/run/x.sock", 1),
        ]);
        assert_eq!(
            peers(counts),
            map(&[("10.0.0.5:443", 3), ("::1:80", 2), ("/run/x.sock", 1)])
        );
    }

    #[test]
    fn a_user_counts_once() {
        let counts = map(&[("root", 5), ("0", 5), ("1234", 2)]);
        assert_eq!(users(counts), map(&[("root", 5), ("1234", 2)]));
    }
}
