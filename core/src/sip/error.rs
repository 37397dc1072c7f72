//! What can be wrong with input from a peer.

use std::fmt;

/// Input that is not SIP (or SDP, or a digest header): where, by which rule, and the SIP status that could answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError {
    /// Byte offset in the input.
    pub position: usize,
    /// Name of the broken rule, kebab case.
    pub rule: &'static str,
    /// 400, 413, 414, 416 or 505.
    pub status: u16,
}

pub type Result<T> = std::result::Result<T, ParseError>;

impl ParseError {
    pub const fn new(position: usize, rule: &'static str) -> Self {
        Self { position, rule, status: 400 }
    }

    pub const fn with_status(position: usize, rule: &'static str, status: u16) -> Self {
        Self { position, rule, status }
    }

    /// The same error seen from an enclosing buffer in which the input starts at `offset`.
    #[must_use]
    pub const fn shifted(self, offset: usize) -> Self {
        Self { position: self.position + offset, ..self }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} broken at byte {}", self.rule, self.position)
    }
}

impl std::error::Error for ParseError {}
