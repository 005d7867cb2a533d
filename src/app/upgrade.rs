//! Wiring: both sides of an upgrade: a new process of another binary takes over what this one listens on.
//!
//! ```text
//!   the one that serves                    its successor
//!   starts it, gives its listeners ──────▶ reads the file, binds what is new, opens taps that hear nothing yet
//!                                  ◀────── prepared
//!   closes its taps: go            ──────▶ accepts, and its taps hear
//!                                  ◀────── serving, and on which of the listeners
//!   names it to systemd: yours     ──────▶ is the one that speaks to systemd
//!   accepts no more, drains, ends
//! ```
//!
//! Until `serving` both hold the same sockets and the first one accepts: nobody is refused, and no queue is lost. Whatever goes wrong
//! before: the successor is killed, and the first one serves on. Not here: which sockets (`supervisor`), and how descriptors travel
//! (`sys::handover`).

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::base::address::AdminListen;
use crate::base::{Listen, clock, limits};
use crate::sys::handover::{self, Channel};
use crate::sys::inherited::{Given, Inherited};

pub mod found;

use found::FoundMember;

/// What the two say. Words that one of them does not know end the upgrade; more fields than it knows do not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
enum Message {
    /// With the sockets that listen at an address; of more than fit, the rest follows in the same way.
    Listener {
        at: String,
        #[serde(default)]
        activated: bool,
    },
    /// What an operator has set by command, and the file does not say.
    Wish(Wish),
    /// An endpoint that a source has found.
    Found(FoundMember),
    /// That was all. With what sources of services have found, in a file: it fits no message, and who does not know of it closes it.
    Begin,
    Prepared,
    Go,
    Serving {
        kept: Vec<String>,
    },
    Yours,
    Failed {
        why: String,
    },
}

/// An endpoint's intent and weight, where the file says others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    pub pool: String,
    pub endpoint: String,
    pub intent: Option<String>,
    pub weight: Option<u64>,
}

/// All that is given but sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Legacy {
    pub wishes: Vec<Wish>,
    /// Of sources of pools.
    pub found: Vec<FoundMember>,
    /// Of sources of services, as `found` writes it.
    pub services: Vec<u8>,
}

/// Says to a child that its standard input is the channel.
const MARK: &str = "STRATA_UPGRADE";
/// How long a process that hung up may take to end, so that its status can be told.
const ENDING: Duration = Duration::from_secs(3);
/// How long the one before may take to let go. Nothing waits for it but systemd.
const LETTING_GO: Duration = Duration::from_secs(10);

/// The channel, waited for.
struct Line {
    channel: Arc<Channel>,
    readiness: UnixStream,
}

impl Line {
    fn new(channel: Arc<Channel>) -> io::Result<Line> {
        let readiness = UnixStream::from_std(channel.twin()?)?;
        Ok(Line { channel, readiness })
    }

    async fn say(&self, message: &Message, sockets: &[OwnedFd]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        self.readiness.async_io(Interest::WRITABLE, || self.channel.send(&text, &sockets)).await
    }

    /// `None`: the other end is closed.
    async fn hear(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let heard = self.readiness.async_io(Interest::READABLE, || self.channel.receive()).await?;
        let Some((text, sockets)) = heard else { return Ok(None) };
        Ok(Some((serde_json::from_slice(&text)?, sockets)))
    }
}

/// The binary of this process as it was called, to be found anew: a file that was replaced is another binary.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// # Errors
    /// `/proc` does not say which binary runs.
    pub fn of_this_process() -> io::Result<Program> {
        let own = env::current_exe()?;
        let mut arguments = env::args_os();
        let called = arguments.next().and_then(|name| find(Path::new(&name)));
        // A link that is called stays one: it may lead elsewhere later.
        let path = called.filter(|path| is_same(path, Path::new("/proc/self/exe"))).unwrap_or(own);
        Ok(Program { path, arguments: arguments.collect() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn find(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return Some(env::current_dir().ok()?.join(name));
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn is_same(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|of| (of.dev(), of.ino()));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// The new process, seen from the one that serves.
pub struct Successor {
    line: Line,
    child: Child,
}

impl Successor {
    /// Starts it.
    ///
    /// # Errors
    /// A sentence: the binary cannot be run.
    pub fn start(program: &Program) -> Result<Successor, String> {
        let failed = |error: io::Error| format!("{} cannot be started: {error}", program.path.display());
        let (channel, theirs) = Channel::pair().map_err(failed)?;
        let line = Line::new(Arc::new(channel)).map_err(failed)?;
        let child = Command::new(&program.path)
            .args(&program.arguments)
            .env(MARK, std::process::id().to_string())
            // They name this process; the next one would take itself for meant, or not.
            .env_remove("WATCHDOG_PID")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(failed)?;
        Ok(Successor { line, child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives it what this process listens on, what an operator has set and what sources have found, and waits until it is prepared.
    ///
    /// # Errors
    /// A sentence: why it is not.
    pub async fn prepare(&mut self, sockets: Vec<Given>, legacy: Legacy) -> Result<(), String> {
        for Given { at, sockets, activated } in sockets {
            for part in sockets.chunks(handover::DESCRIPTORS) {
                self.say(&Message::Listener { at: at.to_string(), activated }, part).await?;
            }
        }
        for wish in legacy.wishes {
            self.say(&Message::Wish(wish), &[]).await?;
        }
        for member in legacy.found {
            self.say(&Message::Found(member), &[]).await?;
        }
        let services = match legacy.services.is_empty() {
            true => None,
            false => handover::letter(&legacy.services)
                .inspect_err(|error| {
                    tracing::warn!(%error, "what sources of services have found cannot be handed over: it is found anew");
                })
                .ok(),
        };
        self.say(&Message::Begin, services.as_slice()).await?;
        match self.hear().await? {
            Message::Prepared => Ok(()),
            other => Err(strange(&other)),
        }
    }

    /// Has it take over. Returns on which of the addresses it serves.
    ///
    /// # Errors
    /// A sentence: why it does not.
    pub async fn take_over(&mut self) -> Result<Vec<AdminListen>, String> {
        self.say(&Message::Go, &[]).await?;
        match self.hear().await? {
            Message::Serving { kept } => Ok(kept.iter().filter_map(|at| parse(at)).collect()),
            other => Err(strange(&other)),
        }
    }

    /// It is the main process from now on. It may have ended already, and then nothing can be told it.
    pub async fn let_go(self) {
        let _ = self.line.say(&Message::Yours, &[]).await;
    }

    /// Ends it, whatever it does, and waits until it has.
    pub fn end(mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn say(&mut self, message: &Message, sockets: &[OwnedFd]) -> Result<(), String> {
        match self.line.say(message, sockets).await {
            Ok(()) => Ok(()),
            // It hung up; perhaps it said why.
            Err(error) if is_gone(error.kind()) => match self.hear().await {
                Err(why) => Err(why),
                Ok(other) => Err(strange(&other)),
            },
            Err(error) => Err(format!("it cannot be told: {error}")),
        }
    }

    async fn hear(&mut self) -> Result<Message, String> {
        match self.line.hear().await {
            Ok(Some((Message::Failed { why }, _))) => Err(why),
            Ok(Some((message, _))) => Ok(message),
            Ok(None) => Err(self.ended().await),
            Err(error) => Err(format!("it does not speak like Strata: {error}")),
        }
    }

    async fn ended(&mut self) -> String {
        let until = clock::now() + ENDING;
        while clock::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return format!("it ended before it was ready ({})", word(status));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        "it hung up before it was ready: is it a Strata that knows how to upgrade?".to_owned()
    }
}

const fn is_gone(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn word(status: ExitStatus) -> String {
    format!("{status}; its own output says why")
}

fn strange(message: &Message) -> String {
    format!("it said {message:?} where something else was due")
}

fn parse(at: &str) -> Option<AdminListen> {
    match at.strip_prefix("unix:") {
        Some(path) => Some(AdminListen::Unix(PathBuf::from(path))),
        None => Listen::parse(at).ok().map(AdminListen::Tcp),
    }
}

/// The process that serves, seen from its successor.
#[derive(Clone)]
pub struct Predecessor {
    channel: Arc<Channel>,
}

/// The same, while it is talked to.
pub struct Talk {
    line: Line,
}

impl Predecessor {
    /// Whether this process is a successor. To be asked once, before anything reads standard input.
    ///
    /// # Errors
    /// It was told so, and has no channel.
    pub fn find() -> io::Result<Option<Predecessor>> {
        if env::var_os(MARK).is_none() {
            return Ok(None);
        }
        Ok(Some(Predecessor { channel: Arc::new(Channel::from_standard_input()?) }))
    }

    /// This process cannot take over: `why`, for whoever asked for the upgrade.
    pub fn refuse(&self, why: &str) {
        // Each control character takes six bytes as JSON.
        let most = handover::BYTES / 8;
        let why: String = why
            .trim_end()
            .chars()
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= most).then_some(c)
            })
            .collect();
        if let Ok(text) = serde_json::to_vec(&Message::Failed { why }) {
            // If it cannot be told, it sees that this process ends.
            let _ = self.channel.send(&text, &[]);
        }
    }

    /// What it gives.
    ///
    /// # Errors
    /// It is gone, or says something else.
    pub async fn inherit(&self) -> io::Result<(Talk, Inherited, Legacy)> {
        let talk = Talk { line: Line::new(self.channel.clone())? };
        let mut inherited = Inherited::default();
        let mut legacy = Legacy::default();
        loop {
            match talk.hear().await? {
                (Message::Listener { at, activated }, sockets) => {
                    let at = parse(&at).ok_or_else(|| io::Error::other(format!("{at:?} is no address")))?;
                    inherited.add(Given { at, sockets, activated })?;
                }
                (Message::Wish(wish), _) => legacy.wishes.push(wish),
                (Message::Found(member), _) => legacy.found.push(member),
                (Message::Begin, files) => {
                    if let Some(file) = files.into_iter().next() {
                        legacy.services = handover::opened(file, limits::HANDED_OVER_BYTES)?;
                    }
                    return Ok((talk, inherited, legacy));
                }
                (other, _) => return Err(io::Error::other(strange(&other))),
            }
        }
    }
}

impl Talk {
    /// This process could serve now. Returns when it is to.
    ///
    /// # Errors
    /// The one before is gone, or serves on.
    pub async fn prepared(&self) -> io::Result<()> {
        self.line.say(&Message::Prepared, &[]).await?;
        match self.hear().await? {
            (Message::Go, _) => Ok(()),
            (other, _) => Err(io::Error::other(strange(&other))),
        }
    }

    /// This process serves, on `kept` of what it was given. Returns when the one before has let go, or is gone.
    pub async fn serving(self, kept: &[AdminListen]) {
        let kept = kept.iter().map(ToString::to_string).collect();
        if let Err(error) = self.line.say(&Message::Serving { kept }, &[]).await {
            tracing::warn!(%error, "the process before this one cannot be told that this one serves");
        }
        // Whatever it says or does not: this one serves.
        let _ = tokio::time::timeout(LETTING_GO, self.hear()).await;
    }

    async fn hear(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "the process before this one is gone");
        self.line.hear().await?.ok_or_else(gone)
    }
}
