use std::time::Duration;

use deserr::Deserr;

use super::errors::{ShapeErrors, Wrong};

/// A length of time as people write it: `30s`, `15m`, `10h`, `7d`, `250ms`.
#[derive(Clone, Copy, Debug, Deserr, PartialEq, Eq)]
#[deserr(error = ShapeErrors, try_from(String) = Span::parse -> Wrong)]
pub(super) struct Span(pub(super) Duration);

impl Span {
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn parse(text: String) -> Result<Self, Wrong> {
        const HOW: Wrong = Wrong("must be a length of time such as 250ms, 30s, 15m, 10h or 7d");
        let unit_at = text.find(|character: char| !character.is_ascii_digit()).ok_or(HOW)?;
        let (number, unit) = text.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_| HOW)?;
        let seconds = match unit {
            "ms" => return Ok(Self(Duration::from_millis(number))),
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86400,
            _ => return Err(HOW),
        };
        number.checked_mul(seconds).map(Self::seconds).ok_or(HOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        for (text, expected) in [
            ("250ms", Duration::from_millis(250)),
            ("30s", Duration::from_secs(30)),
            ("15m", Duration::from_secs(900)),
            ("10h", Duration::from_secs(36_000)),
            ("7d", Duration::from_secs(604_800)),
        ] {
            assert_eq!(Span::parse(text.to_owned()).ok().map(|span| span.0), Some(expected), "{text}");
        }
        for text in
            ["", "30", "s", "-1s", "1.5h", "30 s", "30sec", "99999999999999999999s", "999999999999999999d"]
        {
            assert!(Span::parse(text.to_owned()).is_err(), "{text}");
        }
    }
}
