//! Engine: where a request goes: the route that takes it, the pool it leads to, what that is sticky by, and the head that an endpoint
//! gets. Workers serve by this, and `explain` tells of it: there is no second opinion.
//!
//! Not here: which endpoint of the pool (`balance`), nor what becomes of a request that leads nowhere.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use super::pool::Pool;
use super::service::{L7, Route, Service};
use super::snapshot::Snapshot;
use crate::balance::HashBy;
use crate::base::{FlowHash, Reason};
use crate::wire::http1::{self, Body, Forward, Request};

/// Where a request goes.
#[derive(Clone, Copy)]
pub struct Way<'s> {
    /// Index of the route among the service's.
    pub index: usize,
    pub route: &'s Route,
    pub pool: &'s Arc<Pool>,
}

impl L7 {
    /// The way of a request to this service.
    ///
    /// # Errors
    /// Why it has none.
    pub fn way<'s>(&'s self, service: &Service, snapshot: &'s Snapshot, view: &Request<'_>) -> Result<Way<'s>, Reason> {
        let most = service.spec.limits.max_body_bytes;
        if most != 0 && matches!(view.body(), Body::Length(length) if length > most) {
            return Err(Reason::BodyTooLarge);
        }
        let index = self.table.find(view.host(), view.path()).ok_or(Reason::NoRoute)?;
        let route = self.spec.routes.get(index).ok_or(Reason::NoRoute)?;
        let pool = snapshot.pool(route.pool).ok_or(Reason::NoRoute)?;
        Ok(Way { index, route, pool })
    }

    /// Appends the head that an endpoint gets for a request of `peer` to `out`. `extra` is room to work in.
    pub fn forward(&self, view: &Request<'_>, peer: SocketAddr, extra: &mut Vec<u8>, out: &mut Vec<u8>) {
        extra.clear();
        let drop = http1::identity(extra, view, peer, self.trusts(peer));
        http1::forward(out, view, &Forward { drop, extra, ..Forward::of(view) });
    }

    /// Whether what the peer says of its own client is believed.
    pub fn trusts(&self, peer: SocketAddr) -> bool {
        self.spec.trusted_proxies.iter().any(|network| network.contains(peer.ip()))
    }
}

impl Way<'_> {
    /// What the pool is sticky by, as the request has it. `None`: it goes by its source.
    pub fn key<'a>(&'a self, view: &Request<'a>) -> Option<Cow<'a, [u8]>> {
        match &self.route.hash_by {
            HashBy::Header(name) => view.field(name.as_bytes()).next().map(Cow::Borrowed),
            HashBy::Cookie(name) => view.cookie(name.as_bytes()).map(Cow::Borrowed),
            HashBy::Query(name) => view.query_parameter(name.as_bytes()),
            HashBy::Path => Some(Cow::Borrowed(view.path())),
            HashBy::SourceAddress | HashBy::SourceAddressPort => None,
        }
    }

    /// What its picker is given.
    pub fn hash(&self, view: &Request<'_>, peer: SocketAddr) -> FlowHash {
        self.route.hash_by.flow(&self.pool.hash_key(), peer, self.key(view).as_deref())
    }
}
