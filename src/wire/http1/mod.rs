//! Codec: placeholder until the codec lands.
pub mod reject;
pub use reject::Reject;
