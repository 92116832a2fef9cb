use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::pack::hex;
use super::*;
use crate::fixture::alert;
use crate::freeze::FreezeTarget;

fn quarantine() -> Quarantine {
    Quarantine::for_alert(
        &alert(42),
        "because",
        FreezeTarget {
            container_id: "c".repeat(64),
            ..FreezeTarget::default()
        },
        None,
        1000,
    )
}

fn manifest(summary: &Summary) -> Value {
    let text = fs::read(summary.dir.as_ref().unwrap().join("manifest.json")).unwrap();
    assert_eq!(hex(Sha256::digest(&text)), summary.manifest_sha256);
    serde_json::from_slice(&text).unwrap()
}

/// Every file of the manifest is there with its sum, closed to others, and there is no file that it does not name.
fn hold_true(summary: &Summary) -> Value {
    let manifest = manifest(summary);
    let dir = summary.dir.as_ref().unwrap();
    assert_eq!(
        fs::metadata(dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for file in manifest["files"].as_array().unwrap() {
        let path = dir.join(file["file"].as_str().unwrap());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(file["sha256"], hex(Sha256::digest(&bytes)).as_str());
        assert_eq!(file["bytes"], bytes.len());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let there = walkdir::WalkDir::new(dir)
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file())
        .count();
    assert_eq!(there, manifest["files"].as_array().unwrap().len() + 1);
    manifest
}

#[test]
fn a_pack_says_what_it_holds_and_what_it_does_not() {
    let root = tempfile::tempdir().unwrap();
    let others = vec![
        Contribution {
            name: "docker/inspect.json".into(),
            bytes: Ok(b"{}".to_vec()),
        },
        Contribution {
            name: "docker/output.txt".into(),
            bytes: Err("no answer".into()),
        },
    ];
    // No cgroup is known: no process can be described, and that is said.
    let summary = take(
        root.path(),
        &quarantine(),
        others,
        &Limits::default(),
        1_795_353_018_414,
    )
    .unwrap();
    let manifest = hold_true(&summary);
    assert_eq!(manifest["files"][0]["file"], "docker/inspect.json");
    assert_eq!(manifest["container"]["name"], "openclaw-gateway");
    assert!(summary.failed[0].contains("no answer"));
    assert!(
        summary
            .failed
            .iter()
            .any(|f| f.starts_with("processes.json"))
    );
    assert!(
        summary
            .failed
            .iter()
            .any(|f| f.starts_with("changes.jsonl"))
    );
    let name = summary.dir.unwrap();
    let name = name.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(name, "20261122T131018Z-A-42-openclaw-gateway");
}

#[test]
fn two_packs_of_one_second_do_not_mix() {
    let root = tempfile::tempdir().unwrap();
    let dirs: Vec<_> = (0..2)
        .map(|_| {
            take(root.path(), &quarantine(), vec![], &Limits::default(), 5)
                .unwrap()
                .dir
        })
        .collect();
    assert_ne!(dirs[0], dirs[1]);
}

#[test]
fn a_name_from_outside_stays_in_the_folder() {
    for (name, safe_name) in [
        ("../../etc", ".._.._etc"),
        ("..", "_"),
        ("", "_"),
        ("a b/ü", "a_b__"),
    ] {
        assert_eq!(safe(name), safe_name);
    }
}

#[test]
fn what_was_changed_is_listed_whole_and_copied_up_to_a_limit() {
    let root = tempfile::tempdir().unwrap();
    let upper = tempfile::tempdir().unwrap();
    let at = |p: &str| upper.path().join(p);
    fs::create_dir(at("etc")).unwrap();
    fs::write(at("etc/cron"), b"* * * * *").unwrap();
    fs::write(at("big"), vec![b'x'; 5000]).unwrap();
    fs::write(at("secret-elsewhere"), b"").unwrap();
    // A link out of the folder is told, and not followed.
    symlink("/etc/passwd", at("link")).unwrap();
    let limits = Limits {
        file: 1000,
        ..Limits::default()
    };
    let mut pack = Pack::create(root.path(), "p", 1 << 20).unwrap();
    files::take_from(
        &mut pack,
        upper.path(),
        &limits,
        Instant::now() + limits.time,
    );
    let summary = pack.seal(json!({}), 1).unwrap();
    let manifest = hold_true(&summary);
    let dir = summary.dir.unwrap();
    let list = fs::read_to_string(dir.join("changes.jsonl")).unwrap();
    let mut lines: Vec<Value> = list
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    lines.sort_by_key(|l| l["path"].as_str().unwrap().to_owned());
    let told: Vec<_> = lines
        .iter()
        .map(|l| (l["path"].as_str().unwrap(), l["what"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("/big", "file"),
            ("/etc", "folder"),
            ("/etc/cron", "file"),
            ("/link", "link"),
            ("/secret-elsewhere", "file")
        ]
    );
    assert_eq!(lines[3]["to"], "/etc/passwd");
    let copied: Vec<_> = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["about"]["path"].is_string())
        .map(|f| {
            (
                f["about"]["path"].as_str().unwrap(),
                f["bytes"].as_u64().unwrap(),
                f["cut"] == true,
            )
        })
        .collect();
    assert!(copied.contains(&("/etc/cron", 9, false)), "{copied:?}");
    assert!(copied.contains(&("/big", 1000, true)), "{copied:?}");
    assert_eq!(copied.len(), 2);
}

#[test]
fn a_full_pack_says_so_and_is_sealed() {
    let root = tempfile::tempdir().unwrap();
    let mut pack = Pack::create(root.path(), "p", 10).unwrap();
    pack.add("a", b"1234567");
    pack.add("b", b"1234567");
    pack.add("c", b"1");
    let summary = pack.seal(json!({}), 1).unwrap();
    let manifest = hold_true(&summary);
    assert_eq!(summary.bytes, 10);
    assert_eq!(manifest["files"][1]["cut"], true);
    assert_eq!(summary.failed, ["c: the pack is full"]);
}

#[test]
fn a_full_disk_ends_the_pack_and_leaves_no_half_file() {
    let root = tempfile::tempdir().unwrap();
    let mut pack = Pack::create(root.path(), "p", 1 << 20).unwrap();
    pack.add_from("a", Failing, 1 << 10, Value::Null);
    pack.add("b", b"x");
    let summary = pack.seal(json!({}), 1).unwrap();
    hold_true(&summary);
    assert_eq!(summary.files, 0);
    assert!(summary.failed[0].starts_with("a: "), "{:?}", summary.failed);
    assert_eq!(summary.failed[1], "b: the pack is full");
}

struct Failing;

impl std::io::Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn the_oldest_packs_make_room_and_those_in_quarantine_stay() {
    let root = tempfile::tempdir().unwrap();
    let mut dirs = vec![];
    for name in ["2026-1", "2026-2", "2026-3"] {
        let mut pack = Pack::create(root.path(), name, 1 << 20).unwrap();
        pack.add("a", &[0; 1000]);
        dirs.push(pack.dir().to_owned());
    }
    assert!(make_room(root.path(), 5000, 1000, &[]).unwrap().is_empty());
    let gone = make_room(root.path(), 3000, 1000, &dirs[..1]).unwrap();
    assert_eq!(gone, [dirs[1].clone()]);
    assert!(dirs[0].exists() && !dirs[1].exists() && dirs[2].exists());
    assert!(
        make_room(&root.path().join("none"), 1, 1, &[])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn old_packs_go_and_those_in_quarantine_stay() {
    let root = tempfile::tempdir().unwrap();
    let names = [
        "20260101T000000Z-A-1-old",
        "20260101T000001Z-A-2-held",
        "20261121T131018Z-A-3-new",
        "notes",
    ];
    for name in names {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("a"), b"x").unwrap();
    }
    let at = |n: usize| root.path().join(names[n]);
    // 2026-11-22T13:10:18.414Z.
    let now = 1_795_353_018_414;
    let days = |n: u64| Duration::from_secs(n * 86_400);
    assert!(retire(root.path(), days(400), &[], now).unwrap().is_empty());
    let gone = retire(root.path(), days(90), &[at(1)], now).unwrap();
    assert_eq!(gone, [at(0)]);
    assert!(!at(0).exists() && at(1).exists() && at(2).exists() && at(3).exists());
    assert!(
        retire(&at(3).join("none"), days(1), &[], now)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_image_has_a_name_that_docker_takes() {
    let mut q = quarantine();
    let now = 1_795_353_018_414;
    for (name, expected) in [
        ("Openclaw_Gateway.1", "openclaw-gateway-1"),
        ("--", "unnamed"),
        ("", "unnamed"),
    ] {
        q.name = name.into();
        let (repo, tag) = image_name(&q, now);
        assert_eq!(repo, format!("syscall-monitor-evidence/{expected}"));
        assert_eq!(tag, "20261122t131018z");
    }
}
