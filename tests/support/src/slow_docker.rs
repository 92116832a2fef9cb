//! A Docker that is slow or hangs: a socket in front of the real engine that keeps back what a test names.
//!
//! The bytes are the engine's own; only their time is ours. A request is kept back by its first line (`POST /v1.41/networks/…`).

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The engine behind.
const REAL: &str = "/var/run/docker.sock";

#[derive(Debug, Default)]
struct State {
    /// Parts of first lines that are kept back.
    held: Vec<String>,
    /// First lines so far, in the order in which they came.
    seen: Vec<String>,
    /// First lines that wait now.
    waiting: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere must not hide what was seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket in front.
#[derive(Debug)]
pub struct SlowDocker {
    socket: PathBuf,
    shared: Arc<Shared>,
}

impl SlowDocker {
    /// Listens at `docker.sock` in this folder, and lets everything through at first.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub fn start(dir: &Path) -> Self {
        let socket = dir.join("docker.sock");
        let listener = UnixListener::bind(&socket)
            .unwrap_or_else(|e| panic!("cannot listen at {}: {e}", socket.display()));
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = seen.clone();
                std::thread::spawn(move || carry(client, &shared));
            }
        });
        Self { socket, shared }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Keeps back what has this in its first line, from now on; the empty word is in every line.
    pub fn hold(&self, part: &str) {
        self.shared.state().held.push(part.to_owned());
    }

    /// Lets everything through again, also what waits.
    pub fn let_go(&self) {
        self.shared.state().held.clear();
        self.shared.news.notify_all();
    }

    /// First lines so far, `POST /v1.41/containers/…/pause HTTP/1.1`.
    pub fn seen(&self) -> Vec<String> {
        self.shared.state().seen.clone()
    }

    /// Those that wait now.
    pub fn waiting(&self) -> Vec<String> {
        self.shared.state().waiting.clone()
    }
}

/// One connection, both ways.
fn carry(mut client: UnixStream, shared: &Shared) {
    let Ok(mut engine) = UnixStream::connect(REAL) else {
        return;
    };
    let (Ok(mut back), Ok(mut from)) = (client.try_clone(), engine.try_clone()) else {
        return;
    };
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = [0; 64 << 10];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        let Some(bytes) = buffer.get(..n) else { break };
        if let Some(line) = first_line(bytes) {
            keep_back(&line, shared);
        }
        if engine.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = engine.shutdown(std::net::Shutdown::Both);
}

/// The first line of a request; `None` for the rest of one.
fn first_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next()?;
    line.ends_with(" HTTP/1.1").then(|| line.to_owned())
}

fn keep_back(line: &str, shared: &Shared) {
    let mut state = shared.state();
    state.seen.push(line.to_owned());
    let held = |state: &State| state.held.iter().any(|part| line.contains(part.as_str()));
    if !held(&state) {
        return;
    }
    state.waiting.push(line.to_owned());
    while held(&state) {
        state = shared
            .news
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
    if let Some(n) = state.waiting.iter().position(|w| w == line) {
        state.waiting.remove(n);
    }
}
