//! Endpoints' containers are killed, stopped, paused and made anew under load in the worlds of packets: a connection is lost only with
//! its own endpoint, and surely where that endpoint's process ends. Of those of one that is paused some may live on: they are counted, and
//! nothing is asked of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::common::wire::Wire;
use super::engine::{Project, await_that, can, docker};

/// Connections that are kept, each asking again and again for as long as it is answered.
struct Talk {
    stop: Arc<AtomicBool>,
    talkers: Vec<Talker>,
}

struct Talker {
    /// Who answers it.
    name: String,
    answers: Arc<AtomicU64>,
    lost: JoinHandle<Result<(), String>>,
}

const CONNECTIONS: usize = 30;

impl Talk {
    /// From this host, which the worlds' networks take for one of their clients.
    fn start(vip: SocketAddr) -> Talk {
        let stop = Arc::new(AtomicBool::new(false));
        let talkers = (0..CONNECTIONS).map(|_| Talker::start(vip, &stop)).collect();
        Talk { stop, talkers }
    }

    fn of(&self, name: &str) -> usize {
        self.talkers.iter().filter(|talker| talker.name == name).count()
    }

    /// Until every connection but those of `name` has had so many answers more, or is lost.
    fn await_more(&self, answers: u64, name: &str) {
        let others = || self.talkers.iter().filter(|talker| talker.name != name);
        let want: Vec<u64> = others().map(|talker| talker.answers.load(Relaxed) + answers).collect();
        await_that("connections are answered", || {
            others().zip(&want).all(|(talker, want)| talker.lost.is_finished() || talker.answers.load(Relaxed) >= *want)
        });
    }

    /// Ends them all. How many of `name` were lost; one of another is a failure.
    fn stop(self, name: &str) -> usize {
        self.stop.store(true, Relaxed);
        let mut lost = 0;
        for talker in self.talkers {
            match talker.lost.join().expect("a talker") {
                Err(_) if talker.name == name => lost += 1,
                Err(why) => panic!("a connection of {} was lost with {name}: {why}", talker.name),
                Ok(()) => {}
            }
        }
        lost
    }
}

impl Talker {
    fn start(vip: SocketAddr, stop: &Arc<AtomicBool>) -> Talker {
        let mut wire = Wire::connect(vip);
        let name = ask(&mut wire).expect("an endpoint answers");
        let (answers, stop) = (Arc::new(AtomicU64::new(0)), stop.clone());
        let (known, counted) = (name.clone(), answers.clone());
        let lost = thread::spawn(move || {
            while !stop.load(Relaxed) {
                let answerer = ask(&mut wire)?;
                if answerer != known {
                    return Err(format!("{answerer} answers"));
                }
                counted.fetch_add(1, Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        });
        Talker { name, answers, lost }
    }
}

/// Who answers on this connection.
fn ask(wire: &mut Wire) -> Result<String, String> {
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = wire.response().map_err(|broken| format!("{broken:?}"))?;
    answer.field("x-endpoint").ok_or_else(|| answer.head_text())
}

/// What is done to the container of a service: its name there, and its id.
type Act<'a> = &'a dyn Fn(&Project, &str, &str);

fn only_its_own_are_lost(profile: &str, vip: &str) {
    let Some(_one) = can(&format!("deaths of endpoints in the world of {profile}")) else { return };
    let project = Project::new();
    let strata = format!("{profile}-strata");
    let endpoint = |number: usize| format!("{profile}-endpoint-{number}");
    let all = [1, 2, 3].map(endpoint);
    let mut up = vec!["up", "--detach", &strata];
    up.extend(all.iter().map(String::as_str));
    project.compose(&up);
    all.iter().chain([&strata]).for_each(|service| project.await_healthy(service));
    let vip: SocketAddr = format!("{}.{vip}:8080", project.variable("STRATA_NET")).parse().unwrap();
    let serve = |count: usize| {
        let status: serde_json::Value =
            serde_json::from_str(&project.strata(&strata, &["status", "--json"])).expect("JSON");
        let endpoints = status["pools"][0]["endpoints"].as_array().expect("endpoints");
        endpoints.iter().filter(|endpoint| endpoint["health"] == "up").count() == count
    };
    await_that("all three serve", || serve(3));
    let start: Act = &|_, _, id| drop(docker(&["start", id]));
    let cases: [(&str, usize, Act, Act); 4] = [
        ("killed", 1, &|_, _, id| drop(docker(&["kill", id])), start),
        ("stopped", 2, &|_, _, id| drop(docker(&["stop", id])), start),
        ("paused", 3, &|_, _, id| drop(docker(&["pause", id])), &|_, _, id| drop(docker(&["unpause", id]))),
        ("made anew", 1, &|_, _, id| drop(docker(&["rm", "--force", id])), &|project, service, _| {
            drop(project.compose(&["up", "--detach", "--no-recreate", service]));
        }),
    ];
    for (what, number, goes, comes) in cases {
        let name = format!("{profile}-{number}");
        let talk = Talk::start(vip);
        let own = talk.of(&name);
        assert!((1..CONNECTIONS).contains(&own), "{own} of {CONNECTIONS} connections are {name}'s");
        let (service, id) = (endpoint(number), project.container(&endpoint(number)));
        goes(&project, &service, &id);
        await_that(&format!("{name} serves no more, {what}"), || serve(2));
        talk.await_more(100, &name);
        comes(&project, &service, &id);
        await_that(&format!("{name} serves again, {what}"), || serve(3));
        talk.await_more(100, &name);
        let lost = talk.stop(&name);
        println!("{name} was {what}: {lost} of its {own} connections were lost, and none of {}", CONNECTIONS - own);
        // Whoever was paused knows its connections still.
        assert!(what == "paused" || lost == own, "{lost} of {own} of {name}, {what}");
    }
    assert_eq!(project.down(), "", "something is left");
}

#[test]
fn l2_loses_only_the_connections_of_an_endpoint_that_dies() {
    only_its_own_are_lost("l2", "2.100");
}

#[test]
fn l3_loses_only_the_connections_of_an_endpoint_that_dies() {
    only_its_own_are_lost("l3", "3.100");
}
