//! Sizes as people write them: `64B`, `1KiB`, `10MiB`, `10MB`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SizeError {
    /// There is no number in front.
    #[error("`{0}` is not a size: it has to begin with a whole number, as in `10MiB`")]
    NoNumber(String),
    /// What follows the number is no unit.
    #[error(
        "`{input}` is not a size: unknown unit `{unit}`; use B, kB, MB, GB, KiB, MiB or GiB, as in `10MiB`"
    )]
    UnknownUnit {
        /// The whole text.
        input: String,
        /// Its part behind the number.
        unit: String,
    },
    /// No message is empty.
    #[error("`{0}` is too small: a message has at least one byte, as in `64B`")]
    Zero(String),
    /// More than a message is here.
    #[error("`{0}` is too large: messages of up to `1GiB` are measured; the usual size is `10MiB`")]
    TooLarge(String),
}

/// Bytes of the largest message: the product's `max_message`, unless it is told otherwise.
const LARGEST: u64 = 1 << 30;

/// Units from large to small within a system, so that printing finds the largest that divides.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Size {
    /// A size of this many bytes.
    #[cfg(test)]
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub(crate) const fn bytes(self) -> usize {
        // Parsing refused what does not fit.
        self.0 as usize
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(input: &str) -> Result<Self, SizeError> {
        let text = input.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        if digits == 0 {
            return Err(SizeError::NoNumber(input.to_owned()));
        }
        let too_large = || SizeError::TooLarge(input.to_owned());
        let number: u64 = text[..digits].parse().map_err(|_| too_large())?;
        let bytes = number.checked_mul(unit(input, text[digits..].trim_start())?).ok_or_else(too_large)?;
        if bytes == 0 {
            return Err(SizeError::Zero(input.to_owned()));
        }
        if bytes > LARGEST {
            return Err(too_large());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // "B" divides everything, so the search always ends.
        let (name, factor) =
            UNITS.into_iter().find(|(_, factor)| self.0.is_multiple_of(*factor)).unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

fn unit(input: &str, name: &str) -> Result<u64, SizeError> {
    if name.is_empty() {
        return Ok(1);
    }
    UNITS
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, factor)| factor)
        .ok_or_else(|| SizeError::UnknownUnit { input: input.to_owned(), unit: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units() {
        for (text, bytes) in [
            ("64B", 64),
            ("1KiB", 1024),
            ("10MiB", 10 << 20),
            ("10MB", 10_000_000),
            ("1GiB", 1 << 30),
            ("3 kb", 3000),
            ("17", 17),
        ] {
            assert_eq!(text.parse(), Ok(Size::new(bytes)), "{text}");
        }
    }

    #[test]
    fn a_bad_size_is_named_with_an_example() {
        for text in [
            "",
            "MiB",
            "-1B",
            "1.5MiB",
            "10MiBs",
            "0B",
            "99999999999999999999",
            "99999999999GiB",
            "100GiB",
            "1025MiB",
        ] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
            assert!(error.contains("10MiB") || error.contains("64B"), "{error}");
        }
    }

    #[test]
    fn printing_takes_the_largest_unit_that_divides() {
        for text in ["64B", "1KiB", "10MiB", "10MB", "1500kB", "1GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }
}
