//! Shell: the sockets of `[metrics]` and `[admin]`, opened and closed as the configuration says.
//!
//! `prepare` binds what is new and changes nothing; `commit` swaps. A listener whose address stays is left alone. Connections are
//! bounded in number and in how long they may dawdle. Not here: answers (`api`).

use std::cell::RefCell;
use std::convert::Infallible;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::api::{Api, Face};
use super::control::Control;
use super::patient::Patient;
use crate::base::address::AdminListen;
use crate::base::limits;
use crate::state::Settings;
use crate::sys::inherited::{FileOf, Given, Inherited};
use crate::sys::listen::{self, Claim};

/// The two listeners, as far as they are open.
pub struct Servers {
    api: Rc<Api>,
    metrics: Option<Server>,
    admin: Option<Server>,
    /// What this process was given, while somebody may ask for it.
    inherited: Rc<RefCell<Inherited>>,
    /// Of clients of a listener opened from now on.
    pub(super) bounds: Bounds,
}

/// How many clients there may be, and how long one may take.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// For a request head, or to say nothing.
    pub(super) idle: Duration,
    /// For an answer that does not go out at once.
    pub(super) answer: Duration,
    pub(super) connections: usize,
}

/// What a commit will do.
pub struct Prepared {
    metrics: Step,
    admin: Step,
}

enum Step {
    Keep,
    Close,
    Open(AdminListen, Bound),
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, FileOf),
}

/// A listener being served. Dropping it closes the socket and takes its file away; connections end with their exchange or their
/// time.
struct Server {
    address: AdminListen,
    local: Option<SocketAddr>,
    /// The one that is accepted on, once more.
    socket: OwnedFd,
    task: JoinHandle<()>,
    /// Of a unix socket, unless the file is somebody else's.
    file: Option<PathBuf>,
}

impl Servers {
    /// Nothing is open; what is in `inherited` need not be bound.
    pub fn new(control: Control, inherited: Rc<RefCell<Inherited>>) -> Servers {
        let api = Rc::new(Api::new(control));
        let bounds =
            Bounds { idle: limits::ADMIN_IDLE, answer: limits::ADMIN_ANSWER, connections: limits::ADMIN_CONNECTIONS };
        Servers { api, metrics: None, admin: None, inherited, bounds }
    }

    /// Binds what `settings` adds.
    ///
    /// # Errors
    /// A sentence: which address cannot be bound, and why.
    pub fn prepare(&self, settings: &Settings) -> Result<Prepared, String> {
        let metrics = settings.metrics.map(AdminListen::Tcp);
        Ok(Prepared {
            metrics: self
                .step(self.metrics.as_ref(), metrics.as_ref())
                .map_err(|error| format!("[metrics]: {error}"))?,
            admin: self
                .step(self.admin.as_ref(), settings.admin.as_ref())
                .map_err(|error| format!("[admin]: {error}"))?,
        })
    }

    fn step(&self, open: Option<&Server>, wanted: Option<&AdminListen>) -> Result<Step, String> {
        match (open, wanted) {
            (None, None) => Ok(Step::Keep),
            (Some(open), Some(wanted)) if open.address == *wanted => Ok(Step::Keep),
            (Some(_), None) => Ok(Step::Close),
            (open, Some(wanted)) => {
                let given = match wanted {
                    AdminListen::Tcp(listen) => self.inherited.borrow_mut().take_one(*listen).map(Bound::Tcp),
                    AdminListen::Unix(path) => {
                        self.inherited.borrow_mut().take_unix(path).map(|(socket, file)| Bound::Unix(socket, file))
                    }
                };
                Ok(Step::Open(wanted.clone(), given.map_or_else(|| bind(wanted, open), Ok)?))
            }
        }
    }

    /// The listening sockets once more, for another process.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn lend(&self) -> io::Result<Vec<Given>> {
        let lend = |server: &Server| {
            let sockets = vec![server.socket.try_clone()?];
            let activated = matches!(server.address, AdminListen::Unix(_)) && server.file.is_none();
            Ok(Given { at: server.address.clone(), sockets, activated })
        };
        [&self.metrics, &self.admin].into_iter().flatten().map(lend).collect()
    }

    /// Accepts no more; where another process does, on the addresses in `kept`, their files stay.
    pub fn release(&mut self, kept: &[AdminListen]) {
        for mut server in [self.metrics.take(), self.admin.take()].into_iter().flatten() {
            if kept.contains(&server.address) {
                server.file = None;
            }
        }
    }

    /// Serves what was prepared and closes what is gone. Must run inside the control thread's `LocalSet`.
    pub fn commit(&mut self, prepared: Prepared) {
        apply(&mut self.metrics, prepared.metrics, &self.api, true, self.bounds);
        apply(&mut self.admin, prepared.admin, &self.api, false, self.bounds);
    }

    /// Where metrics are served, the port filled in; absent where they are not.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local
    }

    /// Where the API is served over TCP, the port filled in.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local
    }
}

fn bind(wanted: &AdminListen, open: Option<&Server>) -> Result<Bound, String> {
    match wanted {
        AdminListen::Tcp(address) => {
            let overlaps = |open: &Server| matches!(&open.address, AdminListen::Tcp(own) if own.overlaps(*address));
            let claim = if open.is_some_and(overlaps) { Claim::Beside } else { Claim::Exclusive };
            let mut sockets = listen::listen(*address, 1, claim).map_err(|error| error.to_string())?;
            sockets.pop().map(Bound::Tcp).ok_or_else(|| format!("cannot listen on {address}"))
        }
        AdminListen::Unix(path) => {
            let bound = bind_unix(path).map(|socket| Bound::Unix(socket, FileOf::Strata));
            bound.map_err(|error| format!("cannot listen on {}: {error}", path.display()))
        }
    }
}

/// A unix socket that only its owner may open.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if path.exists() {
        // What nobody answers at was left behind by a process that was killed.
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves there")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    let socket: OwnedFd = Socket::new(Domain::UNIX, Type::STREAM, None)?.into();
    // The file is made with the permissions that the socket has when it is bound, so there is no moment when others may open it.
    let socket = File::from(socket);
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}

fn apply(server: &mut Option<Server>, step: Step, api: &Rc<Api>, metrics: bool, bounds: Bounds) {
    match step {
        Step::Keep => {}
        Step::Close => *server = None,
        Step::Open(address, bound) => {
            *server = None;
            match serve(address.clone(), bound, api.clone(), metrics, bounds) {
                Ok(new) => *server = Some(new),
                // The socket is bound and listens; only a runtime without I/O would refuse it.
                Err(error) => tracing::error!(%error, %address, "the admin listener cannot be served"),
            }
        }
    }
}

fn serve(address: AdminListen, bound: Bound, api: Rc<Api>, metrics: bool, bounds: Bounds) -> io::Result<Server> {
    let beat = api.beats().attend(format!("accepting at {address} for the admin side"));
    Ok(match bound {
        Bound::Tcp(listener) => {
            let local = listener.local_addr().ok();
            let socket = listener.as_fd().try_clone_to_owned()?;
            let listener = TcpListener::from_std(listener)?;
            let face = match &address {
                _ if metrics => Face::Metrics,
                AdminListen::Tcp(listen) if !listen.is_loopback() => Face::Remote,
                AdminListen::Tcp(_) | AdminListen::Unix(_) => Face::Loopback,
            };
            let task = tokio::task::spawn_local(async move {
                let (_beat, room) = (beat, Room::of(bounds.connections));
                loop {
                    let place = room.place().await;
                    match listener.accept().await {
                        Ok((stream, peer)) => carry(stream, face, peer.to_string(), &api, bounds, place),
                        Err(error) => pause(&error).await,
                    }
                }
            });
            Server { address, local, socket, task, file: None }
        }
        Bound::Unix(listener, of) => {
            let file = match &address {
                AdminListen::Unix(path) if of == FileOf::Strata => Some(path.clone()),
                AdminListen::Unix(_) | AdminListen::Tcp(_) => None,
            };
            let socket = listener.as_fd().try_clone_to_owned()?;
            let listener = UnixListener::from_std(listener)?;
            let task = tokio::task::spawn_local(async move {
                let (_beat, room) = (beat, Room::of(bounds.connections));
                loop {
                    let place = room.place().await;
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let peer = owner(&stream);
                            carry(stream, Face::Unix, peer, &api, bounds, place);
                        }
                        Err(error) => pause(&error).await,
                    }
                }
            });
            Server { address, local: None, socket, task, file }
        }
    })
}

/// Bounds the connections of a listener; the next ones wait in the kernel's queue.
struct Room(std::sync::Arc<Semaphore>);

impl Room {
    fn of(connections: usize) -> Room {
        Room(std::sync::Arc::new(Semaphore::new(connections)))
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // `None` only if the semaphore were closed, which nobody does.
        self.0.clone().acquire_owned().await.ok()
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "accepting admin connections pauses");
    tokio::time::sleep(limits::TIMER_TICK).await;
}

/// Who is at the other end of a unix socket, as the kernel knows.
fn owner(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(owner) => match owner.pid() {
            Some(pid) => format!("uid {}, pid {pid}", owner.uid()),
            None => format!("uid {}", owner.uid()),
        },
        Err(_) => "unix socket".to_owned(),
    }
}

/// Serves one connection to its end. The head timeout covers idling between requests as well; `api` bounds bodies.
fn carry<S>(stream: S, face: Face, peer: String, api: &Rc<Api>, bounds: Bounds, place: Option<OwnedSemaphorePermit>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let api = api.clone();
    tokio::task::spawn_local(async move {
        let answer = service_fn(|request| {
            let (api, peer) = (api.clone(), peer.as_str());
            async move { Ok::<_, Infallible>(api.answer(face, peer, request).await) }
        });
        // Errors are the client's: it went away, dawdled, or spoke something else.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.idle)
            .max_buf_size(limits::HEAD_BYTES)
            .serve_connection(TokioIo::new(Patient::new(stream, bounds.answer)), answer)
            .await;
        drop(place);
    });
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = self.file.take() {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
    }
}
