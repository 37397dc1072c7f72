//! Random names and what slots they say.

use crate::sip::identifiers::{push_base32, slot_of_branch, slot_of_tag, slot_prefix, SLOT_COUNT};
use crate::sip::reason::phrase;
use crate::sip::stack::keys::Keys;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{LazyLock, Mutex, PoisonError};

static RANDOM: LazyLock<Mutex<Keys>> = LazyLock::new(|| Mutex::new(Keys::default()));

/// `count` random characters, five bits each.
pub fn random_name(count: usize) -> Vec<u8> {
    let mut keys = RANDOM.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let left = count - out.len();
        push_base32(&mut out, keys.draw(), left.min(12));
    }
    out
}

fn checked_slot(slot: u16) -> PyResult<u16> {
    if slot < SLOT_COUNT {
        return Ok(slot);
    }
    Err(PyValueError::new_err(format!("slot: {slot} is not in 0..{SLOT_COUNT}")))
}

#[pyfunction]
#[pyo3(signature = (slot=None))]
fn new_tag(slot: Option<u16>) -> PyResult<String> {
    let prefix = slot.map(checked_slot).transpose()?.map(slot_prefix).unwrap_or_default();
    Ok(prefix + &String::from_utf8_lossy(&random_name(12)))
}

#[pyfunction]
fn new_call_id() -> String {
    String::from_utf8_lossy(&random_name(24)).into_owned()
}

#[pyfunction]
fn branch_prefix(slot: u16) -> PyResult<String> {
    checked_slot(slot).map(slot_prefix)
}

#[pyfunction(name = "slot_of_tag")]
fn slot_of_tag_py(tag: Option<&str>) -> Option<u16> {
    tag.and_then(|tag| slot_of_tag(tag.as_bytes()))
}

#[pyfunction(name = "slot_of_branch")]
fn slot_of_branch_py(branch: Option<&str>) -> Option<u16> {
    branch.and_then(|branch| slot_of_branch(branch.as_bytes()))
}

#[pyfunction]
fn reason_phrase(status: u16) -> &'static str {
    phrase(status)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(new_tag, module)?)?;
    module.add_function(wrap_pyfunction!(new_call_id, module)?)?;
    module.add_function(wrap_pyfunction!(branch_prefix, module)?)?;
    module.add_function(wrap_pyfunction!(slot_of_tag_py, module)?)?;
    module.add_function(wrap_pyfunction!(slot_of_branch_py, module)?)?;
    module.add_function(wrap_pyfunction!(reason_phrase, module)?)
}
