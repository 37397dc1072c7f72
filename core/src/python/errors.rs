//! Exceptions with their attributes.

use crate::sip::agent::SendError;
use crate::sip::ParseError as CoreError;
use pyo3::create_exception;
use pyo3::exceptions::{PyLookupError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

create_exception!(voicecore.sip, ParseError, PyValueError);
create_exception!(voicecore.sip, DialogError, PyValueError);
create_exception!(voicecore.sip, TransactionGone, PyLookupError);

pub fn parse_error(error: CoreError) -> PyErr {
    Python::attach(|py| {
        let raised = ParseError::new_err(error.to_string());
        let value = raised.value(py);
        let set = value
            .setattr("position", error.position)
            .and_then(|()| value.setattr("rule", error.rule))
            .and_then(|()| value.setattr("status", error.status));
        set.err().unwrap_or(raised)
    })
}

pub fn dialog_error(status: u16, text: &str) -> PyErr {
    Python::attach(|py| {
        let raised = DialogError::new_err(text.to_owned());
        let set = raised.value(py).setattr("status", status);
        set.err().unwrap_or(raised)
    })
}

pub fn send_error(error: SendError) -> PyErr {
    match error {
        SendError::NoSocket => PyRuntimeError::new_err("no socket is bound for this address"),
        SendError::Method => PyValueError::new_err("ACK and CANCEL have calls of their own"),
        SendError::Incomplete(what) => PyValueError::new_err(format!("the message has no usable {what}")),
        SendError::Gone => TransactionGone::new_err("the transaction is unknown, over, or past this step"),
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("ParseError", py.get_type::<ParseError>())?;
    module.add("DialogError", py.get_type::<DialogError>())?;
    module.add("TransactionGone", py.get_type::<TransactionGone>())
}
