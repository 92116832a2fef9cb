//! The image of the real OpenClaw gateway. Unlike the image of the other tests it is big and comes over the network, so it may be
//! missing: then the test that wants it says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::run;

/// Debian, Node and the gateway over a slow network; the second time they come from a cache.
const LIMIT: Duration = Duration::from_secs(900);

/// The name of the image, or `None` when it could not be made; why is on standard error.
///
/// `scripts/test.sh` makes it beforehand and names it in `SYSCALL_MONITOR_GATEWAY_IMAGE` (empty when that failed); without that
/// variable it is made here, once a test run. It holds `/bin/attacker`, and runs nothing by itself.
pub fn gateway() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    NAME.get_or_init(|| {
        std::env::var("SYSCALL_MONITOR_GATEWAY_IMAGE").map_or_else(|_| make(), named)
    })
    .as_deref()
}

fn make() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lib/gateway-image.sh");
    let attacker = std::env::var_os("SYSCALL_MONITOR_ATTACKER")
        .map_or_else(crate::image::build_attacker, PathBuf::from);
    let output = run(
        Command::new(script).env("SYSCALL_MONITOR_ATTACKER", attacker),
        LIMIT,
    );
    eprint!("{}", output.stderr);
    output
        .ok()
        .then_some(output.stdout)
        .and_then(|name| named(name.trim().to_owned()))
}

fn named(name: String) -> Option<String> {
    (!name.is_empty()).then_some(name)
}
