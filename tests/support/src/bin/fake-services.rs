//! The fakes of Discord and Telegram for a person or a script: prints where they are as one JSON line, then each request
//! that was taken or refused as another. `fake-services [BEHAVIOUR]` (JSON, `"ok"`, `{"status":500}`, `"hang"`, …) sets what
//! both do with every request. Ends with its standard input.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;
use test_support::{Behaviour, Discord, Telegram, discord, telegram};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (d, t) = (Discord::start(), Telegram::start());
    if let Some(behaviour) = std::env::args().nth(1) {
        let behaviour: Behaviour = serde_json::from_str(&behaviour)?;
        d.always(behaviour);
        t.always(behaviour);
    }
    let mut out = std::io::stdout().lock();
    let places = json!({
        "discord": { "url": discord::Discord::real_url(), "base_url": d.base_url() },
        "telegram": { "token": telegram::TOKEN, "chat_id": telegram::CHAT, "base_url": t.base_url() },
    });
    writeln!(out, "{places}")?;
    out.flush()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut shown = [0, 0];
    loop {
        for ((name, peer), shown) in [("discord", &*d), ("telegram", &*t)]
            .into_iter()
            .zip(&mut shown)
        {
            for received in peer.received().into_iter().skip(*shown) {
                *shown += 1;
                writeln!(out, "{}", json!({ "service": name, "request": received }))?;
                out.flush()?;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
