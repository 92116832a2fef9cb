//! How long a jiffy is.
//!
//! `backlog_wait_time` is counted in jiffies, and how many of them make a second (`CONFIG_HZ`) was decided when the kernel
//! was built: 100, 250, 300 or 1000. No system call tells it (`sysconf(_SC_CLK_TCK)` and the AT_CLKTCK of the auxiliary
//! vector are the fixed unit of user space, 100), so it is taken from the kernel's configuration, else measured, else assumed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where the figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `CONFIG_HZ` of the running kernel's configuration.
    Config,
    /// Two readings of a jiffies counter.
    Measured,
    /// Nothing is known: the lowest value that kernels are built with, so that a wait is rather too short than too long.
    Assumed,
}

/// Jiffies in a second, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hz {
    /// Jiffies in a second.
    pub value: u32,
    /// How it is known.
    pub source: Source,
}

/// Values that kernels are built with (`kernel/Kconfig.hz`, and those of other architectures that can be told apart from them).
const KNOWN: [u32; 7] = [24, 100, 128, 250, 300, 1000, 1200];
const ASSUMED: u32 = 100;
/// Longest configuration that is read, after decompression.
const MAX_CONFIG: u64 = 4 << 20;

/// Jiffies in a second of the running kernel; found out once.
pub fn hz() -> Hz {
    static HZ: OnceLock<Hz> = OnceLock::new();
    *HZ.get_or_init(|| {
        if let Some(value) = from_config() {
            return Hz {
                value,
                source: Source::Config,
            };
        }
        match measured() {
            Some(value) => Hz {
                value,
                source: Source::Measured,
            },
            None => Hz {
                value: ASSUMED,
                source: Source::Assumed,
            },
        }
    })
}

/// The jiffies in a time, rounded down, and 1 at least (0 would mean: do not wait).
pub fn jiffies_for(time: Duration) -> u32 {
    jiffies(time, hz().value)
}

/// The time of that many jiffies.
pub fn duration_of(jiffies: u32) -> Duration {
    Duration::from_micros(u64::from(jiffies) * 1_000_000 / u64::from(hz().value.max(1)))
}

fn jiffies(time: Duration, hz: u32) -> u32 {
    let jiffies = time.as_micros().saturating_mul(hz.into()) / 1_000_000;
    u32::try_from(jiffies).unwrap_or(u32::MAX).max(1)
}

fn from_config() -> Option<u32> {
    if let Ok(file) = fs::File::open("/proc/config.gz")
        && let Some(hz) = config_hz(flate2::read::GzDecoder::new(file))
    {
        return Some(hz);
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let release = release.trim();
    [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ]
    .into_iter()
    .find_map(|path| config_hz(fs::File::open(path).ok()?))
}

fn config_hz(config: impl Read) -> Option<u32> {
    BufReader::new(config.take(MAX_CONFIG))
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("CONFIG_HZ=")?.trim().parse().ok())
        .filter(|hz| (1..=10_000).contains(hz))
}

/// Two readings of a jiffies counter a fifth of a second apart, taken to the nearest value that kernels are built with.
fn measured() -> Option<u32> {
    const SPAN: Duration = Duration::from_millis(200);
    let (began, first) = reading()?;
    std::thread::sleep(SPAN);
    let (ended, second) = reading()?;
    nearest(second.checked_sub(first)?, ended.duration_since(began))
}

/// The counter and when it was read; a reading in which we lost the processor for long does not count.
fn reading() -> Option<(Instant, u64)> {
    const TRIES: usize = 20;
    const QUICK: Duration = Duration::from_millis(2);
    (0..TRIES).find_map(|_| {
        let before = Instant::now();
        let counter = counter()?;
        (before.elapsed() < QUICK).then_some((before, counter))
    })
}

fn nearest(jiffies: u64, took: Duration) -> Option<u32> {
    let rate = jiffies as f64 / took.as_secs_f64();
    KNOWN
        .into_iter()
        .min_by(|a, b| {
            (rate / f64::from(*a))
                .ln()
                .abs()
                .total_cmp(&(rate / f64::from(*b)).ln().abs())
        })
        // A counter that stands still, or in another unit, is none.
        .filter(|hz| (rate / f64::from(*hz) - 1.0).abs() < 0.08)
}

/// `jiffies: N` of /proc/timer_list (root only), or the time stamp of /proc/schedstat, which is in jiffies too
/// (`show_schedstat` in `kernel/sched/stats.c`).
fn counter() -> Option<u64> {
    let find = |path: &str, prefix: &str| {
        BufReader::new(fs::File::open(path).ok()?)
            .lines()
            .map_while(Result::ok)
            .take(2000)
            .find_map(|line| line.trim().strip_prefix(prefix)?.trim().parse().ok())
    };
    find("/proc/schedstat", "timestamp ").or_else(|| find("/proc/timer_list", "jiffies:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_down_and_never_nothing() {
        let wait = Duration::from_millis(100);
        assert_eq!(
            [100, 250, 300, 1000].map(|hz| jiffies(wait, hz)),
            [10, 25, 30, 100]
        );
        assert_eq!(jiffies(Duration::from_millis(99), 250), 24);
        assert_eq!(jiffies(Duration::ZERO, 1000), 1);
        assert_eq!(jiffies(Duration::MAX, 1000), u32::MAX);
    }

    #[test]
    fn the_configuration_is_read() {
        assert_eq!(
            config_hz(&b"# CONFIG_HZ_100 is not set\nCONFIG_HZ_250=y\nCONFIG_HZ=250\n"[..]),
            Some(250)
        );
        assert_eq!(config_hz(&b"CONFIG_HZ=0\n"[..]), None);
        assert_eq!(config_hz(&b"\xff\xfe"[..]), None);
    }

    #[test]
    fn a_measurement_is_taken_to_the_nearest_value_or_not_at_all() {
        let span = Duration::from_millis(203);
        assert_eq!(nearest(51, span), Some(250));
        assert_eq!(nearest(204, span), Some(1000));
        assert_eq!(nearest(20, span), Some(100));
        assert_eq!(nearest(0, span), None);
        assert_eq!(nearest(203_000_000, span), None);
    }

    #[test]
    fn this_kernel_says_what_it_was_built_with() {
        let found = hz();
        assert!(KNOWN.contains(&found.value), "{found:?}");
        if let (Some(measured), Source::Config) = (measured(), found.source) {
            assert_eq!(measured, found.value);
        }
    }
}
