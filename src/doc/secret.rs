//! Value: a text that nobody may see: not in a log, a dump, an answer or a diagnostic.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A secret, read by [`Item::secret`](super::Item::secret). Printing it shows what stands for it.
#[derive(Clone)]
pub struct Secret {
    text: Arc<str>,
}

impl Secret {
    /// Stands for a secret in a dump. It reads as a secret of 16 bytes, so that a dump is a valid file; that it is none is
    /// a warning.
    pub const MASK: &str = "****************";

    pub fn new(text: &str) -> Secret {
        Secret { text: Arc::from(text) }
    }

    /// The secret itself. Name it where it is needed, and hand it on to nothing that prints.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether `given` is the secret, in a time that tells nothing but its length.
    pub fn is(&self, given: &[u8]) -> bool {
        let own = self.text.as_bytes();
        let differ = own.iter().zip(given).fold(0u8, |differ, (a, b)| differ | (a ^ b));
        // Kept from being turned into an early return.
        own.len() == given.len() && std::hint::black_box(differ) == 0
    }

    /// Whether it is what a dump shows in place of a secret.
    pub(super) fn is_mask(&self) -> bool {
        !self.text.is_empty() && self.text.bytes().all(|byte| byte == b'*')
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.is(other.text.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Secret::MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), format!("\"{}\"", Secret::MASK));
        assert_eq!((secret.expose(), secret == Secret::new("hunter3")), ("hunter2", false));
    }

    #[test]
    fn only_the_whole_secret_is_it() {
        let secret = Secret::new("hunter2");
        for (given, right) in
            [("hunter2", true), ("hunter", false), ("hunter22", false), ("", false), ("Hunter2", false)]
        {
            assert_eq!(secret.is(given.as_bytes()), right, "{given}");
        }
    }
}
