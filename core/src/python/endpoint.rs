//! Endpoint and its settings.

use super::convert::{address_in, address_out};
use super::errors::send_error;
use super::events::event_object;
use super::message::{wrap_request, Request, Response};
use crate::io::driver::Driver;
use crate::io::udp::Udp;
use crate::sip::agent::{Agent, Config};
use crate::sip::txn::{Micros, Timings};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::sync::Arc;

pub type Address = (String, u16);

#[pyclass(frozen, get_all, module = "voicecore.sip")]
pub struct EndpointConfig {
    t1: f64,
    t2: f64,
    t4: f64,
    user_agent: String,
    via_host: Option<String>,
    auto_trying: f64,
    report_terminated: bool,
    max_transactions: usize,
    max_events: usize,
    max_held: usize,
    malformed_rate: u32,
    receive_buffer: usize,
}

/// Seconds in a range, as microseconds; the error names the field.
pub fn seconds(name: &str, value: f64, least: f64, most: f64) -> PyResult<Micros> {
    if value.is_finite() && (least..=most).contains(&value) {
        return Ok((value * 1e6).round() as Micros);
    }
    Err(PyValueError::new_err(format!("{name}: {value} is not in {least}..={most} seconds")))
}

pub fn in_range(name: &str, value: usize, least: usize, most: usize) -> PyResult<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{name}: {value} is not in {least}..={most}")))
}

pub fn one_line(name: &str, value: &str) -> PyResult<()> {
    if memchr::memchr3(b'\r', b'\n', 0, value.as_bytes()).is_none() {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{name}: must be one line")))
}

pub fn timings(t1: f64, t2: f64, t4: f64) -> PyResult<Timings> {
    Ok(Timings {
        t1: seconds("t1", t1, 0.01, 10.0)?,
        t2: seconds("t2", t2, 0.01, 60.0)?,
        t4: seconds("t4", t4, 0.01, 60.0)?,
    })
}

impl EndpointConfig {
    fn core(&self) -> PyResult<Config> {
        Ok(Config {
            timings: timings(self.t1, self.t2, self.t4)?,
            user_agent: self.user_agent.clone(),
            via_host: self.via_host.clone(),
            auto_trying: (self.auto_trying >= 0.0).then_some((self.auto_trying * 1e6) as Micros),
            report_terminated: self.report_terminated,
            max_transactions: self.max_transactions,
            max_events: self.max_events,
            malformed_rate: self.malformed_rate,
        })
    }
}

#[pymethods]
impl EndpointConfig {
    #[new]
    #[pyo3(signature = (*, t1=0.5, t2=4.0, t4=5.0, user_agent=String::new(), via_host=None, auto_trying=0.2,
                        report_terminated=false, max_transactions=200_000, max_events=65_536, max_held=16_384,
                        malformed_rate=10, receive_buffer=4_194_304))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        t1: f64,
        t2: f64,
        t4: f64,
        user_agent: String,
        via_host: Option<String>,
        auto_trying: f64,
        report_terminated: bool,
        max_transactions: usize,
        max_events: usize,
        max_held: usize,
        malformed_rate: u32,
        receive_buffer: usize,
    ) -> PyResult<Self> {
        timings(t1, t2, t4)?;
        one_line("user_agent", &user_agent)?;
        if auto_trying >= 0.0 {
            seconds("auto_trying", auto_trying, 0.0, 60.0)?;
        }
        if let Some(host) = &via_host {
            let found = crate::sip::uri::read_host_port(host.as_bytes(), 0);
            if !found.is_ok_and(|(_, port, end)| port.is_none() && end == host.len()) {
                return Err(PyValueError::new_err(format!("via_host: {host:?} is no host")));
            }
        }
        in_range("max_transactions", max_transactions, 1, 10_000_000)?;
        in_range("max_events", max_events, 1, 10_000_000)?;
        in_range("max_held", max_held, 1, 1_000_000)?;
        in_range("receive_buffer", receive_buffer, 4_096, 1 << 30)?;
        Ok(Self {
            t1,
            t2,
            t4,
            user_agent,
            via_host,
            auto_trying,
            report_terminated,
            max_transactions,
            max_events,
            max_held,
            malformed_rate,
            receive_buffer,
        })
    }
}

#[pyclass(frozen, module = "voicecore.sip")]
pub struct Endpoint {
    driver: Driver<Agent>,
    receive_buffer: usize,
}

impl Endpoint {
    fn open(&self) -> PyResult<()> {
        if self.driver.closed() {
            return Err(PyRuntimeError::new_err("the endpoint is closed"));
        }
        Ok(())
    }
}

#[pymethods]
impl Endpoint {
    #[new]
    #[pyo3(signature = (config=None))]
    fn new(py: Python<'_>, config: Option<Py<EndpointConfig>>) -> PyResult<Self> {
        let (core, max_held, receive_buffer) = match &config {
            Some(config) => {
                let config = config.get();
                (config.core()?, config.max_held, config.receive_buffer)
            }
            None => (Config::default(), 16_384, 4_194_304),
        };
        let agent = Agent::new(core, crate::io::clock::monotonic());
        let driver =
            py.detach(|| Driver::new(agent, max_held)).map_err(|e| PyOSError::new_err(e.to_string()))?;
        Ok(Self { driver, receive_buffer })
    }

    fn bind_udp(&self, py: Python<'_>, host: String, port: u16) -> PyResult<Address> {
        self.open()?;
        let address = address_in((host, port))?;
        let local = py.detach(|| {
            let udp = Udp::bind(address, self.receive_buffer)?;
            self.driver.add(Arc::new(udp), "voicecore-udp")
        })?;
        Ok(address_out(local))
    }

    fn fileno(&self) -> i32 {
        self.driver.event_fd()
    }

    #[pyo3(signature = (max=256))]
    fn drain(&self, py: Python<'_>, max: usize) -> PyResult<Vec<Py<PyAny>>> {
        let events = py.detach(|| self.driver.drain(max));
        events.into_iter().map(|event| event_object(py, event)).collect()
    }

    #[pyo3(signature = (request, destination, *, branch_prefix="", local=None))]
    fn send_request(
        &self,
        py: Python<'_>,
        request: PyRef<'_, Request>,
        destination: Address,
        branch_prefix: &str,
        local: Option<Address>,
    ) -> PyResult<u64> {
        self.open()?;
        if !branch_prefix.is_empty() && !crate::sip::chars::is_token_text(branch_prefix.as_bytes()) {
            return Err(PyValueError::new_err("branch_prefix: must be a token"));
        }
        let destination = address_in(destination)?;
        let local = local.map(address_in).transpose()?;
        let message = request.as_super().core.clone();
        py.detach(|| {
            self.driver.call(|agent, now| agent.send_request(message, destination, branch_prefix, local, now))
        })
        .map_err(send_error)
    }

    #[pyo3(signature = (request, destination, *, branch_prefix="", local=None))]
    fn prepare_request(
        &self,
        py: Python<'_>,
        request: PyRef<'_, Request>,
        destination: Address,
        branch_prefix: &str,
        local: Option<Address>,
    ) -> PyResult<Py<Request>> {
        self.open()?;
        if !branch_prefix.is_empty() && !crate::sip::chars::is_token_text(branch_prefix.as_bytes()) {
            return Err(PyValueError::new_err("branch_prefix: must be a token"));
        }
        let destination = address_in(destination)?;
        let local = local.map(address_in).transpose()?;
        let message = request.as_super().core.clone();
        let prepared = py
            .detach(|| self.driver.call(|agent, _| agent.prepare(message, destination, branch_prefix, local)))
            .map_err(send_error)?;
        wrap_request(py, prepared)
    }

    #[pyo3(signature = (request, destination, *, local=None))]
    fn send_prepared(
        &self,
        py: Python<'_>,
        request: PyRef<'_, Request>,
        destination: Address,
        local: Option<Address>,
    ) -> PyResult<u64> {
        self.open()?;
        let destination = address_in(destination)?;
        let local = local.map(address_in).transpose()?;
        let message = request.as_super().core.clone();
        py.detach(|| self.driver.call(|agent, now| agent.send_prepared(&message, destination, local, now)))
            .map_err(send_error)
    }

    #[pyo3(signature = (request, destination, *, response=None, local=None))]
    fn restore_client_invite(
        &self,
        py: Python<'_>,
        request: PyRef<'_, Request>,
        destination: Address,
        response: Option<PyRef<'_, Response>>,
        local: Option<Address>,
    ) -> PyResult<u64> {
        self.open()?;
        let destination = address_in(destination)?;
        let local = local.map(address_in).transpose()?;
        let invite = request.as_super().core.clone();
        let answer = response.map(|response| response.as_super().core.clone());
        py.detach(|| {
            self.driver.call(|agent, now| {
                agent.restore_client_invite(&invite, answer.as_ref(), destination, local, now)
            })
        })
        .map_err(send_error)
    }

    #[pyo3(signature = (request, source, *, response=None, local=None))]
    fn restore_server_invite(
        &self,
        py: Python<'_>,
        request: PyRef<'_, Request>,
        source: Address,
        response: Option<PyRef<'_, Response>>,
        local: Option<Address>,
    ) -> PyResult<u64> {
        self.open()?;
        let source = address_in(source)?;
        let local = local.map(address_in).transpose()?;
        let invite = request.as_super().core.clone();
        let response = response.map(|response| response.as_super().core.clone());
        py.detach(|| {
            self.driver.call(|agent, now| agent.restore_server_invite(&invite, source, response, local, now))
        })
        .map_err(send_error)
    }

    fn redirect(&self, py: Python<'_>, txn: u64, destination: Address) -> PyResult<bool> {
        self.open()?;
        let destination = address_in(destination)?;
        Ok(py.detach(|| self.driver.call(|agent, now| agent.redirect(txn, destination, now))))
    }

    fn forget(&self, py: Python<'_>, txn: u64) {
        py.detach(|| self.driver.call(|agent, _| agent.forget(txn)));
    }

    fn respond(&self, py: Python<'_>, txn: u64, response: PyRef<'_, Response>) -> PyResult<()> {
        let message = response.as_super().core.clone();
        py.detach(|| self.driver.call(|agent, now| agent.respond(txn, message, now))).map_err(send_error)
    }

    #[pyo3(signature = (txn, *, reason=None))]
    fn cancel(&self, py: Python<'_>, txn: u64, reason: Option<&str>) -> PyResult<bool> {
        let reason = reason.unwrap_or("");
        one_line("reason", reason)?;
        py.detach(|| self.driver.call(|agent, now| agent.cancel(txn, reason.as_bytes(), now)))
            .map_err(send_error)
    }

    fn send_ack(
        &self,
        py: Python<'_>,
        txn: u64,
        ack: PyRef<'_, Request>,
        destination: Address,
    ) -> PyResult<()> {
        let destination = address_in(destination)?;
        let message = ack.as_super().core.clone();
        if message.view().method() != b"ACK" {
            return Err(PyValueError::new_err("ack: method must be ACK"));
        }
        py.detach(|| self.driver.call(|agent, _| agent.send_ack(txn, message, destination)))
            .map_err(send_error)
    }

    #[pyo3(signature = (data, destination, *, local=None))]
    fn send_stateless(
        &self,
        py: Python<'_>,
        data: &[u8],
        destination: Address,
        local: Option<Address>,
    ) -> PyResult<()> {
        self.open()?;
        let destination = address_in(destination)?;
        let local = local.map(address_in).transpose()?;
        py.detach(|| {
            let socket = self.driver.call(|agent, _| agent.socket_for(destination, local))?;
            self.driver.send_raw(data, destination, socket);
            Ok(())
        })
        .map_err(send_error)
    }

    fn transaction_state(&self, py: Python<'_>, txn: u64) -> Option<&'static str> {
        py.detach(|| self.driver.call(|agent, _| agent.state(txn)))
    }

    fn set_send_deadline(&self, boottime_ns: i64) {
        self.driver.set_send_deadline(boottime_ns);
    }

    fn release_held(&self, py: Python<'_>) -> usize {
        py.detach(|| self.driver.release_held())
    }

    fn drop_held(&self, py: Python<'_>) -> usize {
        py.detach(|| self.driver.drop_held())
    }

    fn counters(&self, py: Python<'_>) -> std::collections::HashMap<String, u64> {
        py.detach(|| {
            let mut all = self.driver.counters();
            all.extend(self.driver.call(|agent, _| {
                let mut list = agent.stack.counters.list();
                list.push(("transactions".to_owned(), agent.stack.table.len() as u64));
                list
            }));
            all.into_iter().collect()
        })
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.driver.close());
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<EndpointConfig>()?;
    module.add_class::<Endpoint>()
}
