//! Numbers, sizes, durations and dates the French way, and text from others made fit for a terminal.
//! Owns presentation only; never used to write something that a program reads back.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pli_api::Time;

/// Narrow no-break space between groups of three digits (Lexique des règles typographiques).
const GROUP: char = '\u{202f}';
/// No-break space between a number and its unit.
const UNIT: char = '\u{a0}';

/// `1234567` as « 1 234 567 ».
pub(super) fn integer(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 * GROUP.len_utf8());
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(GROUP);
        }
        out.push(digit);
    }
    out
}

/// A positive number with a decimal comma, `places` digits after it.
pub(super) fn decimal(value: f64, places: usize) -> String {
    let text = format!("{:.places$}", value.max(0.0));
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.parse().map(integer).unwrap_or_else(|_| whole.to_owned());
    if fraction.is_empty() { whole } else { format!("{whole},{fraction}") }
}

/// A number of bytes in decimal units (« 1,5 Go »); a thousand is 10^3, as in the International System.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["octets", "ko", "Mo", "Go", "To", "Po"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.95 would round to « 1 000,0 ».
    while value >= if unit == 0 { 1000.0 } else { 999.95 } && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 if bytes < 2 => format!("{bytes}{UNIT}octet"),
        0 => format!("{}{UNIT}{}", integer(bytes), UNITS[0]),
        _ => format!("{}{UNIT}{}", decimal(value, 1), UNITS.get(unit).copied().unwrap_or_default()),
    }
}

/// A duration to the second, in its two largest units.
pub(super) fn duration(value: Duration) -> String {
    let seconds = value.as_secs() + u64::from(value.subsec_millis() >= 500);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{}{UNIT}j {hours}{UNIT}h", integer(days))
    } else if hours > 0 {
        format!("{hours}{UNIT}h {minutes:02}")
    } else if minutes > 0 {
        format!("{minutes}{UNIT}min {:02}{UNIT}s", seconds % 60)
    } else {
        format!("{seconds}{UNIT}s")
    }
}

/// « 3 fichiers », « 1 fichier », « 0 fichier ».
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", integer(n as u64), if n > 1 { many } else { one })
}

/// « 21/11/2026 23:40 » in the machine's time zone.
pub(super) fn date(instant: Time) -> String {
    date_in(instant, TimeZone::system())
}

fn date_in(instant: Time, zone: TimeZone) -> String {
    match Timestamp::from_microsecond(instant.micros()) {
        Ok(stamp) => stamp.to_zoned(zone).strftime("%d/%m/%Y %H:%M").to_string(),
        Err(_) => instant.to_string(),
    }
}

/// Characters that change how a terminal shows what follows: controls (escape sequences) and the
/// bidirectional marks that make `fdp.exe` read as `exe.pdf`.
pub(super) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Text written by somebody else, fit for one line of a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_deceptive(c) { '\u{fffd}' } else { c }).collect()
}

/// One argument as a POSIX shell reads it back.
pub(super) fn shell(argument: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "/._-=:@,+%".contains(c);
    if !argument.is_empty() && argument.chars().all(safe) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// A line that `sha256sum --check` accepts: a name with a backslash is escaped as coreutils does.
pub(super) fn digest_line(sha256: &str, name: &str) -> String {
    if name.contains(['\\', '\n', '\r']) {
        let name = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        format!("\\{sha256}  {name}")
    } else {
        format!("{sha256}  {name}")
    }
}

/// `90`, `90s`, `15min`, `15m`, `2h`, `1j` as a duration.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "j" | "d" => 86_400,
        _ => return Err(super::texts::bad_duration(text)),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        // A century: no transfer waits that long, and clocks can still add it.
        .filter(|seconds| *seconds <= 3_155_760_000)
        .map(Duration::from_secs)
        .ok_or_else(|| super::texts::bad_duration(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_french() {
        assert_eq!(size(0), "0\u{a0}octet");
        assert_eq!(size(1), "1\u{a0}octet");
        assert_eq!(size(999), "999\u{a0}octets");
        assert_eq!(size(1000), "1,0\u{a0}ko");
        assert_eq!(size(999_949), "999,9\u{a0}ko");
        assert_eq!(size(999_950), "1,0\u{a0}Mo");
        assert_eq!(size(1_234_567_890), "1,2\u{a0}Go");
        assert_eq!(size(u64::MAX), "18\u{202f}446,7\u{a0}Po");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(integer(0), "0");
        assert_eq!(integer(999), "999");
        assert_eq!(integer(1234), "1\u{202f}234");
        assert_eq!(integer(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(decimal(1234.56, 1), "1\u{202f}234,6");
        assert_eq!(decimal(0.04, 1), "0,0");
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_secs(5)), "5\u{a0}s");
        assert_eq!(duration(Duration::from_secs(65)), "1\u{a0}min 05\u{a0}s");
        assert_eq!(duration(Duration::from_secs(3_725)), "1\u{a0}h 02");
        assert_eq!(duration(Duration::from_secs(90_000)), "1\u{a0}j 1\u{a0}h");
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("15min", 900),
            ("15 min", 900),
            ("15m", 900),
            ("2h", 7_200),
            ("1j", 86_400),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "min", "-3s", "1.5h", "3 semaines", "99999999999999999999", "18446744073709551615h"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates_are_french_and_local() {
        let paris = || TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| serde_json::from_value(serde_json::json!(text)).unwrap();
        assert_eq!(date_in(at("2026-11-21T22:40:59.123456Z"), paris()), "21/11/2026 23:40");
        assert_eq!(date_in(at("2026-07-21T22:40:00Z"), paris()), "22/07/2026 00:40");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(plain("a\u{1b}[2Jb\u{9b}c\u{202e}d\ne"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e");
        assert_eq!(plain("Procès-verbal nº 12 — « été »"), "Procès-verbal nº 12 — « été »");
    }

    #[test]
    fn shell_reads_back_what_was_typed() {
        assert_eq!(shell("a/b.pdf"), "a/b.pdf");
        assert_eq!(shell("l'été 2026.pdf"), r"'l'\''été 2026.pdf'");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("$(rm)"), "'$(rm)'");
    }

    #[test]
    fn digest_lines_are_those_of_coreutils() {
        assert_eq!(digest_line("ab", "x y"), "ab  x y");
        assert_eq!(digest_line("ab", "x\\y"), "\\ab  x\\\\y");
    }
}
