//! Settings of a proxy, and its nodes.

use super::convert::address_in;
use super::endpoint::{in_range, one_line, seconds, timings};
use crate::sip::chars::is_token_text;
use crate::sip::proxy::Config;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

#[pyclass(frozen, get_all, eq, module = "voicecore.sip")]
#[derive(Clone, PartialEq)]
pub struct Node {
    pub id: String,
    pub host: String,
    pub port: u16,
    pub weight: f64,
}

#[pymethods]
impl Node {
    #[new]
    #[pyo3(signature = (id, host, port, weight=1.0))]
    fn new(id: String, host: String, port: u16, weight: f64) -> PyResult<Self> {
        if id.is_empty() {
            return Err(PyValueError::new_err("id: must not be empty"));
        }
        address_in((host.clone(), port))?;
        if !weight.is_finite() || weight < 0.0 {
            return Err(PyValueError::new_err(format!("weight: {weight} is not finite and at least 0")));
        }
        Ok(Self { id, host, port, weight })
    }

    fn __repr__(&self) -> String {
        format!("Node({:?}, {:?}, {}, {})", self.id, self.host, self.port, self.weight)
    }
}

#[pyclass(frozen, module = "voicecore.sip")]
pub struct ProxyConfig {
    #[pyo3(get)]
    t1: f64,
    #[pyo3(get)]
    t2: f64,
    #[pyo3(get)]
    t4: f64,
    #[pyo3(get)]
    server_name: String,
    #[pyo3(get)]
    timer_c: f64,
    #[pyo3(get)]
    reselect_after: f64,
    #[pyo3(get)]
    max_reselections: u8,
    #[pyo3(get)]
    dialog_rate: f64,
    #[pyo3(get)]
    retry_after: u32,
    python_methods: Vec<String>,
    #[pyo3(get)]
    max_transactions: usize,
    #[pyo3(get)]
    max_events: usize,
    #[pyo3(get)]
    pub max_held: usize,
    #[pyo3(get)]
    malformed_rate: u32,
    #[pyo3(get)]
    pub receive_buffer: usize,
}

pub fn check_rate(rate: f64) -> PyResult<f64> {
    if rate.is_finite() && rate >= 0.0 {
        return Ok(rate);
    }
    Err(PyValueError::new_err(format!("dialog_rate: {rate} is not finite and at least 0")))
}

#[pymethods]
impl ProxyConfig {
    #[new]
    #[pyo3(signature = (*, t1=0.5, t2=4.0, t4=5.0, server_name=String::new(), timer_c=180.0, reselect_after=2.0,
                        max_reselections=2, dialog_rate=0.0, retry_after=5, python_methods=vec!["REGISTER".to_owned()],
                        max_transactions=400_000, max_events=65_536, max_held=16_384, malformed_rate=10,
                        receive_buffer=8_388_608))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        t1: f64,
        t2: f64,
        t4: f64,
        server_name: String,
        timer_c: f64,
        reselect_after: f64,
        max_reselections: u8,
        dialog_rate: f64,
        retry_after: u32,
        python_methods: Vec<String>,
        max_transactions: usize,
        max_events: usize,
        max_held: usize,
        malformed_rate: u32,
        receive_buffer: usize,
    ) -> PyResult<Self> {
        timings(t1, t2, t4)?;
        one_line("server_name", &server_name)?;
        seconds("timer_c", timer_c, 0.1, 3_600.0)?;
        seconds("reselect_after", reselect_after, 0.01, 60.0)?;
        in_range("max_reselections", usize::from(max_reselections), 0, 9)?;
        check_rate(dialog_rate)?;
        in_range("max_transactions", max_transactions, 1, 10_000_000)?;
        in_range("max_events", max_events, 1, 10_000_000)?;
        in_range("max_held", max_held, 1, 1_000_000)?;
        in_range("receive_buffer", receive_buffer, 4_096, 1 << 30)?;
        if let Some(bad) =
            python_methods.iter().find(|m| !is_token_text(m.as_bytes()) || *m == "ACK" || *m == "CANCEL")
        {
            return Err(PyValueError::new_err(format!("python_methods: {bad:?} cannot be handed out")));
        }
        Ok(Self {
            t1,
            t2,
            t4,
            server_name,
            timer_c,
            reselect_after,
            max_reselections,
            dialog_rate,
            retry_after,
            python_methods,
            max_transactions,
            max_events,
            max_held,
            malformed_rate,
            receive_buffer,
        })
    }

    #[getter]
    fn python_methods<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.python_methods)
    }
}

impl ProxyConfig {
    pub fn core(&self) -> PyResult<Config> {
        Ok(Config {
            timings: timings(self.t1, self.t2, self.t4)?,
            server_name: self.server_name.clone(),
            timer_c: seconds("timer_c", self.timer_c, 0.1, 3_600.0)?,
            reselect_after: seconds("reselect_after", self.reselect_after, 0.01, 60.0)?,
            max_reselections: self.max_reselections,
            dialog_rate: self.dialog_rate,
            retry_after: self.retry_after,
            python_methods: self.python_methods.iter().map(|m| m.clone().into_bytes()).collect(),
            max_transactions: self.max_transactions,
            max_events: self.max_events,
            malformed_rate: self.malformed_rate,
        })
    }
}
