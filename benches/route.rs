//! What a route lookup costs, and that 10 000 routes cost at most 1.3 × ten (issue 2).
//!
//! Both tables are asked 4096 times, in random order, for requests that lie one behind the other in memory, as a request that was
//! just parsed is in the cache: what differs is the table, of which one is asked for the same few routes, one for all.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strata::route::{Pattern, Rule, Table};

/// A set of `n` routes, and the request that the `i`-th takes.
type Family = (&'static str, fn(usize) -> String, fn(usize) -> (String, String));

const FAMILIES: &[Family] = &[
    // Three routes a host: a tree, an exact path, and the rest.
    (
        "many hosts",
        |i| match i % 3 {
            0 => format!("{}/api/*", host(i / 3)),
            1 => format!("{}/login", host(i / 3)),
            _ => host(i / 3),
        },
        |i| match i % 3 {
            0 => (host(i / 3), "/api/v1/items".to_owned()),
            1 => (host(i / 3), "/login".to_owned()),
            _ => (host(i / 3), "/assets/app.js".to_owned()),
        },
    ),
    ("wildcard hosts", |i| format!("*.{}", host(i)), |i| (format!("www.{}", host(i)), "/assets/app.js".to_owned())),
    (
        "prefixes of one host",
        |i| format!("api.example.com/{}/*", service(i)),
        |i| ("api.example.com".to_owned(), format!("/{}/items/7", service(i))),
    ),
    (
        "exact paths of one host",
        |i| format!("api.example.com/{}/items", service(i)),
        |i| ("api.example.com".to_owned(), format!("/{}/items", service(i))),
    ),
];

fn host(i: usize) -> String {
    format!("{}{i:04}.customers.example.com", ["shop", "blog", "a", "intranet"][i % 4])
}

fn service(i: usize) -> String {
    format!("{}/{}{i:04}", ["v1", "v2"][i % 2], ["users", "orders", "cart", "inventory"][i / 2 % 4])
}

const REQUESTS: usize = 4096;

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    group.throughput(Throughput::Elements(REQUESTS as u64));
    for (family, url, request) in FAMILIES {
        for routes in [10, 10_000] {
            let rules: Vec<Rule> = (0..routes)
                .map(|i| Rule { pattern: Pattern::parse(&url(i)).expect("a valid url"), priority: 0, conditions: 0 })
                .collect();
            let table = Table::build(&rules);
            let mut random = fastrand::Rng::with_seed(7);
            let mut asked = Vec::new();
            for _ in 0..REQUESTS {
                let i = random.usize(..routes);
                let (host, path) = request(i);
                assert_eq!(table.find(host.as_bytes(), path.as_bytes()), Some(i), "{host}{path}");
                asked.extend([host.len() as u8, path.len() as u8]);
                asked.extend_from_slice(host.as_bytes());
                asked.extend_from_slice(path.as_bytes());
            }
            group.bench_function(format!("{family}/{routes}"), |b| {
                b.iter(|| {
                    let mut rest = asked.as_slice();
                    while let [host_len, path_len, tail @ ..] = rest {
                        let (host, tail) = tail.split_at(usize::from(*host_len));
                        let (path, tail) = tail.split_at(usize::from(*path_len));
                        black_box(table.find(host, path));
                        rest = tail;
                    }
                });
            });
        }
    }
    group.finish();
}

fn builds(c: &mut Criterion) {
    let (_, url, _) = FAMILIES[0];
    let rules: Vec<Rule> = (0..10_000)
        .map(|i| Rule { pattern: Pattern::parse(&url(i)).expect("a valid url"), priority: 0, conditions: 0 })
        .collect();
    c.bench_function("route/build 10 000", |b| b.iter(|| black_box(Table::build(&rules))));
}

criterion_group!(benches, lookups, builds);
criterion_main!(benches);
