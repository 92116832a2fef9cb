//! The processes of a frozen container, from /proc: what they are, what they have open, whom they talk to.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::pack::sum;
use super::{Limits, Pack};
use crate::freeze::{self, FreezeTarget};

/// Longest file of /proc that is kept, bytes.
const PROC_FILE: u64 = 4 << 20;
/// Open files of one process that are named.
const FDS: usize = 4096;

pub(super) fn take(pack: &mut Pack, target: &FreezeTarget, limits: &Limits, until: Instant) {
    let pids = match freeze::processes(target) {
        Ok(pids) => pids,
        Err(e) => return pack.fail("processes.json", &e.to_string()),
    };
    let mut list = Vec::new();
    let mut seen = Seen::default();
    for (n, pid) in pids.iter().enumerate() {
        if n >= limits.processes || Instant::now() > until {
            pack.fail(
                "processes.json",
                &format!("{} of {} processes are described", n, pids.len()),
            );
            break;
        }
        list.push(describe(pack, *pid, limits, &mut seen));
    }
    pack.add_json("processes.json", &list.into());
}

/// What many processes share and is kept once.
#[derive(Default)]
struct Seen {
    programs: std::collections::BTreeMap<(u64, u64), Value>,
    mounts: BTreeSet<String>,
    networks: BTreeSet<String>,
}

fn describe(pack: &mut Pack, pid: u32, limits: &Limits, seen: &mut Seen) -> Value {
    let proc = Path::new("/proc").join(pid.to_string());
    let link = |name: &str| {
        fs::read_link(proc.join(name))
            .map(|p| String::from_utf8_lossy(p.as_os_str().as_bytes()).into_owned())
            .ok()
    };
    let words = |name: &str| -> Vec<String> {
        let bytes = fs::read(proc.join(name)).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        bytes
            .split(|b| *b == 0)
            .map(|w| String::from_utf8_lossy(w).into_owned())
            .collect()
    };
    for name in ["environ", "maps", "status", "cmdline"] {
        keep(pack, &proc, pid, name);
    }
    let mount_ns = link("ns/mnt").unwrap_or_default();
    if seen.mounts.insert(mount_ns.clone()) {
        keep(pack, &proc, pid, "mountinfo");
    }
    let net_ns = link("ns/net").unwrap_or_default();
    if seen.networks.insert(net_ns.clone()) {
        for name in ["tcp", "tcp6", "udp", "udp6", "unix", "raw", "route"] {
            keep(pack, &proc, pid, &format!("net/{name}"));
        }
    }
    let mut fds: Vec<Value> = fs::read_dir(proc.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .take(FDS)
        .map(|fd| {
            let to = fs::read_link(fd.path())
                .map(|p| String::from_utf8_lossy(p.as_os_str().as_bytes()).into_owned());
            json!({"fd": fd.file_name().to_string_lossy().parse::<u32>().ok(), "is": to.ok()})
        })
        .collect();
    fds.sort_by_key(|fd| fd["fd"].as_u64());
    json!({
        "pid": pid,
        "start_ticks": freeze::start_ticks(pid),
        "comm": fs::read_to_string(proc.join("comm")).unwrap_or_default().trim_end_matches('\n'),
        "argv": words("cmdline"),
        "exe": link("exe"),
        "exe_sha256": program(&proc, limits, seen),
        "cwd": link("cwd"),
        "root": link("root"),
        "mount_namespace": mount_ns,
        "network_namespace": net_ns,
        "user_namespace": link("ns/user"),
        "fds": fds,
    })
}

/// The sum of the program's file, also when that was removed; once for every file.
fn program(proc: &Path, limits: &Limits, seen: &mut Seen) -> Value {
    use std::os::unix::fs::MetadataExt;
    // The link leads to the very file that runs, whatever its name leads to now.
    let file = match fs::File::open(proc.join("exe")) {
        Ok(file) => file,
        Err(e) => return json!({"failed": e.to_string()}),
    };
    let key = file
        .metadata()
        .map(|m| (m.dev(), m.ino()))
        .unwrap_or_default();
    seen.programs
        .entry(key)
        .or_insert_with(|| match sum(file, limits.program) {
            Ok((sum, true)) => sum.into(),
            Ok((_, false)) => json!({"failed": format!("longer than {} bytes", limits.program)}),
            Err(e) => json!({"failed": e.to_string()}),
        })
        .clone()
}

fn keep(pack: &mut Pack, proc: &Path, pid: u32, name: &str) {
    let to = format!("processes/{pid}/{}", name.replace('/', "-"));
    // Read first: a file of /proc has no length, and one that fails half-way is to be named, not kept.
    let mut bytes = Vec::new();
    match fs::File::open(proc.join(name)).and_then(|f| f.take(PROC_FILE).read_to_end(&mut bytes)) {
        Ok(_) => pack.add(&to, &bytes),
        // A family that this kernel does not speak.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && name.starts_with("net/") => {}
        Err(e) => pack.fail(&to, &e.to_string()),
    }
}
