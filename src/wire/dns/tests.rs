//! Answers, right ones and hostile ones; whatever bytes come, reading them ends and does not panic.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn written(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
    out
}

/// A message with these records in its three sections.
fn message(flags: u16, asked: (&str, Kind), sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let mut out = vec![0, 7];
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&1_u16.to_be_bytes());
    sections.iter().for_each(|section| out.extend_from_slice(&(section.len() as u16).to_be_bytes()));
    out.extend(written(asked.0));
    out.extend_from_slice(&asked.1.code().to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    sections.iter().for_each(|section| section.iter().for_each(|record| out.extend(record)));
    out
}

const GOOD: u16 = 0x8180;
/// To the name of the question.
const POINTER: [u8; 2] = [0xc0, 12];

fn read(bytes: &[u8], kind: Kind) -> Result<Answer, Fault> {
    answer(bytes, 7, &name("web.internal"), kind)
}

fn addresses(answer: &Answer) -> Vec<String> {
    let shown = |record: &Record| match record {
        Record::Address(ip) => ip.to_string(),
        Record::Service { priority, weight, port, target } => format!("{priority} {weight} {target}:{port}"),
    };
    answer.records.iter().map(shown).collect()
}

#[test]
fn a_question_is_what_rfc_1035_says() {
    let asked = question(0x1234, &name("Web.Internal."), Kind::Aaaa, false);
    let mut want = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    want.extend(b"\x03web\x08internal\x00\x00\x1c\x00\x01");
    assert_eq!(asked, want);
    let edns = question(0x1234, &name("web.internal"), Kind::Aaaa, true);
    assert_eq!((edns[11], &edns[want.len()..]), (1, &b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"[..]));
}

#[test]
fn names_are_those_of_hosts_and_services() {
    for right in ["web", "web.internal.", "_http._tcp.web.internal", "10-0-0-1.example.com", &"a".repeat(63)] {
        assert!(Name::parse(right).is_ok(), "{right}");
    }
    for wrong in ["", ".", "a..b", "web internal", "web/x", "wéb", &"a".repeat(64), &"a.".repeat(128)] {
        assert!(Name::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(Name::parse(&"a.".repeat(126)).map(|name| name.as_str().len()), Ok(251));
}

#[test]
fn addresses_come_with_the_shortest_time_of_all_that_lead_to_them() {
    let a = |ttl, last| record(&POINTER, 1, ttl, &[10, 0, 0, last]);
    let got = read(&message(GOOD, ("web.internal", Kind::A), [&[a(60, 1), a(30, 2)], &[], &[]]), Kind::A).unwrap();
    assert_eq!((addresses(&got), got.ttl), (vec!["10.0.0.1".into(), "10.0.0.2".into()], Some(30)));
    let alias = record(&POINTER, CNAME, 5, &written("a.b"));
    let target = record(&written("A.b"), 1, 60, &[10, 0, 0, 3]);
    let other = record(&written("c.d"), 1, 1, &[6, 6, 6, 6]);
    let got = read(&message(GOOD, ("WEB.internal", Kind::A), [&[other, target, alias], &[], &[]]), Kind::A).unwrap();
    assert_eq!((addresses(&got), got.ttl), (vec!["10.0.0.3".into()], Some(5)));
    let six = record(&POINTER, 28, 9, &"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    let got = read(&message(GOOD, ("web.internal", Kind::Aaaa), [&[six], &[], &[]]), Kind::Aaaa).unwrap();
    assert_eq!(addresses(&got), ["2001:db8::1"]);
}

#[test]
fn services_come_with_their_hosts_addresses_where_the_server_tells_them() {
    let mut data = vec![0, 1, 0, 5, 0x1f, 0x90];
    data.extend(written("a.b"));
    let service = record(&POINTER, 33, 20, &data);
    let host = record(&written("a.b"), 1, 10, &[10, 0, 0, 1]);
    let got = read(&message(GOOD, ("web.internal", Kind::Srv), [&[service], &[], &[host]]), Kind::Srv).unwrap();
    assert_eq!(addresses(&got), ["1 5 a.b:8080"]);
    assert_eq!(got.beside, [(name("a.b"), Record::Address("10.0.0.1".parse().unwrap()))]);
    assert_eq!(got.ttl, Some(10));
}

#[test]
fn no_records_is_an_answer_with_the_time_of_the_zone() {
    let mut soa = written("ns.internal");
    soa.extend(written("root.internal"));
    [1_u32, 2, 3, 4, 15].iter().for_each(|number| soa.extend_from_slice(&number.to_be_bytes()));
    let soa = record(&written("internal"), SOA, 60, &soa);
    let got = read(&message(GOOD, ("web.internal", Kind::A), [&[], &[soa], &[]]), Kind::A).unwrap();
    assert_eq!((got.records.len(), got.ttl, got.code), (0, Some(15), ResponseCode::Good));
    for (flags, code) in
        [(0x8183, ResponseCode::NoSuchName), (0x8182, ResponseCode::ServerFailure), (0x8185, ResponseCode::Refused)]
    {
        let got = read(&message(flags, ("web.internal", Kind::A), [&[], &[], &[]]), Kind::A).unwrap();
        assert_eq!(got.code, code);
    }
    let got = read(&message(GOOD | TRUNCATED, ("web.internal", Kind::A), [&[], &[], &[]]), Kind::A).unwrap();
    assert!(got.truncated);
}

#[test]
fn what_is_no_answer_to_the_question_is_told_apart() {
    let a = || record(&POINTER, 1, 60, &[10, 0, 0, 1]);
    let right = message(GOOD, ("web.internal", Kind::A), [&[a()], &[], &[]]);
    assert!(read(&right, Kind::A).is_ok());
    let mut other_id = right.clone();
    other_id[1] = 8;
    let cases = [
        ("another id", other_id, Fault::NotOurs),
        ("a question", message(0x0100, ("web.internal", Kind::A), [&[], &[], &[]]), Fault::NotOurs),
        ("another name", message(GOOD, ("web.external", Kind::A), [&[a()], &[], &[]]), Fault::NotOurs),
        ("another kind", message(GOOD, ("web.internal", Kind::Aaaa), [&[a()], &[], &[]]), Fault::NotOurs),
        ("no question", [&right[..4], &[0, 0, 0, 0, 0, 0, 0, 0]].concat(), Fault::NotOurs),
        ("half a header", right[..11].to_vec(), Fault::Short),
        ("half a record", right[..right.len() - 1].to_vec(), Fault::Short),
    ];
    for (what, bytes, want) in cases {
        assert_eq!(read(&bytes, Kind::A), Err(want), "{what}");
    }
}

#[test]
fn names_that_lead_in_circles_end() {
    let asked = ("web.internal", Kind::A);
    // The first record begins behind the question: 12 + 14 + 4.
    let own = [0xc0, 30];
    let forward = [0xc0, 200];
    let reserved = [0x80, 1];
    for owner in [own, forward, reserved] {
        let bytes = message(GOOD, asked, [&[record(&owner, 1, 60, &[10, 0, 0, 1])], &[], &[]]);
        assert_eq!(read(&bytes, Kind::A), Err(Fault::BadName), "{owner:?}");
    }
    // Labels that add up by pointers to more than a name may have.
    let mut long = vec![63];
    long.extend([b'a'; 63]);
    let mut bytes = message(GOOD, asked, [&[], &[], &[]]);
    bytes[7] = 1;
    let mut at = bytes.len() as u16;
    let first = at;
    bytes.extend(&long);
    bytes.push(0);
    for _ in 0..4 {
        let here = bytes.len() as u16;
        bytes.extend(&long);
        bytes.extend((0xc000 | at).to_be_bytes());
        at = here;
    }
    assert!(read_name(&bytes, usize::from(first)).is_ok());
    assert_eq!(read_name(&bytes, usize::from(at)).unwrap_err(), Fault::BadName);
    let a_of = |from: &str, to: &str| record(&written(from), CNAME, 60, &written(to));
    let circle = [a_of("web.internal", "a.b"), a_of("a.b", "web.internal")];
    assert_eq!(read(&message(GOOD, asked, [&circle, &[], &[]]), Kind::A), Err(Fault::Aliases));
    let chain: Vec<Vec<u8>> = (0..40)
        .map(|n| a_of(&if n == 0 { "web.internal".to_owned() } else { format!("c{n}") }, &format!("c{}", n + 1)))
        .collect();
    assert_eq!(read(&message(GOOD, asked, [&chain, &[], &[]]), Kind::A), Err(Fault::Aliases));
    let mut short = chain[..8].to_vec();
    short.push(record(&written("c8"), 1, 60, &[10, 0, 0, 1]));
    assert_eq!(read(&message(GOOD, asked, [&short, &[], &[]]), Kind::A).unwrap().records.len(), 1);
}

#[test]
fn records_of_the_wrong_length_or_class_are_none() {
    let asked = ("web.internal", Kind::A);
    let mut chaos = record(&POINTER, 1, 60, &[10, 0, 0, 9]);
    chaos[5] = 3;
    let records = [
        record(&POINTER, 1, 60, &[10, 0, 0]),
        record(&POINTER, 1, 60, &[10; 5]),
        chaos,
        record(&POINTER, 1, 60, &[10, 0, 0, 1]),
    ];
    assert_eq!(addresses(&read(&message(GOOD, asked, [&records, &[], &[]]), Kind::A).unwrap()), ["10.0.0.1"]);
    // A time with its top bit set is none.
    let got = read(&message(GOOD, asked, [&[record(&POINTER, 1, u32::MAX, &[10, 0, 0, 1])], &[], &[]]), Kind::A);
    assert_eq!(got.unwrap().ttl, Some(0));
}

proptest! {
    #[test]
    fn whatever_bytes_come_reading_them_ends(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for kind in [Kind::A, Kind::Aaaa, Kind::Srv] {
            let _ = answer(&bytes, 7, &name("web.internal"), kind);
        }
    }

    #[test]
    fn whatever_is_changed_in_an_answer_reading_it_ends(at in 0_usize..90, byte in any::<u8>(), cut in 0_usize..90) {
        let mut data = vec![0, 1, 0, 5, 0x1f, 0x90];
        data.extend(written("a.b"));
        let records = [record(&POINTER, CNAME, 5, &POINTER), record(&POINTER, 33, 20, &data)];
        let mut bytes = message(GOOD, ("web.internal", Kind::Srv), [&records, &[], &[]]);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = read(&bytes, Kind::Srv);
        bytes.truncate(cut);
        let _ = read(&bytes, Kind::Srv);
    }
}
