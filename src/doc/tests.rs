//! Texts in, diagnostics out: the readers against right, wrong and hostile documents.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::limits;

static LORE: Lore = Lore {
    named: &["app"],
    secrets: &["hash_key"],
    homes: &[("hash_key", "[cluster]")],
    aliases: &[("servers", "hosts")],
    later: &[("app", "vip", "packet services come later")],
};

static RING: Grammar = Grammar {
    name: "ring-hash",
    summary: "x",
    fields: &[
        Field::required("key", Kind::Word(&["source-address", "path"]), "what to be sticky by"),
        Field::default("load", Kind::Number { min: 1.0, max: 10.0 }, "1.25", "x"),
        Field::default("points", Kind::Integer { min: 1, max: 1000 }, "100", "x"),
    ],
    example: "balance = { type = \"ring-hash\", key = \"path\" }",
};
static RANDOM: Grammar = Grammar { name: "random", summary: "x", fields: &[], example: "balance = \"random\"" };
static PROBE: Grammar = Grammar {
    name: "http",
    summary: "x",
    fields: &[
        Field::default(
            "interval",
            Kind::Duration { min: Duration::from_millis(10), max: Duration::from_secs(60) },
            "2s",
            "x",
        ),
        Field::default("expect", Kind::Integers { min: 100, max: 599 }, "200 204", "x"),
        Field::optional("path", Kind::Checked(starts_with_slash), "x"),
        Field::optional("fields", Kind::Texts(starts_with_slash), "x"),
        Field::default("limit", Kind::Size, "64KiB", "x"),
        Field::default("close", Kind::Bool, "true", "x"),
    ],
    example: "probe = \"http\"",
};

fn starts_with_slash(text: &str) -> Result<(), String> {
    if text.starts_with('/') { Ok(()) } else { Err("must start with `/`".to_owned()) }
}

mod outside;

type Parts = (Vec<String>, Option<Settings>, Option<Settings>);

/// A small format that uses every reader.
fn read_all(source: &Source) -> (Parts, Vec<Diagnostic>) {
    let document = read_with(source, &Nowhere);
    (document.value, document.diagnostics)
}

fn read_with(source: &Source, outside: &dyn Outside) -> Document<Parts> {
    read(&source.name, source.text.clone().into_bytes(), outside, &LORE, |root| {
        let mut hosts = Vec::new();
        let (mut balance, mut probe) = (None, None);
        for (_, item) in root.get("app").and_then(|apps| apps.table("apps", Table::entries)).unwrap_or_default() {
            item.table("app", |app| {
                app.get("on").and_then(|v| v.bool());
                app.get("count").and_then(|v| v.integer(1, 10));
                app.get("share").and_then(|v| v.number(0.0, 1.0));
                app.get("wait").and_then(|v| v.duration(Duration::from_secs(1), Duration::from_secs(60)));
                app.get("body").and_then(|v| v.size(1024, 1 << 20));
                app.get("from").and_then(|v| v.network());
                app.get("mode").and_then(|v| v.one_of(&[("l4", 4), ("l7", 7)]));
                if let Some(listen) = app.need("listen", "listen = \":80\"") {
                    let _ = listen.one_or_many().iter().filter_map(Item::listen).count();
                }
                for host in app.get("hosts").map(|v| v.one_or_many()).unwrap_or_default() {
                    hosts.extend(host.socket().map(|address| address.value.to_string()));
                }
                balance = app.get("balance").and_then(|v| v.settings(&[&RING, &RANDOM])).map(|s| s.value);
                probe = app.get("probe").and_then(|v| v.settings(&[&PROBE])).map(|s| s.value);
            });
        }
        (hosts, balance, probe)
    })
}

fn codes_of(text: &str) -> Vec<&'static str> {
    read_all(&Source::new("x", text)).1.iter().map(|d| d.code).collect()
}

fn app(line: &str) -> String {
    format!("[app.web]\nlisten = \":80\"\n{line}\n")
}

#[test]
fn right_values_read_without_a_word() {
    for line in [
        "on = true",
        "count = 0x0a",
        "count = 1_0",
        "share = 1",
        "share = 0.5",
        "wait = \"1.5s\"",
        "body = \"64KiB\"",
        "from = \"10.0.0.0/8\"",
        "mode = \"l7\"",
        "hosts = \"10.0.0.1:80\"",
        "hosts = [\"10.0.0.1:80\", \"[::1]:80\"]",
        "balance = \"random\"",
        "balance = { type = \"ring-hash\", key = \"path\", load = 2 }",
        "probe = { type = \"http\", interval = \"1s\", expect = 200, path = \"/\", fields = [\"/a\"], limit = \"1B\", close = false }",
        "probe.type = \"http\"",
    ] {
        assert_eq!(codes_of(&app(line)), Vec::<&str>::new(), "{line}");
    }
}

#[test]
fn each_mistake_has_its_code_and_its_words() {
    for (line, code, words) in [
        ("on = \"true\"", "E012", "write true without quotes"),
        ("on = 1", "E012", "this is a whole number"),
        ("count = 11", "E013", "from 1 to 10"),
        ("count = -1", "E013", "from 1 to 10"),
        ("count = 99999999999999999999", "E013", "from 1 to 10"),
        ("count = \"5\"", "E012", "write 5 without quotes"),
        ("count = 1.5", "E012", "this is a number"),
        ("share = 1.5", "E013", "from 0 to 1"),
        ("share = nan", "E013", "from 0 to 1"),
        ("share = [1]", "E012", "this is a list"),
        ("wait = 5", "E012", "\"5s\" or \"5ms\""),
        ("wait = \"5\"", "E014", "needs a unit"),
        ("wait = \"2min\"", "E014", "unknown unit"),
        ("wait = \"2m\"", "E013", "from 1s to 1m"),
        ("body = \"64k\"", "E014", "unknown unit of size"),
        ("body = 64", "E012", "\"64B\" or \"64KiB\""),
        ("body = \"1GiB\"", "E013", "from 1KiB to 1MiB"),
        ("from = \"10.0.0.1/8\"", "E014", "beyond the prefix"),
        ("from = 1979-05-27", "E012", "this is a date"),
        ("mode = \"l5\"", "E015", "did you mean `l4`"),
        ("mode = \"http\"", "E015", "one of `l4` or `l7`"),
        ("hosts = [\"10.0.0.1\", 5]", "E014 E012", "the port is missing"),
        ("hosts = \"example.com:80\"", "E014", "not an IP address"),
        ("host = \"10.0.0.1:80\"", "E010", "did you mean `hosts`"),
        ("servers = []", "E010", "did you mean `hosts`"),
        ("lisen = 1", "E010", "did you mean `listen`, which is also given"),
        ("hash_key = \"x\"", "E010", "`hash_key` belongs in [cluster]"),
        ("vip = \"x\"", "E016", "packet services come later"),
        ("certificate = 1", "E010", "known here: `balance`, `body`"),
        ("balance = \"ring-hash\"", "E011", "`ring-hash` needs `key`"),
        ("balance = \"ringhash\"", "E015", "did you mean `ring-hash`"),
        ("balance = 5", "E012", "a name or a table with a `type`"),
        ("balance = {}", "E011", "`balance` needs `type`"),
        ("balance = { type = \"rondom\", any = 1 }", "E015", "unknown balance `rondom`"),
        ("balance = { type = 5 }", "E012", "this is a whole number"),
        (
            "balance = { type = \"ring-hash\", key = \"pth\", load = 0.5, points = 0, x = 1 }",
            "E015 E013 E013 E010",
            "did you mean `path`",
        ),
        ("balance = { type = \"random\", points = 5 }", "E017", "it is a setting of `ring-hash`"),
        ("balance = { type = \"random\", x = 5 }", "E010", "known here: `type`"),
        ("probe = { type = \"http\", path = \"x\", expect = [200, 99] }", "E014 E013", "must start with `/`"),
        (
            "probe = { type = \"http\", fields = [\"/a\", \"b\", 5, true] }",
            "E014 E014 E012",
            "`b` is not a valid `fields`",
        ),
    ] {
        let source = Source::new("x", app(line));
        let (_, found) = read_all(&source);
        let codes: Vec<&str> = found.iter().map(|d| d.code).collect();
        let shown = render(&source.clone().into(), &found, false);
        assert_eq!(codes.join(" "), code, "{line}\n{shown}");
        assert!(shown.contains(words), "{line}\n{shown}");
    }
}

#[test]
fn all_mistakes_of_a_file_come_in_one_run_in_the_order_of_the_text() {
    let source = Source::new("x.toml", "zap = 1\n[app.a]\non = 1\n[app.b]\nlisten = 80\nwait = 5\n[app]\nc = 5\n");
    let (_, found) = read_all(&source);
    let places: Vec<(usize, &str)> = found.iter().map(|d| (source.position(d.span.start).0, d.code)).collect();
    assert_eq!(places, [(1, "E010"), (2, "E011"), (3, "E012"), (5, "E012"), (6, "E012"), (8, "E012")]);
}

#[test]
fn syntax_errors_come_all_at_once_without_what_follows_from_them() {
    let source =
        Source::new("x.toml", "[app.a]\nlisten = :80\non = = true\ncount = 11\n[app.b]\nwait = \"1s\n\n[app.a]\n");
    let (_, found) = read_all(&source);
    let codes: Vec<(usize, &str)> = found.iter().map(|d| (source.position(d.span.start).0, d.code)).collect();
    assert_eq!(codes, [(2, "E001"), (3, "E001"), (4, "E013"), (6, "E001"), (8, "E004")]);
}

#[test]
fn absent_things_are_not_reported_of_a_file_that_could_not_be_read() {
    assert_eq!(codes_of("[app.a]\non = true\n"), ["E011"]);
    assert_eq!(codes_of("[app.a]\non = true\nlisten\n"), ["E001"]);
}

#[test]
fn settings_are_complete_with_their_defaults() {
    let text = app("balance = { type = \"ring-hash\", key = \"path\", load = 2 }\nprobe = \"http\"");
    let ((_, balance, probe), found) = read_all(&Source::new("x", text));
    assert!(found.is_empty());
    let (balance, probe) = (balance.unwrap(), probe.unwrap());
    assert_eq!((balance.text("key"), balance.number("load"), balance.integer("points")), (Some("path"), 2.0, 100));
    assert_eq!(
        (probe.duration("interval").as_secs(), probe.integers("expect"), probe.text("path")),
        (2, &[200, 204][..], None)
    );
    let shown = serde_json::to_string(&probe).unwrap();
    assert_eq!(shown, r#"{"type":"http","close":true,"expect":[200,204],"interval":"2s","limit":"64KiB"}"#);
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let source = Source::new("x", "#".repeat(limits::CONFIG_BYTES + 1));
    let (_, found) = read_all(&source);
    assert_eq!(found.iter().map(|d| d.code).collect::<Vec<_>>(), ["E003"]);
}

#[test]
fn thousands_of_mistakes_are_cut_and_counted() {
    let mut text = app("");
    for n in 0..5000 {
        text.push_str(&format!("key{n} = 1\n"));
    }
    let (_, found) = read_all(&Source::new("x", text));
    assert_eq!(found.len(), limits::DIAGNOSTICS + 1);
    assert_eq!(found.last().map(|d| d.message.as_str()), Some("and 4800 more that are not shown"));
}

#[test]
fn large_hostile_files_take_linear_time() {
    let started = crate::base::clock::now();
    let half = limits::CONFIG_BYTES / 32;
    for text in [
        "= ".repeat(half / 2),
        "=\n".repeat(half / 2),
        "[a\n".repeat(half / 3),
        "a=1\n".repeat(half / 4),
        (0..half / 8).map(|n| format!("k{n}=1\n")).collect(),
        "\u{1}".repeat(half),
    ] {
        let source = Source::new("x", text);
        let (_, found) = read_all(&source);
        assert!(!found.is_empty());
        render(&source.clone().into(), &found, false);
    }
    let taken = crate::base::clock::now().since(started);
    // Unoptimized and on a busy machine; the square would take hours.
    assert!(taken < Duration::from_secs(60), "{taken:?}");
}

#[test]
fn deep_nesting_is_an_error_and_not_an_overflow() {
    for text in [
        format!("x = {}", "[".repeat(100_000)),
        format!("x = {}{}", "[".repeat(50_000), "]".repeat(50_000)),
        format!("x = {}", "{a=".repeat(50_000)),
        format!("[{}]", vec!["a"; 50_000].join(".")),
        format!("{} = 1", vec!["a"; 50_000].join(".")),
    ] {
        let source = Source::new("x", text);
        let (_, found) = read_all(&source);
        assert!(found.iter().any(|d| d.code == "E001"), "{:?}", found.first());
        assert!(render(&source.clone().into(), &found, false).contains("E001"));
    }
}

/// A valid file that uses everything, for mutation.
const VALID: &str = r#"
[app.web]
on = true
count = 3
share = 0.5
wait = "2s"
body = "64KiB"
from = "10.0.0.0/8"
mode = "l7"
listen = [":80", "[::1]:80"]
hosts = ["10.0.0.1:80"]
balance = { type = "ring-hash", key = "path", load = 1.5 }
[app.web.probe]
type = "http"
expect = [200, 204]
"#;

fn survives(text: String) {
    let source = Source::new("x", text);
    let (_, found) = read_all(&source);
    let shown = render(&source.clone().into(), &found, false);
    assert!(shown.chars().all(|c| !c.is_control() || c == '\n'), "{shown:?}");
    json(&source.clone().into(), &found);
    for diagnostic in &found {
        assert!(!diagnostic.message.is_empty() && !diagnostic.message.ends_with('.'), "{diagnostic:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[ -~\n\t\r\u{0}\u{1b}]{0,200}|[\\[\\]{}=,.#\"'a-c1\n]{0,200}") {
        survives(text);
    }

    #[test]
    fn no_damage_to_a_valid_file_makes_it_panic(
        edits in proptest::collection::vec((0usize..400, 0usize..20, "[\\[\\]{}=,.#\"'ä\n\u{0}a-z0-9]{0,6}"), 1..6)
    ) {
        let mut text = VALID.to_owned();
        for (at, cut, insert) in edits {
            let start = text.floor_char_boundary(at);
            let end = text.ceil_char_boundary((start + cut).min(text.len()));
            text.replace_range(start..end, &insert);
        }
        survives(text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (source, mistake) = Source::from_bytes("x", bytes);
        render(&source.clone().into(), mistake.as_slice(), false);
        read_all(&source);
    }
}
