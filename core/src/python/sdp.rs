//! `voicecore.sip.sdp`.

use super::convert::address_in;
use super::errors::parse_error;
use crate::sip::sdp::{self, attribute, Direction, Line, Terms};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

fn direction_in(name: &str) -> PyResult<Direction> {
    Direction::of(name).ok_or_else(|| PyValueError::new_err(format!("direction: {name:?} is none")))
}

fn attributes<'py>(py: Python<'py>, lines: &[Line]) -> PyResult<Bound<'py, PyTuple>> {
    let all: Vec<(String, Option<String>)> = lines
        .iter()
        .filter(|line| line.kind == b'a')
        .map(|line| {
            let (name, value) = attribute(&line.value);
            (name.to_owned(), value.map(str::to_owned))
        })
        .collect();
    PyTuple::new(py, all)
}

#[pyclass(frozen, get_all, module = "voicecore.sip.sdp", name = "Origin")]
pub struct SdpOrigin {
    username: String,
    session_id: u64,
    version: u64,
    address: String,
}

#[pyclass(frozen, module = "voicecore.sip.sdp", name = "Media")]
pub struct SdpMedia {
    media: sdp::Media,
    #[pyo3(get)]
    address: Option<String>,
    direction: Direction,
    #[pyo3(get)]
    held: bool,
}

#[pymethods]
impl SdpMedia {
    #[getter]
    fn kind(&self) -> &str {
        &self.media.kind
    }

    #[getter]
    fn port(&self) -> u16 {
        self.media.port
    }

    #[getter]
    fn protocol(&self) -> &str {
        &self.media.protocol
    }

    #[getter]
    fn formats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.media.formats)
    }

    #[getter]
    fn direction(&self) -> &'static str {
        self.direction.name()
    }

    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        attributes(py, &self.media.lines)
    }

    fn rtpmap(&self, payload: &str) -> Option<String> {
        self.media.rtpmap(payload)
    }

    fn payload(&self, encoding: &str) -> Option<&str> {
        self.media.payload(encoding)
    }
}

#[pyclass(frozen, module = "voicecore.sip.sdp", name = "Session")]
pub struct SdpSession {
    session: sdp::Session,
}

#[pymethods]
impl SdpSession {
    #[getter]
    fn origin(&self) -> SdpOrigin {
        let origin = self.session.origin.clone();
        SdpOrigin {
            username: origin.username,
            session_id: origin.session_id,
            version: origin.version,
            address: origin.address,
        }
    }

    #[getter]
    fn name(&self) -> &str {
        self.session.name()
    }

    #[getter]
    fn address(&self) -> Option<&str> {
        self.session.address()
    }

    #[getter]
    fn direction(&self) -> &'static str {
        self.session.direction().name()
    }

    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        attributes(py, &self.session.lines)
    }

    #[getter]
    fn media<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let all: Vec<SdpMedia> = self
            .session
            .media
            .iter()
            .map(|media| SdpMedia {
                media: media.clone(),
                address: self.session.media_address(media),
                direction: self.session.media_direction(media),
                held: self.session.held(media),
            })
            .collect();
        PyTuple::new(py, all)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.session.to_bytes())
    }

    fn with_direction(&self, direction: &str) -> PyResult<Self> {
        Ok(Self { session: self.session.with_direction(direction_in(direction)?) })
    }

    fn with_address(&self, address: String) -> PyResult<Self> {
        address_in((address.clone(), 1))?;
        Ok(Self { session: self.session.with_address(&address) })
    }

    #[pyo3(signature = (address, ports, *, encodings=None, direction="sendrecv", session_id=1, version=1))]
    fn answer(
        &self,
        address: String,
        ports: Vec<u16>,
        encodings: Option<Vec<String>>,
        direction: &str,
        session_id: u64,
        version: u64,
    ) -> PyResult<Self> {
        address_in((address.clone(), 1))?;
        let encodings = encodings.unwrap_or_else(usual);
        let terms = Terms {
            address: &address,
            encodings: &encodings,
            direction: direction_in(direction)?,
            session_id,
            version,
            name: "-",
        };
        let port = *ports.first().ok_or_else(|| PyValueError::new_err("ports: at least one"))?;
        sdp::answer(&self.session, &terms, port)
            .map(|session| Self { session })
            .ok_or_else(|| PyValueError::new_err("no audio stream with a common encoding"))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().session == self.session)
    }

    fn __hash__(&self) -> u64 {
        crate::hash::fnv1a64(&self.session.to_bytes())
    }
}

fn usual() -> Vec<String> {
    ["PCMU/8000", "PCMA/8000", "telephone-event/8000"].map(str::to_owned).to_vec()
}

#[derive(FromPyObject)]
enum Body {
    Bytes(Vec<u8>),
    Text(String),
}

#[pyfunction]
fn sdp_parse(body: Body) -> PyResult<SdpSession> {
    let bytes = match body {
        Body::Bytes(bytes) => bytes,
        Body::Text(text) => text.into_bytes(),
    };
    sdp::Session::parse(&bytes).map(|session| SdpSession { session }).map_err(parse_error)
}

#[pyfunction]
fn sdp_direction(body: &[u8]) -> Option<&'static str> {
    sdp::direction_of(body).map(Direction::name)
}

#[pyfunction]
#[pyo3(signature = (address, port, *, encodings=None, direction="sendrecv", session_id=1, version=1, name="-"))]
fn sdp_offer(
    address: String,
    port: u16,
    encodings: Option<Vec<String>>,
    direction: &str,
    session_id: u64,
    version: u64,
    name: &str,
) -> PyResult<SdpSession> {
    address_in((address.clone(), 1))?;
    super::endpoint::one_line("name", name)?;
    let encodings = encodings.unwrap_or_else(usual);
    let direction = direction_in(direction)?;
    let terms = Terms { address: &address, encodings: &encodings, direction, session_id, version, name };
    Ok(SdpSession { session: sdp::offer(&terms, port) })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SdpOrigin", module.py().get_type::<SdpOrigin>())?;
    module.add("SdpMedia", module.py().get_type::<SdpMedia>())?;
    module.add("SdpSession", module.py().get_type::<SdpSession>())?;
    module.add_function(wrap_pyfunction!(sdp_parse, module)?)?;
    module.add_function(wrap_pyfunction!(sdp_direction, module)?)?;
    module.add_function(wrap_pyfunction!(sdp_offer, module)?)
}
