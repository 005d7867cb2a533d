//! Shell: connections of probes through a VIP: from an address of ours, to the VIP, by our device instead of the card.
//!
//! What stands in the way on this machine is `Failure::Ours`, with the way out; only what the endpoint does, or does not, is
//! held against it. Not here: what happens to the packets (`mode::packet`).

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpSocket;

use super::{Connection, ours, reason};
use crate::seam::probe::Failure;
use crate::seam::through::Passage;
use crate::sys::neighbour::{self, Route};
use crate::sys::{link, reset_on_close};

pub(super) async fn connect(passage: &Passage, endpoint: IpAddr, port: Option<u16>) -> Result<Connection, Failure> {
    let path = passage.path;
    let port = port.ok_or(Failure::from("no port to probe"))?;
    let vip = SocketAddr::new(path.vip, port);
    let mark = passage.mark().ok_or(Failure::Ours(NO_DEVICE.into()))?;
    let own = own_address(path.vip, endpoint)?;
    let socket = if vip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| ours(&error))?;
    SockRef::from(&socket).set_mark(mark).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => Failure::Ours("a probe through a VIP needs CAP_NET_ADMIN".into()),
        _ => ours(&error),
    })?;
    socket.bind(SocketAddr::new(own, 0)).map_err(|error| ours(&error))?;
    let from = socket.local_addr().map_err(|error| ours(&error))?;
    // Known before the first packet is on its way.
    let entered = passage.enter(from, vip, endpoint);
    let stream = socket.connect(vip).await.map_err(|error| refused(&error))?;
    // Connections of all endpoints are to one address: a minute of TIME-WAIT each would use up the ports.
    reset_on_close(&stream);
    Ok(Connection { stream, peer: vip, _entered: Some(entered) })
}

fn refused(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => ours(error),
        _ => reason("connect", error).into(),
    }
}

/// The address that the endpoint is to answer: the one that it knows us by, or, where it speaks the other family, the one
/// that the VIP's neighbours know us by.
fn own_address(vip: IpAddr, endpoint: IpAddr) -> Result<IpAddr, Failure> {
    let to_vip = neighbour::route(vip);
    let route = match (&to_vip, vip.is_ipv4() == endpoint.is_ipv4()) {
        (_, true) => neighbour::route(endpoint).map_err(|error| reason("connect", &error))?,
        (Ok(route), false) => *route,
        (Err(_), false) => {
            return Err(Failure::Ours(format!("no address of this machine for answers of {vip}").into()));
        }
    };
    answers_pass(vip, &route, to_vip.ok())?;
    match route.source {
        Some(source) if source.is_ipv4() == vip.is_ipv4() => Ok(source),
        _ => Err(Failure::Ours(format!("no address of this machine for answers of {vip}").into())),
    }
}

fn answers_pass(vip: IpAddr, way: &Route, to_vip: Option<Route>) -> Result<(), Failure> {
    let Some(name) = dropped_by(vip, way, to_vip).map_err(|error| ours(&error))? else { return Ok(()) };
    let cure = format!("set `sysctl -w net/ipv4/conf/{name}/rp_filter=2`");
    Err(Failure::Ours(format!("strict rp_filter drops answers of {vip} that come by {name}: {cure}").into()))
}

/// The interface by which an endpoint's answers come and are dropped; `way` leads to the endpoint.
///
/// Answers come from the VIP and by the endpoint's interface. The kernel drops them when it would look for the VIP elsewhere and
/// is told to be strict (RFC 3704 §2.2); it has no such check for IPv6.
///
/// # Errors
/// What the kernel said of the interface.
pub fn dropped_by(vip: IpAddr, way: &Route, to_vip: Option<Route>) -> io::Result<Option<String>> {
    if vip.is_ipv6() || to_vip.is_some_and(|route| route.interface == way.interface) {
        return Ok(None);
    }
    let name = link::by_index(way.interface)?.name;
    let setting = |device: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{device}/rp_filter"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0_u8)
    };
    // The larger one counts (ip-sysctl).
    Ok((setting("all").max(setting(&name)) == 1).then_some(name))
}

const NO_DEVICE: &str = "there is no device for probes through VIPs of this family";
