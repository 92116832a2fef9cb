//! A peer that speaks like an engine answers from a Unix socket.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

const ID: &str = "b5e6a1837b51f7172a77a100907607827068fb9065ee94c38aabf1dc9eca8a06";

/// Bodies that the peer serves.
struct Peer {
    /// Empty: there is no such container.
    inspect: String,
    events: Vec<String>,
    /// An inspect gets no answer.
    hang: AtomicBool,
    /// Every answer comes so much later, milliseconds.
    late_ms: AtomicU64,
}

async fn serve(peer: Arc<Peer>, mut stream: UnixStream) {
    let mut head = Vec::new();
    let mut buf = [0; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut buf).await {
            Ok(n) if n > 0 => head.extend_from_slice(&buf[..n]),
            _ => return,
        }
    }
    let line = String::from_utf8_lossy(&head)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    tokio::time::sleep(Duration::from_millis(peer.late_ms.load(Ordering::Relaxed))).await;
    let json = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let answer = if line.contains("/events") {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for event in &peer.events {
            let chunk = format!("{:x}\r\n{event}\n\r\n", event.len() + 1);
            stream.write_all(chunk.as_bytes()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        return;
    } else if line.contains("/version") {
        json(r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#)
    } else if line.contains(&format!("/containers/{ID}/json")) && !peer.inspect.is_empty() {
        if peer.hang.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return;
        }
        json(&peer.inspect)
    } else if line.contains("/containers/json") {
        json(&format!(
            r#"[{{"Id":"{ID}","Names":["/openclaw-gateway"],"Image":"openclaw:local","State":"running","Labels":{{"a":"b"}}}}]"#
        ))
    } else {
        "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_owned()
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn start(path: &Path, peer: Arc<Peer>) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(Arc::clone(&peer), stream));
        }
    })
}

fn inspect(status: &str) -> String {
    format!(
        r#"{{"Id":"{ID}","Name":"/openclaw-gateway","Image":"sha256:1","State":{{"Status":"{status}","Running":true,"Pid":77,"StartedAt":"2026-11-22T13:10:18.414Z"}},
        "Config":{{"Image":"openclaw:local","Healthcheck":{{"Test":["CMD-SHELL","true"],"Interval":1000000000}},"Labels":{{"z":"1","a":"2"}}}},
        "HostConfig":{{"Privileged":false,"CapAdd":["CAP_SYS_ADMIN","NET_RAW"],"SecurityOpt":["seccomp=unconfined"],"NetworkMode":"none","PidMode":""}},
        "Mounts":[{{"Type":"bind","Source":"/srv/x","Destination":"/data","RW":false}}],
        "NetworkSettings":{{"Ports":{{"3000/tcp":[{{"HostIp":"127.0.0.1","HostPort":"3000"}}],"9/udp":null}}}}}}"#
    )
}

struct World {
    _dir: tempfile::TempDir,
    options: DockerOptions,
    rx: mpsc::Receiver<DockerUpdate>,
    peer: Arc<Peer>,
    server: tokio::task::JoinHandle<()>,
}

fn world(peer: Peer) -> World {
    world_with(peer, |_| ())
}

fn world_with(peer: Peer, change: impl FnOnce(&mut DockerOptions)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let mut options = DockerOptions {
        socket,
        request_timeout: Duration::from_millis(300),
        patience: Duration::from_secs(1),
        max_backoff: Duration::from_millis(100),
    };
    change(&mut options);
    let peer = Arc::new(peer);
    let server = start(&options.socket, Arc::clone(&peer));
    let (tx, rx) = mpsc::channel(16);
    tokio::spawn(watch(options.clone(), tx));
    World {
        _dir: dir,
        options,
        rx,
        peer,
        server,
    }
}

fn peer(inspect: String, events: &[&str]) -> Peer {
    let events = events
        .iter()
        .map(|action| format!(r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{ID}","Attributes":{{"name":"openclaw-gateway","image":"openclaw:local","a":"b"}}}},"time":1795353018,"timeNano":1795353018000000000}}"#))
        .collect();
    Peer {
        inspect,
        events,
        hang: AtomicBool::new(false),
        late_ms: AtomicU64::new(0),
    }
}

impl World {
    async fn next(&mut self) -> DockerUpdate {
        timeout(Duration::from_secs(10), self.rx.recv())
            .await
            .expect("an update in time")
            .expect("a sender")
    }
}

#[tokio::test]
async fn a_running_container_is_told_before_connected() {
    let mut world = world(peer(inspect("running"), &[]));
    let DockerUpdate::Container(c) = world.next().await else {
        panic!()
    };
    assert_eq!(
        (c.id.as_str(), c.name.as_deref(), c.image.as_deref()),
        (ID, Some("openclaw-gateway"), Some("openclaw:local"))
    );
    assert_eq!(
        (c.init_pid, c.started_ms, c.engine),
        (77, 1_795_353_018_414, Engine::Docker)
    );
    assert_eq!(
        c.labels,
        [("a".into(), "2".into()), ("z".into(), "1".into())]
    );
    assert_eq!(c.cap_add, ["SYS_ADMIN", "NET_RAW"]);
    assert_eq!(c.health_check, ["/bin/sh", "-c", "true"]);
    assert_eq!(c.ports, ["127.0.0.1:3000->3000/tcp"]);
    assert_eq!(
        (
            c.mounts[0].destination.as_str(),
            c.mounts[0].writable,
            c.pid_mode.clone()
        ),
        ("/data", false, None)
    );
    assert_eq!(
        world.next().await,
        DockerUpdate::Connected {
            version: "20.10.24".into(),
            containers: 1
        }
    );
}

#[tokio::test]
async fn an_unknown_state_costs_the_details_not_the_name() {
    let mut world = world(peer(inspect("stopping-softly"), &[]));
    let DockerUpdate::Container(c) = world.next().await else {
        panic!()
    };
    assert_eq!(
        (c.name.as_deref(), c.init_pid),
        (Some("openclaw-gateway"), 0)
    );
}

#[tokio::test]
async fn a_container_that_is_gone_before_it_is_inspected_keeps_its_name() {
    let mut world = world(peer(String::new(), &["start", "die"]));
    let name = loop {
        if let DockerUpdate::Container(c) = world.next().await {
            break c.name;
        }
    };
    assert_eq!(name.as_deref(), Some("openclaw-gateway"));
}

#[tokio::test]
async fn ends_are_told() {
    let mut world = world(peer(
        inspect("running"),
        &["exec_start: sh", "die", "destroy"],
    ));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match world.next().await {
            DockerUpdate::Stopped { id } => seen.push(format!("stopped {id}")),
            DockerUpdate::Removed { id } => seen.push(format!("removed {id}")),
            _ => {}
        }
    }
    assert_eq!(seen, [format!("stopped {ID}"), format!("removed {ID}")]);
}

#[tokio::test]
async fn an_engine_that_hangs_costs_details_only() {
    let peer = peer(inspect("running"), &["start"]);
    peer.hang.store(true, Ordering::Relaxed);
    let mut world = world(peer);
    let DockerUpdate::Container(c) = world.next().await else {
        panic!()
    };
    assert_eq!(c.name.as_deref(), Some("openclaw-gateway"));
    world.peer.hang.store(false, Ordering::Relaxed);
}

#[tokio::test]
async fn a_late_answer_is_waited_for_and_the_name_is_told_meanwhile() {
    let peer = peer(inspect("running"), &["start"]);
    peer.late_ms.store(1000, Ordering::Relaxed);
    let mut world = world_with(peer, |options| {
        options.request_timeout = Duration::from_secs(60);
        options.patience = Duration::from_millis(100);
    });
    assert!(
        matches!(world.next().await, DockerUpdate::Disconnected { why } if why.contains("still waiting"))
    );
    let mut pids = Vec::new();
    while pids.last() != Some(&77) {
        if let DockerUpdate::Container(c) = world.next().await {
            assert_eq!(c.name.as_deref(), Some("openclaw-gateway"));
            pids.push(c.init_pid);
        }
    }
    assert_eq!(pids.first(), Some(&0), "first the name alone: {pids:?}");
}

#[tokio::test]
async fn an_engine_that_goes_and_comes_back_is_found_again() {
    let mut world = world(peer(inspect("running"), &[]));
    while !matches!(world.next().await, DockerUpdate::Connected { .. }) {}
    world.server.abort();
    let _ = (&mut world.server).await;
    assert!(matches!(
        world.next().await,
        DockerUpdate::Disconnected { .. }
    ));
    std::fs::remove_file(&world.options.socket).unwrap();
    start(&world.options.socket, Arc::clone(&world.peer));
    let mut told = false;
    loop {
        match world.next().await {
            DockerUpdate::Container(_) => told = true,
            DockerUpdate::Connected { .. } => break,
            DockerUpdate::Disconnected { .. } => panic!("said twice"),
            _ => {}
        }
    }
    assert!(told, "containers are listed again");
}
