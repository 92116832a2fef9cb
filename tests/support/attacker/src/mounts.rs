//! mount(2) and its relatives: the old call, the new family, and pivot_root.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use crate::Outcome;

const TARGET: &str = "/mnt";
/// Made from mount_setattr.c and put beside us in the image.
const MOUNT_SETATTR: &str = "/bin/attacker-mount-setattr";

pub fn mount(target: Option<&str>) -> Outcome {
    let target = target.unwrap_or(TARGET);
    Ok(rustix::mount::mount(
        "none",
        target,
        "tmpfs",
        MountFlags::empty(),
        None,
    )?)
}

pub fn umount(target: &str) -> Outcome {
    Ok(rustix::mount::unmount(target, UnmountFlags::empty())?)
}

pub fn fsopen_move_mount(target: Option<&str>) -> Outcome {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&fs)?;
    let detached =
        rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(rustix::mount::move_mount(
        &detached,
        "",
        CWD,
        target.unwrap_or(TARGET),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

pub fn open_tree(path: Option<&str>) -> Outcome {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path.unwrap_or("/"), flags)?;
    Ok(())
}

/// Becomes the small C program that makes the call (and prints its result): no safe wrapper exists.
pub fn mount_setattr(path: Option<&str>) -> Outcome {
    Err(Command::new(MOUNT_SETATTR).args(path).exec().into())
}

pub fn pivot_root() -> Outcome {
    Ok(rustix::process::pivot_root(".", ".")?)
}
