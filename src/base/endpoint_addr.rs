//! Value: where an endpoint is: an IP address, and a port unless the service's own port is kept.
//!
//! A type of its own, because "no port" must never be taken for port 0 and connected to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// `10.0.0.41:80`, or `10.0.0.41` in pools of services that forward packets and keep their port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointAddr(SocketAddr);

impl EndpointAddr {
    /// None comes before it.
    pub const LEAST: EndpointAddr = EndpointAddr(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0));

    /// Without a port.
    pub const fn host(ip: IpAddr) -> EndpointAddr {
        EndpointAddr(SocketAddr::new(ip, 0))
    }

    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }

    pub const fn port(self) -> Option<u16> {
        match self.0.port() {
            0 => None,
            port => Some(port),
        }
    }

    /// What can be connected to; `None` without a port.
    pub const fn socket(self) -> Option<SocketAddr> {
        match self.0.port() {
            0 => None,
            _ => Some(self.0),
        }
    }
}

/// Port 0 stands for none, as it does in the kernel's own tables.
impl From<SocketAddr> for EndpointAddr {
    fn from(address: SocketAddr) -> EndpointAddr {
        EndpointAddr(address)
    }
}

impl fmt::Display for EndpointAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket() {
            Some(socket) => socket.fmt(f),
            None => self.ip().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_a_port_shows_its_address_and_cannot_be_connected_to() {
        for (address, shown, port) in [
            ("10.0.0.41:80", "10.0.0.41:80", Some(80)),
            ("10.0.0.41:0", "10.0.0.41", None),
            ("[fd00::41]:80", "[fd00::41]:80", Some(80)),
            ("[fd00::41]:0", "fd00::41", None),
        ] {
            let socket: SocketAddr = address.parse().unwrap();
            let endpoint = EndpointAddr::from(socket);
            assert_eq!((endpoint.to_string().as_str(), endpoint.port()), (shown, port));
            assert_eq!(endpoint.socket(), port.map(|_| socket));
            assert_eq!(EndpointAddr::host(socket.ip()) == endpoint, port.is_none());
        }
    }
}
