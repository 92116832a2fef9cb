//! What a frozen container was is kept, whole and provable.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use test_support::{World, eventually};

use crate::{PATIENCE, gateway, paused, world};

fn kept(world: &World, name: &str) -> Value {
    eventually("the evidence is taken", PATIENCE, || {
        let list = world.cli(&["quarantine", "list", "-o", "json"]).json();
        let q = list.as_array()?.iter().find(|q| q["name"] == name)?.clone();
        (!q["evidence"].is_null()).then(|| q["evidence"].clone())
    })
}

#[test]
fn the_evidence_of_a_frozen_container_is_whole() {
    if !test_support::kernel::wanted("the_evidence_of_a_frozen_container_is_whole") {
        return;
    }
    let world = world().config("[evidence]\ncommit = true\n").start();
    let container = gateway(&world);
    container
        .exec(&[
            "sh",
            "-c",
            "echo stolen > /tmp/loot; ln -s /etc/passwd /tmp/link; rm -f /bin/vi",
        ])
        .expect_ok();
    let _child = container.spawn(&["sh", "-c", "TOKEN=in-the-environment exec sleep 4242"]);
    eventually("the child sleeps", PATIENCE, || {
        let top = world.docker.command(&["top", &container.name]);
        let sleeps = |line: &str| line.contains("sleep 4242") && !line.contains("TOKEN");
        top.stdout.lines().any(sleeps).then_some(())
    });
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    let evidence = kept(&world, "openclaw-gateway");
    assert_eq!(evidence["failed"], serde_json::json!([]), "{evidence:#}");
    let dir = Path::new(evidence["dir"].as_str().unwrap());
    assert!(dir.starts_with(world.state_dir().join("evidence")));
    let mode = std::fs::metadata(dir).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);

    // Sums that another program checks.
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let mut sums = String::new();
    for file in manifest["files"].as_array().unwrap() {
        sums.push_str(&format!(
            "{}  {}\n",
            file["sha256"].as_str().unwrap(),
            file["file"].as_str().unwrap()
        ));
    }
    let list = world.dir().join("sums");
    std::fs::write(&list, &sums).unwrap();
    let checked = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict"])
        .arg(&list)
        .current_dir(dir)
        .status()
        .unwrap();
    assert!(checked.success());
    assert!(sums.lines().count() > 20, "{sums}");

    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let json = |name: &str| serde_json::from_str::<Value>(&read(name)).unwrap();
    let inspect = json("docker/inspect.json");
    assert_eq!(inspect["Id"], container.id.as_str());
    let processes = json("processes.json");
    let sleeper = processes
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["argv"] == serde_json::json!(["sleep", "4242"]))
        .unwrap_or_else(|| panic!("{processes:#}"));
    let busybox = Command::new("sha256sum")
        .arg("/bin/busybox")
        .output()
        .unwrap();
    let busybox = String::from_utf8(busybox.stdout).unwrap();
    assert_eq!(sleeper["exe_sha256"], busybox.split(' ').next().unwrap());
    let environ = read(&format!("processes/{}/environ", sleeper["pid"]));
    assert!(environ.contains("TOKEN=in-the-environment"));
    assert!(read(&format!("processes/{}/maps", sleeper["pid"])).contains("busybox"));
    assert!(processes.to_string().contains("network_namespace"));

    let changes = read("changes.jsonl");
    let what = |path: &str| {
        changes
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap())
            .find(|c| c["path"] == path)
            .unwrap_or_else(|| panic!("{path} is not in {changes}"))["what"]
            .clone()
    };
    assert_eq!(what("/tmp/loot"), "file");
    assert_eq!(what("/tmp/link"), "link");
    assert_eq!(what("/bin/vi"), "deleted");
    let loot = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["about"]["path"] == "/tmp/loot")
        .unwrap();
    assert_eq!(read(loot["file"].as_str().unwrap()), "stolen\n");

    let alerts = read("history/alerts.jsonl");
    assert!(alerts.contains("\"id\":\"A-1\""), "{alerts}");
    let tree = json("history/tree.json");
    assert!(tree.to_string().contains("attacker"), "{tree:#}");
    assert!(read("history/events.jsonl").contains("\"mount\""));

    let shown = world
        .cli(&["quarantine", "show", "openclaw-gateway"])
        .expect_ok();
    assert!(
        shown.contains(dir.to_str().unwrap()) && shown.contains("own secrets"),
        "{shown}"
    );

    // The image that was asked for has what the container had.
    let image = eventually("the image", PATIENCE, || {
        let list = world.cli(&["quarantine", "list", "-o", "json"]).json();
        list[0]["evidence_image"].as_str().map(str::to_owned)
    });
    let copy = world
        .docker
        .container("copy", &image)
        .command(&["cat", "/tmp/loot"])
        .start();
    eventually("what it holds", PATIENCE, || {
        let logs = world.docker.command(&["logs", &copy.name]);
        (logs.stdout == "stolen\n").then_some(())
    });
    copy.remove();
    world.docker.command(&["image", "rm", "-f", &image]);
}

#[test]
fn what_cannot_be_kept_does_not_undo_the_freeze() {
    if !test_support::kernel::wanted("what_cannot_be_kept_does_not_undo_the_freeze") {
        return;
    }
    // A full disk: nothing can be written where the evidence should lie.
    let world = world()
        .config("[evidence]\ndir = \"/dev/full/evidence\"\n")
        .start();
    let container = gateway(&world);
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    let evidence = kept(&world, "openclaw-gateway");
    assert!(evidence["dir"].is_null());
    let why = evidence["failed"][0].as_str().unwrap();
    assert!(why.contains("/dev/full"), "{why}");
    assert!(container.is_frozen());
    let shown = world
        .cli(&["quarantine", "show", "openclaw-gateway"])
        .expect_ok();
    assert!(shown.contains("not kept"), "{shown}");
}

#[test]
fn a_small_disk_keeps_what_fits_and_says_what_did_not() {
    if !test_support::kernel::wanted("a_small_disk_keeps_what_fits_and_says_what_did_not") {
        return;
    }
    let disk = SmallDisk::mount(64 << 10);
    let world = world()
        .config(&format!(
            "[evidence]\ndir = {:?}\n",
            disk.0.path().join("evidence")
        ))
        .start();
    let container = gateway(&world);
    container
        .exec(&["sh", "-c", "head -c 300000 /dev/urandom > /tmp/large"])
        .expect_ok();
    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    paused(&container);
    let evidence = kept(&world, "openclaw-gateway");
    assert!(
        !evidence["failed"].as_array().unwrap().is_empty(),
        "{evidence:#}"
    );
    assert!(container.is_frozen());
    assert_eq!(world.status()["state"], "healthy");
}

/// A file system of a few pages, made by the host itself.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(done.success());
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
