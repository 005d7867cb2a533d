//! How many connections a service takes, in all and from one address.

use std::net::{IpAddr, SocketAddr};

use super::common::{Strata, Wire, await_that};
use super::{GET, Gated, edge};

fn limited(gated: &Gated, limits: &str) -> String {
    edge(&[gated.address()]).replace("[pool.web]", &format!("[service.edge.limits]\n{limits}\n[pool.web]"))
}

fn from(source: &str, to: SocketAddr) -> Wire {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let source: IpAddr = source.parse().unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Wire::new(socket.into(), None)
}

#[test]
fn connections_beyond_a_limit_are_refused_by_name_and_a_place_is_free_again_when_one_ends() {
    for (limit, reason, free_from) in [
        ("max_connections = 3", "too-many-connections", None),
        ("max_connections_per_source = 3", "too-many-from-source", Some("127.0.0.3")),
    ] {
        let gated = Gated::new("web");
        let strata = Strata::start(&limited(&gated, limit));
        let mut open: Vec<Wire> = (0..3).map(|_| from("127.0.0.2", strata.edge)).collect();
        for wire in &mut open {
            wire.send(GET);
            assert_eq!(wire.response().unwrap().status(), 200, "{limit}");
        }
        let before = strata.scrape();
        for n in 0..10 {
            let mut late = from("127.0.0.2", strata.edge);
            late.send(GET);
            let answer = late.response().unwrap_or_else(|broken| panic!("{limit}: refusal {n} is lost: {broken:?}"));
            assert_eq!((answer.status(), answer.field("x-strata-reason").as_deref()), (503, Some(reason)), "{limit}");
        }
        strata.counted(&before, reason, 10.0).unwrap();
        if let Some(source) = free_from {
            let mut other = from(source, strata.edge);
            other.send(GET);
            assert_eq!(other.response().unwrap().status(), 200, "{limit}: another source");
        }
        for wire in &mut open {
            wire.send(GET);
            assert_eq!(wire.response().unwrap().status(), 200, "{limit}: those that are open go on");
        }
        drop(open.pop());
        await_that("the place is free again", || {
            let mut next = from("127.0.0.2", strata.edge);
            next.send(GET);
            next.response().is_ok_and(|answer| answer.status() == 200)
        });
    }
}
