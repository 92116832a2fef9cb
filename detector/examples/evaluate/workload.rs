//! Activities out of captures of the kernel's audit stream.

use std::path::Path;
use std::sync::Arc;

use collector::assemble::{Assembled, Assembler, Limits};
use collector::logs::{LogClock, LogReader};
use enricher::Enricher;
use enricher::activity::{Activity, Attribution, Phase, Source};
use enricher::container::{Container, Profile};

/// Id of the container that everything is put into.
pub const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Every event of a log as an activity of the host, as `replay` has it.
///
/// # Errors
/// When the log cannot be read.
pub fn read(log: &Path) -> Result<Vec<Activity>, Box<dyn std::error::Error>> {
    let mut reader = LogReader::open(log)?;
    let (mut assembler, mut clock) = (Assembler::for_logs(Limits::default()), LogClock::new());
    let mut enricher = Enricher::offline();
    let (mut ready, mut out) = (Vec::new(), Vec::new());
    let mut take = |ready: &mut Vec<Assembled>| {
        for one in ready.drain(..) {
            if let Assembled::Event(event) = one {
                out.push(enricher.enrich(event));
            }
        }
    };
    reader.for_each_record(|r| {
        let now = clock.at(r.millis);
        assembler.push(r.node, r.kind, r.millis, r.serial, r.body, now, &mut ready);
        take(&mut ready);
    })?;
    assembler.finish(&mut ready);
    take(&mut ready);
    Ok(out)
}

/// Puts activities into the container of an agent, where every rule looks at them.
pub fn into_container(activities: &mut [Activity], profile: Option<Profile>) {
    let container = Arc::new(Container {
        id: CONTAINER.into(),
        name: Some("openclaw-gateway".into()),
        image: Some("openclaw:local".into()),
        profile,
        agent: Some("openclaw-gateway".into()),
        ..Container::default()
    });
    for activity in activities {
        activity.phase = Phase::Running;
        activity.container = Some(Arc::clone(&container));
        activity.attribution = Attribution {
            source: Source::Table,
            certain: true,
        };
    }
}
