//! The thread `stages`: assemble, enrich and judge, one after the other, on one thread with a runtime of its own.
//!
//! In: the reader's batches, news of Docker, commands of the responder. Out: frozen containers, and messages to keeper, responder and store.
//! It must not know what becomes of those.
//!
//! From a record to the freeze nothing is handed from thread to thread but the batch itself: each such step would wait for a processor, which
//! on a busy host takes longer than all the work. The three are tasks with bounded channels between them, and each yields behind each list,
//! so that what was assembled is judged before the next batch is looked at. The thread has the reader's real-time priority less one where the
//! configuration gives it any, and gives it up while it would leave no processor to others ([`Held`]).

use std::rc::Rc;
use std::sync::Arc;

use collector::realtime::Held;
use enricher::Enricher;
use enricher::docker::DockerUpdate;
use tokio::sync::{mpsc, oneshot};

use super::pipeline::{self, Command, Judge, Tell};
use super::state::Shared;

/// Lists of items and of activities that wait between two stages.
const QUEUE: usize = 128;

/// What the stages work with.
pub struct Parts {
    pub batches: mpsc::Receiver<collector::live::Batch>,
    pub enricher: Enricher,
    pub docker: mpsc::Receiver<DockerUpdate>,
    pub tell: Tell,
    pub judge: Judge,
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub shared: Arc<Shared>,
}

/// Real-time priority of the stages, where the reader has that one: the reader comes first, and with the lowest of all it is alone.
pub fn priority(realtime: u8) -> Option<u8> {
    realtime.checked_sub(1).filter(|p| *p > 0)
}

/// What a stage does between two pieces of its work.
#[derive(Clone)]
pub struct Pace(Rc<Option<Held>>);

impl Pace {
    fn new(priority: Option<u8>, shared: &Shared) -> Self {
        let counters = Arc::clone(&shared.stages);
        let held = priority.and_then(|priority| {
            Held::take("stages", priority, counters)
                .inspect_err(|e| shared.reason("realtime-stages", refused(e)))
                .ok()
        });
        Self(Rc::new(held))
    }

    /// Behind each event: looks at what the thread uses.
    pub fn look(&self) {
        if let Some(held) = &*self.0 {
            held.look();
        }
    }

    /// Behind each list: lets the other stages work.
    pub async fn rest(&self) {
        self.look();
        tokio::task::yield_now().await;
    }
}

fn refused(e: &std::io::Error) -> String {
    format!(
        "the real-time priority of the thread that judges was refused ({e}); freezing takes a little longer on a busy host"
    )
}

/// Starts the thread. What is returned resolves (to an error) when it has ended, in order or by a panic.
///
/// # Errors
/// When no thread or no runtime is to be had.
pub fn start(parts: Parts, priority: Option<u8>) -> std::io::Result<oneshot::Receiver<()>> {
    // No sockets, no files: it waits for channels and the clock alone.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (ends, ended) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("stages".into())
        .spawn(move || {
            let _ends = ends;
            tokio::task::LocalSet::new().block_on(&runtime, run(parts, priority));
        })?;
    Ok(ended)
}

async fn run(parts: Parts, priority: Option<u8>) {
    let Parts {
        batches,
        enricher,
        docker,
        tell,
        judge,
        commands,
        shared,
    } = parts;
    let pace = Pace::new(priority, &shared);
    let (items, item_queue) = mpsc::channel(QUEUE);
    let (steps, step_queue) = mpsc::channel(QUEUE);
    let spawn = tokio::task::spawn_local::<std::pin::Pin<Box<dyn Future<Output = ()>>>>;
    let ended = tokio::try_join!(
        spawn(Box::pin(pipeline::assemble(
            batches,
            items,
            shared.clone(),
            pace.clone()
        ))),
        spawn(Box::pin(pipeline::enrich(
            enricher,
            item_queue,
            docker,
            steps,
            shared,
            tell,
            pace.clone(),
        ))),
        spawn(Box::pin(judge.run(step_queue, commands, pace))),
    );
    if let Err(e) = ended {
        tracing::error!("a stage ended: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_stand_behind_the_reader_and_the_lowest_priority_is_the_readers_alone() {
        assert_eq!(priority(0), None);
        assert_eq!(priority(1), None);
        assert_eq!(priority(2), Some(1));
        assert_eq!(priority(10), Some(9));
    }
}
