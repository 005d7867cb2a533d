//! Properties: what we write reads back the same, no bytes panic, and how they were split does not matter.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::base::limits;

/// The answer to `bytes` when they arrive in pieces that end at `cuts`, and what the view then shows.
fn arrive(bytes: &[u8], cuts: &[usize]) -> Result<(Progress, String), Reject> {
    let mut head = RequestHead::default();
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let so_far = &bytes[..cut.min(bytes.len())];
        let progress = head.parse(so_far, Scheme::Http)?;
        if progress != Progress::Partial {
            let view = head.view(so_far);
            return Ok((progress, format!("{:?} {:?} {:?}", view.target(), view.authority(), view.body())));
        }
    }
    Ok((Progress::Partial, String::new()))
}

fn arrive_response(bytes: &[u8], cuts: &[usize]) -> Result<Progress, Reject> {
    let mut head = ResponseHead::default();
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let progress = head.parse(&bytes[..cut.min(bytes.len())], Asked::default())?;
        if progress != Progress::Partial {
            return Ok(progress);
        }
    }
    Ok(Progress::Partial)
}

/// Heads and near-heads, made of the parts that matter.
fn head_like() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            "GET ", "POST ", "OPTIONS ", "PRI ", "/", "*", "http://a", "/a/../b", "?q=%41", "%2e", "%00", " HTTP/1.1\r\n",
            " HTTP/1.0\r\n", " HTTP/2.0\r\n", "Host: a\r\n", "Host: A.:80\r\n", "Content-Length: 5\r\n", "X: y\r\n",
            "Transfer-Encoding: chunked\r\n", "Connection: x, close\r\n", "Expect: 100-continue\r\n", "\r\n", "\r", "\n", ":",
            " ", "\t", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 ", "_", ",",
        ]).prop_map(|part| part.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    let soup = vec(part, 0..12).prop_map(|parts| parts.concat());
    let framed =
        (vec(prop::sample::select(vec!["X: y\r\n", "A:b \r\n", "Content-Length: 5\r\n", "X : y\r\n", "b\r\n"]), 0..4))
            .prop_map(|lines| format!("GET /a HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.concat()).into_bytes());
    prop_oneof![soup, framed]
}

proptest! {
    #[test]
    fn arbitrary_bytes_get_an_answer(bytes in vec(any::<u8>(), 0..300)) {
        let _ = arrive(&bytes, &[]);
        let _ = arrive_response(&bytes, &[]);
        for body in [Body::Chunked, Body::Length(10), Body::UntilClose] {
            let _ = decode(body, &bytes, 13);
        }
    }

    /// A line's mistake may be found when the line ends, so the bytes end in a line end: then nothing else may differ.
    #[test]
    fn how_a_head_is_split_does_not_matter(mut bytes in head_like(), cuts in vec(0..200_usize, 0..3)) {
        bytes.extend_from_slice(b"\r\n\r\n");
        let mut cuts = cuts;
        cuts.sort_unstable();
        let whole = arrive(&bytes, &[]);
        let whole_response = arrive_response(&bytes, &[]);
        prop_assert_eq!(&arrive(&bytes, &cuts), &whole);
        prop_assert_eq!(arrive_response(&bytes, &cuts), whole_response);
        for cut in 0..bytes.len() {
            prop_assert_eq!(&arrive(&bytes, &[cut]), &whole, "cut at {}", cut);
        }
        let each: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&arrive(&bytes, &each), &whole);
        prop_assert_eq!(arrive_response(&bytes, &each), whole_response);
    }

    #[test]
    fn how_a_body_is_split_does_not_matter(
        wire in vec(prop_oneof![
            3 => prop::sample::select(vec!["1\r\na\r\n", "3;x\r\nabc\r\n", "0\r\n", "\r\n", "X: y\r\n", "Host: a\r\n", "\n", "5"])
                .prop_map(|part| part.as_bytes().to_vec()),
            1 => vec(any::<u8>(), 0..3),
        ], 0..12).prop_map(|parts| parts.concat()),
        step in 1..9_usize,
    ) {
        let show = |(payload, used, decoder): (Vec<u8>, usize, Decoder)| {
            (payload, used, decoder.is_done(), decoder.trailers().to_vec())
        };
        let whole = decode(Body::Chunked, &wire, wire.len()).map(show);
        prop_assert_eq!(decode(Body::Chunked, &wire, step).map(show), whole.clone());
        prop_assert_eq!(decode(Body::Chunked, &wire, 1).map(show), whole);
    }

    #[test]
    fn what_is_chunked_decodes_to_itself(
        payloads in vec((0..5000_usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]), 0..30),
        step in 1..70_000_usize,
    ) {
        let mut wire = Vec::new();
        payloads.iter().for_each(|payload| chunk(&mut wire, payload));
        finish(&mut wire, Body::Chunked, b"X-Sum: 1\r\n");
        let (payload, used, decoder) = decode(Body::Chunked, &wire, step).unwrap();
        prop_assert!(decoder.is_done());
        prop_assert_eq!(decoder.trailers(), b"X-Sum: 1\r\n");
        prop_assert_eq!(used, wire.len());
        prop_assert_eq!(payload, payloads.concat());
    }

    /// What is forwarded is accepted by the same parser, means the same, and is forwarded unchanged from there on.
    #[test]
    fn what_is_forwarded_reads_back_the_same(
        method in "[A-Z]{1,10}",
        path in "(/[a-zA-Z0-9._~!;=@:-]{0,8}(%[2-7][0-9a-f])?){1,5}",
        query in prop::option::of("[ -!$-~&&[^ ]]{0,20}"),
        host in "[a-zA-Z0-9-]{1,10}(\\.[a-z]{1,3}){0,2}\\.?(:[1-9][0-9]{0,3})?",
        fields in vec(("[A-Za-z][A-Za-z0-9_-]{0,14}", "[ -~]{0,30}"), 0..12),
        length in prop::option::of(any::<u64>()),
    ) {
        let mut bytes = format!("{method} {path}{} HTTP/1.1\r\n", query.map(|q| format!("?{q}")).unwrap_or_default());
        for (name, value) in &fields {
            bytes += &format!("{name}:{value}\r\n");
        }
        bytes += &format!("Host: {host}\r\n{}\r\n", length.map(|l| format!("Content-Length: {l}\r\n")).unwrap_or_default());
        let bytes = bytes.into_bytes();
        let Ok((head, _)) = request(&bytes) else { return Ok(()) };
        let view = head.view(&bytes);
        let mut out = Vec::new();
        forward(&mut out, &view, &Forward::of(&view));

        let (head_again, end) = request(&out).unwrap();
        let again = head_again.view(&out);
        prop_assert_eq!(end, out.len());
        prop_assert_eq!(again.method_token(), view.method_token());
        prop_assert_eq!(again.target(), view.target());
        prop_assert_eq!(again.path(), view.path());
        prop_assert_eq!(again.authority(), view.authority());
        prop_assert_eq!(again.host(), view.host());
        prop_assert_eq!(again.body(), view.body());
        let strip = |f: Field<'_>| (f.id, f.name.to_vec(), f.value.to_vec());
        let before: Vec<_> = view.fields(Names::NONE).map(strip).collect();
        let after: Vec<_> = again.fields(Names::NONE).map(strip).collect();
        prop_assert_eq!(before, after);
        let mut once_more = Vec::new();
        forward(&mut once_more, &again, &Forward::of(&again));
        prop_assert_eq!(once_more, out);
    }
}

/// The limit is met in the same way whether a long line comes at once or byte by byte, and the latter is linear: parsing
/// the line anew for each byte would look at half a billion of them.
#[test]
fn a_slow_drip_of_a_long_line_costs_linear_work() {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    bytes.resize(limits::HEAD_BYTES + 10, b'y');
    let each: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(arrive(&bytes, &each), Err(Reject::HeadTooLarge));
    assert_eq!(arrive(&bytes, &[]), Err(Reject::HeadTooLarge));
}
