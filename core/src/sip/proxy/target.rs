//! Where a request goes.

use super::super::header::HeaderId;
use super::super::identifiers::{slot_of_hex, slot_of_tag};
use super::super::message::View;
use super::super::method::Method;
use super::super::uri::UriRef;
use super::rewrite::route_uri;
use super::tables::{is_bound, NodeIndex};
use super::Proxy;
use std::net::SocketAddr;

/// What kind of peer is outside, where that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Trunk,
    Phone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// To a node; None: the slot has no owner at the moment.
    Node(Option<NodeIndex>),
    Outside(SocketAddr),
    /// The owner decides.
    Owner,
    /// Nowhere: answer this.
    Refuse(u16),
}

#[derive(Debug, Clone)]
pub struct Target<'a> {
    pub goal: Goal,
    pub slot: Option<u16>,
    /// Route values at the front that are ours.
    pub routes_taken: usize,
    pub uri: Option<&'a [u8]>,
    /// Socket that the last of our Routes names.
    pub socket: Option<u8>,
    pub peer: Option<Peer>,
    /// Other addresses of the same name, to be tried when the first fails.
    pub others: Vec<SocketAddr>,
}

impl Proxy {
    /// Our own name, or an address we are bound to: the socket for the latter.
    fn is_ours(&self, host: &[u8], port: Option<u16>) -> Option<Option<u8>> {
        if self.tables.is_our_name(host) {
            return Some(None);
        }
        is_bound(&self.sockets, host, port).map(Some)
    }

    pub(super) fn target<'a>(&self, view: &View<'a>, from_node: bool) -> Target<'a> {
        let mut target = Target {
            goal: Goal::Refuse(404),
            slot: None,
            routes_taken: 0,
            uri: None,
            socket: None,
            peer: None,
            others: Vec::new(),
        };
        let routes = view.values(HeaderId::Route);
        for value in &routes {
            let Some(uri) = route_uri(value).and_then(|uri| UriRef::parse(uri).ok()) else {
                target.goal = Goal::Refuse(400);
                return target;
            };
            let Some(socket) = self.is_ours(uri.host, uri.port) else { break };
            target.routes_taken += 1;
            target.socket = socket.or(target.socket);
            target.slot = uri.param(b"vs").and_then(slot_of_hex).or(target.slot);
            target.peer = match uri.param(b"vd") {
                Some(b"trunk") => Some(Peer::Trunk),
                Some(b"phone") => Some(Peer::Phone),
                _ => target.peer,
            };
        }
        let next = routes.get(target.routes_taken).and_then(|value| route_uri(value));
        if from_node {
            self.outward(view, next, target)
        } else {
            self.inward(view, target)
        }
    }

    fn outward<'a>(&self, view: &View<'a>, next: Option<&'a [u8]>, mut target: Target<'a>) -> Target<'a> {
        let Ok(uri) = UriRef::parse(next.unwrap_or_else(|| view.uri())) else {
            target.goal = Goal::Refuse(400);
            return target;
        };
        if self.is_ours(uri.host, uri.port).is_some() {
            // A node may address another node by slot: a Route to us with vs (INVITE with Replaces).
            if let Some(slot) = target.slot.filter(|_| view.to_tag().is_none()) {
                target.goal = Goal::Node(self.tables.owner(slot));
                return target;
            }
            return self.inward(view, target);
        }
        // Our own tag is the From tag here: it says where responses and the peer's requests belong.
        target.slot = view.from_tag().and_then(slot_of_tag).or(target.slot);
        target.goal = match uri.param(b"transport") {
            Some(transport) if !transport.eq_ignore_ascii_case(b"udp") => Goal::Refuse(503),
            _ if !uri.is_sip() => Goal::Refuse(416),
            _ => self.tables.resolve(&uri, 0).map_or(Goal::Refuse(404), Goal::Outside),
        };
        target.others = (1..8).map_while(|nth| self.tables.resolve(&uri, nth)).collect();
        target
    }

    fn inward<'a>(&self, view: &View<'a>, mut target: Target<'a>) -> Target<'a> {
        let to_tag = view.to_tag().filter(|_| view.core().method != Method::Register);
        let Some(to_tag) = to_tag else {
            target.slot = None;
            if self.config.python_methods.iter().any(|method| method == view.method()) {
                target.goal = Goal::Owner;
                return target;
            }
            target.goal = match UriRef::parse(view.uri()) {
                Err(error) => Goal::Refuse(error.status),
                Ok(uri) if !uri.is_sip() && !uri.scheme.eq_ignore_ascii_case(b"tel") => Goal::Refuse(416),

                Ok(_) => match self.tables.choose(view.call_id(), &[]) {
                    Some(node) => Goal::Node(Some(node)),
                    None => Goal::Refuse(503),
                },
            };
            return target;
        };
        target.slot = slot_of_tag(to_tag).or(target.slot);
        target.goal = match target.slot {
            Some(slot) => Goal::Node(self.tables.owner(slot)),
            None => {
                let uri = UriRef::parse(view.uri()).ok();
                let by_address =
                    uri.and_then(|uri| self.tables.resolve(&uri, 0)).and_then(|to| self.tables.node_at(to));
                match by_address.or_else(|| self.tables.choose(view.call_id(), &[])) {
                    Some(node) => Goal::Node(Some(node)),
                    None => Goal::Refuse(503),
                }
            }
        };
        target
    }
}
