//! Presses of buttons, fetched by long polling (no open port): one after the other, each confirmed to Telegram only when the
//! sensor has handled it, so that one which a kill cut short comes again.

use std::time::Duration;

use tokio::sync::mpsc;

use super::wire::FromCourier;
use crate::notify::{PollError, Telegram};

/// How long Telegram holds an unanswered question.
pub const WAIT: Duration = Duration::from_secs(25);
/// The sensor answers within this, or the press is asked for again.
const HANDLED: Duration = Duration::from_secs(60);
/// Pauses after a failure.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// A press was handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// Number of the update.
    pub update_id: i64,
    /// What to tell who pressed.
    pub text: String,
}

/// Polls until the sensor is gone or Telegram says that the token is none.
pub async fn run(
    telegram: Telegram,
    wait: Duration,
    answers: mpsc::Sender<FromCourier>,
    mut handled: mpsc::Receiver<Handled>,
) {
    let mut offset = None;
    let mut pause = PAUSE;
    loop {
        match telegram.updates(offset, wait).await {
            Ok(updates) => {
                pause = PAUSE;
                for (update_id, press) in updates {
                    if let Some(press) = press {
                        let callback = press.callback_id.clone();
                        let said = FromCourier::Pressed { press };
                        if answers.send(said).await.is_err() {
                            return;
                        }
                        let Some(text) = wait_for(update_id, &mut handled).await else {
                            // Not confirmed: it comes again.
                            break;
                        };
                        telegram.answer(&callback, &text).await;
                    }
                    offset = Some(update_id + 1);
                }
            }
            Err(PollError::Stop(why)) => {
                tracing::error!(channel = "telegram", %why, "nobody can answer by button any more");
                return;
            }
            Err(PollError::Later { why, after }) => {
                tracing::debug!(channel = "telegram", %why, "no presses could be fetched");
                tokio::time::sleep(after.unwrap_or(pause)).await;
                pause = (pause * 2).min(LONGEST);
            }
        }
        if answers.is_closed() {
            return;
        }
    }
}

async fn wait_for(update_id: i64, handled: &mut mpsc::Receiver<Handled>) -> Option<String> {
    let next = async {
        while let Some(done) = handled.recv().await {
            // An answer to one that was given up before.
            if done.update_id == update_id {
                return Some(done.text);
            }
        }
        None
    };
    tokio::time::timeout(HANDLED, next).await.ok().flatten()
}
