//! At which address and port a container is reached.

use super::*;

#[test]
fn an_address_is_of_the_network_that_leads_to_the_container() {
    let on = |networks: &[(&str, &str, &str)], attachment: Attachment| {
        let mut one = container(1, &[("strata.pool", "web")]);
        let address = |text: &str| text.parse().ok();
        one.networks = networks
            .iter()
            .map(|(name, v4, v6)| ((*name).to_owned(), facts::Addresses { ipv4: address(v4), ipv6: address(v6) }))
            .collect();
        one.attachment = attachment;
        one
    };
    let two = &[("back", "10.1.0.1", "fd01::1"), ("front", "10.2.0.1", "")][..];
    let own = |networks: &[&str]| {
        let mut own = container(200, &[]);
        own.networks = networks.iter().map(|name| ((*name).to_owned(), facts::Addresses::default())).collect();
        own
    };
    let on_host = Container { attachment: Attachment::Host, ..own(&["host"]) };
    let own_ones = [own(&["front"]), own(&["front", "back"]), own(&["other"])];
    for (name, one, own, settings, want) in [
        ("the only one", on(&two[..1], Attachment::Own), None, &[][..], "10.1.0.1:8080"),
        ("IPv6 where it is asked for", on(&two[..1], Attachment::Own), None, &[("family", "ipv6")], "[fd01::1]:8080"),
        ("the family that there is", on(&two[1..], Attachment::Own), None, &[("family", "ipv6")], "10.2.0.1:8080"),
        ("the one that is named", on(two, Attachment::Own), None, &[("network", "front")], "10.2.0.1:8080"),
        ("the one that is shared", on(two, Attachment::Own), Some(&own_ones[0]), &[], "10.2.0.1:8080"),
        ("the first that is shared", on(two, Attachment::Own), Some(&own_ones[1]), &[], "10.1.0.1:8080"),
        (
            "the named before the shared",
            on(two, Attachment::Own),
            Some(&own_ones[0]),
            &[("network", "back")],
            "10.1.0.1:8080",
        ),
        ("Strata on the host", on(&two[..1], Attachment::Own), Some(&on_host), &[], "10.1.0.1:8080"),
        (
            "several",
            on(two, Attachment::Own),
            None,
            &[],
            "no-host container web-1: it is in several networks: `back` and `front` (name one: `network = \"…\"` in the source, or the \
             label `network`)",
        ),
        (
            "none shared",
            on(two, Attachment::Own),
            Some(&own_ones[2]),
            &[],
            "no-host container web-1: it shares no network with Strata's container; its networks: `back` and `front` (attach the two to \
             one network, or name the container's: `network = \"…\"` in the source)",
        ),
        (
            "a network that it is not in",
            on(two, Attachment::Own),
            None,
            &[("network", "fornt")],
            "no-host container web-1: it is not in network `fornt` (did you mean `front`)",
        ),
        ("no network", on(&[], Attachment::None), None, &[], "no-host container web-1: it has no network"),
        ("no network yet", on(&[], Attachment::Own), None, &[], "no-host container web-1: it is in no network"),
        (
            "no address yet",
            on(&[("front", "", "")], Attachment::Own),
            None,
            &[],
            "no-host container web-1: it has no address in network `front`",
        ),
        (
            "loopback",
            on(&[("front", "127.0.0.1", "")], Attachment::Own),
            None,
            &[],
            "loopback container web-1: its address 127.0.0.1 is refused: an address of this machine's loopback, which strangers must \
             not name (set `allow = \"loopback\"` in the source where this is meant)",
        ),
        (
            "loopback, allowed",
            on(&[("front", "127.0.0.1", "")], Attachment::Own),
            None,
            &[("allow", "loopback")],
            "127.0.0.1:8080",
        ),
        ("the host's", on(&[], Attachment::Host), None, &[("host", "192.0.2.1")], "192.0.2.1:8080"),
        (
            "the host's, which nobody named",
            on(&[], Attachment::Host),
            None,
            &[],
            "no-host container web-1: it uses the network of its host, and the source does not say where that is reached (set `host \
             = \"…\"` in the source, or give the container a network)",
        ),
        (
            "of one that is not there",
            on(&[], Attachment::Of(Id::parse(&"f".repeat(64)).unwrap())),
            None,
            &[],
            "no-host container web-1: it uses the network of container ffffffffffff, which is not there",
        ),
    ] {
        let told = told(&world(&[one], own), &rules(settings), &["pool.web"]);
        let want =
            if want.contains(" container ") { format!("pool.web! {want}") } else { format!("pool.web: {want} x1") };
        assert_eq!(told, [want], "{name}");
    }
    // A container in another's network is where that is.
    let other = Container { labels: BTreeMap::new(), ..container(9, &[]) };
    let one = on(&[], Attachment::Of(other.id.clone()));
    let told = told(&world(&[one, other], None), &rules(&[]), &["pool.web"]);
    assert_eq!(told, ["pool.web: 10.0.0.9:8080 x1"]);
}

#[test]
fn a_port_is_the_one_that_is_named_or_the_only_one_that_is_exposed() {
    for (exposed, label, want) in [
        (&["8080/tcp"][..], None, "10.0.0.1:8080"),
        (&["8080/tcp", "9090/udp"], None, "10.0.0.1:8080"),
        (&["53/udp"], None, "10.0.0.1:53"),
        (&["80/tcp", "443/tcp"], Some("443"), "10.0.0.1:443"),
        (&[], Some("443"), "10.0.0.1:443"),
        (&["80/tcp", "443/tcp"], None, "it exposes several ports: `80/tcp`, `443/tcp` (name it: `strata.port=…`)"),
        (&[], None, "it exposes no port (name it: `strata.port=…`)"),
    ] {
        let mut labels = vec![("strata.pool", "web")];
        labels.extend(label.map(|port| ("strata.port", port)));
        let mut one = container(1, &labels);
        let ports: String = exposed.iter().map(|port| format!("\"{port}\":{{}},")).collect();
        let body = format!(r#"{{"Id":"{:064x}","Config":{{"ExposedPorts":{{{}}}}}}}"#, 1, ports.trim_end_matches(','));
        one.exposed = facts::container(body.as_bytes()).unwrap().exposed;
        let told = told(&world(&[one], None), &rules(&[]), &["pool.web"]);
        let want = match label.is_some() || want.starts_with("10.") {
            true => format!("pool.web: {want} x1"),
            false => format!("pool.web! no-port container web-1: {want}"),
        };
        assert_eq!(told, [want], "{exposed:?}");
    }
}

#[test]
fn two_containers_at_one_address_are_one_member() {
    let same = |n: u8| Container { attachment: Attachment::Host, ..container(n, &[("strata.pool", "web")]) };
    let told = told(&world(&[same(1), same(2)], None), &rules(&[("host", "192.0.2.1")]), &["pool.web"]);
    assert_eq!(
        told,
        [
            "pool.web: 192.0.2.1:8080 x1",
            "pool.web! conflict container web-2: `192.0.2.1:8080` is the address of container web-1 already",
        ]
    );
}
