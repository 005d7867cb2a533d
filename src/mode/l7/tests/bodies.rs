//! Bodies on their way through, both ways, in every framing.

use super::*;

/// Bytes in which a lost, doubled or moved one shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / 251 % 256) as u8).collect()
}

fn chunked(payload: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, chunk) in payload.chunks(size).enumerate() {
        // Extensions are dropped, and more than 4 KiB of them refused (A21).
        let extension = if index < 100 { ";ext=1" } else { "" };
        out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

/// Answers every request with its own body, framed as the path says.
async fn mirror() -> Origin {
    origin(|_, mut wire| async move {
        while let Some(request) = wire.request().await {
            assert!(!request.truncated);
            let framing = request.head.split(' ').nth(1).unwrap();
            let trailers = format!("{}Host: evil\r\n", request.trailers);
            match framing {
                "/length" => {
                    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len())).await;
                    wire.send(&request.body).await;
                }
                "/close" => {
                    wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
                    return wire.send(&request.body).await;
                }
                size => {
                    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                    wire.send(chunked(&request.body, size[1..].parse().unwrap(), &trailers)).await;
                }
            }
        }
    })
    .await
}

#[test]
fn a_body_arrives_as_it_was_sent_whatever_frames_it() {
    run(async {
        let origin = mirror().await;
        let world = World::new(&[origin.address]).await;
        for len in [0, 1, 5000, 102_400, 1_000_000] {
            let body = pattern(len);
            for framing in ["/length", "/close", "/1000", "/7", "/70000"] {
                if framing == "/7" && len > 102_400 {
                    continue;
                }
                for chunk in [0, 9, 3000, 50_000] {
                    if chunk == 9 && len > 102_400 {
                        continue;
                    }
                    let client = world.client().await;
                    let mut request = format!("POST {framing} HTTP/1.1\r\nHost: a\r\n").into_bytes();
                    if chunk == 0 {
                        request.extend_from_slice(format!("Content-Length: {len}\r\n\r\n").as_bytes());
                        request.extend_from_slice(&body);
                    } else {
                        request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                        request.extend_from_slice(&chunked(&body, chunk, "X-Sum: 1\r\nContent-Length: 9\r\n"));
                    }
                    let (reader, mut writer) = client.stream.into_split();
                    let writing = spawn_local(async move {
                        writer.write_all(&request).await.unwrap();
                        writer
                    });
                    let mut back = Reader { reader, ahead: Vec::new() };
                    let answer = back.answer().await;
                    drop(writing.await.unwrap());
                    let case = format!("{len} bytes by {framing}, request in chunks of {chunk}");
                    assert!(answer.body == body && !answer.truncated, "{case}: {} bytes", answer.body.len());
                    let trailers = if framing[1..].parse::<u32>().is_ok() && chunk != 0 { "X-Sum: 1\r\n" } else { "" };
                    assert_eq!(answer.trailers, trailers, "A24: {case}");
                }
            }
        }
        until("nothing is in flight", || world.in_flight() == 0).await;
    });
}

/// The reading half of a client whose writing half is busy.
struct Reader {
    reader: tokio::net::tcp::OwnedReadHalf,
    ahead: Vec<u8>,
}

impl Reader {
    /// Reads to the end of the message, then lends its bytes to a [`Wire`] that takes them apart.
    async fn answer(&mut self) -> Message {
        let mut block = vec![0; 64 * 1024];
        loop {
            let n = timeout(PATIENCE, self.reader.read(&mut block)).await.expect("the answer goes on").unwrap_or(0);
            self.ahead.extend_from_slice(&block[..n]);
            if n == 0 || self.whole() {
                break;
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener);
        let mut wire = Wire::new(stream);
        wire.ahead = std::mem::take(&mut self.ahead);
        wire.answer().await
    }

    fn whole(&self) -> bool {
        let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
        let head = std::str::from_utf8(&self.ahead[..at + 4]).unwrap();
        match field(head, "content-length") {
            Some(length) => self.ahead.len() >= at + 4 + length.parse::<usize>().unwrap(),
            None => {
                self.ahead.ends_with(b"\r\n\r\n") && {
                    let tail = &self.ahead[self.ahead.len().saturating_sub(64)..];
                    tail.windows(5).any(|window| window == b"\r\n0\r\n") || self.ahead[at + 4..].starts_with(b"0\r\n")
                }
            }
        }
    }
}

#[test]
fn chunks_are_ours_and_a_body_without_length_is_chunked_for_a_new_client_only() {
    run(async {
        let origin = mirror().await;
        let world = World::new(&[origin.address]).await;
        let body = "x".repeat(3000);
        let ask = |version: &str, framing: &str| {
            format!("POST /{framing} HTTP/{version}\r\nHost: a\r\nContent-Length: 3000\r\n\r\n{body}")
        };
        let answer = world.ask(&ask("1.1", "10")).await;
        assert!(answer.chunks < 30, "300 chunks came, {} went out", answer.chunks);
        assert!(world.ask(&ask("1.1", "close")).await.field("transfer-encoding").is_some());
        for framing in ["10", "close"] {
            let mut client = world.client().await;
            client.send(ask("1.0", framing)).await;
            let answer = client.answer().await;
            assert_eq!((answer.field("transfer-encoding"), answer.field("connection")), (None, Some("close")));
            assert_eq!(answer.text(), body, "HTTP/1.0 gets {framing} until close");
        }
    });
}

#[test]
fn an_answer_may_come_before_the_request_has_ended() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            while let Some(head) = wire.head().await {
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n").await;
                if head.starts_with("POST /both") {
                    assert_eq!(wire.take(5).await, b"later");
                    wire.send("4\r\ndone\r\n0\r\n\r\n").await;
                }
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send("POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
        client.through("early\r\n").await.expect("the beginning of the answer");
        client.send("later").await;
        assert!(client.through("0\r\n\r\n").await.is_some_and(|rest| rest.contains("done")));
        assert!(client.ended().await, "A28: the answer's head was written before it was known how the request ends");
    });
}

#[test]
fn a_whole_answer_to_half_a_request_ends_both_connections() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            wire.head().await;
            wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
            while wire.more().await {}
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let mut client = world.client().await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbeginning").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (413, "big"), "A29");
        // The client goes on for a while and is read, so that a reset does not destroy its answer.
        client.send(vec![b'x'; 30_000]).await;
        assert!(client.ended().await, "A29: the rest of the body never becomes a request");
        assert_eq!(origin.connections.get(), 1);
        world.ask(GET).await;
        assert_eq!(origin.connections.get(), 2, "A29: the upstream connection is not used again");
    });
}

#[test]
fn a_request_body_is_held_to_its_limit() {
    run(async {
        let origin = mirror().await;
        let world = World::planned(&[origin.address], |plan| plan.service.limits.max_body_bytes = 10).await;
        let ok = world.ask("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789").await;
        assert_eq!(ok.text(), "0123456789");
        for over in [
            "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n",
            "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789x\r\n0\r\n\r\n",
        ] {
            let answer = world.ask(over).await;
            assert_eq!((answer.status(), answer.field("x-strata-reason")), (413, Some("body-too-large")), "A7: {over}");
        }
        assert_eq!(world.dropped(Reason::BodyTooLarge), 2);
    });
}

#[test]
fn a_long_body_of_known_length_goes_past_user_space_and_arrives_whole() {
    run(async {
        // However head and body come apart: both at once, the head alone, a first part with it.
        let origin = origin(|_, mut wire| async move {
            while let Some(head) = wire.head().await {
                let mut words = head.split(' ').nth(1).unwrap()[1..].split('/');
                let (len, with_head): (usize, usize) =
                    (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
                let body = pattern(len);
                let mut first = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").into_bytes();
                first.extend_from_slice(&body[..with_head.min(len)]);
                wire.send(first).await;
                if with_head < len {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    wire.send(&body[with_head..]).await;
                }
            }
        })
        .await;
        let world = World::new(&[origin.address]).await;
        let threshold = limits::SPLICE_BODY_BYTES as usize;
        let mut client = world.client().await;
        for len in [threshold - 1, threshold, threshold + 1, 70_000, 102_400, 3_000_000] {
            for with_head in [0, 1, 3000, 4096, 50_000, len] {
                let before = world.service().cells(WorkerId(0)).bytes_sent.get();
                client.send(format!("GET /{len}/{with_head} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
                let answer = client.answer().await;
                assert!(answer.body == pattern(len) && !answer.truncated, "{len} bytes, {with_head} with the head");
                let counted = world.service().cells(WorkerId(0)).bytes_sent.get() - before;
                assert_eq!(counted as usize, answer.head.len() + len, "{len} bytes, {with_head} with the head");
            }
        }
        assert_eq!(origin.connections.get(), 1, "both connections live on");
    });
}

#[test]
fn an_endpoint_that_ends_stops_or_overruns_a_long_body_costs_that_exchange_only() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            let head = wire.head().await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
            wire.send(pattern(60_000)).await;
            match head.split(' ').nth(1).unwrap() {
                "/ends" => {}
                "/stops" => while wire.more().await {},
                _ => {
                    wire.send(&pattern(100_000)[60_000..]).await;
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray").await;
                    while wire.more().await {}
                }
            }
        })
        .await;
        let world =
            World::planned(&[origin.address], |plan| plan.service.timeouts.response = Duration::from_millis(150)).await;
        for (path, reason) in [("/ends", Reason::UpstreamTruncated), ("/stops", Reason::ResponseStalled)] {
            let answer = world.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert!(answer.truncated && answer.body.len() <= 60_000, "{path}: {} bytes", answer.body.len());
            until(reason.word(), || world.dropped(reason) == 1).await;
        }
        for connections in [3, 4] {
            let answer = world.ask("GET /overruns HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(answer.body == pattern(100_000), "{} bytes", answer.body.len());
            assert_eq!(origin.connections.get(), connections, "A32: bytes behind a body never answer another request");
        }
        until("nothing is in flight", || world.in_flight() == 0).await;
    });
}

#[test]
fn a_client_that_does_not_read_a_long_body_is_given_up() {
    run(async {
        let origin = origin(|_, mut wire| async move {
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
            let block = pattern(1_000_000);
            while wire.stream.write_all(&block).await.is_ok() {}
        })
        .await;
        let world =
            World::planned(&[origin.address], |plan| plan.service.timeouts.client = Duration::from_millis(150)).await;
        let mut client = world.client().await;
        client.send(GET).await;
        until("the client is given up", || world.dropped(Reason::ClientStalled) == 1).await;
        until("nothing is in flight", || world.in_flight() == 0).await;
        drop(client);
    });
}
