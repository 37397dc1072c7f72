//! Message, Request, Response, parse.

use super::convert::{check_header, header_pairs, text, AddressLike};
use super::errors::parse_error;
use super::name_addr::NameAddr;
use super::via::{CSeq, Via};
use crate::sip::chars::{is_token_text, number, unfolded};
use crate::sip::header::HeaderId;
use crate::sip::message::Message as Core;
use crate::sip::params::{first_of_list, split_list};
use crate::sip::reason::phrase;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[pyclass(subclass, module = "voicecore.sip")]
pub struct Message {
    pub core: Core,
}

impl Message {
    fn address(&self, id: HeaderId) -> PyResult<NameAddr> {
        NameAddr::checked(unfolded(self.core.header(id).unwrap_or(b"")))
    }

    fn addresses(&self, id: HeaderId) -> PyResult<Vec<NameAddr>> {
        let view = self.core.view();
        view.values(id).into_iter().map(|value| NameAddr::checked(unfolded(value))).collect()
    }

    fn small_number(&self, id: HeaderId) -> Option<u64> {
        self.core.header(id).and_then(number)
    }
}

#[pymethods]
impl Message {
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.core.view().body())
    }

    #[setter]
    fn set_body(&mut self, body: &[u8]) {
        self.core.set_body(body);
    }

    #[getter]
    fn call_id(&self) -> String {
        text(self.core.header(HeaderId::CallId).unwrap_or(b""))
    }

    #[getter]
    fn cseq(&self) -> PyResult<CSeq> {
        let (number, method) =
            self.core.cseq().ok_or_else(|| PyValueError::new_err("the message has no usable CSeq"))?;
        Ok(CSeq { number, method: text(method) })
    }

    #[getter]
    fn via(&self) -> PyResult<Option<Via>> {
        self.core.header(HeaderId::Via).map(Via::checked).transpose()
    }

    #[getter]
    #[allow(clippy::wrong_self_convention)]
    fn from_(&self) -> PyResult<NameAddr> {
        self.address(HeaderId::From)
    }

    #[getter]
    fn to(&self) -> PyResult<NameAddr> {
        self.address(HeaderId::To)
    }

    #[getter]
    #[allow(clippy::wrong_self_convention)]
    fn from_tag(&self) -> Option<String> {
        self.core.from_tag().map(text)
    }

    #[getter]
    fn to_tag(&self) -> Option<String> {
        self.core.to_tag().map(text)
    }

    #[getter]
    fn contact(&self) -> PyResult<Option<NameAddr>> {
        match self.core.header(HeaderId::Contact) {
            None | Some(b"*") => Ok(None),
            Some(value) => NameAddr::checked(unfolded(&value[..first_of_list(value)])).map(Some),
        }
    }

    #[getter]
    fn contacts(&self) -> PyResult<Vec<NameAddr>> {
        if self.core.header(HeaderId::Contact) == Some(b"*") {
            return Ok(Vec::new());
        }
        self.addresses(HeaderId::Contact)
    }

    #[getter]
    fn routes(&self) -> PyResult<Vec<NameAddr>> {
        self.addresses(HeaderId::Route)
    }

    #[getter]
    fn record_routes(&self) -> PyResult<Vec<NameAddr>> {
        self.addresses(HeaderId::RecordRoute)
    }

    #[getter]
    fn max_forwards(&self) -> Option<u64> {
        self.small_number(HeaderId::MaxForwards)
    }

    #[getter]
    fn expires(&self) -> Option<u64> {
        self.small_number(HeaderId::Expires)
    }

    #[getter]
    fn content_type(&self) -> Option<String> {
        self.core.header(HeaderId::ContentType).map(unfolded)
    }

    #[setter]
    fn set_content_type(&mut self, value: Option<&str>) -> PyResult<()> {
        match value {
            Some(value) => self.set("Content-Type", value),
            None => {
                self.core.remove("Content-Type");
                Ok(())
            }
        }
    }

    #[getter]
    fn authorization(&self) -> Option<String> {
        let value = self.core.header(HeaderId::Authorization);
        value.or_else(|| self.core.header(HeaderId::ProxyAuthorization)).map(unfolded)
    }

    fn get(&self, name: &str) -> Option<String> {
        self.core.get(name).map(unfolded)
    }

    fn get_all(&self, name: &str) -> Vec<String> {
        self.core.named(name.as_bytes()).map(unfolded).collect()
    }

    fn get_values(&self, name: &str) -> Vec<String> {
        self.core.named(name.as_bytes()).flat_map(split_list).map(unfolded).collect()
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.core.all().map(|(name, value)| (text(name), unfolded(value))).collect()
    }

    fn set(&mut self, name: &str, value: &str) -> PyResult<()> {
        check_header(name, value)?;
        self.core.set(name, value.as_bytes());
        Ok(())
    }

    fn append(&mut self, name: &str, value: &str) -> PyResult<()> {
        check_header(name, value)?;
        self.core.append(name, value.as_bytes());
        Ok(())
    }

    fn prepend(&mut self, name: &str, value: &str) -> PyResult<()> {
        check_header(name, value)?;
        self.core.prepend(name, value.as_bytes());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> usize {
        self.core.remove(name)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.core.to_bytes())
    }

    fn copy(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let core = slf.borrow().core.clone();
        wrap(slf.py(), core)
    }

    fn __repr__(&self) -> String {
        let bytes = self.core.to_bytes();
        let end = memchr::memchr(b'\r', &bytes).unwrap_or(bytes.len());
        format!("<{}>", text(&bytes[..end]))
    }
}

#[pyclass(extends = Message, module = "voicecore.sip")]
pub struct Request {}

#[pyclass(extends = Message, module = "voicecore.sip")]
pub struct Response {}

/// A Python object for a message: Request or Response.
pub fn wrap(py: Python<'_>, core: Core) -> PyResult<Py<PyAny>> {
    if core.view().is_request() {
        Ok(Py::new(py, (Request {}, Message { core }))?.into_any())
    } else {
        Ok(Py::new(py, (Response {}, Message { core }))?.into_any())
    }
}

pub fn wrap_request(py: Python<'_>, core: Core) -> PyResult<Py<Request>> {
    Py::new(py, (Request {}, Message { core }))
}

pub fn wrap_response(py: Python<'_>, core: Core) -> PyResult<Py<Response>> {
    Py::new(py, (Response {}, Message { core }))
}

pub fn check_method(method: &str) -> PyResult<()> {
    if is_token_text(method.as_bytes()) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("method: {method:?} is no token")))
}

/// Extras that builders share: Contact, headers, Content-Type, body.
pub fn finish(
    core: &mut Core,
    contact: Option<AddressLike<'_>>,
    headers: Option<&Bound<'_, PyAny>>,
    content_type: Option<&str>,
    body: &[u8],
) -> PyResult<()> {
    if let Some(contact) = contact {
        core.push("Contact", contact.into_text()?.as_bytes());
    }
    for (name, value) in header_pairs(headers)? {
        core.push(&name, value.as_bytes());
    }
    if let Some(content_type) = content_type {
        check_header("Content-Type", content_type)?;
        core.push("Content-Type", content_type.as_bytes());
    }
    if !body.is_empty() {
        core.set_body(body);
    }
    Ok(())
}

pub fn check_cseq(number: u32) -> PyResult<u32> {
    if number < 1 << 31 {
        return Ok(number);
    }
    Err(PyValueError::new_err("cseq: 0..=2**31-1"))
}

pub fn check_status(status: u16) -> PyResult<()> {
    if (100..700).contains(&status) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("status: {status} is not in 100..=699")))
}

#[pymethods]
impl Response {
    #[staticmethod]
    #[pyo3(signature = (status, reason=None, *, headers=None, body=None))]
    fn new(
        py: Python<'_>,
        status: u16,
        reason: Option<&str>,
        headers: Option<&Bound<'_, PyAny>>,
        body: Option<&[u8]>,
    ) -> PyResult<Py<Self>> {
        check_status(status)?;
        let mut core = Core::response(status, reason.unwrap_or_else(|| phrase(status)));
        finish(&mut core, None, headers, None, body.unwrap_or(b""))?;
        wrap_response(py, core)
    }

    #[getter]
    fn status(slf: PyRef<'_, Self>) -> u16 {
        slf.as_super().core.view().status()
    }

    #[setter]
    fn set_status(mut slf: PyRefMut<'_, Self>, status: u16) -> PyResult<()> {
        check_status(status)?;
        slf.as_super().core.set_status(status, phrase(status));
        Ok(())
    }

    #[getter]
    fn reason(slf: PyRef<'_, Self>) -> String {
        text(slf.as_super().core.reason())
    }

    #[setter]
    fn set_reason(mut slf: PyRefMut<'_, Self>, reason: &str) -> PyResult<()> {
        check_header("Reason", reason)?;
        let core = &mut slf.as_super().core;
        let status = core.view().status();
        core.set_status(status, reason);
        Ok(())
    }
}

#[pyfunction]
fn parse(py: Python<'_>, data: &[u8]) -> PyResult<Py<PyAny>> {
    let core = Core::parse(data).map_err(parse_error)?;
    wrap(py, core)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Message>()?;
    module.add_class::<Request>()?;
    module.add_class::<Response>()?;
    module.add_function(wrap_pyfunction!(parse, module)?)
}
