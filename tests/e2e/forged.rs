//! What a container says of itself in the audit stream is told apart from what the kernel says of it.

use std::path::Path;
use std::process::Command;

use test_support::{eventually, image, kernel};

use crate::{PATIENCE, settled, world};

#[test]
fn records_that_a_container_forges_are_counted_and_believed_by_nobody() {
    if !kernel::wanted("records_that_a_container_forges_are_counted_and_believed_by_nobody") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("attacker-forge");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/attacker/forge.c");
    let built = Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .arg(&program)
        .arg(source)
        .status()
        .unwrap();
    assert!(built.success());
    let world = world().start();
    // As Docker starts everybody: with AUDIT_WRITE, and with its own seccomp profile.
    let container = world
        .docker
        .container("openclaw-gateway", image::build())
        .options(&["-v", &format!("{}:/data", dir.path().display())])
        .start();
    settled(&world, &container);
    container
        .exec(&["/data/attacker-forge", "7", "token-forged"])
        .expect_ok();
    eventually("seven forged records are counted", PATIENCE, || {
        (world.status()["losses"]["forged_records"] == 7).then_some(())
    });
    world.barrier();
    let believed: Vec<_> = world
        .history(&["--since", "10m", "--text", "acct=\"root\" token-forged"])
        .into_iter()
        .filter(|e| e["syscall"].is_null())
        .collect();
    assert!(believed.is_empty(), "{believed:?}");
    // The same from the host is an event like any other.
    let host = Command::new(&program)
        .args(["1", "token-of-the-host"])
        .status()
        .unwrap();
    assert!(host.success());
    eventually("the host's own record is there", PATIENCE, || {
        world
            .history(&[
                "--since",
                "10m",
                "--text",
                "acct=\"root\" token-of-the-host",
            ])
            .into_iter()
            .find(|e| e["syscall"].is_null())
    });
    assert_eq!(world.status()["losses"]["forged_records"], 7);
}
