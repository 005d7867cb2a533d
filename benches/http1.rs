//! Bench: the HTTP/1 codec, beside what it must stay small against: a 64 B exchange of the whole proxy costs about 8 µs.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strata::wire::http1::{
    Asked, Body, Decoder, Forward, Names, Pieces, Reply, RequestHead, ResponseHead, Scheme, Version, chunk, finish,
    forward, reply,
};

/// What a load generator sends.
const BARE: &[u8] = b"GET /bench/64 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// What a browser sends.
const BROWSER: &[u8] = b"GET /shop/items/4711?ref=mail&page=2 HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Sec-CH-UA: \"Chromium\";v=\"141\", \"Not?A_Brand\";v=\"8\"\r\nSec-CH-UA-Mobile: ?0\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nReferer: https://www.example.com/shop\r\n\
    Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 12 Nov 2026 08:00:00 GMT\r\n\
    Content-Type: application/octet-stream\r\nContent-Length: 64\r\nLast-Modified: Thu, 12 Nov 2026 07:00:00 GMT\r\n\
    Connection: keep-alive\r\nETag: \"6543-40\"\r\nAccept-Ranges: bytes\r\n\r\n";

const EXTRA: &[u8] = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nVia: 1.1 strata\r\n";

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1");
    for (name, bytes) in [("bare", BARE), ("browser", BROWSER)] {
        let mut head = RequestHead::default();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("request/parse/{name}"), |b| {
            b.iter(|| {
                head.clear();
                head.parse(black_box(bytes), Scheme::Http)
            });
        });
        let view = head.view(bytes);
        let mut out = Vec::new();
        group.bench_function(format!("request/forward/{name}"), |b| {
            b.iter(|| {
                out.clear();
                let how = Forward { drop: Names::CLIENT_IDENTITY, extra: EXTRA, ..Forward::of(&view) };
                forward(&mut out, black_box(&view), &how);
                out.len()
            });
        });
    }
    let mut head = ResponseHead::default();
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("response/parse", |b| {
        b.iter(|| {
            head.clear();
            head.parse(black_box(ANSWER), Asked::default())
        });
    });
    let view = head.view(ANSWER);
    let mut out = Vec::new();
    group.bench_function("response/reply", |b| {
        b.iter(|| {
            out.clear();
            let body = Reply::body(view.body(), Version::Http11);
            let how = Reply {
                drop: Names::NONE,
                extra: b"Via: 1.1 strata\r\n",
                body,
                version: Version::Http11,
                keep_alive: true,
            };
            reply(&mut out, black_box(&view), &how);
            out.len()
        });
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1/chunked");
    group.throughput(Throughput::Bytes(100_000));
    for size in [100, 4_000, 16_000] {
        let mut wire = Vec::new();
        vec![b'x'; 100_000].chunks(size).for_each(|payload| chunk(&mut wire, payload));
        finish(&mut wire, Body::Chunked, b"");
        let (mut buf, mut pieces) = (wire.clone(), Pieces::default());
        group.bench_function(format!("decode/100 KB in {size} B"), |b| {
            b.iter(|| {
                // Decoding moves payload, so each round needs the bytes afresh: the copy is part of the figure.
                buf.copy_from_slice(&wire);
                let mut decoder = Decoder::new(Body::Chunked);
                decoder.decode(black_box(&mut buf), &mut pieces).is_ok() && decoder.is_done()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(1))
        .warm_up_time(std::time::Duration::from_millis(300));
    targets = heads, bodies
}
criterion_main!(benches);
