//! The only place that knows Python: thin classes over the crate's types. Documented in `python/voicecore/**/*.pyi`.

mod convert;
mod dialog;
mod digest;
mod endpoint;
mod errors;
mod events;
mod hash;
mod message;
mod names;
mod proxy;
mod sdp;
mod values;

use crate::sip::limits;
use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("MAX_MESSAGE_SIZE", limits::MAX_MESSAGE_SIZE)?;
    module.add("MAX_HEADER_COUNT", limits::MAX_HEADER_COUNT)?;
    module.add("MAX_LINE_LENGTH", limits::MAX_LINE_LENGTH)?;
    module.add("MAX_URI_LENGTH", limits::MAX_URI_LENGTH)?;
    module.add("MAX_PARAMS", limits::MAX_PARAMS)?;
    module.add("MAX_NESTING", limits::MAX_NESTING)?;
    errors::register(module)?;
    hash::register(module)?;
    values::register(module)?;
    names::register(module)?;
    message::register(module)?;
    events::register(module)?;
    endpoint::register(module)?;
    dialog::register(module)?;
    digest::register(module)?;
    sdp::register(module)?;
    proxy::register(module)?;
    Ok(())
}
