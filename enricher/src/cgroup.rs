//! Containers from the text of `/proc/PID/cgroup` (cgroups(7)): v1, v2 and hybrid, cgroupfs and systemd drivers, nested.
//!
//! The text is what the kernel says about a process, but its words can be chosen by whoever may create a cgroup, so a
//! name counts only in the shapes that container engines write.

use std::path::{Component, Path, PathBuf};

use crate::container::Engine;

/// One line, `hierarchy:controllers:path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Controllers of a v1 hierarchy (`cpu,cpuacct`, `name=systemd`), empty for v2.
    pub controllers: String,
    /// Path below the hierarchy's mount point.
    pub path: String,
}

/// What the text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Container, if the path names one.
    pub container: Option<Id>,
    /// Path in the unified hierarchy, cut behind the component that names the container.
    pub unified: Option<String>,
    /// Path in the v1 freezer hierarchy, cut in the same way.
    pub freezer: Option<String>,
}

/// A container named by a cgroup path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    /// Id, for LXC and nspawn the name.
    pub id: String,
    /// Engine, as far as the path tells.
    pub engine: Engine,
}

/// Lines of the text; what does not have the shape is skipped.
pub fn lines(text: &str) -> impl Iterator<Item = Line> + '_ {
    text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        number.parse::<u32>().ok()?;
        path.starts_with('/').then(|| Line {
            controllers: controllers.to_owned(),
            path: path.to_owned(),
        })
    })
}

/// Reads the whole text. The outermost container wins: a container inside a container (docker in docker) counts as the one that
/// this host's engine knows, and a privileged one cannot rename itself by making a cgroup; a v1 and a v2 line that disagree are settled in favour of the first that names one.
pub fn parse(text: &str) -> Membership {
    let mut out = Membership::default();
    let all: Vec<Line> = lines(text).collect();
    // The unified line first: on a hybrid host it is the one that the processes cannot leave by a v1 controller's rules.
    let ordered = all
        .iter()
        .filter(|l| l.controllers.is_empty())
        .chain(all.iter().filter(|l| !l.controllers.is_empty()));
    for line in ordered {
        if out.container.is_none() {
            out.container = find(&line.path).map(|(id, _)| id);
        }
    }
    for line in &all {
        let cut = || cut(&line.path, out.container.as_ref());
        if line.controllers.is_empty() {
            out.unified = Some(cut());
        } else if line.controllers.split(',').any(|c| c == "freezer") {
            out.freezer = Some(cut());
        }
    }
    out
}

/// The path up to the component that names the container; the whole path when none does.
fn cut(path: &str, container: Option<&Id>) -> String {
    match (find(path), container) {
        (Some((id, end)), Some(wanted)) if id.id == wanted.id => path[..end].to_owned(),
        _ => path.to_owned(),
    }
}

/// The container that a path names, and where the component that names it ends.
fn find(path: &str) -> Option<(Id, usize)> {
    let kubernetes = path.split('/').any(|c| c.starts_with("kubepods"));
    let mut end = 0;
    let mut parent = "";
    let mut found: Option<(Id, usize)> = None;
    for (place, part) in path.split('/').enumerate() {
        end += part.len();
        // `ctr` lets people choose the id; its namespace is the outermost component.
        let chosen = || {
            (place == 2 && parent == "default" && is_name(part)).then(|| Id {
                id: part.to_owned(),
                engine: Engine::Containerd,
            })
        };
        if let Some(mut id) = component(part, parent).or_else(chosen) {
            if kubernetes && id.engine != Engine::Crio {
                id.engine = Engine::Kubernetes;
            }
            // The outermost wins: what lies below a container's own cgroup the container may have made, and named, itself.
            if found.is_none() {
                found = Some((id, end));
            }
        }
        parent = part;
        end += 1;
    }
    found
}

/// One component, with the one above it.
fn component(part: &str, parent: &str) -> Option<Id> {
    let some = |id: &str, engine| {
        Some(Id {
            id: id.to_owned(),
            engine,
        })
    };
    // systemd driver: docker-<id>.scope, libpod-<id>.scope, crio-<id>.scope, cri-containerd-<id>.scope, nerdctl-<id>.scope
    if let Some(unit) = part.strip_suffix(".scope") {
        for (prefix, engine) in [
            ("docker-", Engine::Docker),
            ("libpod-", Engine::Podman),
            ("crio-", Engine::Crio),
            ("cri-containerd-", Engine::Kubernetes),
            ("nerdctl-", Engine::Containerd),
        ] {
            if let Some(id) = unit.strip_prefix(prefix)
                && is_hex_id(id)
            {
                return some(id, engine);
            }
        }
        if let Some(name) = unit.strip_prefix("machine-") {
            return machine(name);
        }
        return None;
    }
    // systemd-nspawn@NAME.service and LXC's two spellings.
    if let Some(name) = part
        .strip_prefix("systemd-nspawn@")
        .and_then(|n| n.strip_suffix(".service"))
    {
        return is_name(name).then(|| Id {
            id: name.to_owned(),
            engine: Engine::Nspawn,
        });
    }
    for prefix in ["lxc.payload.", "lxc.payload/"] {
        if let Some(name) = part.strip_prefix(prefix)
            && is_name(name)
        {
            return some(name, Engine::Lxc);
        }
    }
    if (parent == "lxc" || parent == "lxc.payload") && is_name(part) && !part.starts_with("lxc.") {
        return some(part, Engine::Lxc);
    }
    // CRI-O with cgroupfs, podman with cgroupfs.
    if let Some(id) = part.strip_prefix("crio-")
        && is_hex_id(id)
    {
        return some(id, Engine::Crio);
    }
    if let Some(id) = part.strip_prefix("libpod-")
        && is_hex_id(id)
    {
        return some(id, Engine::Podman);
    }
    // BuildKit's own containers below dockerd: /docker/buildkit/<25 letters and digits>.
    if parent == "buildkit" && part.len() >= 20 && part.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return some(part, Engine::Docker);
    }
    // cgroupfs driver: /docker/<id>, /kubepods/…/pod<uid>/<id>, /<containerd namespace>/<id>.
    if is_hex_id(part) {
        let engine = match parent {
            "docker" => Engine::Docker,
            "libpod_parent" => Engine::Podman,
            p if p.starts_with("pod") || p.contains("kubepods") => Engine::Kubernetes,
            "default" | "k8s.io" | "moby" => Engine::Containerd,
            _ => Engine::Unknown,
        };
        return some(part, engine);
    }
    // systemd driver without a scope: `system.slice:docker:<id>` (runc's own words on some versions).
    if let Some((_, id)) = part.rsplit_once(':')
        && is_hex_id(id)
    {
        let engine = if part.contains("cri-containerd") {
            Engine::Kubernetes
        } else if part.contains("docker") {
            Engine::Docker
        } else {
            Engine::Unknown
        };
        return some(id, engine);
    }
    None
}

/// `machine-NAME.scope` of systemd-machined; a container only when the name says which kind (`lxc`, `qemu` are not ours).
fn machine(name: &str) -> Option<Id> {
    let name = name.replace("\\x2d", "-");
    if name.starts_with("qemu-") {
        return None;
    }
    is_name(&name).then_some(Id {
        id: name,
        engine: Engine::Nspawn,
    })
}

/// 64 hexadecimal digits in lower case, as Docker, podman, CRI-O and Kubernetes make them.
pub fn is_hex_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A name that an engine lets people choose.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Where cgroup hierarchies are mounted on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Mount point of cgroup2 (`/sys/fs/cgroup` or `/sys/fs/cgroup/unified`).
    pub unified: Option<PathBuf>,
    /// Mount point of the v1 hierarchy that holds the freezer.
    pub freezer: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads them from the host's mount table.
    pub fn from_mounts(mounts: &[crate::mountinfo::Mount]) -> Self {
        let mut out = Self::default();
        for mount in mounts.iter().filter(|m| m.root == "/") {
            if mount.fstype == "cgroup2" && out.unified.is_none() {
                out.unified = Some(PathBuf::from(&mount.mount_point));
            }
            if mount.fstype == "cgroup"
                && mount.super_options.split(',').any(|o| o == "freezer")
                && out.freezer.is_none()
            {
                out.freezer = Some(PathBuf::from(&mount.mount_point));
            }
        }
        out
    }

    /// Directory in the unified hierarchy.
    pub fn unified_dir(&self, path: &str) -> Option<PathBuf> {
        below(self.unified.as_deref()?, path)
    }

    /// Directory in the freezer's hierarchy.
    pub fn freezer_dir(&self, path: &str) -> Option<PathBuf> {
        below(self.freezer.as_deref()?, path)
    }
}

/// `path` below `mount`. `None` for the root cgroup itself (nobody may freeze that) and for a path that leaves it.
fn below(mount: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.strip_prefix('/')?);
    let plain = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    (plain && !relative.as_os_str().is_empty()).then(|| mount.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "b5e6a1837b51f7172a77a100907607827068fb9065ee94c38aabf1dc9eca8a06";
    const POD: &str = "4f1c2e8a9b7d6c5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e";

    fn id(text: &str) -> Option<(String, Engine)> {
        parse(text).container.map(|c| (c.id, c.engine))
    }

    #[test]
    fn docker_with_cgroupfs_on_a_hybrid_host() {
        let text =
            format!("9:name=systemd:/docker/{ID}\n6:freezer:/docker/{ID}\n0::/docker/{ID}\n");
        let got = parse(&text);
        assert_eq!(
            got.container,
            Some(Id {
                id: ID.into(),
                engine: Engine::Docker
            })
        );
        assert_eq!(got.unified, Some(format!("/docker/{ID}")));
        assert_eq!(got.freezer, Some(format!("/docker/{ID}")));
    }

    #[test]
    fn every_engine_and_driver() {
        for (text, engine) in [
            (
                format!("0::/system.slice/docker-{ID}.scope"),
                Engine::Docker,
            ),
            (
                format!(
                    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope"
                ),
                Engine::Docker,
            ),
            (format!("4:memory:/docker/{ID}"), Engine::Docker),
            (
                format!("0::/machine.slice/libpod-{ID}.scope/container"),
                Engine::Podman,
            ),
            (
                format!(
                    "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
                ),
                Engine::Podman,
            ),
            (format!("0::/libpod_parent/libpod-{ID}"), Engine::Podman),
            (
                format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
                Engine::Kubernetes,
            ),
            (
                format!("0::/kubepods/burstable/pod01234567-89ab-cdef-0123-456789abcdef/{ID}"),
                Engine::Kubernetes,
            ),
            (
                format!("0::/kubepods.slice/kubepods-besteffort.slice/crio-{ID}.scope"),
                Engine::Crio,
            ),
            (format!("0::/default/{ID}"), Engine::Containerd),
            (
                format!(
                    "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"
                ),
                Engine::Kubernetes,
            ),
        ] {
            assert_eq!(id(&text), Some((ID.into(), engine)), "{text}");
        }
        assert_eq!(
            id("0::/lxc.payload.web/init.scope"),
            Some(("web".into(), Engine::Lxc))
        );
        assert_eq!(id("4:memory:/lxc/web"), Some(("web".into(), Engine::Lxc)));
        assert_eq!(
            id("0::/machine.slice/systemd-nspawn@deb.service/payload"),
            Some(("deb".into(), Engine::Nspawn))
        );
        assert_eq!(
            id("0::/docker/buildkit/x1kqv7rm0c3gq9qkqk2m0c3gq"),
            Some(("x1kqv7rm0c3gq9qkqk2m0c3gq".into(), Engine::Docker))
        );
    }

    /// Paths as they are found on hosts, each engine with each driver and cgroup version.
    #[test]
    fn paths_of_real_hosts() {
        let pod = "pod2d3d0a49_0c2b_4c5c_9f5a_0e3f1c8f1b7e";
        let dashed = pod.replace('_', "-");
        let user = "/user.slice/user-1000.slice/user@1000.service";
        for (text, engine) in [
            // Docker: v1 cgroupfs, v1 systemd, v2 systemd, hybrid, rootless, a custom parent.
            (
                format!("12:pids:/docker/{ID}\n1:name=systemd:/docker/{ID}"),
                Engine::Docker,
            ),
            (
                format!("11:freezer:/system.slice/docker-{ID}.scope"),
                Engine::Docker,
            ),
            (
                format!("0::/system.slice/docker-{ID}.scope/init.scope"),
                Engine::Docker,
            ),
            (format!("3:freezer:/docker/{ID}\n0::/"), Engine::Docker),
            (
                format!("0::{user}/user.slice/docker-{ID}.scope"),
                Engine::Docker,
            ),
            (
                format!("0::/agents.slice/docker-{ID}.scope"),
                Engine::Docker,
            ),
            // Podman: rootful and rootless, in a pod, cgroupfs, with crun's own sub-cgroup.
            (
                format!("0::/machine.slice/libpod-{ID}.scope"),
                Engine::Podman,
            ),
            (
                format!(
                    "0::/machine.slice/machine-libpod_pod_{POD}.slice/libpod-{ID}.scope/container"
                ),
                Engine::Podman,
            ),
            (
                format!("0::{user}/user.slice/libpod-{ID}.scope/container"),
                Engine::Podman,
            ),
            (
                format!("0::{user}/user.slice/user-libpod_pod_{POD}.slice/libpod-{ID}.scope"),
                Engine::Podman,
            ),
            (
                format!("7:freezer:/libpod_parent/libpod-{ID}"),
                Engine::Podman,
            ),
            // containerd by itself: ctr and nerdctl, rootless too.
            (format!("0::/default/{ID}"), Engine::Containerd),
            (
                format!("0::/system.slice/nerdctl-{ID}.scope"),
                Engine::Containerd,
            ),
            (
                format!("0::{user}/user.slice/nerdctl-{ID}.scope"),
                Engine::Containerd,
            ),
            // Kubernetes: containerd with systemd and cgroupfs, CRI-O with both, dockershim.
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{pod}.slice/cri-containerd-{ID}.scope"
                ),
                Engine::Kubernetes,
            ),
            (
                format!("4:memory:/kubepods/besteffort/{dashed}/{ID}"),
                Engine::Kubernetes,
            ),
            (
                format!("0::/kubepods.slice/kubepods-{pod}.slice/crio-{ID}.scope/container"),
                Engine::Crio,
            ),
            (
                format!("4:memory:/kubepods/burstable/{dashed}/crio-{ID}"),
                Engine::Crio,
            ),
            (
                format!(
                    "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{pod}.slice/cri-containerd-{ID}.scope"
                ),
                Engine::Kubernetes,
            ),
            (
                format!("4:memory:/kubepods.slice/kubepods-{pod}.slice/docker-{ID}.scope"),
                Engine::Kubernetes,
            ),
            (
                format!(
                    "9:freezer:/system.slice/containerd.service/kubepods-burstable-{pod}.slice:cri-containerd:{ID}"
                ),
                Engine::Kubernetes,
            ),
        ] {
            assert_eq!(id(&text), Some((ID.into(), engine)), "{text}");
        }
        for (text, name, engine) in [
            ("0::/lxc.payload.web", "web", Engine::Lxc),
            (
                "0::/lxc.payload.web/system.slice/cron.service",
                "web",
                Engine::Lxc,
            ),
            ("4:devices:/lxc/web-1", "web-1", Engine::Lxc),
            (
                "0::/user.slice/user-1000.slice/session-2.scope/lxc.payload.web",
                "web",
                Engine::Lxc,
            ),
            (
                "0::/machine.slice/systemd-nspawn@deb.service/payload/init.scope",
                "deb",
                Engine::Nspawn,
            ),
            (
                "0::/machine.slice/machine-deb\\x2dsid.scope/payload",
                "deb-sid",
                Engine::Nspawn,
            ),
            ("0::/default/web", "web", Engine::Containerd),
            ("4:freezer:/default/web/inner", "web", Engine::Containerd),
        ] {
            assert_eq!(id(text), Some((name.into(), engine)), "{text}");
        }
    }

    #[test]
    fn monitors_of_engines_and_virtual_machines_are_the_hosts() {
        for text in [
            format!("0::/machine.slice/libpod-conmon-{ID}.scope"),
            format!("0::/system.slice/crio-conmon-{ID}.scope"),
            format!("0::/kubepods.slice/crio-conmon-{ID}.scope"),
            "0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope".to_owned(),
            "0::/lxc.monitor.web".to_owned(),
            "0::/user.slice/user-1000.slice/user@1000.service/default/web".to_owned(),
            "0::/default".to_owned(),
        ] {
            assert_eq!(id(&text), None, "{text}");
        }
    }

    #[test]
    fn a_container_in_a_container_is_the_outer_one() {
        for text in [
            format!("0::/docker/{POD}/kubelet/kubepods/burstable/pod1/{ID}"),
            format!("0::/system.slice/docker-{POD}.scope/system.slice/docker-{ID}.scope"),
            format!("0::/system.slice/docker-{POD}.scope/libpod_parent/libpod-{ID}"),
        ] {
            assert_eq!(id(&text).unwrap().0, POD, "{text}");
        }
        assert_eq!(
            id(&format!("0::/lxc.payload.web/docker/{ID}")).unwrap().0,
            "web"
        );
    }

    #[test]
    fn the_host_is_no_container() {
        for text in [
            "0::/",
            "0::/init.scope",
            "0::/system.slice/docker.service",
            "0::/user.slice/user-1000.slice/session-2.scope",
            "0::/system.slice/docker-short.scope",
            "",
            "x",
            "0::relative",
            "4:memory:/a_service/5369aced0cc245608dbdb84c3b2f0330",
            "0::/lxc.monitor.web",
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }

    #[test]
    fn what_lies_below_a_container_belongs_to_it_whatever_it_is_called() {
        let got = parse(&format!("0::/docker/{POD}/docker/{ID}/init\n"));
        assert_eq!(got.container.unwrap().id, POD);
        assert_eq!(got.unified.unwrap(), format!("/docker/{POD}"));
        assert_eq!(
            parse(&format!("0::/docker/{ID}/evil/deeper\n"))
                .unified
                .unwrap(),
            format!("/docker/{ID}")
        );
    }

    #[test]
    fn directories_never_leave_the_hierarchy() {
        let h = Hierarchies {
            unified: Some("/sys/fs/cgroup".into()),
            freezer: None,
        };
        assert_eq!(
            h.unified_dir("/docker/x"),
            Some("/sys/fs/cgroup/docker/x".into())
        );
        assert_eq!(h.unified_dir("/"), None);
        assert_eq!(h.unified_dir("/../x"), None);
        assert_eq!(h.freezer_dir("/docker/x"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*", lines in proptest::collection::vec("[0-9]{0,2}:[a-z,=]{0,8}:/[a-z0-9:@.\\-/]{0,40}", 0..6)) {
            parse(&text);
            parse(&lines.join("\n"));
        }
    }
}
