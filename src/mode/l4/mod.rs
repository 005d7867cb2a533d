//! Shell: the L4 proxy for TCP: take a place, pick and dial, relay, say how it ended.
//!
//! Budget a connection: one boxed future, no allocation else; the snapshot is let go once the endpoint is reached, so a
//! relay of days holds no old configuration. Not here: what a relay is (`net::relay`), nor how endpoints are picked
//! (`net::upstream`). Nothing reads the client's bytes: they may be any protocol.

use std::pin::Pin;
use std::rc::Rc;

use tokio::net::TcpStream;

use super::Spec;
use crate::base::{Reason, clock};
use crate::net::accept::Place;
use crate::net::upstream::{Connection, Picked, Tries, pick_and_dial};
use crate::net::{Deadline, End, Relay, Worker};
use crate::observe::cells::UpstreamError;
use crate::seam::{Accepted, Mode};
use crate::state::{Service, Snapshot, Traffic};
use crate::sys::reset_on_close;

use report::Report;

mod report;
#[cfg(test)]
mod tests;

pub const SPEC: Spec = Spec { name: "l4", start: |worker| Rc::new(Proxy { worker }) };

struct Proxy {
    worker: Rc<Worker>,
}

impl Mode for Proxy {
    fn serve(self: Rc<Self>, accepted: Accepted) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(carry(self.worker.clone(), accepted))
    }
}

/// Carries one connection to its end. What cannot be carried is reset: the client must not take it for an empty answer.
async fn carry(worker: Rc<Worker>, accepted: Accepted) {
    let Accepted { service, stream: client, peer, .. } = accepted;
    let Some(snapshot) = worker.snapshot_of(service) else { return reset_on_close(&client) };
    let Some(service) = snapshot.service(service) else { return reset_on_close(&client) };
    let mut report = Report::new(&worker, service, peer);
    let place = match Place::take(&worker, &service.kept, &service.spec.limits, peer) {
        Ok(place) => place,
        Err(reason) => {
            reset_on_close(&client);
            return report.end(Some(reason));
        }
    };
    let deadline = worker.timers.deadline();
    let (picked, connection) = match reach(&worker, &snapshot, service, &client, &deadline, &mut report).await {
        Ok(reached) => reached,
        Err(reason) => {
            reset_on_close(&client);
            return report.end(Some(reason));
        }
    };
    let timeouts = service.spec.timeouts;
    drop(snapshot);

    let Connection { stream, opened, .. } = connection;
    let (idle, half_close) = (timeouts.idle, timeouts.half_close);
    let relay = Relay { worker: &worker, cells: place.cells(), deadline: &deadline, idle, half_close };
    let outcome = relay.run_watched(client, stream, None, None, report.carried()).await;
    if outcome.end == End::EndpointReset {
        picked.endpoint.cells.row(worker.id).error(UpstreamError::Reset);
    }
    drop((opened, picked));
    report.end(outcome.reason());
}

/// From the service to a connected endpoint of its pool.
async fn reach(
    worker: &Worker,
    snapshot: &Snapshot,
    service: &Service,
    client: &TcpStream,
    deadline: &Deadline,
    report: &mut Report,
) -> Result<(Picked, Connection), Reason> {
    let Traffic::L4(l4) = &service.traffic else { return Err(Reason::Internal) };
    let pool = snapshot.pool(l4.pool).ok_or(Reason::NoEndpoint)?;
    report.pool(pool);
    let hash = l4.hash_by.flow(&pool.hash_key(), report.peer(), None);
    let mut tries = Tries::default();
    let reached = pick_and_dial(worker, pool, hash, &mut tries, deadline, client).await;
    report.tries(tries.count());
    let (picked, connection) = reached?;
    // The only latency that a relay can know of an endpoint.
    picked.endpoint.load.observe(connection.took, clock::now());
    picked.endpoint.answered(worker.id);
    picked.endpoint.cells.row(worker.id).requests.one();
    report.endpoint(&picked.endpoint);
    Ok((picked, connection))
}
