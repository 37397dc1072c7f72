//! Between Python's and the crate's ways to write things.

use super::name_addr::NameAddr;
use super::uri::Uri;
use crate::sip::message::header_is_writable;
use crate::sip::uri::literal_ip;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::net::SocketAddr;

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// (host, port) of Python.
pub fn address_out(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

pub fn address_in((host, port): (String, u16)) -> PyResult<SocketAddr> {
    literal_ip(host.as_bytes())
        .map(|ip| SocketAddr::new(ip, port))
        .ok_or_else(|| PyValueError::new_err(format!("host: {host:?} is no literal IP address")))
}

/// A URI, or its text.
#[derive(FromPyObject)]
pub enum UriLike<'py> {
    Value(PyRef<'py, Uri>),
    Text(String),
}

impl UriLike<'_> {
    pub fn into_text(self) -> PyResult<String> {
        match self {
            Self::Value(value) => Ok(value.text.clone()),
            Self::Text(text) => Uri::checked(text).map(|uri| uri.text),
        }
    }
}

/// A name-addr, or its text.
#[derive(FromPyObject)]
pub enum AddressLike<'py> {
    Value(PyRef<'py, NameAddr>),
    Text(String),
}

impl AddressLike<'_> {
    pub fn into_text(self) -> PyResult<String> {
        match self {
            Self::Value(value) => Ok(value.text.clone()),
            Self::Text(text) => NameAddr::checked(text).map(|address| address.text),
        }
    }
}

/// Header lines from any iterable of pairs, each fit to be written.
pub fn header_pairs(pairs: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(String, String)>> {
    let Some(pairs) = pairs else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for pair in pairs.try_iter()? {
        let (name, value): (String, String) = pair?.extract()?;
        check_header(&name, &value)?;
        all.push((name, value));
    }
    Ok(all)
}

pub fn check_header(name: &str, value: &str) -> PyResult<()> {
    if header_is_writable(name, value) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("header {name:?}: the name must be a token, the value one line")))
}
