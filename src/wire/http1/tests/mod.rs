//! Tests of the codec as a whole: the catalogue's rows, and properties over arbitrary bytes and splits.

mod bodies;
mod catalogue;
mod properties;
mod requests;
mod responses;

use super::*;

/// Parses one request from bytes that arrive at once.
fn request(bytes: &[u8]) -> Result<(RequestHead, usize), Reject> {
    let mut head = RequestHead::default();
    match head.parse(bytes, Scheme::Http)? {
        Progress::Complete(end) => Ok((head, end)),
        Progress::Partial => panic!("partial: {:?}", String::from_utf8_lossy(bytes)),
    }
}

/// A GET of `/` with `lines` after its Host.
fn with(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

fn response(bytes: &[u8], asked: Asked) -> Result<(ResponseHead, usize), Reject> {
    let mut head = ResponseHead::default();
    match head.parse(bytes, asked)? {
        Progress::Complete(end) => Ok((head, end)),
        Progress::Partial => panic!("partial: {:?}", String::from_utf8_lossy(bytes)),
    }
}

/// Decodes `wire` as it arrives in pieces of `step` bytes: payload, bytes used, and the decoder.
fn decode(body: Body, wire: &[u8], step: usize) -> Result<(Vec<u8>, usize, Decoder), Reject> {
    let mut decoder = Decoder::new(body);
    let mut pieces = Pieces::default();
    let (mut payload, mut used) = (Vec::new(), 0);
    for part in wire.chunks(step.max(1)) {
        if decoder.is_done() {
            break;
        }
        let mut buf = part.to_vec();
        decoder.decode(&mut buf, &mut pieces)?;
        let before = payload.len();
        pieces.slices(&buf).for_each(|piece| payload.extend_from_slice(piece));
        assert_eq!(payload.len() - before, pieces.total);
        assert!(pieces.consumed == buf.len() || decoder.is_done());
        used += pieces.consumed;
    }
    Ok((payload, used, decoder))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
