//! Io: listening sockets that this process was given: by the process before it (an upgrade), or by systemd (socket activation).
//!
//! Whoever is to listen on an address asks here first. Not here: who gives them (`app::upgrade`).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use socket2::{Socket, Type};

use super::listen::{self, Claim};
use crate::base::Listen;
use crate::base::address::AdminListen;

/// What was given and nobody has asked for yet, and what was taken.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: BTreeMap<Listen, Vec<Listener>>,
    unix: BTreeMap<PathBuf, (UnixListener, FileOf)>,
    taken: Vec<AdminListen>,
}

/// Sockets that listen at one address, as one process gives them to another.
#[derive(Debug)]
pub struct Given {
    pub at: AdminListen,
    pub sockets: Vec<OwnedFd>,
    /// Systemd made them first, and listens on when this process ends.
    pub activated: bool,
}

/// A listening socket of a service.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    /// As in [`Given`]: what is done to the socket itself, and not only to this process's hold of it, is done to every process that systemd
    /// will start. It must be let go as it is.
    pub activated: bool,
}

impl Listener {
    /// One that is this process's own.
    pub const fn own(socket: TcpListener) -> Listener {
        Listener { socket, activated: false }
    }
}

/// Whose the file of a unix socket is, to be removed when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOf {
    Strata,
    /// Its unit's. Without the file, nobody would find the socket that systemd still holds.
    Systemd,
}

impl Inherited {
    /// What systemd has passed (`LISTEN_FDS`), and what of that is no listener here, in words. To be asked once, before this process
    /// opens anything.
    ///
    /// # Errors
    /// The environment contradicts itself.
    pub fn from_systemd() -> io::Result<(Inherited, Vec<String>)> {
        let mut inherited = Inherited::default();
        let mut strange = Vec::new();
        for number in sd_notify::listen_fds()? {
            // SAFETY: systemd passes these numbers open to this process, by its id; they are asked for once, and nobody else has them.
            let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(number) });
            if let Err(error) = inherited.add_unnamed(socket) {
                strange.push(format!("descriptor {number}: {error}"));
            }
        }
        Ok((inherited, strange))
    }

    /// Adds a socket by what it says itself.
    fn add_unnamed(&mut self, socket: Socket) -> io::Result<()> {
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why.to_owned()));
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return refused("no stream socket that listens");
        }
        let local = socket.local_addr()?;
        let at = if let Some(path) = local.as_pathname() {
            AdminListen::Unix(path.to_owned())
        } else if let Some(at) = local.as_socket() {
            let is_dual = at.is_ipv6() && !socket.only_v6()?;
            let is_any = is_dual && at.ip().is_unspecified();
            AdminListen::Tcp(if is_any { Listen::Any(at.port()) } else { Listen::At(at) })
        } else {
            return refused("neither of TCP nor at a path");
        };
        self.add(Given { at, sockets: vec![OwnedFd::from(socket)], activated: true })
    }

    /// # Errors
    /// The kernel does not let one of them be waited for.
    pub fn add(&mut self, Given { at, sockets, activated }: Given) -> io::Result<()> {
        let file = if activated { FileOf::Systemd } else { FileOf::Strata };
        for socket in sockets {
            let socket = Socket::from(socket);
            socket.set_nonblocking(true)?;
            match &at {
                AdminListen::Tcp(listen) => {
                    let socket = TcpListener::from(OwnedFd::from(socket));
                    self.tcp.entry(*listen).or_default().push(Listener { socket, activated });
                }
                AdminListen::Unix(path) => {
                    self.unix.insert(path.clone(), (UnixListener::from(OwnedFd::from(socket)), file));
                }
            }
        }
        Ok(())
    }

    /// The sockets of an address for `workers` workers, each with at least one: where fewer were given, new ones beside them, or
    /// the same ones once more. None is left behind: its queue would be reset.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn take(&mut self, address: Listen, workers: usize) -> io::Result<Option<Vec<Vec<Listener>>>> {
        let Some(key) = self.find(address) else { return Ok(None) };
        let sockets = self.tcp.remove(&key).unwrap_or_default();
        self.taken.push(AdminListen::Tcp(key));
        let given = sockets.len();
        let mut each: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
        for (place, socket) in (0..workers).cycle().zip(sockets) {
            each[place].push(socket);
        }
        if given < workers && given > 0 {
            // Refused where the given ones do not share their port: systemd's without `ReusePort=yes`.
            let at = each[0][0].socket.local_addr().map_or(address, |at| match address {
                Listen::Any(_) => address,
                Listen::At(_) => Listen::At(at),
            });
            let more = listen::listen(at, workers - given, Claim::Beside);
            for (place, socket) in (given..).zip(more.unwrap_or_default()) {
                each[place].push(Listener::own(socket));
            }
            for place in given..workers {
                if each[place].is_empty() {
                    let Listener { socket, activated } = &each[place % given][0];
                    let again = Listener { socket: socket.try_clone()?, activated: *activated };
                    each[place].push(again);
                }
            }
        }
        Ok(Some(each))
    }

    /// The one socket of an address, for a listener that is no worker's.
    pub fn take_one(&mut self, address: Listen) -> Option<TcpListener> {
        let key = self.find(address)?;
        let socket = self.tcp.get_mut(&key)?.pop()?.socket;
        self.tcp.remove(&key);
        self.taken.push(AdminListen::Tcp(key));
        Some(socket)
    }

    pub fn take_unix(&mut self, path: &PathBuf) -> Option<(UnixListener, FileOf)> {
        let given = self.unix.remove(path)?;
        self.taken.push(AdminListen::Unix(path.clone()));
        Some(given)
    }

    /// Under which address it stands: "every address" may have been given as that of one family.
    fn find(&self, address: Listen) -> Option<Listen> {
        let both = match address {
            Listen::Any(port) => [
                Some(address),
                Some(Listen::At(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))),
                Some(Listen::At(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))),
            ],
            Listen::At(_) => [Some(address), None, None],
        };
        both.into_iter().flatten().find(|address| self.tcp.contains_key(address))
    }

    /// Adds what `other` has.
    pub fn merge(&mut self, other: Inherited) {
        for (address, sockets) in other.tcp {
            self.tcp.entry(address).or_default().extend(sockets);
        }
        self.unix.extend(other.unix);
    }

    /// Forgets, and so closes, what nobody has asked for: its addresses.
    pub fn leave(&mut self) -> Vec<AdminListen> {
        let tcp = std::mem::take(&mut self.tcp).into_keys().map(AdminListen::Tcp);
        tcp.chain(std::mem::take(&mut self.unix).into_keys().map(AdminListen::Unix)).collect()
    }

    /// The addresses that were asked for, as they were given.
    pub fn taken(&mut self) -> Vec<AdminListen> {
        std::mem::take(&mut self.taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpStream;

    use super::*;

    fn at(socket: &TcpListener) -> Listen {
        Listen::At(socket.local_addr().unwrap())
    }

    fn place(given: &Listener) -> Listen {
        at(&given.socket)
    }

    /// As many sockets on one address, in `Inherited`.
    fn given(count: usize) -> (Inherited, Listen) {
        let anywhere = Listen::parse("127.0.0.1:0").unwrap();
        let sockets = listen::listen(anywhere, count, Claim::Exclusive).unwrap();
        let address = at(&sockets[0]);
        let mut inherited = Inherited::default();
        let sockets = sockets.into_iter().map(OwnedFd::from).collect();
        inherited.add(Given { at: AdminListen::Tcp(address), sockets, activated: false }).unwrap();
        (inherited, address)
    }

    #[test]
    fn with_other_workers_than_before_each_has_a_socket_and_none_is_left_behind() {
        for (sockets, workers) in [(2, 2), (1, 3), (4, 3), (3, 1), (2, 5)] {
            let (mut inherited, address) = given(sockets);
            let each = inherited.take(address, workers).unwrap().expect("they were given");
            let counts: Vec<usize> = each.iter().map(Vec::len).collect();
            assert_eq!(counts.len(), workers, "{sockets} for {workers}");
            assert!(counts.iter().all(|count| *count > 0), "{sockets} for {workers}: {counts:?}");
            assert_eq!(counts.iter().sum::<usize>(), sockets.max(workers), "{sockets} for {workers}");
            assert!(each.iter().flatten().all(|given| place(given) == address));
            assert_eq!(inherited.taken(), [AdminListen::Tcp(address)]);
            assert!(inherited.leave().is_empty() && inherited.take(address, workers).unwrap().is_none());
        }
    }

    #[test]
    fn what_listens_alone_is_shared_by_all_workers() {
        // Bound without `SO_REUSEPORT`, as systemd does by default.
        let alone = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = at(&alone);
        let mut inherited = Inherited::default();
        inherited.add_unnamed(Socket::from(alone)).unwrap();
        let each = inherited.take(address, 2).unwrap().expect("it was given");
        let _client = TcpStream::connect(each[0][0].socket.local_addr().unwrap()).unwrap();
        let taken = each.iter().filter(|sockets| sockets[0].socket.accept().is_ok()).count();
        assert_eq!(taken, 1, "one queue");
        assert!(each.iter().flatten().all(|given| given.activated), "it is systemd's for each of them");
    }

    #[test]
    fn every_address_is_found_by_any_family_and_what_is_left_is_named() {
        let mut inherited = Inherited::default();
        let four = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = four.local_addr().unwrap().port();
        inherited.add_unnamed(Socket::from(four)).unwrap();
        let (other, address) = given(1);
        inherited.merge(other);
        assert!(inherited.take_one(Listen::Any(port)).is_some());
        let path = std::env::temp_dir().join(format!("strata-inherited-{}.sock", std::process::id()));
        let unix = UnixListener::bind(&path).unwrap();
        inherited.add_unnamed(Socket::from(OwnedFd::from(unix))).unwrap();
        let left: BTreeSet<String> = inherited.leave().iter().map(ToString::to_string).collect();
        let wanted = BTreeSet::from([address.to_string(), format!("unix:{}", path.display())]);
        assert_eq!(left, wanted);
        let stream = TcpStream::connect(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        assert!(inherited.add_unnamed(Socket::from(OwnedFd::from(stream.unwrap()))).is_err(), "it does not listen");
        let _ = std::fs::remove_file(path);
    }
}
