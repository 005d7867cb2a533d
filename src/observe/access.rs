//! Value: one line for each request or relayed connection, and the bounded queue to the thread that writes it.
//!
//! Not here: the decision to log (the service's), nor the file (the writer thread of `app`).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// What happened, as it is known when an exchange ends. Text from the network is raw here; the formatter escapes it.
#[derive(Debug)]
pub struct Record<'a> {
    pub at: SystemTime,
    pub service: &'a str,
    pub client: SocketAddr,
    /// Empty for L4.
    pub method: &'a [u8],
    pub host: &'a [u8],
    pub target: &'a [u8],
    pub protocol: &'a str,
    /// 0 for L4, or when nothing could be answered.
    pub status: u16,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub duration: Duration,
    pub pool: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    pub tries: u32,
    pub referer: &'a [u8],
    pub user_agent: &'a [u8],
    /// The drop reason's word, or nothing when all went well.
    pub why: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Combined,
}

/// Where records go.
#[derive(Clone, Debug, Default)]
pub struct Sink {}

impl Sink {
    /// Takes records and keeps none.
    pub fn none() -> Sink {
        Sink::default()
    }
}
