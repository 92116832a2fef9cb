//! Files, sockets and waiting: what the tests for host-fs access, docker.sock and floods need.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::{Failure, Outcome};

pub fn append(path: &str) -> Outcome {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    Ok(file.write_all(b"# written by the attacker of the tests\n")?)
}

pub fn read(path: &str) -> Outcome {
    let mut bytes = Vec::new();
    File::open(path)?.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(())
}

pub fn connect_unix(path: &str) -> Outcome {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixStream::connect_addr(&address)?;
    Ok(())
}

/// Creates and removes files for ever, as fast as it can: the flood of one container. Ends only with an error.
pub fn spin_create(dir: &str) -> Outcome {
    let path = Path::new(dir).join(format!("flood-{}", std::process::id()));
    loop {
        File::create(&path)?;
        std::fs::remove_file(&path)?;
    }
}

pub fn sleep(seconds: Option<&str>) -> Outcome {
    let seconds = match seconds {
        Some(text) => text
            .parse()
            .map_err(|_| Failure::Usage("sleep SECONDS (a whole number)"))?,
        None => 3600,
    };
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(())
}
