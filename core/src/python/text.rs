//! What the value classes share: their text, and the parameters in it.

use crate::sip::params::Params;
use std::hash::{DefaultHasher, Hash, Hasher};

pub type ParamList = Vec<(String, Option<String>)>;

pub fn hashed(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Replaces, appends (value given) or removes a parameter in a `;a=b` text.
pub fn edited(params: &[u8], name: &str, set: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(params.len() + 16);
    let mut put = false;
    for param in Params::new(params) {
        if param.name.eq_ignore_ascii_case(name.as_bytes()) {
            if let Some(set) = set.filter(|_| !put) {
                out.extend_from_slice(set);
                put = true;
            }
            continue;
        }
        out.push(b';');
        out.extend_from_slice(param.name);
        if let Some(value) = param.value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    if let Some(set) = set.filter(|_| !put) {
        out.extend_from_slice(set);
    }
    out
}
