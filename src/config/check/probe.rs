//! Engine: what only the whole file can tell of probes: whether there is a VIP to go through.

use std::collections::HashMap;

use super::super::root::{Reference, Survey, User};
use super::super::value::{Config, Pool, Service, Traffic, Vip};
use crate::base::limits;
use crate::doc::{Diagnostic, Table, codes, quote};
use crate::seam::probe::{THROUGH, goes_through};

pub(super) fn check(root: &Table<'_>, config: &Config, survey: &Survey) {
    let services: HashMap<&str, &Service> =
        config.services.iter().map(|service| (&*service.name.value, service)).collect();
    for pool in config.pools.iter().filter(|pool| pool.probe.as_ref().is_some_and(|probe| goes_through(probe))) {
        let references = survey.references.iter().filter(|reference| reference.pool.value == pool.name.value);
        let users: Vec<(&Reference, Option<&&Service>)> =
            references.map(|reference| (reference, services.get(&*reference.service))).collect();
        let direct =
            |service: &&Service| matches!(&service.traffic, Traffic::Packet(packet) if packet.forward.is_direct());
        // Nobody: which is reported. One that could not be read: who knows.
        let known = users.iter().all(|(_, service)| service.is_some());
        if let Some((first, _)) = users.first().filter(|_| known)
            && !users.iter().any(|(_, service)| service.is_some_and(direct))
        {
            nothing_to_go_through(root, pool, first);
        }
        let vips: Vec<&Vip> = users
            .iter()
            .filter_map(|(_, service)| vip_of(config, service.filter(|service| direct(service))?))
            .collect();
        too_many_ways(root, pool, &vips);
        unanswered(root, pool, &vips);
    }
}

/// The VIP of a packet service, where there is one of that name.
fn vip_of<'c>(config: &'c Config, service: &Service) -> Option<&'c Vip> {
    let Traffic::Packet(packet) = &service.traffic else { return None };
    config.vips.iter().find(|vip| vip.name.value == packet.vip.value)
}

fn nothing_to_go_through(root: &Table<'_>, pool: &Pool, user: &Reference) {
    let Some(probe) = &pool.probe else { return };
    let message = format!(
        "the probe of pool {} goes through a vip, and no service in direct return leads there",
        quote(&pool.name)
    );
    let (mode, service) = (user.user.mode(), quote(&user.service));
    let (used, help) = match user.user {
        User::Packets(_) => (
            format!("service {service} translates addresses"),
            "packets are sent to the endpoint's own address, so a probe of that takes their path",
        ),
        User::Streams | User::Requests => (
            format!("used by {mode} service {service}"),
            "a proxy connects to the endpoint's own address, as a plain probe does",
        ),
    };
    root.report(
        Diagnostic::new(&codes::MISPLACED, probe.span, message)
            .also(user.pool.span, used)
            .help(format!("leave `{}` out: {help}", THROUGH.name)),
    );
}

fn too_many_ways(root: &Table<'_>, pool: &Pool, vips: &[&Vip]) {
    let Some(probe) = &pool.probe else { return };
    let ways: usize = vips.iter().map(|vip| vip.addresses.len()).sum();
    if ways > limits::PROBE_PATHS {
        let (name, most) = (quote(&pool.name), limits::PROBE_PATHS);
        let message = format!("{ways} addresses of vips lead to pool {name}, and a probe goes through {most} at most");
        let help = "give services pools of their own, or probe the endpoint's own address";
        root.report(Diagnostic::new(&codes::TOO_MANY_NAMES, probe.span, message).help(help));
    }
}

/// Answers to a probe are for the kernel, which has to have an address where the endpoints are.
fn unanswered(root: &Table<'_>, pool: &Pool, vips: &[&Vip]) {
    let Some(probe) = &pool.probe else { return };
    let Some((vip, vlan)) = vips.iter().find_map(|vip| Some((vip, vip.vlan?))) else { return };
    let (name, device) = (quote(&vip.name), quote(&format!("{}.{}", vip.interface.value, vlan.value)));
    let message = format!("the probe goes through vip {name}, and this machine hears no answer on VLAN {}", vlan.value);
    root.report(
        Diagnostic::new(&codes::MISPLACED, probe.span, message)
            .also(vlan.span, "the kernel has no address there")
            .help(format!(
                "make the device {device}, give it an address, and name it as the vip's `interface`, without `vlan`"
            )),
    );
}
