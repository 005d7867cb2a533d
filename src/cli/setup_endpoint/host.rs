//! Shell: reads and changes the network namespace that it runs in, through `ip` and `/proc/sys`, or over netlink where they cannot
//! be had, and names what is missing.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};

use super::native;
use super::plan::{Assigned, Change, Facts, Wish, flag, sysctls};
use crate::sys::configure;

/// # Errors
/// Without CAP_NET_ADMIN, in words that say how to get it.
pub fn may_change() -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/thread-self/status").context("cannot tell the capabilities")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if effective & CAP_NET_ADMIN == 0 {
        bail!("changing the network needs CAP_NET_ADMIN: run as root, in a container with `cap_add: [NET_ADMIN]`");
    }
    Ok(())
}

/// Where the default route leads of `address`'s family, else of the other.
pub fn default_interface(address: IpAddr) -> anyhow::Result<String> {
    for family in if address.is_ipv6() { ["-6", "-4"] } else { ["-4", "-6"] } {
        let routes = ip(&["-o", family, "route", "show", "default"])?;
        let device = routes.lines().find_map(|line| value_after(line, "dev"));
        if let Some(device) = device {
            return Ok(device.to_owned());
        }
    }
    bail!("there is no default route to tell the interface by: name it with `--interface`")
}

pub fn facts(wish: &Wish) -> anyhow::Result<Facts> {
    let links = ip(&["-o", "link", "show"])?;
    let devices: Vec<String> = links.lines().filter_map(device_of).map(str::to_owned).collect();
    let own = links.lines().find(|line| device_of(line) == Some(&wish.interface));
    let Some(own) = own else {
        bail!("there is no interface {}: it is one of {}", wish.interface, devices.join(", "));
    };
    let addresses = ip(&["-o", "address", "show"])?;
    let routes = ip(&["-o", if wish.address.is_ipv6() { "-6" } else { "-4" }, "route", "show"])?;
    let read = |key: String| Some((key.clone(), std::fs::read_to_string(path(&key)).ok()?.trim().to_owned()));
    Ok(Facts {
        mtu: value_after(own, "mtu").and_then(|mtu| mtu.parse().ok()).unwrap_or(1500),
        addresses: addresses.lines().filter_map(assigned).collect(),
        routes: routes.lines().map(route).collect(),
        devices,
        gue: [false, true].map(|ipv6| unpacks_gue(ipv6).unwrap_or(false)),
        sysctls: sysctls(&wish.interface).into_iter().filter_map(read).collect::<BTreeMap<_, _>>(),
    })
}

pub fn apply(change: &Change) -> anyhow::Result<()> {
    if let Change::Sysctl { key, to, .. } = change {
        return write(key, to);
    }
    for command in change.commands() {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        ip(&words).map_err(|error| explain(change, error))?;
    }
    Ok(())
}

/// Takes `change` back if it is still as it was made, and says what it did.
pub fn undo(change: &Change) -> anyhow::Result<String> {
    match change {
        Change::Sysctl { key, from, to } => match (std::fs::read_to_string(path(key)), from) {
            (Ok(now), _) if now.trim() != to => Ok(format!("# {key} is {} by now: left as it is", now.trim())),
            (Ok(_), Some(from)) => write(key, from).map(|()| format!("sysctl -w {key}={from}")),
            // It went with its device, or came with it.
            (Ok(_), None) | (Err(_), _) => Ok(format!("# {key} goes with its device")),
        },
        Change::Address { address, device } => {
            let there = ip(&["-o", "address", "show", "dev", device])?;
            let there = there.lines().filter_map(assigned).any(|at| at.address == *address);
            let prefix = if address.is_ipv6() { 128 } else { 32 };
            act(there, &format!("ip address del {address}/{prefix} dev {device}"))
        }
        Change::Device { name, .. } => {
            let there = ip(&["-o", "link", "show"])?.lines().any(|line| device_of(line) == Some(name));
            act(there, &format!("ip link del {name}"))
        }
        Change::Gue { ipv6 } => {
            let there = unpacks_gue(*ipv6)?;
            act(there, &format!("ip{} fou del port {}", flag(*ipv6), crate::wire::gue::PORT))
        }
        Change::Route { ipv6, from, to } => {
            let routes = ip(&["-o", if *ipv6 { "-6" } else { "-4" }, "route", "show"])?;
            let words: Vec<&str> = to.split_whitespace().collect();
            // The kernel shows more than it was told (`pref medium`), and in its own order.
            let ours = |line: &str| words.iter().all(|word| line.split_whitespace().any(|shown| shown == *word));
            let there = routes.lines().any(ours);
            match from {
                Some(from) => act(there, &format!("ip{} route replace {from}", flag(*ipv6))),
                None => act(there, &format!("ip{} route del {to}", flag(*ipv6))),
            }
        }
    }
}

/// Runs `command` if what it takes back is still `there`.
fn act(there: bool, command: &str) -> anyhow::Result<String> {
    if !there {
        return Ok(format!("# changed by others since, left as it is: {command}"));
    }
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    ip(&words).map(|_| command.to_owned())
}

/// Runs `ip`, or what takes its place, and gives what it says.
fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let ran = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = match ran {
        Err(error) if error.kind() == ErrorKind::NotFound => return native::ip(arguments),
        ran => ran.context("cannot run `ip`")?,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(anyhow!("`ip {}`: {}", arguments.join(" "), said.trim()))
}

fn explain(change: &Change, error: anyhow::Error) -> anyhow::Error {
    let help = match change {
        Change::Device { kind, .. } => {
            let kind = kind.split_whitespace().next().unwrap_or_default();
            let (module, mode) = (if kind == "ip6tnl" { "ip6_tunnel" } else { kind }, "--userspace");
            format!(
                "no {kind} device: `modprobe {module}` on the host, or use `{mode}` and run `strata decapsulate` here"
            )
        }
        Change::Gue { .. } => "no GUE in the kernel: `modprobe fou` on the host, or use `--userspace` and run \
                               `strata decapsulate` here"
            .to_owned(),
        _ => return error,
    };
    error.context(help)
}

fn write(key: &str, value: &str) -> anyhow::Result<()> {
    let Err(error) = std::fs::write(path(key), value) else { return Ok(()) };
    if !matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) {
        return Err(anyhow!("cannot set {key}={value}: {error}"));
    }
    // A container's /proc/sys is read-only. What is an interface's own the kernel takes over netlink as well; the rest its runtime
    // sets in the container's namespace.
    if let ["net", "ipv4", "conf", interface, name] = *key.split('/').collect::<Vec<_>>()
        && !matches!(interface, "all" | "default")
        && let Ok(value) = value.parse()
        && configure::set_ipv4(interface, name, value).is_ok()
    {
        return Ok(());
    }
    let dotted = key.replace('/', ".");
    Err(anyhow!("cannot set {key}={value} here ({error}): start the container with `--sysctl {dotted}={value}`"))
}

fn path(key: &str) -> String {
    format!("/proc/sys/{key}")
}

fn unpacks_gue(ipv6: bool) -> anyhow::Result<bool> {
    let family = if ipv6 { "-6" } else { "-4" };
    // Where the kernel has no FOU, `ip` cannot ask it.
    let ports = match ip(&[family, "fou", "show"]) {
        Ok(ports) => ports,
        Err(_) => return Ok(false),
    };
    let port = crate::wire::gue::PORT.to_string();
    Ok(ports
        .lines()
        .any(|line| value_after(line, "port") == Some(&port) && line.contains("gue") && line.contains("-6") == ipv6))
}

/// `2: eth0@if3: <BROADCAST…` names eth0.
fn device_of(line: &str) -> Option<&str> {
    let name = line.split_whitespace().nth(1)?.trim_end_matches(':');
    name.split('@').next()
}

/// `1: lo    inet 127.0.0.1/8 scope host lo\ …`
fn assigned(line: &str) -> Option<Assigned> {
    let mut words = line.split_whitespace().skip(1);
    let device = words.next()?.to_owned();
    let (address, prefix) = words.nth(1)?.split_once('/')?;
    Some(Assigned { device, address: address.parse().ok()?, prefix: prefix.parse().ok()? })
}

/// What `ip` shows of a route and does not take: states, and how long it lives. Next hops are on lines of their own.
fn route(line: &str) -> String {
    let mut kept = Vec::new();
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "linkdown" | "dead" | "\\" | "offload" | "trap" => {}
            "expires" => drop(words.next()),
            word => kept.push(word.trim_end_matches('\\')),
        }
    }
    kept.join(" ")
}

fn value_after<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()
}

const CAP_NET_ADMIN: u64 = 1 << 12;
