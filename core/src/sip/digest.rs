//! Digest authentication: RFC 3261 §22, RFC 7616, RFC 8760.

use super::chars::{is_token, skip_lws, skip_quoted, trim};
use super::error::{ParseError, Result};
use super::params::{push_quoted, unquote};
use md5::{Digest, Md5};
use sha2::Sha256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    /// By its name in any case; None for one that is not supported (session variants among them).
    pub fn of(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("MD5") {
            Some(Self::Md5)
        } else if name.eq_ignore_ascii_case("SHA-256") {
            Some(Self::Sha256)
        } else {
            None
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// Lower-case hex of the hash of the parts joined by colons.
    pub fn hex(self, parts: &[&str]) -> String {
        let joined = parts.join(":");
        let bytes: Vec<u8> = match self {
            Self::Md5 => Md5::digest(joined.as_bytes()).to_vec(),
            Self::Sha256 => Sha256::digest(joined.as_bytes()).to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Fields of a header with the scheme Digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn parse(value: &[u8]) -> Result<Self> {
        let bad = |at: usize| ParseError::new(at, "digest");
        let start = skip_lws(value, 0);
        let scheme_end = start + value[start..].iter().take_while(|&&c| is_token(c)).count();
        if !value[start..scheme_end].eq_ignore_ascii_case(b"Digest") {
            return Err(ParseError::new(start, "digest-scheme"));
        }
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut at = scheme_end;
        loop {
            at = skip_lws(value, at);
            let name_at = at;
            while at < value.len() && is_token(value[at]) {
                at += 1;
            }
            let name = String::from_utf8_lossy(&value[name_at..at]).to_ascii_lowercase();
            at = skip_lws(value, at);
            if name.is_empty() || value.get(at) != Some(&b'=') {
                return Err(bad(at));
            }
            at = skip_lws(value, at + 1);
            let from = at;
            if value.get(at) == Some(&b'"') {
                at = skip_quoted(value, at).ok_or(bad(from))?;
            } else {
                while at < value.len() && value[at] != b',' {
                    at += 1;
                }
            }
            let text = String::from_utf8_lossy(&unquote(trim(&value[from..at]))).into_owned();
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(ParseError::new(name_at, "digest-repeated-field"));
            }
            if fields.len() == 32 {
                return Err(ParseError::new(name_at, "param-count"));
            }
            fields.push((name, text));
            at = skip_lws(value, at);
            match value.get(at) {
                None => return Ok(Self(fields)),
                Some(b',') => at += 1,
                Some(_) => return Err(bad(at)),
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &str) -> Result<String> {
        self.get(name).map(str::to_owned).ok_or(ParseError::new(0, "digest-missing-field"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    pub username: String,
    pub realm: String,
    pub nonce: String,
    pub uri: String,
    pub response: String,
    pub algorithm: String,
    pub cnonce: Option<String>,
    pub opaque: Option<String>,
    pub qop: Option<String>,
    pub nc: Option<u32>,
}

impl Authorization {
    pub fn parse(value: &[u8]) -> Result<Self> {
        let fields = Fields::parse(value)?;
        let own = |name: &str| fields.get(name).map(str::to_owned);
        let nc = match fields.get("nc") {
            None => None,
            Some(text) if text.len() == 8 => {
                let count = u32::from_str_radix(text, 16).ok().filter(|&n| n > 0);
                Some(count.ok_or(ParseError::new(0, "digest-nc"))?)
            }
            Some(_) => return Err(ParseError::new(0, "digest-nc")),
        };
        let authorization = Self {
            username: fields.need("username")?,
            realm: fields.need("realm")?,
            nonce: fields.need("nonce")?,
            uri: fields.need("uri")?,
            response: fields.need("response")?,
            algorithm: own("algorithm").unwrap_or_else(|| "MD5".to_owned()),
            cnonce: own("cnonce"),
            opaque: own("opaque"),
            qop: own("qop"),
            nc,
        };
        if authorization.qop.is_some() && (authorization.cnonce.is_none() || nc.is_none()) {
            return Err(ParseError::new(0, "digest-missing-field"));
        }
        Ok(authorization)
    }

    /// Whether the response is right for a method and H(A1).
    pub fn verify(&self, method: &str, ha1: &str) -> bool {
        let Some(algorithm) = Algorithm::of(&self.algorithm) else {
            return false;
        };
        let expected = match self.qop.as_deref() {
            None => response(algorithm, ha1, method, &self.uri, &self.nonce, None),
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let nc = format!("{:08x}", self.nc.unwrap_or(0));
                let quality = Some((nc.as_str(), self.cnonce.as_deref().unwrap_or(""), qop));
                response(algorithm, ha1, method, &self.uri, &self.nonce, quality)
            }
            Some(_) => return false,
        };
        same(expected.as_bytes(), self.response.to_ascii_lowercase().as_bytes())
    }
}

/// Comparison whose time does not tell where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |sum, (x, y)| sum | (x ^ y)) == 0
}

pub fn ha1(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> String {
    algorithm.hex(&[username, realm, password])
}

/// The response field (RFC 7616 §3.4.1); quality: (nc, cnonce, qop).
fn response(
    algorithm: Algorithm,
    ha1: &str,
    method: &str,
    uri: &str,
    nonce: &str,
    quality: Option<(&str, &str, &str)>,
) -> String {
    let ha2 = algorithm.hex(&[method, uri]);
    match quality {
        Some((nc, cnonce, qop)) => algorithm.hex(&[ha1, nonce, nc, cnonce, qop, &ha2]),
        None => algorithm.hex(&[ha1, nonce, &ha2]),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    pub opaque: Option<String>,
    pub algorithm: String,
    pub qop: Vec<String>,
    pub stale: bool,
}

impl Challenge {
    pub fn parse(value: &[u8]) -> Result<Self> {
        let fields = Fields::parse(value)?;
        let qop = fields.get("qop").unwrap_or("");
        Ok(Self {
            realm: fields.need("realm")?,
            nonce: fields.need("nonce")?,
            opaque: fields.get("opaque").map(str::to_owned),
            algorithm: fields.get("algorithm").unwrap_or("MD5").to_owned(),
            qop: qop.split(',').map(|q| q.trim().to_owned()).filter(|q| !q.is_empty()).collect(),
            stale: fields.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    pub fn write(&self) -> String {
        let mut out = b"Digest realm=".to_vec();
        push_quoted(&mut out, self.realm.as_bytes());
        out.extend_from_slice(b", nonce=");
        push_quoted(&mut out, self.nonce.as_bytes());
        if let Some(opaque) = &self.opaque {
            out.extend_from_slice(b", opaque=");
            push_quoted(&mut out, opaque.as_bytes());
        }
        if self.stale {
            out.extend_from_slice(b", stale=true");
        }
        out.extend_from_slice(format!(", algorithm={}", self.algorithm).as_bytes());
        if !self.qop.is_empty() {
            out.extend_from_slice(b", qop=");
            push_quoted(&mut out, self.qop.join(",").as_bytes());
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// What a client cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    Algorithm,
    Qop,
}

/// Who answers a challenge, for what.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub method: &'a str,
    pub uri: &'a str,
    pub username: &'a str,
    pub cnonce: &'a str,
    pub nc: u32,
}

/// Header value answering a challenge with H(A1).
pub fn answer(
    challenge: &Challenge,
    who: &Answer<'_>,
    ha1: &str,
) -> std::result::Result<String, Unsupported> {
    let algorithm = Algorithm::of(&challenge.algorithm).ok_or(Unsupported::Algorithm)?;
    let with_qop = challenge.qop.iter().any(|qop| qop.eq_ignore_ascii_case("auth"));
    if !challenge.qop.is_empty() && !with_qop {
        return Err(Unsupported::Qop);
    }
    let nc = format!("{:08x}", who.nc);
    let quality = with_qop.then_some((nc.as_str(), who.cnonce, "auth"));
    let response = response(algorithm, ha1, who.method, who.uri, &challenge.nonce, quality);
    let mut out = b"Digest username=".to_vec();
    push_quoted(&mut out, who.username.as_bytes());
    for (name, value) in [("realm", &challenge.realm), ("nonce", &challenge.nonce)] {
        out.extend_from_slice(format!(", {name}=").as_bytes());
        push_quoted(&mut out, value.as_bytes());
    }
    out.extend_from_slice(b", uri=");
    push_quoted(&mut out, who.uri.as_bytes());
    out.extend_from_slice(format!(", response=\"{response}\", algorithm={}", algorithm.name()).as_bytes());
    if with_qop {
        out.extend_from_slice(b", cnonce=");
        push_quoted(&mut out, who.cnonce.as_bytes());
        out.extend_from_slice(format!(", qop=auth, nc={nc}").as_bytes());
    }
    if let Some(opaque) = &challenge.opaque {
        out.extend_from_slice(b", opaque=");
        push_quoted(&mut out, opaque.as_bytes());
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_rfc_7616_3_9_1() {
        let uri = "/dir/index.html";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        for (algorithm, expected) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let ha1 = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life");
            let quality = Some(("00000001", cnonce, "auth"));
            assert_eq!(response(algorithm, &ha1, "GET", uri, nonce, quality), expected);
        }
    }

    #[test]
    fn client_and_server_agree_and_a_wrong_password_does_not() {
        for (algorithm, qop) in
            [("MD5", vec![]), ("MD5", vec!["auth".to_owned()]), ("SHA-256", vec!["auth".to_owned()])]
        {
            let challenge = Challenge {
                realm: "r \"q\"".to_owned(),
                nonce: "n".to_owned(),
                opaque: Some("o".to_owned()),
                algorithm: algorithm.to_owned(),
                qop,
                stale: false,
            };
            let challenge = Challenge::parse(challenge.write().as_bytes()).unwrap();
            let kind = Algorithm::of(algorithm).unwrap();
            let hash = ha1(kind, "u", &challenge.realm, "p");
            let who = Answer { method: "REGISTER", uri: "sip:x", username: "u", cnonce: "c", nc: 2 };
            let header = answer(&challenge, &who, &hash).unwrap();
            let parsed = Authorization::parse(header.as_bytes()).unwrap();
            assert!(parsed.verify("REGISTER", &hash));
            assert!(!parsed.verify("INVITE", &hash));
            assert!(!parsed.verify("REGISTER", &ha1(kind, "u", &challenge.realm, "wrong")));
        }
    }

    #[test]
    fn refused() {
        for (text, rule) in [
            ("Basic abc", "digest-scheme"),
            ("Digest", "digest"),
            ("Digest username=\"a", "digest"),
            ("Digest username=\"a\"", "digest-missing-field"),
            ("Digest username=\"a\", username=\"b\"", "digest-repeated-field"),
            ("Digest username=a,realm=b,nonce=c,uri=d,response=e,nc=1", "digest-nc"),
            ("Digest username=a,realm=b,nonce=c,uri=d,response=e,qop=auth", "digest-missing-field"),
        ] {
            assert_eq!(Authorization::parse(text.as_bytes()).unwrap_err().rule, rule, "{text}");
        }
    }
}
