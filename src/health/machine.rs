//! Engine: the state machine of one endpoint; its drawing stands at the top of the module.
//!
//! The caller reports events with the present time, applies the [`Transition`] it is given, and sends [`Event::Tick`] when
//! [`Machine::deadline`] has come.

use super::damping::{DampingRules, Flaps};
use super::outlier::{DOUBLINGS, OutlierRules, Peers, Trouble};
use super::{Cause, Health, Intent, Transition, Why};
use crate::base::Moment;

/// What the configuration says of how an endpoint is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `None`: not probed.
    pub probe: Option<ProbeRules>,
    pub outlier: OutlierRules,
    pub damping: DampingRules,
}

/// How many results in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeRules {
    pub rise: u32,
    pub fall: u32,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A probe that began at `began` passed.
    ProbeSucceeded {
        began: Moment,
    },
    /// A probe that began at `began` failed.
    ProbeFailed {
        began: Moment,
        why: Why,
    },
    /// A probe could not be made, which says nothing of the endpoint.
    ProbeImpossible {
        why: Why,
    },
    /// Traffic fails there. Workers keep the counts, because only they see successes, and there are too many of those to tell.
    /// `trial`: nothing was answered since the last ejection.
    TrafficFailed {
        trouble: Trouble,
        trial: bool,
        peers: Peers,
    },
    /// Whether a pool with these others can do without an endpoint that is held.
    Spare {
        peers: Peers,
    },
    /// Probes have reached nobody, and it is the prober that is to blame.
    ProberCutOff,
    /// Time has passed.
    Tick,
    SetIntent(Intent),
}

/// One endpoint of one pool.
#[derive(Clone, Debug)]
pub struct Machine {
    rules: Rules,
    intent: Intent,
    state: State,
    /// Probes that began before this are about an endpoint of another time.
    known_from: Moment,
    /// How often it was ejected of late, and until when that counts.
    ejections: u32,
    remembered_until: Moment,
    flaps: Flaps,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// So many probes in a row could not be made.
    Probing {
        impossible: u32,
    },
    Up {
        failed: u32,
    },
    Down {
        passed: u32,
        hold: Option<Hold>,
    },
    Ejected {
        until: Moment,
        passed: u32,
        failed: u32,
    },
}

/// It flaps, and is not let up before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    until: Moment,
    changes: u32,
}

impl State {
    fn health(&self) -> Health {
        match self {
            State::Probing { .. } => Health::Probing,
            State::Up { .. } => Health::Up,
            State::Down { .. } => Health::Down,
            State::Ejected { .. } => Health::Ejected,
        }
    }
}

impl Machine {
    /// An endpoint of which nothing is known yet.
    pub fn new(rules: Rules) -> Machine {
        Machine {
            state: unknown(&rules),
            rules,
            intent: Intent::Ready,
            known_from: Moment::ZERO,
            ejections: 0,
            remembered_until: Moment::ZERO,
            flaps: Flaps::default(),
        }
    }

    pub fn intent(&self) -> Intent {
        self.intent
    }

    pub fn health(&self) -> Health {
        self.state.health()
    }

    /// Whether probes should run: not in maintenance, where the endpoint may be anything.
    pub fn wants_probes(&self) -> bool {
        self.rules.probe.is_some() && self.intent != Intent::Maintenance
    }

    /// When time alone changes something.
    pub fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Ejected { until, .. } | State::Down { hold: Some(Hold { until, .. }), .. } => Some(until),
            _ => None,
        }
    }

    /// For how long it is still held down, and for how many changes; `None`: it is not.
    pub fn held(&self, now: Moment) -> Option<Cause> {
        let State::Down { hold: Some(Hold { until, changes }), .. } = self.state else { return None };
        Some(Cause::Flapping { changes, window: self.rules.damping.window, hold: until.since(now) })
    }

    /// It is held down although its probes pass: worth an [`Event::Spare`].
    pub fn is_held_well(&self) -> bool {
        let rise = self.rules.probe.map_or(1, |probe| probe.rise);
        matches!(self.state, State::Down { passed, hold: Some(_) } if passed >= rise)
    }

    pub fn handle(&mut self, event: Event, now: Moment) -> Option<Transition> {
        let served = self.serves();
        let mut transition = match event {
            Event::SetIntent(intent) => {
                return self.change(Cause::Operator, |machine| machine.set_intent(intent, now));
            }
            Event::Tick => {
                let cause = if self.held(now).is_some() { Cause::HoldOver } else { Cause::EjectionOver };
                self.change(cause, |machine| machine.tick(now))
            }
            _ if self.intent == Intent::Maintenance => None,
            Event::ProbeSucceeded { began } => self.change(Cause::ProbePassed, |machine| machine.passed(began)),
            Event::ProbeFailed { began, why } => {
                self.change(Cause::ProbeFailed(why), |machine| machine.failed(began, now))
            }
            Event::ProbeImpossible { why } => self.change(Cause::ProbeImpossible(why), Machine::impossible),
            Event::TrafficFailed { trouble, trial, peers } => {
                self.change(Cause::Traffic(trouble), |machine| machine.traffic_failed(trouble, trial, peers, now))
            }
            Event::Spare { peers } => self.change(Cause::Needed, |machine| machine.spare(peers)),
            Event::ProberCutOff => self.change(Cause::ProberCutOff, Machine::restore),
        };
        if self.serves() != served {
            self.flaps.note(&self.rules.damping, now);
            if served && let Some(transition) = &mut transition {
                self.damp(transition, now);
            }
        }
        transition
    }

    /// Its health lets it serve, or nobody knows better.
    fn serves(&self) -> bool {
        matches!(self.state, State::Up { .. } | State::Probing { .. })
    }

    /// It has just left service: whether it is held, because it does so too often. Only where a probe can tell that it is well.
    fn damp(&mut self, transition: &mut Transition, now: Moment) {
        if self.rules.probe.is_none() {
            return;
        }
        let Some((until, changes)) = self.flaps.hold(&self.rules.damping, now) else { return };
        self.state = State::Down { passed: 0, hold: Some(Hold { until, changes }) };
        transition.to = (self.intent, self.health());
        transition.cause = Cause::Flapping { changes, window: self.rules.damping.window, hold: until.since(now) };
    }

    /// Takes over changed rules; what is known stays known. An endpoint that is no longer probed counts as up.
    pub fn set_rules(&mut self, rules: Rules) -> Option<Transition> {
        self.change(Cause::Configuration, |machine| {
            machine.rules = rules;
            if rules.probe.is_none() && matches!(machine.state, State::Probing { .. } | State::Down { .. }) {
                machine.state = State::Up { failed: 0 };
            }
        })
    }

    fn change(&mut self, cause: Cause, apply: impl FnOnce(&mut Machine)) -> Option<Transition> {
        let from = (self.intent, self.health());
        apply(self);
        let to = (self.intent, self.health());
        (from != to).then_some(Transition { from, to, cause })
    }

    fn set_intent(&mut self, intent: Intent, now: Moment) {
        if (self.intent == Intent::Maintenance) != (intent == Intent::Maintenance) {
            self.state = unknown(&self.rules);
            self.known_from = now;
            self.ejections = 0;
            self.flaps.forget();
        }
        self.intent = intent;
    }

    fn tick(&mut self, now: Moment) {
        if let State::Down { passed, hold: Some(Hold { until, .. }) } = self.state {
            if now >= until {
                self.state = State::Down { passed, hold: None };
                if self.rules.probe.is_none_or(|probe| passed >= probe.rise) {
                    self.state = State::Up { failed: 0 };
                }
            }
            return;
        }
        let State::Ejected { until, passed, .. } = self.state else { return };
        if now < until {
            return;
        }
        // One passed probe is something; none, with probes running, is not enough to trust it with a share of the traffic.
        self.state = if passed > 0 { State::Up { failed: 0 } } else { unknown(&self.rules) };
        self.returned(until);
    }

    fn passed(&mut self, began: Moment) {
        let Some(ProbeRules { rise, .. }) = self.rules.probe else { return };
        if began < self.known_from {
            return;
        }
        match &mut self.state {
            State::Probing { .. } => self.state = State::Up { failed: 0 },
            State::Up { failed } => *failed = 0,
            State::Down { passed, .. } | State::Ejected { passed, .. } if *passed + 1 < rise => {
                *passed += 1;
                if let State::Ejected { failed, .. } = &mut self.state {
                    *failed = 0;
                }
            }
            State::Down { passed, hold: Some(_) } => *passed = rise,
            State::Down { .. } => self.state = State::Up { failed: 0 },
            State::Ejected { .. } => {
                self.state = State::Up { failed: 0 };
                self.returned(began);
            }
        }
    }

    fn failed(&mut self, began: Moment, now: Moment) {
        let Some(ProbeRules { fall, .. }) = self.rules.probe else { return };
        if began < self.known_from {
            return;
        }
        match &mut self.state {
            State::Probing { .. } => self.state = State::Down { passed: 0, hold: None },
            State::Down { passed, hold } => {
                *passed = 0;
                if let Some(hold) = hold {
                    hold.until = hold.until.max(now + self.rules.damping.hold);
                }
            }
            State::Up { failed } | State::Ejected { failed, .. } if *failed + 1 < fall => {
                *failed += 1;
                if let State::Ejected { passed, .. } = &mut self.state {
                    *passed = 0;
                }
            }
            State::Up { .. } | State::Ejected { .. } => self.state = State::Down { passed: 0, hold: None },
        }
    }

    /// What is known stays as it is. Where nothing is, and nothing will be, an endpoint is what it would be without a probe.
    fn impossible(&mut self) {
        let fall = self.rules.probe.map_or(1, |probe| probe.fall);
        match &mut self.state {
            State::Probing { impossible } if *impossible + 1 < fall => *impossible += 1,
            State::Probing { .. } => self.state = State::Up { failed: 0 },
            State::Up { .. } | State::Down { .. } | State::Ejected { .. } => {}
        }
    }

    fn traffic_failed(&mut self, trouble: Trouble, trial: bool, peers: Peers, now: Moment) {
        let wanted = self.intent == Intent::Ready && matches!(self.state, State::Up { .. } | State::Probing { .. });
        if !wanted || !self.rules.outlier.ejects(trouble, trial, peers) {
            return;
        }
        if now >= self.remembered_until {
            self.ejections = 0;
        }
        self.state = State::Ejected { until: now + self.rules.outlier.length(self.ejections), passed: 0, failed: 0 };
        self.known_from = now;
        self.ejections = (self.ejections + 1).min(DOUBLINGS);
    }

    fn spare(&mut self, peers: Peers) {
        if self.is_held_well() && !self.rules.outlier.can_spare(peers) {
            self.state = State::Up { failed: 0 };
        }
    }

    /// What its probes said was wrong.
    fn restore(&mut self) {
        if matches!(self.state, State::Down { .. }) {
            self.state = State::Up { failed: 0 };
        }
    }

    /// An ejection has ended; another that follows within as long as the next would last counts as the same trouble.
    fn returned(&mut self, at: Moment) {
        self.remembered_until = at + self.rules.outlier.length(self.ejections);
    }
}

/// What an endpoint is when nothing is known of it.
fn unknown(rules: &Rules) -> State {
    if rules.probe.is_some() { State::Probing { impossible: 0 } } else { State::Up { failed: 0 } }
}
