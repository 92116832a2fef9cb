//! 188 made-up rules, as many as SigmaHQ has for Linux, in its four taxonomies and in the shapes that its rules have.
//!
//! Their words are of the kind that SigmaHQ's rules look for: programs, options, paths, registers, ports. They are no
//! detections; they stand for rules of other people, so that evaluation costs what it will cost with these.

use std::fmt::Write as _;

/// Rules by taxonomy: `process_creation`, `auditd`, `file_event`, `network_connection`.
pub const COUNTS: [usize; 4] = [118, 53, 11, 6];

const TOOLS: [&str; 48] = [
    "curl",
    "wget",
    "nc",
    "ncat",
    "socat",
    "python",
    "python3",
    "perl",
    "ruby",
    "php",
    "bash",
    "sh",
    "awk",
    "sed",
    "find",
    "xargs",
    "chmod",
    "chown",
    "chattr",
    "crontab",
    "systemctl",
    "service",
    "useradd",
    "usermod",
    "userdel",
    "groupadd",
    "passwd",
    "sudo",
    "ssh",
    "scp",
    "rsync",
    "tar",
    "zip",
    "gcc",
    "make",
    "insmod",
    "modprobe",
    "rmmod",
    "mount",
    "umount",
    "iptables",
    "nft",
    "ufw",
    "setenforce",
    "getcap",
    "setcap",
    "capsh",
    "nsenter",
];
const OPTIONS: [&str; 24] = [
    " -e ",
    " -c ",
    " --upload-file",
    " -X POST",
    " -s /bin/",
    "--checkpoint-action",
    " -perm -4000",
    " -name *.pem",
    " +i ",
    " -i ",
    " 777 ",
    " u+s",
    " --no-check-certificate",
    " -sudoers",
    " stop ",
    " disable ",
    " -F INPUT",
    " -exec ",
    " --preload",
    " -aG ",
    " -O /tmp",
    " | base64",
    " -ldap",
    " --interpreter",
];
const PATHS: [&str; 32] = [
    "/etc/passwd",
    "/etc/shadow",
    "/etc/sudoers",
    "/etc/ssh/sshd_config",
    "/etc/ld.so.preload",
    "/etc/cron.d/",
    "/etc/crontab",
    "/etc/rc.local",
    "/etc/systemd/system/",
    "/etc/pam.d/",
    "/etc/profile.d/",
    "/root/.ssh/",
    "/.ssh/authorized_keys",
    "/.bashrc",
    "/.bash_history",
    "/var/log/auth.log",
    "/var/log/syslog",
    "/var/log/wtmp",
    "/var/spool/cron/",
    "/usr/lib/systemd/",
    "/tmp/.X11-unix",
    "/dev/shm/.",
    "/dev/tcp/",
    "/proc/kcore",
    "/sys/kernel/",
    "/var/tmp/.",
    "/boot/vmlinuz",
    "/etc/hosts",
    "/etc/iptables/",
    "/etc/audit/",
    "/etc/selinux/config",
    "/opt/.hidden",
];
const PARENTS: [&str; 12] = [
    "/nginx",
    "/httpd",
    "/apache2",
    "/java",
    "/mysqld",
    "/postgres",
    "/node",
    "/redis-server",
    "/cron",
    "/sshd",
    "/vim",
    "/containerd-shim",
];
const CALLS: [&str; 16] = [
    "ptrace",
    "personality",
    "init_module",
    "finit_module",
    "delete_module",
    "memfd_create",
    "setns",
    "unshare",
    "bpf",
    "clock_settime",
    "settimeofday",
    "open_by_handle_at",
    "splice",
    "keyctl",
    "process_vm_writev",
    "userfaultfd",
];

/// File names and texts of the rules.
pub fn rules() -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (kind, count) in COUNTS.into_iter().enumerate() {
        for i in 0..count {
            let (source, detection) = match kind {
                0 => ("category: process_creation", process(i)),
                1 => ("service: auditd", auditd(i)),
                2 => ("category: file_event", file(i)),
                _ => ("category: network_connection", network(i)),
            };
            let number = out.len();
            let mut text = String::new();
            let _ = write!(
                text,
                "title: Made-up rule {number}\nid: 5a5a5a5a-0000-4000-8000-{number:012x}\nstatus: test\n\
                 description: Stands for a rule of somebody else in measurements and tests.\n\
                 logsource:\n    product: linux\n    {source}\ndetection:\n{detection}level: low\n"
            );
            out.push((format!("rule-{number:03}.yml"), text));
        }
    }
    out
}

fn pick<'a>(list: &[&'a str], number: usize) -> &'a str {
    list[number % list.len()]
}

/// Bytes as YAML's single-quoted text.
fn q(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn list(indent: usize, items: impl IntoIterator<Item = String>) -> String {
    items
        .into_iter()
        .map(|item| format!("\n{:indent$}- {}", "", q(&item)))
        .collect()
}

fn process(i: usize) -> String {
    let tool = |n: usize| format!("/{}", pick(&TOOLS, i * 5 + n));
    let tools = |n: usize| list(12, (0..n).map(tool));
    let (option, path) = (pick(&OPTIONS, i * 7), pick(&PATHS, i * 3));
    match i % 9 {
        0 => format!(
            "    selection:\n        Image|endswith: {}\n        CommandLine|contains: {}\n    condition: selection\n",
            q(&tool(0)),
            q(option)
        ),
        1 => format!(
            "    selection:\n        Image|endswith:{}\n        CommandLine|contains|all:\n            - {}\n            - {}\n    condition: selection\n",
            tools(6),
            q(option),
            q(path)
        ),
        2 => format!(
            "    selection:\n        CommandLine|contains:{}\n    condition: selection\n",
            list(
                12,
                (0..5).map(|n| format!("{} {}", pick(&TOOLS, i + n), pick(&PATHS, i * n)))
            )
        ),
        3 => format!(
            "    selection:\n        CommandLine|re: {}\n    condition: selection\n",
            q(&format!(
                r"(?i){}\s+-[a-z]*{}.*(?:{}|{})",
                pick(&TOOLS, i),
                char::from(b'a' + (i % 26) as u8),
                pick(&PATHS, i),
                pick(&PATHS, i + 5).replace('.', r"\.")
            ))
        ),
        4 => format!(
            "    selection:\n        ParentImage|endswith:{}\n        Image|endswith:{}\n    filter_main_health:\n        CommandLine|contains: {}\n    condition: selection and not 1 of filter_main_*\n",
            list(12, (0..4).map(|n| pick(&PARENTS, i + n).to_owned())),
            tools(5),
            q(option)
        ),
        5 => format!(
            "    selection_img:\n        Image|endswith: {}\n    selection_cli:\n        CommandLine|contains:{}\n    condition: all of selection_*\n",
            q(&tool(1)),
            list(12, (0..4).map(|n| pick(&OPTIONS, i + n).to_owned()))
        ),
        6 => format!(
            "    selection_one:\n        Image|endswith: {}\n        CommandLine|contains: {}\n    selection_two:\n        - CommandLine|startswith: {}\n        - Image|startswith: '/var/tmp/.{i}'\n    condition: 1 of selection_*\n",
            q(&tool(2)),
            q(path),
            q(&format!("{} {path}", pick(&TOOLS, i)))
        ),
        7 => format!(
            "    selection:\n        Image|endswith: '/tool-{i}'\n    condition: selection\n"
        ),
        _ => format!(
            "    selection:\n        Image|endswith:{}\n        CommandLine: '*{} *{}*'\n        User: root\n    condition: selection\n",
            tools(3),
            pick(&TOOLS, i),
            path
        ),
    }
}

fn auditd(i: usize) -> String {
    let (tool, option, path) = (
        pick(&TOOLS, i * 5),
        pick(&OPTIONS, i * 7).trim(),
        pick(&PATHS, i * 3),
    );
    match i % 7 {
        0 => format!(
            "    selection:\n        type: EXECVE\n        a0: {}\n        a1|startswith: {}\n    condition: selection\n",
            q(tool),
            q(option)
        ),
        1 => format!(
            "    selection:\n        type: PATH\n        name|startswith:{}\n    condition: selection\n",
            list(12, (0..3).map(|n| pick(&PATHS, i + n).to_owned()))
        ),
        2 => format!(
            "    selection:\n        type: SYSCALL\n        syscall:{}\n        exe|endswith: {}\n    condition: selection\n",
            list(12, (0..3).map(|n| pick(&CALLS, i + n).to_owned())),
            q(&format!("/{tool}"))
        ),
        3 => format!(
            "    execve:\n        type: EXECVE\n    words:\n        - a1|contains: {}\n        - a2|contains: {}\n        - a3|contains: {}\n    condition: execve and words\n",
            q(path),
            q(path),
            q(option)
        ),
        4 => format!(
            "    selection:\n        type: SYSCALL\n        comm:{}\n        key: key-{i}\n        success: 'yes'\n    condition: selection\n",
            list(12, (0..3).map(|n| pick(&TOOLS, i + n).to_owned()))
        ),
        5 => format!(
            "    selection:\n        type: {}\n        {}|contains: {}\n    condition: selection\n",
            pick(&["PROCTITLE", "CWD", "SERVICE_STOP", "USER_AUTH"], i),
            pick(&["proctitle", "cwd", "unit", "acct"], i),
            q(path)
        ),
        _ => format!(
            "    cmd1:\n        type: EXECVE\n        a0|endswith: {}\n        a1: {}\n    cmd2:\n        type: EXECVE\n        a0: {}\n        a2|contains: {}\n    condition: 1 of cmd*\n",
            q(tool),
            q(option),
            q(pick(&TOOLS, i + 9)),
            q(path)
        ),
    }
}

fn file(i: usize) -> String {
    let path = pick(&PATHS, i * 3);
    match i % 3 {
        0 => format!(
            "    selection:\n        TargetFilename|startswith:{}\n    filter_main_packages:\n        Image|endswith: /dpkg\n    condition: selection and not 1 of filter_main_*\n",
            list(12, (0..4).map(|n| pick(&PATHS, i + n).to_owned()))
        ),
        1 => format!(
            "    selection:\n        TargetFilename|endswith: {}\n        Image|endswith: {}\n    condition: selection\n",
            q(path),
            q(&format!("/{}", pick(&TOOLS, i)))
        ),
        _ => format!(
            "    selection:\n        TargetFilename|contains: {}\n    condition: selection\n",
            q(path)
        ),
    }
}

fn network(i: usize) -> String {
    match i % 3 {
        0 => format!(
            "    selection:\n        Image|endswith: {}\n        Initiated: 'true'\n    filter_main_local:\n        DestinationIp|cidr:{}\n    condition: selection and not 1 of filter_main_*\n",
            q(&format!("/{}", pick(&TOOLS, i))),
            list(
                12,
                ["127.0.0.0/8", "10.0.0.0/8", "::1/128"].map(str::to_owned)
            )
        ),
        1 => format!(
            "    selection:\n        DestinationPort:\n            - {}\n            - {}\n    condition: selection\n",
            4444 + i,
            1337 + i
        ),
        _ => format!(
            "    selection:\n        DestinationHostname|contains: {}\n    condition: selection\n",
            q(pick(&["pool.example", "tunnel.example"], i))
        ),
    }
}
