//! Uri: an immutable value that keeps its text.

use super::convert::text;
use super::errors::parse_error;
use super::text::{edited, hashed, ParamList};
use crate::sip::chars::{escape, is_param, is_user, unescape};
use crate::sip::params::Params;
use crate::sip::uri::{literal_ip, UriRef};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

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
