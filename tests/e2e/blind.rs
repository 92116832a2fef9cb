//! `status --container` says what is not seen of a container.

use test_support::{eventually, image, kernel};

use crate::{PATIENCE, settled, world};

#[test]
fn status_of_a_container_says_what_is_not_seen_of_it() {
    if !kernel::wanted("status_of_a_container_says_what_is_not_seen_of_it") {
        return;
    }
    let world = world().start();
    let plain = world
        .docker
        .container("blind-plain", image::build())
        .start();
    let host = world
        .docker
        .container("blind-host", image::build())
        .dangerous()
        .options(&["--network=host", "--pid=host"])
        .start();
    settled(&world, &plain);
    settled(&world, &host);
    let says = |name: &str, words: &str| {
        let said = world.cli(&["status", "--container", name]).stdout;
        said.contains(words).then_some(said)
    };
    // What Docker says of it may come behind its name.
    let plain = eventually("what seccomp hides", PATIENCE, || {
        says("blind-plain", "calls that its seccomp profile refuses")
    });
    let host = eventually("the host's namespaces", PATIENCE, || {
        says("blind-host", "it shares the host's network")
    });
    assert!(
        host.contains("it shares the host's pid namespace"),
        "{host}"
    );
    assert!(!host.contains("seccomp profile"), "it has none: {host}");
    assert!(!plain.contains("shares the host's"), "{plain}");
    // The packs load no rule on what a ring does (only one on making a ring), and it is said.
    let ring_is_watched = world.status()["rules"]["io_uring"] == true;
    for said in [plain, host] {
        assert!(said.contains("files that are open already"), "{said}");
        let says_so = said.contains("no rule on its operations is loaded");
        assert_eq!(says_so, !ring_is_watched, "{said}");
    }
    let unknown = world.cli(&["status", "--container", "blind-nobody"]);
    assert!(
        unknown.stderr.contains("blind-nobody"),
        "{}",
        unknown.stderr
    );
}
