//! A small HTTP service with a script: what the fakes of Discord and Telegram have in common.
//!
//! It runs on a thread of its own with a runtime of its own, so tests with and without tokio use it alike, and ends when it
//! is dropped, also when requests hang in it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the service does with a request that is right in form. A request that is not is refused in any case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Takes it.
    Ok,
    /// Takes it, and answers after so many milliseconds.
    SlowOk(u64),
    /// Refuses it with this status.
    Status(u16),
    /// Refuses it with 429 and asks for so many seconds.
    TooMany(f64),
    /// Reads it and never answers; it is not taken.
    Hang,
    /// Reads it and closes the connection without an answer; it is not taken.
    CloseAfterRead,
    /// Takes it and closes the connection without an answer.
    TakeAndClose,
}

/// One request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Received {
    /// When it was read, milliseconds since the epoch.
    pub at_ms: u64,
    /// Path and query.
    pub path: String,
    /// Body; null when it was no JSON.
    pub body: Value,
    /// It was taken: people see it.
    pub accepted: bool,
    /// Status of the answer; `None`: none was given.
    pub status: Option<u16>,
    /// What is wrong with its form.
    pub problem: Option<String>,
    /// The text as people see it, without the markup that was meant, when the service knows it.
    pub text: Option<String>,
}

impl Received {
    /// All of the body as text, to search in.
    pub fn all(&self) -> String {
        self.body.to_string()
    }
}

/// What a service makes of a request.
pub(crate) enum Verdict {
    /// Right in form; with the answer when it is taken, and the text as people see it.
    Right {
        answer: Box<dyn Fn(u64) -> (u16, Value) + Send>,
        text: Option<String>,
    },
    /// Refused: status, answer, what is wrong.
    Wrong(u16, Value, String),
    /// Beside the script, and not recorded: asked until it has an answer or the time is over, then answered with the last.
    Aside {
        ask: Box<dyn Fn() -> Option<Value> + Send>,
        wait: Duration,
        otherwise: Value,
    },
}

/// How a service speaks.
pub(crate) trait Manners: Send + Sync + 'static {
    /// Looks at a request.
    fn look(&self, path: &str, query: &str, content_type: &str, body: &Value) -> Verdict;
    /// Body of a refusal.
    fn refusal(&self, status: u16, retry_after: Option<f64>) -> Value;
    /// `Retry-After` header of a 429.
    fn retry_after_header(&self) -> bool;
    /// Is something at this path changed by PATCH?
    fn patches(&self, path: &str) -> bool {
        let _ = path;
        false
    }
    /// The request as it came.
    fn raw(&self, headers: &hyper::HeaderMap, body: &[u8]) {
        let _ = (headers, body);
    }
}

#[derive(Default)]
struct State {
    script: VecDeque<Behaviour>,
    always: Option<Behaviour>,
    received: Vec<Received>,
    next_id: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A test that panicked elsewhere must not hide what was received.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service.
pub struct Peer {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

struct NoAnswer;

/// The place of a service that is down: nobody else can have the port, and whoever connects is refused.
#[derive(Debug)]
pub struct Down {
    socket: OwnedFd,
    port: u16,
}

impl Down {
    /// Takes a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let taken = socket(AddressFamily::INET, SocketType::STREAM, None).and_then(|socket| {
            bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
            let port = SocketAddrV4::try_from(getsockname(&socket)?)?.port();
            Ok(Self { socket, port })
        });
        taken.unwrap_or_else(|e| panic!("cannot take a port of 127.0.0.1: {e}"))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn listen(self) -> std::net::TcpListener {
        rustix::net::listen(&self.socket, 128)
            .unwrap_or_else(|e| panic!("cannot listen on port {}: {e}", self.port));
        self.socket.into()
    }
}

impl Default for Down {
    fn default() -> Self {
        Self::new()
    }
}

impl Peer {
    pub(crate) fn start(manners: impl Manners) -> Self {
        Self::start_at(Down::new(), manners)
    }

    pub(crate) fn start_at(place: Down, manners: impl Manners) -> Self {
        let port = place.port;
        let socket = place.listen();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let manners: Arc<dyn Manners> = Arc::new(manners);
        let seen = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap_or_else(|e| panic!("cannot start a runtime: {e}"));
            runtime.block_on(async {
                tokio::select! {
                    () = listen(socket, seen, manners) => {}
                    _ = stopped => {}
                }
            });
            // What hangs in it is dropped, not waited for.
            runtime.shutdown_background();
        });
        Self {
            port,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What to do with the next requests, one each; after them [`Peer::always`].
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.state().script.extend(behaviours);
    }

    /// What to do when the script is at its end; at first [`Behaviour::Ok`].
    pub fn always(&self, behaviour: Behaviour) {
        let mut state = self.shared.state();
        state.script.clear();
        state.always = Some(behaviour);
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.clone()
    }

    /// Those that were taken: what people see.
    pub fn accepted(&self) -> Vec<Received> {
        self.received().into_iter().filter(|r| r.accepted).collect()
    }

    /// Those whose form was wrong: a fault of the sender.
    pub fn malformed(&self) -> Vec<Received> {
        self.received()
            .into_iter()
            .filter(|r| r.problem.is_some())
            .collect()
    }

    /// Waits until so many were taken, and gives them; fewer when the limit passes first. Blocks the thread.
    pub fn wait_accepted(&self, count: usize, limit: Duration) -> Vec<Received> {
        let end = Instant::now() + limit;
        let mut state = self.shared.state();
        while state.received.iter().filter(|r| r.accepted).count() < count {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self
                .shared
                .news
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state
            .received
            .iter()
            .filter(|r| r.accepted)
            .cloned()
            .collect()
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.shared.state().received.clear();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn listen(socket: std::net::TcpListener, shared: Arc<Shared>, manners: Arc<dyn Manners>) {
    socket
        .set_nonblocking(true)
        .unwrap_or_else(|e| panic!("cannot make the listener non-blocking: {e}"));
    let socket = tokio::net::TcpListener::from_std(socket)
        .unwrap_or_else(|e| panic!("cannot use the listener: {e}"));
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            continue;
        };
        let (shared, manners) = (shared.clone(), manners.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (shared, manners) = (shared.clone(), manners.clone());
                // An error of the service makes hyper close the connection without an answer, which is what is wanted.
                async move {
                    answer(request, &shared, &*manners)
                        .await
                        .map_err(|NoAnswer| std::io::Error::other("closed"))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    manners: &dyn Manners,
) -> Result<Response<Full<Bytes>>, NoAnswer> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or(""));
    let kind = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let json = serde_json::from_slice::<Value>(&bytes).unwrap_or(Value::Null);
    let mut received = Received {
        at_ms: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        path: head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        body: json.clone(),
        accepted: false,
        status: None,
        problem: None,
        text: None,
    };
    manners.raw(&head.headers, &bytes);
    let wanted = match manners.patches(path) {
        true => Method::PATCH,
        false => Method::POST,
    };
    let verdict = if head.method == wanted {
        manners.look(path, query, kind, &json)
    } else {
        Verdict::Wrong(
            405,
            manners.refusal(405, None),
            format!("the method is {}", head.method),
        )
    };
    let verdict = match verdict {
        Verdict::Aside {
            ask,
            wait,
            otherwise,
        } => {
            let end = Instant::now() + wait;
            let found = loop {
                match ask() {
                    Some(found) => break found,
                    None if Instant::now() >= end => break otherwise,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            return Response::builder()
                .status(StatusCode::OK)
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(found.to_string())))
                .map_err(|_| NoAnswer);
        }
        verdict => verdict,
    };
    let (status, body, retry_after, wait) = match verdict {
        // Answered above.
        Verdict::Aside { .. } => return Err(NoAnswer),
        Verdict::Wrong(status, body, problem) => {
            received.problem = Some(problem);
            (Some(status), body, None, Wait::No)
        }
        Verdict::Right { answer, text } => {
            received.text = text;
            let mut state = shared.state();
            let behaviour = state
                .script
                .pop_front()
                .or(state.always)
                .unwrap_or(Behaviour::Ok);
            state.next_id += 1;
            let (ok, taken) = answer(state.next_id);
            drop(state);
            match behaviour {
                Behaviour::Ok => (Some(ok), taken, None, Wait::No),
                Behaviour::SlowOk(ms) => (Some(ok), taken, None, Wait::For(ms)),
                Behaviour::Status(status) => {
                    (Some(status), manners.refusal(status, None), None, Wait::No)
                }
                Behaviour::TooMany(s) => {
                    (Some(429), manners.refusal(429, Some(s)), Some(s), Wait::No)
                }
                Behaviour::Hang => (None, Value::Null, None, Wait::Ever),
                Behaviour::CloseAfterRead => (None, Value::Null, None, Wait::No),
                Behaviour::TakeAndClose => {
                    received.accepted = true;
                    (None, Value::Null, None, Wait::No)
                }
            }
        }
    };
    received.status = status;
    received.accepted |= status.is_some_and(|s| (200..300).contains(&s));
    {
        shared.state().received.push(received);
        shared.news.notify_all();
    }
    match wait {
        Wait::No => {}
        Wait::For(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Wait::Ever => std::future::pending().await,
    }
    let status = status
        .and_then(|s| StatusCode::from_u16(s).ok())
        .ok_or(NoAnswer)?;
    let mut response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after.filter(|_| manners.retry_after_header()) {
        response = response
            .header(RETRY_AFTER, seconds.ceil().to_string())
            .header(
                HeaderName::from_static("x-ratelimit-reset-after"),
                seconds.to_string(),
            );
    }
    let body = if status == StatusCode::NO_CONTENT {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    response.body(Full::new(body)).map_err(|_| NoAnswer)
}

enum Wait {
    No,
    For(u64),
    Ever,
}

/// Length as Discord and Telegram count it here, the strict way: UTF-16 units.
pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}
