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

/// Milliseconds of a length of time such as `30s`, `5m`, `1h30m`, `500ms`.
pub fn span_ms(text: &str) -> Option<u64> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok();
    }
    u64::try_from(span_seconds(text)?).ok()?.checked_mul(1000)
}

/// A length of time in six characters: `12ms`, `3.4s`, `2m05s`, `3h12m`, `12d`.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..10 if ms % 1000 >= 100 => format!("{:.1}s", (ms / 100) as f64 / 10.0),
        1..60 => format!("{seconds}s"),
        60..3600 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 if seconds % 3600 < 60 => format!("{}h", seconds / 3600),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Local time as exact as a step needs it, with the date when it is not `now`'s.
pub fn at_step(millis: u64, step_ms: u64, now: &Zoned) -> String {
    let Ok(at) = Timestamp::from_millisecond(i64::try_from(millis).unwrap_or(i64::MAX)) else {
        return millis.to_string();
    };
    let at = at.to_zoned(now.time_zone().clone());
    let time = match step_ms {
        0..1000 => "%H:%M:%S%.3f",
        1000..60_000 => "%H:%M:%S",
        _ => "%H:%M",
    };
    if step_ms >= 86_400_000 {
        at.strftime("%Y-%m-%d").to_string()
    } else if at.date() == now.date() {
        at.strftime(time).to_string()
    } else {
        at.strftime(&format!("%m-%d {time}")).to_string()
    }
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
    fn lengths_of_time_read_well() {
        let all = [
            12, 3400, 5000, 59_999, 125_000, 300_000, 3_600_000, 11_520_000, 90_000_000,
        ];
        let text: Vec<_> = all.into_iter().map(span).collect();
        assert_eq!(
            text,
            [
                "12ms", "3.4s", "5s", "59s", "2m05s", "5m", "1h", "3h12m", "1d"
            ]
        );
        assert_eq!(span_ms("1h30m"), Some(5_400_000));
        assert_eq!((span_ms("500ms"), span_ms("5")), (Some(500), None));
    }

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
