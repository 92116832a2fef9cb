//! The history's part of the local API: rows as they are found, summaries, and the live stream. All answers are JSON lines, so that a
//! caller sees the first rows, and how far it is, while the search goes on. A caller that goes away ends its search.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::api::{Api, Caller, Refused, root_only};
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
pub async fn run_query(State(api): State<Api>, Json(request): Json<QueryRequest>) -> Response {
    streamed(request.progress, move |watch, lines| {
        query::run(
            &api.store,
            &request.spec,
            request.raw,
            watch,
            &mut |answer| lines.add(&answer),
        )
    })
}

/// A summary; or an order, which only root may give.
pub async fn ask(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(ask): Json<Ask>,
) -> Result<Response, Refused> {
    if ask.changes() {
        root_only(caller)?;
    }
    Ok(streamed(true, move |watch, lines| {
        let result = views::answer(&api.store, &ask, watch)?;
        let _ = lines.add(&json!({"result": result}));
        Ok(())
    }))
}

/// What comes from now on, behind what is stored after the request's cursor.
pub async fn follow(State(api): State<Api>, Json(request): Json<QueryRequest>) -> Response {
    let (out, stream) = mpsc::channel::<Chunk>(16);
    // First: what is stored while the catching up goes on comes through here.
    let mut live = api.store.subscribe(BEHIND);
    tokio::spawn(async move {
        let request = Arc::new(request);
        let mut sent = HashSet::new();
        let mut turn = catch_up(&api, &request);
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
            turn = those_that_fit(&api, &request, &rows);
        }
    });
    Body::from_stream(ReceiverStream::new(stream)).into_response()
}

type Turn = Box<dyn FnOnce() -> anyhow::Result<Vec<Answer>> + Send>;

fn collect(api: &Api, spec: Spec, raw: bool) -> Turn {
    let store = api.store.clone();
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
fn catch_up(api: &Api, request: &QueryRequest) -> Turn {
    if request.spec.after.is_none() {
        return Box::new(|| Ok(vec![]));
    }
    let spec = Spec {
        newest_first: false,
        limit: None,
        ..request.spec.clone()
    };
    collect(api, spec, request.raw)
}

/// The filters are the store's, so the rows are asked for by their ids.
fn those_that_fit(api: &Api, request: &QueryRequest, rows: &[Arc<history::Row>]) -> Turn {
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
    collect(api, spec.and("id", ids), request.raw)
}
