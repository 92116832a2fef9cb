//! The real `openclaw` gateway from npm, in a container: quiet while it starts, idles and answers; frozen when something in it
//! calls mount.

use std::time::Duration;

use test_support::{eventually, image, kernel};

use crate::{alert, paused, settled, titles, world};

const PORT: &str = "18789";

#[test]
fn the_real_gateway_is_quiet_until_it_is_attacked() {
    if !kernel::wanted("the_real_gateway_is_quiet_until_it_is_attacked") {
        return;
    }
    let Some(gateway_image) = image::gateway() else {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI needs the image of the real gateway"
        );
        println!("skipped: the image of the real gateway could not be built");
        return;
    };
    let world = world().start();
    let state = world.dir().join("openclaw-state");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(1000), Some(1000)).unwrap();
    let volume = format!("--volume={}:/home/node/.openclaw", state.display());
    let container = world
        .docker
        .container("openclaw-gateway", gateway_image)
        .dangerous()
        .options(&[
            "--network=host",
            "--user=1000:1000",
            "--init",
            "--env=HOME=/home/node",
            &volume,
        ])
        .command(&[
            "openclaw",
            "gateway",
            "--allow-unconfigured",
            "--bind",
            "loopback",
            "--port",
            PORT,
        ])
        .start();
    settled(&world, &container);
    eventually("the gateway answers", Duration::from_secs(120), || {
        let answer = container.exec(&[
            "node",
            "-e",
            &format!(
                "fetch('http://127.0.0.1:{PORT}/').then(r => console.log('answered', r.status))"
            ),
        ]);
        answer.stdout.contains("answered").then_some(())
    });
    // It idles, and answers again.
    std::thread::sleep(Duration::from_secs(10));
    container
        .exec(&[
            "node",
            "-e",
            &format!(
                "fetch('http://127.0.0.1:{PORT}/').then(r => console.log('answered', r.status))"
            ),
        ])
        .expect_ok();
    world.barrier();
    let alerts = world.alerts(&["--severity", "medium"]);
    assert!(alerts.is_empty(), "{:?}", titles(&alerts));
    assert_eq!(container.status(), "running");
    let starts = world.history(&[
        "--container",
        "openclaw-gateway",
        "--syscall",
        "execve",
        "--comm",
        "openclaw*",
        "--since",
        "10m",
    ]);
    assert!(
        !starts.is_empty()
            || !world
                .history(&[
                    "--container",
                    "openclaw-gateway",
                    "--syscall",
                    "execve",
                    "--text",
                    "gateway"
                ])
                .is_empty()
    );

    let _attacker = container.spawn(&["/bin/attacker", "mount"]);
    let alert = alert(&world, "openclaw-gateway", "critical");
    assert_eq!(alert["container"]["agent"], "openclaw-gateway");
    paused(&container);
}
