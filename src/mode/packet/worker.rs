//! Shell: one worker of the packet engine: takes frames from its tap, asks `flow::decide`, sends what goes on, counts.
//!
//! Budget: no allocation a packet (its tests hold it to that), and no lock but those of the tables that workers share; the swapped
//! tables are looked at once a batch, so that a batch sees one configuration. What is counted for service and endpoint is added
//! up in `tally` and told once a batch.
//! Not here: what tables are built from (`control`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use super::engine::{Force, Order};
use super::interface::Wanted;
use super::meter::Meter;
use super::tally::{Count, Key, Tally};
use super::told::Told;
use crate::base::{Moment, Reason, WorkerId, clock};
use crate::flow::decide::{Action, FrameBuf, Shared, Verdict, Why, decide};
use crate::observe::{Beat, Packets};
use crate::sys::packet::{Checksum, Fate, Frame, Gso, Missing, Queue, Tap};
use crate::wire::checksum::Stored;
use crate::wire::ethernet::{EtherType, Frame as Ethernet};
use arc_swap::ArcSwap;
use tokio::sync::oneshot;

/// How long a worker waits for a frame before it looks whether it is still wanted.
pub(super) const WAIT: Duration = Duration::from_millis(100);

/// What a worker is given.
pub(super) struct Post {
    pub id: WorkerId,
    pub interface: u32,
    pub force: Arc<ArcSwap<Force>>,
    pub shared: Arc<Shared>,
    /// What the control side should hear; what finds it full is heard with a later packet.
    pub control: SyncSender<Order>,
    pub packets: Arc<Packets>,
    /// What the interface counts, this worker among its workers.
    pub meter: Meter,
    pub asked: Receiver<Ask>,
    pub stop: Arc<AtomicBool>,
    /// Made by who starts the worker: a worker allocates nothing.
    pub beat: Beat,
}

/// What a worker is asked for while it serves.
pub(super) enum Ask {
    /// Other frames are wanted; `done` is told whether they come.
    Want { wanted: Wanted, done: oneshot::Sender<bool> },
    /// Frames come by this queue as well. `done` is told once they may, or let go where they cannot.
    Add { queue: Queue, done: oneshot::Sender<()> },
}

impl Post {
    /// Serves until told to stop, or until the tap is of no more use.
    pub fn run(mut self, mut tap: Tap) {
        let mut random = fastrand::Rng::new();
        let mut tally = Tally::new();
        let mut told = Told::new();
        while !self.stop.load(Relaxed) {
            // All of them: the next look may be a whole wait away.
            while let Ok(ask) = self.asked.try_recv() {
                match ask {
                    Ask::Want { wanted, done } => self.want(&mut tap, &wanted, done),
                    Ask::Add { queue, done } => {
                        if tap.add(queue).is_ok() {
                            let _ = done.send(());
                        }
                    }
                }
            }
            // Not before the first frame is here: while a worker waits for it, an endpoint may have been drained.
            let mut batch = None;
            let served = tap.receive(|frame| {
                let (force, now) = batch.get_or_insert_with(|| (self.force.load(), clock::now()));
                self.one(force, *now, random.u64(..), frame, (&mut tally, &mut told))
            });
            if let Some((force, _)) = &batch {
                tally.drain(|count| self.tell(force, count));
            }
            let now = batch.map_or_else(clock::now, |(_, now)| now);
            self.meter.tell(&mut tap, now);
            self.beat.beat(now);
            if let Err(error) = served
                && error.raw_os_error() != Some(libc::ENETDOWN)
            {
                tracing::error!(interface = self.interface, %error, "a packet socket is lost");
                break;
            }
        }
        self.meter.finish(&mut tap);
    }

    fn want(&self, tap: &mut Tap, wanted: &Wanted, done: oneshot::Sender<bool>) {
        let outcome = tap.want(Some(&wanted.rules), &wanted.macs);
        if let Err(error) = &outcome {
            tracing::error!(interface = self.interface, %error, "a packet socket hears what it did before");
        }
        // A reload that waits no more has its answer in the log.
        let _ = done.send(outcome.is_ok());
    }

    /// Decides about one frame.
    fn one(
        &self,
        force: &Force,
        now: Moment,
        entropy: u64,
        frame: &mut Frame<'_>,
        (tally, told): (&mut Tally, &mut Told),
    ) -> Fate {
        let (tag, gso, missing, is_taken) = (frame.tag(), frame.gso(), frame.missing(), frame.is_taken());
        let partial = matches!(frame.checksum(), Checksum::Partial { .. });
        let (buffer, range) = frame.window();
        let length = range.len();
        let Some(mut buf) = FrameBuf::new(buffer, range.start, length, self.interface) else { return Fate::Stay };
        buf.stored = if partial { Stored::Partial } else { Stored::Whole };
        buf.merged = gso.map(Gso::merged);
        buf.cut = missing == Some(Missing::Tail);
        if let Some(tag) = tag
            && !buf.insert_tag(tag)
        {
            // No header that a tag could stand in.
            self.packets.strays.count(Reason::TruncatedPacket);
            return Fate::Stay;
        }
        let verdict = decide(&force.tables, &self.shared, now, entropy, &mut buf);
        let (start, end, finished) = (buf.start(), buf.start() + buf.bytes().len(), buf.stored == Stored::Whole);
        let is_one = buf.merged.is_none();
        let ipv6 = Ethernet::new_checked(buf.bytes()).is_ok_and(|frame| frame.ether_type() == EtherType::IPV6);
        self.count(force, &verdict, length, ipv6, tally);
        if let Some(event) = verdict.event {
            // The data path repeats it with every packet.
            if !told.tell(event, now, |event| self.control.try_send(Order::Heard(event)).is_ok()) {
                self.packets.events_lost.add_shared(1);
            }
        }
        let fate = match verdict.action {
            Action::Send { interface } => Fate::Send(interface),
            Action::Reply => {
                frame.set_new();
                Fate::Send(self.interface)
            }
            Action::Divide => Fate::Divide,
            Action::Pass if is_taken => {
                self.packets.strays.count(Reason::TakenAmiss);
                return Fate::Stay;
            }
            Action::Pass | Action::Drop(_) => return Fate::Stay,
        };
        // The tag is in the bytes now.
        frame.set_tag(None);
        if partial && finished {
            frame.set_checksum_finished();
        }
        if is_one {
            frame.set_one();
        }
        if frame.set_range(start..end) { fate } else { Fate::Stay }
    }

    /// `ipv6`: what goes out is.
    fn count(&self, force: &Force, verdict: &Verdict, length: usize, ipv6: bool, tally: &mut Tally) {
        match (verdict.action, verdict.service) {
            (Action::Drop(reason), service) => match service.and_then(|service| force.snapshot.service(service)) {
                Some(service) => service.cells(self.id).drop_shared(reason),
                None => self.packets.strays.count(reason),
            },
            (Action::Send { .. } | Action::Reply, Some(service)) => {
                let to_client = matches!(verdict.why, Why::Back | Why::BackAbout);
                let key = Key { service, endpoint: verdict.endpoint, ipv6, to_client };
                if let Some(before) = tally.add(key, length as u64) {
                    self.tell(force, &before);
                }
            }
            // Neighbours' questions and pings are answered for the VIP, whatever is served there. What is divided is counted by its
            // parts.
            (Action::Pass | Action::Divide, _) | (Action::Send { .. } | Action::Reply, None) => {}
        }
    }

    /// Adds to the cells of a service and its endpoint.
    fn tell(&self, force: &Force, count: &Count) {
        let Count { key: Key { service, endpoint, ipv6, to_client }, frames, bytes } = *count;
        let Some(service) = force.snapshot.service(service) else { return };
        let cells = service.cells(self.id);
        cells.packets.add_shared(frames);
        if to_client { &cells.bytes_sent } else { &cells.bytes_received }.add_shared(bytes);
        if let Some(endpoint) = endpoint.and_then(|number| force.roster.find(service.id, ipv6, number)) {
            let cells = endpoint.cells.row(self.id);
            let carried = if to_client { &*cells.received } else { &cells.sent };
            carried.packets.add_shared(frames);
            carried.bytes.add_shared(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
