use std::io;
use std::path::Path;

/// What can go wrong between files and memory. Every message is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A request that no data could satisfy: a pattern without files, an empty list, no rows.
    #[error("{0}")]
    InvalidArgument(String),
    /// Sizes that do not fit each other, or a tensor of the wrong rank.
    #[error("{0}")]
    ShapeMismatch(String),
    /// NaN, an infinity, or a number too large for 32 bits.
    #[error("{name}: row {row}, column {column} is {value}, not a finite 32-bit number; {advice}")]
    NotFinite {
        /// File and tensor, or whatever the source is called.
        name: String,
        /// Row in that file or source, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// The value as f32.
        value: f32,
        /// What to do.
        advice: &'static str,
    },
    /// A sound file in a form that is not read here, or one that leaves open what is meant.
    #[error("{0}")]
    UnsupportedFormat(String),
    /// A file that contradicts itself or is not all there.
    #[error("{0}")]
    CorruptFile(String),
    /// No memory is left for what was to be kept there.
    #[error("{0}")]
    OutOfMemory(String),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The operating system said no, or writing would overwrite something.
    #[error("{message}")]
    Io {
        /// What, where, what to do.
        message: String,
        /// What the operating system said, where it was asked.
        source: Option<io::Error>,
    },
}

impl DataError {
    /// The name of the failure, as Node users see it in `BaeError.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidArgument(_) => "INVALID_ARGUMENT",
            Self::ShapeMismatch(_) => "SHAPE_MISMATCH",
            Self::NotFinite { .. } => "NOT_FINITE",
            Self::UnsupportedFormat(_) => "UNSUPPORTED_FORMAT",
            Self::CorruptFile(_) => "CORRUPT_FILE",
            Self::OutOfMemory(_) => "OUT_OF_MEMORY",
            Self::Cancelled => "CANCELLED",
            Self::Io { .. } => "IO",
        }
    }

    pub(crate) fn argument(message: impl AsRef<str>) -> Self {
        Self::InvalidArgument(one_line(message.as_ref()))
    }

    pub(crate) fn shape(message: impl AsRef<str>) -> Self {
        Self::ShapeMismatch(one_line(message.as_ref()))
    }

    pub(crate) fn format(message: impl AsRef<str>) -> Self {
        Self::UnsupportedFormat(one_line(message.as_ref()))
    }

    pub(crate) fn corrupt(message: impl AsRef<str>) -> Self {
        Self::CorruptFile(one_line(message.as_ref()))
    }

    pub(crate) fn out_of_memory(message: impl AsRef<str>) -> Self {
        Self::OutOfMemory(one_line(message.as_ref()))
    }

    pub(crate) fn not_finite(name: &str, row: usize, column: usize, value: f32) -> Self {
        let advice = "remove or repair that row";
        Self::NotFinite { name: one_line(name), row, column, value, advice }
    }

    /// `doing` completes "cannot … PATH", `advice` says what to do about it.
    pub fn io(doing: &str, path: &Path, source: io::Error, advice: &str) -> Self {
        let message = one_line(&format!("cannot {doing} {}: {source}; {advice}", path.display()));
        Self::Io { message, source: Some(source) }
    }

    /// What would overwrite or take something from somebody else.
    pub fn refused(message: impl AsRef<str>) -> Self {
        Self::Io { message: one_line(message.as_ref()), source: None }
    }
}

/// Names come from files that anybody may have made: no line breaks or terminal codes, and no endless text.
fn one_line(message: &str) -> String {
    const START: usize = 1500;
    const END: usize = 400;
    let mut line = String::with_capacity(message.len().min(4 * (START + END)));
    let count = message.chars().count();
    for (at, character) in message.chars().enumerate() {
        if count > START + END && (START..count - END).contains(&at) {
            if at == START {
                line.push('…');
            }
        } else if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_short_line() {
        let error = DataError::corrupt(format!("a\nb\u{1b}[31m{}; copy it again", "x".repeat(1_000_000)));
        let message = error.to_string();
        assert!(message.starts_with("a\\nb\\u{1b}[31mxxx"), "{message}");
        assert!(message.ends_with("; copy it again") && message.chars().count() < 2000, "{message}");
    }
}
