//! Shell: what `ip` is asked for by this command, over netlink, where `ip` is not installed: an image from scratch has none.
//!
//! Words in, the lines that `ip` would print out, so that what is printed, recorded and taken back is the same either way. Not here:
//! tunnel devices and GUE, for which the error says how to do without.

use anyhow::{anyhow, bail};

use crate::base::Network;
use crate::sys::configure::{self, FullRoute};
use crate::sys::link;

/// # Errors
/// What the kernel said, or that this needs `ip`.
pub fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let ipv6 = arguments.contains(&"-6");
    let words: Vec<&str> = arguments.iter().copied().filter(|word| !matches!(*word, "-o" | "-4" | "-6")).collect();
    let done = match *words.as_slice() {
        ["link", "show"] => return Ok(links()?),
        ["address", "show", ref rest @ ..] => return Ok(addresses(rest.get(1).copied())?),
        ["route", "show", ref rest @ ..] => return Ok(routes(ipv6, rest.first() == Some(&"default"))?),
        ["address", verb @ ("add" | "del"), address, "dev", device, ..] => {
            let whole = Network::parse(address).map_err(anyhow::Error::msg)?;
            let address = whole.address();
            if verb == "add" {
                configure::add_address(address, device)
            } else {
                configure::delete_address(address, device)
            }
        }
        ["route", verb @ ("replace" | "del"), ref route @ ..] => {
            let route = FullRoute::parse(route, ipv6).map_err(anyhow::Error::msg)?;
            if verb == "del" { configure::delete_route(&route) } else { configure::replace_route(&route) }
        }
        _ => bail!("`ip` is not installed here: it comes with iproute2"),
    };
    done.map(|()| String::new()).map_err(|error| anyhow!("`ip {}`, done over netlink: {error}", arguments.join(" ")))
}

fn links() -> std::io::Result<String> {
    let line = |link: &link::Link| format!("{}: {}: mtu {}\n", link.index, link.name, link.mtu);
    Ok(link::all()?.iter().map(line).collect())
}

fn addresses(device: Option<&str>) -> std::io::Result<String> {
    let links = link::all()?;
    let mut text = String::new();
    for at in link::addresses()? {
        let Some(link) = links.iter().find(|link| link.index == at.interface) else { continue };
        if device.is_none_or(|device| device == link.name) {
            let family = if at.address.is_ipv6() { "inet6" } else { "inet" };
            text.push_str(&format!("{}: {} {family} {}/{}\n", link.index, link.name, at.address, at.prefix));
        }
    }
    Ok(text)
}

fn routes(ipv6: bool, default: bool) -> std::io::Result<String> {
    let shown = configure::routes(ipv6)?.into_iter().filter(|route| !default || route.destination.is_none());
    Ok(shown.map(|route| format!("{route}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_shown_as_ip_shows_it_and_what_needs_ip_says_so() {
        assert!(ip(&["-o", "link", "show"]).unwrap().contains(": lo: mtu "));
        assert!(ip(&["-o", "address", "show", "dev", "lo"]).unwrap().lines().all(|line| line.contains(" lo inet")));
        let error = ip(&["link", "add", "strata-4in4", "type", "ipip"]).unwrap_err().to_string();
        assert!(error.contains("comes with iproute2"), "{error}");
    }
}
