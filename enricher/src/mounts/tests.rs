use super::*;

const ID: &str = "b5e6a1837b51f7172a77a100907607827068fb9065ee94c38aabf1dc9eca8a06";

fn table(lines: &str) -> MountTable {
    let host = mountinfo::parse(b"27 1 254:0 / / rw - ext4 /dev/vda rw\n22 27 0:21 / /proc rw - proc proc rw\n23 27 0:22 / /sys rw - sysfs sysfs rw\n");
    let base = format!(
        "72 48 0:39 / / rw - overlay overlay rw\n73 72 0:42 / /proc rw - proc proc rw\n76 72 0:45 / /sys ro - sysfs sysfs ro\n\
         90 72 254:0 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n\
         91 72 254:0 /usr/bin/tini-static /sbin/docker-init ro - ext4 /dev/vda rw\n{lines}"
    );
    MountTable::join(&mountinfo::parse(base.as_bytes()), &host)
}

fn undeclared(
    lines: &str,
    profile: Option<Profile>,
    known: bool,
    expected: &[&str],
) -> Vec<String> {
    let expected: Vec<String> = expected.iter().map(|s| (*s).to_owned()).collect();
    let mut table = table(lines);
    table.declare(
        ID,
        profile,
        known,
        &Policy {
            profiles: &ProfileTable::builtin(),
            expected: &expected,
        },
    );
    table
        .of_host()
        .filter(|p| !p.declared)
        .map(|p| p.destination.clone())
        .collect()
}

fn bind(source: &str, destination: &str) -> String {
    format!("95 72 254:0 {source} {destination} rw - ext4 /dev/vda rw\n")
}

#[test]
fn what_docker_mounts_by_itself_is_declared() {
    assert!(undeclared("", None, true, &[]).is_empty());
    assert!(
        undeclared(
            &bind(
                &format!("/var/lib/docker/containers/{ID}/hosts"),
                "/etc/hosts"
            ),
            None,
            true,
            &[]
        )
        .is_empty()
    );
    // Another container's file, or another file under that name, is not.
    let other = ID.replace('b', "c");
    assert_eq!(
        undeclared(
            &bind(
                &format!("/var/lib/docker/containers/{other}/hosts"),
                "/etc/hosts"
            ),
            None,
            true,
            &[]
        ),
        ["/etc/hosts"]
    );
    assert_eq!(
        undeclared(&bind("/etc/shadow", "/etc/hosts"), None, true, &[]),
        ["/etc/hosts"]
    );
}

#[test]
fn volumes_are_declared_unless_they_bind_something_else() {
    assert!(
        undeclared(
            &bind("/var/lib/docker/volumes/data/_data", "/data"),
            None,
            true,
            &[]
        )
        .is_empty()
    );
    assert_eq!(
        undeclared(&bind("/var/lib/docker/volumes", "/data"), None, true, &[]),
        ["/data"]
    );
    let host = mountinfo::parse(b"27 1 254:0 / / rw - ext4 /dev/vda rw\n43 27 254:0 /etc /var/lib/docker/volumes/v/_data rw - ext4 /dev/vda rw\n");
    let lines = format!(
        "90 72 254:0 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n9 1 254:0 /etc /data rw - ext4 /dev/vda rw\n"
    );
    let mut table = MountTable::join(&mountinfo::parse(lines.as_bytes()), &host);
    table.declare(
        ID,
        None,
        true,
        &Policy {
            profiles: &ProfileTable::builtin(),
            expected: &[],
        },
    );
    assert!(!table.covering("/data/x").unwrap().declared);
}

#[test]
fn volumes_are_known_by_where_engines_keep_them() {
    for volume in [
        "/var/lib/docker/volumes/v/_data",
        "/var/lib/containers/storage/volumes/v/_data/sub",
        "/home/me/.local/share/containers/storage/volumes/v/_data",
    ] {
        assert!(is_volume(volume), "{volume}");
    }
    for other in [
        "/var/lib/docker/volumes",
        "/var/lib/docker/volumes/v",
        "/etc/docker/volumes/v/_data",
        "/tmp/.local/share/docker/volumes/v/_data",
    ] {
        assert!(!is_volume(other), "{other}");
    }
}

#[test]
fn state_of_an_agent_is_declared_for_an_agent_only() {
    let state = bind("/home/me/.openclaw", "/home/node/.openclaw")
        + &bind("/srv/ws", "/home/node/.openclaw/workspace");
    assert!(undeclared(&state, Some(Profile::Openclaw), true, &[]).is_empty());
    assert!(
        undeclared(&state, None, false, &[]).is_empty(),
        "the engine has not answered yet"
    );
    assert_eq!(undeclared(&state, None, true, &[]).len(), 2);
    assert!(
        undeclared(
            &bind("/root/.openclaw", "/home/node/.openclaw"),
            Some(Profile::Openclaw),
            true,
            &[]
        )
        .is_empty()
    );
}

#[test]
fn a_system_directory_is_never_state() {
    for source in [
        "/",
        "/etc",
        "/root",
        "/home/me",
        "/home",
        "/root/.ssh",
        "/var/lib/docker",
        "/var/spool/cron",
    ] {
        let got = undeclared(
            &bind(source, "/home/node/.openclaw"),
            Some(Profile::Openclaw),
            true,
            &["/home/node/*"],
        );
        assert_eq!(got, ["/home/node/.openclaw"], "{source}");
    }
}

#[test]
fn the_engines_socket_needs_to_be_spelled_out() {
    let socket = bind("/run/docker.sock", "/var/run/docker.sock");
    assert_eq!(
        undeclared(&socket, Some(Profile::Openclaw), true, &["*", "/run/*"]).len(),
        1
    );
    assert!(
        undeclared(
            &socket,
            Some(Profile::Openclaw),
            true,
            &["/run/docker.sock"]
        )
        .is_empty()
    );
}

#[test]
fn configuration_expects_by_source_or_destination() {
    assert!(undeclared(&bind("/srv/models", "/models"), None, true, &["/srv/*"]).is_empty());
    assert!(undeclared(&bind("/srv/models", "/models"), None, true, &["/models"]).is_empty());
    assert_eq!(
        undeclared(&bind("/srv/models", "/models"), None, true, &[]),
        ["/models"]
    );
}

#[test]
fn time_zones_are_public_when_read_only() {
    let line = |options| {
        format!("95 72 254:0 /etc/localtime /etc/localtime {options} - ext4 /dev/vda rw\n")
    };
    assert!(undeclared(&line("ro"), None, true, &[]).is_empty());
    assert_eq!(undeclared(&line("rw"), None, true, &[]).len(), 1);
}

#[test]
fn host_paths_end_at_mounts_of_the_container() {
    let mut t = table(&bind("/srv/x", "/data"));
    t.declare(
        ID,
        None,
        true,
        &Policy {
            profiles: &ProfileTable::builtin(),
            expected: &[],
        },
    );
    assert_eq!(
        t.host_path("/data/a/b", Some((254, 0))),
        Some(("/srv/x/a/b".into(), true))
    );
    assert_eq!(t.host_path("/proc/1/environ", Some((0, 42))), None);
    assert_eq!(t.host_path("/bin/sh", Some((0, 39))), None);
    assert_eq!(
        t.host_path("/link", Some((254, 0))),
        Some(("/srv/x".into(), true)),
        "a link that led to the host"
    );
    assert_eq!(
        (t.dev_of("/", None), t.dev_of("/proc", Some("proc"))),
        (Some((0, 39)), Some((0, 42)))
    );
}

#[test]
fn a_path_behind_the_root_of_a_process_is_the_file_there() {
    let mounts = format!("{}{}", bind("/srv/x", "/data"), bind("/srv/y", "/more"));
    let mut t = table(&mounts);
    t.declare(
        ID,
        None,
        true,
        &Policy {
            profiles: &ProfileTable::builtin(),
            expected: &[],
        },
    );
    // Two mounts have that device: without the name nothing would tell which.
    for path in [
        "/proc/self/root/more/a",
        "/proc/17/root/more/a",
        "/proc/1/task/1/root/proc/self/root/more/a",
    ] {
        assert_eq!(
            t.host_path(path, Some((254, 0))),
            Some(("/srv/y/a".into(), true)),
            "{path}"
        );
    }
    assert_eq!(t.host_path("/proc/self/root/more/a", Some((0, 39))), None);
    assert_eq!(
        t.host_path("/proc/self/rooted/more/a", Some((254, 0))),
        None
    );
}

#[test]
fn the_hosts_own_proc_is_undeclared() {
    assert_eq!(
        undeclared(
            "96 72 0:21 / /host/proc rw - proc proc rw\n",
            None,
            true,
            &["/host/*"]
        ),
        ["/host/proc"]
    );
}

#[test]
fn dockers_init_is_the_engines_also_where_usr_is_merged() {
    for destination in ["/sbin/docker-init", "/usr/sbin/docker-init"] {
        let point = |options: &str| {
            let line = format!(
                "91 74 254:0 /usr/bin/tini-static {destination} {options} - ext4 /dev/vda rw\n"
            );
            let host = mountinfo::parse(b"27 1 254:0 / / rw - ext4 /dev/vda rw\n");
            let mut table = MountTable::join(&mountinfo::parse(line.as_bytes()), &host);
            let profiles = ProfileTable::builtin();
            let policy = Policy {
                profiles: &profiles,
                expected: &[],
            };
            table.declare(ID, None, true, &policy);
            table.covering(destination).unwrap().declared
        };
        assert!(point("ro,relatime"), "{destination}");
        assert!(!point("rw,relatime"), "writable, it is no init of Docker's");
    }
}

#[test]
fn only_names_that_may_lead_to_the_host_are_looked_up() {
    let table = table(&bind("/srv/x", "/data"));
    let (own, host) = ((0, 39), (254, 0));
    assert!(!table.may_leave("/etc/passwd", own), "the container's own");
    assert!(
        table.may_leave("/data/file", host),
        "a link may lie below a mount too"
    );
    assert!(
        table.may_leave("/tmp/link", host),
        "the device says that a link led away"
    );
}
