//! Shell: AF_XDP before an interface's taps: its XDP program, and a socket for each of its queues, dealt out to the workers.
//!
//! What it takes never becomes a packet of the kernel's. What it leaves comes by the taps, and so does everything while AF_XDP cannot be
//! had: somebody else has the interface's XDP hook, or a queue's socket (an old process that is being replaced, mostly), or the interface
//! is not fit for it as it is now. Nothing is lost by that, and each look goes on from where the last one came to; what fails is tried more
//! and more seldom (`again`), and so are sockets that somebody else has, for each try pins all of a queue's memory. The hook is looked at
//! each time.
//!
//! ```text
//!   fit ──▶ program made and attached ──▶ socket bound ──▶ a worker has it ──▶ the queue's frames go there
//!     │ not yet: the queue's frames come by the tap
//!     └ not any more: the program goes, and comes back when it is fit again
//! ```
//!
//! Not here: which frames the program takes (`sys::xdp`), reading them (`sys::packet`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::again::Again;
use super::interface::Wanted;
use crate::base::limits;
use crate::state::Io;
use crate::sys::link::{self, Kind};
use crate::sys::packet::Queue;
use crate::sys::xdp::{self, Tags};

pub(super) struct Front {
    interface: u32,
    wanted: Wanted,
    /// Its program: `None` until one could be made.
    hook: Option<xdp::Front>,
    /// The program is of frames that were wanted before.
    behind: bool,
    /// Bound, and no worker's yet.
    bound: Vec<Queue>,
    /// On their way to workers, by number.
    dealt: BTreeMap<u32, Sent>,
    /// Queues whose frames go to workers, by number, while the program is attached.
    served: BTreeSet<u32>,
    /// Of so many queues each has a socket of ours.
    whole: Option<u32>,
    /// Frames that each of its sockets has room for: `Queue::size`.
    room: usize,
    /// The program's tries, and the sockets'.
    hooking: Again<String>,
    binding: Again<Lack>,
    /// What the last look found missing.
    lack: Option<Lack>,
    /// What was last said of it.
    told: Option<Hold>,
}

/// A queue that was dealt out.
struct Sent {
    socket: OwnedFd,
    /// Its worker says when it has it. `None`: it has.
    had: Option<Receiver<()>>,
}

/// What became of a queue that was to be dealt out.
#[allow(clippy::large_enum_variant, reason = "what is given back is what was given")]
pub(super) enum Dealt {
    /// Its worker has it.
    Had,
    /// It is on its way there.
    Sent(Receiver<()>),
    /// There is no room for it.
    Back(Queue),
}

/// Why it does not take everything.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lack {
    /// Somebody else has something, and may leave it at any moment.
    Had(String),
    /// It is so until somebody changes something.
    Unfit(String),
    /// As `Unfit`, and it takes what it took before.
    Old(String),
}

/// How much it has hold of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// Nothing, and why.
    Nothing(String),
    /// Frames of before, by so many queues, and why not of now.
    Old(usize, String),
    /// So many queues, and why not more.
    Partly(usize, String),
    /// Every queue, and so many.
    Whole(usize),
}

impl Hold {
    fn of(queues: usize, lack: Option<&Lack>, is_settled: bool) -> Option<Hold> {
        match (queues, lack.cloned()) {
            (0, Some(Lack::Had(why) | Lack::Unfit(why) | Lack::Old(why))) => Some(Hold::Nothing(why)),
            (_, Some(Lack::Old(why))) => Some(Hold::Old(queues, why)),
            (_, Some(Lack::Had(why) | Lack::Unfit(why))) => Some(Hold::Partly(queues, why)),
            (0, None) => None,
            (_, None) => is_settled.then_some(Hold::Whole(queues)),
        }
    }

    fn tell(&self, interface: &str) {
        match self {
            Hold::Nothing(why) => {
                tracing::warn!(
                    interface,
                    "AF_XDP takes no packets: {why}. The ring serves, and AF_XDP is tried again by itself"
                );
            }
            Hold::Old(queues, why) => tracing::warn!(
                interface,
                queues,
                "AF_XDP takes packets for the MAC address that the interface had before, those for its new one come by the ring: {why}. \
                 It is tried again by itself"
            ),
            Hold::Partly(queues, why) => tracing::warn!(
                interface,
                queues,
                "AF_XDP takes packets of some queues, those of others come by the ring: {why}. What can be had is taken by itself"
            ),
            Hold::Whole(queues) => tracing::info!(interface, queues, "AF_XDP takes packets of every queue"),
        }
    }
}

impl Front {
    /// Takes no frame yet.
    pub fn new(name: &str, interface: u32, wanted: &Wanted) -> Front {
        tell_of_excess(name, wanted);
        Front {
            interface,
            wanted: wanted.clone(),
            hook: None,
            behind: false,
            bound: Vec::new(),
            dealt: BTreeMap::new(),
            served: BTreeSet::new(),
            whole: None,
            room: usize::MAX,
            hooking: Again::new(),
            binding: Again::new(),
            lack: None,
            told: None,
        }
    }

    /// Gets what there is, and takes no frame yet.
    ///
    /// # Errors
    /// What will not change by waiting: a driver without native XDP, a missing privilege, memory that must not be locked, tags that cannot be
    /// seen. The next look tries again all the same.
    pub fn prepare(&mut self, name: &str) -> Result<(), String> {
        self.lack = self.attach(name).and_then(|()| self.bind(name)).err();
        match &self.lack {
            // Those that were bound serve, and it is said why there are no more.
            Some(Lack::Unfit(why)) if self.bound.is_empty() => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// Deals out what there is to workers that do not serve yet. By what packets come then.
    pub fn hand_over(&mut self, deal: impl FnMut(Queue) -> Dealt) -> Io {
        // What stands in the way, the next look says.
        let _ = (self.deal(deal), self.give());
        self.io()
    }

    /// Takes what there is to take. `deal` hands a queue to its worker, and its frames go there from the next look on at which the worker has
    /// it. By what packets of the interface, of this name, come now.
    pub fn hold(&mut self, name: &str, deal: impl FnMut(Queue) -> Dealt) -> Io {
        self.lack = self.take(name, deal).err();
        let queues = if self.is_attached() { self.served.len() } else { 0 };
        // None is on its way to a worker, or has come back.
        let is_settled = self.dealt.is_empty() && self.whole.is_some();
        let hold = Hold::of(queues, self.lack.as_ref(), is_settled);
        if hold.is_some() && hold != self.told {
            hold.iter().for_each(|hold| hold.tell(name));
            self.told = hold;
        }
        self.io()
    }

    /// Whether its sockets have room for the interface's frames, whose MTU may have grown.
    pub fn has_room(&self) -> bool {
        room(self.interface) <= self.room
    }

    /// Why it could not take these frames as the machine is now, unless that may be over in a moment.
    pub fn refuses(&mut self, name: &str, wanted: &Wanted) -> Option<String> {
        match fit(name, self.interface, wanted) {
            Err(error) => Some(error.to_string()),
            Ok(Some(why)) => Some(why),
            Ok(None) if self.io() == Io::AfXdp => None,
            Ok(None) => {
                // What failed some looks ago may be mended.
                (self.hooking, self.binding) = (Again::new(), Again::new());
                self.prepare(name).err()
            }
        }
    }

    /// From now on it takes other frames, or none where it cannot take those: what it took before may be the kernel's by now.
    pub fn replace(&mut self, name: &str, wanted: &Wanted) {
        tell_of_excess(name, wanted);
        self.wanted = wanted.clone();
        self.behind = true;
        self.hooking = Again::new();
        // What stands in the way, the next look says.
        let _ = self.attach(name);
    }

    fn io(&self) -> Io {
        if self.is_attached() && !self.served.is_empty() { Io::AfXdp } else { Io::Ring }
    }

    fn is_attached(&self) -> bool {
        self.hook.as_ref().is_some_and(xdp::Front::is_attached)
    }

    fn take(&mut self, name: &str, deal: impl FnMut(Queue) -> Dealt) -> Result<(), Lack> {
        self.attach(name)?;
        // Each does what it can, whatever the others could not.
        let (bound, dealt, given) = (self.bind(name), self.deal(deal), self.give());
        bound.and(dealt).and(given)
    }

    /// Has the program of what is wanted now before the interface, or none.
    fn attach(&mut self, name: &str) -> Result<(), Lack> {
        let was = self.is_attached();
        match fit(name, self.interface, &self.wanted) {
            Ok(None) => {}
            Ok(Some(why)) => {
                self.hook.iter_mut().for_each(xdp::Front::detach);
                return Err(Lack::Unfit(why));
            }
            // Who cannot be asked at a look (a process out of descriptors) has not changed by that.
            Err(_) if was => {}
            Err(error) => return Err(Lack::Unfit(error.to_string())),
        }
        let outcome = self.hooking.try_now().and_then(|()| {
            let outcome = hang(&mut self.hook, &mut self.behind, self.interface, &self.wanted);
            self.hooking.note(outcome)
        });
        match outcome {
            Ok(true) => {
                if !was {
                    // Whoever had it had the sockets, too.
                    self.binding = Again::new();
                }
                Ok(())
            }
            Ok(false) => {
                Err(Lack::Had("another XDP program is on the interface (`ip -d link show` says which)".to_owned()))
            }
            Err(why) if self.is_attached() => Err(Lack::Old(why)),
            Err(why) => Err(Lack::Unfit(why)),
        }
    }

    /// Binds a socket to each queue that has none. Why it could not, for all or the rest of them.
    fn bind(&mut self, name: &str) -> Result<(), Lack> {
        // Who does not say how many there are is asked for one after the other.
        let there = link::receive_queues(name).ok().flatten();
        let count = there.unwrap_or(MOST).min(MOST);
        if self.whole != Some(count) {
            self.binding.try_now()?;
            let outcome = self.bind_first(count);
            self.binding.note(outcome)?;
            self.whole = Some(count);
        }
        match there {
            Some(there) if there > MOST => {
                Err(Lack::Unfit(format!("the interface has {there}, and {MOST} are the most")))
            }
            _ => Ok(()),
        }
    }

    fn bind_first(&mut self, count: u32) -> Result<(), Lack> {
        let mut outcome = Ok(());
        for number in 0..count {
            let is_had = self.served.contains(&number) || self.dealt.contains_key(&number);
            if is_had || self.bound.iter().any(|queue| queue.number() == number) {
                continue;
            }
            match Queue::bind(self.interface, number) {
                Ok(queue) => {
                    // By the MTU of now, and each may have had another one.
                    self.room = self.room.min(queue.size());
                    self.bound.push(queue);
                }
                Err(error) => match error.cause.raw_os_error() {
                    Some(libc::EBUSY) => {
                        outcome = Err(Lack::Had("other sockets have queues of the interface".to_owned()));
                    }
                    // There is no such queue.
                    Some(libc::EINVAL) if number > 0 => break,
                    _ => return Err(Lack::Unfit(error.to_string())),
                },
            }
        }
        outcome
    }

    fn deal(&mut self, mut deal: impl FnMut(Queue) -> Dealt) -> Result<(), Lack> {
        while let Some(queue) = self.bound.pop() {
            let number = queue.number();
            let socket = match queue.as_fd().try_clone_to_owned() {
                Ok(socket) => socket,
                Err(error) => {
                    self.bound.push(queue);
                    return Err(Lack::Unfit(error.to_string()));
                }
            };
            let had = match deal(queue) {
                Dealt::Had => None,
                Dealt::Sent(had) => Some(had),
                Dealt::Back(queue) => {
                    self.bound.push(queue);
                    return Err(Lack::Unfit("a worker has no room for another queue".to_owned()));
                }
            };
            self.dealt.insert(number, Sent { socket, had });
        }
        Ok(())
    }

    /// Has frames of queues go to the workers that have their sockets: what came before that nobody would take.
    fn give(&mut self) -> Result<(), Lack> {
        let Some(hook) = &self.hook else { return Ok(()) };
        let mut outcome = Ok(());
        for (number, mut sent) in std::mem::take(&mut self.dealt) {
            match sent.had.as_mut().map(Receiver::try_recv) {
                Some(Err(TryRecvError::Empty)) => {
                    self.dealt.insert(number, sent);
                    continue;
                }
                // The worker let it go, and it may be bound again.
                Some(Err(TryRecvError::Closed)) => {
                    self.whole = None;
                    continue;
                }
                Some(Ok(())) | None => sent.had = None,
            }
            match hook.give(number, sent.socket.as_fd()) {
                Ok(()) => drop(self.served.insert(number)),
                Err(error) => {
                    outcome = Err(Lack::Unfit(error.to_string()));
                    self.dealt.insert(number, sent);
                }
            }
        }
        outcome
    }
}

/// Has the program attached, and makes it where there is none. `false`: somebody else has the place.
fn hang(hook: &mut Option<xdp::Front>, behind: &mut bool, interface: u32, wanted: &Wanted) -> Result<bool, String> {
    let (rules, macs) = (&wanted.rules, &wanted.macs);
    let hook = match hook {
        Some(hook) => {
            if *behind && let Err(error) = hook.replace(rules, macs) {
                hook.detach();
                return Err(error.to_string());
            }
            hook
        }
        none => none.insert(xdp::Front::load(interface, rules, macs).map_err(|error| error.to_string())?),
    };
    *behind = false;
    hook.attach().map_err(|error| error.to_string())
}

/// What frames of the interface take, as it is now; of one that is gone, nothing.
fn room(interface: u32) -> usize {
    link::by_index(interface).map_or(0, |link| Queue::room(link.mtu as usize).unwrap_or(usize::MAX))
}

/// Why AF_XDP cannot take what is wanted of the interface as it is now, or would lose some of it, and the way out.
///
/// # Errors
/// The kernel does not say how it is.
fn fit(name: &str, interface: u32, wanted: &Wanted) -> io::Result<Option<String>> {
    let link = link::by_index(interface)?;
    // A tagged frame that looks as if it had no tag would be taken for one, and dropped.
    if wanted.tagged {
        let cure = match Tags::of(&link)? {
            Tags::InFrames => None,
            Tags::TakenOut => {
                Some(format!("the card takes them out of frames: `ethtool -K {name} rxvlan off`, or `io = \"ring\"`"))
            }
            Tags::Unknown => Some("of a veth, its other end takes them out of frames: `io = \"ring\"`".to_owned()),
        };
        if let Some(cure) = cure {
            return Ok(Some(format!("a VIP has `vlan`, and AF_XDP cannot see VLAN tags where {cure}")));
        }
    }
    // A veth has no ports, and there may be very many of them.
    let links = if link.kind == Kind::Veth { Vec::new() } else { link::all()? };
    Ok(links.iter().find(|port| port.master == Some(interface)).map(|port| {
        format!(
            "frames come in by {}, of which {name} is made (a bond, or a virtual card that has a real one), and AF_XDP would lose them: \
             `io = \"ring\"`",
            port.name
        )
    }))
}

fn tell_of_excess(interface: &str, wanted: &Wanted) {
    let (rules, most) = (wanted.rules.iter().filter(|rule| !rule.is_kept()).count(), limits::XDP_RULES);
    if rules > most {
        tracing::warn!(
            interface,
            "AF_XDP takes packets by {most} of {rules} rules (an address, or an endpoint's ports): those of the others come by the ring"
        );
    }
}

const MOST: u32 = limits::PACKET_QUEUES as u32;

#[cfg(test)]
mod tests;
