//! Character classes of RFC 3261 §25.1, as one table.

const TOKEN: u8 = 1;
const HOST: u8 = 2;
const USER: u8 = 4;
const PARAM: u8 = 8;
const DIGIT: u8 = 16;
const URI: u8 = 32;

const TABLE: [u8; 256] = build();

const fn build() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0usize;
    while i < 256 {
        let c = i as u8;
        let mut class = 0;
        let alnum = c.is_ascii_alphanumeric();
        let mark = matches!(c, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')');
        if alnum || matches!(c, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~') {
            class |= TOKEN;
        }
        // Underscore is no host character in the grammar, but real networks have such names.
        if alnum || matches!(c, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        if alnum || mark || matches!(c, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/' | b'%' | b'#') {
            class |= USER;
        }
        if alnum || mark || matches!(c, b'[' | b']' | b'/' | b':' | b'&' | b'+' | b'$' | b'%') {
            class |= PARAM;
        }
        if c.is_ascii_digit() {
            class |= DIGIT;
        }
        if c > 0x20 && c < 0x7f && !matches!(c, b'<' | b'>' | b'"' | b'\\' | b'^' | b'`' | b'{' | b'}' | b'|')
        {
            class |= URI;
        }
        table[i] = class;
        i += 1;
    }
    table
}

pub const fn is_token(c: u8) -> bool {
    TABLE[c as usize] & TOKEN != 0
}

pub const fn is_host(c: u8) -> bool {
    TABLE[c as usize] & HOST != 0
}

pub const fn is_user(c: u8) -> bool {
    TABLE[c as usize] & USER != 0
}

pub const fn is_param(c: u8) -> bool {
    TABLE[c as usize] & PARAM != 0
}

pub const fn is_digit(c: u8) -> bool {
    TABLE[c as usize] & DIGIT != 0
}

/// Any character that may stand somewhere in a URI on the wire.
pub const fn is_uri(c: u8) -> bool {
    TABLE[c as usize] & URI != 0
}

/// Space or tab, or the line break of a fold.
pub const fn is_lws(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\r' | b'\n')
}

pub fn is_token_text(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&c| is_token(c))
}

/// First position at or after `i` that is not linear white space.
pub fn skip_lws(text: &[u8], mut i: usize) -> usize {
    while i < text.len() && is_lws(text[i]) {
        i += 1;
    }
    i
}

pub fn trim(text: &[u8]) -> &[u8] {
    let start = skip_lws(text, 0);
    let mut end = text.len();
    while end > start && is_lws(text[end - 1]) {
        end -= 1;
    }
    &text[start..end]
}

/// Position after the quoted string that opens at `i`; None when it is not closed.
pub fn skip_quoted(text: &[u8], i: usize) -> Option<usize> {
    let mut at = i + 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Decimal number of at most ten digits; None for anything else.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(|&c| is_digit(c)) {
        return None;
    }
    let mut value: u64 = 0;
    for &c in text {
        value = value.checked_mul(10)?.checked_add(u64::from(c - b'0'))?;
    }
    Some(value)
}

/// Decodes %XX; what is no escape stays as it is.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        if text[i] == b'%' && i + 2 < text.len() {
            if let (Some(high), Some(low)) = (hex(text[i + 1]), hex(text[i + 2])) {
                out.push(high << 4 | low);
                i += 3;
                continue;
            }
        }
        out.push(text[i]);
        i += 1;
    }
    out
}

/// Encodes what `allowed` does not let through.
pub fn escape(text: &[u8], allowed: fn(u8) -> bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &c in text {
        if allowed(c) && c != b'%' {
            out.push(c);
        } else {
            out.extend_from_slice(&[b'%', HEX[(c >> 4) as usize], HEX[(c & 15) as usize]]);
        }
    }
}

pub const fn hex(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

/// Appends a decimal number.
pub fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Lossy text with folds (line break and its white space) turned into one space.
pub fn unfolded(value: &[u8]) -> String {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        return String::from_utf8_lossy(value).into_owned();
    }
    let mut out = Vec::with_capacity(value.len());
    let mut i = 0;
    while i < value.len() {
        if matches!(value[i], b'\r' | b'\n') {
            while out.last().is_some_and(|c| matches!(c, b' ' | b'\t')) {
                out.pop();
            }
            i = skip_lws(value, i);
            out.push(b' ');
        } else {
            out.push(value[i]);
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_round_trip_and_a_broken_escape_stays() {
        let mut out = Vec::new();
        escape("a b%é;".as_bytes(), |c| is_user(c) && c != b';', &mut out);
        assert_eq!(out, b"a%20b%25%C3%A9%3B");
        assert_eq!(unescape(&out), "a b%é;".as_bytes());
        assert_eq!(unescape(b"%4"), b"%4");
        assert_eq!(unescape(b"%zz%41"), b"%zzA");
    }

    #[test]
    fn a_fold_is_one_space() {
        assert_eq!(unfolded(b"a \r\n\t b\r\n c"), "a b c");
    }

    #[test]
    fn quoted_strings_end_at_the_unescaped_quote() {
        assert_eq!(skip_quoted(br#""a\"b"c"#, 0), Some(6));
        assert_eq!(skip_quoted(br#""a\"b"#, 0), None);
        assert_eq!(skip_quoted(br#""a\"#, 0), None);
    }

    #[test]
    fn numbers_do_not_overflow() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b""), None);
    }
}
