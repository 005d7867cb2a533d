//! Reloads of the real binary under load: what a reload does not touch does not notice it, and a bad one changes nothing.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "common/cli.rs"]
mod cli;
mod common;
#[path = "common/load.rs"]
mod load;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use cli::ask;
use common::{Origin, Strata, await_that, free_address};
use load::{Kind, Load};

const RELOADS: usize = 20;
const SOCKETS: usize = 12;

/// Three services over three pools. What a reload changes comes in as text.
struct World {
    web: [Origin; 2],
    sockets: Origin,
    spare: Origin,
    l4: SocketAddr,
}

#[derive(Clone, Default)]
struct Variant {
    route: String,
    weight: u16,
    extra: String,
}

impl World {
    fn new() -> World {
        World {
            web: ["one", "two"].map(load::endpoint),
            sockets: load::endpoint("sockets"),
            spare: load::endpoint("spare"),
            l4: free_address(),
        }
    }

    fn text(&self, Variant { route, weight, extra }: &Variant) -> String {
        let [one, two] = [&self.web[0], &self.web[1]].map(|origin| origin.address);
        let (sockets, spare, l4) = (self.sockets.address, self.spare.address, self.l4);
        format!(
            r#"
[service.edge]
mode = "l7"
listen = "{{edge}}"
pool = "web"
{route}
[[service.edge.route]]
url = "/ws"
pool = "sockets"

[service.raw]
mode = "l4"
listen = "{l4}"
pool = "sockets"

[pool.web]
probe = {{ type = "http", interval = "1s" }}
endpoints = [{{ address = "{one}", weight = {weight} }}, "{two}"]

[pool.sockets]
probe = {{ type = "tcp", interval = "1s" }}
endpoints = ["{sockets}"]

[pool.spare]
endpoints = ["{spare}"]
{extra}
"#
        )
    }
}

/// The change that reload number `n` brings, on top of the ones before.
fn change(variant: &mut Variant, n: usize) {
    match n % 4 {
        0 => {
            let pool = if n.is_multiple_of(8) { "spare" } else { "web" };
            variant.route = format!("[[service.edge.route]]\nurl = \"/turn/*\"\npool = \"{pool}\"\n");
        }
        1 => variant.weight = variant.weight % 7 + 1,
        2 => {
            let address = free_address();
            variant.extra = format!("[service.other]\nmode = \"l7\"\nlisten = \"{address}\"\npool = \"spare\"\n");
        }
        _ => variant.extra.clear(),
    }
}

fn in_flight(strata: &Strata, pool: &str) -> f64 {
    strata.scrape().sum("strata_endpoint_in_flight", &[("pool", pool)])
}

fn generation(strata: &Strata) -> f64 {
    strata.scrape().sum("strata_config_generation", &[])
}

#[test]
fn j3_twenty_reloads_under_load_lose_no_request_and_cut_no_connection() {
    let world = World::new();
    let mut variant = Variant { weight: 1, ..Variant::default() };
    let strata = Strata::start(&world.text(&variant));
    cli::await_usable(&strata, "web", 2.0);

    let mut load = Load::start();
    let ms = Duration::from_millis;
    load.clients(Kind::Kept, 24, strata.edge, "/", ms(100))
        .clients(Kind::Kept, 8, strata.edge, "/turn/x", ms(100))
        .clients(Kind::Fresh, 8, strata.edge, "/", ms(100))
        .clients(Kind::Fresh, 4, strata.edge, "/turn/x", ms(100))
        .clients(Kind::Kept, 8, world.l4, "/", ms(100))
        .clients(Kind::WebSocket, SOCKETS, strata.edge, "/ws", ms(100));
    load.await_more(200);
    let (done, began) = (load.done(), Instant::now());
    load.await_more(400);
    let calm = (load.done() - done) as f64 / began.elapsed().as_secs_f64();
    let carried = SOCKETS as f64 + 8.0;
    await_that("tunnels and relays count as in flight", || in_flight(&strata, "sockets") == carried);
    let connections = |at: &Strata| at.scrape().sum("strata_connections_total", &[("service", "raw")]);
    let before = connections(&strata);

    let (done, began) = (load.done(), Instant::now());
    for n in 0..RELOADS {
        change(&mut variant, n);
        strata.rewrite(&world.text(&variant));
        let old = generation(&strata);
        if n % 5 == 4 {
            strata.signal("HUP");
            await_that("the signal's reload", || generation(&strata) == old + 1.0);
        } else {
            let said = ask(&strata, &["reload"]);
            assert_eq!(said.code, 0, "reload {n}: {said:?}");
            assert!(said.out.lines().count() > 1 && !said.out.contains("nothing changed"), "reload {n}: {said:?}");
            assert_eq!(generation(&strata), old + 1.0, "reload {n}");
        }
        assert_eq!(in_flight(&strata, "sockets"), carried, "reload {n} touched what is in flight");
        let up = strata.scrape().sum("strata_endpoint_up", &[]);
        assert_eq!(up, 4.0, "reload {n} touched health");
        load.await_more(80);
    }

    let busy = (load.done() - done) as f64 / began.elapsed().as_secs_f64();
    assert_eq!(connections(&strata), before, "a relayed connection was made anew");
    let failed = strata.scrape().sum("strata_probes_total", &[("result", "failed")]);
    let seen = load.stop();
    println!("{RELOADS} reloads at {busy:.0} exchanges/s, before them {calm:.0}: {:?}", seen.all());
    seen.assert_nothing_lost();
    // This test makes the reloads on the same cores.
    assert!(busy >= calm / 3.0, "{busy:.0} exchanges/s under reloads, {calm:.0} without");
    assert!(failed <= 1.0, "{failed} probes failed");
    assert_eq!(strata.scrape().all_drops(), 0.0, "something was dropped");
}

#[test]
fn a_bad_file_is_refused_with_its_mistakes_and_the_old_configuration_serves_on() {
    let world = World::new();
    let good = world.text(&Variant { weight: 1, ..Variant::default() });
    let strata = Strata::start(&good);
    // Another process's: it does not share its port.
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let successful = |strata: &Strata| strata.scrape().sum("strata_config_last_reload_successful", &[]);
    assert_eq!(successful(&strata), 1.0);
    let first = generation(&strata);

    let listen = |address: &str| format!("[service.more]\nmode = \"l7\"\nlisten = \"{address}\"\npool = \"web\"\n");
    let taken = taken.to_string();
    let cases = [
        ("a syntax error", format!("{good}\n[pool.broken\n"), vec!["error", "strata.toml:"]),
        ("an unknown pool", good.replace("pool = \"web\"", "pool = \"wbe\""), vec!["wbe", "web", "strata.toml:"]),
        ("an unknown key", format!("{good}\n[drain]\ntimeuot = \"1s\"\n"), vec!["timeuot", "timeout"]),
        ("a port in use", format!("{good}\n{}", listen(&taken)), vec![taken.as_str(), "more"]),
        ("an address of elsewhere", format!("{good}\n{}", listen("192.0.2.77:80")), vec!["192.0.2.77:80", "more"]),
    ];
    for (name, text, words) in &cases {
        let mut load = Load::start();
        load.clients(Kind::Kept, 4, strata.edge, "/", Duration::from_millis(20));
        load.clients(Kind::Fresh, 2, strata.edge, "/", Duration::from_millis(20));
        load.await_more(20);
        strata.rewrite(text);
        let said = ask(&strata, &["reload"]);
        assert_eq!(said.code, 1, "{name}: {said:?}");
        for word in words {
            assert!(said.err.contains(word), "{name}: no {word:?} in\n{}", said.err);
        }
        assert_eq!(successful(&strata), 0.0, "{name}");
        assert_eq!(generation(&strata), first, "{name}");
        load.await_more(20);
        load.stop().assert_nothing_lost();
    }

    strata.rewrite(&good);
    let said = ask(&strata, &["reload"]);
    assert_eq!((said.code, successful(&strata)), (0, 1.0), "{said:?}");
    assert!(said.out.contains("nothing changed"), "{said:?}");

    strata.rewrite("[service");
    strata.signal("HUP");
    await_that("the signal's reload fails", || successful(&strata) == 0.0);
    std::fs::remove_file(strata.folder().join("strata.toml")).unwrap();
    let said = ask(&strata, &["reload"]);
    assert!(said.code == 1 && said.err.contains("cannot read") && said.err.contains("strata.toml"), "{said:?}");
    assert_eq!(strata.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
}

/// Two L7 services over one endpoint; where `second` listens is up to the test.
fn two_services(endpoint: &Origin, services: &[(&str, Vec<SocketAddr>)]) -> String {
    let mut text = "[service.edge]\nmode = \"l7\"\nlisten = \"{edge}\"\npool = \"web\"\n".to_owned();
    for (name, listen) in services {
        let listen: Vec<String> = listen.iter().map(|address| format!("\"{address}\"")).collect();
        text += &format!("[service.{name}]\nmode = \"l7\"\nlisten = [{}]\npool = \"web\"\n", listen.join(", "));
    }
    text + &format!("[pool.web]\nendpoints = [\"{}\"]\n", endpoint.address)
}

fn hammer(to: SocketAddr) -> Load {
    let mut load = Load::start();
    load.clients(Kind::Fresh, 8, to, "/", Duration::from_millis(5));
    load.clients(Kind::Reopened, 8, to, "/", Duration::from_millis(20));
    load.await_more(100);
    load
}

#[track_caller]
fn reload(strata: &Strata, text: &str) {
    strata.rewrite(text);
    let said = ask(strata, &["reload"]);
    assert_eq!(said.code, 0, "{said:?}");
}

/// Connections that are open on our side of `address`, which is one of IPv4.
fn established(address: SocketAddr) -> usize {
    let std::net::IpAddr::V4(ip) = address.ip() else { panic!("{address} is of IPv6") };
    let local = format!("{:08X}:{:04X}", u32::from_le_bytes(ip.octets()), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's connections");
    let is_open = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(local.as_str()) && fields.nth(1) == Some("01")
    };
    table.lines().filter(is_open).count()
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Ends a load whose address went away: refusals are right, losses are not.
#[track_caller]
fn assert_refused_cleanly(strata: &Strata, load: Load, address: SocketAddr) {
    await_that("new connections are refused", || is_refused(address));
    // Its series went with the service, so the kernel is asked.
    await_that("connections to what was removed end", || established(address) == 0);
    let seen = load.stop();
    let all = seen.all();
    assert_eq!((all.failed, all.truncated, all.cut), (0, 0, 0), "{:#?}\n{}", seen.by_kind, strata.log_tail());
    assert!(all.refused > 0, "nobody met the closed port: {all:?}");
}

#[test]
fn a_service_that_is_removed_under_load_refuses_cleanly_and_resets_nothing_it_accepted() {
    let endpoint = load::endpoint("web");
    let address = free_address();
    let strata = Strata::start(&two_services(&endpoint, &[("leaving", vec![address])]));
    let load = hammer(address);
    reload(&strata, &two_services(&endpoint, &[]));
    assert_refused_cleanly(&strata, load, address);
    assert_eq!(strata.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
}

#[test]
fn one_of_two_addresses_of_a_service_goes_and_its_connections_stay() {
    let endpoint = load::endpoint("web");
    let [stays, goes] = [free_address(), free_address()];
    let strata = Strata::start(&two_services(&endpoint, &[("two", vec![stays, goes])]));
    let mut load = Load::start();
    load.clients(Kind::Kept, 8, goes, "/", Duration::from_millis(20));
    load.clients(Kind::Kept, 8, stays, "/", Duration::from_millis(20));
    load.clients(Kind::Fresh, 4, stays, "/", Duration::from_millis(10));
    load.await_more(100);
    let mut late = Load::start();
    late.clients(Kind::Fresh, 4, goes, "/", Duration::from_millis(5)).await_more(20);
    reload(&strata, &two_services(&endpoint, &[("two", vec![stays])]));
    await_that("new connections are refused", || is_refused(goes));
    load.await_more(200);
    load.stop().assert_nothing_lost();
    let all = late.stop().all();
    assert_eq!((all.failed, all.truncated), (0, 0), "{all:?}");
}

#[test]
fn an_address_that_moves_to_another_service_loses_nothing() {
    let endpoint = load::endpoint("web");
    let [home, moving] = [free_address(), free_address()];
    let both = |first: Vec<SocketAddr>, second: Vec<SocketAddr>| {
        let services = [("first", first), ("second", second)];
        let kept: Vec<_> = services.into_iter().filter(|(_, listen)| !listen.is_empty()).collect();
        two_services(&endpoint, &kept)
    };
    let strata = Strata::start(&both(vec![home, moving], vec![]));
    let load = hammer(moving);
    // There, back, and to a service that is new while the old one ends.
    for text in [
        both(vec![home], vec![moving]),
        both(vec![home, moving], vec![]),
        both(vec![], vec![home, moving]),
        both(vec![home, moving], vec![]),
    ] {
        reload(&strata, &text);
        load.await_more(200);
    }
    let seen = load.stop();
    seen.assert_nothing_lost();
    let requests = strata.scrape().sum("strata_requests_total", &[("service", "first")]);
    assert!(requests > 0.0);
}

#[test]
fn a_service_that_is_added_serves_once_the_reload_says_so() {
    let endpoint = load::endpoint("web");
    let address = free_address();
    let strata = Strata::start(&two_services(&endpoint, &[]));
    assert!(is_refused(address));
    for _ in 0..3 {
        reload(&strata, &two_services(&endpoint, &[("added", vec![address])]));
        let mut load = Load::start();
        load.clients(Kind::Fresh, 2, address, "/", Duration::from_millis(5)).await_more(20);
        load.stop().assert_nothing_lost();
        reload(&strata, &two_services(&endpoint, &[]));
    }
    await_that("new connections are refused", || is_refused(address));
}
