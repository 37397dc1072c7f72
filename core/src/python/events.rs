//! Events as Python sees them.

use super::convert::address_out;
use super::message::{wrap, wrap_request, Request};
use crate::sip::agent::event::Event;
use pyo3::prelude::*;

type Address = (String, u16);

macro_rules! event {
    ($name:ident { $($field:ident: $kind:ty),* }) => {
        #[pyclass(frozen, get_all, module = "voicecore.sip")]
        pub struct $name {
            $(pub $field: $kind,)*
        }

        #[pymethods]
        impl $name {
            #[classattr]
            #[allow(non_upper_case_globals)]
            const __match_args__: event!(@tuple $($field)*) = ($(stringify!($field),)*);

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                let mut parts: Vec<String> = Vec::new();
                $(parts.push(format!("{}={}", stringify!($field), slf.getattr(stringify!($field))?.repr()?));)*
                Ok(format!("{}({})", stringify!($name), parts.join(", ")))
            }
        }
    };
    (@tuple $a:ident) => { (&'static str,) };
    (@tuple $a:ident $b:ident) => { (&'static str, &'static str) };
    (@tuple $a:ident $b:ident $c:ident) => { (&'static str, &'static str, &'static str) };
    (@tuple $a:ident $b:ident $c:ident $d:ident) => { (&'static str, &'static str, &'static str, &'static str) };
}

event!(RequestReceived { txn: u64, request: Py<Request>, source: Address, local: Address });
event!(ResponseReceived { txn: u64, response: Py<PyAny>, source: Address });
event!(AckReceived { txn: Option<u64>, request: Py<Request>, source: Address });
event!(CancelReceived { txn: u64, request: Py<Request> });
event!(TransactionTimeout { txn: u64, kind: &'static str });
event!(TransportFailed { txn: u64, reason: &'static str });
event!(TransactionTerminated { txn: u64 });
event!(SendsHeld { count: usize });

/// A Python object for an event.
pub fn event_object(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    Ok(match event {
        Event::Request { txn, message, source, local } => {
            let request = wrap_request(py, message)?;
            let (source, local) = (address_out(source), address_out(local));
            Py::new(py, RequestReceived { txn, request, source, local })?.into_any()
        }
        Event::Response { txn, message, source } => {
            let response = wrap(py, message)?;
            Py::new(py, ResponseReceived { txn, response, source: address_out(source) })?.into_any()
        }
        Event::Ack { txn, message, source } => {
            let request = wrap_request(py, message)?;
            Py::new(py, AckReceived { txn, request, source: address_out(source) })?.into_any()
        }
        Event::Cancel { txn, message } => {
            let request = wrap_request(py, message)?;
            Py::new(py, CancelReceived { txn, request })?.into_any()
        }
        Event::Timeout { txn, kind } => Py::new(py, TransactionTimeout { txn, kind })?.into_any(),
        Event::Failed { txn, reason } => Py::new(py, TransportFailed { txn, reason })?.into_any(),
        Event::Terminated { txn } => Py::new(py, TransactionTerminated { txn })?.into_any(),
        Event::Held { count } => Py::new(py, SendsHeld { count })?.into_any(),
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RequestReceived>()?;
    module.add_class::<ResponseReceived>()?;
    module.add_class::<AckReceived>()?;
    module.add_class::<CancelReceived>()?;
    module.add_class::<TransactionTimeout>()?;
    module.add_class::<TransportFailed>()?;
    module.add_class::<TransactionTerminated>()?;
    module.add_class::<SendsHeld>()
}
