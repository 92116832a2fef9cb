//! The helpers themselves, on a real engine: what they say about a container is true, and nothing is left behind.

use std::time::Duration;

use test_support::{Docker, eventually, image, kernel};

#[test]
fn a_container_that_the_kernel_has_frozen_is_seen_and_removed() {
    if !kernel::wanted("a_container_that_the_kernel_has_frozen_is_seen_and_removed") {
        return;
    }
    let _lock = kernel::Lock::take();
    let image = image::build();
    let docker = Docker::connect();
    let container = docker
        .container("support-frozen", image)
        .dangerous()
        .start();
    assert_eq!(container.status(), "running");
    assert!(!container.is_frozen());
    assert_eq!(
        container.exec(&["attacker", "mount"]).expect_ok(),
        "result: ok\n"
    );
    assert_eq!(
        container
            .exec(&["attacker", "mount-setattr", "/mnt"])
            .expect_ok(),
        "result: ok\n"
    );
    assert_eq!(
        container.exec(&["attacker", "ptrace-attach"]).expect_ok(),
        "result: ok\n"
    );

    let freeze = format!(
        "/sys/fs/cgroup/unified/docker/{}/cgroup.freeze",
        container.id
    );
    let pure = format!(
        "/sys/fs/cgroup/system.slice/docker-{}.scope/cgroup.freeze",
        container.id
    );
    let file = [freeze, pure]
        .into_iter()
        .find(|file| std::path::Path::new(file).exists());
    std::fs::write(file.expect("no cgroup.freeze of the container"), "1").unwrap();
    eventually("the freeze", Duration::from_secs(5), || {
        container.is_frozen().then_some(())
    });
    assert!(
        !container.is_paused(),
        "Docker does not know of a direct freeze"
    );
    container.remove();
    assert!(!docker.names().contains(&"support-frozen".to_owned()));

    let container = docker.container("support-paused", image).start();
    docker.command(&["pause", "support-paused"]).expect_ok();
    assert!(container.is_paused() && container.is_frozen());
    assert_eq!(docker.remove_all(), 1);
    assert_eq!(docker.names(), Vec::<String>::new());
}

#[test]
fn calls_that_the_default_seccomp_profile_refuses_are_told_as_refused() {
    if !kernel::wanted("calls_that_the_default_seccomp_profile_refuses_are_told_as_refused") {
        return;
    }
    let _lock = kernel::Lock::take();
    let image = image::build();
    let docker = Docker::connect();
    let container = docker.container("support-plain", image).start();
    assert_eq!(
        container.exec(&["attacker", "mount"]).expect_ok(),
        "result: EPERM\n"
    );
    assert_eq!(
        container
            .exec(&["attacker", "write-file", "/data/x"])
            .expect_ok(),
        "result: ok\n"
    );
    assert_eq!(
        container
            .exec(&["attacker", "read-file", "/nowhere"])
            .expect_ok(),
        "result: ENOENT\n"
    );
    assert_eq!(container.exec(&["attacker", "nonsense"]).code(), Some(2));
}
