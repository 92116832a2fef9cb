//! Rules on calls: mount, ptrace, proc, files of the host.

use enricher::activity::Phase;

use crate::Case;
use crate::common::*;

pub fn open_write(path: &str) -> Act {
    call("openat")
        .args([0xffff_ff9c, 0, 0o1, 0])
        .path(path, "NORMAL")
        .key("sm-proc")
}

pub fn open_read(path: &str) -> Act {
    call("openat")
        .args([0xffff_ff9c, 0, 0o2_000_000, 0])
        .path(path, "NORMAL")
}

pub fn ptrace(request: u64) -> Act {
    call("ptrace").args([request, 99, 0, 0]).key("sm-ptrace")
}

const RUBBISH: u64 = 0xdead_beef << 32;

fn call_i386(name: &str) -> Act {
    call(name).with(|a| a.syscall.as_mut().unwrap().arch = "i386".into())
}

fn socket(family: u64, protocol: u64) -> Act {
    call("socket")
        .args([family, 3, protocol, 0])
        .key("sm-socket")
}

/// The old call of i386 for all of the socket interface.
fn socketcall(number: u64) -> Act {
    call_i386("socketcall").args([RUBBISH | number, 0xffc0_0000, 0, 0])
}

/// Mode of every file of it.
fn kind(act: Act, mode: u32) -> Act {
    act.with(|a| a.paths.iter_mut().for_each(|p| p.mode = Some(mode)))
}

fn exec_with_capabilities(exe: &str, permitted: &str) -> Act {
    exec(exe, exe).with(|a| {
        let record = format!(
            "item=0 name=\"{exe}\" inode=7 dev=00:2b mode=0100755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp={permitted} \
             cap_fi=0 cap_fe=1 cap_fver=2 cap_frootid=0"
        );
        a.event.push(collector::RecordType::PATH, record.as_bytes());
    })
}

pub fn kernel_cases() -> Vec<Case> {
    let handler = "/usr/lib/chromium/chrome_crashpad_handler";
    vec![
        (
            "common/mount-call",
            vec![
                call("mount"),
                call("mount").refused("EPERM").phase(Phase::Exec),
                call("umount2"),
                call("umount").with(|a| a.syscall.as_mut().unwrap().arch = "i386".into()),
                call("pivot_root").profile(None),
            ],
            vec![
                call("mount").phase(Phase::Setup),
                call("mount").host(),
                call("statfs"),
            ],
        ),
        (
            "common/mount-new-api",
            [
                "open_tree",
                "open_tree_attr",
                "move_mount",
                "fsopen",
                "fsconfig",
                "fsmount",
                "fspick",
                "mount_setattr",
            ]
            .map(call)
            .into(),
            vec![
                call("fsopen").phase(Phase::Setup),
                call("move_mount").host(),
                call("statmount"),
            ],
        ),
        (
            "common/ptrace-attach",
            vec![
                ptrace(16).refused("EPERM"),
                ptrace(0x4206).target("node", Some(CONTAINER)),
                ptrace(16)
                    .exe("/tmp/chrome_crashpad_handler")
                    .target("chrome", Some(CONTAINER)),
                ptrace(16)
                    .exe("/home/node/chrome_crashpad_handler")
                    .target("chrome", Some(CONTAINER)),
                ptrace(16)
                    .exe(handler)
                    .target("node", Some("another container")),
                ptrace(16).exe(handler),
                call_i386("ptrace").args([RUBBISH | 16, 99, 0, 0]),
            ],
            vec![
                ptrace(0),
                ptrace(16).exe(handler).target("chrome", Some(CONTAINER)),
                ptrace(16).host(),
                call("kill").args([16, 0, 0, 0]),
            ],
        ),
        (
            "common/ptrace-crash-handler",
            vec![ptrace(16).exe(handler).target("chrome", Some(CONTAINER))],
            vec![
                ptrace(16).exe(handler),
                ptrace(4).exe(handler).target("chrome", Some(CONTAINER)),
            ],
        ),
        (
            "common/ptrace-write",
            [4, 5, 6, 13, 15, 0x4205].map(ptrace).into(),
            vec![ptrace(1), ptrace(12), ptrace(17), ptrace(0)],
        ),
        (
            "common/ptrace-traceme",
            vec![ptrace(0)],
            vec![ptrace(16), call("getppid")],
        ),
        (
            "common/process-vm-write",
            vec![
                call("process_vm_writev"),
                call("process_vm_writev").refused("EPERM"),
            ],
            vec![call("process_vm_readv"), call("writev")],
        ),
        (
            "common/process-vm-read",
            vec![call("process_vm_readv")],
            vec![call("process_vm_readv").exe(handler), call("readv")],
        ),
        (
            "common/pidfd-getfd",
            vec![call("pidfd_getfd").refused("EPERM")],
            vec![call("pidfd_open")],
        ),
        (
            "common/proc-mem-write",
            vec![
                open_write("/proc/17/mem"),
                open_write("/proc/17/task/18/mem").refused("EACCES"),
                call("openat2").path("/proc/1/mem", "NORMAL").with(|a| {
                    a.event.push(
                        collector::RecordType::OPENAT2,
                        b"oflag=0100002 mode=0 resolve=0x0",
                    );
                }),
                // Opened relative to a handle on /proc/17, which the record does not resolve.
                open_write("/app/mem").with(|a| a.paths[0].name = "mem".into()),
            ],
            vec![
                open_read("/proc/17/mem"),
                open_write("/proc/self/mem"),
                open_write("/proc/17/oom_score_adj"),
                open_write("/proc/sys/net/ipv4/tcp_mem"),
                open_write("/app/mem").key("sm-hostfs"),
            ],
        ),
        (
            "common/proc-self-mem-write",
            vec![
                open_write("/proc/self/mem"),
                open_write("/proc/self/task/7/mem"),
                open_write("/proc/thread-self/mem"),
            ],
            vec![
                open_read("/proc/self/mem"),
                open_write("/proc/17/mem"),
                open_write("/proc/self/comm"),
            ],
        ),
        (
            "common/proc-host-control",
            vec![
                open_write("/proc/sys/kernel/core_pattern").refused("EROFS"),
                open_write("/proc/sysrq-trigger"),
                open_write("/proc/sys/fs/binfmt_misc/register"),
                open_write("/proc/sys/kernel/modprobe"),
                open_write("/proc/self/root/proc/sys/kernel/core_pattern"),
            ],
            vec![
                open_read("/proc/sys/kernel/core_pattern"),
                open_write("/proc/sys/net/core/somaxconn"),
                open_write("/proc/self/oom_score_adj"),
            ],
        ),
        (
            "common/loginuid-write",
            vec![
                open_write("/proc/self/loginuid"),
                open_write("/proc/12/loginuid"),
            ],
            vec![
                open_read("/proc/self/loginuid"),
                open_write("/proc/self/setgroups"),
            ],
        ),
        (
            "common/host-fs-access",
            vec![
                open_read("/x")
                    .key("sm-hostfs")
                    .host_path("/mnt/data/a", "/srv/data/a", true),
                call("execve").host_path("/mnt/tool", "/srv/tool", true),
            ],
            vec![
                open_read("/home/node/.openclaw/openclaw.json").host_path(
                    "/home/node/.openclaw/x",
                    "/home/u/.openclaw/x",
                    false,
                ),
                open_read("/etc/hosts").host_path(
                    "/etc/hosts",
                    "/var/lib/docker/containers/1/hosts",
                    false,
                ),
                open_read("/etc/passwd"),
                // Said by the more telling rule alone.
                open_write("/mnt/etc/cron.d/x").host_path(
                    "/mnt/etc/cron.d/x",
                    "/etc/cron.d/x",
                    true,
                ),
            ],
        ),
        (
            "common/host-trusted-write",
            vec![
                open_write("/h").key("sm-trusted").host_path(
                    "/mnt/etc/cron.d/x",
                    "/etc/cron.d/x",
                    true,
                ),
                open_write("/h")
                    .host_path("/mnt/etc/ld.so.preload", "/etc/ld.so.preload", false)
                    .refused("EACCES"),
                call("renameat2").host_path("/m/a", "/etc/systemd/system/a.service", true),
                call("unlink").host_path("/m/shadow", "/etc/shadow", true),
                open_write("/h").host_path("/m/k", "/home/ann/.ssh/authorized_keys", true),
                open_write("/h").host_path("/m/k", "/root/.ssh/authorized_keys", true),
                open_write("/h").host_path("/m/b", "/home/ann/.bashrc", true),
                open_write("/h").host_path("/m/s", "/usr/bin/sudo", true),
                // The kernel's watch knows the inode; the mount is not known (yet).
                open_write("/m/crontab").key("sm-trusted"),
            ],
            vec![
                open_read("/h").host_path("/mnt/etc/cron.d/x", "/etc/cron.d/x", true),
                open_write("/h").host_path("/home/node/.openclaw/a", "/root/.openclaw/a", false),
                open_write("/h").host_path("/data/.bashrc", "/home/ann/.bashrc", false),
                open_write("/etc/passwd"),
                open_write("/h").host_path(
                    "/etc/hosts",
                    "/var/lib/docker/containers/1/hosts",
                    false,
                ),
                open_write("/h").host_path(
                    "/data/etc/cron.d/x",
                    "/var/lib/docker/volumes/v/_data/etc/cron.d/x",
                    false,
                ),
            ],
        ),
        (
            "common/socket-packet",
            vec![
                socket(17, 3),
                socket(17, 0).refused("EPERM"),
                // Rubbish above the int that the kernel takes.
                socket(RUBBISH | 17, 3),
                socketcall(1).with(|a| {
                    a.event.push(
                        collector::RecordType::SOCKETCALL,
                        b"nargs=3 a0=11 a1=3 a2=300",
                    );
                }),
            ],
            vec![
                socket(2, 0),
                socket(29, 1),
                socket(17, 3).phase(Phase::Setup),
                socketcall(1),
            ],
        ),
        (
            "common/socket-alg",
            vec![
                socket(38, 0),
                call_i386("socket").args([RUBBISH | 38, 5, 0, 0]),
            ],
            vec![socket(39, 0), socket(16, 21), socketcall(3)],
        ),
        (
            "common/socket-vsock",
            vec![socket(40, 0)],
            vec![socket(43, 0), socket(1, 0)],
        ),
        (
            "common/socket-audit",
            vec![socket(16, 9), socket(RUBBISH | 16, RUBBISH | 9)],
            vec![
                socket(16, 0),
                socket(16, 15),
                socket(16, 9).exe("/usr/sbin/useradd"),
                socket(16, 9).host(),
            ],
        ),
        (
            "common/device-node",
            vec![
                call("mknod")
                    .args([0, 0o060_600, 0x800, 0])
                    .refused("EPERM"),
                call("mknodat").args([0xffff_ff9c, 0, RUBBISH | 0o020_600, 0x101]),
            ],
            vec![
                // Overlay's whiteout, /dev/null of a chroot, a fifo.
                call("mknod").args([0, 0o020_000, 0, 0]),
                call("mknod").args([0, 0o020_666, 0x103, 0]),
                call("mknodat").args([0xffff_ff9c, 0, 0o010_600, 0]),
            ],
        ),
        (
            "common/file-capability-program",
            vec![
                exec_with_capabilities("/usr/local/bin/python3", "0000000000000080"),
                exec_with_capabilities("/usr/bin/tar", "0000000000000004"),
                exec_with_capabilities("/home/node/x", "000001ffffffffff"),
            ],
            vec![
                exec_with_capabilities("/usr/bin/ping", "0000000000002000"),
                exec_with_capabilities("/usr/bin/dumpcap", "0000000000003000"),
                exec_with_capabilities("/usr/bin/newuidmap", "0000000000000080"),
                exec_with_capabilities("/usr/bin/node", "0"),
            ],
        ),
        (
            "common/lsm-attribute-write",
            vec![
                open_write("/proc/self/attr/current"),
                open_write("/proc/thread-self/attr/apparmor/exec").refused("EINVAL"),
                open_write("/proc/self/root/proc/12/task/12/attr/exec"),
            ],
            vec![
                open_read("/proc/self/attr/current"),
                open_write("/proc/self/attr/current").phase(Phase::Setup),
                open_write("/proc/self/comm"),
            ],
        ),
        (
            "common/procfs-other-name",
            vec![
                kind(open_write("/tmp/link"), 0o100_644),
                kind(open_write("/dev/shm/x"), 0o100_600).refused("EROFS"),
            ],
            vec![
                kind(open_write("/proc/self/uid_map"), 0o100_644),
                kind(open_write("/srv/root/proc/self/comm"), 0o100_644),
                kind(open_read("/tmp/link").key("sm-proc"), 0o100_644),
                kind(open_write("/tmp/file").key("sm-hostfs"), 0o100_644),
                kind(
                    open_write("/data/file").host_path("/data/file", "/srv/file", false),
                    0o100_644,
                ),
                // A terminal whose number is procfs's minor one.
                kind(open_write("/dev/pts/57"), 0o020_620),
                // Relative to a handle that the record does not resolve.
                kind(open_write("self/uid_map"), 0o100_644),
            ],
        ),
        (
            "common/listener",
            vec![
                call("bind").socket("inet", "0.0.0.0", Some(4444)),
                call("bind").socket("inet6", "::", Some(4444)),
                socketcall(2).socket("inet", "172.17.0.2", Some(1)),
            ],
            vec![
                call("bind").socket("inet", "127.0.0.1", Some(4444)),
                call("bind").socket("inet6", "::1", Some(4444)),
                call("bind").socket("inet", "0.0.0.0", Some(0)),
                call("bind")
                    .socket("inet", "0.0.0.0", Some(80))
                    .refused("EACCES"),
                call("bind").socket("unix", "/tmp/s", None),
                call("connect").socket("inet", "10.0.0.1", Some(4444)),
            ],
        ),
        (
            "common/runtime-socket",
            vec![
                socketcall(3).host_path("/var/run/docker.sock", "/run/docker.sock", true),
                call("connect").host_path("/var/run/docker.sock", "/run/docker.sock", true),
                open_read("/x").host_path(
                    "/c/containerd.sock",
                    "/run/containerd/containerd.sock",
                    true,
                ),
            ],
            vec![
                call("connect").host_path("/var/run/docker.sock", "/run/docker.sock", false),
                call("connect").socket("unix", "/tmp/docker.sock", None),
                call("statx").host_path("/var/run/docker.sock", "/run/docker.sock", true),
            ],
        ),
    ]
}
