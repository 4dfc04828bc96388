//! Times and durations as a person reads them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Time of day, in this machine's time zone: `12:03:11.123`.
pub(crate) fn time_of_day(unix: f64) -> String {
    let zoned = timestamp(unix).map(|at| at.to_zoned(TimeZone::system()));
    zoned.map_or_else(
        || "??:??:??.???".to_owned(),
        |at| at.strftime("%H:%M:%S%.3f").to_string(),
    )
}

fn timestamp(unix: f64) -> Option<Timestamp> {
    if !unix.is_finite() {
        return None;
    }
    // Milliseconds of any date that a clock shows fit well into the 53 bits of a float.
    Timestamp::from_millisecond((unix * 1000.0) as i64).ok()
}

/// How long ago, or how long: `12s`, `3m 04s`, `5h 12m`, `8d 03h`.
pub(crate) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{minutes}m {:02}s", whole % 60),
        3600..86_400 => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

/// How long a step took: `0.3 ms`, `12 ms`, `1.50 s`.
pub(crate) fn took(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.2} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_parts_at_most() {
        let table = [
            (-3.0, "0s"),
            (59.9, "59s"),
            (184.0, "3m 04s"),
            (18_720.0, "5h 12m"),
            (702_000.0, "8d 03h"),
        ];
        for (seconds, shown) in table {
            assert_eq!(span(seconds), shown);
        }
    }

    #[test]
    fn times_that_are_none_are_shown_as_such() {
        assert_eq!(time_of_day(f64::NAN), "??:??:??.???");
        assert_eq!(time_of_day(1e300), "??:??:??.???");
        assert!(time_of_day(1_697_472_000.123).ends_with(":00.123"));
    }

    #[test]
    fn steps_are_shown_to_three_digits() {
        assert_eq!(took(Duration::from_micros(340)), "0.3 ms");
        assert_eq!(took(Duration::from_micros(12_340)), "12 ms");
        assert_eq!(took(Duration::from_millis(1500)), "1.50 s");
    }
}
