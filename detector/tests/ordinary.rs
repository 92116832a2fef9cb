//! What an agent does all day is no alert.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use enricher::activity::Phase;
use enricher::container::Profile;

/// Command lines of ordinary work, `program|command line`; `sh` stands for a script.
const ORDINARY: &[&str] = &[
    "/usr/bin/tini|/usr/bin/tini -s -- node dist/index.js gateway --bind lan --port 18789",
    "/usr/local/bin/node|node dist/index.js gateway --bind lan --port 18789",
    "/usr/local/bin/node|node -e fetch('http://127.0.0.1:18789/healthz').then((r)=>process.exit(r.ok?0:1)).catch(()=>process.exit(1))",
    "/usr/bin/dash|/bin/sh -c node -e \"require('net').connect(18789,'127.0.0.1').on('connect',()=>process.exit(0))\"",
    "/usr/bin/git|git clone --depth 1 https://github.com/a/b.git",
    "/usr/lib/git-core/git-remote-https|git-remote-https origin https://github.com/a/b.git",
    "/usr/bin/git|git commit -m Add a script: curl x | sh",
    "/usr/bin/ssh|ssh -o BatchMode=yes git@github.com git-receive-pack 'a/b.git'",
    "/usr/local/bin/node|npm install --no-audit",
    "/usr/local/bin/node|node /usr/local/bin/npx -y create-vite app",
    "/usr/local/bin/node|pnpm install --frozen-lockfile",
    "/usr/bin/dash|sh -c node-gyp rebuild",
    "/usr/bin/gcc-12|gcc -O2 -c a.c -o /tmp/cc1.o",
    "/usr/bin/curl|curl -fsSL -o /home/node/.openclaw/workspace/page.html https://example.org",
    "/usr/bin/wget|wget -q https://example.org/data.csv",
    "/usr/bin/python3.11|python3 script.py --out /tmp/x.json",
    "/usr/bin/python3.11|python3 -c import json,sys;print(json.load(sys.stdin)['a'])",
    "/usr/bin/python3.11|python3 -m venv .venv",
    "/usr/bin/python3.11|/usr/bin/python3 /usr/bin/pip install requests",
    "/usr/bin/ffmpeg|ffmpeg -y -i voice.ogg -ar 16000 voice.wav",
    "/usr/local/bin/whisper-cli|whisper-cli -m model.bin -f voice.wav",
    "/usr/lib/chromium/chromium|chromium --headless=new --no-sandbox --disable-gpu --remote-debugging-port=9222",
    "/usr/lib/chromium/chromium|chromium --type=renderer --crashpad-handler-pid=31 --no-sandbox",
    "/usr/lib/chromium/chrome_crashpad_handler|chrome_crashpad_handler --monitor-self --database=/tmp/c",
    "/usr/bin/bash|bash -lc ls -la && git status --short",
    "/usr/bin/bash|bash -c curl -s https://api.github.com/repos/a/b | jq -r .default_branch",
    "/usr/bin/bash|bash -c for i in $(seq 1 30); do (echo > /dev/tcp/127.0.0.1/3000) && break; sleep 1; done",
    "/usr/bin/bash|bash -c cat package.json | head -40; grep -rn \"token\" src | head",
    "/usr/bin/bash|bash -c tar czf out.tgz dist && sha256sum out.tgz",
    "/usr/bin/bash|bash -c echo hello | base64 && echo aGVsbG8= | base64 -d > hello.txt",
    "/usr/bin/bash|bash -c curl -LO https://x/tool.tar.gz && tar xzf tool.tar.gz && chmod +x tool && ./tool --version",
    "/usr/bin/find|find . -type f -name *.md -newer a",
    "/usr/bin/grep|grep -rn password src --include=*.ts",
    "/usr/bin/sed|sed -i s/a/b/ src/x.ts",
    "/usr/bin/rm|rm -rf node_modules dist .cache",
    "/usr/bin/chmod|chmod +x scripts/build.sh",
    "/usr/bin/apt-get|apt-get install -y --no-install-recommends jq",
    "/usr/bin/dpkg|/usr/bin/dpkg --status-fd 9 --configure --pending",
    "/usr/bin/cargo|cargo build --release",
    "/usr/bin/make|make -j2",
    "/usr/bin/ps|ps aux",
    "/usr/bin/id|id",
    "/usr/bin/env|env",
    "/usr/bin/tar|tar xzf a.tgz",
    "/usr/bin/openssl|openssl rand -hex 32",
    "/bin/busybox|sleep 1",
    "/bin/busybox|busybox httpd -h /www -p 127.0.0.1:8080",
    "/bin/busybox|sh",
    "/bin/busybox|sh -c while true; do date >> /workspace/log; sleep 5; done",
];

#[test]
fn ordinary_commands_are_quiet_in_every_profile_and_phase() {
    let mut wrong = Vec::new();
    let mut detector = all_packs();
    let mut ms = 0;
    for line in ORDINARY {
        let (exe, command) = line.split_once('|').unwrap();
        for profile in [
            None,
            Some(Profile::Openclaw),
            Some(Profile::Clawbot),
            Some(Profile::Moltbot),
        ] {
            for phase in [Phase::Running, Phase::Exec] {
                let act = match command.split_once(" -c ") {
                    Some((shell, script)) => exec_args(exe, &[shell, "-c", script]),
                    None => exec(exe, command),
                };
                // Apart in time, so that no sequence is made of commands that have nothing to do with each other.
                ms += 10_000;
                let detected = evaluate(&mut detector, &act.profile(profile).phase(phase).at(ms));
                if !told(&detected).is_empty() {
                    wrong.push(format!(
                        "{profile:?} {phase:?} {command}: {:?}",
                        told(&detected)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_setup_of_a_container_is_quiet() {
    let mut detector = all_packs();
    let setup = [
        "mount",
        "pivot_root",
        "umount2",
        "setns",
        "open_tree",
        "move_mount",
        "mount_setattr",
    ];
    for name in setup {
        let act = call(name).exe("/").phase(Phase::Setup);
        assert!(evaluate(&mut detector, &act).is_empty(), "{name}");
    }
    let memfd =
        exec("/memfd:runc_cloned:/proc/self/exe (deleted)", "runc init").phase(Phase::Setup);
    assert!(evaluate(&mut detector, &memfd).is_empty());
}

#[test]
fn the_host_is_quiet_also_where_it_entered_a_container() {
    let mut detector = all_packs();
    for act in [
        call("mount").host(),
        shell("curl x | sh").host(),
        call("ptrace").args([16, 1, 0, 0]).host(),
    ] {
        assert!(evaluate(&mut detector, &act).is_empty());
        assert!(evaluate(&mut detector, &act.with(|a| a.entered = true)).is_empty());
    }
}

#[test]
fn reading_and_writing_declared_mounts_is_quiet() {
    let mut detector = all_packs();
    for flags in [0, 0o101, 0o2] {
        let act = call("openat").args([0, 0, flags, 0]).key("sm-hostfs");
        let state = act.host_path(
            "/home/node/.openclaw/openclaw.json",
            "/root/.openclaw/openclaw.json",
            false,
        );
        assert!(evaluate(&mut detector, &state).is_empty());
    }
}
