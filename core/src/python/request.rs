//! Requests: building them and replying to them.

use super::convert::{check_header, text, AddressLike, UriLike};
use super::message::{
    check_cseq, check_method, check_status, finish, wrap_request, wrap_response, Request, Response,
};
use super::names::random_name;
use super::uri::Uri;
use crate::sip::chars::is_token_text;
use crate::sip::message::Message as Core;
use crate::sip::name_addr::NameAddrRef;
use crate::sip::reply::reply;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

#[pymethods]
impl Request {
    #[staticmethod]
    #[pyo3(signature = (method, uri, *, from_, to, call_id=None, cseq=1, contact=None, routes=None, max_forwards=70,
                        body=None, content_type=None, headers=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        method: &str,
        uri: UriLike<'_>,
        from_: AddressLike<'_>,
        to: AddressLike<'_>,
        call_id: Option<&str>,
        cseq: u32,
        contact: Option<AddressLike<'_>>,
        routes: Option<&Bound<'_, PyAny>>,
        max_forwards: u8,
        body: Option<&[u8]>,
        content_type: Option<&str>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Self>> {
        check_method(method)?;
        let mut core = Core::request(method, &uri.into_text()?);
        if let Some(routes) = routes {
            for route in routes.try_iter()? {
                core.push("Route", route?.extract::<AddressLike<'_>>()?.into_text()?.as_bytes());
            }
        }
        core.push("Max-Forwards", max_forwards.to_string().as_bytes());
        let mut from = from_.into_text()?;
        if NameAddrRef::parse(from.as_bytes()).is_ok_and(|address| address.tag().is_none()) {
            if !from.contains('<') {
                from = format!("<{from}>");
            }
            from.push_str(";tag=");
            from.push_str(&text(&random_name(12)));
        }
        core.push("From", from.as_bytes());
        core.push("To", to.into_text()?.as_bytes());
        let call_id = call_id.map_or_else(|| text(&random_name(24)), str::to_owned);
        check_header("Call-ID", &call_id)?;
        core.push("Call-ID", call_id.as_bytes());
        core.push("CSeq", format!("{} {method}", check_cseq(cseq)?).as_bytes());
        finish(&mut core, contact, headers, content_type, body.unwrap_or(b""))?;
        wrap_request(py, core)
    }

    #[getter]
    fn method(slf: PyRef<'_, Self>) -> String {
        text(slf.as_super().core.view().method())
    }

    #[setter]
    fn set_method(mut slf: PyRefMut<'_, Self>, method: &str) -> PyResult<()> {
        check_method(method)?;
        slf.as_super().core.set_method(method);
        Ok(())
    }

    #[getter]
    fn uri(slf: PyRef<'_, Self>) -> PyResult<Uri> {
        Uri::checked(text(slf.as_super().core.view().uri()))
    }

    #[setter]
    fn set_uri(mut slf: PyRefMut<'_, Self>, uri: UriLike<'_>) -> PyResult<()> {
        let uri = uri.into_text()?;
        slf.as_super().core.set_uri(&uri);
        Ok(())
    }

    #[pyo3(signature = (status, reason=None, *, to_tag=None, contact=None, body=None, content_type=None, headers=None))]
    #[allow(clippy::too_many_arguments)]
    fn reply(
        slf: PyRef<'_, Self>,
        status: u16,
        reason: Option<&str>,
        to_tag: Option<&str>,
        contact: Option<AddressLike<'_>>,
        body: Option<&[u8]>,
        content_type: Option<&str>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Response>> {
        check_status(status)?;
        let tag = match to_tag {
            Some(tag) if !is_token_text(tag.as_bytes()) => {
                return Err(PyValueError::new_err(format!("to_tag: {tag:?} is no token")));
            }
            Some(tag) => Some(tag.as_bytes().to_vec()),
            None if status == 100 => None,
            None => Some(random_name(12)),
        };
        let mut core = reply(&slf.as_super().core.view(), status, reason, tag.as_deref());
        finish(&mut core, contact, headers, content_type, body.unwrap_or(b""))?;
        wrap_response(slf.py(), core)
    }
}
