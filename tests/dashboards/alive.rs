//! A real Prometheus scrapes a real Strata that carries every kind of traffic: every query has an answer, no alert fires while all
//! is well, those that should fire when something breaks, and what left the file leaves the dashboards.

use std::collections::BTreeMap;
use std::time::Duration;

use super::asked::{Wanted, wanted};
use super::common::{holds_within, skip};
use super::node::can;
use super::prometheus::Prometheus;
use super::site::{ECHOES, Site, body};

/// Prometheus starts in seconds, and longer where everything else runs beside it.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_real_prometheus_answers_every_query_and_fires_what_it_should() {
    if !can("Prometheus beside Strata") {
        return;
    }
    if !Prometheus::is_here() {
        return skip("Prometheus beside Strata", "prometheus is not installed (Debian: prometheus)");
    }
    let Some(wanted) = wanted() else { return };
    let mut site = Site::new();
    let prometheus = Prometheus::start(&site.world.balancer, site.strata.metrics);

    // All is well: nothing fires but what always does.
    await_firing(&site, &prometheus, &["Watchdog"]);
    let failing = prometheus.failing_rules();
    assert!(failing.is_empty(), "{failing:?}");

    // Things break: an endpoint dies, an interface goes, somebody writes a wrong file.
    drop(site.echoes.pop());
    site.world.balancer.ip("link del eth1");
    assert!(!site.reload("[service.site]\nmode = \"l8\"\n"), "a wrong file was taken");
    let broken = [
        "StrataEndpointDown",
        "StrataInterfaceUnserved",
        "StrataPacketsNotCarried",
        "StrataReloadFailed",
        "StrataVipNotOwned",
        "Watchdog",
    ];
    let firing = await_firing(&site, &prometheus, &broken);
    let said = format!("{firing:?}");
    for words in [ECHOES[1], "eth1", "spare"] {
        assert!(said.contains(words), "no message says {words}: {said}");
    }
    assert!(!said.contains("<no value>") && !said.contains("error"), "{said}");
    answered(&site, &prometheus, wanted);

    // What leaves the file leaves the dashboards, and takes its alerts along.
    let gone = [
        format!("strata_endpoint_state{{endpoint=\"{}\"}}", ECHOES[1]),
        "{__name__=~\"strata_.+\",service=\"spare\"}".to_owned(),
        "{__name__=~\"strata_.+\",pool=\"spare\"}".to_owned(),
        "{__name__=~\"strata_.+\",vip=\"spare\"}".to_owned(),
        "{__name__=~\"strata_.+\",interface=\"eth1\"}".to_owned(),
    ];
    let mut missing = Vec::new();
    let there = || {
        missing = gone.iter().filter(|query| !prometheus.query(query).is_ok_and(|series| !series.is_empty())).collect();
        missing.is_empty()
    };
    // A scrape that comes too late has none of them for a moment.
    assert!(holds_within(PATIENCE, there), "no series to lose: {missing:?}");
    assert!(site.reload(&body(&ECHOES[..1], false)), "{}", site.strata.log_tail());
    let mut left = Vec::new();
    let vanish = || {
        left = gone.iter().filter(|query| !prometheus.query(query).is_ok_and(|series| series.is_empty())).collect();
        left.is_empty()
    };
    assert!(holds_within(PATIENCE, vanish), "series outlive their object: {left:?}");
    await_firing(&site, &prometheus, &["Watchdog"]);
}

/// Waits until each of `wanted` has had an answer that is a number, with the labels that texts take from it, while traffic goes on.
fn answered(site: &Site, prometheus: &Prometheus, mut wanted: Vec<Wanted>) {
    assert!(wanted.len() > 180, "{}", wanted.len());
    let all_are = || {
        if let Err(error) = site.talks() {
            panic!("{error}\n{}", site.strata.log_tail());
        }
        wanted.retain(|wanted| !prometheus.query(&wanted.query).is_ok_and(|series| wanted.is_answered(&series)));
        wanted.is_empty()
    };
    let right = holds_within(PATIENCE, all_are);
    let shown = |wanted: &Wanted| {
        let answer = prometheus.query(&wanted.query).map(|series| series.into_iter().take(3).collect::<Vec<_>>());
        format!("{}: {}\n    wants {:?}, gets {answer:?}", wanted.place, wanted.query, wanted.labels)
    };
    assert!(right, "no answer for\n{}", wanted.iter().map(shown).collect::<Vec<_>>().join("\n"));
}

/// Waits until these alerts fire and no others, while traffic goes on. What they said then.
fn await_firing(site: &Site, prometheus: &Prometheus, names: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut firing = BTreeMap::new();
    let right = holds_within(PATIENCE, || {
        // One that meets what has just broken may fail.
        let _ = site.talks();
        // Rules judge what was scraped.
        let scraped = prometheus.query("min(count_over_time(up{job=\"strata\"}[10s])) > 5");
        firing = prometheus.firing();
        let others = firing.keys().filter(|name| !names.contains(&name.as_str()));
        scraped.is_ok_and(|series| !series.is_empty())
            && names.iter().all(|name| firing.contains_key(*name))
            && others.into_iter().all(|name| name == MAY)
    });
    assert!(right, "not {names:?} fire: {firing:?}");
    firing
}

/// Requests that met the endpoint when it died, before its probe did, are errors of it, for as long as rates look back.
const MAY: &str = "StrataEndpointErrors";
