//! Which mounts of a container are no surprise.
//!
//! Declared are: what the engine itself mounts, volumes, the state and workspace of an agent, and what configuration
//! expects. Everything else that comes from the host is undeclared, and access to it is a finding. Neither a label nor
//! anything that a container can write decides here; a directory of the system is never declared by its destination alone.

use std::sync::Arc;

use crate::container::Profile;
use crate::glob;
use crate::mountinfo::{self, is_below};
use crate::paths;
use crate::profile::ProfileTable;

/// One mount point of a container, joined with the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Path in the container.
    pub destination: String,
    /// Device.
    pub dev: (u32, u32),
    /// Every path on the host that leads there, most direct first; empty for overlay, proc, tmpfs of its own, …
    pub host: Vec<String>,
    /// May the container write?
    pub writable: bool,
    /// File system.
    pub fstype: String,
    /// Is it no surprise? True for what does not come from the host.
    pub declared: bool,
}

/// The mount table of one container, longest destination first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    points: Vec<MountPoint>,
}

/// What decides over declarations.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Destinations of agents.
    pub profiles: &'a ProfileTable,
    /// Globs over host source or destination, from configuration.
    pub expected: &'a [String],
}

/// Most mount points kept of one container; a table that is longer is cut and said to be.
const MAX_POINTS: usize = 2048;

impl MountTable {
    /// Joins the mount table of a process of the container with the host's.
    pub fn join(container: &[mountinfo::Mount], host: &[mountinfo::Mount]) -> Self {
        let mut points: Vec<MountPoint> = Vec::new();
        for mount in container.iter().take(MAX_POINTS) {
            let own = matches!(
                mount.fstype.as_str(),
                "proc"
                    | "sysfs"
                    | "cgroup"
                    | "cgroup2"
                    | "mqueue"
                    | "devpts"
                    | "overlay"
                    | "aufs"
                    | "securityfs"
                    | "debugfs"
            );
            // The root is the container's own, also where it is a directory or subvolume of the host's file system (vfs, btrfs,
            // zfs). The container's own proc shows nothing of the host; the host's proc or sys mounted with -v does, but it is
            // the same instance only when the device is.
            let host_paths = if mount.mount_point == "/"
                || own && mount.fstype != "proc" && mount.fstype != "sysfs"
            {
                Vec::new()
            } else {
                mountinfo::host_paths(mount, host)
            };
            // Docker mounts sysfs anew for each container; it is one instance in one network namespace.
            let host_paths = if mount.fstype == "sysfs" && mount.mount_point == "/sys" {
                Vec::new()
            } else {
                host_paths
            };
            // A later mount on the same point covers the earlier one.
            points.retain(|p| p.destination != mount.mount_point);
            points.push(MountPoint {
                destination: mount.mount_point.clone(),
                dev: mount.dev,
                host: host_paths,
                writable: mount.writable(),
                fstype: mount.fstype.clone(),
                declared: true,
            });
        }
        points.sort_by(|a, b| {
            b.destination
                .len()
                .cmp(&a.destination.len())
                .then_with(|| a.destination.cmp(&b.destination))
        });
        Self { points }
    }

    /// From what an engine says, while no process of the container could be read.
    pub fn from_engine(mounts: &[crate::container::Mount]) -> Self {
        let mut points: Vec<MountPoint> = mounts
            .iter()
            .take(MAX_POINTS)
            .filter(|m| m.destination.starts_with('/') && m.kind != "tmpfs")
            .map(|m| MountPoint {
                destination: m.destination.clone(),
                dev: (0, 0),
                host: if m.source.starts_with('/') {
                    vec![m.source.clone()]
                } else {
                    Vec::new()
                },
                writable: m.writable,
                fstype: String::new(),
                declared: true,
            })
            .collect();
        points.sort_by_key(|p| std::cmp::Reverse(p.destination.len()));
        Self { points }
    }

    /// Decides again what is declared. `known` says that the engine has told the container's name, so that `profile` is final.
    pub fn declare(
        &mut self,
        id: &str,
        profile: Option<Profile>,
        known: bool,
        policy: &Policy<'_>,
    ) {
        let volumes = self.volumes(id);
        for point in &mut self.points {
            point.declared = point.host.is_empty()
                || declared(point, id, profile, known, volumes.as_deref(), policy);
        }
    }

    /// The engine's directory of volumes, told by where the container's own resolv.conf lies: `<root>/containers/<id>/resolv.conf`.
    fn volumes(&self, id: &str) -> Option<String> {
        self.points.iter().flat_map(|p| &p.host).find_map(|host| {
            let (root, rest) = host.split_once("/containers/")?;
            rest.strip_prefix(id)?.strip_prefix('/')?;
            Some(format!("{root}/volumes"))
        })
    }

    /// The mount that a path lies on.
    pub fn covering(&self, path: &str) -> Option<&MountPoint> {
        self.points.iter().find(|p| is_below(path, &p.destination))
    }

    /// Everything that comes from the host.
    pub fn of_host(&self) -> impl Iterator<Item = &MountPoint> {
        self.points.iter().filter(|p| !p.host.is_empty())
    }

    /// Device of the mount on exactly this point.
    pub fn dev_of(&self, destination: &str, fstype: Option<&str>) -> Option<(u32, u32)> {
        let point = self.points.iter().find(|p| p.destination == destination)?;
        (point.dev != (0, 0) && fstype.is_none_or(|f| f == point.fstype)).then_some(point.dev)
    }

    /// Is this device a file system of the container that answers by itself? Not FUSE and not one of a network, and none that the
    /// container mounted later.
    pub fn is_plain(&self, dev: (u32, u32)) -> bool {
        const PLAIN: [&str; 11] = [
            "overlay", "ext4", "ext3", "ext2", "xfs", "btrfs", "tmpfs", "f2fs", "erofs",
            "squashfs", "zfs",
        ];
        self.points
            .iter()
            .any(|p| p.dev == dev && PLAIN.contains(&p.fstype.as_str()))
    }

    /// Nothing known?
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Does a name lead to a mount from the host, or its device say that it leads elsewhere than it seems?
    pub fn may_leave(&self, path: &str, dev: (u32, u32)) -> bool {
        self.covering(path)
            .is_some_and(|p| !p.host.is_empty() || p.dev != (0, 0) && p.dev != dev)
    }

    /// Path on the host, and whether that is undeclared.
    ///
    /// `dev` is the device of the file as the kernel recorded it. Where it contradicts the mount that the name leads to, a
    /// symbolic link led somewhere else: then the only undeclared mount with that device answers, if there is just one.
    ///
    /// A path behind the root of a process (`/proc/self/root/data/a`) is taken without it, where the device says that the file
    /// lies on the mount which that leads to: so the file is told also when the process is gone.
    pub fn host_path(&self, path: &str, dev: Option<(u32, u32)>) -> Option<(String, bool)> {
        let path = paths::behind_root(path)
            .filter(|behind| {
                let point = self.covering(behind);
                point.is_some_and(|p| p.dev != (0, 0) && Some(p.dev) == dev)
            })
            .unwrap_or(path);
        let point = self.covering(path)?;
        let here = point
            .host
            .first()
            .and_then(|to| mountinfo::rebase(path, &point.destination, to));
        match dev {
            Some(dev) if point.dev != (0, 0) && dev != point.dev => {
                let mut others = self.of_host().filter(|p| p.dev == dev && !p.declared);
                let other = others.next()?;
                others
                    .next()
                    .is_none()
                    .then(|| (other.host[0].clone(), true))
            }
            _ => here.map(|p| (p, !point.declared)),
        }
    }
}

fn declared(
    point: &MountPoint,
    id: &str,
    profile: Option<Profile>,
    known: bool,
    volumes: Option<&str>,
    policy: &Policy<'_>,
) -> bool {
    let to = point.destination.as_str();
    if point.host.iter().any(|h| is_runtime_socket(h)) {
        // The engine's socket is the host. Only a pattern that spells it out lets it pass.
        return point
            .host
            .iter()
            .any(|h| policy.expected.iter().any(|p| p == h));
    }
    if engine_owned(point, id) {
        return true;
    }
    let expected_source = point
        .host
        .iter()
        .any(|h| policy.expected.iter().any(|p| glob::matches(p, h)));
    if expected_source {
        return true;
    }
    let dangerous = point.host.iter().any(|h| is_system(h));
    // Below the directory of volumes, and really there: a volume that binds another directory shows that one first.
    if point.host.first().is_some_and(|h| is_volume(h)) {
        return true;
    }
    if let Some(volumes) = volumes
        && point
            .host
            .first()
            .is_some_and(|h| is_below(h, volumes) && h != volumes)
    {
        return true;
    }
    if dangerous {
        return !point.writable && is_public(&point.host);
    }
    if policy.expected.iter().any(|p| glob::matches(p, to)) {
        return true;
    }
    let agent = profile.is_some() || !known;
    agent && policy.profiles.is_state(profile, to)
}

/// Inside a volume of an engine whose directory is where engines put it: docker and podman, root's and a user's.
fn is_volume(host: &str) -> bool {
    const STORES: [&str; 4] = [
        "/docker/volumes/",
        "/containers/storage/volumes/",
        "/.local/share/docker/volumes/",
        "/.local/share/containers/storage/volumes/",
    ];
    let roots = ["/var/lib", "/home/", "/root"];
    STORES.iter().any(|store| {
        host.split_once(store).is_some_and(|(before, rest)| {
            let (plain, of_user) = (
                before == roots[0],
                before == roots[2] || before.starts_with(roots[1]),
            );
            let mut parts = rest.split('/');
            let name = parts.next().is_some_and(|n| !n.is_empty());
            name && parts.next() == Some("_data")
                && if store.starts_with("/.local") {
                    of_user
                } else {
                    plain
                }
        })
    })
}

/// What engines mount by themselves: name resolution, the init program, shared memory, Kubernetes' own files.
fn engine_owned(point: &MountPoint, id: &str) -> bool {
    let to = point.destination.as_str();
    point.host.iter().any(|host| {
        let name = host.rsplit('/').next().unwrap_or_default();
        let of_this = host.split('/').any(|c| c == id);
        match to {
            "/etc/resolv.conf" | "/etc/hosts" | "/etc/hostname" | "/run/.containerenv" => {
                of_this && name == to.rsplit('/').next().unwrap_or_default()
                    || (to == "/etc/hosts"
                        && host.starts_with("/var/lib/kubelet/pods/")
                        && name == "etc-hosts")
            }
            // With /usr merged, /sbin is a link and the kernel names the place behind it.
            "/sbin/docker-init" | "/usr/sbin/docker-init" | "/dev/init" | "/run/podman-init" => {
                !point.writable
                    && matches!(name, "docker-init" | "tini" | "tini-static" | "catatonit")
            }
            "/dev/shm" => of_this && name == "shm",
            // With a user namespace runc binds the host's nodes, since it may not make its own.
            "/dev/null" | "/dev/zero" | "/dev/full" | "/dev/random" | "/dev/urandom"
            | "/dev/tty" => host == to,
            // Devices that `--device` or runc's masking put there lie on the host's devtmpfs: no file, and a rule of its own.
            _ => of_this && (is_below(to, "/run/secrets") || is_below(to, "/var/run/secrets")),
        }
    })
}

/// Sockets that give away the host.
pub fn is_runtime_socket(host: &str) -> bool {
    let name = host.rsplit('/').next().unwrap_or_default();
    matches!(
        name,
        "docker.sock"
            | "containerd.sock"
            | "podman.sock"
            | "crio.sock"
            | "buildkitd.sock"
            | "dockershim.sock"
            | "cri-dockerd.sock"
    )
}

/// Files and directories of the system, and homes as a whole. An agent's state never lies there; somebody who mounts one
/// of them at an agent's destination gives the agent the host.
pub fn is_system(host: &str) -> bool {
    const BELOW: [&str; 22] = [
        "/etc",
        "/boot",
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/var/run",
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/var/spool",
        "/var/log",
        "/var/lib/docker",
        "/var/lib/containerd",
        "/var/lib/containers",
        "/var/lib/kubelet",
        "/var/lib/systemd",
        "/var/lib/dpkg",
    ];
    const EXACT: [&str; 12] = [
        "/", "/home", "/root", "/var", "/var/lib", "/opt", "/srv", "/mnt", "/media", "/tmp",
        "/data", "/var/tmp",
    ];
    const SECRET: [&str; 6] = [".ssh", ".gnupg", ".aws", ".kube", ".docker", ".azure"];
    let home = host
        .strip_prefix("/home/")
        .is_some_and(|rest| !rest.contains('/'));
    BELOW.iter().any(|s| is_below(host, s))
        || EXACT.contains(&host)
        || home
        || host.split('/').any(|c| SECRET.contains(&c))
}

/// What anybody may read and compose files mount read-only all the time: time zones, certificates, graphics libraries.
fn is_public(host: &[String]) -> bool {
    const BELOW: [&str; 6] = [
        "/etc/localtime",
        "/etc/timezone",
        "/usr/share/zoneinfo",
        "/etc/ssl/certs",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
    ];
    host.iter().all(|h| {
        let name = h.rsplit('/').next().unwrap_or_default();
        BELOW.iter().any(|s| is_below(h, s))
            || (is_below(h, "/usr")
                && (name.contains("nvidia")
                    || name.starts_with("libcuda")
                    || name.starts_with("libnv")))
    })
}

/// The table of a container behind an `Arc`, as the registry keeps it.
pub type SharedTable = Arc<MountTable>;

#[cfg(test)]
mod tests;
