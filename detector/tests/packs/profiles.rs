//! Rules of the profiles.

use enricher::activity::Phase;
use enricher::container::Profile;

use crate::Case;
use crate::common::*;

pub fn profile_cases() -> Vec<Case> {
    let clawbot = |act: Act| act.profile(Some(Profile::Clawbot));
    let moltbot = |act: Act| act.profile(Some(Profile::Moltbot));
    vec![
        (
            "openclaw/guard-loosened",
            vec![
                exec(
                    "/usr/local/bin/node",
                    "node /usr/local/bin/openclaw config set agents.defaults.sandbox.mode off",
                ),
                shell("openclaw config set gateway.auth.mode none"),
            ],
            vec![
                exec(
                    "/usr/local/bin/node",
                    "node /usr/local/bin/openclaw config set agents.defaults.sandbox.mode off",
                )
                .phase(Phase::Exec),
                exec(
                    "/usr/local/bin/node",
                    "node /usr/local/bin/openclaw config get agents.defaults.sandbox.mode",
                ),
                clawbot(shell("openclaw config set gateway.auth.mode none")),
            ],
        ),
        (
            "clawbot/docker-socket",
            vec![
                clawbot(call("connect").host_path(
                    "/var/run/docker.sock",
                    "/run/docker.sock",
                    false,
                )),
                clawbot(call("connect").socket("unix", "/var/run/docker.sock", None)),
                clawbot(exec(
                    "/usr/bin/curl",
                    "curl --unix-socket /var/run/docker.sock http://x/info",
                )),
            ],
            vec![
                call("connect").host_path("/var/run/docker.sock", "/run/docker.sock", false),
                clawbot(exec("/usr/bin/ls", "ls -l /var/run/docker.sock")),
                clawbot(call("connect").socket("unix", "/tmp/x.sock", None)),
            ],
        ),
        (
            "clawbot/open-listener",
            vec![
                clawbot(exec("/usr/bin/python3", "python3 -m http.server 3000")),
                clawbot(exec("/usr/bin/nc", "nc -lvp 3001")),
                clawbot(exec(
                    "/usr/bin/socat",
                    "socat TCP-LISTEN:3000,fork TCP:web:80",
                )),
                clawbot(exec("/usr/bin/php", "php -S 0.0.0.0:3000")),
            ],
            vec![
                clawbot(exec(
                    "/usr/bin/python3",
                    "python3 -m http.server 3000 --bind 127.0.0.1",
                )),
                clawbot(exec("/usr/bin/php", "php -S localhost:3000")),
                clawbot(exec("/usr/bin/nc", "nc -z db 5432")),
                exec("/usr/bin/python3", "python3 -m http.server 3000"),
            ],
        ),
        (
            "moltbot/input-injection",
            vec![
                moltbot(exec("/usr/bin/xdotool", "xdotool type hello")),
                moltbot(exec("/usr/bin/ydotool", "ydotool key 28:1")),
            ],
            vec![
                moltbot(exec("/usr/bin/xdotool", "xdotool getactivewindow")),
                exec("/usr/bin/xdotool", "xdotool type hello"),
            ],
        ),
        (
            "moltbot/input-spying",
            vec![
                moltbot(exec("/usr/bin/evtest", "evtest /dev/input/event0")),
                moltbot(exec("/usr/bin/xinput", "xinput test-xi2 --root")),
                moltbot(exec("/usr/bin/xclip", "xclip -o")),
            ],
            vec![
                moltbot(exec("/usr/bin/xinput", "xinput list")),
                moltbot(exec("/usr/bin/xclip", "xclip -selection clipboard -in")),
            ],
        ),
        (
            "moltbot/screen-capture",
            vec![
                moltbot(exec("/usr/bin/scrot", "scrot /tmp/s.png")),
                moltbot(exec("/usr/bin/ffmpeg", "ffmpeg -f x11grab -i :0 o.mp4")),
            ],
            vec![
                moltbot(exec("/usr/bin/ffmpeg", "ffmpeg -i in.mp4 out.mp3")),
                exec("/usr/bin/scrot", "scrot /tmp/s.png"),
            ],
        ),
        (
            "moltbot/recording",
            vec![
                moltbot(exec("/usr/bin/arecord", "arecord -d 5 o.wav")),
                moltbot(exec("/usr/bin/ffmpeg", "ffmpeg -f alsa -i default o.wav")),
                moltbot(exec(
                    "/usr/bin/gst-launch-1.0",
                    "gst-launch-1.0 pulsesrc ! filesink location=o",
                )),
            ],
            vec![
                moltbot(exec("/usr/bin/ffmpeg", "ffmpeg -i voice.ogg voice.wav")),
                moltbot(exec("/usr/bin/sox", "sox a.wav b.wav")),
            ],
        ),
        (
            "moltbot/desktop-bus",
            vec![
                moltbot(exec(
                    "/usr/bin/dbus-send",
                    "dbus-send --session --dest=org.freedesktop.secrets /x y",
                )),
                moltbot(exec("/usr/bin/dbus-monitor", "dbus-monitor")),
            ],
            vec![
                moltbot(exec("/usr/bin/busctl", "busctl --user list")),
                moltbot(exec(
                    "/usr/bin/dbus-send",
                    "dbus-send --dest=org.freedesktop.Notifications /x y",
                )),
            ],
        ),
    ]
}
