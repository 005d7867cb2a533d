//! Wiring: `strata explain`: what becomes of a packet, a connection or a request, and why; of a file, or of the running Strata. No root,
//! no interface, no traffic.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};

use super::{Admin, no_packet_service, read_config, remote, say};
use crate::admin::document::Explained;
use crate::admin::is_packet;
use crate::app::explain::{self as packets, Mute};
use crate::base::clock;
use crate::explain::{self, Asked, Question, Scene};
use crate::state::Snapshot;
use crate::wire::line::{self, Line};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A request, as in 'GET http://a.test/x', or a packet, as in 'tcp 198.51.100.7:4242 > 10.0.0.100:80'
    ///
    /// Of a request the URL says which listener it reaches; GET is taken where no method is written. Of a packet the protocols are
    /// tcp, udp, icmp, or a number. IPv6 in brackets: 'udp [2001:db8::7]:4242 > [fd00::100]:443'. Then, in any order: syn ack fin rst
    /// psh (syn alone if none), ttl N, size BYTES (of the whole datagram), fragment OFFSET (0 is the first), vlan N, mss N,
    /// echo-reply. A line that `strata replay` printed is understood too. A packet that opens a TCP connection to a listener is
    /// explained as that connection.
    #[arg(value_name = "WHAT", value_parser = subject)]
    what: Subject,
    /// Explain by this configuration, every endpoint up; absent: ask the running Strata
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the running Strata, with its health, intents, weights and counts: the default without --config
    #[arg(long, conflicts_with = "config")]
    live: bool,
    #[command(flatten)]
    admin: Admin,
    /// Of a request: the client's address, with a port where one matters
    #[arg(long, value_name = "ADDRESS", value_parser = from)]
    from: Option<String>,
    /// Of a request: a field, as in 'Cookie: session=7'; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<String>,
    /// Of a request: the service, where the URL does not say it
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Of a packet: the interface that it comes in by; default: the VIP's
    #[arg(long = "in", value_name = "INTERFACE")]
    interface: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What can be explained, as it was written.
#[derive(Clone, Debug)]
enum Subject {
    Packet(String, Box<Line>),
    Request(String),
}

fn subject(text: &str) -> Result<Subject, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("what? 'GET http://a.test/x', or as in 'tcp 198.51.100.7:4242 > 10.0.0.100:80'".to_owned());
    }
    if is_packet(text) {
        return line::parse(text).map(|line| Subject::Packet(text.to_owned(), Box::new(line)));
    }
    let asked = Asked { request: text, ..Asked::default() };
    asked.read().map_err(|fault| fault.why).map(|_| Subject::Request(text.to_owned()))
}

fn from(text: &str) -> Result<String, String> {
    let asked = Asked { request: "GET /", from: Some(text), ..Asked::default() };
    asked.read().map(|_| text.to_owned()).map_err(|fault| fault.why)
}

fn header(text: &str) -> Result<String, String> {
    let headers = [text.to_owned()];
    let asked = Asked { request: "GET /", headers: &headers, ..Asked::default() };
    asked.read().map(|_| text.to_owned()).map_err(|fault| fault.why)
}

/// 0: it is explained, whatever the verdict. 1: the configuration is not valid, or has nothing to decide with.
pub(super) fn explain(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    arguments.fit()?;
    let explained = match &arguments.config {
        None => arguments.ask()?,
        Some(file) => match read_config(file)? {
            None => return Ok(ExitCode::FAILURE),
            Some(snapshot) => arguments.imagine(file, &snapshot)?,
        },
    };
    match (explained, arguments.json) {
        (Explained::Request(story), true) => say(format_args!("{:#}\n", serde_json::to_value(&story)?))?,
        (Explained::Request(story), false) => say(story)?,
        (Explained::Packet { story, .. }, true) => say(format_args!("{story:#}\n"))?,
        (Explained::Packet { text, .. }, false) => say(text)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// Whether every argument says something of what is asked.
    fn fit(&self) -> anyhow::Result<()> {
        let of_requests = [("--from", self.from.is_some()), ("--header", !self.headers.is_empty())];
        let of_requests = of_requests.into_iter().chain([("--service", self.service.is_some())]);
        let wrong = match &self.what {
            Subject::Packet(..) => {
                of_requests.into_iter().find(|(_, given)| *given).map(|(name, _)| (name, "a request"))
            }
            Subject::Request(_) => self.interface.as_ref().map(|_| ("--in", "a packet")),
        };
        match wrong {
            Some((name, whose)) => bail!("{name} is said of {whose}"),
            None => Ok(()),
        }
    }

    fn asked<'a>(&'a self, request: &'a str) -> Asked<'a> {
        Asked { request, headers: &self.headers, from: self.from.as_deref(), service: self.service.as_deref() }
    }

    fn ask(&self) -> anyhow::Result<Explained> {
        let (what, pairs) = match &self.what {
            Subject::Packet(text, _) => (text, self.interface.iter().map(|name| ("in", &**name)).collect::<Vec<_>>()),
            Subject::Request(text) => {
                let one = [("from", &self.from), ("service", &self.service)];
                let one = one.into_iter().filter_map(|(key, value)| Some((key, &**value.as_ref()?)));
                (text, one.chain(self.headers.iter().map(|header| ("header", &**header))).collect())
            }
        };
        remote::explain(&self.admin, what, &pairs)
    }

    fn imagine(&self, file: &Path, snapshot: &Snapshot) -> anyhow::Result<Explained> {
        let scene = Scene {
            snapshot,
            now: clock::now(),
            live: false,
            random_key: snapshot.settings.random_key,
            cause: &|_, _| None,
        };
        match &self.what {
            Subject::Request(text) => {
                let question: Question = self.asked(text).read().map_err(|fault| anyhow!("{fault}"))?;
                let story = explain::request(&scene, &question).map_err(|fault| anyhow!("--{fault}"))?;
                Ok(Explained::Request(Box::new(story)))
            }
            Subject::Packet(_, line) => match packets::packet(&scene, line, self.interface.as_deref()) {
                Ok(packets::Explained::Connection(story)) => Ok(Explained::Request(story)),
                Ok(packets::Explained::Packet(story)) => {
                    Ok(Explained::Packet { text: story.to_string(), story: serde_json::to_value(&story)? })
                }
                Err(Mute::NoPacketService) => Err(no_packet_service(file)),
                Err(Mute::Because(why)) => bail!(why),
            },
        }
    }
}
