//! Who waits for a place while its pool changes: by a reload, or because an endpoint is drained.

use super::limits::{asking, reason, waiting};
use super::*;
use crate::common::Wire;

const ONE_EACH: &str = "limits = { max_requests = 1, queue = 9, queue_timeout = \"60s\" }";

/// A service of this mode over these endpoints.
fn over(mode: &str, servers: &[&Server], limits: &str) -> String {
    over_pool(mode, "web", servers, limits)
}

fn over_pool(mode: &str, pool: &str, servers: &[&Server], limits: &str) -> String {
    let names: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.name())).collect();
    format!(
        "[service.web]\nmode = \"{mode}\"\nlisten = \"{{edge}}\"\npool = \"{pool}\"\n[pool.{pool}]\n{limits}\nendpoints = [{}]\n",
        names.join(", ")
    )
}

fn held() -> Server {
    let server = Server::start();
    server.knobs.held.store(true, Relaxed);
    server
}

fn release(server: &Server) {
    server.knobs.held.store(false, Relaxed);
}

fn reload(strata: &Strata, text: &str) {
    strata.rewrite(text);
    let said = ask(strata, &["reload"]);
    assert_eq!(said.code, 0, "{}", said.err);
}

/// One request at each of these, and so many that wait.
fn with_waiters(strata: &Strata, servers: &[&Server], count: usize) -> (Vec<Wire>, Vec<Wire>) {
    let there: Vec<Wire> = servers.iter().map(|_| asking(strata)).collect();
    await_that("each has a request", || servers.iter().all(|server| server.requests() == 1));
    let mut waiters = Vec::new();
    while waiters.len() < count {
        waiters.push(asking(strata));
        // In line before the next one comes.
        await_that("it waits", || waiting(strata) == waiters.len() as f64);
    }
    (there, waiters)
}

#[track_caller]
fn all_get(clients: &mut [Wire], status: u16) {
    for client in clients {
        assert_eq!(client.response().expect("an answer").status(), status);
    }
}

#[test]
fn who_waits_for_an_endpoint_that_a_reload_replaces_goes_to_the_new_one() {
    for mode in ["l7", "l4"] {
        let (old, new) = (held(), Server::start());
        let strata = Strata::start(&over(mode, &[&old], ONE_EACH));
        let (mut there, waiters) = with_waiters(&strata, &[&old], 2);
        reload(&strata, &over(mode, &[&new], ONE_EACH));
        for mut waiter in waiters {
            // At l4 the place is free once the connection is gone.
            assert_eq!(waiter.response().expect("an answer while the old one holds its own").status(), 200, "{mode}");
        }
        assert_eq!((old.requests(), new.requests()), (1, 2), "{mode}");
        release(&old);
        all_get(&mut there, 200);
    }
}

#[test]
fn who_waits_takes_the_room_that_a_reload_makes() {
    for mode in ["l7", "l4"] {
        for limits in [&ONE_EACH.replace("max_requests = 1", "max_requests = 3"), ""] {
            let server = held();
            let strata = Strata::start(&over(mode, &[&server], ONE_EACH));
            let (mut there, mut waiters) = with_waiters(&strata, &[&server], 2);
            reload(&strata, &over(mode, &[&server], limits));
            await_that(&format!("{mode} {limits}: all three are there"), || server.requests() == 3);
            // And whoever comes where there are no limits any more is not told of any.
            let mut late = (limits.is_empty()).then(|| asking(&strata));
            release(&server);
            all_get(&mut there, 200);
            all_get(&mut waiters, 200);
            all_get(late.as_mut_slice(), 200);
            assert_eq!(waiting(&strata), 0.0);
        }
    }
}

#[test]
fn who_waits_keeps_out_of_an_endpoint_that_is_drained_or_removed_meanwhile() {
    for drained in [true, false] {
        let (leaves, stays) = (held(), held());
        let strata = Strata::start(&over("l7", &[&leaves, &stays], ONE_EACH));
        let (mut there, mut waiters) = with_waiters(&strata, &[&leaves, &stays], 1);
        if drained {
            assert_eq!(ask(&strata, &["drain", "web", &leaves.name()]).code, 0);
        } else {
            reload(&strata, &over("l7", &[&stays], ONE_EACH));
        }
        release(&leaves);
        // Whichever of the two is there: one answer comes, and leaves a place that is nobody's.
        await_that("what was there finishes", || leaves.knobs.busy.load(Relaxed) == 0);
        let answered = |wire: &mut Wire| wire.is_readable_within(Duration::from_millis(10));
        await_that("its client has the answer", || {
            there.iter_mut().filter_map(|w| answered(w).then_some(())).count() == 1
        });
        assert!(!answered(&mut waiters[0]), "drained: {drained}");
        assert_eq!((leaves.requests(), waiting(&strata)), (1, 1.0), "drained: {drained}");
        release(&stays);
        all_get(&mut there, 200);
        all_get(&mut waiters, 200);
        assert_eq!((leaves.requests(), stays.requests()), (1, 2), "drained: {drained}");
    }
}

#[test]
fn who_waits_where_the_last_endpoint_is_drained_is_told_at_once() {
    for mode in ["l7", "l4"] {
        let server = held();
        let strata = Strata::start(&over(mode, &[&server], ONE_EACH));
        let before = strata.scrape();
        let (mut there, mut waiters) = with_waiters(&strata, &[&server], 3);
        assert_eq!(ask(&strata, &["drain", "web", &server.name()]).code, 0);
        for waiter in &mut waiters {
            if mode == "l7" {
                assert_eq!(reason(waiter), (503, "no-endpoint".to_owned()));
            } else {
                assert!(waiter.response().is_err(), "it is reset");
            }
        }
        strata.counted(&before, "no-endpoint", 3.0).unwrap();
        release(&server);
        all_get(&mut there, 200);
    }
}

#[test]
fn who_waits_in_a_pool_that_a_reload_removes_is_still_served_there() {
    let (old, new) = (held(), Server::start());
    let strata = Strata::start(&over("l7", &[&old], ONE_EACH));
    let (mut there, mut waiters) = with_waiters(&strata, &[&old], 2);
    reload(&strata, &over_pool("l7", "other", &[&new], ONE_EACH));
    assert_eq!(strata.ask(GET).status(), 200);
    assert_eq!(new.requests(), 1, "what comes now goes to the new pool");
    release(&old);
    all_get(&mut there, 200);
    all_get(&mut waiters, 200);
    assert_eq!((old.requests(), new.requests()), (3, 1), "what drains is finished");
}

/// For long enough that every worker has looked.
#[track_caller]
pub fn await_more_probes(strata: &Strata, server: &Server) {
    let probes = || strata.scrape().sum("strata_probes_total", &[("endpoint", &server.name())]);
    let before = probes();
    await_that("three more probes", || probes() >= before + 3.0);
}

/// As `over` l7, with a probe that finds an endpoint down in a moment.
fn probed(servers: &[&Server]) -> String {
    over("l7", servers, PROBE)
}

/// A request that waits at `server`, the pool's only endpoint, which has gone down meanwhile.
fn stranded(server: &Server) -> (Strata, Wire) {
    let strata = Strata::start(&probed(&[server]));
    await_usable(&strata, "web", 1.0);
    let client = asking(&strata);
    await_that("it waits", || server.requests() == 1);
    server.knobs.mute.store(true, Relaxed);
    await_that("it is down", || is_out(&strata, server, "down"));
    (strata, client)
}

#[test]
fn who_waits_at_an_endpoint_that_is_down_goes_to_whom_a_reload_brings() {
    let (stalls, new) = (held(), Server::start());
    let (strata, mut client) = stranded(&stalls);
    reload(&strata, &probed(&[&stalls, &new]));
    assert_eq!(client.response().expect("an answer").status(), 200);
    assert_eq!((stalls.requests(), new.requests()), (1, 1));
    stalls.knobs.mute.store(false, Relaxed);
    release(&stalls);
}

#[test]
fn who_waits_at_an_endpoint_that_is_down_is_not_given_to_one_that_a_reload_took_away() {
    let (stalls, goes) = (held(), Server::start());
    let strata = Strata::start(&probed(&[&stalls, &goes]));
    await_usable(&strata, "web", 2.0);
    let mut clients = Vec::new();
    await_that("one waits", || {
        clients.push(asking(&strata));
        stalls.requests() > 0
    });
    reload(&strata, &probed(&[&stalls]));
    let before = goes.requests();
    stalls.knobs.mute.store(true, Relaxed);
    await_that("it is down", || is_out(&strata, &stalls, "down"));
    // Several looks: a budget that is paid for nothing would be a request that fails.
    await_more_probes(&strata, &stalls);
    stalls.knobs.mute.store(false, Relaxed);
    release(&stalls);
    all_get(&mut clients, 200);
    assert_eq!(goes.requests(), before);
}

#[test]
fn who_waits_at_an_endpoint_that_is_down_moves_although_it_is_maintained_meanwhile() {
    let (stalls, well) = (held(), Server::start());
    let (strata, mut client) = stranded(&stalls);
    await_more_probes(&strata, &stalls);
    assert_eq!(ask(&strata, &["maintain", "web", &stalls.name()]).code, 0);
    await_that("it is not found down any more", || !health(&strata, &stalls, "down"));
    reload(&strata, &probed(&[&stalls, &well]));
    assert_eq!(client.response().expect("an answer").status(), 200);
    assert_eq!((stalls.requests(), well.requests()), (1, 1));
    stalls.knobs.mute.store(false, Relaxed);
    release(&stalls);
}
