//! SIP as data (parse, edit, serialise) and as machines (transactions, dialogs, user agent, proxy).

pub mod agent;
pub mod chars;
pub mod dialog;
pub mod digest;
pub mod error;
pub mod header;
pub mod identifiers;
pub mod layout;
pub mod limits;
pub mod message;
pub mod method;
pub mod name_addr;
pub mod nonce;
pub mod params;
pub mod parse;
pub mod proxy;
pub mod reason;
pub mod reply;
pub mod sdp;
#[cfg(test)]
pub mod simnet;
pub mod stack;
pub mod txn;
pub mod uri;
pub mod via;

pub use error::{ParseError, Result};
