//! NameAddr: an immutable value that keeps its text.

use super::convert::{text, UriLike};
use super::errors::parse_error;
use super::text::{edited, hashed, ParamList};
use super::uri::Uri;
use crate::sip::chars::is_token_text;
use crate::sip::name_addr::NameAddrRef;
use crate::sip::params::{push_quoted, unquote, Params};
use crate::sip::uri::literal_ip;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

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
