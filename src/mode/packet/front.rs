//! Shell: AF_XDP before an interface's taps: its XDP program, and a socket for each of its queues, dealt out to the workers.
//!
//! What it takes never becomes a packet of the kernel's. What it leaves comes by the taps, and so does everything while somebody else has the
//! interface's XDP hook, or a queue's socket: an old process that is being replaced, mostly. Nothing is lost by that, and it is looked at again
//! each second.
//!
//! ```text
//!   program attached ──▶ socket bound ──▶ a worker has it ──▶ the queue's frames go there
//!     │ not yet: the queue's frames come by the tap, and the next look goes on from here
//! ```
//!
//! Not here: which frames the program takes (`sys::xdp`), reading them (`sys::packet`).

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use super::interface::Wanted;
use crate::base::limits;
use crate::state::Io;
use crate::sys::link;
use crate::sys::packet::Queue;
use crate::sys::xdp;

pub(super) struct Front {
    hook: xdp::Front,
    interface: u32,
    /// Frames that its sockets have room for: `Queue::room`.
    room: usize,
    /// Bound, and no worker's yet.
    bound: Vec<Queue>,
    /// Workers have them; by number.
    dealt: BTreeMap<u32, OwnedFd>,
    /// Queues whose frames go to workers, by number, while the program is attached.
    served: BTreeSet<u32>,
    /// Every queue has a socket of ours.
    whole: bool,
    /// Why it takes nothing until other frames are wanted.
    lost: Option<String>,
    /// What was last said of it.
    told: Option<Hold>,
}

/// How much it has hold of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// Nothing, and why.
    Nothing(String),
    /// So many queues, and why not more.
    Partly(usize, String),
    /// Every queue, and so many.
    Whole(usize),
}

impl Hold {
    fn tell(&self, interface: &str) {
        match self {
            Hold::Nothing(why) => tracing::warn!(
                interface,
                "AF_XDP takes no packets: {why}. The ring serves, and whether that is over is looked for each second"
            ),
            Hold::Partly(queues, why) => tracing::warn!(
                interface,
                queues,
                "AF_XDP takes packets of some queues, those of others come by the ring: {why}. Whether that is over is looked for each second"
            ),
            Hold::Whole(queues) => tracing::info!(interface, queues, "AF_XDP takes packets of every queue"),
        }
    }
}

impl Front {
    /// Takes no frame yet.
    ///
    /// # Errors
    /// What will not change by waiting: a driver without native XDP, a missing privilege, memory that must not be locked, tags that cannot be seen.
    pub fn new(name: &str, interface: u32, wanted: &Wanted) -> Result<Front, String> {
        sees_tags(name, interface, wanted)?;
        tell_of_excess(name, wanted);
        let hook = xdp::Front::new(interface, &wanted.rules, &wanted.macs).map_err(|error| error.to_string())?;
        let mut front = Front {
            hook,
            interface,
            room: room(interface),
            bound: Vec::new(),
            dealt: BTreeMap::new(),
            served: BTreeSet::new(),
            whole: false,
            lost: None,
            told: None,
        };
        match front.hook.is_attached().then(|| front.bind()) {
            // Those that were bound serve, and it is said why there are no more.
            Some(Err(why)) if front.bound.is_empty() && why != BUSY => Err(why),
            _ => Ok(front),
        }
    }

    /// Takes what there is to take. `deal` hands a queue to its worker, or back. Its frames go there `at_once`, or from the next call
    /// on, when the worker waits for them too. By what packets of the interface, of this name, come now.
    pub fn hold(&mut self, name: &str, at_once: bool, deal: impl FnMut(Queue) -> Option<Queue>) -> Io {
        let mut why = self.take(deal).err();
        if at_once {
            // Whether or not there could have been more.
            why = why.or(self.give().err());
        }
        let queues = if self.hook.is_attached() { self.served.len() } else { 0 };
        let hold = match (queues, why) {
            // On their way.
            (0, None) => None,
            (0, Some(why)) => Some(Hold::Nothing(why)),
            (queues, Some(why)) => Some(Hold::Partly(queues, why)),
            (queues, None) => Some(Hold::Whole(queues)),
        };
        if hold.is_some() && hold != self.told {
            hold.iter().for_each(|hold| hold.tell(name));
            self.told = hold;
        }
        if queues == 0 { Io::Ring } else { Io::AfXdp }
    }

    /// Why it will not get everything.
    fn take(&mut self, mut deal: impl FnMut(Queue) -> Option<Queue>) -> Result<(), String> {
        if let Some(why) = &self.lost {
            return Err(why.clone());
        }
        if !self.hook.attach().map_err(|error| error.to_string())? {
            return Err("another XDP program is on the interface (`ip -d link show` says which)".to_owned());
        }
        self.give()?;
        let outcome = self.bind();
        while let Some(queue) = self.bound.pop() {
            let (number, socket) = (queue.number(), queue.as_fd().try_clone_to_owned());
            let socket = match socket {
                Ok(socket) => socket,
                Err(error) => {
                    self.bound.push(queue);
                    return Err(error.to_string());
                }
            };
            if let Some(queue) = deal(queue) {
                self.bound.push(queue);
                break;
            }
            self.dealt.insert(number, socket);
        }
        outcome
    }

    /// Has frames of queues go to the workers that have their sockets.
    fn give(&mut self) -> Result<(), String> {
        while let Some((number, socket)) = self.dealt.pop_first() {
            if let Err(error) = self.hook.give(number, socket.as_fd()) {
                self.dealt.insert(number, socket);
                return Err(error.to_string());
            }
            self.served.insert(number);
        }
        Ok(())
    }

    /// Whether its sockets have room for the interface's frames, whose MTU may have grown.
    pub fn has_room(&self) -> bool {
        room(self.interface) <= self.room
    }

    /// From now on it takes other frames, or none where it cannot take those: what it took before may be the kernel's by now.
    pub fn replace(&mut self, name: &str, wanted: &Wanted) {
        tell_of_excess(name, wanted);
        let replaced = sees_tags(name, self.interface, wanted)
            .and_then(|()| self.hook.replace(&wanted.rules, &wanted.macs).map_err(|error| error.to_string()));
        self.lost = replaced.err();
        if self.lost.is_some() {
            self.hook.detach();
        }
    }

    /// Binds a socket to each queue that has none. Why it could not, for all or the rest of them.
    fn bind(&mut self) -> Result<(), String> {
        let mut outcome = Ok(());
        if self.whole {
            return outcome;
        }
        for number in 0..limits::PACKET_QUEUES as u32 {
            let is_had = self.served.contains(&number) || self.dealt.contains_key(&number);
            if is_had || self.bound.iter().any(|queue| queue.number() == number) {
                continue;
            }
            match Queue::bind(self.interface, number) {
                Ok(queue) => self.bound.push(queue),
                Err(error) => match error.cause.raw_os_error() {
                    Some(libc::EBUSY) => outcome = Err(BUSY.to_owned()),
                    // There is no such queue.
                    Some(libc::EINVAL) if number > 0 => break,
                    _ => return Err(error.to_string()),
                },
            }
        }
        self.whole = outcome.is_ok();
        outcome
    }
}

/// What frames of the interface take, as it is now; of one that is gone, nothing.
fn room(interface: u32) -> usize {
    link::by_index(interface).map_or(0, |link| Queue::room(link.mtu as usize).unwrap_or(usize::MAX))
}

/// A tagged frame that looks as if it had no tag would be taken for one, and dropped.
fn sees_tags(name: &str, interface: u32, wanted: &Wanted) -> Result<(), String> {
    if wanted.tagged && xdp::hides_tags(interface).unwrap_or(true) {
        return Err(format!(
            "AF_XDP cannot see VLAN tags that the card takes out of frames, and a VIP has `vlan`: `ethtool -K {name} rxvlan off`, or \
             `io = \"ring\"`"
        ));
    }
    Ok(())
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

const BUSY: &str = "other sockets have queues of the interface";

#[cfg(test)]
mod tests;
