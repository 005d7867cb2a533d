//! Value: the seam of sources: what must bring endpoints or routes that stand in no file, and the plain values that they find.
//!
//! A source looks and tells; it decides nothing. What becomes of a finding (`config::found`), when it comes into force
//! (`app::discovery`), and that the last good one stays while a source fails, is the same for all of them.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::base::{EndpointAddr, Weight};
use crate::doc::{Field, Grammar, Kind, Settings};
use crate::route::Pattern;

/// Where endpoints, or routes, come from beside the file. Built once for each table that has a `source`.
pub trait Source {
    /// Looks, and tells whatever it finds, until it is dropped. On the control thread: what takes long is awaited.
    ///
    /// A finding is whole: what is not in it is gone. One that is like the last may be told again, and changes nothing.
    fn run(self: Box<Self>, tell: Tell) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// One kind of source.
#[derive(Debug)]
pub struct Spec {
    pub grammar: Grammar,
    /// Whether an `l7` service can have it too, for its routes.
    pub routes: bool,
    /// The grammar has checked the settings, so nothing is left to go wrong.
    pub build: fn(&Settings, &Place) -> Box<dyn Source>,
}

/// Where in the configuration a source stands.
#[derive(Clone, Debug)]
pub struct Place {
    pub owner: Owner,
    /// Of the configuration's main file: relative paths begin here.
    pub folder: PathBuf,
    /// Every kind of probe, for pools that only a source names.
    pub probes: Vec<&'static Grammar>,
}

/// The table that has a source: it gets what the source finds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    Pool(Arc<str>),
    Service(Arc<str>),
}

/// As the file writes it, in metrics and logs too: `pool.web`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Pool(name) => write!(f, "pool.{name}"),
            Owner::Service(name) => write!(f, "service.{name}"),
        }
    }
}

/// All that a source finds at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// Endpoints for the pool whose source it is.
    pub members: Vec<Member>,
    /// Routes for the `l7` service whose source it is.
    pub routes: Vec<Route>,
    /// Pools that those routes lead to, where the file does not have them.
    pub pools: Vec<Pool>,
    /// What was found, and cannot be used.
    pub mistakes: Vec<Mistake>,
    /// Where nothing is found, nothing is there: the pool becomes empty. Otherwise it keeps what it has, for an empty answer is a
    /// mistake of somebody's more often than a wish to serve nothing. So do pools that it does not tell of, with their routes.
    pub may_be_empty: bool,
    /// Who is there and could not be looked at yet, as `from` names them: what another process had found of those stays until they can.
    pub unseen: BTreeSet<Arc<str>>,
    /// Who is there and was never looked at, however long ago that was asked for. Those alone keep what a pool has, if there are any.
    pub unknown: BTreeSet<Arc<str>>,
}

impl Finding {
    /// Whether somebody who takes new work by this one does so no more by `next`.
    pub fn loses(&self, next: &Finding) -> bool {
        let next: HashSet<EndpointAddr> = next.working().collect();
        self.working().any(|address| !next.contains(&address))
    }

    fn working(&self) -> impl Iterator<Item = EndpointAddr> {
        self.everybody().filter(|member| !member.leaving).map(|member| member.address)
    }

    /// Its own members and those of its pools.
    pub fn everybody(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(self.pools.iter().flat_map(|pool| &pool.members))
    }
}

/// An endpoint that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub address: EndpointAddr,
    pub weight: Weight,
    pub backup: bool,
    pub zone: Option<Arc<str>>,
    /// It is there and is about to go: no new work. One that is not found any more is treated alike.
    pub leaving: bool,
    /// Where it was found, for people: `web.internal`, `container web-1`.
    pub from: Arc<str>,
}

impl Member {
    /// With what a file means that says no more.
    pub fn new(address: impl Into<EndpointAddr>, from: impl Into<Arc<str>>) -> Member {
        let (address, from) = (address.into(), from.into());
        Member { address, weight: Weight::ONE, backup: false, zone: None, leaving: false, from }
    }
}

/// A route that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// As it was written; `None`: every request.
    pub url: Option<String>,
    pub pattern: Pattern,
    pub priority: i64,
    /// A pool of the file, or one of the same finding.
    pub pool: Arc<str>,
    pub from: Arc<str>,
}

/// A pool that no file has. What it does not say is as a file means it that says no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub name: Arc<str>,
    pub members: Vec<Member>,
    /// Decoded by the grammar of a picker.
    pub balance: Option<Settings>,
    /// Decoded by the grammar of a probe.
    pub probe: Option<Settings>,
    pub from: Arc<str>,
}

/// Something that was found and is refused: the rest of the finding holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub why: Refusal,
    /// Where it was found: `web.internal`, `container web-1, label strata.weight`.
    pub place: String,
    /// Lower case, no full stop, as in every diagnostic.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}

impl Mistake {
    /// Who made it: the container, without the label that it is in.
    pub fn maker(&self) -> &str {
        self.place.split_once(", label ").map_or(&self.place, |(maker, _)| maker)
    }

    pub fn new(why: Refusal, place: impl Into<String>, message: impl Into<String>) -> Mistake {
        Mistake { why, place: place.into(), message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = Some(help.into());
        self
    }
}

/// Why something that was found is not used: the word of the metric, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    Loopback,
    LinkLocal,
    /// Not the address of one machine.
    NoHost,
    /// An address of ours, where packets or connections would go round.
    Own,
    /// More than fits.
    TooMany,
    /// It does not read as what it should be.
    Malformed,
    /// A key or label that is not known.
    Unknown,
    NoPort,
    /// The services that use the pool cannot send there.
    Mode,
    NoPool,
    /// It asks for a pool or a service that the file did not open to it.
    Closed,
    /// Two say different things, or the file says it already.
    Conflict,
}

impl Refusal {
    pub const ALL: [Refusal; 12] = [
        Refusal::Loopback,
        Refusal::LinkLocal,
        Refusal::NoHost,
        Refusal::Own,
        Refusal::TooMany,
        Refusal::Malformed,
        Refusal::Unknown,
        Refusal::NoPort,
        Refusal::Mode,
        Refusal::NoPool,
        Refusal::Closed,
        Refusal::Conflict,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Refusal::Loopback => "loopback",
            Refusal::LinkLocal => "link-local",
            Refusal::NoHost => "no-host",
            Refusal::Own => "own",
            Refusal::TooMany => "too-many",
            Refusal::Malformed => "malformed",
            Refusal::Unknown => "unknown",
            Refusal::NoPort => "no-port",
            Refusal::Mode => "mode",
            Refusal::NoPool => "no-pool",
            Refusal::Closed => "closed",
            Refusal::Conflict => "conflict",
        }
    }

    pub const fn meaning(self) -> &'static str {
        match self {
            Refusal::Loopback => "an address of this machine's loopback, which strangers must not name",
            Refusal::LinkLocal => "a link-local address, or one that clouds answer with secrets at",
            Refusal::NoHost => "not the address of one machine: unspecified, multicast or broadcast",
            Refusal::Own => "a VIP, a listener or a source address of this Strata: traffic would go round",
            Refusal::TooMany => "beyond the most members, pools or routes",
            Refusal::Malformed => "does not read as what it should be",
            Refusal::Unknown => "a key or a label that is not known",
            Refusal::NoPort => "no port to connect to",
            Refusal::Mode => "the services that use the pool cannot send there",
            Refusal::NoPool => "leads to a pool that is not there",
            Refusal::Closed => "asks for a pool or a service that the file did not open to it",
            Refusal::Conflict => "says otherwise than the file, or than another of its kind",
        }
    }
}

/// Why a source could not look. What was found before stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub why: Trouble,
    /// A few words, as in `web.internal: no such name`.
    pub message: String,
}

impl Failure {
    pub fn new(why: Trouble, message: impl Into<String>) -> Failure {
        Failure { why, message: message.into() }
    }
}

/// The word of the metric, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// There is no such name, file or socket.
    Missing,
    /// It is there, and nothing is in it.
    Empty,
    /// Whoever was asked says no: SERVFAIL, no permission, status 403.
    Refused,
    /// No answer in time.
    Silent,
    /// It cannot be reached.
    Unreachable,
    /// What came does not read as an answer.
    Malformed,
    /// A mistake of this program's.
    Broken,
}

impl Trouble {
    pub const ALL: [Trouble; 7] = [
        Trouble::Missing,
        Trouble::Empty,
        Trouble::Refused,
        Trouble::Silent,
        Trouble::Unreachable,
        Trouble::Malformed,
        Trouble::Broken,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Trouble::Missing => "missing",
            Trouble::Empty => "empty",
            Trouble::Refused => "refused",
            Trouble::Silent => "silent",
            Trouble::Unreachable => "unreachable",
            Trouble::Malformed => "malformed",
            Trouble::Broken => "broken",
        }
    }

    pub const fn meaning(self) -> &'static str {
        match self {
            Trouble::Missing => "there is no such name, file or socket",
            Trouble::Empty => "it is there, and nothing is in it",
            Trouble::Refused => "whoever was asked says no: SERVFAIL, no permission",
            Trouble::Silent => "no answer in time",
            Trouble::Unreachable => "it cannot be reached: nobody listens, or no way leads there",
            Trouble::Malformed => "what came does not read as an answer",
            Trouble::Broken => "a mistake of Strata's",
        }
    }
}

/// How a source speaks. Findings that come faster than they are taken wait here.
#[derive(Clone, Debug)]
pub struct Tell {
    pub id: u64,
    pub to: mpsc::Sender<Told>,
}

/// What one source has said.
#[derive(Clone, Debug)]
pub struct Told {
    pub id: u64,
    pub what: Result<Finding, Failure>,
}

impl Tell {
    pub async fn found(&self, finding: Finding) {
        self.say(Ok(finding)).await;
    }

    pub async fn failed(&self, failure: Failure) {
        self.say(Err(failure)).await;
    }

    async fn say(&self, what: Result<Finding, Failure>) {
        // Fails only when nobody is left to hear: the process ends.
        let _ = self.to.send(Told { id: self.id, what }).await;
    }
}

/// How long a member that has left may take to finish. Every source's grammar has it.
pub const DRAIN: Field = Field::default(
    "drain",
    Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(24 * 3600) },
    "30s",
    "a member that has left gets no new work, and is removed when it is idle, or after this",
);

/// Addresses that are refused unless it names them, for sources that strangers can write to.
pub const ALLOW: Field = Field::optional(
    "allow",
    Kind::Texts(is_allowance),
    "\"loopback\", \"link-local\": addresses that are refused otherwise, for whoever writes there could reach this machine's own",
);

/// Whether two sources look in the same place, so that each finds what the other does. What else they say (`network`, `drain`) is what
/// becomes of it.
pub fn is_same_place(one: &Settings, other: &Settings) -> bool {
    let socket = |settings: &Settings| {
        let text = settings.text("socket").unwrap_or_default();
        // Two ways to write it.
        text.strip_prefix("unix://").unwrap_or(text).trim_end_matches('/').to_owned()
    };
    one.name == other.name && one.text("labels") == other.text("labels") && socket(one) == socket(other)
}

/// The setting of [`DRAIN`].
pub fn drain(settings: &Settings) -> Duration {
    settings.duration(DRAIN.name)
}

/// Why an address that a stranger names is refused, by the setting of [`ALLOW`].
pub fn stranger(settings: &Settings, address: IpAddr) -> Option<Refusal> {
    let allowed = |word: Refusal| settings.texts(ALLOW.name).iter().any(|text| text == word.word());
    let address = address.to_canonical();
    if is_no_host(address) {
        return Some(Refusal::NoHost);
    }
    if address.is_loopback() && !allowed(Refusal::Loopback) {
        return Some(Refusal::Loopback);
    }
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    (link_local || METADATA.contains(&address)).then_some(Refusal::LinkLocal).filter(|why| !allowed(*why))
}

/// It stands for every address, for a group or for all machines of a network.
pub fn is_no_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_unspecified() || address.is_multicast() || broadcast
}

fn is_allowance(text: &str) -> Result<(), String> {
    match text {
        "loopback" | "link-local" => Ok(()),
        _ => Err("`loopback` or `link-local`".to_owned()),
    }
}

/// Where clouds tell a machine its secrets, beside 169.254.169.254: Alibaba's, Oracle's and Amazon's over IPv6.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(std::net::Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::Value;

    #[test]
    fn who_leaves_or_is_not_there_any_more_is_lost_and_who_comes_is_not() {
        let member = |text: &str| Member::new(text.parse::<std::net::SocketAddr>().unwrap(), "here");
        let of = |addresses: &[&str]| Finding {
            members: addresses.iter().map(|text| member(text)).collect(),
            ..Finding::default()
        };
        let in_a_pool = |addresses: &[&str]| {
            let Finding { members, .. } = of(addresses);
            let pool = Pool { name: "web".into(), members, balance: None, probe: None, from: "here".into() };
            Finding { pools: vec![pool], ..Finding::default() }
        };
        let mut leaving = of(&["10.0.0.1:80", "10.0.0.2:80"]);
        leaving.members[1].leaving = true;
        let both = of(&["10.0.0.1:80", "10.0.0.2:80"]);
        for (before, next, want) in [
            (&both, &both, false),
            (&both, &of(&["10.0.0.2:80", "10.0.0.1:80", "10.0.0.3:80"]), false),
            (&both, &of(&["10.0.0.1:80"]), true),
            (&both, &leaving, true),
            (&leaving, &of(&["10.0.0.1:80"]), false),
            (&in_a_pool(&["10.0.0.1:80"]), &in_a_pool(&["10.0.0.1:80"]), false),
            (&in_a_pool(&["10.0.0.1:80"]), &in_a_pool(&[]), true),
        ] {
            assert_eq!(before.loses(next), want, "{before:?} {next:?}");
        }
    }

    #[test]
    fn addresses_that_a_stranger_must_not_name_are_refused_unless_they_are_allowed() {
        let mut settings = Settings { name: "dns", values: std::collections::BTreeMap::new() };
        let judged = |settings: &Settings, text: &str| stranger(settings, text.parse().unwrap()).map(Refusal::word);
        let cases = [
            ("10.0.0.1", None),
            ("2001:db8::1", None),
            ("127.0.0.1", Some("loopback")),
            ("127.255.0.1", Some("loopback")),
            ("::1", Some("loopback")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("::ffff:169.254.169.254", Some("link-local")),
            ("fe80::1", Some("link-local")),
            ("fd00:ec2::254", Some("link-local")),
        ];
        for (text, want) in cases {
            assert_eq!(judged(&settings, text), want, "{text}");
        }
        for text in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert_eq!(judged(&settings, text), Some("no-host"), "{text}");
        }
        let both = ["loopback", "link-local"].map(str::to_owned).to_vec();
        settings.values.insert(ALLOW.name, Value::Texts(both));
        for (text, _) in cases {
            assert_eq!(judged(&settings, text), None, "{text}");
        }
    }
}
