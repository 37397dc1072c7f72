//! Proxy.

use super::convert::{address_in, address_out};
use super::endpoint::Address;
use super::errors::send_error;
use super::events::event_object;
use super::message::{Request, Response};
use super::proxy_config::{check_rate, Node, ProxyConfig};
use crate::io::driver::Driver;
use crate::io::udp::Udp;
use crate::sip::chars::is_token_text;
use crate::sip::identifiers::SLOT_COUNT;
use crate::sip::proxy::tables::Network;
use crate::sip::proxy::{Config, Proxy as Core};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

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
