//! `voicecore.sip.digest`.

use super::errors::parse_error;
use super::names::random_name;
use crate::sip::digest::{self, Algorithm, Answer, Unsupported};
use crate::sip::nonce::{NonceKeeper as Keeper, Verdict};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::{Mutex, PoisonError};

#[pyclass(frozen, get_all, module = "voicecore.sip.digest")]
pub struct Authorization {
    username: String,
    realm: String,
    nonce: String,
    uri: String,
    response: String,
    algorithm: String,
    cnonce: Option<String>,
    opaque: Option<String>,
    qop: Option<String>,
    nc: Option<u32>,
}

impl Authorization {
    fn core(&self) -> digest::Authorization {
        digest::Authorization {
            username: self.username.clone(),
            realm: self.realm.clone(),
            nonce: self.nonce.clone(),
            uri: self.uri.clone(),
            response: self.response.clone(),
            algorithm: self.algorithm.clone(),
            cnonce: self.cnonce.clone(),
            opaque: self.opaque.clone(),
            qop: self.qop.clone(),
            nc: self.nc,
        }
    }
}

#[pyclass(frozen, module = "voicecore.sip.digest")]
pub struct Challenge {
    core: digest::Challenge,
}

#[pymethods]
impl Challenge {
    #[getter]
    fn realm(&self) -> &str {
        &self.core.realm
    }

    #[getter]
    fn nonce(&self) -> &str {
        &self.core.nonce
    }

    #[getter]
    fn opaque(&self) -> Option<&str> {
        self.core.opaque.as_deref()
    }

    #[getter]
    fn algorithm(&self) -> &str {
        &self.core.algorithm
    }

    #[getter]
    fn qop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.core.qop)
    }

    #[getter]
    fn stale(&self) -> bool {
        self.core.stale
    }
}

fn algorithm_in(name: &str) -> PyResult<Algorithm> {
    Algorithm::of(name)
        .ok_or_else(|| PyValueError::new_err(format!("algorithm: {name:?} is neither MD5 nor SHA-256")))
}

#[pyfunction]
#[pyo3(signature = (realm, nonce, *, opaque=None, algorithm="MD5", qop=Some("auth"), stale=false))]
fn challenge(
    realm: &str,
    nonce: &str,
    opaque: Option<&str>,
    algorithm: &str,
    qop: Option<&str>,
    stale: bool,
) -> PyResult<String> {
    for (name, value) in
        [("realm", realm), ("nonce", nonce), ("opaque", opaque.unwrap_or("")), ("qop", qop.unwrap_or(""))]
    {
        super::endpoint::one_line(name, value)?;
    }
    let challenge = digest::Challenge {
        realm: realm.to_owned(),
        nonce: nonce.to_owned(),
        opaque: opaque.map(str::to_owned),
        algorithm: algorithm_in(algorithm)?.name().to_owned(),
        qop: qop.map(str::to_owned).into_iter().collect(),
        stale,
    };
    Ok(challenge.write())
}

#[pyfunction]
fn parse_authorization(value: &str) -> PyResult<Authorization> {
    let core = digest::Authorization::parse(value.as_bytes()).map_err(parse_error)?;
    Ok(Authorization {
        username: core.username,
        realm: core.realm,
        nonce: core.nonce,
        uri: core.uri,
        response: core.response,
        algorithm: core.algorithm,
        cnonce: core.cnonce,
        opaque: core.opaque,
        qop: core.qop,
        nc: core.nc,
    })
}

#[pyfunction]
fn parse_challenge(value: &str) -> PyResult<Challenge> {
    digest::Challenge::parse(value.as_bytes()).map(|core| Challenge { core }).map_err(parse_error)
}

#[pyfunction]
#[pyo3(name = "ha1", signature = (username, realm, password, algorithm="MD5"))]
fn ha1_py(username: &str, realm: &str, password: &str, algorithm: &str) -> PyResult<String> {
    Ok(digest::ha1(algorithm_in(algorithm)?, username, realm, password))
}

/// H(A1) from whichever of the two was given.
fn secret(
    ha1: Option<&str>,
    password: Option<&str>,
    algorithm: Algorithm,
    username: &str,
    realm: &str,
) -> PyResult<String> {
    match (ha1, password) {
        (Some(ha1), None) => Ok(ha1.to_ascii_lowercase()),
        (None, Some(password)) => Ok(digest::ha1(algorithm, username, realm, password)),
        _ => Err(PyValueError::new_err("exactly one of ha1 and password")),
    }
}

#[pyfunction]
#[pyo3(signature = (authorization, method, *, ha1=None, password=None))]
fn verify(
    authorization: PyRef<'_, Authorization>,
    method: &str,
    ha1: Option<&str>,
    password: Option<&str>,
) -> PyResult<bool> {
    let core = authorization.core();
    let algorithm = Algorithm::of(&core.algorithm);
    let hash = secret(ha1, password, algorithm.unwrap_or(Algorithm::Md5), &core.username, &core.realm)?;
    Ok(core.verify(method, &hash))
}

#[derive(FromPyObject)]
enum ChallengeLike<'py> {
    Value(PyRef<'py, Challenge>),
    Text(String),
}

#[pyfunction]
#[pyo3(signature = (challenge, method, uri, username, *, password=None, ha1=None, cnonce=None, nc=1))]
#[allow(clippy::too_many_arguments)]
fn answer(
    challenge: ChallengeLike<'_>,
    method: &str,
    uri: &str,
    username: &str,
    password: Option<&str>,
    ha1: Option<&str>,
    cnonce: Option<String>,
    nc: u32,
) -> PyResult<String> {
    let core = match challenge {
        ChallengeLike::Value(value) => value.core.clone(),
        ChallengeLike::Text(text) => digest::Challenge::parse(text.as_bytes()).map_err(parse_error)?,
    };
    let hash = secret(ha1, password, algorithm_in(&core.algorithm)?, username, &core.realm)?;
    let cnonce = cnonce.unwrap_or_else(|| String::from_utf8_lossy(&random_name(16)).into_owned());
    let who = Answer { method, uri, username, cnonce: &cnonce, nc };
    digest::answer(&core, &who, &hash).map_err(|why| match why {
        Unsupported::Algorithm => PyValueError::new_err("algorithm is not supported"),
        Unsupported::Qop => PyValueError::new_err("qop: only auth is supported"),
    })
}

#[pyclass(frozen, module = "voicecore.sip.digest")]
pub struct NonceKeeper {
    keeper: Mutex<Keeper>,
}

fn whole_seconds(now: f64) -> PyResult<u64> {
    if now.is_finite() && now >= 0.0 {
        return Ok(now as u64);
    }
    Err(PyValueError::new_err("now: seconds since the epoch"))
}

#[pymethods]
impl NonceKeeper {
    #[new]
    #[pyo3(signature = (secret, *, window=300.0, capacity=100_000))]
    fn new(secret: Vec<u8>, window: f64, capacity: usize) -> PyResult<Self> {
        super::endpoint::in_range("secret length", secret.len(), 16, 64)?;
        super::endpoint::seconds("window", window, 1.0, 86_400.0)?;
        super::endpoint::in_range("capacity", capacity, 1, 10_000_000)?;
        Ok(Self { keeper: Mutex::new(Keeper::new(secret, window as u64, capacity)) })
    }

    fn create(&self, realm: &str, now: f64) -> PyResult<String> {
        let random = random_name(12).iter().fold(0u64, |sum, &c| sum.wrapping_mul(33) ^ u64::from(c));
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(keeper.create(realm, whole_seconds(now)?, crate::hash::mix64(random)))
    }

    fn check(&self, nonce: &str, realm: &str, nc: Option<u32>, now: f64) -> PyResult<&'static str> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match keeper.check(nonce, realm, nc, whole_seconds(now)?) {
            Verdict::Good => "good",
            Verdict::Stale => "stale",
            Verdict::Replayed => "replayed",
            Verdict::Foreign => "foreign",
        })
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Authorization>()?;
    module.add_class::<Challenge>()?;
    module.add_class::<NonceKeeper>()?;
    module.add_function(wrap_pyfunction!(challenge, module)?)?;
    module.add_function(wrap_pyfunction!(parse_authorization, module)?)?;
    module.add_function(wrap_pyfunction!(parse_challenge, module)?)?;
    module.add_function(wrap_pyfunction!(ha1_py, module)?)?;
    module.add_function(wrap_pyfunction!(verify, module)?)?;
    module.add_function(wrap_pyfunction!(answer, module)?)
}
