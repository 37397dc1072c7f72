//! `[display name] <URI> [;parameters]`: From, To, Contact, Route, Record-Route, Refer-To (RFC 3261 §20.10).

use super::chars::{is_lws, is_token, skip_lws, skip_quoted, trim};
use super::error::{ParseError, Result};
use super::params::{check_header_params, Params};
use super::uri::UriRef;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddrRef<'a> {
    pub text: &'a [u8],
    /// As written, with its quotes.
    pub display: Option<&'a [u8]>,
    /// As written, not parsed.
    pub uri: &'a [u8],
    /// Position of the URI in the text.
    pub uri_at: usize,
    /// From the first `;` after the URI, or empty.
    pub params: &'a [u8],
}

impl<'a> NameAddrRef<'a> {
    /// Splits one value (no list) and checks display name and parameters, not the URI (see [`Self::uri`]).
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        Self::parse_as(text, "name-addr")
    }

    pub fn parse_as(text: &'a [u8], rule: &'static str) -> Result<Self> {
        let start = skip_lws(text, 0);
        let mut at = start;
        if text.get(at) == Some(&b'"') {
            at = skip_quoted(text, at).ok_or(ParseError::new(at, rule))?;
            let display = &text[start..at];
            at = skip_lws(text, at);
            if text.get(at) != Some(&b'<') {
                return Err(ParseError::new(at, rule));
            }
            return Self::angle(text, Some(display), at, rule);
        }
        while at < text.len() && (is_token(text[at]) || is_lws(text[at]) || text[at] >= 0x80) {
            at += 1;
        }
        if text.get(at) == Some(&b'<') {
            let display = trim(&text[start..at]);
            return Self::angle(text, (!display.is_empty()).then_some(display), at, rule);
        }
        Self::bare(text, start, rule)
    }

    fn angle(text: &'a [u8], display: Option<&'a [u8]>, open: usize, rule: &'static str) -> Result<Self> {
        let close = memchr::memchr(b'>', &text[open..]).ok_or(ParseError::new(open, rule))? + open;
        let uri = &text[open + 1..close];
        if uri.is_empty() || uri.iter().any(|&c| is_lws(c) || c == b'<') {
            return Err(ParseError::new(open + 1, rule));
        }
        let params = trim(&text[close + 1..]);
        check_header_params(params, rule).map_err(|error| error.shifted(close + 1))?;
        Ok(Self { text, display, uri, uri_at: open + 1, params })
    }

    /// addr-spec without brackets: `;` ends the URI, and `,` `?` cannot be in it (§20.10).
    fn bare(text: &'a [u8], start: usize, rule: &'static str) -> Result<Self> {
        let mut at = start;
        while at < text.len() && text[at] != b';' && !is_lws(text[at]) {
            if matches!(text[at], b',' | b'?' | b'"' | b'<' | b'>') {
                return Err(ParseError::new(at, rule));
            }
            at += 1;
        }
        let uri = &text[start..at];
        if memchr::memchr(b':', uri).is_none() {
            return Err(ParseError::new(start, rule));
        }
        let rest = skip_lws(text, at);
        let params = trim(&text[rest..]);
        check_header_params(params, rule).map_err(|error| error.shifted(rest))?;
        Ok(Self { text, display: None, uri, uri_at: start, params })
    }

    pub fn uri(&self) -> Result<UriRef<'a>> {
        UriRef::parse(self.uri).map_err(|error| error.shifted(self.uri_at))
    }

    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        Params::find(self.params, name).map(|param| param.value.unwrap_or(b""))
    }

    /// The tag, None when absent or empty.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param(b"tag").filter(|tag| !tag.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let a =
            NameAddrRef::parse(b"\"J \\\"R\\\" Rosenberg\" <sip:j@lucent.com;lr> ; tag = 98asjd8").unwrap();
        assert_eq!(a.display, Some(&b"\"J \\\"R\\\" Rosenberg\""[..]));
        assert_eq!(a.uri, b"sip:j@lucent.com;lr");
        assert_eq!(a.tag(), Some(&b"98asjd8"[..]));
        let b = NameAddrRef::parse(b"sip:a@b;tag=1").unwrap();
        assert_eq!((b.uri, b.tag()), (&b"sip:a@b"[..], Some(&b"1"[..])));
        let c = NameAddrRef::parse(b"caller<sip:caller@example.com>;tag=323").unwrap();
        assert_eq!((c.display, c.uri), (Some(&b"caller"[..]), &b"sip:caller@example.com"[..]));
        assert_eq!(NameAddrRef::parse(b"<tel:+12>").unwrap().display, None);
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "sip",
            "\"Mr J. User <sip:j@x>",
            "Bell, Alexander <sip:a@b>",
            "<sip:a@b",
            "<sip:a b@c>",
            "<>",
            "sip:a@b?x=y",
            "\"a\" sip:a@b",
            "<sip:a@b>x",
            "<sip:a@b>;tag=\"x",
            "<<sip:a@b>>",
        ] {
            assert!(NameAddrRef::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
