//! Proxy, its settings and its nodes.

use super::convert::{address_in, address_out};
use super::endpoint::{in_range, one_line, seconds, timings, Address};
use super::errors::send_error;
use super::events::event_object;
use super::message::{Request, Response};
use crate::io::driver::Driver;
use crate::io::udp::Udp;
use crate::sip::chars::is_token_text;
use crate::sip::identifiers::SLOT_COUNT;
use crate::sip::proxy::tables::Network;
use crate::sip::proxy::{Config, Proxy as Core};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

#[pyclass(frozen, get_all, eq, module = "voicecore.sip")]
#[derive(Clone, PartialEq)]
pub struct Node {
    id: String,
    host: String,
    port: u16,
    weight: f64,
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
    max_held: usize,
    #[pyo3(get)]
    malformed_rate: u32,
    #[pyo3(get)]
    receive_buffer: usize,
}

fn check_rate(rate: f64) -> PyResult<f64> {
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
    fn core(&self) -> PyResult<Config> {
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

#[pyclass(frozen, module = "voicecore.sip")]
pub struct Proxy {
    driver: Driver<Core>,
    receive_buffer: usize,
}

impl Proxy {
    fn open(&self) -> PyResult<()> {
        if self.driver.closed() {
            return Err(PyRuntimeError::new_err("the proxy is closed"));
        }
        Ok(())
    }
}

fn check_slot(slot: u16) -> PyResult<u16> {
    if slot < SLOT_COUNT {
        return Ok(slot);
    }
    Err(PyValueError::new_err(format!("slot: {slot} is not in 0..{SLOT_COUNT}")))
}

#[pymethods]
impl Proxy {
    #[new]
    #[pyo3(signature = (config=None))]
    fn new(py: Python<'_>, config: Option<Py<ProxyConfig>>) -> PyResult<Self> {
        let (core, max_held, receive_buffer) = match &config {
            Some(config) => {
                let config = config.get();
                (config.core()?, config.max_held, config.receive_buffer)
            }
            None => (Config::default(), 16_384, 8_388_608),
        };
        let core = Core::new(core, crate::io::clock::monotonic());
        let driver = py.detach(|| Driver::new(core, max_held))?;
        Ok(Self { driver, receive_buffer })
    }

    fn bind_udp(&self, py: Python<'_>, host: String, port: u16) -> PyResult<Address> {
        self.open()?;
        let address = address_in((host, port))?;
        let local = py.detach(|| {
            let udp = Udp::bind(address, self.receive_buffer)?;
            self.driver.add(Arc::new(udp), "voicecore-proxy")
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

    fn set_nodes(&self, py: Python<'_>, nodes: Vec<Node>) -> PyResult<()> {
        let mut seen = HashSet::new();
        let mut table = Vec::with_capacity(nodes.len());
        for node in nodes {
            if !seen.insert(node.id.clone()) {
                return Err(PyValueError::new_err(format!("nodes: {:?} is there twice", node.id)));
            }
            table.push((node.id, address_in((node.host, node.port))?, node.weight));
        }
        py.detach(|| self.driver.call(|proxy, now| proxy.set_nodes(&table, now)));
        Ok(())
    }

    fn set_slots(&self, py: Python<'_>, slots: Vec<(u16, usize)>) -> PyResult<()> {
        for (slot, _) in &slots {
            check_slot(*slot)?;
        }
        let known = py.detach(|| {
            self.driver.call(|proxy, now| {
                let order = proxy.tables.order.clone();
                let owned: Option<Vec<_>> = slots
                    .iter()
                    .map(|(slot, place)| order.get(*place).map(|node| (*slot, Some(*node))))
                    .collect();
                owned.map(|changes| proxy.set_slots(changes, true, now)).is_some()
            })
        });
        if known {
            return Ok(());
        }
        Err(PyValueError::new_err("slots: an index is outside the node table"))
    }

    fn update_slots(&self, py: Python<'_>, changes: Vec<(u16, Option<String>)>) -> PyResult<()> {
        for (slot, _) in &changes {
            check_slot(*slot)?;
        }
        let unknown = py.detach(|| {
            self.driver.call(|proxy, now| {
                let mut resolved = Vec::with_capacity(changes.len());
                for (slot, id) in &changes {
                    match id {
                        None => resolved.push((*slot, None)),
                        Some(id) => match proxy.tables.node_by_id(id) {
                            Some(node) => resolved.push((*slot, Some(node))),
                            None => return Some(id.clone()),
                        },
                    }
                }
                proxy.set_slots(resolved, false, now);
                None
            })
        });
        match unknown {
            None => Ok(()),
            Some(id) => Err(PyValueError::new_err(format!("changes: node {id:?} is not in the table"))),
        }
    }

    #[pyo3(signature = (fqdn, *, cluster="", record_route_params="", aliases=Vec::new()))]
    fn set_identity(
        &self,
        py: Python<'_>,
        fqdn: String,
        cluster: &str,
        record_route_params: &str,
        aliases: Vec<String>,
    ) -> PyResult<()> {
        let found = crate::sip::uri::read_host_port(fqdn.as_bytes(), 0);
        if !found.is_ok_and(|(_, _, end)| end == fqdn.len()) {
            return Err(PyValueError::new_err(format!("fqdn: {fqdn:?} is no host or host:port")));
        }
        let params = record_route_params.trim_matches(';');
        let params = if params.is_empty() { String::new() } else { format!(";{params}") };
        if crate::sip::params::check_uri_params(params.as_bytes()).is_err() {
            return Err(PyValueError::new_err("record_route_params: URI parameters such as a=b;c"));
        }
        let host = fqdn.split(':').next().unwrap_or("").to_owned();
        let mut names = vec![host, cluster.to_owned()];
        names.extend(aliases);
        py.detach(|| {
            self.driver.call(|proxy, _| {
                proxy.tables.fqdn = fqdn;
                proxy.tables.record_route_params = params;
                proxy.tables.set_names(names);
            });
        });
        Ok(())
    }

    fn set_domains(&self, py: Python<'_>, domains: Vec<String>) {
        py.detach(|| self.driver.call(|proxy, _| proxy.tables.set_domains(domains)));
    }

    fn set_hosts(&self, py: Python<'_>, hosts: HashMap<String, Vec<Address>>) -> PyResult<()> {
        let mut table: HashMap<String, Vec<SocketAddr>> = HashMap::with_capacity(hosts.len());
        for (name, addresses) in hosts {
            let addresses = addresses.into_iter().map(address_in).collect::<PyResult<_>>()?;
            table.insert(name, addresses);
        }
        py.detach(|| self.driver.call(|proxy, _| proxy.tables.set_hosts(table)));
        Ok(())
    }

    fn set_trunk_peers(&self, py: Python<'_>, peers: Vec<String>) -> PyResult<()> {
        let mut networks = Vec::with_capacity(peers.len());
        for peer in peers {
            let network = Network::parse(&peer);
            networks.push(
                network
                    .ok_or_else(|| PyValueError::new_err(format!("peers: {peer:?} is no IP or network")))?,
            );
        }
        py.detach(|| self.driver.call(|proxy, _| proxy.tables.set_trunks(networks)));
        Ok(())
    }

    fn set_dialog_rate(&self, py: Python<'_>, per_second: f64) -> PyResult<()> {
        let rate = check_rate(per_second)?;
        py.detach(|| self.driver.call(|proxy, _| proxy.set_dialog_rate(rate)));
        Ok(())
    }

    fn respond(&self, py: Python<'_>, txn: u64, response: PyRef<'_, Response>) -> PyResult<()> {
        let message = response.as_super().core.clone();
        py.detach(|| self.driver.call(|proxy, now| proxy.respond(txn, message, now))).map_err(send_error)
    }

    #[pyo3(signature = (txn, *, node=None))]
    fn forward(&self, py: Python<'_>, txn: u64, node: Option<String>) -> PyResult<()> {
        py.detach(|| self.driver.call(|proxy, now| proxy.forward(txn, node.as_deref(), now)))
            .map_err(send_error)
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
        if !branch_prefix.is_empty() && !is_token_text(branch_prefix.as_bytes()) {
            return Err(PyValueError::new_err("branch_prefix: must be a token"));
        }
        let destination = address_in(destination)?;
        let local = local.map(address_in).transpose()?;
        let message = request.as_super().core.clone();
        py.detach(|| {
            self.driver.call(|proxy, now| proxy.send_request(message, destination, branch_prefix, local, now))
        })
        .map_err(send_error)
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

    fn counters(&self, py: Python<'_>) -> HashMap<String, u64> {
        py.detach(|| {
            let mut all = self.driver.counters();
            all.extend(self.driver.call(|proxy, _| proxy.counter_list()));
            all.into_iter().collect()
        })
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.driver.close());
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Node>()?;
    module.add_class::<ProxyConfig>()?;
    module.add_class::<Proxy>()
}
