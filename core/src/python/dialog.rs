//! Dialog and DialogState.

use super::convert::AddressLike;
use super::errors::{dialog_error, parse_error};
use super::message::{check_cseq, finish, wrap_request, Message, Request, Response};
use super::uri::Uri;
use crate::sip::chars::is_token_text;
use crate::sip::dialog::Dialog as Core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[pyclass(frozen, eq, module = "voicecore.sip")]
#[derive(Clone, PartialEq)]
pub struct DialogState {
    core: Core,
}

#[pymethods]
impl DialogState {
    #[new]
    #[pyo3(signature = (*, call_id, local_tag, remote_tag, local_uri, remote_uri, local_cseq, remote_cseq,
                        remote_target, route_set, is_uac, secure=false, early=false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        call_id: String,
        local_tag: String,
        remote_tag: String,
        local_uri: String,
        remote_uri: String,
        local_cseq: u32,
        remote_cseq: i64,
        remote_target: String,
        route_set: Vec<String>,
        is_uac: bool,
        secure: bool,
        early: bool,
    ) -> PyResult<Self> {
        check_cseq(local_cseq)?;
        let core = Core {
            call_id,
            local_tag,
            remote_tag,
            local_uri,
            remote_uri,
            local_cseq,
            remote_cseq,
            remote_target,
            route_set,
            is_uac,
            secure,
            early,
        };
        let fields = [&core.call_id, &core.local_tag, &core.remote_tag, &core.local_uri, &core.remote_uri];
        for value in fields.into_iter().chain(&core.route_set).chain([&core.remote_target]) {
            super::endpoint::one_line("dialog state", value)?;
        }
        Ok(Self { core })
    }

    #[getter]
    fn call_id(&self) -> &str {
        &self.core.call_id
    }

    #[getter]
    fn local_tag(&self) -> &str {
        &self.core.local_tag
    }

    #[getter]
    fn remote_tag(&self) -> &str {
        &self.core.remote_tag
    }

    #[getter]
    fn local_uri(&self) -> &str {
        &self.core.local_uri
    }

    #[getter]
    fn remote_uri(&self) -> &str {
        &self.core.remote_uri
    }

    #[getter]
    fn local_cseq(&self) -> u32 {
        self.core.local_cseq
    }

    #[getter]
    fn remote_cseq(&self) -> i64 {
        self.core.remote_cseq
    }

    #[getter]
    fn remote_target(&self) -> &str {
        &self.core.remote_target
    }

    #[getter]
    fn route_set<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.core.route_set)
    }

    #[getter]
    fn is_uac(&self) -> bool {
        self.core.is_uac
    }

    #[getter]
    fn secure(&self) -> bool {
        self.core.secure
    }

    #[getter]
    fn early(&self) -> bool {
        self.core.early
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.core).replacen("Dialog", "DialogState", 1)
    }
}

#[pyclass(frozen, module = "voicecore.sip")]
pub struct Dialog {
    core: Mutex<Core>,
}

impl Dialog {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrap(core: Core) -> Self {
        Self { core: Mutex::new(core) }
    }
}

#[pymethods]
impl Dialog {
    #[staticmethod]
    fn from_request(request: PyRef<'_, Request>, local_tag: &str) -> PyResult<Self> {
        if !is_token_text(local_tag.as_bytes()) {
            return Err(PyValueError::new_err(format!("local_tag: {local_tag:?} is no token")));
        }
        Core::from_request(&request.as_super().core, local_tag).map(Self::wrap).map_err(parse_error)
    }

    #[staticmethod]
    fn from_response(request: PyRef<'_, Request>, response: PyRef<'_, Response>) -> PyResult<Self> {
        let (request, response) = (&request.as_super().core, &response.as_super().core);
        let status = response.view().status();
        if !(101..300).contains(&status) || response.to_tag().is_none() {
            return Err(PyValueError::new_err(format!(
                "response: a {status} makes no dialog without To tag, 101..=299"
            )));
        }
        Core::from_response(request, response).map(Self::wrap).map_err(parse_error)
    }

    #[staticmethod]
    fn restore(state: PyRef<'_, DialogState>) -> Self {
        Self::wrap(state.core.clone())
    }

    fn state(&self) -> DialogState {
        DialogState { core: self.lock().clone() }
    }

    #[getter]
    fn id(&self) -> (String, String, String) {
        let core = self.lock();
        (core.call_id.clone(), core.local_tag.clone(), core.remote_tag.clone())
    }

    #[getter]
    fn early(&self) -> bool {
        self.lock().early
    }

    #[pyo3(signature = (message=None))]
    fn confirm(&self, message: Option<PyRef<'_, Message>>) -> PyResult<()> {
        self.lock().confirm(message.as_ref().map(|message| &message.core)).map_err(parse_error)
    }

    #[pyo3(signature = (method, *, cseq=None, contact=None, body=None, content_type=None, headers=None, max_forwards=70))]
    #[allow(clippy::too_many_arguments)]
    fn create_request(
        &self,
        py: Python<'_>,
        method: &str,
        cseq: Option<u32>,
        contact: Option<AddressLike<'_>>,
        body: Option<&[u8]>,
        content_type: Option<&str>,
        headers: Option<&Bound<'_, PyAny>>,
        max_forwards: u8,
    ) -> PyResult<Py<Request>> {
        if !is_token_text(method.as_bytes()) {
            return Err(PyValueError::new_err(format!("method: {method:?} is no token")));
        }
        let cseq = cseq.map(check_cseq).transpose()?;
        let mut request = self.lock().create_request(method, cseq, max_forwards);
        finish(&mut request, contact, headers, content_type, body.unwrap_or(b""))?;
        wrap_request(py, request)
    }

    fn next_hop(&self) -> PyResult<Uri> {
        let uri = self.lock().next_hop();
        Uri::checked(uri)
    }

    fn accept(&self, request: PyRef<'_, Request>) -> PyResult<()> {
        self.lock()
            .accept(&request.as_super().core)
            .map_err(|refused| dialog_error(refused.status, refused.why))
    }

    fn refresh_target(&self, response: PyRef<'_, Response>) -> PyResult<()> {
        self.lock().refresh_target(&response.as_super().core).map_err(parse_error)
    }

    fn advance_cseq(&self, by: u32) -> PyResult<()> {
        let mut core = self.lock();
        let next = core.local_cseq.checked_add(by).ok_or_else(|| PyValueError::new_err("by: too large"))?;
        core.local_cseq = check_cseq(next)?;
        Ok(())
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DialogState>()?;
    module.add_class::<Dialog>()
}
