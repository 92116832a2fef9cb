//! The history's part of the local API: rows as they are found, summaries, and the live stream. All answers are JSON lines, so that a
//! caller sees the first rows, and how far it is, while the search goes on. A caller that goes away ends its search.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRef, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use history::Store;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::api::{Caller, Refused, root_only};
use super::state::lock;
use crate::query::{self, Answer, Spec, Watch};
use crate::views::{self, Ask};

/// Bytes that are sent at once.
const CHUNK: usize = 48 << 10;
/// What was found waits for others no longer than this.
const TICK: Duration = Duration::from_millis(50);
/// Rows of the live stream that may wait for one follower.
const BEHIND: usize = 65_536;
/// Rows that are put to the filters at once.
const BATCH: usize = 2048;

/// The history's routes, for whatever holds a store.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Store: FromRef<S>,
{
    Router::new()
        .route("/v1/query", post(run_query))
        .route("/v1/follow", post(follow))
        .route("/v1/history", post(ask))
}

#[derive(Deserialize)]
pub struct QueryRequest {
    spec: Spec,
    /// The kernel's records as text, too.
    #[serde(default)]
    raw: bool,
    /// Lines that tell how far it is.
    #[serde(default)]
    progress: bool,
}

type Chunk = Result<Vec<u8>, std::io::Error>;

/// Lines on their way to one caller. Who sends holds the lock, so they stay in order.
struct Lines {
    waiting: Mutex<Vec<u8>>,
    out: mpsc::Sender<Chunk>,
}

impl Lines {
    /// Adds a line; waits when the caller is slow. Says whether he is still there.
    fn add(&self, line: &impl serde::Serialize) -> ControlFlow<()> {
        let mut waiting = lock(&self.waiting);
        if serde_json::to_writer(&mut *waiting, line).is_ok() {
            waiting.push(b'\n');
        }
        if waiting.len() >= CHUNK
            && self
                .out
                .blocking_send(Ok(std::mem::take(&mut waiting)))
                .is_err()
        {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Sends what waits, if that is possible now.
    fn tick(&self, progress: Option<(u64, u64)>) {
        let Ok(mut waiting) = self.waiting.try_lock() else {
            return;
        };
        if let Some(at) = progress {
            waiting.extend_from_slice(format!("{}\n", json!({"progress": at})).as_bytes());
        }
        if !waiting.is_empty()
            && let Ok(place) = self.out.try_reserve()
        {
            place.send(Ok(std::mem::take(&mut waiting)));
        }
    }
}

/// Does the work on a thread of its own and sends its lines; the last may be an error.
fn streamed(
    progress: bool,
    work: impl FnOnce(&Watch, &Lines) -> anyhow::Result<()> + Send + 'static,
) -> Response {
    let (out, stream) = mpsc::channel::<Chunk>(16);
    let lines = Arc::new(Lines {
        waiting: Mutex::default(),
        out: out.clone(),
    });
    let watch = Watch::default();
    let ticking = {
        let (lines, watch) = (Arc::clone(&lines), watch.clone());
        tokio::spawn(async move {
            let mut told = (0, 0);
            loop {
                tokio::time::sleep(TICK).await;
                if lines.out.is_closed() {
                    watch.cancel.store(true, Ordering::Relaxed);
                    return;
                }
                let at = watch.at();
                lines.tick((progress && at != told).then_some(at));
                told = at;
            }
        })
    };
    tokio::task::spawn_blocking(move || {
        if let Err(e) = work(&watch, &lines) {
            let _ = lines.add(&json!({"error": format!("{e:#}")}));
        }
        ticking.abort();
        let rest = std::mem::take(&mut *lock(&lines.waiting));
        let _ = out.blocking_send(Ok(rest));
    });
    Body::from_stream(ReceiverStream::new(stream)).into_response()
}

/// Rows as they are found.
async fn run_query(State(store): State<Store>, Json(request): Json<QueryRequest>) -> Response {
    streamed(request.progress, move |watch, lines| {
        query::run(&store, &request.spec, request.raw, watch, &mut |answer| {
            lines.add(&answer)
        })
    })
}

/// A summary; or an order, which only root may give.
async fn ask(
    State(store): State<Store>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(ask): Json<Ask>,
) -> Result<Response, Refused> {
    if ask.changes() {
        root_only(caller)?;
    }
    Ok(streamed(true, move |watch, lines| {
        let result = views::answer(&store, &ask, watch)?;
        let _ = lines.add(&json!({"result": result}));
        Ok(())
    }))
}

/// What comes from now on, behind what is stored after the request's cursor.
async fn follow(State(store): State<Store>, Json(request): Json<QueryRequest>) -> Response {
    let (out, stream) = mpsc::channel::<Chunk>(16);
    // First: what is stored while the catching up goes on comes through here.
    let mut live = store.subscribe(BEHIND);
    tokio::spawn(async move {
        let request = Arc::new(request);
        let mut sent = HashSet::new();
        let mut turn = catch_up(&store, &request);
        loop {
            let answers = match tokio::task::spawn_blocking(turn).await {
                Ok(Ok(answers)) => answers,
                Ok(Err(e)) => {
                    let line = format!("{}\n", json!({"error": format!("{e:#}")}));
                    let _ = out.send(Ok(line.into_bytes())).await;
                    return;
                }
                Err(_) => return,
            };
            let mut chunk = Vec::new();
            for answer in answers {
                let id = answer.json.get("id").map(Value::to_string);
                // What was caught up with comes once more, live.
                if id.is_none_or(|id| sent.insert(id))
                    && serde_json::to_writer(&mut chunk, &answer).is_ok()
                {
                    chunk.push(b'\n');
                }
            }
            if sent.len() > 4 * BEHIND {
                sent.clear();
            }
            let lagged = live.lagged();
            if lagged > 0 {
                chunk.extend_from_slice(format!("{}\n", json!({"lost": lagged})).as_bytes());
            }
            if !chunk.is_empty() && out.send(Ok(chunk)).await.is_err() {
                return;
            }
            let first = tokio::select! {
                row = live.next() => row,
                () = out.closed() => None,
            };
            let Some(first) = first else { return };
            // A few more, so that one look serves many.
            tokio::time::sleep(TICK).await;
            let mut rows = vec![first];
            while rows.len() < BATCH
                && let Some(row) = live.try_next()
            {
                rows.push(row);
            }
            turn = those_that_fit(&store, &request, &rows);
        }
    });
    Body::from_stream(ReceiverStream::new(stream)).into_response()
}

type Turn = Box<dyn FnOnce() -> anyhow::Result<Vec<Answer>> + Send>;

fn collect(store: &Store, spec: Spec, raw: bool) -> Turn {
    let store = store.clone();
    Box::new(move || {
        let mut answers = Vec::new();
        query::run(&store, &spec, raw, &Watch::default(), &mut |answer| {
            answers.push(answer);
            ControlFlow::Continue(())
        })?;
        Ok(answers)
    })
}

/// What was stored since the caller's last look; nothing when he tells none.
fn catch_up(store: &Store, request: &QueryRequest) -> Turn {
    if request.spec.after.is_none() {
        return Box::new(|| Ok(vec![]));
    }
    let spec = Spec {
        newest_first: false,
        limit: None,
        ..request.spec.clone()
    };
    collect(store, spec, request.raw)
}

/// The filters are the store's, so the rows are asked for by their ids.
fn those_that_fit(store: &Store, request: &QueryRequest, rows: &[Arc<history::Row>]) -> Turn {
    let wanted = |row: &&Arc<history::Row>| {
        request.spec.kinds.is_empty() || request.spec.kinds.iter().any(|k| k == row.kind.name())
    };
    let rows: Vec<_> = rows.iter().filter(wanted).collect();
    let (Some(from), Some(until)) = (
        rows.iter().map(|r| r.time_ms).min(),
        rows.iter().map(|r| r.time_ms).max(),
    ) else {
        return Box::new(|| Ok(vec![]));
    };
    let spec = Spec {
        newest_first: false,
        limit: None,
        after: None,
        since_ms: Some(from.max(request.spec.since_ms.unwrap_or(0))),
        until_ms: Some(
            until
                .saturating_add(1)
                .min(request.spec.until_ms.unwrap_or(u64::MAX)),
        ),
        ..request.spec.clone()
    };
    let ids = rows.iter().map(|r| r.id.clone()).collect();
    collect(store, spec.and("id", ids), request.raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, Line};
    use history::{Entry, Field, Kind};

    fn event(n: u64) -> Entry {
        let mut event = collector::Event::new(collector::EventId::local(1_000_000 + n, n as u32));
        let comm = if n.is_multiple_of(2) { "even" } else { "odd" };
        let body = format!(
            r#"arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=0 ppid=1 pid={n} uid=0 comm="{comm}" exe="/bin/{comm}""#
        );
        event.push(collector::RecordType::SYSCALL, body.as_bytes());
        let activity = enricher::Enricher::offline().enrich(event);
        crate::entries::activity(&activity, &[])
    }

    /// A store with a thousand events behind a socket.
    struct Served {
        dir: tempfile::TempDir,
        store: Store,
        _runtime: tokio::runtime::Runtime,
    }

    impl Served {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("s"), history::Options::default()).unwrap();
            store.append_all((1..=1000).map(event).collect()).unwrap();
            store.flush().unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let listener = {
                let _inside = runtime.enter();
                tokio::net::UnixListener::bind(dir.path().join("sock")).unwrap()
            };
            let app = routes().with_state(store.clone());
            runtime.spawn(async move {
                let service = app.into_make_service_with_connect_info::<Caller>();
                let _ = axum::serve(listener, service).await;
            });
            Self {
                dir,
                store,
                _runtime: runtime,
            }
        }

        fn client(&self) -> Client {
            Client::connect(&self.dir.path().join("sock"))
                .unwrap()
                .unwrap()
        }
    }

    fn of(comm: &str) -> Spec {
        Spec {
            kinds: vec![Kind::Activity.name().into()],
            ..Spec::default()
        }
        .and("comm", vec![comm.into()])
    }

    #[test]
    fn rows_come_in_order_to_their_end_and_a_page_ends_where_it_was_told() {
        let served = Served::start();
        let rows = |spec: &Spec| {
            let mut pids = Vec::new();
            let body = json!({"spec": spec, "progress": true});
            let done = served
                .client()
                .lines("/v1/query", &body, &mut |line: Line<Answer>| {
                    if let Line::Row(answer) = line {
                        pids.push(answer.json["process"]["pid"].as_u64().unwrap());
                    }
                    Ok(true)
                });
            done.map(|()| pids)
        };
        let odd: Vec<u64> = (1..=1000).filter(|n| n % 2 == 1).collect();
        assert_eq!(rows(&of("odd")).unwrap(), odd);
        let page = Spec {
            newest_first: true,
            limit: Some(2),
            ..of("odd")
        };
        assert_eq!(rows(&page).unwrap(), [999, 997]);
        let error = rows(&of("odd").and("nonsense", vec!["1".into()])).unwrap_err();
        assert!(error.to_string().contains("is not a filter"), "{error}");
    }

    #[test]
    fn a_summary_and_a_copy_are_answered_through_the_socket() {
        let served = Served::start();
        let asked = |ask: &Ask| {
            let mut result = Value::Null;
            let body = serde_json::to_value(ask).unwrap();
            served
                .client()
                .lines("/v1/history", &body, &mut |line: Line<Value>| {
                    if let Line::Result(value) = line {
                        result = value;
                    }
                    Ok(true)
                })
                .map(|()| result)
        };
        let stats = asked(&Ask::Stats {
            spec: of("even"),
            top: 3,
        });
        assert_eq!(stats.unwrap()["events"], 500);
        assert_eq!(
            asked(&Ask::Verify { anchors: vec![] }).unwrap()["problems"],
            json!([])
        );
        let copy = served.dir.path().join("copy");
        let snapshot = asked(&Ask::Snapshot { dir: copy.clone() });
        // Orders are root's.
        if rustix::process::geteuid().is_root() {
            snapshot.unwrap();
            let copy = Store::open_existing(&copy, history::Options::default()).unwrap();
            assert_eq!(copy.stats().entries[0], 1000);
        } else {
            assert!(snapshot.unwrap_err().to_string().contains("only root"));
        }
    }

    #[test]
    fn a_follower_gets_what_comes_and_what_came_since_his_page_once_and_also_what_is_of_an_earlier_time()
     {
        let served = Served::start();
        let cursor = served
            .store
            .rows(&history::Query {
                reverse: true,
                limit: Some(5),
                all: vec![history::Clause {
                    field: Field::Comm,
                    any: vec![history::Pattern::Exact(b"even".to_vec())],
                    negate: false,
                }],
                ..history::Query::default()
            })
            .unwrap()
            .pop()
            .unwrap()
            .cursor()
            .to_string();
        let spec = Spec {
            after: Some(cursor),
            ..of("even")
        };
        let (store, client) = (served.store.clone(), served.client());
        let mut pids = Vec::new();
        let mut sent = false;
        client
            .lines("/v1/follow", &json!({"spec": spec}), &mut |line: Line<
                Answer,
            >| {
                if let Line::Row(answer) = line {
                    pids.push(answer.json["process"]["pid"].as_u64().unwrap());
                }
                if pids.len() == 4 && !sent {
                    sent = true;
                    // One that fits, one that does not, and one that was completed late.
                    let mut late = event(2000);
                    late.time_ms = 1_000_001;
                    store
                        .append_all(vec![event(1002), event(1003), late])
                        .unwrap();
                }
                Ok(pids.len() < 6)
            })
            .unwrap();
        pids[4..].sort_unstable();
        assert_eq!(pids, [994, 996, 998, 1000, 1002, 2000]);
    }
}
