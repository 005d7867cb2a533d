//! Where one message ends and the next begins, and whose time a wait is: what only shows when bytes come in odd pieces.

use super::*;
use crate::observe::access::{Format, Output};

/// Answers with the request's path and the length of its body.
async fn telling() -> Origin {
    origin(|_, mut wire| async move {
        while let Some(request) = wire.request().await {
            let text = format!("{} {}", request.head.split(' ').nth(1).unwrap(), request.body.len());
            // Late enough for what comes behind the request to be read meanwhile.
            tokio::time::sleep(Duration::from_millis(30)).await;
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())).await;
        }
    })
    .await
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[test]
fn what_comes_behind_a_streamed_body_in_pieces_is_the_next_request() {
    run(async {
        let origin = telling().await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        for pieces in [
            ["POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "12345GET /2", " HTTP/1.1\r\nHost: a\r\n\r\n"],
            ["POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n1", "2345", "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"],
            ["POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345", "GET /2 HTTP", "/1.1\r\nHost: a\r\n\r\n"],
        ] {
            for piece in pieces {
                client.send(piece).await;
                pause().await;
            }
            assert_eq!(client.answer().await.text(), "/1 5", "{pieces:?}");
            assert_eq!(client.answer().await.text(), "/2 0", "{pieces:?}");
        }
    });
}

#[test]
fn a_client_that_ends_its_half_gets_all_its_answers() {
    run(async {
        let origin = telling().await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.stream.shutdown().await.unwrap();
        let first = client.answer().await;
        assert_eq!((first.text(), first.field("connection")), ("/1 0", None));
        let second = client.answer().await;
        assert_eq!((second.text(), second.field("connection")), ("/2 0", Some("close")));
        assert!(client.ended().await);
    });
}

#[test]
fn a_record_shows_the_request_whatever_became_of_its_body() {
    let path = std::env::temp_dir().join(format!("strata-edges-{}", std::process::id()));
    let (sink, writer) = access::Sink::start(&Output::File(path.clone())).unwrap();
    run(async {
        let origin = telling().await;
        let change = |plan: &mut Plan| plan.service.access = Some(Format::Combined);
        let world = World::recorded(&[origin.address], sink, change).await;
        let mut client = world.client().await;
        client.send("POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345").await;
        assert_eq!(client.answer().await.status(), 200);
        client.send("POST /streamed HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
        pause().await;
        client.send("12345GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((client.answer().await.status(), client.answer().await.status()), (200, 200));
    });
    writer.finish();
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let asked: Vec<&str> = log.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(asked, ["POST /whole HTTP/1.1", "POST /streamed HTTP/1.1", "GET /next HTTP/1.1"], "{log}");
}

#[test]
fn a_request_that_was_answered_in_part_is_not_sent_again() {
    run(async {
        for part in ["H", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"] {
            let origin = origin(move |_, mut wire| async move {
                wire.request().await;
                wire.send(part).await;
                pause().await;
            })
            .await;
            let other = answering(HELLO).await;
            let world = World::planned(&[origin.address, other.address], |plan| {
                plan.pool.balance = PluginSettings::defaults(&balance::find("first").unwrap().grammar);
            })
            .await;
            let mut client = world.client().await;
            client.send(GET).await;
            let mut answer = client.answer().await;
            if answer.status() == 103 {
                answer = client.answer().await;
            }
            assert_eq!((answer.status(), world.retries()), (502, 0), "{part}");
            assert_eq!(world.dropped(Reason::UpstreamClosed), 1, "{part}");
        }
    });
}

#[test]
fn a_request_that_the_budget_does_not_let_repeat_is_refused_once() {
    run(async {
        let dying = origin(|_, mut wire| async move {
            wire.request().await;
        })
        .await;
        let world = World::new(&[dying.address]).await;
        let mut last = world.ask(GET).await;
        for _ in 0..600 {
            if world.dropped(Reason::RetryBudget) > 0 {
                break;
            }
            last = world.ask(GET).await;
        }
        assert_eq!((last.status(), last.field("x-strata-reason")), (503, Some("retry-budget")));
        let drops = world.dropped(Reason::RetryBudget) + world.dropped(Reason::UpstreamClosed);
        assert_eq!(drops, world.responses(502) + world.responses(503), "each refusal has one reason");
    });
}

#[test]
fn the_time_that_an_endpoint_takes_is_not_the_clients() {
    run(async {
        // A machine with other things to do may stop everybody for a second: that is not yet a client's stall.
        let (gate, short) = (Duration::from_millis(3200), Duration::from_millis(1600));
        let origin = origin(move |_, mut wire| async move {
            let head = wire.head().await.unwrap();
            tokio::time::sleep(gate).await;
            if field(&head, "expect").is_some() {
                wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            }
            let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
            let body = wire.take(length).await;
            if body.len() == length {
                wire.send(HELLO).await;
            }
        })
        .await;
        let world = World::planned(&[origin.address], |plan| plan.service.timeouts.body = short).await;
        let expecting = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

        // More than sockets hold, and nobody reads it for longer than a body may stall.
        let large = async {
            let mut client = world.client().await;
            let length = 16_000_000;
            client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
            client.send(vec![b'x'; length]).await;
            assert_eq!(client.answer().await.status(), 200);
        };
        // The client waits for a word that takes longer than a body may stall; then it sends in time.
        let told = async {
            let mut client = world.client().await;
            client.send(expecting).await;
            assert_eq!(client.answer().await.status(), 100);
            for byte in "12345".bytes() {
                client.send([byte]).await;
                pause().await;
            }
            assert_eq!(client.answer().await.status(), 200);
        };
        // It has been told to go on and does not: that is its fault (F2).
        let silent = async {
            let mut client = world.client().await;
            client.send(expecting).await;
            assert_eq!(client.answer().await.status(), 100);
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.field("x-strata-reason")), (408, Some("body-timeout")));
        };
        tokio::join!(large, told, silent);
    });
}

#[test]
fn how_slowly_a_client_sends_is_no_latency_of_the_endpoint() {
    run(async {
        let origin = answering(HELLO).await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
        for byte in "12345".bytes() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.send([byte]).await;
        }
        assert_eq!(client.answer().await.status(), 200);
        let cost = world.pool().endpoints[0].load.cost(crate::base::clock::now(), 1.0);
        assert!(cost > 0.0 && cost < 2e8, "{cost} ns for 500 ms of a client's own time");
    });
}

#[test]
fn answers_of_our_own_count_towards_the_requests_of_a_connection() {
    run(async {
        let world = World::planned(&[], |plan| plan.service.limits.max_requests = 2).await;
        let mut client = world.client().await;
        for connection in [None, Some("close")] {
            client.send(GET).await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.field("connection")), (503, connection));
        }
        assert!(client.ended().await);
    });
}

#[test]
fn an_idle_connection_is_looked_at_even_by_a_task_that_has_used_up_its_turn() {
    run(async {
        let (mut a, b) = crate::net::rig::pair().await;
        assert!(super::super::io::is_quiet(&b));
        a.write_all(b"poison").await.unwrap();
        b.readable().await.unwrap();
        std::future::poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let _ = b.poll_read_ready(cx);
            }
            assert!(!super::super::io::is_quiet(&b));
            std::task::Poll::Ready(())
        })
        .await;
    });
}
