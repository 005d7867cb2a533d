//! Exchanges as they should be: connections kept on both sides, fields, interim responses.

use super::*;

#[test]
fn both_connections_are_kept() {
    run(async {
        let origin = answering(HELLO).await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        for _ in 0..5 {
            client.send(GET).await;
            assert_eq!(client.answer().await.text(), "hello");
        }
        let mut other = world.client().await;
        other.send(GET).await;
        assert_eq!(other.answer().await.text(), "hello");
        assert_eq!(origin.connections.get(), 1, "the second client gets the connection that the first one left");
        assert_eq!((world.responses(200), world.in_flight()), (6, 0));
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_and_a_bad_one_after_a_good_one_is_refused() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            while let Some(request) = wire.request().await {
                let path = request.head.split(' ').nth(1).unwrap().to_owned();
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())).await;
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\n\n").await;
        assert_eq!(client.answer().await.text(), "/1");
        assert_eq!(client.answer().await.text(), "/2");
        let refused = client.answer().await;
        assert_eq!((refused.status(), refused.field("x-strata-reason")), (400, Some("bare-lf")));
        assert_eq!(refused.field("connection"), Some("close"));
        assert!(client.ended().await);
        assert_eq!((world.rejected(Reject::BareLf), origin.heads.borrow().len()), (1, 2), "A34");
    });
}

#[test]
fn an_endpoint_learns_who_asked_and_clients_cannot_say_so_themselves() {
    run(async {
        let origin = answering(HELLO).await;
        let ask = "GET /a/../b HTTP/1.1\r\nHost: A.:80\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\n\
            X-Real-IP: 6.6.6.6\r\nForwarded: for=6\r\nX-Strata-Reason: x\r\nConnection: x-a\r\nX-A: 1\r\nX-B: 2\r\n\r\n";
        let world = World::new(&[origin.address]).await;
        assert_eq!(world.ask(ask).await.status(), 200);
        let trusting = World::planned(&[origin.address], |plan| {
            plan.l7().trusted_proxies = vec![crate::base::Network::parse("127.0.0.0/8").unwrap()];
        })
        .await;
        assert_eq!(trusting.ask(ask).await.status(), 200);

        let heads = origin.heads.borrow();
        for head in heads.iter() {
            assert!(head.starts_with("GET /b HTTP/1.1\r\nHost: a\r\n"), "{head}");
            for (name, want) in
                [("x-b", Some("2")), ("x-a", None), ("x-strata-reason", None), ("via", Some("1.1 strata"))]
            {
                assert_eq!(field(head, name), want, "{name} in {head}");
            }
        }
        for (head, name, want) in [
            (0, "x-forwarded-for", Some("127.0.0.1")),
            (0, "x-forwarded-host", Some("a")),
            (0, "x-forwarded-proto", Some("http")),
            (0, "x-real-ip", None),
            (0, "forwarded", None),
            (1, "x-forwarded-for", Some("6.6.6.6, 127.0.0.1")),
            (1, "x-forwarded-host", Some("evil")),
            (1, "x-forwarded-proto", Some("http")),
        ] {
            assert_eq!(field(&heads[head], name), want, "C3: {name} in {}", heads[head]);
        }
    });
}

#[test]
fn a_client_is_told_when_its_connection_ends() {
    run(async {
        let origin = answering(HELLO).await;
        let world = World::planned(&[origin.address], |plan| plan.service.limits.max_requests = 3).await;
        for (request, connection) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Some("close")),
            ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", Some("close")),
            ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive")),
            (GET, None),
        ] {
            let mut client = world.client().await;
            client.send(request).await;
            let answer = client.answer().await;
            assert_eq!((answer.text(), answer.field("connection")), ("hello", connection), "{request}");
            if connection == Some("close") {
                assert!(client.ended().await, "{request}");
            } else {
                client.send(GET).await;
                assert_eq!(client.answer().await.text(), "hello", "{request}");
            }
        }
        let mut client = world.client().await;
        for last in [None, None, Some("close")] {
            client.send(GET).await;
            assert_eq!(client.answer().await.field("connection"), last, "max_requests");
        }
        assert!(client.ended().await);
    });
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            while let Some(request) = wire.request().await {
                wire.send(match request.head.split(' ').nth(1).unwrap() {
                    "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                    "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n",
                    "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
                    "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                    _ => HELLO,
                })
                .await;
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        for (request, status, length) in [
            ("GET /204", 204, None),
            ("GET /304", 304, Some("99")),
            ("HEAD /head", 200, Some("1234")),
            ("HEAD /chunked", 200, None),
            ("GET /empty", 200, Some("0")),
            ("GET /hello", 200, Some("5")),
        ] {
            client.send(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.field("content-length")), (status, length), "{request}");
        }
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn interim_responses_are_relayed_up_to_a_limit() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            while let Some(request) = wire.request().await {
                let many = if request.head.starts_with("GET /many") { 11 } else { 2 };
                wire.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(many)).await;
                wire.send(HELLO).await;
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send(GET).await;
        for _ in 0..2 {
            let hint = client.answer().await;
            assert_eq!((hint.status(), hint.field("link")), (103, Some("</x>")));
        }
        assert_eq!(client.answer().await.text(), "hello");

        let mut old = world.client().await;
        old.send("GET / HTTP/1.0\r\n\r\n").await;
        assert_eq!(old.answer().await.status(), 200, "HTTP/1.0 knows no interim responses");

        let mut client = world.client().await;
        client.send("GET /many HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut answer = client.answer().await;
        let mut hints = 0;
        while answer.status() == 103 {
            hints += 1;
            answer = client.answer().await;
        }
        assert!(hints <= 10, "A33: {hints}");
        assert_eq!(answer.status(), 502, "A33");
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_endpoint() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            while let Some(head) = wire.head().await {
                assert_eq!(field(&head, "expect"), Some("100-continue"));
                if head.starts_with("PUT /no") {
                    wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
                    return;
                }
                wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
                let body = wire.take(5).await;
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", String::from_utf8(body).unwrap()))
                    .await;
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 100);
        client.send("12345").await;
        assert_eq!(client.answer().await.text(), "12345");

        client.send("PUT /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (403, "no"), "A28");
        // Whether the body comes after all is the client's choice, so the connection cannot be used on.
        assert_eq!(answer.field("connection"), Some("close"), "A28");
        let mut client = world.client().await;
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 5\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 417, "A27");
    });
}

#[test]
fn an_idle_connection_costs_little_memory() {
    run(async {
        let origin = answering(HELLO).await;
        let world = World::new(&[origin.address]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let local = stream.local_addr().unwrap();
        let service = world.service().id;
        let task = world.mode.clone().serve(Accepted { service, stream, peer, local });
        let bytes = std::mem::size_of_val(&*task);
        assert!(bytes <= 1024, "{bytes} bytes in the future of a connection without a request");
    });
}
