//! Wiring: one packet through the model that decides about packets, or where it would open a connection to a proxy, that connection.
//!
//! Packets are decided by what decides about traffic (`flow::decide`), and told by what that looked at (`flow::decide::trace`). Not
//! here: what neither the file nor the packet says, which is imagined (`imagined`).

use std::sync::Arc;
use std::time::Duration;

use super::imagined::{self, OURS, Stage, Story};
use crate::doc::suggest::{nearest, one_of};
use crate::explain::{self, Scene};
use crate::state::{Family, Service, Snapshot, Traffic};
use crate::wire::ethernet::{self, Tag};
use crate::wire::line::Line;

/// What was told.
pub enum Explained {
    Packet(Box<Story>),
    Connection(Box<explain::Story>),
}

/// Why nothing can be told: a sentence.
pub enum Mute {
    /// Neither services of packets nor listeners are concerned.
    NoPacketService,
    Because(String),
}

/// # Errors
/// See [`Mute`].
pub fn packet(scene: &Scene<'_>, line: &Line, interface: Option<&str>) -> Result<Explained, Mute> {
    let snapshot = scene.snapshot;
    let vip = snapshot.vips().find(|vip| vip.spec.addresses.contains(&line.destination));
    if let (Some((from, to)), None) = (line.opens, vip)
        && let Some(story) = explain::connection(scene, from, to)
    {
        return Ok(Explained::Connection(Box::new(story)));
    }
    let Some(mut stage) = Stage::set(snapshot, |_| OURS) else { return Err(Mute::NoPacketService) };
    let interface = in_by(snapshot, line, interface).map_err(Mute::Because)?;
    let frame = frame(snapshot, line);
    let Some(played) = stage.play(&frame, false, Duration::ZERO, 1) else {
        return Err(Mute::Because("the packet is longer than any frame".to_owned()));
    };
    Ok(Explained::Packet(Box::new(Story::tell(&stage, &interface, &frame, &played, scene.live))))
}

/// Of the tables that [`packet`] builds.
pub fn slots(snapshot: &Snapshot) -> usize {
    let of = |service: &Arc<Service>| match &service.traffic {
        Traffic::Packet(spec) => spec.slots * Family::all_of(spec).len(),
        Traffic::L4(_) | Traffic::L7(_) => 0,
    };
    snapshot.services().map(of).sum()
}

/// As the VIP's clients send it, unless it is said otherwise.
pub fn frame(snapshot: &Snapshot, line: &Line) -> Vec<u8> {
    let mut frame = imagined::framed(&line.ip, imagined::station(snapshot, line.destination, |_| OURS));
    let own = snapshot.vips().find(|vip| vip.spec.addresses.contains(&line.destination));
    if let Some(id) = line.vlan.or(own.and_then(|vip| vip.spec.vlan)) {
        frame.splice(..0, [0; ethernet::TAG_LEN]);
        let _ = ethernet::insert_tag(&mut frame, Tag::vlan(id));
    }
    frame
}

/// Where it comes in. Strata listens where a VIP is.
fn in_by(snapshot: &Snapshot, line: &Line, named: Option<&str>) -> Result<Arc<str>, String> {
    let own = snapshot.vips().find(|vip| vip.spec.addresses.contains(&line.destination));
    let mut all: Vec<Arc<str>> = snapshot.vips().map(|vip| vip.spec.interface.clone()).collect();
    all.sort();
    all.dedup();
    let Some(named) = named else {
        let name = own.map(|vip| vip.spec.interface.clone()).or_else(|| all.into_iter().next());
        return Ok(name.unwrap_or_default());
    };
    if let Some(found) = all.iter().find(|name| &***name == named) {
        return Ok(found.clone());
    }
    let help = match nearest(named, all.iter().map(|name| &**name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("Strata listens on {}, where the file's VIPs are", one_of(all.iter().map(|name| &**name))),
    };
    Err(format!("--in {named}: no VIP is on it, so its packets are the kernel's alone; {help}"))
}
