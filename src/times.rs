//! Times as people write them: `15m`, `2h`, `today`, `yesterday`, RFC 3339.

use anyhow::{Context, bail};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Milliseconds since the epoch for a time on the command line. A bare span (`15m`, `2h30m`, `7d`) is that long ago.
pub fn parse(text: &str, now: &Zoned) -> anyhow::Result<u64> {
    let text = text.trim();
    let at = match text {
        "now" => now.timestamp(),
        "today" => now.start_of_day()?.timestamp(),
        "yesterday" => now.yesterday()?.start_of_day()?.timestamp(),
        _ => parse_other(text, now)?,
    };
    u64::try_from(at.as_millisecond()).with_context(|| format!("{text:?} lies before 1970"))
}

fn parse_other(text: &str, now: &Zoned) -> anyhow::Result<Timestamp> {
    let short = text.strip_suffix(" ago").unwrap_or(text);
    if let Some(seconds) = span_seconds(short) {
        return now
            .timestamp()
            .checked_sub(jiff::SignedDuration::from_secs(seconds))
            .with_context(|| format!("{text:?} is longer ago than time reaches"));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(at) = text.parse::<jiff::civil::DateTime>() {
        return Ok(at.to_zoned(TimeZone::system())?.timestamp());
    }
    if let Ok(day) = text.parse::<Date>() {
        return Ok(day.to_zoned(TimeZone::system())?.timestamp());
    }
    bail!(
        "{text:?} is not a time; write a span (15m, 2h, 7d), today, yesterday, 2026-03-01, or RFC 3339 (2026-03-01T10:30:00Z)"
    )
}

/// Seconds of `1d2h30m15s`; `None` when the text is something else.
fn span_seconds(text: &str) -> Option<i64> {
    let (mut total, mut number, mut any) = (0i64, None::<i64>, false);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(
                number
                    .unwrap_or(0)
                    .checked_mul(10)?
                    .checked_add(i64::from(digit))?,
            );
        } else {
            let unit = match c {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                'w' => 604_800,
                _ => return None,
            };
            total = total.checked_add(number.take()?.checked_mul(unit)?)?;
            any = true;
        }
    }
    (any && number.is_none()).then_some(total)
}

/// `2026-11-22T13:10:18.414Z`
pub fn rfc3339(millis: u64) -> String {
    match Timestamp::from_millisecond(i64::try_from(millis).unwrap_or(i64::MAX)) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => format!("{millis} ms"),
    }
}

/// Local time of day with milliseconds, with the date in front when it is not `now`'s.
pub fn short(millis: u64, now: &Zoned) -> String {
    match Timestamp::from_millisecond(i64::try_from(millis).unwrap_or(i64::MAX)) {
        Ok(at) => {
            let at = at.to_zoned(now.time_zone().clone());
            if at.date() == now.date() {
                at.strftime("%H:%M:%S%.3f").to_string()
            } else {
                at.strftime("%m-%d %H:%M:%S").to_string()
            }
        }
        Err(_) => millis.to_string(),
    }
}

/// Milliseconds since the epoch, now.
pub fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_times_in_many_ways() {
        let now: Zoned = "2026-11-22T13:10:18Z[UTC]".parse().unwrap();
        let at = |t: &str| parse(t, &now).unwrap();
        let now_ms = at("now");
        assert_eq!(at("15m"), now_ms - 900_000);
        assert_eq!(at("2h30m ago"), now_ms - 9_000_000);
        assert_eq!(rfc3339(at("today")), "2026-11-22T00:00:00.000Z");
        assert_eq!(at("2026-11-22T13:10:18.414Z"), now_ms + 414);
        for bad in [
            "",
            "15",
            "m",
            "15x",
            "tomorrowish",
            "99999999999999999999d",
            "99999999d",
        ] {
            assert!(parse(bad, &now).is_err(), "{bad}");
        }
    }
}
