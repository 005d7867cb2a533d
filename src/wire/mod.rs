//! Codec.
pub mod http1;
