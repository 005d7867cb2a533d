//! The checker itself, seen to fail: breaches planted in small files, each with the line and the words it must report.

use std::collections::BTreeSet;

use super::{Breach, check_file, module_of};

/// A file, and the breaches it must have: line and a part of the message.
type Case = (&'static str, &'static str, &'static str, &'static [(usize, &'static str)]);

#[rustfmt::skip] // one case a line
const CASES: &[Case] = &[
    ("downward imports pass", "src/state/view.rs", "use crate::{balance::Member, base::{self, Moment}, doc};", &[]),
    ("an upward import fails", "src/wire/http1.rs", "use crate::route::Table;", &[(2, "`wire` (codec) imports upwards")]),
    ("a group is searched", "src/base/id.rs", "use crate::{\n    base::units,\n    app::run,\n};", &[(4, "from `app`")]),
    ("a nested group is searched", "src/base/id.rs", "use crate::{base::{a, b::{c, d}}, cli::{e}};", &[(2, "from `cli`")]),
    ("an inline path counts", "src/base/id.rs", "fn f() -> u8 {\n    crate::net::dial()\n}", &[(3, "from `net` (io)")]),
    ("super resolves", "src/doc/toml.rs", "use super::super::state::Snapshot;", &[(2, "from `state`")]),
    ("super stays at home", "src/doc/toml.rs", "use super::Span;\nuse super::spec::{Field, Kind};", &[]),
    ("inline modules count for super", "src/wire/mod.rs", "mod a {\n    use super::net::X;\n}\nuse super::net::Y;", &[(5, "`net`")]),
    ("engine siblings fail", "src/balance/ring.rs", "use crate::health::State;", &[(2, "imports its sibling `health`")]),
    ("one engine's own files pass", "src/balance/ring.rs", "use crate::balance::load::Load;", &[]),
    ("an earlier module passes", "src/net/dial.rs", "use crate::sys::connect;", &[]),
    ("a later module fails", "src/sys/splice.rs", "use crate::net::dial;", &[(2, "comes later on the io floor")]),
    ("shell families are strangers", "src/probe/tcp.rs", "use crate::mode::Accept;", &[(2, "sibling `mode`")]),
    ("shells of a family are strangers", "src/mode/l4/mod.rs", "use crate::mode::l7::Exchange;", &[(2, "sibling `mode::l7`")]),
    ("also by super", "src/probe/tcp.rs", "use super::http::Client;", &[(2, "sibling `probe::http`")]),
    ("a family's own words pass", "src/probe/tcp.rs", "use super::Outcome;\nuse crate::probe::Report;", &[]),
    ("a family lists its children", "src/mode/mod.rs", "pub use l4::L4;\nuse crate::mode::l7::L7;", &[]),
    ("the files of one shell know each other", "src/admin/api.rs", "use super::document::Status;", &[]),
    ("and no other shell", "src/admin/api.rs", "use crate::mode::l7::L7;", &[(2, "imports its sibling `mode`")]),
    ("the crate root is no way round", "src/wire/tcp.rs", "use crate::Server;", &[(2, "import it from where it is defined")]),
    ("a macro of the crate passes", "src/wire/tcp.rs", "fn f() {\n    crate::say!(1);\n}", &[]),
    ("a module on no floor fails", "src/utils/x.rs", "", &[(1, "`utils` stands on no floor")]),
    ("comments and strings are no imports", "src/base/id.rs", "// use crate::app;\n/* /* */ crate::app */\nconst A: &str = r#\"\"crate::app\"#;\nconst B: char = '\"'; // \" crate::app", &[]),
    ("lifetimes do not open strings", "src/base/id.rs", "fn f<'a>(x: &'a str) -> &'a str { crate::app::g(x) }", &[(2, "`app`")]),
    ("tests may import upwards", "src/base/id.rs", "#[cfg(test)]\nmod tests {\n    use crate::app::x;\n}\nuse crate::cli::y;", &[(6, "`cli`")]),
    ("test files may import upwards", "src/wire/http1/tests.rs", "use crate::net::dial;", &[]),
    ("a codec without a runtime", "src/wire/http1.rs", "use tokio::io::AsyncRead;", &[(2, "`tokio` on the codec floor")]),
    ("an engine without files, in tests neither", "src/route/table.rs", "#[cfg(test)]\nmod tests {\n    use std::{fs, fmt};\n}", &[(4, "`std::fs`")]),
    ("shells have a runtime", "src/mode/l4/relay.rs", "use tokio::io::AsyncRead;", &[]),
    ("unsafe outside sys fails", "src/net/relay.rs", "fn f() {\n    unsafe { g() }\n}", &[(3, "outside `src/sys`")]),
    ("unsafe in main fails", "src/main.rs", "fn main() {\n    unsafe { g() }\n}", &[(3, "outside `src/sys`")]),
    ("unsafe in sys needs a reason", "src/sys/cpu.rs", "fn f() {\n    unsafe { g() }\n}", &[(3, "without a `// SAFETY:`")]),
    ("unsafe in sys with a reason passes", "src/sys/cpu.rs", "fn f() {\n    // SAFETY: g is\n    // fine\n    let x =\n        unsafe { g() };\n}", &[]),
    ("a reason is for one statement", "src/sys/cpu.rs", "fn f() {\n    // SAFETY: fine\n    unsafe { g() };\n    unsafe { h() };\n}", &[(5, "without")]),
    ("leftovers fail", "src/net/dial.rs", "fn f() {\n    todo!()\n}\n// TODO: more", &[(3, "`todo!`"), (5, "`TODO`")]),
    ("a debug print fails", "src/net/dial.rs", "fn f() {\n    dbg!(1);\n}", &[(3, "`dbg!`")]),
];

#[test]
fn planted_breaches_are_found() {
    let modules: BTreeSet<Vec<String>> =
        ["src/mode/l4/mod.rs", "src/mode/l7.rs", "src/probe/http.rs", "src/probe/tcp.rs"].map(module_of).into();
    for (name, path, body, expected) in CASES {
        let text = format!("//! Value: planted.\n{body}\n");
        let found = check_file(path, &text, &modules);
        let list: Vec<String> = found.iter().map(Breach::to_string).collect();
        let same = found.len() == expected.len()
            && found
                .iter()
                .zip(*expected)
                .all(|(breach, (line, part))| breach.line == *line && breach.what.contains(part));
        assert!(same, "{name}: expected {expected:?}, found {list:#?}");
    }
}

#[test]
fn a_first_line_must_name_a_kind() {
    let cases = [
        ("src/net/dial.rs", "//! Shell: dials.\n", true),
        ("src/net/dial.rs", "use std::fmt;\n", false),
        ("src/net/dial.rs", "//! Dials.\n", false),
        ("src/net/dial.rs", "//! Base: dials.\n", false),
        ("src/base/mod.rs", "//! Base: the words.\n", true),
        ("src/doc/tests.rs", "//! Texts in, diagnostics out.\n", true),
        ("src/doc/tests.rs", "use super::*;\n", false),
        ("src/base/mod.rs", "//! Placeholder.\n", false),
        ("src/lib.rs", "//! Strata: one load balancer.\n", true),
        ("src/main.rs", "//! Wiring:\n", false),
    ];
    for (path, text, passes) in cases {
        let found = check_file(path, text, &BTreeSet::new());
        assert_eq!(found.is_empty(), passes, "{path} with {text:?}");
    }
}
