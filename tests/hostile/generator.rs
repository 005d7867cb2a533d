//! Makes a hostile request of a seed and an index: a valid request (or several), broken in one to three ways, cut into pieces.

use fastrand::Rng;

pub struct Case {
    /// Written one after the other.
    pub pieces: Vec<Vec<u8>>,
}

impl Case {
    pub fn generate(seed: u64, index: u64) -> Case {
        let mut rng = Rng::with_seed(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bytes = match rng.u8(..16) {
            0 => noise(&mut rng),
            1 => pipelined(&mut rng),
            2 => valid(&mut rng),
            _ => broken(&mut rng),
        };
        Case { pieces: cut(&mut rng, bytes) }
    }
}

fn valid(rng: &mut Rng) -> Vec<u8> {
    let method = *rng.choice(&["GET", "POST", "PUT", "HEAD", "OPTIONS", "PATCH", "M-SEARCH"]).unwrap_or(&"GET");
    let target = *rng.choice(&["/", "/a/b?c=d", "/%61/../b", "//x///y", "http://a.test/z", "/a%20b"]).unwrap_or(&"/");
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n");
    for n in 0..rng.u8(..6) {
        text += &format!("X-{n}: {}\r\n", "v".repeat(rng.usize(..40)));
    }
    for line in ["Connection: close\r\n", "Cookie: a=b; c=d\r\n", "Expect: 100-continue\r\n", "Accept: */*\r\n"] {
        if rng.u8(..8) == 0 {
            text += line;
        }
    }
    match rng.u8(..4) {
        0 => {
            let body = "b".repeat(rng.usize(..3000));
            text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        }
        1 => {
            text += "Transfer-Encoding: chunked\r\n\r\n";
            for _ in 0..rng.u8(1..5) {
                let chunk = "c".repeat(rng.usize(1..600));
                text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
            }
            text += "0\r\n\r\n";
        }
        _ => text += "\r\n",
    }
    text.into_bytes()
}

fn pipelined(rng: &mut Rng) -> Vec<u8> {
    let count = rng.usize(2..6);
    let worst = rng.usize(..count);
    (0..count).flat_map(|n| if n == worst { broken(rng) } else { valid(rng) }).collect()
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    let length = rng.usize(1..5000);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn broken(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = valid(rng);
    for _ in 0..rng.u8(1..4) {
        damage(rng, &mut bytes);
    }
    bytes
}

/// Bytes that mean something to some parser.
const SIGNS: &[u8] = b"\0\r\n\t :;,%#?/\\\"=\x0b\x0c\x7f\x80\xff0G";

/// Lines that change what a message is.
const LINES: &[&str] = &[
    "Content-Length: 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length:\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Host: b.test\r\n",
    "Host: a@b\r\n",
    " folded: 1\r\n",
    "no colon\r\n",
    ": no name\r\n",
    "X: 1\nY: 2\r\n",
    "X: 1\rY: 2\r\n",
    "Upgrade: h2c\r\nConnection: Upgrade\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Connection: close, host, content-length\r\n",
    "Expect: 200-maybe\r\n",
    "TE: trailers\r\n",
];

/// First lines that no server should take.
const STARTS: &[&str] = &[
    "GET /\r\n",
    "GET / HTTP/1.32\r\n",
    "GET / http/1.1\r\n",
    "GET / HTTP/2.0\r\n",
    "GET * HTTP/1.1\r\n",
    "CONNECT a.test:443 HTTP/1.1\r\n",
    "TRACE / HTTP/1.1\r\n",
    "GET /a%2fb HTTP/1.1\r\n",
    "GET /%00 HTTP/1.1\r\n",
    "GET /%252e%252e/ HTTP/1.1\r\n",
    "GET /a#b HTTP/1.1\r\n",
    "GET http://b.test/ HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n",
    "G\0T / HTTP/1.1\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\n",
    "POST / HTTP/1.0\r\n",
];

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.usize(..=bytes.len());
    let sign = SIGNS[rng.usize(..SIGNS.len())];
    match rng.u8(..14) {
        0 if at < bytes.len() => bytes[at] = sign,
        1 => bytes.insert(at, sign),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        4 | 5 => {
            let line = LINES[rng.usize(..LINES.len())];
            insert_line(rng, bytes, line.as_bytes());
        }
        6 | 7 => {
            let end = end_of_line(bytes, 0);
            bytes.splice(..end, STARTS[rng.usize(..STARTS.len())].bytes());
        }
        8 => {
            let long = format!("X-Long: {}\r\n", "l".repeat(rng.usize(1000..40_000)));
            insert_line(rng, bytes, long.as_bytes());
        }
        9 => {
            let many: String = (0..rng.usize(50..150)).map(|n| format!("X-Many-{n}: 1\r\n")).collect();
            insert_line(rng, bytes, many.as_bytes());
        }
        10 => {
            // A line comes twice.
            let start = line_start(rng, bytes);
            let line = bytes[start..end_of_line(bytes, start)].to_vec();
            bytes.splice(start..start, line);
        }
        11 => bytes.retain(|byte| *byte != b'\r'),
        12 => {
            let tail = noise(rng);
            bytes.extend_from_slice(&tail);
        }
        _ => {
            let long = format!("/{}", "t".repeat(rng.usize(1000..20_000)));
            let from = bytes.iter().position(|byte| *byte == b'/').unwrap_or(0);
            bytes.splice(from..from, long.bytes());
        }
    }
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| from + at + 1)
}

fn line_start(rng: &mut Rng, bytes: &[u8]) -> usize {
    let starts: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    if starts.is_empty() { 0 } else { starts[rng.usize(..starts.len().min(8))] }
}

fn insert_line(rng: &mut Rng, bytes: &mut Vec<u8>, line: &[u8]) {
    let start = line_start(rng, bytes);
    bytes.splice(start..start, line.iter().copied());
}

fn cut(rng: &mut Rng, bytes: Vec<u8>) -> Vec<Vec<u8>> {
    if rng.bool() || bytes.len() < 2 {
        return vec![bytes];
    }
    let mut pieces = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.len() > 1 && pieces.len() < 12 {
        let (piece, after) = rest.split_at(rng.usize(1..rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces.push(rest.to_vec());
    pieces
}
