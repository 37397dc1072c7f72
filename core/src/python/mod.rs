//! The only place that knows Python: thin classes over the crate's types. Documented in `python/voicecore/**/*.pyi`.

mod convert;
mod dialog;
mod digest;
mod endpoint;
mod errors;
mod events;
mod hash;
mod message;
mod name_addr;
mod names;
mod proxy;
mod proxy_config;
mod request;
mod sdp;
mod text;
mod uri;
mod via;

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
    errors::register(module)?;
    hash::register(module)?;
    module.add_class::<uri::Uri>()?;
    module.add_class::<name_addr::NameAddr>()?;
    module.add_class::<via::Via>()?;
    module.add_class::<via::CSeq>()?;
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
