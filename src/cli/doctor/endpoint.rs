//! Engine: an endpoint's own side: what `setup-endpoint` would change is what is wrong.
//!
//! So there is one table of what a mode needs (`setup_endpoint::plan`), and one command that mends all of it. Not here: what
//! only the balancer can see, such as who answers for the VIP.

use super::finding::{Cure, Finding, Severity};
use crate::cli::setup_endpoint::plan::{Change, Need, Obstacle};

/// One thing that is looked at on an endpoint, with the question for people.
pub static CHECKS: &[(&str, &str)] = &[
    ("vip-on-lo", "is the VIP on `lo`, and on no other interface (l2, ipip, gue)?"),
    ("arp", "does the endpoint keep from answering ARP for the VIP, and from asking in its name?"),
    ("tunnel", "is there an end for the tunnel (ipip, gue)?"),
    ("rp-filter", "do packets of clients pass the tunnel's reverse-path filter?"),
    ("advmss", "are clients told of segments that fit with the tunnel's headers?"),
    ("gateway", "do replies leave through the balancer, and does no redirect change that (nat)?"),
];

/// `command` is what does all of it.
pub fn judge(needs: anyhow::Result<Vec<Need>>, command: &str) -> Vec<Finding> {
    match needs {
        Ok(needs) => needs.iter().map(|need| finding(need, command)).collect(),
        Err(error) => {
            let obstacle = error.downcast_ref::<Obstacle>();
            let (about, first) = match obstacle {
                Some(obstacle) => (obstacle.what.clone(), obstacle.command.clone()),
                None => (format!("{error:#}"), None),
            };
            let cure = first.map(|first| Cure::here([first, command.to_owned()]));
            let why = "`strata setup-endpoint` cannot mend it by itself".to_owned();
            vec![Finding { check: "vip-on-lo", severity: Severity::Error, about, why, cure }]
        }
    }
}

fn finding(need: &Need, command: &str) -> Finding {
    let (check, about) = told(&need.change, need.done);
    if need.done {
        return Finding { check, severity: Severity::Ok, about, why: String::new(), cure: None };
    }
    let cure = Some(Cure::here([command.to_owned()]));
    Finding { check, severity: Severity::Error, about, why: need.why.to_owned(), cure }
}

/// Which check a change belongs to, and how it stands.
fn told(change: &Change, done: bool) -> (&'static str, String) {
    let is = |yes: String, no: String| if done { yes } else { no };
    match change {
        Change::Sysctl { key, from, to } => {
            let check = match key {
                key if key.ends_with("rp_filter") => "rp-filter",
                key if key.ends_with("disable_ipv6") => "vip-on-lo",
                key if key.ends_with("accept_redirects") => "gateway",
                _ => "arp",
            };
            let now = from.as_deref().unwrap_or("missing");
            (check, is(format!("{key} is {now}"), format!("{key} is {now}, and {to} is needed")))
        }
        Change::Address { address, device } => {
            ("vip-on-lo", is(format!("{address} is on {device}"), format!("{address} is not on {device}")))
        }
        Change::Device { name, kind, .. } => {
            ("tunnel", is(format!("{name} is there"), format!("there is no tunnel device {name} ({kind})")))
        }
        Change::Gue { .. } => {
            ("tunnel", is("the kernel unpacks GUE".to_owned(), "the kernel does not unpack GUE".to_owned()))
        }
        Change::Route { to, from, .. } if to.contains(" advmss ") => {
            let now = from.as_deref().unwrap_or_default();
            ("advmss", is(format!("route: {to}"), format!("route without advmss, or a larger one: {now}")))
        }
        Change::Route { to, from, .. } => {
            let now = from.as_deref().unwrap_or("there is none");
            ("gateway", is(to.clone(), format!("the default route does not lead to the balancer: {now}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(change: Change, done: bool) -> Need {
        Need { change, why: "because", done, owners: Vec::new() }
    }

    #[test]
    fn each_need_is_a_finding_of_its_check() {
        let sysctl = |key: &str, to: &str| Change::Sysctl { key: key.into(), from: Some("0".into()), to: to.into() };
        let route =
            |to: &str| Change::Route { ipv6: false, from: Some("default via 10.0.0.1 dev eth0".into()), to: to.into() };
        let address = Change::Address { address: "10.0.0.100".parse().unwrap(), device: "lo".into() };
        for (change, check, wrong) in [
            (sysctl("net/ipv4/conf/all/arp_ignore", "1"), "arp", "net/ipv4/conf/all/arp_ignore is 0, and 1 is needed"),
            (sysctl("net/ipv4/conf/strata-4in4/rp_filter", "2"), "rp-filter", "2 is needed"),
            (sysctl("net/ipv6/conf/lo/disable_ipv6", "0"), "vip-on-lo", "disable_ipv6"),
            (sysctl("net/ipv4/conf/all/accept_redirects", "0"), "gateway", "accept_redirects"),
            (address, "vip-on-lo", "10.0.0.100 is not on lo"),
            (
                Change::Device { name: "strata-4in4".into(), kind: "ipip".into(), ipv6: false },
                "tunnel",
                "strata-4in4 (ipip)",
            ),
            (Change::Gue { ipv6: true }, "tunnel", "does not unpack GUE"),
            (route("default via 10.0.0.1 dev eth0 advmss 1440"), "advmss", "route without advmss"),
            (route("default via 10.0.0.2 dev eth0"), "gateway", "does not lead to the balancer: default via 10.0.0.1"),
        ] {
            let found = judge(Ok(vec![need(change.clone(), false), need(change, true)]), "strata setup-endpoint …");
            assert_eq!((found[0].check, found[0].severity), (check, Severity::Error));
            assert!(found[0].about.contains(wrong) && found[0].why == "because", "{found:?}");
            assert_eq!(found[0].cure.as_ref().unwrap().commands, ["strata setup-endpoint …"]);
            assert_eq!((found[1].check, found[1].severity, &found[1].cure), (check, Severity::Ok, &None));
            assert!(CHECKS.iter().any(|(name, _)| *name == check), "{check} is in no table");
        }
    }

    #[test]
    fn what_stands_in_the_way_comes_first() {
        let obstacle = Obstacle {
            what: "10.0.0.100 is on eth0".into(),
            command: Some("ip address del 10.0.0.100/24 dev eth0".into()),
        };
        let found = judge(Err(obstacle.into()), "strata setup-endpoint …");
        let commands = &found[0].cure.as_ref().unwrap().commands;
        assert_eq!(*commands, ["ip address del 10.0.0.100/24 dev eth0", "strata setup-endpoint …"]);
        let found = judge(Err(anyhow::anyhow!("`ip` is not installed here")), "strata setup-endpoint …");
        assert_eq!((found[0].about.as_str(), &found[0].cure), ("`ip` is not installed here", &None));
    }
}
