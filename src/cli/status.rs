//! Wiring: what `strata status` prints. A pure function from the admin API's document to text for a person's eyes.
//!
//! Names come from the configuration and causes from probes: control characters in them are shown escaped. Not here: asking
//! (`admin::Client`), nor `--json`, which prints the document as it came.

use crate::admin::document::{Endpoint, Packets, Pool, Service, Source, Status, Vip};

mod table;
#[cfg(test)]
mod tests;
mod words;

pub(super) use table::Style;
use table::{Cell, Left, Out, Right, Table};
pub(super) use words::{clean, count, counted, size, span};

/// The whole document, aligned; in colour for a terminal that shows it.
pub fn render(status: &Status, colour: bool) -> String {
    let mut out = Out { text: String::new(), colour };
    head(&mut out, status);
    if !status.services.is_empty() {
        out.line("");
        services(&mut out, &status.services);
    }
    if !status.vips.is_empty() {
        out.line("");
        vips(&mut out, &status.vips);
    }
    if let Some(engine) = &status.packets {
        out.line("");
        packets(&mut out, engine);
    }
    if !status.sources.is_empty() {
        out.line("");
        sources(&mut out, &status.sources);
    }
    for each in &status.pools {
        out.line("");
        pool(&mut out, each, &status.services);
    }
    out.text
}

fn head(out: &mut Out, status: &Status) {
    let (word, style) = match (status.ready, status.draining) {
        (_, true) => ("draining", Style::Warn),
        (true, _) => ("ready", Style::Good),
        (false, _) => ("not ready", Style::Bad),
    };
    let version = format!("strata {}", status.version);
    let facts = format!(
        "up {}, generation {}, {}, {}",
        span(status.uptime_ms),
        status.generation,
        counted(status.workers as u64, "worker"),
        counted(status.connections, "connection"),
    );
    let line = format!("{}  {}  {facts}", out.paint(&version, Style::Strong), out.paint(word, style));
    out.line(&line);
    if !status.last_reload_successful {
        let warning = format!("the last reload was rejected: generation {} serves on", status.generation);
        let line = out.paint(&warning, Style::Bad);
        out.line(&line);
        out.line("why: strata events, or strata check FILE");
    }
    if status.warnings > 0 {
        let warning = format!("{}: strata check FILE", counted(status.warnings as u64, "warning"));
        let line = out.paint(&warning, Style::Warn);
        out.line(&line);
    }
    if status.probes_static {
        let warning = "probes reach nobody, and this machine is cut off: endpoints keep the state they had";
        let line = out.paint(warning, Style::Bad);
        out.line(&line);
    }
}

fn services(out: &mut Out, services: &[Service]) {
    let packets = services.iter().any(forwards);
    let proxies = !services.iter().all(forwards);
    let mut table = Table::new([
        ("SERVICE", Left, true),
        ("MODE", Left, true),
        ("ENGINE", Left, packets),
        ("LISTEN", Left, true),
        ("OPEN", Right, proxies),
        ("CONNECTIONS", Right, proxies),
        ("REQUESTS", Right, proxies),
        ("5XX", Right, proxies),
        ("PACKETS", Right, packets),
        ("RECEIVED", Right, true),
        ("SENT", Right, true),
        ("POOLS", Left, true),
    ]);
    for service in services {
        // A mode that knows no requests has no count of them, rather than zero.
        let of_requests = |n: u64| if service.mode == "l7" { count(n) } else { "-".to_owned() };
        let failed = if service.server_errors_total > 0 { Style::Warn } else { Style::Plain };
        let carried = if service.engine == "none" { Style::Bad } else { Style::Plain };
        table.row([
            Cell::new(&service.name, Style::Strong),
            Cell::plain(&mode(service)),
            Cell::new(&service.engine, carried),
            Cell::plain(&service.listen.join(", ")),
            Cell::plain(&known(service.connections, count)),
            Cell::plain(&known(service.connections_total, count)),
            Cell::plain(&of_requests(service.requests_total)),
            Cell::new(&of_requests(service.server_errors_total), failed),
            Cell::plain(&known(service.packets_total, count)),
            Cell::plain(&size(service.bytes_received_total)),
            Cell::plain(&known(service.bytes_sent_total, size)),
            Cell::plain(&service.pools.join(", ")),
        ]);
        table.counted("drops", &service.drops);
        if let Some(marked @ 1..) = service.slots_marked {
            table.note(format!("  slots: {} in transition", count(marked)));
        }
    }
    table.print(out);
}

fn forwards(service: &Service) -> bool {
    service.packets_total.is_some()
}

/// `l3 gue`; `l2` has one way to forward only.
pub(super) fn mode(service: &Service) -> String {
    match service.forward.as_deref() {
        None | Some("mac") => service.mode.clone(),
        Some(forward) => format!("{} {forward}", service.mode),
    }
}

fn vips(out: &mut Out, vips: &[Vip]) {
    let columns =
        [("VIP", Left), ("OWNER", Left), ("CONFLICTS", Right), ("ADDRESS", Left), ("MAC", Left), ("INTERFACE", Left)];
    let mut table = Table::new(columns.map(|(title, side)| (title, side, true)));
    for vip in vips {
        let (owner, style) = if vip.owner { ("yes", Style::Good) } else { ("no", Style::Bad) };
        let claimed = if vip.conflicts_total > 0 { Style::Warn } else { Style::Plain };
        for (nth, at) in vip.addresses.iter().enumerate() {
            table.row([
                Cell::new(if nth == 0 { &vip.name } else { "" }, Style::Strong),
                Cell::new(if nth == 0 { owner } else { "" }, style),
                Cell::new(&if nth == 0 { count(vip.conflicts_total) } else { String::new() }, claimed),
                Cell::plain(&at.address),
                Cell::plain(at.mac.as_deref().unwrap_or("-")),
                Cell::new(&vip.interface, if at.mac.is_some() { Style::Plain } else { Style::Bad }),
            ]);
        }
    }
    table.print(out);
}

fn sources(out: &mut Out, sources: &[Source]) {
    let routes = sources.iter().any(|source| source.table.starts_with("service."));
    let mut table = Table::new([
        ("SOURCE", Left, true),
        ("KIND", Left, true),
        ("LOOKS AT", Left, true),
        ("STATE", Left, true),
        ("MEMBERS", Right, true),
        ("LEAVING", Right, true),
        ("ROUTES", Right, routes),
    ]);
    for source in sources {
        let (state, style) = match (source.up, &source.failure) {
            (true, _) => ("answers", Style::Good),
            (false, Some(_)) => ("fails", Style::Bad),
            (false, None) => ("is asked", Style::Warn),
        };
        table.row([
            Cell::new(&source.table, Style::Strong),
            Cell::plain(&source.kind),
            Cell::plain(&source.about),
            Cell::new(state, style),
            Cell::plain(&count(source.members as u64)),
            Cell::new(&count(source.leaving as u64), if source.leaving > 0 { Style::Warn } else { Style::Plain }),
            Cell::plain(&count(source.routes as u64)),
        ]);
        if let Some(failure) = &source.failure {
            table.note(format!("  fails: {}", clean(failure)));
        }
        table.counted("refused", &source.refused);
        for mistake in &source.mistakes {
            let help = mistake.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
            table.note(format!("    {}", clean(&format!("{}: {}{help}", mistake.place, mistake.message))));
        }
    }
    table.print(out);
}

fn packets(out: &mut Out, packets: &Packets) {
    let of = |n: usize, most: usize| format!("{} of {}", count(n as u64), count(most as u64));
    let line = format!(
        "{}  {} flow records, {} translated flows",
        out.paint("packets", Style::Strong),
        of(packets.flow_records, packets.flow_records_limit),
        of(packets.nat_flows, packets.nat_flows_limit)
    );
    out.line(&line);
    let mut table = Table::new([
        ("INTERFACE", Left, true),
        ("WORKERS", Right, true),
        ("FRAMES RECEIVED", Right, true),
        ("FRAMES SENT", Right, true),
        ("LOST", Right, true),
    ]);
    for interface in &packets.interfaces {
        let lost = interface.lost.iter().map(|lost| lost.count).sum();
        let served = if interface.workers > 0 { Style::Plain } else { Style::Bad };
        table.row([
            Cell::plain(&interface.name),
            Cell::new(&count(interface.workers), served),
            Cell::plain(&count(interface.frames_received_total)),
            Cell::plain(&count(interface.frames_sent_total)),
            Cell::new(&count(lost), if lost > 0 { Style::Warn } else { Style::Plain }),
        ]);
        table.counted("lost", &interface.lost);
    }
    table.counted("drops of no service", &packets.drops);
    table.print(out);
}

fn pool(out: &mut Out, pool: &Pool, services: &[Service]) {
    let usable = format!("{} of {} usable", pool.usable, pool.endpoints.len());
    let style = match pool.usable {
        0 => Style::Bad,
        n if n < pool.endpoints.len() => Style::Warn,
        _ => Style::Good,
    };
    let probe = pool.probe.as_ref().map_or("no probe".to_owned(), |probe| format!("{probe} probe"));
    let name = format!("pool {}", clean(&pool.name));
    let special = match (pool.panic, pool.backup, pool.local) {
        (true, ..) => "  panic: all serve that are not drained",
        (_, true, _) => "  backups serve",
        (.., true) => "  this node's zone serves",
        _ => "",
    };
    let waiting = if pool.queue > 0 { format!("  {} waiting", count(pool.queue.into())) } else { String::new() };
    let line = format!(
        "{}  {}  {}, {}{}{}",
        out.paint(&name, Style::Strong),
        out.paint(&usable, style),
        clean(&pool.balance),
        clean(&probe),
        out.paint(special, if pool.local { Style::Plain } else { Style::Warn }),
        out.paint(&waiting, Style::Warn)
    );
    out.line(&line);
    endpoints(out, pool, services);
}

fn endpoints(out: &mut Out, pool: &Pool, services: &[Service]) {
    let packets = pool.endpoints.iter().any(|endpoint| endpoint.packets_sent_total.is_some());
    let proxies = !packets || services.iter().any(|service| !forwards(service) && service.pools.contains(&pool.name));
    let mut table = Table::new([
        ("ENDPOINT", Left, true),
        ("STATE", Left, true),
        ("SINCE", Right, true),
        ("WEIGHT", Right, true),
        ("IN FLIGHT", Right, proxies),
        ("REQUESTS", Right, proxies),
        ("ERRORS", Right, proxies),
        ("PACKETS", Right, packets),
        ("SENT", Right, packets),
        ("RECEIVED", Right, packets),
        ("CAUSE", Left, true),
    ]);
    for endpoint in &pool.endpoints {
        let (state, style) = state(endpoint);
        let failed = if endpoint.errors_total > 0 { Style::Warn } else { Style::Plain };
        let both = |sent: u64| sent + endpoint.packets_received_total.unwrap_or(0);
        table.row([
            Cell::plain(&endpoint.name),
            Cell::new(&state, style),
            Cell::plain(&endpoint.since_ms.map_or("-".to_owned(), span)),
            Cell::plain(&weight(endpoint)),
            Cell::plain(&count(endpoint.in_flight.into())),
            Cell::plain(&count(endpoint.requests_total)),
            Cell::new(&count(endpoint.errors_total), failed),
            Cell::plain(&known(endpoint.packets_sent_total.map(both), count)),
            Cell::plain(&known(endpoint.bytes_sent_total, size)),
            Cell::plain(&known(endpoint.bytes_received_total, size)),
            Cell::plain(endpoint.cause.as_deref().unwrap_or_default()),
        ]);
    }
    table.print(out);
}

/// And the share of it that is in force while it warms up.
pub(super) fn weight(endpoint: &Endpoint) -> String {
    let share = endpoint.warmth_percent.map_or(String::new(), |percent| format!(" ({percent} %)"));
    format!("{}{share}", endpoint.weight)
}

/// What is not known is no zero.
fn known(n: Option<u64>, shown: fn(u64) -> String) -> String {
    n.map_or("-".to_owned(), shown)
}

/// What is seen, and what the operator wants where that is something else than work.
pub(super) fn state(endpoint: &Endpoint) -> (String, Style) {
    if endpoint.leaving {
        return (format!("leaving ({})", endpoint.health), Style::Warn);
    }
    if endpoint.intent != "ready" {
        return (format!("{} ({})", endpoint.intent, endpoint.health), Style::Warn);
    }
    let style = match endpoint.health.as_str() {
        "up" => Style::Good,
        "probing" => Style::Warn,
        _ => Style::Bad,
    };
    let role = if endpoint.backup { " (backup)" } else { "" };
    (format!("{}{role}", endpoint.health), style)
}
