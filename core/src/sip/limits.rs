//! Bounds on everything a peer can make large. The Python stubs give the precedents.

/// Largest datagram (UDP over IPv4 and IPv6).
pub const MAX_MESSAGE_SIZE: usize = 65_535;
/// Header lines in a message.
pub const MAX_HEADER_COUNT: usize = 128;
/// Bytes of one header line with its folds.
pub const MAX_LINE_LENGTH: usize = 8_192;
/// Bytes of a request URI.
pub const MAX_URI_LENGTH: usize = 2_048;
/// Parameters of one URI or header value.
pub const MAX_PARAMS: usize = 64;
