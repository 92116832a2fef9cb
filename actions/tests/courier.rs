//! The courier as the sensor meets it: over its stream, with engines that are missing, hung or slow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actions::Message;
use actions::courier::wire::{self, FromCourier, Handover, ToCourier};
use actions::courier::{self, CourierOptions};
use actions::docker::PauseFailure;
use actions::notify::{Discord, Notifier, Outcome, Secret};
use detector::Severity;
use test_support::{Behaviour, discord};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

struct Sensor {
    stream: UnixStream,
    courier: JoinHandle<std::io::Result<()>>,
}

impl Sensor {
    fn start(options: CourierOptions) -> Self {
        let (stream, theirs) = UnixStream::pair().unwrap();
        Self {
            stream,
            courier: tokio::spawn(courier::run(theirs, options)),
        }
    }

    async fn say(&mut self, request: ToCourier) {
        wire::write(&mut self.stream, &request).await.unwrap();
    }

    async fn hear(&mut self) -> FromCourier {
        tokio::time::timeout(Duration::from_secs(10), wire::read(&mut self.stream))
            .await
            .expect("an answer")
            .unwrap()
            .unwrap()
    }
}

fn options(socket: &str) -> CourierOptions {
    CourierOptions {
        docker_socket: socket.to_owned(),
        watch_docker: false,
        docker_limit: Duration::from_millis(300),
        action_limit: Duration::from_secs(1),
        ..CourierOptions::default()
    }
}

fn pause(id: &str) -> ToCourier {
    ToCourier::Pause {
        container_id: id.into(),
        handover: Handover::Frozen,
    }
}

fn deliver(queue_id: u64) -> ToCourier {
    let message = Box::new(Message::notice(
        Severity::High,
        "A test",
        "to see it arrive",
        0,
    ));
    ToCourier::Deliver {
        queue_id,
        destination: "discord".into(),
        message,
        repeat: false,
        edit: None,
    }
}

#[tokio::test]
async fn a_missing_engine_is_an_answer() {
    let mut sensor = Sensor::start(options("/nowhere/docker.sock"));
    sensor.say(pause("c1")).await;
    let FromCourier::Paused {
        container_id,
        result,
    } = sensor.hear().await
    else {
        panic!()
    };
    assert_eq!(container_id, "c1");
    assert!(
        matches!(result, Err(PauseFailure::NoEngine { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_hung_engine_costs_its_own_action_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    // It listens and never answers.
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    let fake = discord::Discord::start();
    let channel = Discord::new(&Secret::new(&fake.url()), None).unwrap();
    let destinations =
        BTreeMap::from([("discord".to_owned(), Arc::new(channel) as Arc<dyn Notifier>)]);
    let mut sensor = Sensor::start(CourierOptions {
        destinations,
        ..options(path.to_str().unwrap())
    });
    let begin = Instant::now();
    for n in 0..20 {
        sensor.say(pause(&format!("c{n}"))).await;
    }
    sensor.say(deliver(7)).await;
    // The delivery overtakes the pauses.
    let first = sensor.hear().await;
    assert!(
        matches!(
            first,
            FromCourier::Delivered {
                queue_id: 7,
                outcome: Outcome::Accepted { .. }
            }
        ),
        "{first:?}"
    );
    for _ in 0..20 {
        let FromCourier::Paused { result, .. } = sensor.hear().await else {
            panic!()
        };
        assert!(
            matches!(result, Err(PauseFailure::TimedOut { .. })),
            "{result:?}"
        );
    }
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "they hang one beside the other: {:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_hung_service_costs_its_own_delivery_only() {
    let fake = discord::Discord::start();
    fake.script([Behaviour::Hang]);
    let channel = Discord::new(&Secret::new(&fake.url()), None).unwrap();
    let destinations =
        BTreeMap::from([("discord".to_owned(), Arc::new(channel) as Arc<dyn Notifier>)]);
    let limit = Duration::from_millis(500);
    let mut sensor = Sensor::start(CourierOptions {
        destinations,
        delivery_limit: limit,
        ..options("/nowhere")
    });
    sensor.say(deliver(1)).await;
    let begin = Instant::now();
    while fake.received().is_empty() {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "the first delivery did not come"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    sensor.say(deliver(2)).await;
    sensor.say(pause("c1")).await;
    let mut order = vec![];
    for _ in 0..3 {
        order.push(match sensor.hear().await {
            FromCourier::Delivered {
                queue_id,
                outcome: Outcome::Unknown { .. },
            } => format!("{queue_id} unknown"),
            FromCourier::Delivered { queue_id, .. } => format!("{queue_id}"),
            FromCourier::Paused { .. } => "pause".to_owned(),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(order[2], "1 unknown", "{order:?}");
}

#[tokio::test]
async fn an_unknown_destination_stops_its_lane_and_shutdown_ends() {
    let mut sensor = Sensor::start(options("/nowhere"));
    sensor.say(deliver(1)).await;
    let FromCourier::Delivered { outcome, .. } = sensor.hear().await else {
        panic!()
    };
    assert!(
        matches!(outcome, Outcome::Refused { channel: true, .. }),
        "{outcome:?}"
    );
    sensor.say(ToCourier::Shutdown).await;
    let end = tokio::time::timeout(Duration::from_secs(5), sensor.courier)
        .await
        .expect("an end");
    assert!(end.unwrap().is_ok());
}

#[tokio::test]
async fn a_frame_that_is_too_long_or_none_ends_the_conversation() {
    use tokio::io::AsyncWriteExt;
    for frame in [&[0xff, 0xff, 0xff, 0xff][..], &[0, 0, 0, 2, b'n', b'o'][..]] {
        let mut sensor = Sensor::start(options("/nowhere"));
        sensor.stream.write_all(frame).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(5), sensor.courier)
            .await
            .expect("an end");
        assert_eq!(
            end.unwrap().unwrap_err().kind(),
            std::io::ErrorKind::InvalidData
        );
    }
}

#[tokio::test]
async fn the_trust_hook_gets_the_change_and_its_score_comes_back() {
    use actions::trust::{Band, ChangeKind, TrustChange, TrustContainer};
    let change = TrustChange {
        schema: "asf-trust-event/1".into(),
        kind: ChangeKind::Deduction,
        at: String::new(),
        agent: "agent-42".into(),
        profile: None,
        container: TrustContainer::default(),
        rule: None,
        title: None,
        severity: Some(Severity::High),
        delta: -20,
        event_id: None,
        score: 80,
        previous_score: 100,
        band: Band::HumanApproval,
        previous_band: Band::Execute,
    };
    let script = r#"grep -q '"agent":"agent-42"' && test "$ASF_SCORE $ASF_AGENT $ASF_SEVERITY" = "80 agent-42 high" && test -z "$CARGO_PKG_NAME" && echo "Trust Score: 66""#;
    let hook = |command: &[&str]| CourierOptions {
        trust_hook: command.iter().map(ToString::to_string).collect(),
        hook_limit: Duration::from_millis(2000),
        ..options("/nowhere")
    };
    let mut sensor = Sensor::start(hook(&["sh", "-c", script]));
    sensor
        .say(ToCourier::TrustHook {
            change: Box::new(change.clone()),
        })
        .await;
    let FromCourier::TrustHooked { agent, result } = sensor.hear().await else {
        panic!()
    };
    assert_eq!(
        (agent.as_str(), result.exit, result.base_score),
        ("agent-42", Some(0), Some(66)),
        "{result:?}"
    );

    let mut sensor = Sensor::start(CourierOptions {
        hook_limit: Duration::from_millis(100),
        ..hook(&["sleep", "60"])
    });
    sensor
        .say(ToCourier::TrustHook {
            change: Box::new(change),
        })
        .await;
    let FromCourier::TrustHooked { result, .. } = sensor.hear().await else {
        panic!()
    };
    assert!(result.exit.is_none() && result.why.is_some(), "{result:?}");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_what_hangs() {
    let fake = discord::Discord::start();
    fake.script([Behaviour::Hang]);
    let channel = Discord::new(&Secret::new(&fake.url()), None).unwrap();
    let destinations =
        BTreeMap::from([("discord".to_owned(), Arc::new(channel) as Arc<dyn Notifier>)]);
    let shutdown_limit = Duration::from_millis(100);
    let mut sensor = Sensor::start(CourierOptions {
        destinations,
        shutdown_limit,
        ..options("/nowhere")
    });
    sensor.say(deliver(1)).await;
    sensor.say(ToCourier::Shutdown).await;
    let end = tokio::time::timeout(Duration::from_secs(5), sensor.courier)
        .await
        .expect("an end");
    assert!(end.unwrap().is_ok());
    assert!(
        wire::read::<FromCourier>(&mut sensor.stream)
            .await
            .unwrap()
            .is_none(),
        "no answer was made up"
    );
}
