//! Rows I9 and I10: what a name server says wrongly, or does not say, never empties a pool, and never turns traffic on ourselves.

use std::net::{IpAddr, SocketAddr};

use super::cli::ask;
use super::common::{Origin, Strata, await_that, free_address};
use super::dns::{A, Dns, NXDOMAIN, Reply, SERVFAIL};

struct World {
    server: Dns,
    origin: Origin,
    strata: Strata,
}

impl World {
    /// `timeout`: short only where what is said makes Strata wait for something better; elsewhere it would be a deadline of the test's.
    fn new(timeout: &str, more: &str) -> World {
        let server = Dns::start();
        let origin = super::load::endpoint("here");
        server.addresses("web.internal", &[origin.address.ip()]);
        let body = format!(
            "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\n\
             source = {{ type = \"dns\", name = \"web.internal\", port = {}, resolver = \"{}\", min_ttl = \"100ms\", max_ttl = \"100ms\", \
             timeout = \"{timeout}\"{more} }}\n",
            origin.address.port(),
            server.address,
        );
        let strata = Strata::start(&body);
        World { server, origin, strata }
    }

    #[track_caller]
    fn serves(&self, after: &str) {
        let answer = self.strata.ask("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "here"), "{after}");
    }

    fn refused(&self, reason: &str) -> f64 {
        self.strata.scrape().sum("strata_source_refused", &[("source", "pool.web"), ("reason", reason)])
    }

    fn failures(&self, reason: &str) -> f64 {
        self.strata.scrape().sum("strata_source_failures_total", &[("source", "pool.web"), ("reason", reason)])
    }
}

const LONG: &str = "2s";
const SHORT: &str = "200ms";
const OURS: &str = ", allow = [\"loopback\"]";

#[test]
fn i9_failures_and_empty_answers_keep_the_last_good_one_and_empty_no_pool() {
    keeps_the_last_good_one(
        LONG,
        &[(Reply::Code(NXDOMAIN), "missing"), (Reply::Code(SERVFAIL), "refused"), (Reply::Nothing, "empty")],
    );
}

#[test]
fn i9_silence_and_answers_that_make_no_sense_keep_the_last_good_one() {
    let half = Reply::Half(vec![[127, 0, 0, 1].into()]);
    // What makes no sense may be a stranger's: the right answer is waited for.
    keeps_the_last_good_one(SHORT, &[(Reply::Silence, "silent"), (Reply::Circle, "malformed"), (half, "malformed")]);
}

fn keeps_the_last_good_one(timeout: &str, replies: &[(Reply, &str)]) {
    let world = World::new(timeout, OURS);
    let here = world.origin.address.ip();
    world.serves("at first");
    for (reply, reason) in replies {
        let before = world.failures(reason);
        world.server.say("web.internal", A, reply.clone());
        // The first may be of a question that was under way.
        await_that(reason, || world.failures(reason) > before + 1.0);
        assert_eq!(world.strata.scrape().sum("strata_source_up", &[]), 0.0, "{reply:?}");
        world.serves(reason);
        let found = ask(&world.strata, &["status"]);
        assert!(found.out.contains("fails:"), "{reason}: {}", found.out);
        world.server.addresses("web.internal", &[here]);
        await_that("it answers again", || world.strata.scrape().sum("strata_source_up", &[]) == 1.0);
    }
    // One line when it begins to fail and one when it ends, however often it is asked.
    // On a machine that stands still a good answer may be late as well, by a short timeout: that is a failure more, and its end.
    let count = |words: &str| world.strata.log().matches(words).count();
    await_that("each failure is told, and its end", || {
        let (failed, again) = (count("the source fails"), count("answers again"));
        failed == again && (failed == replies.len() || timeout == SHORT && failed > replies.len())
    });
    assert_eq!(world.strata.scrape().sum("strata_config_generation", &[]), 1.0, "nothing of it was a change");
}

#[test]
fn i9_a_start_without_an_answer_serves_the_rest_and_takes_what_comes_later() {
    let server = Dns::start();
    let origin = super::load::endpoint("here");
    server.say("web.internal", A, Reply::Silence);
    let strata = Strata::start(&format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\n\
         source = {{ type = \"dns\", name = \"web.internal\", port = {}, resolver = \"{}\", min_ttl = \"100ms\", max_ttl = \"200ms\", \
         timeout = \"200ms\"{OURS} }}\n",
        origin.address.port(),
        server.address,
    ));
    assert_eq!(strata.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status(), 503);
    server.addresses("web.internal", &[origin.address.ip()]);
    await_that("it is found", || strata.scrape().sum_if_any("strata_pool_endpoints_usable", &[("pool", "web")]) == 1.0);
    assert_eq!(strata.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status(), 200);
}

#[test]
fn i10_addresses_of_ours_and_crowds_are_refused_by_name_and_the_rest_is_served() {
    let world = World::new(LONG, ", allow = [\"loopback\"], max_members = 3, record = \"a\"");
    let here = world.origin.address.ip();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    world.server.addresses(
        "web.internal",
        &[ip("169.254.169.254"), ip("0.0.0.0"), ip("224.0.0.1"), ip("255.255.255.255"), here],
    );
    await_that("they are refused", || world.refused("link-local") == 1.0 && world.refused("no-host") == 3.0);
    world.serves("the one that is good");
    world.strata.await_logged("`169.254.169.254` is link-local", 1);
    // The last good answer stays where nothing of the new one can be used.
    world.server.addresses("web.internal", &[ip("169.254.169.254")]);
    await_that("that is all there is", || world.refused("no-host") == 0.0 && world.refused("link-local") == 1.0);
    world.serves("nothing can be used");
    // As many addresses as a message carries.
    let mut crowd: Vec<IpAddr> = (0..4000_u32).map(|n| std::net::Ipv4Addr::from(0x7f40_0000 + n).into()).collect();
    crowd.push(here);
    world.server.say("web.internal", A, Reply::OverTcp(crowd));
    await_that("it is capped", || world.refused("too-many") >= 3990.0);
    let metrics = world.strata.scrape();
    assert_eq!(metrics.sum("strata_source_members", &[]), 3.0);
    assert!(world.server.asked_over_tcp() > 0);
    // And found in every place where an operator looks.
    let diagnostics = super::common::metrics::get(world.strata.admin, "/api/diagnostics");
    let diagnostics: serde_json::Value = serde_json::from_slice(&diagnostics.body).unwrap();
    let found = diagnostics["found"].as_array().unwrap();
    assert!(found.len() <= 50 && found.iter().any(|found| found["reason"] == "too-many"), "{diagnostics}");
    assert!(ask(&world.strata, &["status"]).out.contains("too-many"));
}

#[test]
fn i10_loopback_is_refused_unless_it_is_allowed_and_own_listeners_always() {
    // The start finds nothing that may be used.
    let world = World::new(LONG, "");
    assert_eq!(world.refused("loopback"), 1.0);
    assert_eq!(world.strata.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status(), 503);
    drop(world);

    let server = Dns::start();
    let origin = super::load::endpoint("here");
    let strata = Strata::start(&format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\nendpoints = [\"{}\"]\n",
        origin.address
    ));
    let edge: SocketAddr = strata.edge;
    server.addresses("web.internal", &[edge.ip(), free_address().ip()]);
    strata.rewrite(&format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\nendpoints = [\"{}\"]\n\
         source = {{ type = \"dns\", name = \"web.internal\", port = {}, resolver = \"{}\"{OURS} }}\n",
        origin.address,
        edge.port(),
        server.address,
    ));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    let own = [("source", "pool.web"), ("reason", "own")];
    assert_eq!(strata.scrape().sum("strata_source_refused", &own), 1.0);
    assert!(!strata.scrape().has("strata_endpoint_up", &[("endpoint", &edge.to_string())]));
    strata.await_log("where this Strata listens itself");
}

#[test]
fn i10_an_answer_of_somebody_else_is_waited_past() {
    let world = World::new(LONG, OURS);
    let here = world.origin.address.ip();
    let forged = free_address().ip();
    let mut addresses = vec![here];
    world.server.say("web.internal", A, Reply::Forged(forged, addresses.clone()));
    world.server.await_asked("web.internal", A, 3);
    world.serves("a forged answer came first");
    let at = |ip| SocketAddr::new(ip, world.origin.address.port()).to_string();
    assert!(!world.strata.scrape().has("strata_endpoint_up", &[("endpoint", &at(forged))]));
    // Aliases are followed, and answers that fit no datagram are fetched.
    let more = free_address().ip();
    addresses.push(more);
    world.server.say("web.internal", A, Reply::Aliased(vec!["a.internal", "b.internal"], addresses.clone()));
    await_that("an alias of an alias", || world.strata.scrape().has("strata_endpoint_up", &[("endpoint", &at(more))]));
    let last = free_address().ip();
    addresses.push(last);
    world.server.say("web.internal", A, Reply::OverTcp(addresses));
    await_that("by TCP", || world.strata.scrape().has("strata_endpoint_up", &[("endpoint", &at(last))]));
}
