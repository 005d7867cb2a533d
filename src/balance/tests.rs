//! Engine: what every algorithm must do, whoever wrote it: the whole catalogue against the same properties.

use proptest::prelude::*;

use super::*;
use crate::doc::Value;

pub(super) const KEY: HashKey = HashKey::new(*b"an example key..");

pub(super) fn members(weights: &[u16]) -> Vec<Member> {
    let member = |(i, &weight): (usize, &u16)| Member {
        identity: KEY.mix(i as u64, 0xadd7),
        weight: Weight::new(u64::from(weight)).unwrap(),
        load: Arc::default(),
    };
    weights.iter().enumerate().map(member).collect()
}

pub(super) fn build(name: &str, members: &[Member], fields: &[(&'static str, Value)]) -> Box<dyn Picker> {
    let spec = find(name).unwrap();
    let mut settings = Settings::defaults(&spec.grammar);
    for (field, value) in fields {
        assert!(spec.grammar.fields.iter().any(|known| known.name == *field), "{name} has no {field}");
        settings.values.insert(field, value.clone());
    }
    (spec.build)(&settings, members, KEY)
}

fn pick(picker: &dyn Picker, members: &[Member], seed: (u64, u64), now: Moment, tried: &[u16]) -> Option<usize> {
    let tried: Tried = tried.iter().copied().collect();
    picker.pick(members, &Pick { hash: FlowHash(seed.0), now, entropy: seed.1, tried: &tried })
}

/// One pick with that much entropy.
pub(super) fn pick_with(picker: &dyn Picker, members: &[Member], entropy: u64, tried: &[u16]) -> Option<usize> {
    pick(picker, members, (0, entropy), Moment::ZERO, tried)
}

pub(super) fn pick_at(
    picker: &dyn Picker,
    members: &[Member],
    entropy: u64,
    now: Moment,
    tried: &[u16],
) -> Option<usize> {
    pick(picker, members, (0, entropy), now, tried)
}

pub(super) fn pick_hash(picker: &dyn Picker, members: &[Member], hash: u64, tried: &[u16]) -> Option<usize> {
    pick(picker, members, (hash, 0), Moment::ZERO, tried)
}

pub(super) fn picks(picker: &dyn Picker, members: &[Member], n: usize) -> Vec<usize> {
    (0..n).map(|i| pick_with(picker, members, i as u64, &[]).unwrap()).collect()
}

/// The settings under which an algorithm promises shares within 2 %: a ring needs many points for that.
fn even(name: &str) -> Vec<(&'static str, Value)> {
    if name == "ring-hash" { vec![("replicas", Value::Integer(24_576))] } else { vec![] }
}

/// Settings that build quickly where weights are large and many pools are built.
fn small(name: &str) -> Vec<(&'static str, Value)> {
    if name == "ring-hash" { vec![("replicas", Value::Integer(1))] } else { vec![] }
}

fn shares_are_kept(name: &str) {
    // Shares of 1/40 and more: below that, 10^6 random picks cannot tell 2 % from chance.
    let twenty = (0..20).map(|i| 1 + i % 3).collect();
    let slow = ["rendezvous", "ring-hash", "least-connections"].contains(&name);
    let cases = if slow { vec![twenty] } else { vec![twenty, vec![1_u16, 2, 4]] };
    for weights in cases {
        let members = members(&weights);
        let picker = build(name, &members, &even(name));
        let mut counts = vec![0_u32; members.len()];
        let (mut rng, tried) = (fastrand::Rng::with_seed(3), Tried::new());
        for _ in 0..1_000_000 {
            // Distinct keys, but for luck of one in 10^7.
            let hash = FlowHash(rng.u64(..));
            let pick = Pick { hash, now: Moment::ZERO, entropy: rng.u64(..), tried: &tried };
            counts[picker.pick(&members, &pick).unwrap()] += 1;
        }
        let total: u16 = weights.iter().sum();
        for (i, &weight) in weights.iter().enumerate() {
            let want = 1e6 * f64::from(weight) / f64::from(total);
            let off = f64::from(counts[i]) / want - 1.0;
            assert!(off.abs() <= 0.02, "{name}: member {i} is {:.2} % off: {counts:?} for {weights:?}", off * 100.0);
        }
    }
}

macro_rules! shares {
    ($($test:ident $name:literal)*) => { $(
        #[test]
        fn $test() {
            shares_are_kept($name);
        }
    )* };
}

// One test each, so that they run side by side.
shares! {
    weighted_round_robin_keeps_shares_over_a_million_picks "weighted-round-robin"
    random_keeps_shares_over_a_million_picks "random"
    least_connections_keeps_shares_over_a_million_picks "least-connections"
    p2c_keeps_shares_over_a_million_picks "p2c"
    source_hash_keeps_shares_over_a_million_keys "source-hash"
    ring_hash_keeps_shares_over_a_million_keys "ring-hash"
    rendezvous_keeps_shares_over_a_million_keys "rendezvous"
    maglev_keeps_shares_over_a_million_keys "maglev"
}

#[test]
fn a_ring_of_default_size_is_as_even_as_its_points_allow() {
    let members = members(&[1; 20]);
    let picker = build("ring-hash", &members, &[]);
    let mut counts = [0_u32; 20];
    (0..200_000).for_each(|n| counts[pick_hash(&*picker, &members, KEY.mix(n, 0), &[]).unwrap()] += 1);
    // Four standard deviations of 1/√256 each.
    assert!(counts.iter().all(|count| count.abs_diff(10_000) < 2_500), "{counts:?}");
}

#[test]
fn only_the_keys_of_the_member_that_leaves_move() {
    for name in ["rendezvous", "ring-hash"] {
        for weights in [vec![1; 2], vec![1, 2, 3], vec![1; 20], vec![900, 1000, 3, 500]] {
            let all = members(&weights);
            let before = build(name, &all, &[]);
            for gone in [0, weights.len() - 1] {
                let mut rest = all.clone();
                rest.remove(gone);
                let after = build(name, &rest, &[]);
                let mut moved = 0;
                for n in 0..5_000 {
                    let hash = KEY.mix(n, 1);
                    let old = pick_hash(&*before, &all, hash, &[]).unwrap();
                    let new = pick_hash(&*after, &rest, hash, &[]).unwrap();
                    if old == gone {
                        moved += 1;
                        let next = pick_hash(&*before, &all, hash, &[u16::try_from(gone).unwrap()]).unwrap();
                        let (next, new) = (all[next].identity, rest[new].identity);
                        assert_eq!(next, new, "{name}: a retry goes where the key will live");
                    } else {
                        assert_eq!(
                            all[old].identity, rest[new].identity,
                            "{name} {weights:?}: key {n} moved for nothing"
                        );
                    }
                }
                assert!(moved > 0, "{name}: {gone} had keys");
            }
        }
    }
}

#[test]
fn an_empty_pool_is_an_explicit_answer() {
    for spec in CATALOG {
        let picker = build(spec.grammar.name, &[], &[]);
        assert_eq!(pick(&*picker, &[], (u64::MAX, 5), Moment::ZERO, &[]), None, "{}", spec.grammar.name);
        assert_eq!(pick(&*picker, &[], (0, 0), Moment::ZERO, &[0, 1]), None, "{}", spec.grammar.name);
    }
}

#[test]
fn names_are_unique_found_and_in_their_own_examples() {
    for spec in CATALOG {
        let name = spec.grammar.name;
        assert_eq!(CATALOG.iter().filter(|other| other.grammar.name == name).count(), 1, "{name}");
        assert!(std::ptr::eq(find(name).unwrap(), spec));
        assert!(spec.grammar.example.contains(&format!("\"{name}\"")), "{name}: {}", spec.grammar.example);
        if let Counts::With(setting) = spec.uses.load {
            assert!(spec.grammar.fields.iter().any(|field| field.name == setting), "{name} has no {setting}");
        }
    }
    assert!(find("roundrobin").is_none());
}

#[test]
fn a_ring_counts_nothing_until_its_load_is_bounded() {
    let spec = find("ring-hash").unwrap();
    let mut settings = Settings::defaults(&spec.grammar);
    assert!(!spec.counts(&settings));
    settings.values.insert("load_factor", Value::Number(1.25));
    assert!(spec.counts(&settings));
    let of = |name| find(name).map(|spec: &Spec| spec.counts(&Settings::defaults(&spec.grammar)));
    assert_eq!((of("p2c"), of("maglev")), (Some(true), Some(false)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn never_a_tried_member_while_another_is_left(
        weights in prop::collection::vec(1_u16..=1000, 1..20),
        tried in prop::collection::vec(0_u16..20, 0..24),
        in_flight in prop::collection::vec(0_u32..4, 20),
        seeds in prop::collection::vec(any::<(u64, u64)>(), 8),
    ) {
        let members = members(&weights);
        for (member, &n) in members.iter().zip(&in_flight) {
            (0..n).for_each(|_| member.load.begin());
        }
        let left = (0..weights.len()).any(|i| !tried.contains(&u16::try_from(i).unwrap()));
        for spec in CATALOG {
            let name = spec.grammar.name;
            let mut fields = small(name);
            if name == "ring-hash" {
                fields.push(("load_factor", Value::Number(1.25)));
            }
            let picker = build(name, &members, &fields);
            for &seed in &seeds {
                match pick(&*picker, &members, seed, Moment::ZERO, &tried) {
                    Some(i) => {
                        prop_assert!(i < members.len(), "{}: {} of {}", name, i, members.len());
                        prop_assert!(!tried.contains(&u16::try_from(i).unwrap()), "{}: {} was tried", name, i);
                    }
                    None => prop_assert!(!left, "{}: somebody is left", name),
                }
            }
            // Walking on visits everybody once.
            let mut walked = Vec::new();
            while let Some(i) = pick(&*picker, &members, seeds[0], Moment::ZERO, &walked) {
                walked.push(u16::try_from(i).unwrap());
                prop_assert!(walked.len() <= members.len());
            }
            prop_assert_eq!(walked.len(), members.len(), "{} leaves somebody out", name);
        }
    }

    #[test]
    fn nodes_that_list_the_same_members_differently_agree(
        weights in prop::collection::vec(1_u16..=1000, 2..20),
        shuffle in any::<u64>(),
        hashes in prop::collection::vec(any::<u64>(), 32),
    ) {
        let here = members(&weights);
        let mut there = here.clone();
        fastrand::Rng::with_seed(shuffle).shuffle(&mut there);
        let index_there = |i: usize| {
            u16::try_from(there.iter().position(|member| member.identity == here[i].identity).unwrap()).unwrap()
        };
        for spec in CATALOG.iter().filter(|spec| spec.uses.hash) {
            let fields = small(spec.grammar.name);
            let (a, b) = (build(spec.grammar.name, &here, &fields), build(spec.grammar.name, &there, &fields));
            prop_assert_eq!(a.fingerprint(), b.fingerprint());
            for &hash in &hashes {
                let first = pick_hash(&*a, &here, hash, &[]).unwrap();
                prop_assert_eq!(pick_hash(&*b, &there, hash, &[]), Some(usize::from(index_there(first))));
                let second = pick_hash(&*a, &here, hash, &[u16::try_from(first).unwrap()]).unwrap();
                let second_there = pick_hash(&*b, &there, hash, &[index_there(first)]);
                prop_assert_eq!(second_there, Some(usize::from(index_there(second))), "{} on a retry", spec.grammar.name);
            }
        }
    }
}
