//! A progress bar on standard error, only on a terminal, and only when it takes longer than a moment.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::query::Watch;

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);

/// Shows how far it is until it goes away, and leaves nothing on the screen.
pub struct Bar {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// Watches; `doing` is said in front, such as `searching`.
    pub fn start(watch: &Watch, doing: &'static str) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let thread = std::io::stderr().is_terminal().then(|| {
            let (watch, done) = (watch.clone(), Arc::clone(&done));
            std::thread::spawn(move || show(&watch, &done, doing))
        });
        Self { done, thread }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn show(watch: &Watch, done: &AtomicBool, doing: &'static str) {
    let began = Instant::now();
    let mut bar = None::<ProgressBar>;
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        if began.elapsed() < PATIENCE {
            continue;
        }
        let (at, total) = watch.at();
        let bar = bar.get_or_insert_with(|| {
            let bar = if total > 0 {
                measured(doing)
            } else {
                counted(doing)
            };
            bar.with_elapsed(began.elapsed())
        });
        if total > 0 {
            bar.set_length(total.max(at));
        }
        bar.set_position(at);
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// The part that is done, and how long the rest takes.
fn measured(doing: &'static str) -> ProgressBar {
    let template = "{msg} [{bar:40}] {percent:>3} %, {eta} left";
    styled(doing, template)
}

/// A number that grows, where nobody knows the end.
fn counted(doing: &'static str) -> ProgressBar {
    styled(doing, "{msg} {spinner} {human_pos}, {per_sec}")
}

fn styled(doing: &'static str, template: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(doing);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
