//! Findings among what a file says: who is in force, who leaves, who is refused.

use std::cell::Cell;
use std::time::Duration;

use super::*;
use crate::base::Weight;
use crate::config::{Catalogs, load, value};
use crate::doc::{Field, Grammar, Kind, Nowhere};
use crate::seam::source::{DRAIN, Route};

/// A source of tests: nothing but what is told of it.
static TOLD: Grammar = Grammar {
    name: "told",
    summary: "what a test tells",
    fields: &[
        Field::optional("name", Kind::Text, "whatever"),
        Field::optional("socket", Kind::Text, "where to look"),
        Field::optional("labels", Kind::Text, "what to look for"),
        DRAIN,
    ],
    example: "source = \"told\"",
};

const FILE: &str = r#"
[admin]
listen = "127.0.0.1:9900"
[service.edge]
mode = "l7"
listen = ":80"
source = "told"
pool = "web"
[[service.edge.route]]
url = "/file/*"
pool = "web"
[service.flows]
mode = "l3"
forward = "nat"
vip = "v"
ports = ["80/tcp"]
pool = "flows"
[vip.v]
address = "10.0.0.100"
interface = "eth0"
[pool.web]
endpoints = ["10.0.0.1:80"]
source = { type = "told", drain = "10s" }
[pool.flows]
source = "told"
[pool.shut]
endpoints = ["10.0.0.3:80"]
"#;

fn config() -> Config {
    config_of(FILE)
}

fn config_of(text: &str) -> Config {
    let text = text.replace("source = \"told\"\npool", "source = { type = \"told\" }\npool");
    let grammars: &[&'static Grammar] = &[&TOLD];
    let catalogs = Catalogs { probes: &[], sources: grammars, route_sources: grammars };
    let document = load("test", text.into(), &Nowhere, &catalogs);
    let errors: Vec<_> = document.diagnostics.iter().filter(|d| d.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    document.value
}

fn member(address: &str) -> Member {
    let bare = || EndpointAddr::host(address.parse().unwrap());
    Member::new(address.parse().map_or_else(|_| bare(), |at: SocketAddr| at.into()), "there")
}

fn finding(addresses: &[&str]) -> Finding {
    Finding { members: addresses.iter().map(|at| member(at)).collect(), ..Finding::default() }
}

/// Found things, a clock, and whether endpoints are idle.
struct World {
    config: Config,
    found: Found,
    now: Moment,
    idle: Cell<bool>,
    /// Names that no pool of theirs has had yet.
    names_left: usize,
}

impl World {
    fn new() -> World {
        let (now, idle) = (Moment::from_millis(1000), Cell::new(false));
        World { config: config(), found: Found::default(), now, idle, names_left: 100 }
    }

    fn hear(&mut self, owner: Owner, finding: Finding) -> Merged {
        self.found.heard(owner, finding);
        self.merge()
    }

    fn merge(&mut self) -> Merged {
        let around = Around {
            now: self.now,
            is_here: &|ip| ip.to_string() == "10.0.0.5",
            is_idle: &|_, _| self.idle.get(),
            is_known: &|pool| pool == "old",
            names_left: self.names_left,
        };
        let merged = self.found.merge(&self.config, &around);
        self.found.commit(&merged);
        merged
    }

    /// The process that takes over, before any of its sources has spoken.
    fn heir(&self) -> World {
        let mut heir =
            World { config: self.config.clone(), names_left: self.names_left, now: self.now, ..World::new() };
        for (owner, finding) in self.found.in_force() {
            heir.found.inherit(owner.clone(), finding.clone());
        }
        heir
    }

    fn after(&mut self, seconds: u64) -> Merged {
        self.now = self.now + Duration::from_secs(seconds);
        self.merge()
    }
}

fn web() -> Owner {
    Owner::Pool("web".into())
}

fn edge() -> Owner {
    Owner::Service("edge".into())
}

fn apart() -> Owner {
    Owner::Service("apart".into())
}

/// `10.0.0.1:80 -10.0.0.2:80`: the second leaves.
fn shown(merged: &Merged, pool: &str) -> String {
    let pool = merged.config.pools.iter().find(|found| &*found.name.value == pool).expect("the pool");
    let one = |endpoint: &Endpoint| format!("{}{}", if endpoint.leaving { "-" } else { "" }, endpoint.address.value);
    pool.endpoints.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// `/file/* -> web`, with a `+` where a source has found it.
fn routes(merged: &Merged, service: &str) -> Vec<String> {
    let service = merged.config.services.iter().find(|found| &*found.name.value == service).expect("the service");
    let Traffic::L7(l7) = &service.traffic else { panic!("l7") };
    let sign = |is_found: bool| if is_found { "+" } else { "" };
    let url = |route: &value::Route| route.url.clone().unwrap_or_else(|| "*".to_owned());
    let one = |route: &value::Route| format!("{}{} -> {}", sign(route.found.is_some()), url(route), route.pool.value);
    l7.routes.iter().map(one).collect()
}

fn refused(merged: &Merged, owner: &Owner) -> Vec<&'static str> {
    merged.verdicts[owner].mistakes.iter().map(|mistake| mistake.why.word()).collect()
}

#[test]
fn members_join_behind_those_of_the_file_in_an_order_that_is_always_the_same() {
    let mut world = World::new();
    assert_eq!(shown(&world.merge(), "web"), "10.0.0.1:80");
    let merged = world.hear(web(), finding(&["10.0.0.3:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]));
    assert_eq!(shown(&merged, "web"), "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
    assert_eq!((merged.verdicts[&web()].members, refused(&merged, &web()).len()), (2, 0));
    let again = world.hear(web(), finding(&["10.0.0.2:80", "10.0.0.3:80", "10.0.0.1:80"]));
    assert_eq!(again.config, merged.config);
}

#[test]
fn who_is_gone_leaves_and_goes_when_idle_or_when_its_time_is_over() {
    let mut world = World::new();
    world.hear(web(), finding(&["10.0.0.2:80", "10.0.0.3:80"]));
    // It begins to leave however idle it is: workers may not have heard yet.
    world.idle.set(true);
    assert_eq!(shown(&world.hear(web(), finding(&["10.0.0.3:80"])), "web"), "10.0.0.1:80 -10.0.0.2:80 10.0.0.3:80");
    assert!(world.found.somebody_leaves());
    world.idle.set(false);
    assert_eq!(shown(&world.after(5), "web"), "10.0.0.1:80 -10.0.0.2:80 10.0.0.3:80");
    // One that returns was never away.
    let back = world.hear(web(), finding(&["10.0.0.2:80", "10.0.0.3:80"]));
    assert_eq!(shown(&back, "web"), "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
    world.hear(web(), finding(&["10.0.0.3:80"]));
    assert_eq!(shown(&world.after(9), "web"), "10.0.0.1:80 -10.0.0.2:80 10.0.0.3:80");
    assert_eq!(shown(&world.after(1), "web"), "10.0.0.1:80 10.0.0.3:80");
    // The source says itself who is about to go.
    let mut leaving = finding(&["10.0.0.3:80", "10.0.0.4:80"]);
    leaving.members.iter_mut().for_each(|member| member.leaving = true);
    let merged = world.hear(web(), leaving);
    assert_eq!(shown(&merged, "web"), "10.0.0.1:80 -10.0.0.3:80");
    let mut leaving = finding(&["10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:81"]);
    leaving.members[..2].iter_mut().for_each(|member| member.leaving = true);
    assert_eq!(shown(&world.hear(web(), leaving), "web"), "10.0.0.1:80 -10.0.0.3:80 10.0.0.5:81");
    world.idle.set(true);
    assert_eq!(shown(&world.after(1), "web"), "10.0.0.1:80 10.0.0.5:81");
    assert!(!world.found.somebody_leaves());
}

#[test]
fn nothing_that_could_be_used_empties_no_pool_unless_that_is_the_truth() {
    let mut world = World::new();
    world.hear(web(), finding(&["10.0.0.2:80"]));
    let merged = world.hear(web(), finding(&["10.0.0.100:80", "0.0.0.0:80"]));
    assert_eq!(shown(&merged, "web"), "10.0.0.1:80 10.0.0.2:80");
    assert_eq!(refused(&merged, &web()), ["own", "no-host"]);
    let merged = world.hear(web(), Finding { may_be_empty: true, ..Finding::default() });
    assert_eq!(shown(&merged, "web"), "10.0.0.1:80 -10.0.0.2:80");
}

#[test]
fn addresses_of_ours_and_of_nobody_are_refused_by_name() {
    let mut world = World::new();
    let found = [
        "10.0.0.100:80",
        "127.0.0.1:9900",
        "10.0.0.5:80",
        "0.0.0.0:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "10.0.0.9",
        "[::ffff:10.0.0.100]:80",
        "10.0.0.6:80",
        "10.0.0.5:8080",
    ];
    let mut finding = finding(&found);
    finding.members.iter_mut().zip(found).for_each(|(member, name)| member.from = name.into());
    let merged = world.hear(web(), finding);
    assert_eq!(refused(&merged, &web()), ["own", "own", "own", "no-host", "no-host", "no-host", "no-port", "own"]);
    assert_eq!(shown(&merged, "web"), "10.0.0.1:80 10.0.0.5:8080 10.0.0.6:80");
    assert_eq!(merged.verdicts[&web()].refused[&Refusal::Own], 4);
}

#[test]
fn packet_services_get_what_they_can_forward_to_without_the_port_that_they_keep() {
    let mut world = World::new();
    let flows = Owner::Pool("flows".into());
    let merged = world.hear(flows.clone(), finding(&["10.0.0.2:8080", "10.0.0.3", "[2001:db8::1]:80"]));
    assert_eq!(shown(&merged, "flows"), "10.0.0.2 10.0.0.3");
    assert_eq!(refused(&merged, &flows), ["mode"]);
}

#[test]
fn a_pool_that_overflows_is_capped_and_says_so() {
    let mut world = World::new();
    let members: Vec<Member> = (0..10_000_u32)
        .map(|n| Member::new(SocketAddr::from((Ipv4Addr::from(0x0a01_0000 + n), 80)), "there"))
        .collect();
    let merged = world.hear(web(), Finding { members, ..Finding::default() });
    let verdict = &merged.verdicts[&web()];
    assert_eq!(verdict.members, limits::POOL_ENDPOINTS);
    assert_eq!(verdict.refused[&Refusal::TooMany] as usize, 10_000 - limits::POOL_ENDPOINTS);
    assert_eq!(verdict.mistakes.len(), limits::MAKER_MISTAKES + 1);
}

#[test]
fn whoever_makes_many_mistakes_hides_nobody_elses() {
    let mut world = World::new();
    let of = |maker: &str, count: usize| {
        let mistake = |n| Mistake::new(Refusal::Unknown, format!("container {maker}, label x.{n}"), "unknown label");
        (0..count).map(mistake).collect::<Vec<_>>()
    };
    let mut shown = |mistakes: Vec<Mistake>| {
        let merged = world.hear(edge(), Finding { mistakes, ..Finding::default() });
        let verdict = &merged.verdicts[&edge()];
        let lines: Vec<String> =
            verdict.mistakes.iter().map(|mistake| format!("{}: {}", mistake.place, mistake.message)).collect();
        (lines, verdict.refused[&Refusal::Unknown])
    };
    let (lines, refused) = shown([of("old", 60), of("young", 1), of("six", 6)].concat());
    let label = |maker: &str, n: usize| format!("container {maker}, label x.{n}: unknown label");
    let mut want = vec![label("old", 0), label("young", 0), label("six", 0)];
    want.extend((1..5).flat_map(|n| [label("old", n), label("six", n)]));
    // One more is not said in place of one more.
    want.extend(["container old: 55 more mistakes, which are not told".to_owned(), label("six", 5)]);
    assert_eq!((lines, refused), (want, 67));
    // More than fit, however few each has.
    let (lines, refused) = shown((0..100).flat_map(|n| of(&n.to_string(), if n == 7 { 9 } else { 2 })).collect());
    assert_eq!((lines.len(), refused), (limits::SOURCE_MISTAKES, 207));
    assert_eq!(
        lines[48..],
        [label("48", 0), "the rest: 158 more mistakes of these and others, which are not told".to_owned()]
    );
}

fn route(url: &str, pool: &str, from: &str) -> Route {
    let pattern = crate::route::Pattern::parse(url).unwrap();
    Route { url: Some(url.to_owned()), pattern, priority: 0, pool: pool.into(), from: from.into() }
}

fn pool(name: &str, addresses: &[&str]) -> FoundPool {
    let members = addresses.iter().map(|at| member(at)).collect();
    FoundPool { name: name.into(), members, balance: None, probe: None, from: "container a".into() }
}

#[test]
fn routes_and_pools_come_into_being_and_the_file_goes_first() {
    let mut world = World::new();
    let found = Finding {
        routes: vec![
            route("/found/*", "api", "container a"),
            route("/found/*", "api", "container b"),
            route("/found/*", "web", "container c"),
            route("/file/*", "api", "container d"),
            route("/x/*", "ap", "container e"),
            route("/y/*", "flows", "container f"),
            route("/z/*", "shut", "container h"),
        ],
        pools: vec![
            pool("api", &["10.0.0.7:80", "10.0.0.8"]),
            pool("api", &["10.0.0.9:80"]),
            pool("flows", &["10.0.0.7:80"]),
            pool("a b", &["10.0.0.7:80"]),
        ],
        mistakes: vec![Mistake::new(Refusal::Unknown, "container g", "unknown label")],
        may_be_empty: true,
        ..Finding::default()
    };
    let merged = world.hear(edge(), found.clone());
    assert_eq!(shown(&merged, "api"), "10.0.0.7:80 10.0.0.9:80");
    assert_eq!(routes(&merged, "edge"), ["/file/* -> web", "+/found/* -> api", "* -> web"]);
    // The pool of the file has a source of the same kind, which finds its endpoints itself.
    assert_eq!(
        refused(&merged, &edge()),
        ["unknown", "no-port", "malformed", "conflict", "conflict", "no-pool", "mode", "closed"]
    );
    assert_eq!(merged.verdicts[&edge()].mistakes[5].help.as_deref(), Some("did you mean `api`"));
    // A route's pool may be any picker's; what is gone is gone with its pool.
    let merged = world.hear(edge(), Finding { may_be_empty: true, ..Finding::default() });
    assert!(merged.config.pools.iter().all(|pool| &*pool.name.value != "api"));
    assert_eq!(merged.verdicts[&edge()].routes, 0);
}

#[test]
fn what_one_engine_finds_reaches_no_pool_that_has_its_endpoints_from_another() {
    let told = |settings: &str| format!("source = {{ type = \"told\", {settings} }}\n");
    let own = "socket = \"unix:///a.sock\", labels = \"a.\"";
    for (of_pool, is_reached) in [
        ("socket = \"unix:///a.sock\", labels = \"a.\", drain = \"1s\", name = \"net\"", true),
        ("socket = \"/a.sock\", labels = \"a.\"", true),
        ("socket = \"unix:///a.sock\", labels = \"b.\"", false),
        ("socket = \"unix:///b.sock\", labels = \"a.\"", false),
    ] {
        let l7 = |name: &str, port: u16, source: &str| {
            format!("[service.{name}]\nmode = \"l7\"\nlisten = \":{port}\"\npool = \"web\"\n{}", told(source))
        };
        // The first by its name is the last to speak.
        let (edge_table, apart_table) = (l7("edge", 80, own), l7("apart", 81, of_pool));
        let text = format!("{edge_table}{apart_table}[pool.web]\n{}", told(of_pool));
        let mut world = World { config: config_of(&text), ..World::new() };
        world.hear(web(), finding(&["10.0.0.9:80"]));
        let of = |pools: [(&str, &str); 2], from: &str| Finding {
            routes: pools.map(|(name, _)| route(&format!("/{from}/{name}/*"), name, from)).into(),
            pools: pools.map(|(name, address)| pool(name, &[address])).into(),
            may_be_empty: true,
            ..Finding::default()
        };
        world.hear(edge(), of([("web", "10.0.0.9:80"), ("api", "10.0.0.7:80")], "a"));
        // Nor one that labels have brought, of which the first to say it keeps it.
        let of_apart = of([("web", "10.0.0.9:80"), ("api", "10.0.0.8:80")], "b");
        let first = world.hear(apart(), of_apart.clone());
        let got = |merged: &Merged| {
            let (of_edge, of_apart) = (routes(merged, "edge"), routes(merged, "apart"));
            (of_edge, of_apart, refused(merged, &edge()), refused(merged, &apart()), shown(merged, "api"))
        };
        let want = match is_reached {
            true => (
                vec!["+/a/web/* -> web".into(), "+/a/api/* -> api".into(), "* -> web".into()],
                vec!["+/b/web/* -> web".into(), "+/b/api/* -> api".into(), "* -> web".into()],
                vec![],
                vec![],
                "10.0.0.7:80 10.0.0.8:80".to_owned(),
            ),
            false => (
                vec!["+/a/api/* -> api".into(), "* -> web".into()],
                vec!["+/b/web/* -> web".into(), "* -> web".into()],
                vec!["conflict", "closed"],
                vec!["conflict", "closed"],
                "10.0.0.7:80".to_owned(),
            ),
        };
        assert_eq!(got(&first), want, "{of_pool}");
        // Nor is it another's the next time, or in a process that takes over and hears all of them at once.
        let again = world.merge();
        assert_eq!((got(&again), &again.config), (want.clone(), &first.config), "{of_pool}");
        let mut heir = world.heir();
        heir.found.heard(apart(), of_apart);
        heir.found.heard(edge(), world.found.of(&edge()).unwrap().clone());
        assert_eq!(got(&heir.merge()), want, "{of_pool}");
        // Whoever had it has none any more.
        let merged = world.hear(edge(), Finding { may_be_empty: true, ..Finding::default() });
        assert_eq!((shown(&merged, "api"), refused(&merged, &apart())), ("10.0.0.8:80".to_owned(), vec![]));
    }
}

#[test]
fn many_pools_that_others_bring_later_put_none_out() {
    let own = "source = { type = \"told\", socket = \"/a.sock\" }\n";
    let l7 = |name: &str, port: u16, source: &str| {
        format!("[service.{name}]\nmode = \"l7\"\nlisten = \":{port}\"\npool = \"web\"\n{source}")
    };
    let tables = [l7("edge", 80, own), l7("apart", 81, &own.replace("a.sock", "b.sock"))].concat();
    let text = format!("{tables}[pool.web]\nendpoints = [\"10.0.0.1:80\"]\n");
    let mut world = World { config: config_of(&text), names_left: 100_000, ..World::new() };
    let bring = |pools: Vec<FoundPool>| Finding { pools, may_be_empty: true, ..Finding::default() };
    world.hear(edge(), bring(vec![pool("zulu", &["10.0.0.7:80"])]));
    let names: Vec<String> = (0..limits::NAMES).map(|n| format!("p{n}")).collect();
    let merged = world.hear(apart(), bring(names.iter().map(|name| pool(name, &[])).collect()));
    assert_eq!((shown(&merged, "zulu"), merged.config.pools.len()), ("10.0.0.7:80".to_owned(), limits::NAMES));
    assert_eq!(merged.verdicts[&apart()].refused[&Refusal::TooMany], 2);
    assert!(merged.verdicts[&edge()].refused.is_empty());
}

#[test]
fn an_endpoint_that_comes_into_the_file_is_the_files_and_there_once() {
    for may_be_empty in [false, true] {
        let mut world = World::new();
        let found = Finding { may_be_empty, ..finding(&["10.0.0.2:80"]) };
        world.hear(web(), Finding { may_be_empty, ..finding(&["10.0.0.2:80", "10.0.0.4:80"]) });
        world.config = config_of(&FILE.replace("[\"10.0.0.1:80\"]", "[\"10.0.0.1:80\", \"10.0.0.2:80\"]"));
        assert_eq!(shown(&world.merge(), "web"), "10.0.0.1:80 10.0.0.2:80 10.0.0.4:80");
        // It is told, so that the other one is not all there is.
        assert_eq!(shown(&world.hear(web(), found), "web"), "10.0.0.1:80 10.0.0.2:80 -10.0.0.4:80");
    }
}

/// What an engine tells that lists these and says nothing of them: as after the minute for which it is waited.
fn ignorant(of: &[&str]) -> Finding {
    Finding { unknown: of.iter().map(|name| Arc::from(*name)).collect(), ..Finding::default() }
}

fn from(name: &str, addresses: &[&str]) -> Vec<Member> {
    addresses.iter().map(|at| Member { from: name.into(), ..member(at) }).collect()
}

/// What another process would be given.
fn handed_over(world: &World, owner: &Owner) -> Vec<String> {
    let finding = &world.found.in_force()[owner];
    let pools = finding.pools.iter().flat_map(|pool| pool.members.iter().map(move |one| (&*pool.name, one)));
    let all = finding.members.iter().map(|one| ("", one)).chain(pools);
    let routes = finding.routes.iter().map(|route| format!("{} -> {}", route.url.as_deref().unwrap(), route.pool));
    all.map(|(pool, one)| format!("{pool}@{}", one.address)).chain(routes).collect()
}

#[test]
fn ignorance_empties_no_pool_of_the_file_and_an_upgrade_hands_over_what_is_kept() {
    let mut world = World::new();
    let members = [from("a", &["10.0.0.2:80"]), from("b", &["10.0.0.3:80"]), from("c", &["10.0.0.4:80"])].concat();
    world.hear(web(), Finding { members: members.clone(), may_be_empty: true, ..Finding::default() });
    // Of `b` it is known that it leaves, and then that it is out.
    let leaving = from("b", &["10.0.0.3:80"]).into_iter().map(|member| Member { leaving: true, ..member }).collect();
    for members in [leaving, Vec::new()] {
        let merged = world.hear(web(), Finding { members, ..ignorant(&["a", "c", "d"]) });
        assert_eq!(shown(&merged, "web"), "10.0.0.1:80 10.0.0.2:80 -10.0.0.3:80 10.0.0.4:80");
    }
    assert_eq!(shown(&world.after(100), "web"), "10.0.0.1:80 10.0.0.2:80 10.0.0.4:80");
    assert_eq!(handed_over(&world, &web()), ["@10.0.0.2:80", "@10.0.0.4:80"]);
    // The next process, and the one after it.
    for _ in 0..2 {
        world = world.heir();
        assert_eq!(shown(&world.hear(web(), ignorant(&["a", "c"])), "web"), "10.0.0.1:80 10.0.0.2:80 10.0.0.4:80");
    }
    // Somebody else has an address now, of another table.
    let other = Finding { members: from("e", &["10.0.0.4:80"]), ..ignorant(&["a", "c"]) };
    let merged = world.hear(Owner::Pool("flows".into()), other);
    assert_eq!(shown(&merged, "web"), "10.0.0.1:80 10.0.0.2:80 -10.0.0.4:80");
    assert_eq!(handed_over(&world, &web()), ["@10.0.0.2:80"]);
    // There is one that is known, so that nobody has to be kept.
    let merged = world.hear(web(), Finding { members: from("b", &["10.0.0.3:80"]), ..ignorant(&["a"]) });
    assert_eq!(shown(&merged, "web"), "10.0.0.1:80 -10.0.0.2:80 10.0.0.3:80 -10.0.0.4:80");
    // All of them answer, and are none of this pool's.
    world.hear(web(), Finding { may_be_empty: true, ..Finding::default() });
    assert_eq!(handed_over(&world, &web()), Vec::<String>::new());
}

#[test]
fn a_name_that_leads_to_nobody_of_use_is_handed_over_as_it_is_served() {
    let mut world = World::new();
    world.hear(web(), finding(&["10.0.0.2:80", "10.0.0.3:80"]));
    let useless = finding(&["10.0.0.100:80"]);
    assert_eq!(shown(&world.hear(web(), useless.clone()), "web"), "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
    let mut heir = world.heir();
    assert_eq!(shown(&heir.hear(web(), useless), "web"), "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
    assert_eq!(refused(&heir.merge(), &web()), ["own"]);
}

#[test]
fn ignorance_empties_no_pool_of_labels_either_and_its_routes_stay_with_it() {
    let mut world = World::new();
    let api = FoundPool { members: from("a", &["10.0.0.7:80"]), ..pool("api", &[]) };
    let shop = FoundPool { members: from("b", &["10.0.0.8:80"]), ..pool("shop", &[]) };
    let found = Finding {
        routes: vec![route("/api/*", "api", "a"), route("/shop/*", "shop", "b")],
        pools: vec![api, shop.clone()],
        may_be_empty: true,
        ..Finding::default()
    };
    world.hear(edge(), found.clone());
    let known =
        Finding { routes: vec![route("/shop/*", "shop", "b")], pools: vec![shop.clone()], ..ignorant(&["a", "c"]) };
    let want = ["/file/* -> web", "+/shop/* -> shop", "+/api/* -> api", "* -> web"];
    for _ in 0..3 {
        let merged = world.hear(edge(), known.clone());
        assert_eq!(
            (routes(&merged, "edge"), shown(&merged, "api")),
            (want.map(str::to_owned).into(), "10.0.0.7:80".into())
        );
        assert_eq!(
            handed_over(&world, &edge()),
            ["shop@10.0.0.8:80", "api@10.0.0.7:80", "/shop/* -> shop", "/api/* -> api"]
        );
        // In one that takes over, it is as if that had been there from the first.
        world = world.heir();
    }
    world.hear(edge(), known.clone());
    // The url is another's now.
    let taken = Finding { routes: vec![route("/api/*", "shop", "b")], ..known.clone() };
    let merged = world.hear(edge(), taken);
    assert_eq!(routes(&merged, "edge"), ["/file/* -> web", "+/api/* -> shop", "* -> web"]);
    assert!(merged.config.pools.iter().all(|pool| &*pool.name.value != "api"));
    // Whoever is known to be out, or not there, keeps nothing.
    for gone in [ignorant(&["c"]), Finding { may_be_empty: true, ..Finding::default() }] {
        world.hear(edge(), found.clone());
        let merged = world.hear(edge(), Finding { pools: vec![shop.clone()], ..gone });
        assert_eq!(routes(&merged, "edge"), ["/file/* -> web", "* -> web"]);
    }
}

#[test]
fn where_no_name_is_left_only_the_pools_that_are_new_are_refused() {
    let mut world = World::new();
    // The three of the file, and one.
    world.names_left = 4;
    let found = Finding {
        routes: ["a", "b", "old"].map(|name| route(&format!("/{name}/*"), name, "container a")).into(),
        pools: ["a", "b", "old"].map(|name| pool(name, &["10.0.0.7:80"])).into(),
        may_be_empty: true,
        ..Finding::default()
    };
    let merged = world.hear(edge(), found);
    let names: Vec<&str> = merged.config.pools.iter().map(|pool| &*pool.name.value).collect();
    assert_eq!(names, ["web", "flows", "shut", "a", "old"]);
    assert_eq!((refused(&merged, &edge()), merged.verdicts[&edge()].routes), (vec!["too-many", "no-pool"], 2));
}

#[test]
fn no_priority_takes_a_url_that_leads_elsewhere_already_and_a_more_exact_one_may() {
    let mut world = World::new();
    let Traffic::L7(l7) = &mut world.config.services[0].traffic else { panic!("l7") };
    let mut hosted = l7.routes[0].clone();
    hosted.pattern.value = crate::route::Pattern::parse("a.test").unwrap();
    l7.routes.insert(0, hosted);
    let urgent = |url, pool, from| Route { priority: 1000, ..route(url, pool, from) };
    let found = Finding {
        routes: vec![
            urgent("/file/*", "api", "container a"),
            urgent("a.test", "api", "container b"),
            // Another way to write it.
            urgent("a.test/*", "api", "container c"),
            route("/new/*", "api", "container d"),
            urgent("/new/*", "web", "container e"),
            // The same pool: nothing to be said of it, and nothing to be added.
            urgent("/new/*", "api", "container f"),
            route("/file/deep/*", "api", "container g"),
            route("a.test/deep", "api", "container h"),
        ],
        pools: vec![pool("api", &["10.0.0.7:80"])],
        ..Finding::default()
    };
    let merged = world.hear(edge(), found);
    let mistakes = &merged.verdicts[&edge()].mistakes;
    let places: Vec<&str> = mistakes.iter().map(|mistake| &*mistake.place).collect();
    assert_eq!(places, ["container a", "container b", "container c", "container e"], "{mistakes:?}");
    assert_eq!(merged.verdicts[&edge()].refused[&Refusal::Conflict], 4);
    let routes = routes(&merged, "edge");
    let found: Vec<&str> = routes.iter().filter_map(|route| route.strip_prefix('+')).collect();
    assert_eq!(found, ["/new/* -> api", "/file/deep/* -> api", "a.test/deep -> api"]);
}

#[test]
fn a_member_keeps_its_weight_and_role() {
    let mut world = World::new();
    let mut told = finding(&["10.0.0.2:80"]);
    told.members[0] =
        Member { weight: Weight::new(7).unwrap(), backup: true, zone: Some("a".into()), ..told.members[0].clone() };
    let merged = world.hear(web(), told);
    let endpoint = &merged.config.pools.iter().find(|pool| &*pool.name.value == "web").unwrap().endpoints[1];
    assert_eq!((endpoint.weight.get(), endpoint.backup, endpoint.zone.as_deref()), (7, true, Some("a")));
    assert_eq!(endpoint.found.as_deref(), Some("there"));
}
