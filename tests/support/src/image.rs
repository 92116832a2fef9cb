//! The image that the tests run: a static busybox and the attacker, nothing else. Built on the machine, nothing is pulled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::docker::{LABEL, LABEL_VALUE};
use crate::process::run;

pub use crate::gateway::gateway;

/// Name of the image.
pub const IMAGE: &str = "syscall-monitor-test/agent:latest";
const TARGET: &str = "x86_64-unknown-linux-gnu";
const LIMIT: Duration = Duration::from_secs(300);

/// Builds and imports the image once a test run, and gives its name.
///
/// The attacker is taken from `SYSCALL_MONITOR_ATTACKER` (a folder with `attacker`, `attacker-mount-setattr` and `attacker-raw`, as
/// `scripts/test.sh` builds them), else it is built here.
///
/// # Panics
/// When a step fails; the message is that program's.
pub fn build() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let programs =
            std::env::var_os("SYSCALL_MONITOR_ATTACKER").map_or_else(build_attacker, PathBuf::from);
        import(&programs);
    });
    IMAGE
}

/// Builds the attacker, statically linked, and what of it is in C. Gives the folder that holds all.
pub(crate) fn build_attacker() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| here.join("../../target"), PathBuf::from)
        .join("attacker");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(
        Command::new(cargo)
            .current_dir(here)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .args([
                "build",
                "-q",
                "--locked",
                "-p",
                "attacker",
                "--target",
                TARGET,
                "--target-dir",
            ])
            .arg(&target),
        LIMIT,
    )
    .expect_ok();
    let folder = target.join(TARGET).join("debug");
    for (program, source) in [
        ("attacker-mount-setattr", "attacker/mount_setattr.c"),
        ("attacker-raw", "attacker/raw.c"),
    ] {
        run(
            Command::new("cc")
                .args(["-O1", "-static", "-o"])
                .arg(folder.join(program))
                .arg(here.join(source)),
            LIMIT,
        )
        .expect_ok();
    }
    folder
}

fn import(programs: &Path) {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("cannot make a folder: {e}"));
    let root = dir.path().join("root");
    for folder in [
        "bin",
        "etc",
        "tmp",
        "mnt",
        "proc",
        "sys",
        "dev",
        "home/node",
        "root",
        "data",
    ] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder)
            .unwrap_or_else(|e| panic!("cannot make {}: {e}", folder.display()));
    }
    copy(Path::new("/bin/busybox"), &root.join("bin/busybox"));
    for program in ["attacker", "attacker-mount-setattr", "attacker-raw"] {
        copy(&programs.join(program), &root.join("bin").join(program));
    }
    let applets = run(Command::new("/bin/busybox").arg("--list"), LIMIT).expect_ok();
    for applet in applets.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet))
            .unwrap_or_else(|e| panic!("cannot link {applet}: {e}"));
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000:node:/home/node:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users)
        .unwrap_or_else(|e| panic!("cannot write passwd: {e}"));
    let tar = dir.path().join("image.tar");
    run(
        Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg("."),
        LIMIT,
    )
    .expect_ok();
    run(
        Command::new("docker")
            .args(["import", "--change", "ENV PATH=/bin", "--change"])
            .arg(format!("LABEL {LABEL}={LABEL_VALUE}"))
            .arg(&tar)
            .arg(IMAGE),
        LIMIT,
    )
    .expect_ok();
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to)
        .unwrap_or_else(|e| panic!("cannot copy {} to {}: {e}", from.display(), to.display()));
}
