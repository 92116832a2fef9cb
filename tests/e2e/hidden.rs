//! Ways round a rule: another ABI, rubbish in registers, one call for many, another name for a file. Each is seen all the same.

use test_support::{eventually, image, kernel};

use crate::{PATIENCE, settled, titles, world};

/// What is done, and the title and severity of the alert that it must be.
const HIDDEN: [(&str, &str, &str); 10] = [
    ("mount32", "Mount call in a container", "critical"),
    ("ptrace32", "Process taken over with ptrace", "critical"),
    (
        "connect-socketcall /engine.sock",
        "Socket of a container engine opened from a container",
        "critical",
    ),
    (
        "open /proc/self/root/proc/sys/kernel/core_pattern",
        "Kernel control file opened for writing",
        "critical",
    ),
    (
        "open /proc/self/attr/current",
        "Security label of a process written in a container",
        "medium",
    ),
    ("socket 17", "Packet socket in a container", "medium"),
    (
        "socket 38",
        "Socket of the kernel crypto interface in a container",
        "high",
    ),
    (
        "socket32 40",
        "Socket to the hypervisor in a container",
        "medium",
    ),
    (
        "socket 16 9",
        "Socket to the kernel audit system in a container",
        "medium",
    ),
    (
        "mknod-disk",
        "Device node of a disk or of memory made in a container",
        "high",
    ),
];

/// In a container that is no agent: an agent would be frozen by the first. Nothing is changed by any of it.
#[test]
fn what_is_done_another_way_is_seen_all_the_same() {
    if !kernel::wanted("what_is_done_another_way_is_seen_all_the_same") {
        return;
    }
    let world = world().start();
    let container = world
        .docker
        .container("shop-database", image::build())
        .dangerous()
        .options(&["--volume=/run/docker.sock:/engine.sock"])
        .start();
    settled(&world, &container);
    // What is near and no finding: overlay's mark of a deleted file, procfs by its own name.
    for near in ["mknod-whiteout", "open /proc/self/comm"] {
        let words: Vec<&str> = near.split(' ').collect();
        container
            .exec(&[&["/bin/attacker-raw"], &words[..]].concat())
            .expect_ok();
    }
    world.barrier();
    let alerts = world.alerts(&["--severity", "medium"]);
    assert!(alerts.is_empty(), "{:?}", titles(&alerts));

    for (attack, title, severity) in HIDDEN {
        let words: Vec<&str> = attack.split(' ').collect();
        let said = container
            .exec(&[&["/bin/attacker-raw"], &words[..]].concat())
            .expect_ok();
        println!("{attack}: {}", said.trim());
        eventually(&format!("an alert for {attack}"), PATIENCE, || {
            let alerts = world.alerts(&["--container", "shop-database"]);
            let found = alerts.iter().find(|a| a["title"] == title)?;
            assert_eq!(found["severity"], severity, "{attack}");
            Some(())
        });
    }
    // A link is followed while its process lives: then it is the kernel's control file, else a file of procfs by another name.
    container
        .exec(&[
            "/bin/attacker-raw",
            "open-by-link",
            "/proc/sys/kernel/core_pattern",
        ])
        .expect_ok();
    eventually("the opening through a link", PATIENCE, || {
        let opened = world.history(&[
            "--container",
            "shop-database",
            "--path",
            "/tmp/link",
            "--severity",
            "high",
        ]);
        (!opened.is_empty()).then_some(())
    });
    // A server is kept for the history and told to nobody.
    container.exec(&["/bin/attacker-raw", "bind"]).expect_ok();
    eventually("the listener in the history", PATIENCE, || {
        let binds = world.history(&["--container", "shop-database", "--syscall", "bind"]);
        (!binds.is_empty()).then_some(())
    });
    world.barrier();
    let told = world.alerts(&["--severity", "medium"]);
    let through_link = told
        .iter()
        .filter(|a| a["title"] == "File of procfs opened for writing under another name");
    assert_eq!(
        told.len() - through_link.count(),
        HIDDEN.len(),
        "{:?}",
        titles(&told)
    );
}
