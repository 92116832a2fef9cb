//! Between the monitor and Docker: an engine that is slow, or silent.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Listens on `socket`; each answer of the engine comes `delay` later, with `None` never. It lives as long as the process.
pub fn listen(socket: &Path, delay: Option<Duration>) -> std::io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || {
        let mut silent = Vec::new();
        for client in listener.incoming().flatten() {
            match delay {
                None => silent.push(client),
                Some(delay) => drop(thread::spawn(move || pass(client, delay))),
            }
        }
    });
    Ok(())
}

fn pass(client: UnixStream, delay: Duration) -> std::io::Result<()> {
    let engine = UnixStream::connect("/var/run/docker.sock")?;
    let (from, to) = (client.try_clone()?, engine.try_clone()?);
    thread::spawn(move || copy(from, to, Duration::ZERO));
    copy(engine, client, delay)
}

fn copy(mut from: UnixStream, mut to: UnixStream, delay: Duration) -> std::io::Result<()> {
    let mut buffer = [0; 65536];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return to.shutdown(Shutdown::Write);
        }
        thread::sleep(delay);
        to.write_all(&buffer[..n])?;
    }
}
