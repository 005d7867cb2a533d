//! Codec: bytes of a terminal to keys. What is no key that means something here is passed over.
//!
//! A sequence comes in one piece, as terminals send it; an escape at the end of what was read is the key.

use super::desk::Key;

pub fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let [first, rest @ ..] = bytes {
        let (key, after) = match (*first, rest) {
            (0x1b, [b'[' | b'O', after @ ..]) => sequence(after),
            (0x1b, _) => (Some(Key::Escape), rest),
            (0x03, _) => (Some(Key::Interrupt), rest),
            (0x1a, _) => (Some(Key::Suspend), rest),
            (b'\r' | b'\n', _) => (Some(Key::Enter), rest),
            (0x08 | 0x7f, _) => (Some(Key::Backspace), rest),
            (b' '..=b'~', _) => (Some(Key::Char(char::from(*first))), rest),
            _ => (None, rest),
        };
        keys.extend(key);
        bytes = after;
    }
    keys
}

/// Parameters, then one final byte (ECMA-48, 5.4).
fn sequence(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    let end = bytes.iter().position(|byte| (b'@'..=b'~').contains(byte)).unwrap_or(bytes.len());
    let (parameters, rest) = bytes.split_at(end);
    let key = match (parameters, rest.first()) {
        (_, Some(b'A')) => Some(Key::Up),
        (_, Some(b'B')) => Some(Key::Down),
        (_, Some(b'H')) | (b"1" | b"7", Some(b'~')) => Some(Key::Home),
        (_, Some(b'F')) | (b"4" | b"8", Some(b'~')) => Some(Key::End),
        (b"5", Some(b'~')) => Some(Key::PageUp),
        (b"6", Some(b'~')) => Some(Key::PageDown),
        _ => None,
    };
    (key, rest.get(1..).unwrap_or_default())
}
