//! What goes wrong at endpoints and clients, and what the other side gets.

use super::*;
use crate::health::Health;
use crate::observe::cells::UpstreamError;
use crate::state::{Endpoint, Status};

#[test]
fn a_request_whose_kept_connection_was_closed_under_it_is_sent_again() {
    run(async {
        let origin = origin(|before, mut wire| async move {
            wire.request().await;
            wire.send(HELLO).await;
            if before == 0 {
                // Takes the next request and goes away without a word.
                wire.request().await;
                return;
            }
            while wire.request().await.is_some() {
                wire.send(HELLO).await;
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "hello");
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "hello");
        assert_eq!((origin.connections.get(), world.retries(), world.in_flight()), (2, 1, 0));
    });
}

#[test]
fn an_idle_connection_that_the_endpoint_closed_or_wrote_to_is_not_used() {
    run(async {
        let origin = origin(|before, mut wire| async move {
            wire.request().await;
            wire.send(HELLO).await;
            if before == 0 {
                return;
            }
            if before == 1 {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").await;
            }
            while wire.request().await.is_some() {
                wire.send(HELLO).await;
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        for _ in 0..4 {
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
            assert_eq!(client.answer().await.text(), "hello", "A32");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((origin.connections.get(), world.retries()), (3, 0));
    });
}

#[test]
fn excess_bytes_behind_an_answer_are_dropped_with_their_connection() {
    run(async {
        let origin =
            answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
                .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        for _ in 0..3 {
            client.send(GET).await;
            assert_eq!(client.answer().await.text(), "hello", "A32");
        }
        assert_eq!(origin.connections.get(), 3, "A32");
    });
}

#[test]
fn a_post_that_reached_an_endpoint_is_not_sent_again() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            wire.request().await;
            wire.send(HELLO).await;
            wire.request().await;
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        client.send(post).await;
        assert_eq!(client.answer().await.text(), "hello");
        client.send(post).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.field("x-strata-reason")), (502, Some("upstream-closed")), "I2");
        assert_eq!((origin.connections.get(), world.retries()), (1, 0), "I2");
        assert_eq!(world.dropped(Reason::UpstreamClosed), 1);
    });
}

#[test]
fn a_get_survives_an_endpoint_that_is_killed_before_it_answers() {
    run(async {
        let dying = origin(|_, mut wire| async move {
            wire.request().await;
            wire.reset();
        })
        .await;
        let living = answering(HELLO).await;
        let world = World::new(&[dying.address, living.address]).await;
        for _ in 0..6 {
            assert_eq!(world.ask(GET).await.text(), "hello", "I1");
        }
        assert_eq!((dying.connections.get() as u64, living.connections.get()), (world.retries(), 1));
        assert!(world.retries() >= 2 && world.in_flight() == 0);
    });
}

#[test]
fn an_endpoint_that_refuses_is_passed_over_and_reported() {
    run(async {
        let (dead, _held) = nobody();
        let living = answering(HELLO).await;
        let world = World::new(&[dead, living.address]).await;
        for _ in 0..4 {
            let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
            assert_eq!(world.ask(post).await.text(), "hello", "no byte was sent, so even POST goes elsewhere");
        }
        let endpoint = world.pool().endpoint(&dead.to_string()).unwrap().clone();
        let refused = endpoint.cells.sum(|cells| cells.errors(crate::observe::cells::UpstreamError::Refused));
        assert!(refused >= 2);
        let told = world.events.borrow_mut().try_recv().expect("the control side is told");
        let ControlEvent::ConnectFailing { endpoint: told, failures, .. } = told else { panic!("{told:?}") };
        assert_eq!((told.address, failures), (dead.into(), 1));
    });
}

#[test]
fn answers_of_our_own_say_why() {
    run(async {
        let (dead, _held) = nobody();
        let silent = origin(|_, mut wire| async move {
            wire.request().await;
            wire.more().await;
        })
        .await;
        let broken = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello").await;
        let no_endpoint = World::new(&[]).await;
        let refused = World::new(&[dead]).await;
        let slow = World::planned(&[silent.address], |plan| {
            plan.service.timeouts.response = Duration::from_millis(80);
        })
        .await;
        let malformed = World::new(&[broken.address]).await;
        let lost = World::planned(&[dead], |plan| {
            plan.l7().routes[0].pattern = Pattern::parse("example.com").unwrap();
        })
        .await;
        for (world, status, reason) in [
            (&no_endpoint, 503, Reason::NoEndpoint),
            (&refused, 502, Reason::ConnectFailed),
            (&slow, 504, Reason::ResponseTimeout),
            (&malformed, 502, Reason::UpstreamMalformed),
            (&lost, 404, Reason::NoRoute),
        ] {
            let answer = world.ask(GET).await;
            assert_eq!((answer.status(), answer.field("x-strata-reason")), (status, Some(reason.word())));
            until("it is counted", || world.dropped(reason) == 1 && world.responses(status) == 1).await;
            assert_eq!(world.in_flight(), 0);
        }
        let shy = World::planned(&[], |plan| plan.l7().reason_field = false).await;
        assert_eq!(shy.ask(GET).await.field("x-strata-reason"), None);
    });
}

#[test]
fn an_answer_that_breaks_off_is_visibly_truncated_and_not_asked_for_again() {
    run(async {
        for (head, framed) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXYZ\r\n", true),
        ] {
            for reset in [false, true] {
                let origin = origin(move |_, mut wire| async move {
                    wire.request().await;
                    wire.send(head).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    if reset {
                        wire.reset();
                    }
                })
                .await;
                let world = World::new(&[origin.address]).await;
                let answer = world.ask(GET).await;
                assert_eq!((answer.status(), answer.truncated), (200, framed), "F10: {head} reset: {reset}");
                assert_eq!((origin.connections.get(), world.retries()), (1, 0), "F10");
                until("it is counted", || {
                    world.dropped(Reason::UpstreamTruncated) + world.dropped(Reason::UpstreamMalformed) == 1
                })
                .await;
            }
        }
    });
}

/// F9, F7. A client that only ends its half may still be reading; one that resets is not.
#[test]
fn an_endpoint_is_left_at_once_when_the_client_resets_and_only_then() {
    run(async {
        let left = Rc::new(Cell::new(0));
        let seen = left.clone();
        let origin = origin(move |before, mut wire| {
            let seen = seen.clone();
            // The first is left, however late; whoever leaves the second would do so by now.
            let waits = if before == 0 { PATIENCE } else { Duration::from_millis(200) };
            async move {
                wire.request().await;
                if timeout(waits, wire.stream.readable()).await.is_err() {
                    return wire.send(HELLO).await;
                }
                seen.set(seen.get() + 1);
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send(GET).await;
        until("the endpoint has the request", || world.in_flight() == 1).await;
        client.reset();
        until("the endpoint is left", || left.get() == 1).await;
        until("nothing is in flight", || world.in_flight() == 0).await;
        assert_eq!(world.dropped(Reason::ClientClosed), 1, "F9");

        let mut client = world.client().await;
        client.send(GET).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.answer().await.text(), "hello", "F7");
        assert!(client.ended().await);
        assert_eq!((left.get(), world.in_flight()), (1, 0));
    });
}

/// F9 within an answer, however its body travels: nothing is written meanwhile that would meet the reset. What a client sends
/// instead is its next request, answered in its turn.
#[test]
fn a_reset_is_seen_while_an_endpoint_pauses_within_its_answer() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            for turn in [1, 2] {
                let Some(head) = wire.head().await else { return };
                let (head, rest) = match head.split(' ').nth(1).unwrap() {
                    "/short" => ("Content-Length: 10", "after".to_owned()),
                    "/long" => ("Content-Length: 100000", ".".repeat(99_990) + "after"),
                    _ => ("Transfer-Encoding: chunked", "5\r\nafter\r\n0\r\n\r\n".to_owned()),
                };
                let first = if head.ends_with("chunked") { "5\r\nfirst\r\n" } else { "first" };
                wire.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{first}")).await;
                if turn == 2 {
                    // Says no more: only the reset can end this exchange.
                    while wire.more().await {}
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                wire.send(rest).await;
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        for (gone, path) in (1..).zip(["/short", "/long", "/chunked"]) {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut client = world.client().await;
            client.send(&request).await;
            assert!(client.through("first").await.is_some(), "{path}");
            client.send(&request).await;
            assert!(client.through("after").await.is_some(), "{path}");
            assert!(client.through("first").await.is_some(), "{path}: the next request has its turn");
            assert_eq!(world.in_flight(), 1, "{path}");
            client.reset();
            until("the endpoint is left", || world.in_flight() == 0).await;
            assert_eq!(world.dropped(Reason::ClientClosed), gone, "{path}");
        }
        assert_eq!(origin.connections.get(), 3, "what was cut is not used again");
    });
}

#[test]
fn slow_clients_are_answered_or_cut_off() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            while wire.request().await.is_some() {
                wire.send(HELLO).await;
            }
        })
        .await;
        let short = Duration::from_millis(100);
        // One each, or a machine that stands still would run into another than is meant.
        let world = World::planned(&[origin.address], |plan| plan.service.timeouts.header = short).await;
        let mut dripping = world.client().await;
        for byte in "GET / HTTP/1.1\r\nHost:".bytes() {
            dripping.send([byte]).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let answer = dripping.answer().await;
        assert_eq!((answer.status(), answer.field("x-strata-reason")), (408, Some("header-timeout")), "F1");
        assert!(dripping.ended().await);
        assert_eq!((world.dropped(Reason::HeaderTimeout), world.dropped(Reason::BodyTimeout)), (1, 0));

        let world = World::planned(&[origin.address], |plan| plan.service.timeouts.body = short).await;
        let mut posting = world.client().await;
        posting.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx").await;
        assert_eq!(posting.answer().await.status(), 408, "F2");
        assert!(posting.ended().await);
        assert_eq!((world.dropped(Reason::HeaderTimeout), world.dropped(Reason::BodyTimeout)), (0, 1));

        let world = World::planned(&[origin.address], |plan| {
            plan.service.timeouts.header = Duration::from_secs(2);
            plan.service.timeouts.idle = short;
        })
        .await;
        let mut idle = world.client().await;
        idle.send(GET).await;
        assert_eq!(idle.answer().await.text(), "hello");
        assert!(idle.ended().await, "an idle connection is closed without a word");
        let mut silent = world.client().await;
        assert!(silent.ended().await, "{:?}", String::from_utf8_lossy(&silent.ahead));
        until("nothing is in flight", || world.in_flight() == 0).await;
    });
}

/// Answers late, once it is let.
async fn stalling(answers: &Rc<Cell<bool>>) -> Origin {
    let answers = answers.clone();
    origin(move |_, mut wire| {
        let answers = answers.clone();
        async move {
            while wire.request().await.is_some() {
                until("it may answer", || answers.get()).await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
            }
        }
    })
    .await
}

#[test]
fn who_waits_for_an_endpoint_that_goes_down_is_answered_by_another_where_repeating_does_no_harm() {
    run(async {
        let answers = Rc::new(Cell::new(false));
        let (stalls, well) = (stalling(&answers).await, answering(HELLO).await);
        let world = World::planned(&[stalls.address, well.address], |plan| {
            plan.pool.balance = PluginSettings::defaults(&balance::find("first").unwrap().grammar);
        })
        .await;
        let (mut get, mut post) = (world.client().await, world.client().await);
        get.send(GET).await;
        post.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
        until("both wait for the first endpoint", || stalls.heads.borrow().len() == 2).await;
        let pool = world.pool();
        let status = pool.endpoints[0].status();
        let goes_down = |health| {
            pool.endpoints[0].set_status(Status { health, ..status });
            pool.publish();
            world.worker.crew.note_down();
            world.worker.look_for_downs();
        };
        goes_down(Health::Down);
        assert_eq!(get.answer().await.text(), "hello");
        assert_eq!(world.retries(), 1);
        answers.set(true);
        assert_eq!(post.answer().await.text(), "late", "it may have been carried out");
        let errors = |kind| pool.endpoints[0].cells.sum(|row| row.errors(kind));
        assert_eq!((errors(UpstreamError::WentDown), errors(UpstreamError::Closed)), (1, 0));
        until("nothing is in flight", || world.in_flight() == 0).await;
    });
}

#[test]
fn who_waits_for_the_last_endpoint_goes_on_waiting_when_that_goes_down() {
    run(async {
        let answers = Rc::new(Cell::new(false));
        let stalls = stalling(&answers).await;
        let world = World::new(&[stalls.address]).await;
        let mut client = world.client().await;
        client.send(GET).await;
        until("it waits", || stalls.heads.borrow().len() == 1).await;
        let pool = world.pool();
        let status = pool.endpoints[0].status();
        pool.endpoints[0].set_status(Status { health: Health::Down, ..status });
        pool.publish();
        world.worker.crew.note_down();
        world.worker.look_for_downs();
        answers.set(true);
        assert_eq!((client.answer().await.text(), world.retries()), ("late", 0));
    });
}

#[test]
fn who_was_given_to_an_endpoint_that_is_down_since_the_pool_panics_waits_for_it() {
    run(async {
        let answers = Rc::new(Cell::new(false));
        let (one, two) = (stalling(&answers).await, stalling(&answers).await);
        let world = World::planned(&[one.address, two.address], |plan| plan.pool.placement.panic_percent = 50).await;
        let pool = world.pool();
        for endpoint in &pool.endpoints {
            endpoint.set_status(Status { health: Health::Down, ..endpoint.status() });
        }
        pool.publish();
        assert!(pool.view().panic);
        let heads = || one.heads.borrow().len() + two.heads.borrow().len();
        let mut client = world.client().await;
        client.send(GET).await;
        until("it waits", || heads() > 0).await;
        world.worker.crew.note_down();
        world.worker.look_for_downs();
        answers.set(true);
        assert_eq!(client.answer().await.text(), "late");
        let left = |endpoint: &Arc<Endpoint>| endpoint.cells.sum(|row| row.errors(UpstreamError::WentDown));
        assert_eq!((world.retries(), pool.endpoints.iter().map(left).sum::<u64>(), heads()), (0, 0, 1));
    });
}

#[test]
fn who_waits_where_an_endpoint_went_down_moves_as_the_budget_allows_and_until_then_waits() {
    // More than a worker has saved up, and no more than connect at once where a listener's backlog is 128.
    const CLIENTS: u64 = 120;
    run(async {
        let answers = Rc::new(Cell::new(false));
        let (stalls, well) = (stalling(&answers).await, answering(HELLO).await);
        let world = World::planned(&[stalls.address, well.address], |plan| {
            plan.pool.connect_timeout = PATIENCE;
            plan.pool.balance = PluginSettings::defaults(&balance::find("first").unwrap().grammar);
        })
        .await;
        let pool = world.pool();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = world.client().await;
            client.send(GET).await;
            clients.push(client);
        }
        until("all wait for the first endpoint", || stalls.heads.borrow().len() as u64 == CLIENTS).await;
        pool.endpoints[0].set_status(Status { health: Health::Down, ..pool.endpoints[0].status() });
        pool.publish();
        world.worker.crew.note_down();
        world.worker.look_for_downs();
        until("what is saved up for those who can wait is spent", || world.retries() >= 90).await;
        assert!(world.retries() <= 100, "{} moved at once", world.retries());
        // Nobody is told when there is something in it again.
        until("some more have moved", || world.retries() >= 105).await;
        answers.set(true);
        let (mut hello, mut late) = (0, 0);
        for client in &mut clients {
            match client.answer().await.text() {
                "hello" => hello += 1,
                "late" => late += 1,
                other => panic!("{other}"),
            }
        }
        assert!(hello >= 105 && hello + late == CLIENTS, "{hello} moved, {late} waited");
    });
}

#[test]
fn who_waits_where_an_endpoint_went_down_moves_when_another_has_room() {
    run(async {
        let answers = Rc::new(Cell::new(false));
        let (first, second) = (stalling(&answers).await, stalling(&answers).await);
        let world = World::planned(&[first.address, second.address], |plan| {
            plan.pool.balance = PluginSettings::defaults(&balance::find("first").unwrap().grammar);
            plan.pool.capacity.max_requests = 1;
        })
        .await;
        let heads = || [first.heads.borrow().len(), second.heads.borrow().len()];
        let mut clients = Vec::new();
        for want in [[1, 0], [1, 1]] {
            let mut client = world.client().await;
            client.send(GET).await;
            clients.push(client);
            until("it waits", || heads() == want).await;
        }
        let pool = world.pool();
        pool.endpoints[0].set_status(Status { health: Health::Down, ..pool.endpoints[0].status() });
        pool.publish();
        world.worker.crew.note_down();
        world.worker.look_for_downs();
        tokio::time::sleep(limits::TIMER_TICK * 4).await;
        assert_eq!((world.retries(), heads()), (0, [1, 1]), "the other has no room");
        answers.set(true);
        assert_eq!(clients[1].answer().await.text(), "late");
        assert_eq!(clients[0].answer().await.text(), "late");
        until("nothing is in flight", || world.in_flight() == 0).await;
    });
}

#[test]
fn a_pool_without_a_queue_tries_for_a_place_although_others_wait_for_idle_connections() {
    run(async {
        for (queue, want) in [(0, 200), (1, 503)] {
            let well = answering(HELLO).await;
            let world = World::planned(&[well.address], |plan| {
                plan.pool.capacity.max_requests = 1;
                plan.pool.capacity.queue = queue;
                plan.pool.capacity.queue_timeout = Duration::from_millis(50);
            })
            .await;
            // Of another worker.
            let _waits = world.pool().queue.enter(WorkerId(1), limits::IDLE_WAITERS).unwrap();
            assert_eq!(world.ask(GET).await.status(), want, "a queue of {queue}");
        }
    });
}

#[test]
fn retries_are_bounded_by_the_setting() {
    run(async {
        let dying = origin(|_, mut wire| async move {
            wire.request().await;
            wire.reset();
        })
        .await;
        for retries in 0..3_u8 {
            let world = World::planned(&[dying.address], |plan| plan.l7().retries = retries).await;
            let before = dying.connections.get();
            let answer = world.ask(GET).await;
            assert_eq!((answer.status(), answer.field("x-strata-reason")), (502, Some("upstream-closed")));
            assert!(dying.connections.get() - before <= usize::from(retries) + 1);
            assert!(world.retries() <= u64::from(retries));
        }
    });
}
