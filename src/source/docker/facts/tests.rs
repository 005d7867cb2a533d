//! Tests of what a Docker engine says.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_container_of_a_real_engine_reads_as_what_it_is() {
    let body = format!(
        r#"{{"Id":"{ID}","Created":"2026-11-27T08:49:05.12Z","Path":"/strata","Args":["echo"],"Name":"/shop-web-1",
        "State":{{"Status":"running","Running":true,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,
          "Pid":4242,"ExitCode":0,"Error":"","StartedAt":"2026-11-27T08:49:06Z","FinishedAt":"0001-01-01T00:00:00Z",
          "Health":{{"Status":"starting","FailingStreak":0,"Log":[]}}}},
        "HostConfig":{{"NetworkMode":"shop_default","RestartPolicy":{{"Name":"no","MaximumRetryCount":0}}}},
        "Config":{{"Env":["PASSWORD=hunter2"],"Labels":{{"com.docker.compose.service":"web","strata.enable":"true"}},
          "ExposedPorts":{{"8080/tcp":{{}},"9090/udp":{{}},"x/tcp":{{}}}},"StopSignal":"SIGQUIT","StopTimeout":30}},
        "NetworkSettings":{{"IPAddress":"","Networks":{{
          "shop_default":{{"IPAddress":"172.18.0.3","GlobalIPv6Address":"fd00::3","Gateway":"172.18.0.1"}},
          "later":null, "odd":{{"IPAddress":"0.0.0.0","GlobalIPv6Address":"no address"}}}}}}}}"#
    );
    let read = container(body.as_bytes()).unwrap();
    assert_eq!((read.id.as_str(), &*read.name, read.id.to_string().as_str()), (ID, "shop-web-1", "0123456789ab"));
    assert_eq!((read.state, read.health), (State::Running, Health::Starting));
    assert_eq!(read.started - read.created, 880_000_000);
    assert_eq!((read.stop_signal, read.stop_timeout), (3, Duration::from_secs(30)));
    assert_eq!(read.exposed.iter().map(Port::to_string).collect::<Vec<_>>(), ["8080/tcp", "9090/udp"]);
    let addresses = &read.networks["shop_default"];
    assert_eq!(addresses.ipv4, Some("172.18.0.3".parse().unwrap()));
    assert_eq!(addresses.ipv6, Some("fd00::3".parse().unwrap()));
    assert_eq!((&read.networks["later"], &read.networks["odd"]), (&Addresses::default(), &Addresses::default()));
    assert_eq!((&read.attachment, read.labels.len()), (&Attachment::Own, 2));

    // Whoever asks through a proxy reads the same, and no more.
    let cut = cut_container(body.as_bytes()).unwrap();
    assert_eq!(container(&cut), Ok(read));
    let text = String::from_utf8(cut).unwrap();
    for secret in ["hunter2", "echo", "4242", "Log", "RestartPolicy", "172.18.0.1"] {
        assert!(body.contains(secret) && !text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn a_line_of_the_list_is_cut_to_what_is_read_of_it() {
    let one = format!(
        r#"{{"Id":"{ID}","Names":["/web-1"],"Labels":{{"a":"b"}},"Command":"run --token hunter2","Ports":[]}}"#
    );
    let cut = String::from_utf8(cut_listed(one.as_bytes()).unwrap()).unwrap();
    let read = list(format!("[{cut}]").as_bytes());
    assert_eq!((&read, read.as_ref().unwrap().len()), (&list(format!("[{one}]").as_bytes()), 1));
    assert!(!cut.contains("hunter2") && !cut.contains("Ports"), "{cut}");
    assert!(cut_listed(b"[]").is_err() && cut_container(b"[]").is_err());
}

#[test]
fn what_an_engine_leaves_out_is_empty_and_what_it_cannot_mean_is_an_error() {
    let body = format!(r#"{{"Id":"{ID}","Config":{{"Labels":null}}}}"#);
    let bare = container(body.as_bytes()).unwrap();
    assert_eq!(container(&cut_container(body.as_bytes()).unwrap()).unwrap(), bare);
    assert_eq!((bare.state, bare.health, bare.created), (State::Stopped, Health::Unchecked, 0));
    assert_eq!((&*bare.name, bare.stop_signal, bare.stop_timeout), ("0123456789ab", SIGTERM, STOP_TIMEOUT));
    for name in ["/a b", "/\\u001b[31m", "/", "/ä"] {
        let read = container(format!(r#"{{"Id":"{ID}","Name":"{name}"}}"#).as_bytes()).unwrap();
        assert_eq!(&*read.name, "0123456789ab", "{name}");
    }
    for body in ["", "null", "[]", "{", r#"{"Id":"../../secrets"}"#, r#"{"Id":"abc"}"#, "\u{fffd}", r#"{"Id":7}"#] {
        assert!(container(body.as_bytes()).is_err(), "{body}");
    }
    // Nesting without an end is an error, and no overflow of the stack.
    assert!(container("[".repeat(1 << 20).as_bytes()).is_err());
    assert!(list(b"{}").is_err() && event(b"[]").is_err());
}

#[test]
fn a_listed_container_has_the_name_that_it_has_when_it_is_asked_for() {
    for (names, want) in [
        (r#"["/web-1"]"#, "web-1"),
        (r#"["/shop/db","/web-1"]"#, "web-1"),
        (r#"["web-1"]"#, "web-1"),
        (r#"["/a b"]"#, "0123456789ab"),
        ("null", "0123456789ab"),
    ] {
        let read = list(format!(r#"[{{"Id":"{ID}","Names":{names}}}]"#).as_bytes()).unwrap();
        assert_eq!(&*read[0].name, want, "{names}");
    }
}

#[test]
fn networks_states_and_signals_have_their_words() {
    let other = "f".repeat(64);
    for (mode, want) in [
        ("host", Attachment::Host),
        ("none", Attachment::None),
        ("default", Attachment::Own),
        ("shop_default", Attachment::Own),
        (&*format!("container:{other}"), Attachment::Of(Id::parse(&other).unwrap())),
        ("container:web", Attachment::None),
    ] {
        assert_eq!(attachment(mode), want, "{mode}");
    }
    for (status, want) in [
        ("running", State::Running),
        ("paused", State::Paused),
        ("stopping", State::Stopping),
        ("created", State::Stopped),
        ("restarting", State::Stopped),
        ("exited", State::Stopped),
        ("dead", State::Stopped),
    ] {
        let said = Condition { status: status.to_owned(), ..Condition::default() };
        assert_eq!(said.read(), want, "{status}");
    }
    for (text, want) in [
        ("15", Some(15)),
        ("SIGTERM", Some(15)),
        ("term", Some(15)),
        ("SIGRTMIN+3", Some(37)),
        ("", None),
        ("300", None),
    ] {
        assert_eq!(signal(text), want, "{text}");
    }
}

#[test]
fn times_are_nanoseconds_since_1970() {
    for (text, want) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2000-02-29T12:00:00Z", Some(951_825_600_000_000_000)),
        ("2026-11-27T08:49:05.5Z", Some(1_795_769_345_500_000_000)),
        ("2026-11-27T10:49:05.500000000+02:00", Some(1_795_769_345_500_000_000)),
        ("2026-11-27T08:49:05.5000000001Z", Some(1_795_769_345_500_000_000)),
        ("0001-01-01T00:00:00Z", None),
        ("2026-13-27T08:49:05Z", None),
        ("2026-11-27T08:49:05", None),
        ("2026-11-27T08:49:05.Z", None),
        ("ä026-11-27T08:49:05Z", None),
        ("", None),
    ] {
        assert_eq!(nanoseconds(text), want, "{text}");
    }
}

#[test]
fn events_say_what_happened_to_which_container() {
    let line = |kind: &str, action: &str, rest: &str| {
        format!(
            r#"{{"status":"{action}","Type":"{kind}","Action":"{action}","Actor":{{"ID":"{ID}","Attributes":{{"name":"w","image":"web:1.27","a.b":"c"{rest}}}}},
            "scope":"local","time":1795769345,"timeNano":1795769345500000000}}"#
        )
    };
    for (kind, action, rest, want) in [
        ("container", "kill", r#","signal":"15""#, Some(What::Signal(15))),
        ("container", "kill", "", Some(What::Changed)),
        ("container", "die", r#","exitCode":"0""#, Some(What::Ended)),
        ("container", "destroy", "", Some(What::Gone)),
        ("container", "remove", "", Some(What::Gone)),
        ("container", "health_status: unhealthy", "", Some(What::Changed)),
        ("container", "start", "", Some(What::Changed)),
        ("image", "pull", "", None),
        ("network", "create", "", None),
        ("daemon", "reload", "", None),
    ] {
        let read = event(line(kind, action, rest).as_bytes()).unwrap();
        assert_eq!(read.as_ref().map(|event| event.what), want, "{kind} {action}");
        let labels = BTreeMap::from([("a.b".to_owned(), "c".to_owned())]);
        assert!(read.is_none_or(|event| event.time == 1_795_769_345_500_000_000 && event.labels == labels));
    }
    let joined = format!(
        r#"{{"Type":"network","Action":"connect","Actor":{{"ID":"n","Attributes":{{"container":"{ID}","name":"shop","type":"bridge"}}}}}}"#
    );
    let cut = cut_event(joined.as_bytes()).unwrap().unwrap();
    assert_eq!(event(&cut), event(joined.as_bytes()));
    assert!(!String::from_utf8(cut).unwrap().contains("shop"));
    let joined = event(joined.as_bytes()).unwrap().unwrap();
    assert_eq!((joined.id.as_str(), joined.what, joined.time), (ID, What::Changed, 0));
    assert!(joined.labels.is_empty());
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), text in ".{0,40}") {
        let _ = (container(&bytes), list(&bytes), event(&bytes));
        let _ = (cut_container(&bytes), cut_listed(&bytes), cut_event(&bytes));
        let _ = (nanoseconds(&text), signal(&text), attachment(&text), Port::parse(&text), Id::parse(&text));
    }
}
