//! Value: addresses as the operator writes them: where to listen (`:80`, `10.0.0.1:443`, `[::1]:53`) and networks
//! (`10.0.0.0/8`). Each reads from text and shows itself as text that reads back.
//!
//! Not here: names. What has to be resolved is a source's business.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// Why an address cannot be read: the sentence a diagnostic shows.
pub type AddressError = &'static str;

/// Where a listener binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listen {
    /// `:80`: every address of both families.
    Any(u16),
    /// `0.0.0.0:80` is IPv4 only, `[::]:80` IPv6 only.
    At(SocketAddr),
}

impl Listen {
    /// Reads `:80`, `10.0.0.1:80`, `[::1]:80`. Port 0 reads: whether it makes sense is for the caller to say.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Listen, AddressError> {
        if let Some(port) = text.strip_prefix(':')
            && !port.starts_with(':')
        {
            return parse_port(port).map(Listen::Any);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("a port alone has a colon before it, as in \":80\"");
        }
        parse_socket(text).map(Listen::At)
    }

    pub const fn port(self) -> u16 {
        match self {
            Listen::Any(port) => port,
            Listen::At(address) => address.port(),
        }
    }

    /// Whether only this machine can connect.
    pub fn is_loopback(self) -> bool {
        matches!(self, Listen::At(address) if address.ip().to_canonical().is_loopback())
    }

    /// Whether one connection could belong to both. Port 0 is a fresh port each time and overlaps nothing.
    pub fn overlaps(self, other: Listen) -> bool {
        if self.port() != other.port() || self.port() == 0 {
            return false;
        }
        match (self, other) {
            (Listen::Any(_), _) | (_, Listen::Any(_)) => true,
            (Listen::At(a), Listen::At(b)) => {
                a.is_ipv4() == b.is_ipv4() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
            }
        }
    }

    /// The sockets this means: an IPv6 socket that takes IPv4 as well stands for both families.
    pub fn socket(self) -> SocketAddr {
        match self {
            Listen::Any(port) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            Listen::At(address) => address,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Any(port) => write!(f, ":{port}"),
            Listen::At(address) => address.fmt(f),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where the admin API listens: an address, or a Unix socket that file permissions guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    Tcp(Listen),
    Unix(PathBuf),
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminListen::Tcp(listen) => listen.fmt(f),
            AdminListen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads `10.0.0.1:80` and `[::1]:80`.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse_socket(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("an IPv6 address with a port needs brackets, as in \"[::1]:80\"");
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Err("the port is missing");
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("an address is an IP and a port, as in \"10.0.0.1:80\" or \"[::1]:80\"");
    };
    parse_port(port)?;
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("an IPv4 address has four numbers of at most 255, as in \"10.0.0.1:80\"");
    }
    Err("not an IP address: use \"10.0.0.1:80\" or \"[::1]:80\"")
}

/// Reads `10.0.0.1` and `fd00::1`.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn parse_ip(text: &str) -> Result<IpAddr, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.parse::<SocketAddr>().is_ok() {
        return Err("the address alone, without a port");
    }
    if text.split_once('/').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok()) {
        return Err("the address alone, without a prefix length");
    }
    if text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|bare| bare.parse::<IpAddr>().is_ok())
    {
        return Err("an address without a port has no brackets");
    }
    Err("an address reads like \"10.0.0.1\" or \"fd00::1\"")
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the port is a number, as in \":80\" or \"10.0.0.1:80\"");
    }
    text.parse().map_err(|_| "a port is at most 65535")
}

/// Addresses that share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`; a bare address is a network of one.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Network, AddressError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| "a network is an address and a prefix length, as in \"10.0.0.0/8\"")?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(text) if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) => {
                return Err("the prefix length is a number, as in \"10.0.0.0/8\"");
            }
            Some(text) => text.parse().ok().filter(|prefix| *prefix <= bits).ok_or(if bits == 32 {
                "an IPv4 prefix has at most 32 bits"
            } else {
                "an IPv6 prefix has at most 128 bits"
            })?,
        };
        let network = Network { address: mask(address, prefix), prefix };
        if network.address != address {
            return Err("the address has bits set beyond the prefix length");
        }
        Ok(network)
    }

    /// The network of that many leading bits which `address` is in. `None`: addresses of its family have fewer bits.
    pub fn of(address: IpAddr, prefix: u8) -> Option<Network> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then(|| Network { address: mask(address, prefix), prefix })
    }

    /// Its first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits that its addresses share.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// An IPv4 address is also found in its IPv6-mapped form, which is what a dual-stack listener sees.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && mask(address, self.prefix) == self.address
    }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & keep))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_read_and_show() {
        for (text, shown) in [
            (":80", Ok(":80")),
            ("10.0.0.1:443", Ok("10.0.0.1:443")),
            ("[::1]:53", Ok("[::1]:53")),
            ("0.0.0.0:0", Ok("0.0.0.0:0")),
            ("::1:80", Err("brackets")),
            ("::", Err("brackets")),
            ("10.0.0.1", Err("port is missing")),
            ("[::1]", Err("port is missing")),
            (":", Err("port is a number")),
            (":http", Err("port is a number")),
            (":65536", Err("at most 65535")),
            (":+80", Err("port is a number")),
            ("10.0.0.256:80", Err("four numbers")),
            ("example.com:80", Err("not an IP address")),
            ("", Err("an IP and a port")),
        ] {
            match (Listen::parse(text), shown) {
                (Ok(listen), Ok(shown)) => assert_eq!(listen.to_string(), shown),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn addresses_stand_alone() {
        for (text, shown) in [
            ("10.0.0.1", Ok("10.0.0.1")),
            ("fd00::1", Ok("fd00::1")),
            ("10.0.0.1:80", Err("without a port")),
            ("[fd00::1]:80", Err("without a port")),
            ("[fd00::1]", Err("no brackets")),
            ("10.0.0.1/24", Err("without a prefix")),
            ("fd00::1/64", Err("without a prefix")),
            ("10.0.0.256", Err("reads like")),
            ("web/24", Err("reads like")),
            ("", Err("reads like")),
        ] {
            match (parse_ip(text), shown) {
                (Ok(address), Ok(shown)) => assert_eq!(address.to_string(), shown),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn listeners_overlap_when_one_connection_could_reach_both() {
        for (a, b, overlap) in [
            (":80", ":80", true),
            (":80", "0.0.0.0:80", true),
            (":80", "[::1]:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::]:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            (":80", ":81", false),
            (":0", ":0", false),
        ] {
            let (x, y) = (Listen::parse(a).unwrap(), Listen::parse(b).unwrap());
            assert_eq!(x.overlaps(y), overlap, "{a} and {b}");
            assert_eq!(y.overlaps(x), overlap, "{b} and {a}");
        }
    }

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        for (text, loopback) in
            [("127.0.0.1:1", true), ("127.9.9.9:1", true), ("[::1]:1", true), (":1", false), ("0.0.0.0:1", false)]
        {
            assert_eq!(Listen::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn networks_contain_what_shares_their_prefix() {
        for (network, address, contained) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let got = Network::parse(network).unwrap().contains(address.parse().unwrap());
            assert_eq!(got, contained, "{address} in {network}");
        }
    }

    #[test]
    fn networks_that_cannot_be_meant_are_refused() {
        for (text, part) in [
            ("10.0.0.1/8", "beyond the prefix"),
            ("10.0.0.0/33", "at most 32"),
            ("::/129", "at most 128"),
            ("10.0.0.0/", "is a number"),
            ("10.0.0.0/+8", "is a number"),
            ("lan", "an address and a prefix"),
        ] {
            let error = Network::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
