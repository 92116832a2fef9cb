use std::fs;

use tempfile::TempDir;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Directories with the files of a cgroup; nothing in them ever freezes by itself, so what is written can be looked at.
struct Fake {
    root: TempDir,
}

impl Fake {
    fn new() -> Self {
        Self {
            root: TempDir::new().unwrap(),
        }
    }

    fn v2(&self, name: &str, populated: bool, frozen: bool) -> PathBuf {
        let dir = self.root.path().join("unified").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join("cgroup.freeze"),
            if frozen { "1\n" } else { "0\n" },
        )
        .unwrap();
        let events = format!(
            "populated {}\nfrozen {}\n",
            u8::from(populated),
            u8::from(frozen)
        );
        fs::write(dir.join("cgroup.events"), events).unwrap();
        fs::write(dir.join("cgroup.procs"), "").unwrap();
        dir
    }

    fn v1(&self, name: &str, state: &str) -> PathBuf {
        let dir = self.root.path().join("freezer").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("freezer.state"), state).unwrap();
        fs::write(dir.join("cgroup.procs"), "").unwrap();
        dir
    }
}

fn target(v2: Option<PathBuf>, v1: Option<PathBuf>) -> FreezeTarget {
    FreezeTarget {
        container_id: ID.into(),
        cgroup_v2: v2,
        cgroup_freezer: v1,
        init_pid: 0,
        init_start_ticks: 0,
        cgroup_inode: 0,
    }
}

fn text(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap()
}

#[test]
fn a_hybrid_host_is_frozen_by_its_unified_tree() {
    let fake = Fake::new();
    let (v2, v1) = (fake.v2(ID, true, false), fake.v1(ID, "THAWED\n"));
    let frozen = freeze(&target(Some(v2.clone()), Some(v1.clone()))).unwrap();
    assert_eq!(
        (frozen.how, frozen.already, frozen.settled),
        (How::Hybrid, false, false)
    );
    assert!(!frozen.how.needs_handover());
    assert!(text(&v2, "cgroup.freeze").starts_with('1'));
    assert_eq!(text(&v1, "freezer.state"), "THAWED\n");
}

#[test]
fn where_docker_has_no_place_in_unified_the_v1_freezer_is_used() {
    let fake = Fake::new();
    let (v2, v1) = (fake.v2(ID, false, false), fake.v1(ID, "THAWED"));
    let frozen = freeze(&target(Some(v2.clone()), Some(v1.clone()))).unwrap();
    assert_eq!(frozen.how, How::V1);
    assert!(frozen.how.needs_handover());
    assert_eq!(text(&v1, "freezer.state"), "FROZEN");
    assert_eq!(text(&v2, "cgroup.freeze"), "0\n");
}

#[test]
fn v2_alone_and_v1_alone_are_frozen_by_what_there_is() {
    let fake = Fake::new();
    let v2 = fake.v2(ID, true, false);
    assert_eq!(freeze(&target(Some(v2), None)).unwrap().how, How::V2);
    let v1 = fake.v1(ID, "THAWED");
    assert_eq!(freeze(&target(None, Some(v1))).unwrap().how, How::V1);
}

#[test]
fn what_is_frozen_already_is_not_written_again() {
    let fake = Fake::new();
    let v2 = fake.v2(ID, true, true);
    fs::write(v2.join("cgroup.freeze"), "untouched").unwrap();
    let frozen = freeze(&target(Some(v2.clone()), None)).unwrap();
    assert!(frozen.already && frozen.settled);
    assert_eq!(text(&v2, "cgroup.freeze"), "untouched");
}

#[test]
fn all_of_a_container_is_frozen_when_its_init_moved_down() {
    let fake = Fake::new();
    let top = fake.v2(ID, true, false);
    let init = fake.v2(&format!("{ID}/init.scope"), true, false);
    freeze(&target(Some(init.clone()), None)).unwrap();
    assert!(text(&top, "cgroup.freeze").starts_with('1'));
    assert_eq!(text(&init, "cgroup.freeze"), "0\n");
}

#[test]
fn a_directory_without_the_id_is_never_written() {
    let fake = Fake::new();
    for name in ["system.slice", "docker", "fedcba9876543210"] {
        let dir = fake.v2(name, true, false);
        for (v2, v1) in [(Some(dir.clone()), None), (None, Some(dir.clone()))] {
            let error = freeze(&target(v2.clone(), v1.clone())).unwrap_err();
            assert!(matches!(error, FreezeError::NotItsOwn { .. }), "{error}");
            assert!(matches!(
                thaw(&target(v2, v1)),
                Err(FreezeError::NotItsOwn { .. })
            ));
        }
        assert_eq!(text(&dir, "cgroup.freeze"), "0\n");
    }
    // An empty id is part of every name.
    let dir = fake.v2("docker", true, false);
    let mut nobody = target(Some(dir.clone()), None);
    nobody.container_id = String::new();
    assert!(freeze(&nobody).is_err());
    assert_eq!(text(&dir, "cgroup.freeze"), "0\n");
}

#[test]
fn a_container_that_is_gone_is_said_to_be() {
    let fake = Fake::new();
    let gone = fake.root.path().join(ID);
    for t in [
        target(Some(gone.clone()), None),
        target(None, Some(gone.clone())),
    ] {
        assert!(freeze(&t).unwrap_err().is_gone());
        assert!(!thaw(&t).unwrap());
    }
    assert!(matches!(
        freeze(&target(None, None)),
        Err(FreezeError::NoCgroup(_))
    ));
    assert!(!gone.exists(), "nothing is created");
}

#[test]
fn a_restarted_container_is_frozen_and_a_reused_name_is_not() {
    let fake = Fake::new();
    let v2 = fake.v2(ID, true, false);
    let own = std::process::id();
    let mut t = target(Some(v2.clone()), None);
    (t.init_pid, t.init_start_ticks) = (own, start_ticks(own).unwrap());
    assert!(!freeze(&t).unwrap().restarted);
    t.init_start_ticks += 1;
    assert!(freeze(&t).unwrap().restarted);

    let named = fake.v2("machine-web", true, false);
    t.container_id = "machine-web".into();
    t.cgroup_v2 = Some(named.clone());
    assert!(matches!(freeze(&t), Err(FreezeError::Replaced { .. })));
    assert_eq!(text(&named, "cgroup.freeze"), "0\n");
}

#[test]
fn thawing_takes_back_both_files() {
    let fake = Fake::new();
    let (v2, v1) = (fake.v2(ID, true, true), fake.v1(ID, "FROZEN"));
    let t = target(Some(v2.clone()), Some(v1.clone()));
    assert!(is_frozen(&t).unwrap());
    assert!(thaw(&t).unwrap());
    assert!(text(&v2, "cgroup.freeze").starts_with('0'));
    assert_eq!(text(&v1, "freezer.state"), "THAWED");
}

#[test]
fn a_name_with_brackets_does_not_confuse_the_start_time() {
    assert!(start_ticks(std::process::id()).is_some());
    assert_eq!(start_ticks(u32::MAX), None);
}

#[test]
fn a_directory_that_was_made_again_is_known_by_its_inode() {
    use std::os::unix::fs::MetadataExt;
    let fake = Fake::new();
    let v2 = fake.v2(ID, true, false);
    let inode = fs::metadata(&v2).unwrap().ino();
    let seen = |id: &str, dir: &PathBuf, inode| FreezeTarget {
        container_id: id.into(),
        cgroup_inode: inode,
        ..target(Some(dir.clone()), None)
    };
    assert!(!freeze(&seen(ID, &v2, inode)).unwrap().restarted);
    // An id is used once: it was started again, and is frozen all the same.
    assert!(freeze(&seen(ID, &v2, inode + 1)).unwrap().restarted);
    // A name is not: nothing is written.
    let named = fake.v2("web-1", true, false);
    let other = fs::metadata(&named).unwrap().ino() + 1;
    let error = freeze(&seen("web-1", &named, other)).unwrap_err();
    assert!(matches!(error, FreezeError::Replaced { .. }), "{error}");
    assert_eq!(
        text(&named, "cgroup.freeze"),
        "0
"
    );
}

#[test]
fn docker_s_own_file_is_the_v1_freezer_where_there_is_one() {
    let fake = Fake::new();
    let (v2, v1) = (fake.v2(ID, true, false), fake.v1(ID, "THAWED\n"));
    freeze_as_docker(&target(Some(v2.clone()), Some(v1.clone()))).unwrap();
    assert_eq!(text(&v1, "freezer.state").trim(), "FROZEN");
    assert_eq!(text(&v2, "cgroup.freeze").trim(), "0");
    freeze_as_docker(&target(Some(v2.clone()), None)).unwrap();
    assert_eq!(text(&v2, "cgroup.freeze").trim(), "1");
    assert!(freeze_as_docker(&target(None, None)).is_err());
}
