//! Tests of the relay with real sockets: a client's end and an endpoint's end, and the relay between them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::net::rig::{Rig, local, pair, until};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

struct Scene {
    rig: Rig,
    client: TcpStream,
    endpoint: TcpStream,
    relay: JoinHandle<Outcome>,
}

#[derive(Clone, Copy)]
struct Waits {
    idle: Duration,
    half_close: Duration,
}

async fn scene() -> Scene {
    scene_with(Waits { idle: LONG, half_close: LONG }, b"", b"").await
}

async fn scene_with(waits: Waits, to_endpoint: &[u8], to_client: &[u8]) -> Scene {
    let rig = Rig::new(&[], |_| {});
    let ((client, from_client), (to_endpoint_socket, endpoint)) = (pair().await, pair().await);
    let first = |bytes: &[u8]| {
        let mut buffer = rig.worker.buffers.take();
        buffer.room()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
        (!bytes.is_empty()).then_some(buffer)
    };
    let (up, down) = (first(to_endpoint), first(to_client));
    let (worker, kept) = (rig.worker.clone(), rig.service.kept.clone());
    let relay = tokio::task::spawn_local(async move {
        let deadline = worker.timers.deadline();
        let cells = kept.cells.row(worker.id);
        let relay =
            Relay { worker: &worker, cells, deadline: &deadline, idle: waits.idle, half_close: waits.half_close };
        relay.run(from_client, to_endpoint_socket, up, down).await
    });
    Scene { rig, client, endpoint, relay }
}

impl Scene {
    fn received(&self) -> u64 {
        self.rig.service.kept.cells.sum(|cells| cells.bytes_received.get())
    }

    fn sent(&self) -> u64 {
        self.rig.service.kept.cells.sum(|cells| cells.bytes_sent.get())
    }

    /// Waits until nothing has moved for a while though something did before, doing `work` meanwhile.
    async fn stalls(&self, mut work: impl FnMut()) -> u64 {
        let (mut last, mut same) = (0, 0);
        until("the relay stalls", || {
            work();
            let moved = self.received() + self.sent();
            same = if moved > 0 && moved == last { same + 1 } else { 0 };
            last = moved;
            same > 40
        })
        .await;
        last
    }
}

async fn all(stream: &mut TcpStream) -> Result<Vec<u8>, io::ErrorKind> {
    let mut got = Vec::new();
    match stream.read_to_end(&mut got).await {
        Ok(_) => Ok(got),
        Err(error) => Err(error.kind()),
    }
}

/// Bytes that show where they belong.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[tokio::test]
async fn either_side_may_finish_first_and_still_be_answered() {
    local(async {
        for client_first in [true, false] {
            let Scene { rig, mut client, mut endpoint, relay } = scene().await;
            let (first, second) =
                if client_first { (&mut client, &mut endpoint) } else { (&mut endpoint, &mut client) };
            first.write_all(b"that is all").await.unwrap();
            first.shutdown().await.unwrap();
            assert_eq!(all(second).await.unwrap(), b"that is all");
            assert!(!relay.is_finished());
            second.write_all(b"and the answer is longer").await.unwrap();
            second.shutdown().await.unwrap();
            assert_eq!(all(first).await.unwrap(), b"and the answer is longer");
            let (received, sent) = if client_first { (11, 24) } else { (24, 11) };
            let outcome = relay.await.unwrap();
            assert_eq!(outcome, Outcome { end: End::Closed, received, sent });
            assert_eq!(outcome.reason(), None);
            assert_eq!(rig.service.kept.cells.sum(|cells| cells.bytes_sent.get()), sent);
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_read_before_goes_first_and_is_not_counted_as_received_again() {
    local(async {
        let waits = Waits { idle: LONG, half_close: LONG };
        let Scene { mut client, mut endpoint, relay, .. } = scene_with(waits, b"early ", b"hello ").await;
        client.write_all(b"late").await.unwrap();
        client.shutdown().await.unwrap();
        endpoint.write_all(b"world").await.unwrap();
        endpoint.shutdown().await.unwrap();
        assert_eq!(all(&mut endpoint).await.unwrap(), b"early late");
        assert_eq!(all(&mut client).await.unwrap(), b"hello world");
        assert_eq!(relay.await.unwrap(), Outcome { end: End::Closed, received: 4, sent: 11 });
    })
    .await;
}

#[tokio::test]
async fn long_transfers_both_ways_arrive_whole_and_are_counted_as_they_pass() {
    local(async {
        const LENGTH: usize = 12 * 1024 * 1024;
        let mut scene = scene().await;
        let (up, down) = (pattern(1, LENGTH), pattern(2, LENGTH));
        let (mut client_read, mut client_write) = scene.client.split();
        let (mut endpoint_read, mut endpoint_write) = scene.endpoint.split();
        let send_up = async {
            // Both ways of carrying: whole megabytes, then small pieces, then megabytes again.
            let (bulk, rest) = up.split_at(LENGTH / 2);
            let (small, rest) = rest.split_at(20_000);
            client_write.write_all(bulk).await.unwrap();
            for piece in small.chunks(100) {
                client_write.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client_write.write_all(rest).await.unwrap();
            client_write.shutdown().await.unwrap();
        };
        let send_down = async {
            endpoint_write.write_all(&down).await.unwrap();
            endpoint_write.shutdown().await.unwrap();
        };
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let watched = async {
            let cells = || scene.rig.service.kept.cells.sum(|cells| cells.bytes_received.get());
            until("bytes of a running relay are counted", || cells() > 0).await;
            assert!(!scene.relay.is_finished());
        };
        let (.., a, b, ()) = tokio::join!(
            send_up,
            send_down,
            endpoint_read.read_to_end(&mut got_up),
            client_read.read_to_end(&mut got_down),
            watched
        );
        assert_eq!((a.unwrap(), b.unwrap()), (LENGTH, LENGTH));
        assert!(got_up == up, "what the client sent");
        assert!(got_down == down, "what the endpoint sent");
        let outcome = scene.relay.await.unwrap();
        assert_eq!(outcome, Outcome { end: End::Closed, received: LENGTH as u64, sent: LENGTH as u64 });
    })
    .await;
}

#[tokio::test]
async fn a_side_that_is_not_read_is_not_read_from_and_loses_nothing() {
    local(async {
        const LENGTH: usize = 48 * 1024 * 1024;
        let mut scene = scene().await;
        let mut endpoint = mem::replace(&mut scene.endpoint, pair().await.0);
        let writer = tokio::task::spawn_local(async move {
            endpoint.write_all(&pattern(3, LENGTH)).await.unwrap();
            endpoint.shutdown().await.unwrap();
            endpoint
        });
        let moved = scene.stalls(|| {}).await;
        assert!(!writer.is_finished() && moved < LENGTH as u64, "{moved} bytes went nowhere");
        let mut got = vec![0; LENGTH];
        scene.client.read_exact(&mut got).await.unwrap();
        assert!(got == pattern(3, LENGTH));
        scene.client.shutdown().await.unwrap();
        drop(writer.await.unwrap());
        assert_eq!(scene.relay.await.unwrap().end, End::Closed);
    })
    .await;
}

#[tokio::test]
async fn one_way_holds_one_buffer_while_blocked_and_none_while_waiting() {
    local(async {
        let rig = Rig::new(&[], |_| {});
        let ((mut client, mut from), (mut to, mut endpoint)) = (pair().await, pair().await);
        let mut way = Way::new(None);
        let ((mut read, _), (_, write)) = (from.split(), to.split());
        let writer = tokio::task::spawn_local(async move {
            let _ = client.write_all(&vec![1; 48 << 20]).await;
            client
        });
        let mut quiet = 0;
        let mut last = 0;
        while quiet < 100 {
            std::future::poll_fn(|cx| {
                assert!(way.poll(cx, &mut read, &write, &rig.worker).is_pending());
                Poll::Ready(())
            })
            .await;
            assert!(way.read - way.written <= limits::BUFFER_BULK_BYTES as u64, "{} held", way.read - way.written);
            quiet = if way.read > 0 && way.read == last { quiet + 1 } else { 0 };
            last = way.read;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(!way.held.is_empty() && !writer.is_finished(), "the endpoint reads nothing");

        let reader = tokio::task::spawn_local(async move {
            let mut got = vec![0; 48 << 20];
            endpoint.read_exact(&mut got).await.unwrap();
            endpoint
        });
        while way.written < 48 << 20 {
            std::future::poll_fn(|cx| {
                assert!(way.poll(cx, &mut read, &write, &rig.worker).is_pending());
                Poll::Ready(())
            })
            .await;
            tokio::task::yield_now().await;
        }
        reader.await.unwrap();
        assert!(matches!(way.held, Held::Nothing), "all is delivered and nothing is there");
        drop(writer.await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn silence_ends_a_relay_visibly_after_the_time_that_applies() {
    local(async {
        let (idle, half) = (Waits { idle: SHORT, half_close: LONG }, Waits { idle: LONG, half_close: SHORT });
        for (waits, client_finishes) in [(idle, false), (half, true)] {
            let mut scene = scene_with(waits, b"", b"").await;
            scene.client.write_all(b"hello").await.unwrap();
            if client_finishes {
                scene.client.shutdown().await.unwrap();
            }
            let outcome = scene.relay.await.unwrap();
            assert_eq!((outcome.end, outcome.reason()), (End::Idle, Some(Reason::IdleTimeout)));
            assert_eq!(all(&mut scene.client).await, Err(io::ErrorKind::ConnectionReset));
            // Where the client had finished, the endpoint has read that end already.
            let want = if client_finishes { Ok(b"hello".to_vec()) } else { Err(io::ErrorKind::ConnectionReset) };
            assert_eq!(all(&mut scene.endpoint).await, want);
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_now_and_then_keep_a_relay_open_past_its_idle_time() {
    local(async {
        // Twenty bytes an idle time, for twice that time: one may be very late.
        let idle = Duration::from_secs(1);
        let mut scene = scene_with(Waits { idle, half_close: idle }, b"", b"").await;
        scene.client.shutdown().await.unwrap();
        for _ in 0..40 {
            scene.endpoint.write_all(b".").await.unwrap();
            tokio::time::sleep(idle / 20).await;
        }
        scene.endpoint.shutdown().await.unwrap();
        assert_eq!(all(&mut scene.client).await.unwrap().len(), 40);
        assert_eq!(scene.relay.await.unwrap().end, End::Closed);
    })
    .await;
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset_after_what_came_before_it() {
    local(async {
        for client_resets in [true, false] {
            let Scene { rig, mut client, mut endpoint, relay } = scene().await;
            let (one, other) = if client_resets { (client, &mut endpoint) } else { (endpoint, &mut client) };
            let mut one = one;
            one.write_all(b"half of it").await.unwrap();
            let mut got = [0; 10];
            other.read_exact(&mut got).await.unwrap();
            reset_on_close(&one);
            drop(one);
            assert_eq!(all(other).await, Err(io::ErrorKind::ConnectionReset), "client resets: {client_resets}");
            let outcome = relay.await.unwrap();
            let (end, reason) = match client_resets {
                true => (End::ClientReset, Reason::ClientClosed),
                false => (End::EndpointReset, Reason::UpstreamTruncated),
            };
            assert_eq!((outcome.end, outcome.reason()), (end, Some(reason)));
            drop(rig);
        }
    })
    .await;
}

#[tokio::test]
async fn a_reset_that_a_write_finds_out_does_not_look_like_an_end() {
    local(async {
        let Scene { mut client, endpoint, relay, .. } = scene().await;
        // Both at once: the relay first hears of the reset by writing what the client sent.
        reset_on_close(&endpoint);
        drop(endpoint);
        client.write_all(b"are you there?").await.unwrap();
        assert_eq!(all(&mut client).await, Err(io::ErrorKind::ConnectionReset));
        assert_eq!(relay.await.unwrap().end, End::EndpointReset);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_resets_while_the_endpoint_reads_nothing_is_noticed_at_once() {
    local(async {
        let scene = scene().await;
        let chunk = vec![0; 256 * 1024];
        scene.stalls(|| drop(scene.client.try_write(&chunk))).await;
        reset_on_close(&scene.client);
        drop(scene.client);
        let outcome = tokio::time::timeout(Duration::from_secs(1), scene.relay).await.expect("F9: within a second");
        assert_eq!(outcome.unwrap().end, End::ClientReset);
    })
    .await;
}

#[tokio::test]
async fn an_answer_given_before_the_upload_is_complete_reaches_the_client() {
    local(async {
        let mut scene = scene().await;
        scene.client.write_all(b"a long upload begins").await.unwrap();
        let mut got = [0; 20];
        scene.endpoint.read_exact(&mut got).await.unwrap();
        scene.endpoint.write_all(b"too large").await.unwrap();
        scene.endpoint.shutdown().await.unwrap();
        scene.endpoint = pair().await.0;
        until("the answer is sent on", || scene.sent() == 9).await;

        // The endpoint resets what comes now; the client keeps sending for a while before it looks.
        for _ in 0..20 {
            scene.client.write_all(b"still more of it").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(all(&mut scene.client).await.unwrap(), b"too large");
        scene.client.shutdown().await.unwrap();
        let outcome = scene.relay.await.unwrap();
        assert_eq!((outcome.end, outcome.sent), (End::EndpointReset, 9));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_never_stops_sending_to_a_closed_endpoint_is_reset() {
    local(async {
        let mut scene = scene().await;
        scene.endpoint.shutdown().await.unwrap();
        drop(scene.endpoint);
        let error = loop {
            match scene.client.write_all(&[0; 16 * 1024]).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
        let outcome = scene.relay.await.unwrap();
        assert_eq!((outcome.end, outcome.reason()), (End::EndpointReset, Some(Reason::UpstreamClosed)));
        assert!(outcome.received < 64 * 1024 * 1024, "{}", outcome.received);
    })
    .await;
}
