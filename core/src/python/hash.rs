//! `voicecore.hash`.

use crate::hash;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

#[derive(FromPyObject)]
enum Key {
    Text(String),
    Bytes(Vec<u8>),
}

impl Key {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

#[pyfunction]
fn fnv1a64(key: Key) -> u64 {
    hash::fnv1a64(key.bytes())
}

#[pyfunction]
fn mix64(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let masked = value.call_method1("__and__", (u64::MAX,))?;
    Ok(hash::mix64(masked.extract()?))
}

#[pyfunction]
fn slot(key: Key, count: u32) -> PyResult<u32> {
    if !(1..=1_048_576).contains(&count) {
        return Err(PyValueError::new_err(format!("count: {count} is not in 1..=1048576")));
    }
    Ok(hash::slot(key.bytes(), count))
}

#[pyfunction]
#[pyo3(signature = (key, nodes, weights=None))]
fn rendezvous_order(key: Key, nodes: Vec<String>, weights: Option<Vec<f64>>) -> PyResult<Vec<usize>> {
    let weights = weights.unwrap_or_else(|| vec![1.0; nodes.len()]);
    if weights.len() != nodes.len() {
        return Err(PyValueError::new_err("weights: as many as nodes"));
    }
    if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
        return Err(PyValueError::new_err("weights: finite and not negative"));
    }
    let hashes: Vec<u64> = nodes.iter().map(|node| hash::node_hash(node.as_bytes())).collect();
    Ok(hash::rendezvous_order(key.bytes(), &hashes, &weights))
}

#[pyfunction]
#[pyo3(signature = (key, nodes, weights=None))]
fn rendezvous(key: Key, nodes: Vec<String>, weights: Option<Vec<f64>>) -> PyResult<Option<usize>> {
    Ok(rendezvous_order(key, nodes, weights)?.first().copied())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fnv1a64, module)?)?;
    module.add_function(wrap_pyfunction!(mix64, module)?)?;
    module.add_function(wrap_pyfunction!(slot, module)?)?;
    module.add_function(wrap_pyfunction!(rendezvous, module)?)?;
    module.add_function(wrap_pyfunction!(rendezvous_order, module)?)
}
