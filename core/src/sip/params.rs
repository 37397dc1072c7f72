//! `;name=value` lists of URIs and header values.

use super::chars::{is_lws, is_param, is_token, skip_lws, skip_quoted, trim};
use super::error::{ParseError, Result};
use super::limits::MAX_PARAMS;

/// One parameter; `value` still has its quotes or escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    pub name: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// Iterates over `;a=b;c` (the text starts at the first `;` or is empty). Assumes the text was checked.
#[derive(Debug, Clone)]
pub struct Params<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Params<'a> {
    pub const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The named parameter, compared without case.
    pub fn find(text: &'a [u8], name: &[u8]) -> Option<Param<'a>> {
        Self::new(text).find(|param| param.name.eq_ignore_ascii_case(name))
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        let text = self.text;
        let mut at = self.at;
        while at < text.len() && (text[at] == b';' || is_lws(text[at])) {
            at += 1;
        }
        if at >= text.len() {
            return None;
        }
        let start = at;
        let mut equals = None;
        while at < text.len() && text[at] != b';' {
            match text[at] {
                b'=' if equals.is_none() => equals = Some(at),
                b'"' => {
                    at = skip_quoted(text, at).unwrap_or(text.len());
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        let at = at.min(text.len());
        self.at = at;
        Some(match equals {
            Some(eq) => Param { name: trim(&text[start..eq]), value: Some(trim(&text[eq + 1..at])) },
            None => Param { name: trim(&text[start..at]), value: None },
        })
    }
}

/// Checks header parameters: token names, values token, host or quoted string. `text` starts at `;` or is empty.
pub fn check_header_params(text: &[u8], rule: &'static str) -> Result<()> {
    let mut at = skip_lws(text, 0);
    let mut count = 0;
    while at < text.len() {
        if text[at] != b';' {
            return Err(ParseError::new(at, rule));
        }
        count += 1;
        if count > MAX_PARAMS {
            return Err(ParseError::new(at, "param-count"));
        }
        at = skip_lws(text, at + 1);
        let start = at;
        while at < text.len() && is_token(text[at]) {
            at += 1;
        }
        if at == start {
            return Err(ParseError::new(at, rule));
        }
        at = skip_lws(text, at);
        if at < text.len() && text[at] == b'=' {
            at = skip_lws(text, at + 1);
            let value = at;
            if at < text.len() && text[at] == b'"' {
                at = skip_quoted(text, at).ok_or(ParseError::new(at, rule))?;
            } else {
                while at < text.len()
                    && (is_token(text[at])
                        || matches!(
                            text[at],
                            b'[' | b']' | b':' | b'/' | b'@' | b'(' | b')' | b'?' | b'&' | b'='
                        ))
                {
                    at += 1;
                }
                if at == value {
                    return Err(ParseError::new(at, rule));
                }
            }
            at = skip_lws(text, at);
        }
    }
    Ok(())
}

/// Checks URI parameters: param characters on both sides of `=`; no white space, no quotes.
pub fn check_uri_params(text: &[u8]) -> Result<()> {
    let mut at = 0;
    let mut count = 0;
    while at < text.len() {
        if text[at] != b';' {
            return Err(ParseError::new(at, "uri"));
        }
        count += 1;
        if count > MAX_PARAMS {
            return Err(ParseError::new(at, "param-count"));
        }
        at += 1;
        let start = at;
        while at < text.len() && is_param(text[at]) {
            at += 1;
        }
        if at == start {
            return Err(ParseError::new(at, "uri"));
        }
        if at < text.len() && text[at] == b'=' {
            at += 1;
            let value = at;
            while at < text.len() && (is_param(text[at]) || text[at] == b'=') {
                at += 1;
            }
            if at == value {
                return Err(ParseError::new(at, "uri"));
            }
        }
    }
    Ok(())
}

/// A value without its quotes and backslashes.
pub fn unquote(value: &[u8]) -> Vec<u8> {
    if value.len() < 2 || value[0] != b'"' || value[value.len() - 1] != b'"' {
        return value.to_vec();
    }
    let mut out = Vec::with_capacity(value.len());
    let mut inner = value[1..value.len() - 1].iter();
    while let Some(&c) = inner.next() {
        if c == b'\\' {
            out.extend(inner.next());
        } else {
            out.push(c);
        }
    }
    out
}

/// Appends a quoted string.
pub fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &c in text {
        if matches!(c, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(c);
    }
    out.push(b'"');
}

/// Splits a list at commas outside quotes, angle brackets and comments.
pub fn split_list(value: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut at = 0;
    let mut angle = false;
    while at < value.len() {
        match value[at] {
            b'"' => {
                at = skip_quoted(value, at).unwrap_or(value.len());
                continue;
            }
            b'<' => angle = true,
            b'>' => angle = false,
            b',' if !angle => {
                parts.push(trim(&value[start..at]));
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(trim(&value[start.min(value.len())..]));
    parts.retain(|part| !part.is_empty());
    parts
}

/// End of the first element of a comma list (position of the comma or the length).
pub fn first_of_list(value: &[u8]) -> usize {
    let mut at = 0;
    let mut angle = false;
    while at < value.len() {
        match value[at] {
            b'"' => {
                at = skip_quoted(value, at).unwrap_or(value.len());
                continue;
            }
            b'<' => angle = true,
            b'>' => angle = false,
            b',' if !angle => return at,
            _ => {}
        }
        at += 1;
    }
    at.min(value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_with_quotes_and_folds() {
        let text = b";a=1 ; b ;\r\n c = \"x;y\\\"z\"";
        check_header_params(text, "params").unwrap();
        let all: Vec<_> = Params::new(text).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[1], Param { name: b"b", value: None });
        assert_eq!(unquote(all[2].value.unwrap()), b"x;y\"z");
    }

    #[test]
    fn lists_split_outside_quotes_and_brackets() {
        assert_eq!(split_list(b"\"a,b\" <sip:x,y@z>, <sip:c> ,,d").len(), 3);
        assert_eq!(first_of_list(b"<sip:x,y@z>;a, b"), 13);
    }

    #[test]
    fn limits_and_rules() {
        assert_eq!(check_header_params(b";=1", "via").unwrap_err().rule, "via");
        assert_eq!(check_header_params(b";a=", "via").unwrap_err().position, 3);
        assert_eq!(check_header_params(b";a=\"x", "via").unwrap_err().rule, "via");
        let many = ";a".repeat(MAX_PARAMS + 1);
        assert_eq!(check_uri_params(many.as_bytes()).unwrap_err().rule, "param-count");
    }
}
