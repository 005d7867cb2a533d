//! Shell: the TCP probe: an endpoint that accepts a connection is well. The connection is closed without a byte.

use std::pin::Pin;

use super::connect;
use crate::base::EndpointAddr;
use crate::doc::{Grammar, Settings};
use crate::seam::Probe;
use crate::seam::probe::{FALL, Failure, INTERVAL, PORT, RISE, Spec, TIMEOUT, address, port};

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "tcp",
        summary: "the endpoint accepts a connection",
        fields: &[INTERVAL, TIMEOUT, RISE, FALL, PORT],
        example: "probe = { type = \"tcp\", interval = \"2s\", timeout = \"500ms\" }",
    },
    build: |settings: &Settings| Box::new(Tcp { port: port(settings) }),
    able: || Ok(()),
};

struct Tcp {
    port: Option<u16>,
}

impl Probe for Tcp {
    fn check(&self, endpoint: EndpointAddr) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + '_>> {
        Box::pin(async move { Ok(connect(address(endpoint, self.port)?).await.map(drop)?) })
    }
}
