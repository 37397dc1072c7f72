//! Uri, NameAddr, Via, CSeq: immutable values that keep their text.

use super::convert::{text, UriLike};
use super::errors::parse_error;
use crate::sip::chars::{escape, is_param, is_token_text, is_user, number, unescape};
use crate::sip::name_addr::NameAddrRef;
use crate::sip::params::{push_quoted, unquote, Params};
use crate::sip::uri::{literal_ip, UriRef};
use crate::sip::via::ViaRef;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::hash::{DefaultHasher, Hash, Hasher};

type ParamList = Vec<(String, Option<String>)>;

fn hashed(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Replaces, appends (value given) or removes a parameter in a `;a=b` text.
fn edited(params: &[u8], name: &str, set: Option<&[u8]>) -> Vec<u8> {
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

#[pyclass(frozen, module = "voicecore.sip")]
pub struct Uri {
    pub text: String,
}

impl Uri {
    pub fn checked(text: String) -> PyResult<Self> {
        UriRef::parse(text.as_bytes()).map_err(parse_error)?;
        Ok(Self { text })
    }

    pub fn parts(&self) -> UriRef<'_> {
        // Checked when made; an empty URI can only come from a bug here.
        UriRef::parse(self.text.as_bytes()).unwrap_or(UriRef {
            text: b"",
            scheme: b"",
            user: None,
            password: None,
            host: b"",
            port: None,
            params: b"",
            headers: None,
        })
    }

    /// The same URI with other parts, in canonical order.
    fn rebuilt(&self, user: Option<&[u8]>, host: &[u8], port: Option<u16>, params: &[u8]) -> PyResult<Self> {
        let parts = self.parts();
        let mut out = parts.scheme.to_vec();
        out.push(b':');
        if let Some(user) = user {
            out.extend_from_slice(user);
            if let Some(password) = parts.password {
                out.push(b':');
                out.extend_from_slice(password);
            }
            if !host.is_empty() {
                out.push(b'@');
            }
        }
        out.extend_from_slice(host);
        if let Some(port) = port {
            out.extend_from_slice(format!(":{port}").as_bytes());
        }
        out.extend_from_slice(params);
        if let Some(headers) = parts.headers {
            out.push(b'?');
            out.extend_from_slice(headers);
        }
        Self::checked(text(&out))
    }
}

fn uri_param(name: &str, value: Option<&str>) -> PyResult<Vec<u8>> {
    let mut out = vec![b';'];
    escape(name.as_bytes(), is_param, &mut out);
    if let Some(value) = value {
        if value.is_empty() {
            return Err(PyValueError::new_err(format!("parameter {name:?}: use None for no value")));
        }
        out.push(b'=');
        escape(value.as_bytes(), is_param, &mut out);
    }
    Ok(out)
}

fn host_text(host: &str) -> String {
    match literal_ip(host.as_bytes()) {
        Some(ip) if ip.is_ipv6() && !host.starts_with('[') => format!("[{host}]"),
        _ => host.to_owned(),
    }
}

#[pymethods]
impl Uri {
    #[staticmethod]
    fn parse(text: String) -> PyResult<Self> {
        Self::checked(text)
    }

    #[new]
    #[pyo3(signature = (host, *, user=None, port=None, scheme="sip", params=None))]
    fn new(
        host: &str,
        user: Option<&str>,
        port: Option<u16>,
        scheme: &str,
        params: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut out = format!("{scheme}:").into_bytes();
        if let Some(user) = user {
            escape(user.as_bytes(), is_user, &mut out);
            if !host.is_empty() {
                out.push(b'@');
            }
        }
        out.extend_from_slice(host_text(host).as_bytes());
        if let Some(port) = port {
            out.extend_from_slice(format!(":{port}").as_bytes());
        }
        if let Some(params) = params {
            for (name, value) in params.iter() {
                let value: Option<String> = value.extract()?;
                out.extend(uri_param(&name.extract::<String>()?, value.as_deref())?);
            }
        }
        let built = text(&out);
        let checked = Self::checked(built.clone())
            .map_err(|_| PyValueError::new_err(format!("{built:?} is no URI")))?;
        Ok(checked)
    }

    #[getter]
    fn scheme(&self) -> String {
        text(&self.parts().scheme.to_ascii_lowercase())
    }

    #[getter]
    fn user(&self) -> Option<String> {
        self.parts().user.map(|user| text(&unescape(user)))
    }

    #[getter]
    fn password(&self) -> Option<String> {
        self.parts().password.map(|password| text(&unescape(password)))
    }

    #[getter]
    fn host(&self) -> String {
        text(self.parts().host)
    }

    #[getter]
    fn port(&self) -> Option<u16> {
        self.parts().port
    }

    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        let all: ParamList = Params::new(self.parts().params)
            .map(|param| (text(&param.name.to_ascii_lowercase()), param.value.map(|v| text(&unescape(v)))))
            .collect();
        pyo3::types::PyTuple::new(py, all)
    }

    #[getter]
    fn headers(&self) -> Option<String> {
        self.parts().headers.map(text)
    }

    #[getter]
    fn secure(&self) -> bool {
        self.parts().is_secure()
    }

    fn param(&self, name: &str) -> Option<String> {
        self.parts().param(name.as_bytes()).map(|value| text(&unescape(value)))
    }

    #[pyo3(signature = (name, value=None))]
    fn with_param(&self, name: &str, value: Option<&str>) -> PyResult<Self> {
        let parts = self.parts();
        let params = edited(parts.params, name, Some(&uri_param(name, value)?));
        self.rebuilt(parts.user, parts.host, parts.port, &params)
    }

    fn without_param(&self, name: &str) -> PyResult<Self> {
        let parts = self.parts();
        self.rebuilt(parts.user, parts.host, parts.port, &edited(parts.params, name, None))
    }

    fn with_user(&self, user: Option<&str>) -> PyResult<Self> {
        let parts = self.parts();
        let escaped = user.map(|user| {
            let mut out = Vec::new();
            escape(user.as_bytes(), is_user, &mut out);
            out
        });
        self.rebuilt(escaped.as_deref(), parts.host, parts.port, parts.params)
    }

    #[pyo3(signature = (host, port=None))]
    fn with_host(&self, host: &str, port: Option<u16>) -> PyResult<Self> {
        let parts = self.parts();
        self.rebuilt(parts.user, host_text(host).as_bytes(), port, parts.params)
    }

    fn aor(&self) -> String {
        text(&self.parts().aor())
    }

    fn equivalent(&self, other: &Self) -> bool {
        self.parts().equivalent(&other.parts())
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("Uri({:?})", self.text)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().text == self.text)
    }

    fn __hash__(&self) -> u64 {
        hashed(&self.text)
    }
}

#[pyclass(frozen, module = "voicecore.sip")]
pub struct NameAddr {
    pub text: String,
}

impl NameAddr {
    pub fn checked(text: String) -> PyResult<Self> {
        let parts = NameAddrRef::parse(text.as_bytes()).map_err(parse_error)?;
        parts.uri().map_err(parse_error)?;
        Ok(Self { text })
    }

    fn parts(&self) -> NameAddrRef<'_> {
        NameAddrRef::parse(self.text.as_bytes()).unwrap_or(NameAddrRef {
            text: b"",
            display: None,
            uri: b"",
            uri_at: 0,
            params: b"",
        })
    }

    fn with_params(&self, params: &[u8]) -> PyResult<Self> {
        let parts = self.parts();
        let mut out = parts.display.map(<[u8]>::to_vec).unwrap_or_default();
        if !out.is_empty() {
            out.push(b' ');
        }
        out.push(b'<');
        out.extend_from_slice(parts.uri);
        out.push(b'>');
        out.extend_from_slice(params);
        Self::checked(text(&out))
    }
}

/// Header parameter: a token stays bare, a host too; anything else is quoted.
fn header_param(name: &str, value: Option<&str>) -> PyResult<Vec<u8>> {
    if !is_token_text(name.as_bytes()) {
        return Err(PyValueError::new_err(format!("parameter name {name:?} is no token")));
    }
    let mut out = format!(";{name}").into_bytes();
    if let Some(value) = value {
        if memchr::memchr3(b'\r', b'\n', 0, value.as_bytes()).is_some() {
            return Err(PyValueError::new_err(format!("parameter {name:?}: the value must be one line")));
        }
        out.push(b'=');
        if is_token_text(value.as_bytes()) || literal_ip(value.as_bytes()).is_some() {
            out.extend_from_slice(value.as_bytes());
        } else {
            push_quoted(&mut out, value.as_bytes());
        }
    }
    Ok(out)
}

#[pymethods]
impl NameAddr {
    #[staticmethod]
    fn parse(text: String) -> PyResult<Self> {
        Self::checked(text)
    }

    #[new]
    #[pyo3(signature = (uri, *, display_name=None, params=None))]
    fn new(
        uri: UriLike<'_>,
        display_name: Option<&str>,
        params: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut out = Vec::new();
        if let Some(name) = display_name {
            if memchr::memchr3(b'\r', b'\n', 0, name.as_bytes()).is_some() {
                return Err(PyValueError::new_err("display_name must be one line"));
            }
            push_quoted(&mut out, name.as_bytes());
            out.push(b' ');
        }
        out.push(b'<');
        out.extend_from_slice(uri.into_text()?.as_bytes());
        out.push(b'>');
        if let Some(params) = params {
            for (name, value) in params.iter() {
                let value: Option<String> = value.extract()?;
                out.extend(header_param(&name.extract::<String>()?, value.as_deref())?);
            }
        }
        Self::checked(text(&out))
    }

    #[getter]
    fn display_name(&self) -> Option<String> {
        self.parts().display.map(|name| text(&unquote(name)))
    }

    #[getter]
    fn uri(&self) -> Uri {
        Uri { text: text(self.parts().uri) }
    }

    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        let all: ParamList = Params::new(self.parts().params)
            .map(|param| (text(&param.name.to_ascii_lowercase()), param.value.map(|v| text(&unquote(v)))))
            .collect();
        pyo3::types::PyTuple::new(py, all)
    }

    #[getter]
    fn tag(&self) -> Option<String> {
        self.parts().tag().map(text)
    }

    fn param(&self, name: &str) -> Option<String> {
        self.parts().param(name.as_bytes()).map(|value| text(&unquote(value)))
    }

    #[pyo3(signature = (name, value=None))]
    fn with_param(&self, name: &str, value: Option<&str>) -> PyResult<Self> {
        self.with_params(&edited(self.parts().params, name, Some(&header_param(name, value)?)))
    }

    fn without_param(&self, name: &str) -> PyResult<Self> {
        self.with_params(&edited(self.parts().params, name, None))
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("NameAddr({:?})", self.text)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().text == self.text)
    }

    fn __hash__(&self) -> u64 {
        hashed(&self.text)
    }
}

#[pyclass(frozen, module = "voicecore.sip")]
pub struct Via {
    text: String,
}

impl Via {
    pub fn checked(value: &[u8]) -> PyResult<Self> {
        let parsed = ViaRef::parse(value).map_err(parse_error)?;
        Ok(Self { text: text(parsed.text) })
    }

    fn parts(&self) -> ViaRef<'_> {
        ViaRef::parse(self.text.as_bytes()).unwrap_or(ViaRef {
            text: b"",
            transport: b"",
            host: b"",
            port: None,
            params: b"",
        })
    }
}

#[pymethods]
impl Via {
    #[staticmethod]
    fn parse(text: &str) -> PyResult<Self> {
        Self::checked(text.as_bytes())
    }

    #[getter]
    fn transport(&self) -> String {
        text(&self.parts().transport.to_ascii_uppercase())
    }

    #[getter]
    fn host(&self) -> String {
        text(self.parts().host)
    }

    #[getter]
    fn port(&self) -> Option<u16> {
        self.parts().port
    }

    #[getter]
    fn branch(&self) -> Option<String> {
        self.parts().branch().map(text)
    }

    #[getter]
    fn received(&self) -> Option<String> {
        self.parts().param(b"received").map(text)
    }

    #[getter]
    fn rport(&self) -> Option<u16> {
        self.parts().param(b"rport").and_then(number).and_then(|n| u16::try_from(n).ok())
    }

    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        let all: ParamList = Params::new(self.parts().params)
            .map(|param| (text(&param.name.to_ascii_lowercase()), param.value.map(|v| text(&unquote(v)))))
            .collect();
        pyo3::types::PyTuple::new(py, all)
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("Via({:?})", self.text)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().text == self.text)
    }

    fn __hash__(&self) -> u64 {
        hashed(&self.text)
    }
}

#[pyclass(frozen, module = "voicecore.sip", eq, hash, get_all)]
#[derive(PartialEq, Eq, Hash)]
pub struct CSeq {
    pub number: u32,
    pub method: String,
}

#[pymethods]
impl CSeq {
    #[new]
    fn new(number: u32, method: String) -> PyResult<Self> {
        if number >= 1 << 31 || !is_token_text(method.as_bytes()) {
            return Err(PyValueError::new_err("number: 0..=2**31-1; method: a token"));
        }
        Ok(Self { number, method })
    }

    fn __str__(&self) -> String {
        format!("{} {}", self.number, self.method)
    }

    fn __repr__(&self) -> String {
        format!("CSeq({}, {:?})", self.number, self.method)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Uri>()?;
    module.add_class::<NameAddr>()?;
    module.add_class::<Via>()?;
    module.add_class::<CSeq>()
}
