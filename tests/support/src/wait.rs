//! Waiting for a condition with a limit: no test sleeps and hopes.

use std::time::{Duration, Instant};

/// Time between two looks at a condition.
const CADENCE: Duration = Duration::from_millis(20);

/// Looks at `condition` until it gives something, and gives that.
///
/// # Panics
/// When the limit has passed; the message is "`what` did not happen within …".
pub fn eventually<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    match within(limit, condition) {
        Some(value) => value,
        None => panic!("{what} did not happen within {limit:?}"),
    }
}

/// Looks at `condition` until it gives something or the limit has passed. The last look is after the limit.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let late = Instant::now() >= end;
        if let Some(value) = condition() {
            return Some(value);
        }
        if late {
            return None;
        }
        std::thread::sleep(CADENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_the_condition_gave() {
        let mut looks = 0;
        let value = eventually("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(value, 3);
    }

    #[test]
    fn looks_at_least_once_and_gives_up() {
        let mut looks = 0;
        let value: Option<()> = within(Duration::ZERO, || {
            looks += 1;
            None
        });
        assert_eq!((value, looks), (None, 1));
    }

    #[test]
    #[should_panic(expected = "rain did not happen within 0ns")]
    fn says_what_did_not_happen() {
        eventually::<()>("rain", Duration::ZERO, || None);
    }
}
