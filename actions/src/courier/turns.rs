//! Whose turn it is: what changes the networks of a container, or ends it, happens one after the other for that container.
//!
//! A cut that Docker is slow with and the release after it would else meet in the engine, and the container could come back without
//! a network. Nothing else waits: a pause may hang for the very freeze that the release takes away.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use super::wire::ToCourier;

/// The container for which this request has to wait its turn; `None` for one that waits for nobody.
pub fn container(request: &ToCourier) -> Option<&str> {
    match request {
        ToCourier::Cut { container_id, .. } | ToCourier::Stop { container_id } => {
            Some(container_id)
        }
        ToCourier::Release { quarantine } => Some(&quarantine.container_id),
        _ => None,
    }
}

/// The last one of each container that is not done.
#[derive(Debug, Default)]
pub struct Turns {
    last: HashMap<String, CancellationToken>,
}

impl Turns {
    /// Takes a turn behind those that were taken before. Called in the order in which the turns are to come.
    pub fn enter(&mut self, container: &str) -> Waiting {
        self.last.retain(|_, done| !done.is_cancelled());
        let mine = Turn(CancellationToken::new());
        let before = self.last.insert(container.to_owned(), mine.0.clone());
        Waiting { before, mine }
    }
}

/// A turn that has not come yet.
#[derive(Debug)]
pub struct Waiting {
    before: Option<CancellationToken>,
    mine: Turn,
}

impl Waiting {
    /// Waits until it has come.
    pub async fn come(self) -> Turn {
        if let Some(before) = &self.before {
            before.cancelled().await;
        }
        self.mine
    }
}

/// A turn; over when it goes away, also when its task was dropped half-way or before its turn had come.
#[derive(Debug)]
pub struct Turn(CancellationToken);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::courier::wire::Handover;
    use crate::freeze::FreezeTarget;
    use crate::quarantine::Quarantine;

    async fn comes(waiting: &mut std::pin::Pin<Box<impl Future<Output = Turn>>>) -> Option<Turn> {
        tokio::time::timeout(Duration::from_millis(20), waiting)
            .await
            .ok()
    }

    #[tokio::test]
    async fn a_release_waits_for_the_cut_before_it_and_for_nothing_else() {
        let target = FreezeTarget {
            container_id: "c1".into(),
            ..FreezeTarget::default()
        };
        let q = Quarantine::by_hand(&enricher::Container::from_id("c1"), "test", target, None, 0);
        let release = ToCourier::Release {
            quarantine: Box::new(q),
        };
        let cut = |id: &str| ToCourier::Cut {
            container_id: id.into(),
            exact_only: false,
            was: Box::default(),
        };
        let pause = ToCourier::Pause {
            container_id: "c1".into(),
            handover: Handover::Frozen,
        };
        assert_eq!(container(&pause), None);
        let mut turns = Turns::default();
        let mut enter = |request: &ToCourier| {
            let waiting = turns.enter(container(request).unwrap());
            Box::pin(waiting.come())
        };
        let mut first = enter(&cut("c1"));
        let mut other = enter(&cut("c2"));
        let mut release = enter(&release);
        let mut last = enter(&cut("c1"));
        let first = comes(&mut first).await.unwrap();
        assert!(comes(&mut release).await.is_none(), "the cut is not done");
        assert!(comes(&mut other).await.is_some(), "another container");
        drop(first);
        let turn = comes(&mut release).await.unwrap();
        assert!(comes(&mut last).await.is_none(), "the release is not done");
        drop(turn);
        assert!(comes(&mut last).await.is_some());
    }

    #[tokio::test]
    async fn who_leaves_the_line_holds_nobody_up() {
        let mut turns = Turns::default();
        let (first, second) = (turns.enter("c1"), turns.enter("c1"));
        drop(first);
        let mut second = Box::pin(second.come());
        assert!(comes(&mut second).await.is_some());
        drop(second);
        turns.enter("c2");
        assert_eq!(turns.last.len(), 1, "what is over is forgotten");
    }
}
