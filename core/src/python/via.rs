//! Via and CSeq: immutable values.

use super::convert::text;
use super::errors::parse_error;
use super::text::{hashed, ParamList};
use crate::sip::chars::{is_token_text, number};
use crate::sip::params::{unquote, Params};
use crate::sip::via::ViaRef;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

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
