//! Many clients at once: connections that stay, connections that come and go, and who answered them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::common::holds_within;
use super::node::Node;
use super::talk::Talk;
use super::world::Family;

/// How many each endpoint has.
pub fn shares<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for name in names {
        *count.entry(name.to_owned()).or_default() += 1;
    }
    count
}

/// Connections of both families that are open all the time, each transferring whenever its turn comes; and beside them one
/// after the other that comes, transfers and goes.
pub struct Crowd {
    stop: AtomicBool,
    /// How often each hand has seen all of its connections.
    rounds: Vec<AtomicU64>,
}

/// What became of a connection that stays.
pub struct Held {
    pub endpoint: String,
    /// Whom the endpoint believes to be talking to.
    pub peer: Option<SocketAddr>,
    pub transfers: u64,
    pub broken: Option<String>,
}

/// A connection that came and went.
pub struct Visit {
    pub began: Instant,
    /// Who answered.
    pub outcome: Result<String, String>,
}

/// What became of all.
pub struct Outcome {
    pub held: Vec<Held>,
    pub visits: Vec<Visit>,
}

impl Crowd {
    /// Opens `count` connections from `host` to the VIPs and has all of them transfer, while `work` goes on, and once after it.
    pub fn during(host: &Node, count: usize, work: impl FnOnce(&Crowd)) -> Outcome {
        let crowd = Crowd { stop: AtomicBool::new(false), rounds: (0..HANDS).map(|_| AtomicU64::new(0)).collect() };
        thread::scope(|scope| {
            let hands: Vec<_> = (0..HANDS)
                .map(|hand| {
                    let crowd = &crowd;
                    scope.spawn(move || crowd.hold(host, hand, count))
                })
                .collect();
            let visits = {
                // Stops them also when `work` fails.
                let _stop = Stop(&crowd.stop);
                crowd.await_rounds(1);
                let visitor = scope.spawn(|| crowd.visit(host));
                work(&crowd);
                visitor
            };
            let held = hands.into_iter().flat_map(|hand| hand.join().expect("a hand")).collect();
            Outcome { held, visits: visits.join().expect("the visitor") }
        })
    }

    /// Waits until each connection has transferred from here on.
    #[track_caller]
    pub fn await_transfers(&self) {
        // The first of these rounds may have begun before.
        self.await_rounds(2);
    }

    #[track_caller]
    fn await_rounds(&self, more: u64) {
        let rounds = || self.rounds.iter().map(|rounds| rounds.load(Relaxed));
        let wanted: Vec<u64> = rounds().map(|rounds| rounds + more).collect();
        let all = || rounds().zip(&wanted).all(|(rounds, wanted)| rounds >= *wanted);
        assert!(holds_within(ROUND, all), "waited {ROUND:?} for every connection to transfer");
    }

    fn hold(&self, host: &Node, hand: usize, count: usize) -> Vec<Held> {
        let mut talks: Vec<(Option<Talk>, Held)> =
            (hand..count).step_by(HANDS).map(|index| open(host, Family::BOTH[index / HANDS % 2])).collect();
        loop {
            let last = self.stop.load(Relaxed);
            for (talk, held) in &mut talks {
                let Some(open) = talk else { continue };
                match open.exchange(UP, DOWN) {
                    Ok(answer) => {
                        held.transfers += 1;
                        (held.endpoint, held.peer) = (answer.name, Some(answer.peer));
                    }
                    Err(error) => {
                        held.broken = Some(error.to_string());
                        *talk = None;
                    }
                }
            }
            self.rounds[hand].fetch_add(1, Relaxed);
            if last {
                return talks.into_iter().map(|(_, held)| held).collect();
            }
        }
    }

    fn visit(&self, host: &Node) -> Vec<Visit> {
        let mut visits = Vec::new();
        while !self.stop.load(Relaxed) {
            let (began, vip) = (Instant::now(), Family::BOTH[visits.len() % 2].vip());
            let answer = Talk::open_within(host, 0, vip, PATIENCE).and_then(|mut talk| talk.exchange(UP, DOWN));
            let outcome = answer.map(|answer| answer.name).map_err(|error| error.to_string());
            visits.push(Visit { began, outcome });
            // Beside many others on few cores: a core must be left to them.
            thread::sleep(PAUSE);
        }
        visits
    }
}

impl Outcome {
    /// Those that broke.
    pub fn broken(&self) -> Vec<&Held> {
        self.held.iter().filter(|held| held.broken.is_some()).collect()
    }

    /// Visits that failed.
    pub fn turned_away(&self) -> Vec<&Visit> {
        self.visits.iter().filter(|visit| visit.outcome.is_err()).collect()
    }

    /// For the log, and for a failure's message.
    pub fn summary(&self) -> String {
        let transfers: u64 = self.held.iter().map(|held| held.transfers).sum();
        let broken = self.broken();
        let mut text = format!(
            "{} connections, {transfers} transfers, {} broken; {} came and went, {} failed",
            self.held.len(),
            broken.len(),
            self.visits.len(),
            self.turned_away().len(),
        );
        for held in broken.iter().take(5) {
            text += &format!("\n  broken on {}: {}", held.endpoint, held.broken.as_deref().unwrap_or_default());
        }
        for visit in self.turned_away().iter().take(5) {
            text += &format!("\n  failed: {:?}", visit.outcome);
        }
        text
    }
}

fn open(host: &Node, family: Family) -> (Option<Talk>, Held) {
    let held = Held { endpoint: String::new(), peer: None, transfers: 0, broken: None };
    match Talk::open_within(host, 0, family.vip(), PATIENCE) {
        Ok(talk) => (Some(talk), held),
        Err(error) => (None, Held { broken: Some(format!("connect: {error}")), ..held }),
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Threads that hold connections, each one transfer at a time.
const HANDS: usize = 8;
/// Bytes of one transfer: several segments to the client, one from it.
const UP: u64 = 1000;
const DOWN: u64 = 5000;
const PAUSE: Duration = Duration::from_millis(5);
/// Where nobody forwards for longer than five seconds, TCP tries again in the seventh, the thirteenth and the twenty-sixth.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than a thousand transfers take in a debug build beside other tests, with a few that time out.
const ROUND: Duration = Duration::from_secs(120);
