//! B: targets and hosts. What is routed on is what is forwarded; what could mean two things is refused.

use super::common::{Origin, Report, Strata, ensure};
use super::{Refusal, refusal, refuse_all, service};

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a.test\r\n\r\n").into_bytes()
}

fn target(target: &str) -> Vec<u8> {
    line(&format!("GET {target} HTTP/1.1"))
}

fn hosts(fields: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\n", fields, b"\r\n"].concat()
}

#[test]
fn b1_to_b5_hosts_and_forms() {
    let origin = Origin::echo();
    let mut rows: Vec<Refusal> = vec![
        refusal("B1 no Host", 400, &["missing-host"], hosts(b"")),
        refusal("B1 two Hosts", 400, &["repeated-host"], hosts(b"Host: a.test\r\nHost: b.test\r\n")),
        refusal("B1 the same Host twice", 400, &["repeated-host"], hosts(b"Host: a.test\r\nHost: a.test\r\n")),
        refusal("B1 a list of Hosts", 400, &["bad-host"], hosts(b"Host: a.test, b.test\r\n")),
        refusal("B2 NUL in Host", 400, &["bad-host", "control-in-value"], hosts(b"Host: a\0.test\r\n")),
        refusal("B3 absolute form of another host", 400, &["host-mismatch"], target("http://b.test/")),
        refusal("B3 absolute form of another port", 400, &["host-mismatch"], target("http://a.test:81/")),
        refusal("B4 CONNECT", 405, &["method-refused"], line("CONNECT a.test:443 HTTP/1.1")),
        refusal("B4 TRACE", 405, &["method-refused"], line("TRACE / HTTP/1.1")),
        refusal("B5 * with GET", 400, &["bad-target"], target("*")),
        refusal("B5 no slash", 400, &["bad-target"], target("admin")),
        refusal("B5 a question mark first", 400, &["bad-target"], target("?a")),
        refusal("B15 a method that is no token", 400, &["bad-method", "bad-request-line"], line("GE(T / HTTP/1.1")),
        refusal("B15 NUL in a method", 400, &["bad-method", "bad-request-line"], line("G\0T / HTTP/1.1")),
        refusal("B15 33 bytes", 400, &["method-too-long"], line(&format!("{} / HTTP/1.1", "A".repeat(33)))),
    ];
    for host in [
        "user@a.test",
        "a.test/x",
        "a test",
        "a.test:65536",
        "a.test:8x",
        "a.test:-1",
        "[::1",
        "[zz]",
        "a.test#",
        "a?b",
        "a\\b",
    ] {
        let reason: &[&str] = &["bad-host"];
        rows.push(refusal("B2 a Host that is none", 400, reason, hosts(format!("Host: {host}\r\n").as_bytes())));
    }
    refuse_all(&service(&origin), &origin, &rows);
}

#[test]
fn b7_b9_b10_targets_that_could_be_read_two_ways() {
    let origin = Origin::echo();
    let slash: &[&str] = &["escaped-slash"];
    let control: &[&str] = &["escaped-control"];
    let utf8: &[&str] = &["escaped-not-utf8"];
    let rows = [
        refusal("B7 %2f", 400, slash, target("/a%2fb")),
        refusal("B7 %2F", 400, slash, target("/a%2Fb")),
        refusal("B7 %5c", 400, slash, target("/a%5c..%5cb")),
        refusal("B7 a backslash", 400, slash, target("/a\\..\\b")),
        refusal("B9 a fragment", 400, &["fragment-in-target"], target("/a#b")),
        refusal("B10 %00", 400, control, target("/a%00")),
        refusal("B10 %00 in a query", 400, control, target("/a?b=%00")),
        refusal("B10 %0d%0a", 400, control, target("/a%0d%0aX-A:%201")),
        refusal("B10 %7f", 400, control, target("/a%7f")),
        refusal("B10 an overlong slash", 400, utf8, target("/a%c0%afb")),
        refusal("B10 an overlong dot", 400, utf8, target("/%e0%80%ae%e0%80%ae/b")),
        refusal("B10 a surrogate", 400, utf8, target("/%ed%a0%80")),
        refusal("B10 a lone continuation", 400, utf8, target("/a%80")),
        refusal("B10 a cut character", 400, utf8, target("/a%e2%82")),
        refusal("B10 encoded twice", 400, &["double-escape"], target("/%252e%252e/b")),
        refusal("B10 half an escape", 400, &["bad-escape"], target("/a%4")),
        refusal("B10 no escape", 400, &["bad-escape"], target("/a%zz")),
        refusal("B6 dots with a parameter", 400, &["dot-segment-parameter"], target("/a/..;/admin")),
        refusal(
            "a raw byte beyond ASCII",
            400,
            &["bad-target"],
            [b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n".as_slice()].concat(),
        ),
        refusal("a tab in a target", 400, &["bad-target", "bad-request-line"], target("/a\tb")),
    ];
    refuse_all(&service(&origin), &origin, &rows);
}

#[test]
fn b14_bounds_of_a_head() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let long = "a".repeat(8 * 1024);
    let fields: String = (0..100).map(|n| format!("\r\nX-{n}: 1")).collect();
    let large: String = (0..40).map(|n| format!("\r\nX-{n}: {}", "v".repeat(1000))).collect();
    let rows = [
        refusal("B14 a long target", 414, &["target-too-long"], target(&format!("/{long}"))),
        refusal("B14 a long query", 414, &["target-too-long"], target(&format!("/?{long}"))),
        refusal("B14 an endless target", 414, &["target-too-long"], format!("GET /{}", "a".repeat(20_000))),
        refusal("B14 101 fields", 431, &["too-many-fields"], line(&format!("GET / HTTP/1.1{fields}"))),
        refusal("B14 40 KiB of fields", 431, &["head-too-large"], line(&format!("GET / HTTP/1.1{large}"))),
        refusal(
            "B14 an endless field",
            431,
            &["head-too-large"],
            format!("GET / HTTP/1.1\r\nX: {}", "v".repeat(50_000)),
        ),
    ];
    refuse_all(&strata, &origin, &rows);

    let path = "a".repeat(8 * 1024 - 1);
    let fields: String = (0..90).map(|n| format!("\r\nX-{n}: {}", "v".repeat(200))).collect();
    let answer = strata.ask(line(&format!("GET /{path} HTTP/1.1{fields}")));
    assert_eq!(answer.status(), 200, "what fits passes");
}

/// Two pools: `/admin` and what is below it, and the rest; one host of its own.
fn routed(admin: &Origin, web: &Origin, host: &Origin) -> Strata {
    Strata::start(&format!(
        "[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\n\
         [[service.web.route]]\nurl = \"/admin/*\"\npool = \"admin\"\n\
         [[service.web.route]]\nurl = \"/admin\"\npool = \"admin\"\n\
         [[service.web.route]]\nurl = \"own.example.com\"\npool = \"host\"\n\
         [[service.web.route]]\npool = \"web\"\n\
         [pool.admin]\nendpoints = [\"{}\"]\n[pool.web]\nendpoints = [\"{}\"]\n[pool.host]\nendpoints = [\"{}\"]\n",
        admin.address, web.address, host.address
    ))
}

/// Answers with its name and the target it got.
fn named(name: &'static str) -> Origin {
    Origin::serve(move |request| {
        let target = request.start_line().split(' ').nth(1).unwrap_or_default().to_owned();
        let body = format!("{name} {target} {}", request.field("host").unwrap_or_default());
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
}

#[test]
fn b6_b8_b11_one_form_is_routed_and_forwarded() {
    let (admin, web, host) = (named("admin"), named("web"), named("host"));
    let strata = routed(&admin, &web, &host);
    let cases = [
        ("B6 plain", "/admin/x", "a.test", "admin /admin/x a.test"),
        ("B6 dots", "/a/../admin/x", "a.test", "admin /admin/x a.test"),
        ("B6 escaped dots", "/a/%2e%2E/admin/x", "a.test", "admin /admin/x a.test"),
        ("B6 one dot", "/./admin", "a.test", "admin /admin a.test"),
        ("B6 out of admin", "/admin/../x", "a.test", "web /x a.test"),
        ("B6 above the root", "/../../admin", "a.test", "admin /admin a.test"),
        ("B6 escaped letters", "/%61dmin/x", "a.test", "admin /admin/x a.test"),
        ("B6 case of escapes", "/a%c3%a4", "a.test", "web /a%C3%A4 a.test"),
        ("B6 a query is opaque", "/x?y=/../admin", "a.test", "web /x?y=/../admin a.test"),
        ("B8 two slashes", "//admin/x", "a.test", "admin /admin/x a.test"),
        ("B8 slashes within", "/admin///x", "a.test", "admin /admin/x a.test"),
        ("B11 upper case", "/", "OWN.example.COM", "host / own.example.com"),
        ("B11 a dot at the end", "/", "own.example.com.", "host / own.example.com"),
        ("B11 the default port", "/", "own.example.com:80", "host / own.example.com"),
        ("B11 all of it", "/", "OWN.EXAMPLE.com.:80", "host / own.example.com"),
        ("another port is kept", "/", "own.example.com:8080", "host / own.example.com:8080"),
        ("absolute form", "http://own.example.com/x", "own.example.com", "host /x own.example.com"),
    ];
    let mut report = Report::default();
    for (name, target, host, expected) in cases {
        let answer = strata.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let text = if answer.status() == 200 { answer.text() } else { answer.start_line() };
        report.check(name, ensure(text == expected, || format!("expected {expected:?}, got {text:?}")));
    }
    report.finish(&strata);
}

#[test]
fn b12_an_underscore_is_no_dash() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let answer = strata.ask("GET / HTTP/1.1\r\nHost: a.test\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n");
    // An endpoint that makes CGI variables of fields would take it for ours.
    assert!(answer.status() == 400 || !answer.text().contains("6.6.6.6"), "{}", answer.text());
}

#[test]
fn a_request_that_no_route_takes_is_404() {
    let origin = Origin::echo();
    let strata = Strata::start(&format!(
        "[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\n[[service.web.route]]\nurl = \"a.test/x/*\"\npool = \"web\"\n\
         [pool.web]\nendpoints = [\"{}\"]\n",
        origin.address
    ));
    let before = strata.scrape();
    let answer = strata.ask("GET /y HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!((answer.status(), answer.field("x-strata-reason").as_deref()), (404, Some("no-route")));
    strata.counted(&before, "no-route", 1.0).unwrap();
    assert_eq!(origin.connections(), 0);
}
