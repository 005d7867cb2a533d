//! Engine: the state machine by table, then whole pools in a seeded simulation beside a shadow that keeps history, not counters.

use std::time::Duration;

use fastrand::Rng;

use super::schedule::Start;
use super::*;
use crate::base::Moment;

const S: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

fn rules(probed: bool) -> Rules {
    Rules {
        probe: probed.then_some(ProbeRules { rise: 2, fall: 3 }),
        outlier: OutlierRules::default(),
        damping: DampingRules::default(),
    }
}

/// Two others that could take over.
const PEERS: Peers = Peers { ready: 2, ejected: 0, usable: 2 };

/// An event in one word, and the time in ms. Probes begin when they are reported, but for `old`, which began at 0.
fn event(word: &str, now: Moment) -> Event {
    let why = || "connect refused".into();
    match word {
        "pass" => Event::ProbeSucceeded { began: now },
        "old-pass" => Event::ProbeSucceeded { began: Moment::ZERO },
        "fail" => Event::ProbeFailed { began: now, why: why() },
        "old-fail" => Event::ProbeFailed { began: Moment::ZERO, why: why() },
        "cannot" => Event::ProbeImpossible { why: "no device".into() },
        "tick" => Event::Tick,
        "ready" => Event::SetIntent(Intent::Ready),
        "drain" => Event::SetIntent(Intent::Draining),
        "maintain" => Event::SetIntent(Intent::Maintenance),
        "alone" => connects(9, Peers::default()),
        _ => connects(word.strip_prefix('c').unwrap().parse().unwrap(), PEERS),
    }
}

fn connects(in_a_row: u32, peers: Peers) -> Event {
    Event::TrafficFailed { trouble: Trouble::Connects { in_a_row }, trial: false, peers }
}

#[test]
fn the_machine_goes_where_the_drawing_says() {
    use Health::{Down, Ejected, Probing, Up};
    for (name, probed, events, want) in [
        ("an endpoint without a probe is up at once", false, vec![], vec![]),
        (
            "without a probe, results of an old one change nothing",
            false,
            vec![(1, "fail"), (2, "fail"), (3, "fail")],
            vec![],
        ),
        ("the first pass brings it up", true, vec![(1, "pass")], vec![Up]),
        ("the first failure takes it down", true, vec![(1, "fail")], vec![Down]),
        (
            "what cannot be probed is taken to be up, in time",
            true,
            vec![(1, "cannot"), (2, "cannot"), (3, "cannot"), (4, "cannot")],
            vec![Up],
        ),
        (
            "a failure in between decides",
            true,
            vec![(1, "cannot"), (2, "cannot"), (3, "fail"), (4, "cannot")],
            vec![Down],
        ),
        (
            "what is known stays known while it cannot be probed",
            true,
            vec![(1, "pass"), (2, "fail"), (3, "fail"), (4, "cannot"), (5, "cannot"), (6, "cannot"), (7, "fail")],
            vec![Up, Down],
        ),
        (
            "a failure or two are forgiven",
            true,
            vec![(1, "pass"), (2, "fail"), (3, "fail"), (4, "pass"), (5, "fail")],
            vec![Up],
        ),
        ("three in a row take it down", true, vec![(1, "pass"), (2, "fail"), (3, "fail"), (4, "fail")], vec![Up, Down]),
        (
            "one pass is not enough to come back",
            true,
            vec![(1, "fail"), (2, "pass"), (3, "fail"), (4, "pass")],
            vec![Down],
        ),
        ("two passes in a row are", true, vec![(1, "fail"), (2, "pass"), (3, "pass")], vec![Down, Up]),
        ("connects that fail eject", false, vec![(1, "c1"), (2, "c2"), (3, "c3")], vec![Ejected]),
        ("too few do not", false, vec![(1, "c1"), (2, "c2")], vec![]),
        ("it is ejected once", false, vec![(1, "c3"), (2, "c4"), (3, "c5")], vec![Ejected]),
        ("the last usable one stays", false, vec![(1, "alone")], vec![]),
        ("an endpoint not yet judged is ejected as well", true, vec![(1, "c3")], vec![Ejected]),
        ("one that is down stays down", true, vec![(1, "fail"), (2, "c3")], vec![Down]),
        ("a tick too early changes nothing", false, vec![(1, "c3"), (10_000, "tick")], vec![Ejected]),
        ("without a probe it returns in time", false, vec![(1, "c3"), (10_001, "tick")], vec![Ejected, Up]),
        (
            "with a probe that never answered it is on probation",
            true,
            vec![(1, "pass"), (2, "c3"), (10_002, "tick"), (10_003, "fail")],
            vec![Up, Ejected, Probing, Down],
        ),
        (
            "with a pass it returns in time",
            true,
            vec![(1, "pass"), (2, "c3"), (3, "pass"), (10_002, "tick")],
            vec![Up, Ejected, Up],
        ),
        (
            "a failure after the pass puts it on probation",
            true,
            vec![(1, "pass"), (2, "c3"), (3, "pass"), (4, "fail"), (10_002, "tick")],
            vec![Up, Ejected, Probing],
        ),
        (
            "passes bring it back early",
            true,
            vec![(1, "pass"), (2, "c3"), (3, "pass"), (4, "pass")],
            vec![Up, Ejected, Up],
        ),
        (
            "but not those that began before",
            true,
            vec![(1, "pass"), (2, "c3"), (3, "old-pass"), (4, "old-pass"), (5, "old-pass")],
            vec![Up, Ejected],
        ),
        (
            "failed probes show that it is down",
            true,
            vec![(1, "pass"), (2, "c3"), (3, "fail"), (4, "fail"), (5, "fail"), (10_002, "tick")],
            vec![Up, Ejected, Down],
        ),
        (
            "draining goes on judging",
            true,
            vec![(1, "pass"), (2, "drain"), (3, "fail"), (4, "fail"), (5, "fail")],
            vec![Up, Up, Down],
        ),
        ("what drains is not ejected", true, vec![(1, "pass"), (2, "drain"), (3, "c9")], vec![Up, Up]),
        (
            "maintenance forgets and hears nothing",
            true,
            vec![(1, "pass"), (2, "maintain"), (3, "pass"), (4, "fail"), (5, "c9"), (6, "ready"), (7, "pass")],
            vec![Up, Probing, Probing, Up],
        ),
        (
            "a probe from before maintenance ended says nothing",
            true,
            vec![(1, "pass"), (2, "maintain"), (3, "ready"), (4, "old-pass"), (5, "old-fail")],
            vec![Up, Probing, Probing],
        ),
        ("maintenance ends an ejection", false, vec![(1, "c3"), (2, "maintain"), (3, "ready")], vec![Ejected, Up, Up]),
        ("what is wanted already changes nothing", true, vec![(1, "ready")], vec![]),
    ] {
        let mut machine = Machine::new(rules(probed));
        let mut seen = Vec::new();
        for (ms, word) in events {
            let before = (machine.intent(), machine.health());
            let transition = machine.handle(event(word, at(ms)), at(ms));
            let after = (machine.intent(), machine.health());
            assert_eq!(
                transition.as_ref().map(|t| (t.from, t.to)),
                (before != after).then_some((before, after)),
                "{name}"
            );
            seen.extend(transition.map(|transition| transition.to.1));
        }
        assert_eq!(seen, want, "{name}");
    }
}

#[test]
fn a_transition_says_why() {
    for (events, want) in [
        (vec!["pass"], "probe passed"),
        (vec!["fail"], "probe failed: connect refused"),
        (vec!["c4"], "4 connects in a row failed"),
        (vec!["drain"], "operator"),
        (vec!["c3", "late-tick"], "ejection over"),
    ] {
        let mut machine = Machine::new(rules(true));
        let mut last = None;
        for word in events {
            let (word, now) = if word == "late-tick" { ("tick", at(60_000)) } else { (word, at(1)) };
            last = machine.handle(event(word, now), now);
        }
        assert_eq!(last.unwrap().cause.to_string(), want);
    }
}

#[test]
fn ejections_that_follow_each_other_last_longer_and_are_forgotten_in_time() {
    let mut machine = Machine::new(rules(false));
    let mut now = at(1000);
    let mut eject = |now: &mut Moment, pause: Duration| {
        *now = *now + pause;
        machine.handle(event("c3", *now), *now).unwrap();
        let length = machine.deadline().unwrap().since(*now);
        *now = *now + length;
        assert!(machine.handle(Event::Tick, *now).is_some());
        length.as_secs()
    };
    let lengths: Vec<u64> = (0..8).map(|_| eject(&mut now, S)).collect();
    assert_eq!(lengths, [10, 20, 40, 80, 160, 320, 320, 320]);
    assert_eq!(eject(&mut now, S * 321), 10, "a long good time makes up for it");
}

#[test]
fn changed_rules_keep_what_is_known() {
    let mut machine = Machine::new(rules(true));
    assert!(machine.wants_probes());
    machine.handle(event("fail", at(1)), at(1));
    let strict = Rules { probe: Some(ProbeRules { rise: 1, fall: 1 }), ..rules(true) };
    assert_eq!(machine.set_rules(strict), None);
    assert_eq!(machine.handle(event("pass", at(2)), at(2)).unwrap().to.1, Health::Up);
    assert_eq!(machine.handle(event("fail", at(3)), at(3)).unwrap().to.1, Health::Down);
    let transition = machine.set_rules(rules(false)).unwrap();
    assert_eq!((transition.to.1, transition.cause), (Health::Up, Cause::Configuration), "nobody probes it any more");
    assert!(!machine.wants_probes());
    assert_eq!(machine.set_rules(rules(true)), None, "a probe is new: up until it says otherwise");
    machine.handle(Event::SetIntent(Intent::Maintenance), at(4));
    assert!(!machine.wants_probes());
}

/// The same rules told differently: the results since the state began, judged by their last run, and no counters.
struct Shadow {
    rules: Rules,
    intent: Intent,
    health: Health,
    since: Moment,
    until: Moment,
    results: Vec<bool>,
    /// Every change between in and out of service.
    changes: Vec<Moment>,
    /// Until when it is held down, how often it was of late, and until when that counts.
    hold: Option<Moment>,
    holds: u32,
    remembered: Moment,
}

impl Shadow {
    fn enter(&mut self, health: Health, now: Moment) {
        let serves = |health| matches!(health, Health::Up | Health::Probing);
        let (served, will) = (serves(self.health), serves(health));
        self.begin(health, now);
        if served != will {
            self.changes.push(now);
        }
        let DampingRules { changes, window, hold } = self.rules.damping;
        if !served || will || changes == 0 || self.rules.probe.is_none() {
            return;
        }
        let length = |nth: u32| hold * (1 << nth.min(5));
        if now >= self.remembered {
            self.holds = 0;
        }
        let recent = self.changes.iter().filter(|at| now.since(**at) < window).count();
        if recent >= changes as usize || self.holds > 0 {
            self.health = Health::Down;
            self.hold = Some(now + length(self.holds));
            self.holds += 1;
            self.remembered = now + length(self.holds - 1) + length(self.holds);
        }
    }

    fn begin(&mut self, health: Health, now: Moment) {
        self.health = health;
        self.since = now;
        self.hold = None;
        self.results.clear();
    }

    fn last_are(&self, result: bool, n: u32) -> bool {
        self.results.iter().rev().take_while(|seen| **seen == result).count() >= n as usize
    }

    fn result(&mut self, passed: bool, began: Moment, valid_from: Moment, now: Moment) {
        let Some(probe) = self.rules.probe else { return };
        if self.intent == Intent::Maintenance || began < valid_from {
            return;
        }
        self.results.push(passed);
        if let Some(until) = self.hold.as_mut() {
            if !passed {
                *until = (*until).max(now + self.rules.damping.hold);
            }
            return;
        }
        let rise = if self.health == Health::Probing { 1 } else { probe.rise };
        let fall = if self.health == Health::Probing { 1 } else { probe.fall };
        if self.health != Health::Up && self.last_are(true, rise) {
            self.enter(Health::Up, now);
        } else if self.health != Health::Down && self.last_are(false, fall) {
            self.enter(Health::Down, now);
        }
    }

    fn is_held_well(&self) -> bool {
        self.hold.is_some() && self.rules.probe.is_some_and(|probe| self.last_are(true, probe.rise))
    }

    fn tick(&mut self, now: Moment) {
        if self.hold.is_some_and(|until| now >= until) {
            if self.is_held_well() {
                self.enter(Health::Up, now);
            }
            self.hold = None;
        }
        if self.health == Health::Ejected && now >= self.until {
            let back = if self.rules.probe.is_none() || self.last_are(true, 1) { Health::Up } else { Health::Probing };
            self.enter(back, now);
        }
    }

    fn set_intent(&mut self, intent: Intent, now: Moment) {
        if (self.intent == Intent::Maintenance) != (intent == Intent::Maintenance) {
            self.begin(if self.rules.probe.is_some() { Health::Probing } else { Health::Up }, now);
            self.changes.clear();
            (self.holds, self.remembered) = (0, Moment::ZERO);
        }
        self.intent = intent;
    }
}

/// A server as it is in truth, and what has been done to it.
struct Host {
    alive: bool,
    /// A dead host refuses at once, or answers nothing.
    silent: bool,
    /// Since when it is dead and in service although passive detection might take it out.
    exposed: Option<Moment>,
    /// Since when it is held down, well, and missed.
    missed: Option<Moment>,
    in_a_row: u32,
    machine: Machine,
    shadow: Shadow,
    /// Results of probes that began before this are void: the last ejection or end of maintenance.
    valid_from: Moment,
    probe: Option<(Moment, Moment, bool)>,
}

struct World {
    rng: Rng,
    now: Moment,
    hosts: Vec<Host>,
    schedule: Schedule<usize>,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let probe = rng.u8(..4) > 0;
        let rules = Rules {
            probe: probe.then(|| ProbeRules { rise: rng.u32(1..4), fall: rng.u32(1..4) }),
            outlier: OutlierRules {
                failures: rng.u32(1..5),
                time: S * rng.u32(1..10),
                max_percent: rng.u32(10..=100),
                ..OutlierRules::default()
            },
            damping: DampingRules { changes: rng.u32(..6), window: S * rng.u32(2..20), hold: S * rng.u32(1..4) },
        };
        let host = || Host {
            alive: true,
            silent: false,
            exposed: None,
            missed: None,
            in_a_row: 0,
            machine: Machine::new(rules),
            shadow: Shadow {
                rules,
                intent: Intent::Ready,
                health: if probe { Health::Probing } else { Health::Up },
                since: Moment::ZERO,
                until: Moment::ZERO,
                results: Vec::new(),
                changes: Vec::new(),
                hold: None,
                holds: 0,
                remembered: Moment::ZERO,
            },
            valid_from: Moment::ZERO,
            probe: None,
        };
        let hosts: Vec<Host> = (0..rng.usize(1..8)).map(|_| host()).collect();
        let mut schedule = Schedule::new(rng.usize(1..4));
        if probe {
            for key in 0..hosts.len() {
                schedule.add(key, S, Start::Within(S), Moment::ZERO, rng.u64(..));
            }
        }
        World { rng, now: Moment::ZERO, hosts, schedule, seed }
    }

    fn states(&self) -> Vec<(Intent, Health)> {
        self.hosts.iter().map(|host| (host.machine.intent(), host.machine.health())).collect()
    }

    fn usable(&self) -> Vec<usize> {
        let candidate = |(intent, health): (Intent, Health)| Candidate { intent, health, backup: false, local: false };
        let candidates: Vec<Candidate> = self.states().into_iter().map(candidate).collect();
        select(&candidates, &Placement::default()).members
    }

    fn peers(&self, of: usize) -> Peers {
        let states = self.states();
        Peers::of(states.into_iter().enumerate().filter(|(i, _)| *i != of).map(|(_, state)| state))
    }

    /// Ten milliseconds.
    fn step(&mut self) {
        self.now = self.now + S / 100;
        self.fate();
        self.operator();
        self.probes();
        for i in 0..self.hosts.len() {
            let now = self.now;
            self.hosts[i].shadow.tick(now);
            if self.hosts[i].machine.deadline().is_some_and(|deadline| deadline <= now) {
                let held = self.hosts[i].machine.held(now).is_some();
                let transition = self.hosts[i].machine.handle(Event::Tick, now);
                // A hold may end without an end of what is wrong.
                assert!(transition.is_some() || held, "seed {}: an idle tick", self.seed);
                assert!(self.hosts[i].machine.deadline().is_none(), "seed {}: it ticks on", self.seed);
            }
        }
        self.traffic();
        self.check();
    }

    fn fate(&mut self) {
        if self.rng.u16(..400) == 0 {
            let i = self.rng.usize(..self.hosts.len());
            let silent = self.rng.bool();
            let host = &mut self.hosts[i];
            (host.alive, host.silent) = (!host.alive, silent);
        }
    }

    fn operator(&mut self) {
        if self.rng.u16(..800) == 0 {
            let i = self.rng.usize(..self.hosts.len());
            let intent = Intent::ALL[self.rng.usize(..3)];
            let host = &mut self.hosts[i];
            if (host.machine.intent() == Intent::Maintenance) != (intent == Intent::Maintenance) {
                host.valid_from = self.now;
            }
            host.machine.handle(Event::SetIntent(intent), self.now);
            host.shadow.set_intent(intent, self.now);
        }
    }

    fn probes(&mut self) {
        for i in 0..self.hosts.len() {
            let host = &mut self.hosts[i];
            let Some((began, ends, passes)) = host.probe.filter(|(_, ends, _)| *ends <= self.now) else { continue };
            host.probe = None;
            self.schedule.done(i, ends, self.rng.u64(..));
            let event = match passes {
                true => Event::ProbeSucceeded { began },
                false => Event::ProbeFailed { began, why: "timeout after 500ms".into() },
            };
            host.machine.handle(event, self.now);
            host.shadow.result(passes, began, host.valid_from, self.now);
            let peers = self.peers(i);
            let host = &mut self.hosts[i];
            assert_eq!(host.machine.is_held_well(), host.shadow.is_held_well(), "seed {}", self.seed);
            if host.machine.is_held_well() {
                host.machine.handle(Event::Spare { peers }, self.now);
                if !host.shadow.rules.outlier.can_spare(peers) {
                    host.shadow.enter(Health::Up, self.now);
                }
            }
        }
        while let Some(i) = self.schedule.take(self.now) {
            let host = &mut self.hosts[i];
            assert!(host.probe.is_none(), "seed {}: two probes of one endpoint at once", self.seed);
            let lasts = if host.alive || !host.silent { S / 50 } else { S / 2 };
            host.probe = Some((self.now, self.now + lasts, host.alive));
        }
    }

    /// One connection, retried on others as the data path does; silence is as quick as a refusal here.
    fn traffic(&mut self) {
        let mut left = self.usable();
        self.rng.shuffle(&mut left);
        for i in left.into_iter().take(3) {
            let peers = self.peers(i);
            let host = &mut self.hosts[i];
            if host.alive {
                host.in_a_row = 0;
                return;
            }
            host.in_a_row += 1;
            if host.machine.handle(connects(host.in_a_row, peers), self.now).is_some() {
                self.ejected(i, peers);
            }
        }
    }

    fn ejected(&mut self, i: usize, peers: Peers) {
        let seed = self.seed;
        let outlier = self.hosts[i].shadow.rules.outlier;
        assert!(peers.usable > 0, "seed {seed}: the last usable endpoint was ejected");
        let share = f64::from(peers.ejected) / f64::from(peers.ready + 1);
        assert!(share * 100.0 < f64::from(outlier.max_percent), "seed {seed}: {share} of the pool were out already");
        let host = &mut self.hosts[i];
        assert!(host.in_a_row >= outlier.failures, "seed {seed}");
        let until = host.machine.deadline().unwrap();
        let length = until.since(self.now);
        host.shadow.enter(Health::Ejected, self.now);
        (host.shadow.until, host.valid_from) = (until, self.now);
        // Held down instead where it flaps.
        let shortest = if host.shadow.hold.is_some() { host.shadow.rules.damping.hold } else { outlier.time };
        assert!(length >= shortest && length <= shortest * 32, "seed {seed}: {length:?}");
        self.schedule.hasten(i, self.now);
    }

    fn check(&mut self) {
        let (seed, now, usable) = (self.seed, self.now, self.usable());
        for i in 0..self.hosts.len() {
            let peers = self.peers(i);
            let host = &mut self.hosts[i];
            let seen = (host.machine.intent(), host.machine.health());
            assert_eq!(seen, (host.shadow.intent, host.shadow.health), "seed {seed}, host {i} at {now:?}");
            let outlier = host.shadow.rules.outlier;
            let exposed = usable.contains(&i)
                && !host.alive
                && outlier.ejects(Trouble::Connects { in_a_row: outlier.failures }, false, peers);
            let in_service = matches!(seen.1, Health::Up | Health::Probing);
            host.exposed = (exposed && in_service).then(|| host.exposed.unwrap_or(now));
            assert_eq!(
                host.machine.held(now).is_some(),
                host.shadow.hold.is_some(),
                "seed {seed}, host {i} at {now:?}"
            );
            let missed = usable.is_empty() && host.machine.is_held_well() && seen.0 == Intent::Ready;
            host.missed = missed.then(|| host.missed.unwrap_or(now));
            // The next probe finds out, and each may have to wait for some that are silent.
            let missed = host.missed.map_or(Duration::ZERO, |since| now.since(since));
            assert!(missed < S * 10, "seed {seed}: host {i} is held down and missed for {missed:?} at {now:?}");
            let exposed = host.exposed.map_or(Duration::ZERO, |since| now.since(since));
            assert!(exposed < S, "seed {seed}: host {i} is dead and serves for {exposed:?} at {now:?}");
        }
        let ready = self.hosts.iter().any(|h| h.shadow.intent == Intent::Ready && h.shadow.health != Health::Down);
        assert_eq!(usable.is_empty(), !ready, "seed {seed}: somebody serves while anybody may");
    }
}

#[test]
fn pools_of_dying_and_reviving_hosts_are_judged_as_their_shadows() {
    for seed in 0..256 {
        let mut world = World::new(seed);
        for _ in 0..3000 {
            world.step();
        }
    }
}

#[test]
fn a_killed_endpoint_under_load_is_out_within_a_second() {
    for seed in 0..64 {
        let mut rng = Rng::with_seed(seed);
        // 100 requests a second over three endpoints, one of which is gone.
        let mut machine = Machine::new(rules(true));
        machine.handle(event("pass", at(0)), at(0));
        let (mut now, mut in_a_row) = (at(0), 0);
        while machine.health() == Health::Up {
            now = now + S / 100;
            if rng.u8(..3) == 0 {
                in_a_row += 1;
                machine.handle(connects(in_a_row, PEERS), now);
            }
        }
        assert!(now.since(at(0)) < S, "seed {seed}: {now:?}");
    }
}

#[test]
fn a_flapping_endpoint_is_held_down_until_it_is_quiet() {
    // Two changes make a flapper here; probes are judged one at a time.
    let damping = DampingRules { changes: 3, window: S * 60, hold: S * 10 };
    let rules = Rules { probe: Some(ProbeRules { rise: 1, fall: 1 }), damping, ..rules(true) };
    let mut machine = Machine::new(rules);
    let mut say = |ms: u64, word: &str| {
        let transition = machine.handle(event(word, at(ms)), at(ms));
        let held = machine.held(at(ms)).map(|cause| cause.to_string());
        (transition.map(|t| (t.to.1, t.cause.to_string())), held, machine.deadline())
    };
    use Health::{Down, Up};
    say(0, "pass");
    assert_eq!(say(1000, "fail").0.unwrap().0, Down);
    assert_eq!(say(2000, "pass").0.unwrap().0, Up, "one change back and forth is none too many");
    let (transition, _, deadline) = say(3000, "fail");
    assert_eq!(transition, Some((Down, "held down for 10s: 3 changes in 1m".to_owned())));
    assert_eq!(deadline, Some(at(13_000)));
    assert_eq!(say(4000, "pass").0, None, "however it passes");
    assert_eq!(say(6000, "pass").1.as_deref(), Some("held down for 7s: 3 changes in 1m"));
    assert_eq!(say(8000, "fail").2, Some(at(18_000)), "a failure begins the time anew");
    assert_eq!(say(13_000, "tick").0, None);
    say(14_000, "pass");
    assert_eq!(say(18_000, "tick").0, Some((Up, "hold over".to_owned())));
    let (transition, _, deadline) = say(20_000, "fail");
    assert_eq!(transition.unwrap().0, Down);
    assert_eq!(deadline, Some(at(40_000)), "a relapse is held at once, for twice as long");
    assert_eq!(say(40_000, "tick"), (None, None, None), "its time is over, but it does not pass");
    assert_eq!(say(41_000, "pass").0.unwrap().0, Up);
}

#[test]
fn what_is_held_serves_when_the_pool_needs_it() {
    let damping = DampingRules { changes: 1, window: S * 60, hold: S * 10 };
    let rules = Rules { probe: Some(ProbeRules { rise: 2, fall: 1 }), damping, ..rules(true) };
    let spare = |usable| Event::Spare { peers: Peers { ready: 2, ejected: 0, usable } };
    let mut machine = Machine::new(rules);
    machine.handle(event("pass", at(0)), at(0));
    machine.handle(event("fail", at(1)), at(1)).unwrap();
    assert_eq!(machine.handle(spare(0), at(2)), None, "it is really down");
    machine.handle(event("pass", at(3)), at(3));
    assert!(!machine.is_held_well());
    machine.handle(event("pass", at(4)), at(4));
    assert!(machine.is_held_well());
    assert_eq!(machine.handle(spare(2), at(5)), None, "there are others");
    let transition = machine.handle(spare(1), at(6)).unwrap();
    assert_eq!((transition.to.1, transition.cause), (Health::Up, Cause::Needed));
}

/// I5 of the hardening catalogue: whatever a check does, and however fast.
#[test]
fn i5_a_flapping_check_changes_state_once_a_window_at_most() {
    for seed in 0..64 {
        let mut rng = Rng::with_seed(seed);
        let (rise, fall) = (rng.u32(1..4), rng.u32(1..4));
        let rules = Rules { probe: Some(ProbeRules { rise, fall }), ..rules(true) };
        let window = rules.damping.window;
        let (mut machine, mut now) = (Machine::new(rules), at(0));
        let mut changes: Vec<Moment> = Vec::new();
        // Up and down for as long as it takes to be believed, and a bit.
        let (mut up, mut until) = (true, at(0));
        while now < at(4 * 3600 * 1000) {
            now = now + S;
            if now >= until {
                up = !up;
                until = now + S * rng.u32(if up { rise } else { fall }..15);
            }
            if machine.deadline().is_some_and(|deadline| deadline <= now) {
                changes.extend(machine.handle(Event::Tick, now).map(|_| now));
            }
            changes.extend(machine.handle(event(if up { "pass" } else { "fail" }, now), now).map(|_| now));
        }
        // While it is found out and the hold grows there are more.
        let found_out = changes.partition_point(|change| change.since(at(0)) < S * 1800);
        assert!(found_out < 60, "seed {seed}: {found_out} changes in the first half hour");
        let (later, windows) = (&changes[found_out..], (4 * 3600 - 1800) / window.as_secs());
        assert!((later.len() as u64) < windows, "seed {seed}: {} changes in {windows} windows", later.len());
        for three in later.windows(3) {
            let gap = three[2].since(three[0]);
            assert!(gap >= window, "seed {seed}: more than up and down within {gap:?}");
        }
    }
}
