//! Shell: the TCP probe: an endpoint that accepts a connection is well. The connection is closed without a byte, and reset
//! where it went through a VIP.

use std::pin::Pin;

use super::connect;
use crate::doc::{Grammar, Settings};
use crate::seam::Probe;
use crate::seam::probe::{Aim, FALL, Failure, INTERVAL, PORT, RISE, Spec, THROUGH, TIMEOUT, port};

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "tcp",
        summary: "the endpoint accepts a connection",
        fields: &[INTERVAL, TIMEOUT, RISE, FALL, PORT, THROUGH],
        example: "probe = { type = \"tcp\", interval = \"2s\", timeout = \"500ms\" }",
    },
    build: |settings: &Settings| Box::new(Tcp { port: port(settings) }),
    able: || Ok(()),
};

struct Tcp {
    port: Option<u16>,
}

impl Probe for Tcp {
    fn check<'a>(&'a self, aim: &'a Aim) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>> {
        Box::pin(async move { connect(aim, self.port).await.map(drop) })
    }
}
