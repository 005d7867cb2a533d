//! Engine: tests of the whole module: canonical patterns, precedence as a table, and every lookup against a linear reading of
//! the rules.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::{Pattern, Rule, Table, shadowed};
use crate::wire::http1::{RequestHead, Scheme};

fn rule(url: &str, priority: i64, conditions: u32) -> Rule {
    let pattern = if url == "*" { Pattern::ANY } else { Pattern::parse(url).unwrap() };
    Rule { pattern, priority, conditions }
}

fn rules(urls: &[&str]) -> Vec<Rule> {
    urls.iter().map(|url| rule(url, 0, 0)).collect()
}

#[test]
fn a_url_is_read_into_its_canonical_form() {
    for (url, want) in [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("*.Example.COM", "*.example.com"),
        ("*.example.com./x", "*.example.com/x"),
        ("api.example.com/v1/*", "api.example.com/v1/*"),
        ("example.com/", "example.com/"),
        ("/static/*", "/static/*"),
        ("/v1*", "/v1*"),
        ("/*", "/*"),
        ("/a//b///c", "/a/b/c"),
        ("/a//*", "/a/*"),
        ("/%7euser/%41%2d", "/~user/A-"),
        ("/a%3ab%c3%a9", "/a%3Ab%C3%A9"),
        ("/café", "/caf%C3%A9"),
        ("/a:b@c;d=e,f!$&'()+", "/a:b@c;d=e,f!$&'()+"),
        ("/.well-known/*", "/.well-known/*"),
        ("/.*", "/.*"),
        ("/...", "/..."),
        ("/caf%c3*", "/caf%C3*"),
        ("/100%25", "/100%25"),
        ("/{id}|[x]", "/{id}|[x]"),
        ("my_host/x", "my_host/x"),
        ("[2001:DB8:0:0::1]/x", "[2001:db8::1]/x"),
        ("10.0.0.1", "10.0.0.1"),
    ] {
        let read = |url| Pattern::parse(url).map(|pattern| pattern.to_string());
        assert_eq!(read(url).as_deref(), Ok(want), "{url}");
        assert_eq!(read(want).as_deref(), Ok(want), "the canonical form of {url} is its own");
    }
}

#[test]
fn a_url_that_could_never_match_is_refused_with_the_reason() {
    for (url, reason) in [
        ("", "an empty url"),
        ("*", "a lone `*` says nothing: leave `url` out"),
        ("*/v1", "a lone `*` as host"),
        ("http://example.com/x", "leave `http://` out"),
        ("//example.com/x", "leading `//`"),
        ("example.com:8080/x", "write `example.com` without `:8080`"),
        ("[::1]:80", "write `[::1]` without `:80`"),
        ("[::1", "no IPv6 address"),
        ("[::1]x/", "no IPv6 address"),
        ("[1.2.3.4]", "no IPv6 address"),
        ("user@example.com", "no user name"),
        ("*example.com", "at the start only"),
        ("a.*.com", "at the start only"),
        ("*.*.com", "at the start only"),
        ("*.", "a label between any two dots"),
        (".example.com", "a label between any two dots"),
        ("a..b", "a label between any two dots"),
        ("exa mple.com", "` ` cannot stand in a host name"),
        ("bücher.example", "`xn--` form"),
        ("example.com?x=1", "no query"),
        ("/a?x=1", "no query"),
        ("/a#b", "no `#`"),
        ("a\\b", "`\\` is refused"),
        ("/a\\b", "`\\` is refused"),
        ("/a/../b", "`.` and `..` segments are resolved"),
        ("/a/..", "`.` and `..` segments are resolved"),
        ("/./*", "`.` and `..` segments are resolved"),
        ("/%2e%2E/b", "`.` and `..` segments are resolved"),
        ("/a%2fb", "`%2F` hides a separator"),
        ("/a%5Cb", "`%5C` hides a separator"),
        ("/a%00", "`%00` is a control character"),
        ("/a%0d%0a", "`%0D` is a control character"),
        ("/a%", "two hexadecimal digits"),
        ("/a%4", "two hexadecimal digits"),
        ("/a%+1", "two hexadecimal digits"),
        ("/a%4*", "two hexadecimal digits"),
        ("/%252e", "nothing is decoded twice"),
        ("/%ff", "not UTF-8"),
        ("/%c0%af", "not UTF-8"),
        ("/a*b", "at the end only"),
        ("/a**", "at the end only"),
        ("/*/b", "at the end only"),
        ("/a b", "write `%20`"),
        ("/a\"b", "write `%22`"),
        ("/a\u{7f}", "write `%7F`"),
        ("/a/..;x/b", "refused in requests"),
    ] {
        let error = Pattern::parse(url).expect_err(url);
        assert!(error.contains(reason), "{url}: {error}");
    }
    for long in [format!("/{}", "a".repeat(9000)), format!("{}.com", "a".repeat(64)), "a.".repeat(140) + "com"] {
        assert!(Pattern::parse(&long).is_err_and(|error| error.contains("bytes")));
    }
}

/// Rules, and requests with the url of the rule that wins.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str, Option<&'a str>)]);

#[test]
fn the_narrowest_rule_wins() {
    let cases: &[Case<'_>] = &[
        (&[], &[("a.com", "/", None)]),
        (
            &["*", "/a", "*.b.com", "x.b.com", "*.x.b.com"],
            &[
                ("x.b.com", "/a", Some("x.b.com")),
                ("y.x.b.com", "/a", Some("*.x.b.com")),
                ("y.b.com", "/a", Some("*.b.com")),
                ("z.y.b.com", "/", Some("*.b.com")),
                ("b.com", "/a", Some("/a")),
                ("xb.com", "/b", Some("*")),
                (".b.com", "/b", Some("*")),
                ("", "/b", Some("*")),
            ],
        ),
        (
            &["/v1*", "/v1/*", "/v1", "/*", "*", "/v1/users/*", "/v1/users"],
            &[
                ("", "/v1", Some("/v1")),
                ("", "/v1/", Some("/v1/*")),
                ("", "/v1/a", Some("/v1/*")),
                ("", "/v10", Some("/v1*")),
                ("", "/v10/users", Some("/v1*")),
                ("", "/v1/users", Some("/v1/users")),
                ("", "/v1/users/7", Some("/v1/users/*")),
                ("", "/v1/users7", Some("/v1/*")),
                ("", "/v", Some("/*")),
                ("", "/V1", Some("/*")),
                ("", "/", Some("/*")),
                ("", "*", Some("/*")),
            ],
        ),
        (&["/v1*", "/v1/*"], &[("", "/v1", Some("/v1/*")), ("", "/v", None)]),
        (&["/v1"], &[("", "/v1/", None), ("", "/v1", Some("/v1"))]),
        // What no rule of the host takes goes on to the wildcards and to the rules without a host.
        (
            &["a.b.com/x", "*.b.com/y", "*.com/z", "/w"],
            &[
                ("a.b.com", "/x", Some("a.b.com/x")),
                ("a.b.com", "/y", Some("*.b.com/y")),
                ("a.b.com", "/z", Some("*.com/z")),
                ("a.b.com", "/w", Some("/w")),
                ("a.b.com", "/v", None),
            ],
        ),
        // The host decides before the path does.
        (&["/x/y/z", "*.b.com/x/*", "a.b.com"], &[("a.b.com", "/x/y/z", Some("a.b.com"))]),
    ];
    for (urls, requests) in cases {
        let table = Table::build(&rules(urls));
        for (host, path, want) in *requests {
            let found = table.find(host.as_bytes(), path.as_bytes()).map(|index| urls[index]);
            assert_eq!(found, *want, "{host} {path} among {urls:?}");
        }
    }
}

#[test]
fn rules_of_one_pattern_go_by_priority_then_conditions_then_order_and_the_first_that_holds_wins() {
    let rules = [
        rule("/a", 0, 0),
        rule("/a", 0, 2),
        rule("/a", 5, 1),
        rule("/a", 0, 2),
        rule("/a", -1, 9),
        rule("*", 99, 0),
        rule("x.com", -99, 1),
        rule("/a*", 99, 0),
    ];
    let table = Table::build(&rules);
    let mut seen = Vec::new();
    let none = table.select(b"x.com", b"/a", |index| {
        seen.push(index);
        false
    });
    assert_eq!((none, seen), (None, vec![6, 2, 1, 3, 0, 4, 7, 5]));
    assert_eq!(table.select(b"x.com", b"/a", |index| rules[index].conditions != 1), Some(1));
    assert_eq!(table.select(b"x.com", b"/a", |index| rules[index].conditions == 0), Some(0));
    assert_eq!(table.find(b"x.com", b"/a"), Some(6));
}

#[test]
fn a_rule_that_can_never_win_is_named_with_the_one_that_takes_its_requests() {
    type Listed = (&'static str, i64, u32);
    type Pair = (usize, usize);
    let cases: &[(&[Listed], &[Pair])] = &[
        (&[("/a", 0, 0), ("/a", 0, 0)], &[(1, 0)]),
        (&[("/a", 0, 0), ("/a", 1, 0)], &[(0, 1)]),
        (&[("/a", 0, 0), ("/a", 0, 1)], &[]),
        (&[("/a", 1, 0), ("/a", 0, 1)], &[(1, 0)]),
        (&[("/a", 1, 1), ("/a", 0, 0)], &[]),
        (&[("/a", 0, 0), ("/b", 0, 0), ("A.com/a", 0, 0), ("a.com./a", 0, 0)], &[(3, 2)]),
        (&[("*", 9, 3), ("/*", 0, 0)], &[(0, 1)]),
        (&[("*", 9, 0), ("/*", 0, 1)], &[]),
        (&[("*", 9, 0), ("a.com/*", 0, 0)], &[]),
        (&[("/a*", 9, 0), ("/a/*", 0, 0), ("/a", 0, 0)], &[]),
        (&[("*.com", 9, 0), ("a.com", 0, 0), ("*", 0, 0)], &[]),
        (&[("/a", 0, 0), ("/a", 0, 0), ("/a", 0, 0)], &[(1, 0), (2, 0)]),
    ];
    for (list, want) in cases {
        let rules: Vec<Rule> =
            list.iter().map(|(url, priority, conditions)| rule(url, *priority, *conditions)).collect();
        assert_eq!(shadowed(&rules), *want, "{list:?}");
    }
}

/// How narrowly `pattern` fits, read from its text alone; `None` when it does not.
fn fit(pattern: &Pattern, host: &str, path: &str) -> Option<impl Ord + use<>> {
    let text = pattern.to_string();
    let (host_part, path_part) = match text.as_str() {
        "*" => ("", ""),
        text => text.split_at(text.find('/').unwrap_or(text.len())),
    };
    let host_fit = match host_part.strip_prefix('*') {
        _ if host_part.is_empty() => (0, 0),
        Some(suffix) if host.len() > suffix.len() && host.ends_with(suffix) => (1, suffix.len()),
        None if host_part == host => (2, 0),
        _ => return None,
    };
    let path_fit = match path_part.strip_suffix('*') {
        _ if path_part.is_empty() => (0, 0),
        Some(prefix) if path.starts_with(prefix) => (1, prefix.len()),
        Some(prefix) if prefix.strip_suffix('/') == Some(path) => (1, prefix.len()),
        None if path_part == path => (2, 0),
        _ => return None,
    };
    Some((host_fit, path_fit))
}

/// Every index that matches, in order of precedence, by looking at each rule.
fn naive(rules: &[Rule], host: &str, path: &str) -> Vec<usize> {
    let mut found: Vec<_> = (0..rules.len())
        .filter_map(|index| {
            let fit = fit(&rules[index].pattern, host, path)?;
            Some((Reverse(fit), Reverse(rules[index].priority), Reverse(rules[index].conditions), index))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(.., index)| index).collect()
}

fn any_rule() -> impl Strategy<Value = Rule> {
    // Few letters and short names, so that patterns meet each other and the requests.
    let host =
        prop_oneof![Just(String::new()), "(a|b|\\*)(\\.(a|b)){0,3}".prop_filter("a lone star", |host| host != "*")];
    let path = prop_oneof![Just(String::new()), "(/[ab]{0,2}){1,3}(/\\*|\\*)?", Just("/*".to_owned())];
    (host, path, -1i64..2, 0u32..2).prop_map(|(host, path, priority, conditions)| {
        let pattern = Pattern::parse(&format!("{host}{}", path.replace("//", "/"))).unwrap_or(Pattern::ANY);
        Rule { pattern, priority, conditions }
    })
}

fn any_request() -> impl Strategy<Value = (String, String)> {
    ("((a|b)(\\.(a|b)){0,4})?", "(/[ab]{1,3}){1,4}/?|/")
}

proptest! {
    #[test]
    fn the_table_lists_what_a_linear_reading_lists(
        rules in prop::collection::vec(any_rule(), 0..60),
        requests in prop::collection::vec(any_request(), 1..40),
    ) {
        let table = Table::build(&rules);
        for (host, path) in requests {
            let want = naive(&rules, &host, &path);
            prop_assert_eq!(table.find(host.as_bytes(), path.as_bytes()), want.first().copied(), "{} {}", host, path);
            let mut seen = Vec::new();
            table.select(host.as_bytes(), path.as_bytes(), |index| { seen.push(index); false });
            prop_assert_eq!(seen, want, "{} {}", host, path);
        }
    }

    /// With every condition judged at random, a shadowed rule never wins.
    #[test]
    fn a_shadowed_rule_never_wins_and_its_shadow_is_asked_first(
        rules in prop::collection::vec(any_rule(), 0..60),
        requests in prop::collection::vec(any_request(), 1..40),
        coin in any::<u64>(),
    ) {
        let table = Table::build(&rules);
        let shadowed = shadowed(&rules);
        for (host, path) in requests {
            let holds = |index: usize| rules[index].conditions == 0 || coin >> (index % 64) & 1 == 1;
            let won = table.select(host.as_bytes(), path.as_bytes(), holds);
            prop_assert!(!shadowed.iter().any(|(rule, _)| Some(*rule) == won), "{:?} {} {}", won, host, path);
            let order = naive(&rules, &host, &path);
            for (rule, by) in &shadowed {
                if let Some(at) = order.iter().position(|index| index == rule) {
                    prop_assert!(order.iter().take(at).any(|index| index == by), "{} by {}", rule, by);
                }
            }
        }
    }

    #[test]
    fn any_text_is_refused_or_read_into_a_form_that_reads_back(text in "\\PC{0,40}|[a.*/%0-9:?\\[\\]]{0,16}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern.clone()), "{}", pattern);
            prop_assert!(pattern.to_string().is_ascii());
            prop_assert!(pattern != Pattern::ANY);
        }
    }

    /// A pattern and the request it was copied from have one form, and what one side refuses so does the other.
    #[test]
    fn patterns_and_requests_are_canonical_alike(
        host in "[aZ0_.-]{1,6}|\\[::[1fA]\\]",
        path in "(/([aZ1~;=@{\"<]|%(2[05eEfF]|5[cC]|4[1b]|c3%a9|[cC]3|00|7[eF])|\\.){0,5}){1,4}",
    ) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut head = RequestHead::default();
        let sent = head.parse(request.as_bytes(), Scheme::Http).map(|_| {
            let request = head.view(request.as_bytes());
            format!("{}{}", String::from_utf8_lossy(request.host()), String::from_utf8_lossy(request.path()))
        });
        match Pattern::parse(&format!("{host}{path}")) {
            Ok(pattern) => prop_assert_eq!(sent, Ok(pattern.to_string())),
            Err(error) => prop_assert!(sent.is_err() || error.contains("`..`"), "{:?} but {}", sent, error),
        }
    }

    #[test]
    fn no_request_however_odd_upsets_a_lookup(
        rules in prop::collection::vec(any_rule(), 0..20),
        host in prop::collection::vec(any::<u8>(), 0..300),
        path in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let table = Table::build(&rules);
        let mut seen = Vec::new();
        table.select(&host, &path, |index| { seen.push(index); false });
        for index in seen {
            prop_assert!(index < rules.len());
        }
    }
}
