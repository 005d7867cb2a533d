//! Tests of the world: single steps, and any course of events against an engine that is only imagined.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::facts;
use super::*;

fn id(n: u8) -> Id {
    Id::parse(&format!("{n:064x}")).unwrap()
}

fn container(n: u8, labels: &[(&str, &str)]) -> Container {
    let mut read = facts::container(format!(r#"{{"Id":"{}","Name":"/c{n}"}}"#, id(n).as_str()).as_bytes()).unwrap();
    read.state = State::Running;
    read.created = u64::from(n);
    read.labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    read
}

fn listed(one: &Container) -> Listed {
    Listed { id: one.id.clone(), name: one.name.clone(), labels: one.labels.clone() }
}

fn failed(words: &str) -> Answer {
    Answer::Failed(Failure::new(Trouble::Silent, words))
}

fn event(n: u8, what: What, time: u64) -> Event {
    Event { id: id(n), what, time, labels: BTreeMap::new() }
}

const OURS: &[(&str, &str)] = &[("strata.pool", "web")];
const NOW: Moment = Moment::from_millis(1_000_000);

/// A world that knows `containers`.
fn knowing(containers: &[Container]) -> World {
    let mut world = World::new("strata.", Vec::new());
    let list: Vec<Listed> = containers.iter().map(listed).collect();
    world.listed(&list);
    while let Some(id) = world.next(NOW) {
        let one = containers.iter().find(|one| one.id == id);
        world.answered(&id, one.map_or(Answer::Gone, |one| Answer::Is(Box::new(one.clone()))), NOW);
    }
    world
}

fn standings(world: &World) -> Vec<(String, Standing)> {
    world.containers().into_iter().map(|(one, standing)| (one.name.to_string(), standing)).collect()
}

#[test]
fn only_containers_with_our_labels_are_asked_for_oldest_first() {
    let mut old = container(9, OURS);
    old.created = 0;
    let near = container(3, &[("strataX", "1"), ("strat.pool", "web"), ("stratb", "")]);
    let world = knowing(&[container(1, OURS), near, container(2, &[]), old]);
    assert_eq!(standings(&world), [("c9".to_owned(), Standing::Serving), ("c1".to_owned(), Standing::Serving)]);
    assert!(world.get(&id(3)).is_none() && world.settled());
}

#[test]
fn one_that_cannot_be_looked_at_is_let_go_when_it_is_removed_or_runs_no_more() {
    let (one, other) = (container(1, OURS), container(2, OURS));
    let unknown = |world: &World| world.unknown().map(|name| name.to_string()).collect::<Vec<_>>();
    for goes in ["removed", "not listed"] {
        let mut world = knowing(std::slice::from_ref(&other));
        world.listed(&[listed(&one), listed(&other)]);
        while let Some(id) = world.next(NOW) {
            let answer = if id == one.id { failed("status 403") } else { Answer::Is(Box::new(other.clone())) };
            world.answered(&id, answer, NOW);
        }
        assert_eq!(unknown(&world), ["c1"]);
        match goes {
            "removed" => assert!(world.happened(&event(1, What::Gone, 0), NOW)),
            _ => world.listed(&[listed(&other)]),
        }
        assert_eq!(unknown(&world), Vec::<String>::new(), "{goes}");
        assert_eq!(standings(&world), [("c2".to_owned(), Standing::Serving)], "{goes}");
    }
}

#[test]
fn a_container_serves_when_it_runs_and_its_health_check_has_passed() {
    for (state, health, want) in [
        (State::Running, Health::Unchecked, Some(Standing::Serving)),
        (State::Running, Health::Healthy, Some(Standing::Serving)),
        (State::Running, Health::Starting, Some(Standing::Out("its health check has not passed yet"))),
        (State::Running, Health::Unhealthy, Some(Standing::Out("its health check fails"))),
        (State::Paused, Health::Healthy, Some(Standing::Out("it is paused"))),
        (State::Stopping, Health::Healthy, Some(Standing::Leaving)),
        (State::Stopped, Health::Unchecked, None),
    ] {
        let world = knowing(&[Container { state, health, ..container(1, OURS) }]);
        let got = standings(&world).pop().map(|(_, standing)| standing);
        assert_eq!(got, want, "{state:?} {health:?}");
    }
}

#[test]
fn a_stop_signal_makes_it_leave_at_once_and_other_signals_do_not() {
    for (signal, stop_signal, leaves) in
        [(15, 15, true), (9, 15, true), (3, 3, true), (15, 3, true), (1, 15, false), (10, 15, false), (3, 15, false)]
    {
        let mut world = knowing(&[Container { stop_signal, ..container(1, OURS) }]);
        assert_eq!(world.happened(&event(1, What::Signal(signal), 5), NOW), leaves, "{signal}");
        let want = if leaves { Standing::Leaving } else { Standing::Serving };
        assert_eq!(standings(&world)[0].1, want, "{signal} {stop_signal}");
    }
}

#[test]
fn one_that_outlives_its_stop_signal_serves_again_and_one_that_starts_anew_at_once() {
    let one = Container { started: 10, stop_timeout: Duration::from_secs(30), ..container(1, OURS) };
    let mut world = knowing(std::slice::from_ref(&one));
    world.happened(&event(1, What::Signal(15), 20), NOW);
    let until = world.due().unwrap();
    assert_eq!(until.since(NOW), Duration::from_secs(35));
    // That it still runs is no news.
    let asked = world.next(NOW).unwrap();
    assert!(!world.answered(&asked, Answer::Is(Box::new(one.clone())), NOW));
    assert!(!world.pass(NOW + Duration::from_secs(34)));
    assert_eq!(standings(&world)[0].1, Standing::Leaving);
    assert!(world.pass(until));
    assert_eq!((standings(&world)[0].1, world.due()), (Standing::Serving, None));

    // As `docker stop -t 60`, of which nothing is told but the signal.
    world.may_drain(Duration::from_secs(60));
    world.happened(&event(1, What::Signal(15), 20), NOW);
    assert_eq!(world.due().map(|until| until.since(NOW)), Some(Duration::from_secs(60)));
    let asked = world.next(NOW).unwrap();
    assert!(world.answered(&asked, Answer::Is(Box::new(Container { started: 25, ..one })), NOW));
    assert_eq!(standings(&world)[0].1, Standing::Serving);
}

#[test]
fn what_happened_in_an_earlier_life_is_no_news() {
    let mut world = knowing(&[Container { started: 100, ..container(1, OURS) }]);
    assert!(!world.happened(&event(1, What::Signal(15), 99), NOW));
    assert!(!world.happened(&event(1, What::Ended, 99), NOW));
    assert_eq!(standings(&world)[0].1, Standing::Serving);
    assert!(world.happened(&event(1, What::Ended, 101), NOW));
    assert_eq!(standings(&world), []);
}

#[test]
fn an_answer_that_may_be_older_than_an_event_is_not_believed() {
    let one = container(1, OURS);
    let mut world = knowing(std::slice::from_ref(&one));
    world.happened(&event(1, What::Changed, 5), NOW);
    let asked = world.next(NOW).unwrap();
    assert!(world.happened(&event(1, What::Ended, 6), NOW));
    // It ran when the question was asked.
    assert!(!world.answered(&asked, Answer::Is(Box::new(one.clone())), NOW));
    assert_eq!(standings(&world), []);
    let asked = world.next(NOW).unwrap();
    world.happened(&event(1, What::Gone, 7), NOW);
    assert!(!world.answered(&asked, Answer::Is(Box::new(one)), NOW));
    assert_eq!((standings(&world), world.settled()), (vec![], true));
}

#[test]
fn an_answer_of_no_use_keeps_what_is_known_and_is_asked_for_again() {
    let one = container(1, OURS);
    let mut world = knowing(std::slice::from_ref(&one));
    world.happened(&event(1, What::Changed, 5), NOW);
    let asked = world.next(NOW).unwrap();
    assert!(world.answered(&asked, failed("no answer"), NOW));
    assert_eq!(standings(&world)[0].1, Standing::Serving);
    assert_eq!(world.troubles().map(|(_, why)| why.to_owned()).collect::<Vec<_>>(), ["no answer"]);
    assert_eq!((world.next(NOW), world.due()), (None, Some(NOW + ASK_AGAIN)));
    let later = NOW + ASK_AGAIN;
    assert_eq!(world.next(later), Some(asked.clone()));
    // Of somebody else: the same.
    assert!(world.answered(&asked, Answer::Is(Box::new(container(2, OURS))), later));
    let later = later + ASK_AGAIN;
    let asked = world.next(later).unwrap();
    assert!(world.answered(&asked, Answer::Is(Box::new(one)), later));
    assert_eq!(world.troubles().count(), 0);
}

#[test]
fn the_container_whose_network_another_uses_is_asked_for_too() {
    let mut world = knowing(&[Container { attachment: Attachment::Of(id(7)), ..container(1, OURS) }]);
    // `knowing` said that it is gone; it is asked for again with the next answer about the one that uses it.
    assert!(world.get(&id(7)).is_none());
    world.happened(&event(1, What::Changed, 0), NOW);
    let asked = world.next(NOW).unwrap();
    let user = Container { attachment: Attachment::Of(id(7)), ..container(1, OURS) };
    world.answered(&asked, Answer::Is(Box::new(user)), NOW);
    assert_eq!(world.next(NOW), Some(id(7)));
    world.answered(&id(7), Answer::Is(Box::new(container(7, &[]))), NOW);
    assert!(world.get(&id(7)).is_some());
    assert_eq!(standings(&world).len(), 1);
}

#[test]
fn our_own_container_is_known_by_its_id() {
    let mut world = World::new("strata.", vec!["0".repeat(63), format!("{:064x}", 5)]);
    world.listed(&[5, 0x15].map(|n| listed(&container(n, &[]))));
    let asked = world.next(NOW).unwrap();
    world.answered(&asked, Answer::Is(Box::new(container(5, &[]))), NOW);
    assert_eq!(world.own().map(|own| &*own.name), Some("c5"));
    assert_eq!((standings(&world), world.settled()), (vec![], true));
}

#[test]
fn what_does_not_fit_is_counted() {
    let mut world = World::new("strata.", Vec::new());
    let listed = |n: usize| Listed {
        id: Id::parse(&format!("{n:064x}")).unwrap(),
        name: "c".into(),
        labels: BTreeMap::from([("strata.pool".to_owned(), String::new())]),
    };
    let list: Vec<Listed> = (0..limits::DOCKER_CONTAINERS + 3).map(listed).collect();
    world.listed(&list);
    assert_eq!((world.entries.len(), world.left_out()), (limits::DOCKER_CONTAINERS, 3));
    // Containers, and not what happens to them.
    let mut event = Event { id: listed(limits::DOCKER_CONTAINERS + 7).id, ..event(0, What::Changed, 0) };
    event.labels = listed(0).labels;
    for _ in 0..3 {
        world.happened(&event, NOW);
    }
    assert_eq!(world.left_out(), 4);
    event.what = What::Gone;
    world.happened(&event, NOW);
    assert_eq!(world.left_out(), 3);
    world.listed(&list[..2]);
    assert_eq!(world.left_out(), 0);
}

#[test]
fn one_that_has_ended_is_forgotten_with_the_next_list_and_takes_nobodys_place() {
    let all: Vec<Container> = (1..=5).map(|n| container(n, OURS)).collect();
    let lender = Attachment::Of(all[3].id.clone());
    let all: Vec<Container> = all.into_iter().chain([Container { attachment: lender, ..container(6, OURS) }]).collect();
    let mut world = knowing(&all);
    let end = |world: &mut World, n: u8| {
        world.happened(&event(n, What::Ended, 9), NOW);
        while let Some(asked) = world.next(NOW) {
            let mut one = all.iter().find(|one| one.id == asked).unwrap().clone();
            one.state = State::Stopped;
            world.answered(&asked, Answer::Is(Box::new(one)), NOW);
        }
    };
    // 1 and 4 have ended, and 6 uses the network of 4; 2 has ended just now, and is asked for; 3 is started again while a list is made.
    [1, 3, 4].into_iter().for_each(|n| end(&mut world, n));
    world.happened(&event(2, What::Ended, 9), NOW);
    world.happened(&event(3, What::Changed, 10), NOW);
    world.listed(&[5, 6].map(|n| listed(&container(n, OURS))));
    let known: Vec<Id> = world.entries.keys().cloned().collect();
    assert_eq!(known, [2, 3, 4, 5, 6].map(id));
    // It is heard of when it starts again.
    world.happened(&Event { labels: container(1, OURS).labels, ..event(1, What::Changed, 11) }, NOW);
    assert!(world.entries.contains_key(&id(1)) && world.wanted.contains(&id(1)));
}

#[test]
fn one_of_which_nothing_is_known_may_be_whom_another_process_knew_but_for_a_minute_only() {
    let unseen = |world: &World| world.unseen().map(|name| name.to_string()).collect::<Vec<_>>();
    let borrows = |n: u8| Container { attachment: Attachment::Of(id(2)), ..container(n, OURS) };
    let paused = Container { state: State::Paused, ..borrows(4) };
    let all = [container(1, OURS), container(2, OURS), borrows(3), paused];
    let mut world = World::new("strata.", Vec::new());
    world.listed(&all.each_ref().map(listed));
    let ask = |world: &mut World, answers: &[u8], now: Moment| {
        while let Some(asked) = world.next(now) {
            let one = all.iter().find(|one| one.id == asked && answers.contains(&(one.created as u8)));
            let answer = one.map_or_else(|| failed("403"), |one| Answer::Is(Box::new(one.clone())));
            world.answered(&asked, answer, now);
        }
    };
    ask(&mut world, &[1, 3, 4], NOW);
    // With the one whose network it uses; but one that is paused serves nowhere.
    assert_eq!(unseen(&world), ["c2", "c3"]);
    let (before, until) = (NOW + Duration::from_millis(59_999), NOW + Duration::from_secs(60));
    // Its answers stay of no use, and one that was known stays so.
    world.happened(&event(1, What::Changed, 9), before);
    ask(&mut world, &[3, 4], before);
    assert!(!world.pass(before) && world.due().is_some_and(|due| due <= until));
    assert_eq!(unseen(&world), ["c2", "c3"]);
    assert!(world.pass(until) && world.has_unknown());
    ask(&mut world, &[1, 3, 4], until + ASK_AGAIN);
    assert!(!world.pass(until + ASK_AGAIN));
    assert_eq!(unseen(&world), Vec::<String>::new());
    // And one that answers is known.
    let mut world = World::new("strata.", Vec::new());
    world.listed(&all.each_ref().map(listed));
    ask(&mut world, &[3, 4], NOW);
    assert_eq!(unseen(&world), ["c1", "c2", "c3"]);
    ask(&mut world, &[1, 2, 3, 4], NOW + ASK_AGAIN);
    assert_eq!(unseen(&world), Vec::<String>::new());
}

/// What an engine and the way from it to us may do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start(u8),
    Signal(u8, u8),
    End(u8),
    Remove(u8),
    Pause(u8),
    Unpause(u8),
    Health(u8, u8),
    Connect(u8),
    /// One of the events under way comes, and perhaps not for the last time.
    Deliver(usize, bool),
    Ask,
    /// One of the questions under way is answered, as it was when it was asked.
    Answer(usize),
    Fail(usize),
    List,
    Wait(u16),
    /// Everything under way is lost, and there is a new connection.
    Cut,
}

/// An engine, and what is under way between it and a world.
struct Play {
    world: World,
    engine: BTreeMap<Id, Container>,
    removed: BTreeSet<Id>,
    events: VecDeque<Event>,
    answers: Vec<(Id, Option<Container>)>,
    now: Moment,
    time: u64,
}

impl Play {
    fn new() -> Play {
        let world = World::new("strata.", Vec::new());
        let (engine, removed) = (BTreeMap::new(), BTreeSet::new());
        Play { world, engine, removed, events: VecDeque::new(), answers: Vec::new(), now: NOW, time: 1 }
    }

    fn list(&self) -> Vec<Listed> {
        let runs = |one: &&Container| one.state != State::Stopped;
        self.engine.values().filter(runs).map(listed).collect()
    }

    fn happens(&mut self, n: u8, what: What) {
        self.time += 1;
        let labels = self.engine.get(&id(n)).map(|one| one.labels.clone()).unwrap_or_default();
        self.events.push_back(Event { id: id(n), what, time: self.time, labels });
    }

    fn running(&mut self, n: u8, change: impl FnOnce(&mut Container), what: What) {
        if let Some(one) = self.engine.get_mut(&id(n)).filter(|one| one.state != State::Stopped) {
            change(one);
            self.happens(n, what);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start(n) if !self.removed.contains(&id(n)) => {
                self.time += 1;
                let labels = if n % 4 == 3 { &[][..] } else { OURS };
                let one = self.engine.entry(id(n)).or_insert_with(|| container(n, labels));
                (one.state, one.health, one.started) = (State::Running, Health::Unchecked, self.time);
                self.happens(n, What::Changed);
            }
            Step::Start(_) => {}
            Step::Signal(n, signal) => self.running(n, |_| (), What::Signal(signal)),
            Step::End(n) => self.running(n, |one| one.state = State::Stopped, What::Ended),
            Step::Remove(n) => {
                let labels = self.engine.remove(&id(n)).map(|one| one.labels);
                if let Some(labels) = labels {
                    self.time += 1;
                    self.removed.insert(id(n));
                    self.events.push_back(Event { id: id(n), what: What::Gone, time: self.time, labels });
                }
            }
            Step::Pause(n) => self.running(n, |one| one.state = State::Paused, What::Changed),
            Step::Unpause(n) => self.running(n, |one| one.state = State::Running, What::Changed),
            Step::Health(n, health) => {
                let health = [Health::Starting, Health::Healthy, Health::Unhealthy][usize::from(health % 3)];
                self.running(n, |one| one.health = health, What::Changed);
            }
            Step::Connect(n) => {
                let (name, before) = (self.time.to_string(), self.events.len());
                let joins = |one: &mut Container| one.networks.extend([(name, facts::Addresses::default())]);
                self.running(n, joins, What::Changed);
                if let Some(event) = self.events.get_mut(before) {
                    event.labels.clear();
                }
            }
            Step::Deliver(nth, again) if !self.events.is_empty() => {
                let nth = nth % self.events.len();
                let event = self.events[nth].clone();
                if !again {
                    self.events.remove(nth);
                }
                self.world.happened(&event, self.now);
            }
            Step::Ask => {
                if let Some(id) = self.world.next(self.now) {
                    let as_it_is = self.engine.get(&id).cloned();
                    self.answers.push((id, as_it_is));
                }
            }
            Step::Answer(nth) if !self.answers.is_empty() => {
                let nth = nth % self.answers.len();
                let (id, as_it_was) = self.answers.swap_remove(nth);
                let answer = as_it_was.map_or(Answer::Gone, |one| Answer::Is(Box::new(one)));
                self.world.answered(&id, answer, self.now);
            }
            Step::Fail(nth) if !self.answers.is_empty() => {
                let nth = nth % self.answers.len();
                let (id, _) = self.answers.swap_remove(nth);
                self.world.answered(&id, failed("lost"), self.now);
            }
            Step::Deliver(..) | Step::Answer(_) | Step::Fail(_) => {}
            Step::List => self.world.listed(&self.list()),
            Step::Wait(ms) => {
                self.now = self.now + Duration::from_millis(ms.into());
                self.world.pass(self.now);
            }
            Step::Cut => {
                self.events.clear();
                self.answers.clear();
                self.world.reconnected();
                self.world.listed(&self.list());
            }
        }
    }

    /// All that is under way arrives, and time passes.
    fn settle(&mut self) {
        for round in 0..100_000 {
            assert!(round < 99_999, "it does not come to rest: {:?}", self.world);
            if !self.events.is_empty() {
                self.step(Step::Deliver(0, false));
            } else if !self.answers.is_empty() {
                self.step(Step::Answer(0));
            } else if !self.world.wanted.is_empty() {
                self.step(Step::Ask);
            } else if let Some(due) = self.world.due() {
                self.now = due;
                self.world.pass(due);
                self.step(Step::Ask);
            } else {
                return;
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let n = || 0_u8..8;
    let nth = || 0_usize..16;
    prop_oneof![
        4 => n().prop_map(Step::Start),
        2 => (n(), prop_oneof![Just(15_u8), Just(1), Just(9)]).prop_map(|(n, signal)| Step::Signal(n, signal)),
        2 => n().prop_map(Step::End),
        1 => n().prop_map(Step::Remove),
        1 => n().prop_map(Step::Pause),
        1 => n().prop_map(Step::Unpause),
        2 => (n(), 0_u8..3).prop_map(|(n, health)| Step::Health(n, health)),
        1 => n().prop_map(Step::Connect),
        8 => (nth(), proptest::bool::weighted(0.2)).prop_map(|(nth, again)| Step::Deliver(nth, again)),
        8 => Just(Step::Ask),
        8 => nth().prop_map(Step::Answer),
        1 => nth().prop_map(Step::Fail),
        1 => Just(Step::List),
        1 => (0_u16..20_000).prop_map(Step::Wait),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Events late, twice, out of order or lost with their connection: in the end all is as a fresh list has it.
    #[test]
    fn any_course_of_events_ends_as_a_fresh_list_has_it(steps in proptest::collection::vec(any_step(), 0..120)) {
        let mut play = Play::new();
        play.step(Step::Cut);
        for step in steps {
            play.step(step);
        }
        play.settle();
        let fresh = knowing(&play.engine.values().filter(|one| one.state != State::Stopped).cloned().collect::<Vec<_>>());
        prop_assert_eq!(play.world.containers(), fresh.containers());
    }
}
