//! Wiring: how long a pick takes for every algorithm at 3, 20 and 1000 members, and how long a Maglev table takes to build.
//!
//! The figures to hold: building Maglev over 1000 members within 5 ms; a pick of `maglev`, `p2c`, `random` and the round robins
//! as long at 1000 members as at 3.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use strata::balance::{CATALOG, Load, Member, Pick, Tried, find};
use strata::base::{FlowHash, HashKey, Moment, Weight};
use strata::doc::Settings;

const KEY: HashKey = HashKey::new(*b"an example key..");

fn members(n: u64) -> Vec<Member> {
    let mut rng = fastrand::Rng::with_seed(n);
    let member = |i| Member {
        identity: KEY.mix(i, 0),
        weight: Weight::new(rng.u64(1..=10)).unwrap_or(Weight::ONE),
        load: Arc::new(Load::default()),
    };
    (0..n).map(member).collect()
}

fn picks(c: &mut Criterion) {
    let tried = Tried::new();
    for spec in CATALOG {
        let mut group = c.benchmark_group(spec.grammar.name);
        for n in [3, 20, 1000] {
            let members = members(n);
            let picker = (spec.build)(&Settings::defaults(&spec.grammar), &members, KEY);
            let mut rng = fastrand::Rng::with_seed(1);
            group.bench_function(BenchmarkId::from_parameter(n), |b| {
                b.iter(|| {
                    let pick =
                        Pick { hash: FlowHash(rng.u64(..)), now: Moment::ZERO, entropy: rng.u64(..), tried: &tried };
                    black_box(picker.pick(&members, &pick))
                });
            });
        }
    }
}

fn builds(c: &mut Criterion) {
    let mut group = c.benchmark_group("build-1000");
    group.sample_size(20);
    let members = members(1000);
    for name in ["maglev", "ring-hash", "weighted-round-robin"] {
        let Some(spec) = find(name) else { continue };
        let settings = Settings::defaults(&spec.grammar);
        group.bench_function(name, |b| b.iter(|| black_box((spec.build)(&settings, &members, KEY))));
    }
}

criterion_group!(benches, picks, builds);
criterion_main!(benches);
