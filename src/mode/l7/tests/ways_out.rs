//! How connections leave the exchange of requests: upgrades, drains, removals, limits.

use super::*;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Switches protocols, says what came before it did, then sends everything back.
async fn socket() -> Origin {
    origin(|_, mut wire| async move {
        let head = wire.head().await.unwrap();
        assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (Some("websocket"), Some("Upgrade")));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut early = [0; 16];
        let early = wire.stream.try_read(&mut early).unwrap_or(0) + wire.ahead.len();
        wire.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly:{early};"
        ))
        .await;
        loop {
            let bytes = std::mem::take(&mut wire.ahead);
            wire.send(bytes).await;
            if !wire.more().await {
                break wire.send("bye").await;
            }
        }
    })
    .await
}

#[test]
fn a_websocket_becomes_a_tunnel_and_early_bytes_are_held_until_then() {
    run(async {
        let origin = socket().await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send(format!("{UPGRADE}frames")).await;
        let head = client.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (Some("websocket"), Some("Upgrade")));
        assert_eq!(client.take(14).await, b"early:0;frames", "A30");
        for _ in 0..3 {
            client.send("ping").await;
            assert_eq!(client.take(4).await, b"ping");
        }
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.take(3).await, b"bye", "F7: half-close reaches the endpoint, and its answer the client");
        assert!(client.ended().await);
        until("nothing is in flight", || world.in_flight() == 0).await;
        assert_eq!(world.responses(101), 1);
    });
}

#[test]
fn a_refused_upgrade_stays_http_unless_frames_came_already() {
    run(async {
        let origin = answering("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno").await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send(UPGRADE).await;
        assert_eq!(client.answer().await.status(), 426, "C8");
        client.send(GET).await;
        assert_eq!(client.answer().await.status(), 426, "C8: still HTTP");

        let mut client = world.client().await;
        client.send(format!("{UPGRADE}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.answer().await.status(), 426);
        assert!(client.ended().await, "A30: bytes sent for a tunnel are never a request");
        assert!(!origin.heads.borrow().iter().any(|head| head.contains("smuggled")));
    });
}

#[test]
fn a_switch_nobody_asked_for_is_refused() {
    run(async {
        let origin =
            answering("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        let world = World::new(&[origin.address]).await;
        assert_eq!(world.ask(GET).await.status(), 502);
    });
}

#[test]
fn a_draining_worker_finishes_what_is_open_and_starts_nothing() {
    run(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let gate = go.clone();
        let origin = origin(move |_, mut wire| {
            let gate = gate.clone();
            async move {
                while let Some(request) = wire.request().await {
                    if request.head.starts_with("GET /slow") {
                        gate.notified().await;
                    }
                    wire.send(HELLO).await;
                }
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut busy = world.client().await;
        busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        until("the request is under way", || world.in_flight() == 1).await;
        let (mut idle, mut late) = (world.client().await, world.client().await);
        for wire in [&mut idle, &mut late] {
            wire.send(GET).await;
            assert_eq!(wire.answer().await.field("connection"), None);
        }

        world.worker.begin_drain();
        late.send(GET).await;
        let answer = late.answer().await;
        assert_eq!((answer.text(), answer.field("connection")), ("hello", Some("close")), "a late request is answered");
        assert!(late.ended().await);
        go.notify_waiters();
        let answer = busy.answer().await;
        assert_eq!((answer.text(), answer.field("connection")), ("hello", Some("close")));
        assert!(busy.ended().await && idle.ended().await);
    });
}

#[test]
fn a_client_beyond_the_limit_is_told_so() {
    run(async {
        let origin = answering(HELLO).await;
        let world = World::planned(&[origin.address], |plan| plan.service.limits.max_connections = 1).await;
        let mut first = world.client().await;
        first.send(GET).await;
        assert_eq!(first.answer().await.status(), 200);
        let answer = world.ask(GET).await;
        assert_eq!((answer.status(), answer.field("x-strata-reason")), (503, Some("too-many-connections")));
        assert_eq!((world.dropped(Reason::TooManyConnections), world.responses(503)), (1, 1));

        // One that another worker accepted.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut handed = Wire::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let (stream, local) = (TcpStream::from_std(stream).unwrap(), listener.local_addr().unwrap());
        world.mode.clone().serve(Accepted { service: world.service().id, stream, peer, local }).await;
        assert_eq!(handed.answer().await.status(), 503);
        drop(first);
        let open = world.service();
        until("the place is free", || open.kept.open.load(std::sync::atomic::Ordering::Relaxed) == 0).await;
        assert_eq!(world.ask(GET).await.status(), 200);
    });
}

#[test]
fn a_client_that_says_nothing_and_an_exchange_cut_short_are_counted() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            wire.head().await;
            while wire.more().await {}
        })
        .await;
        let world =
            World::planned(&[origin.address], |plan| plan.service.timeouts.header = Duration::from_millis(100)).await;
        let mut silent = world.client().await;
        assert!(silent.ended().await);
        assert_eq!(world.dropped(Reason::HeaderTimeout), 1);

        // Its worker ends with the exchange under way: the drain's deadline has passed.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Wire::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        client.send(GET).await;
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let (stream, local) = (TcpStream::from_std(stream).unwrap(), listener.local_addr().unwrap());
        let accepted = Accepted { service: world.service().id, stream, peer, local };
        let task = spawn_local(world.mode.clone().serve(accepted));
        until("the endpoint has the request", || world.in_flight() == 1).await;
        task.abort();
        until("it is counted", || world.dropped(Reason::DrainDeadline) == 1).await;
        assert_eq!(world.in_flight(), 0);
    });
}
