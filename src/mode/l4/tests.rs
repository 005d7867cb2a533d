//! Tests of the L4 proxy over real sockets: scripted endpoints, a worker on the test's thread, its counts afterwards.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::balance;
use crate::base::Listen;
use crate::base::limits;
use crate::doc::Settings;
use crate::net::ControlEvent;
use crate::net::rig::{Rig, local, nobody, settings, until};
use crate::observe::access::{Format, Output, Sink};
use crate::sys::{Claim, fall_silent, listen};

const SHORT: Duration = Duration::from_millis(150);

/// An endpoint that sends back what it gets until it gets no more. Each connection begins with the endpoint's port.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let (mut read, mut write) = stream.split();
                write.write_all(&address.port().to_be_bytes()).await?;
                tokio::io::copy(&mut read, &mut write).await?;
                write.shutdown().await
            });
        }
    });
    address
}

/// A listener that never answers a SYN.
fn silent() -> (std::net::TcpListener, SocketAddr) {
    let listener = listen(Listen::parse("127.0.0.1:0").unwrap(), 1, Claim::Exclusive).unwrap().remove(0);
    fall_silent(&listener).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn open(rig: &Rig) -> (TcpStream, JoinHandle<()>) {
    let (client, accepted) = rig.client().await;
    let mode = (SPEC.start)(rig.worker.clone());
    (client, tokio::task::spawn_local(mode.serve(accepted)))
}

/// One whole conversation; the port of the endpoint that answered.
async fn talk(rig: &Rig) -> io::Result<u16> {
    let (mut client, task) = open(rig).await;
    let mut said = Vec::new();
    let outcome = async {
        client.write_all(b"hello").await?;
        client.shutdown().await?;
        client.read_to_end(&mut said).await
    }
    .await;
    task.await.unwrap();
    outcome?;
    assert_eq!(&said[2..], b"hello");
    Ok(u16::from_be_bytes([said[0], said[1]]))
}

impl Rig {
    fn dropped(&self, reason: Reason) -> u64 {
        self.service.kept.cells.sum(|cells| cells.dropped(reason))
    }

    fn errors(&self, kind: UpstreamError) -> u64 {
        self.pool.endpoints.iter().map(|endpoint| endpoint.cells.sum(|cells| cells.errors(kind))).sum()
    }

    fn retries(&self) -> u64 {
        self.pool.cells.sum(|cells| cells.retries.get())
    }

    /// Failures in a row, as the control side hears of them.
    fn heard(&mut self) -> Vec<u32> {
        let mut heard = Vec::new();
        while let Ok(ControlEvent::ConnectFailing { failures, .. }) = self.control.try_recv() {
            heard.push(failures);
        }
        heard
    }

    fn assert_nothing_open(&self) {
        let cells = &self.service.kept.cells;
        assert_eq!(cells.sum(|c| c.connections_opened.get()), cells.sum(|c| c.connections_closed.get()));
        assert_eq!((self.service.kept.open.load(Relaxed), self.worker.crew.connections()), (0, 0));
        for endpoint in &self.pool.endpoints {
            let cells = &endpoint.cells;
            assert_eq!(cells.sum(|c| c.connections_opened.get()), cells.sum(|c| c.connections_closed.get()));
            assert_eq!(endpoint.load.in_flight(), 0);
        }
    }
}

#[tokio::test]
async fn a_connection_is_carried_and_counted_while_it_runs_and_after() {
    local(async {
        let endpoint = echo().await;
        let rig = Rig::new(&[endpoint], |_| {});
        let (mut client, task) = open(&rig).await;
        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 6];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got[2..], b"ping");
        let cells = &rig.service.kept.cells;
        assert_eq!((cells.sum(|c| c.bytes_received.get()), cells.sum(|c| c.bytes_sent.get())), (4, 6));
        assert_eq!((rig.pool.endpoints[0].load.in_flight(), rig.worker.crew.connections()), (1, 1));
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut got).await.unwrap(), 0);
        task.await.unwrap();

        rig.assert_nothing_open();
        let endpoint = &rig.pool.endpoints[0].cells;
        assert_eq!((endpoint.sum(|c| c.requests.get()), endpoint.sum(|c| c.connections_opened.get())), (1, 1));
        let (buckets, _) = rig.pool.cells.rows().next().unwrap().connect_duration.read();
        assert_eq!(buckets.iter().sum::<u64>(), 1);
        assert!(Reason::ALL.iter().all(|reason| rig.dropped(*reason) == 0));
    })
    .await;
}

#[tokio::test]
async fn another_endpoint_is_picked_while_connecting_fails() {
    local(async {
        let ((silent, unanswered), (refuses, _held)) = (silent(), nobody());
        for (bad, kind) in [(refuses, UpstreamError::Refused), (unanswered, UpstreamError::Timeout)] {
            let good = echo().await;
            let mut rig = Rig::new(&[bad, good], |specs| specs.pool.connect_timeout = SHORT);
            assert_eq!(talk(&rig).await.unwrap(), good.port());
            assert_eq!((rig.errors(kind), rig.retries(), rig.heard()), (1, 1, vec![1]));
            assert!(Reason::ALL.iter().all(|reason| rig.dropped(*reason) == 0), "the client noticed nothing");
            rig.assert_nothing_open();
        }
        drop(silent);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_no_endpoint_takes_is_reset_with_a_reason() {
    local(async {
        let (silent, unanswered) = silent();
        let (dead, _held): (Vec<_>, Vec<_>) = (0..=limits::TRIES + limits::ABSENT).map(|_| nobody()).unzip();
        for (endpoints, reason, tries) in [
            (&dead[..], Reason::ConnectFailed, limits::TRIES + limits::ABSENT),
            (&dead[..1], Reason::ConnectFailed, 1),
            (&[unanswered][..], Reason::ConnectTimeout, 1),
            (&[unanswered, dead[0]][..], Reason::ConnectFailed, 2),
            (&[][..], Reason::NoEndpoint, 0),
        ] {
            let mut rig = Rig::new(endpoints, |specs| specs.pool.connect_timeout = SHORT);
            let error = talk(&rig).await.unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected
                ),
                "{error}"
            );
            assert_eq!(rig.dropped(reason), 1, "{reason:?}");
            assert_eq!(rig.heard().len(), tries, "{reason:?} of {endpoints:?}");
            rig.assert_nothing_open();
        }
        drop(silent);
    })
    .await;
}

#[tokio::test]
async fn failures_in_a_row_grow_until_a_connect_succeeds() {
    local(async {
        let (address, held) = nobody();
        let mut rig = Rig::new(&[address], |_| {});
        for _ in 0..3 {
            talk(&rig).await.unwrap_err();
        }
        assert_eq!(rig.heard(), [1, 2, 3]);
        let listener = held.listen(16).unwrap();
        let (client, task) = open(&rig).await;
        let (accepted, _) = listener.accept().await.unwrap();
        until("a success ends the row", || rig.pool.endpoints[0].failures_in_row.load(Relaxed) == 0).await;
        drop((client, accepted));
        task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn limits_refuse_by_name_and_let_in_again_when_there_is_room() {
    local(async {
        for (all, per_source, reason) in [(1, 0, Reason::TooManyConnections), (0, 1, Reason::TooManyFromSource)] {
            let endpoint = echo().await;
            let rig = Rig::new(&[endpoint], |specs| {
                specs.service.limits.max_connections = all;
                specs.service.limits.max_connections_per_source = per_source;
            });
            let (mut first, task) = open(&rig).await;
            first.read_u16().await.unwrap();
            talk(&rig).await.unwrap_err();
            assert_eq!(rig.dropped(reason), 1);
            first.shutdown().await.unwrap();
            task.await.unwrap();
            talk(&rig).await.unwrap();
            rig.assert_nothing_open();
        }
    })
    .await;
}

#[tokio::test]
async fn a_source_stays_with_its_endpoint_where_the_algorithm_hashes() {
    local(async {
        let endpoints = [echo().await, echo().await, echo().await];
        for (key, sticky) in [("source-address", true), ("source-address-port", false)] {
            let rig = Rig::new(&endpoints, |specs| {
                specs.pool.balance = Settings::defaults(&balance::find("maglev").unwrap().grammar);
                let hash_by = balance::HashBy::parse(key).unwrap();
                specs.service.traffic = match specs.service.traffic {
                    crate::state::TrafficSpec::L4 { pool, .. } => crate::state::TrafficSpec::L4 { pool, hash_by },
                    _ => unreachable!("the rig's service is l4"),
                };
            });
            let mut met = std::collections::BTreeSet::new();
            for _ in 0..24 {
                met.insert(talk(&rig).await.unwrap());
            }
            assert_eq!(met.len() == 1, sticky, "{key}: {met:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_resets_and_a_relay_that_idles_are_counted_by_name() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rig = Rig::new(&[listener.local_addr().unwrap()], |specs| specs.service.timeouts.idle = SHORT);
        let (mut client, task) = open(&rig).await;
        let (mut endpoint, _) = listener.accept().await.unwrap();
        endpoint.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        reset_on_close(&endpoint);
        drop(endpoint);
        assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        task.await.unwrap();
        assert_eq!((rig.dropped(Reason::UpstreamTruncated), rig.errors(UpstreamError::Reset)), (1, 1));

        let (mut client, task) = open(&rig).await;
        let (endpoint, _) = listener.accept().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        task.await.unwrap();
        assert_eq!((rig.dropped(Reason::IdleTimeout), rig.errors(UpstreamError::Reset)), (1, 1));
        drop(endpoint);
        rig.assert_nothing_open();
    })
    .await;
}

#[tokio::test]
async fn a_relay_outlives_its_service_and_holds_no_old_snapshot() {
    local(async {
        let endpoint = echo().await;
        let rig = Rig::new(&[endpoint], |_| {});
        let old = Arc::downgrade(rig.worker.snapshot().shared());
        let (mut client, task) = open(&rig).await;
        client.read_u16().await.unwrap();
        rig.worker.crew.snapshot.store(Arc::new(Snapshot::empty(settings())));
        rig.worker.refresh();

        // One that was accepted before is still served.
        let (mut queued, task_of_queued) = open(&rig).await;
        queued.read_u16().await.unwrap();
        drop(queued);
        task_of_queued.await.unwrap();
        rig.worker.forget_leaving(crate::base::clock::now() + settings().drain_timeout);
        assert!(old.upgrade().is_none(), "the relay holds the old snapshot");
        client.write_all(b"on").await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"on");
        task.await.unwrap();
        rig.assert_nothing_open();

        // A connection of a service that is long gone is refused.
        let (mut late, task) = open(&rig).await;
        assert_eq!(late.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn every_connection_leaves_a_record_with_how_it_ended() {
    let path = std::env::temp_dir().join(format!("strata-l4-{}.log", std::process::id()));
    let (sink, writer) = Sink::start(&Output::File(path.clone())).unwrap();
    local(async {
        let good = echo().await;
        let with_records = |endpoints: &[SocketAddr]| {
            Rig::new(endpoints, |specs| {
                specs.access = sink.clone();
                specs.service.access = Some(Format::Json);
            })
        };
        let (refuses, _held) = nobody();
        talk(&with_records(&[refuses, good])).await.unwrap();
        talk(&with_records(&[refuses])).await.unwrap_err();
        let rig = with_records(&[good]);
        let (mut client, task) = open(&rig).await;
        client.read_u16().await.unwrap();
        task.abort();
        task.await.unwrap_err();
        assert_eq!(rig.dropped(Reason::DrainDeadline), 1);
        rig.assert_nothing_open();
    })
    .await;
    writer.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (good, failed, cut) = (&records[0], &records[1], &records[2]);
    assert_eq!(
        (&good["service"], &good["pool"], &good["protocol"]),
        (&"edge".into(), &"backend".into(), &"tcp".into())
    );
    assert_eq!((&good["bytes_received"], &good["bytes_sent"], &good["tries"]), (&5.into(), &7.into(), &2.into()));
    assert!(good.get("why").is_none() && good["endpoint"].is_string(), "{good}");
    assert_eq!((&failed["why"], failed.get("endpoint")), (&"connect-failed".into(), None));
    assert_eq!((&cut["why"], &cut["bytes_sent"]), (&"drain-deadline".into(), &2.into()));
}

#[tokio::test]
async fn nobody_overtakes_who_waits_already() {
    local(async {
        let endpoint = echo().await;
        let rig = Rig::new(&[endpoint], |specs| {
            specs.pool.capacity.max_requests = 1;
            specs.pool.capacity.queue_timeout = Duration::from_secs(30);
        });
        // Somebody of another worker is first, though there is a place.
        let first = rig.pool.queue.enter(crate::base::WorkerId(7), 9).unwrap();
        let talking = tokio::task::spawn_local({
            let (client, accepted) = rig.client().await;
            let served = (SPEC.start)(rig.worker.clone()).serve(accepted);
            async move {
                served.await;
                drop(client);
            }
        });
        until("it waits", || rig.pool.queue.waiting() == 2).await;
        assert_eq!(rig.pool.endpoints[0].load.in_flight(), 0);
        drop(first);
        until("it has its turn", || rig.pool.endpoints[0].load.in_flight() == 1).await;
        assert_eq!(rig.pool.queue.waiting(), 0);
        talking.abort();
        let _ = talking.await;
        assert_eq!((rig.pool.endpoints[0].load.in_flight(), rig.pool.endpoints[0].open()), (0, 0));
        assert_eq!(rig.dropped(Reason::DrainDeadline), 1, "its task was dropped");
    })
    .await;
}
