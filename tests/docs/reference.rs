//! `docs/reference/`: keys, pickers, probes, codes and commands, from the tables that Strata goes by.

use std::fmt::Write as _;

use strata::base::units::{show_duration, show_size};
use strata::cli::generate::command;
use strata::cli::list::modes;
use strata::config::Catalogs;
use strata::config::grammar::{Family, Key, Need, SECTIONS, Takes};
use strata::doc::codes::CODES;
use strata::doc::{Grammar, Kind, Shape};
use strata::{balance, probe, source};

use super::held;

/// Stands on every page.
const HELD: &str = "A test holds this page to the code: `STRATA_BLESS=1 cargo test --test docs` writes it.\n";

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn every_key_stands_in_the_reference() {
    held("docs/reference/keys.md", &keys());
}

pub fn keys() -> String {
    let mut out = String::from(
        "# Keys of the configuration\n\nHow a file is put together is in [configuration.md](../configuration.md). ",
    );
    out += "Texts may name variables, which may stand for numbers too.\n";
    out += HELD;
    for section in SECTIONS {
        let title =
            if section.title.starts_with('[') { format!("`{}`", section.title) } else { section.title.to_owned() };
        let _ = write!(
            out,
            "\n## {title}\n\n{}.\n\n| key | takes | default | |\n|---|---|---|---|\n",
            capital(section.about)
        );
        for key in section.keys {
            let default = match key.need {
                Need::Required => "needed".to_owned(),
                Need::Sometimes => "see there".to_owned(),
                Need::Default(default) => format!("`{default}`"),
                Need::Optional => String::new(),
            };
            let _ = writeln!(out, "| `{}` | {} | {default} | {} |", key.name, takes(key), escaped(key.help));
        }
        for key in section.keys {
            match &key.takes {
                Takes::Fields(grammar) => {
                    let _ =
                        write!(out, "\n### `{}` of `{}`\n\n{}.\n\n", key.name, section.title, capital(grammar.summary));
                    fields(&mut out, grammar);
                }
                Takes::Plugin(family @ (Family::Mac | Family::Zones)) => {
                    plugins(&mut out, key.name, &family.grammars(&Catalogs::default()));
                }
                _ => {}
            }
        }
    }
    out += "\n## Modes\n\n| mode, forward | |\n|---|---|\n";
    for (mode, meaning) in modes() {
        let _ = writeln!(out, "| `{mode}` | {meaning} |");
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn takes(key: &Key) -> String {
    let shapes = |shapes: &[Shape]| shapes.iter().map(shape).collect::<Vec<_>>().join(", or ");
    match &key.takes {
        Takes::One(one) => shapes(one),
        Takes::Many(one) => format!("{}; one or a list", shapes(one)),
        Takes::ManyOrTable(one, _) => format!("{}, or a table; one or a list", shapes(one)),
        Takes::Table(_) | Takes::Fields(_) => "a table".to_owned(),
        Takes::Named(_) => "tables by name".to_owned(),
        Takes::Tables(_) => "a list of tables".to_owned(),
        Takes::Free => "a table of texts, or text; one or a list".to_owned(),
        Takes::Plugin(Family::Balance) => "a [picker](pickers.md)".to_owned(),
        Takes::Plugin(Family::Probe) => "a [probe](probes.md)".to_owned(),
        Takes::Plugin(Family::Source) => "a [source](sources.md)".to_owned(),
        Takes::ManyOrPlugin(one, _) => format!("{}; one or a list; or a [source](sources.md)", shapes(one)),
        Takes::Plugin(_) => "a name, or a table with a `type`".to_owned(),
    }
}

fn shape(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Integer { min, max } if *max == u64::from(u32::MAX) => format!("a number from {min}"),
        Shape::Integer { min, max } => format!("a number from {min} to {max}"),
        Shape::Signed { min, max } => format!("a number from {min} to {max}"),
        Shape::Duration { min, max } => format!("a duration from {} to {}", show_duration(*min), show_duration(*max)),
        Shape::Size { min, max: u64::MAX } => format!("a size from {}", show_size(*min)),
        Shape::Size { min, max } => format!("a size from {} to {}", show_size(*min), show_size(*max)),
        Shape::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" "),
        Shape::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" "),
        Shape::Text => "text".to_owned(),
        Shape::Secret => "a secret".to_owned(),
        Shape::Listen => "an address to listen on".to_owned(),
        Shape::Socket => "an address and a port".to_owned(),
        Shape::Network => "a network".to_owned(),
        Shape::Ip => "an address".to_owned(),
        Shape::Ports => "ports and a protocol".to_owned(),
        Shape::Mac => "a MAC address".to_owned(),
        Shape::Table(_) | Shape::Plugin(_) | Shape::Fields(_) => "a table".to_owned(),
    }
}

fn plugins(out: &mut String, key: &str, grammars: &[&'static Grammar]) {
    for grammar in grammars {
        let _ = write!(out, "\n### `{key} = \"{}\"`\n\n", grammar.name);
        about(out, grammar);
    }
}

fn about(out: &mut String, grammar: &Grammar) {
    let _ = write!(out, "{}.\n\n", capital(grammar.summary));
    if grammar.fields.is_empty() {
        *out += "No settings.\n\n";
    } else {
        fields(out, grammar);
        *out += "\n";
    }
    let _ = write!(out, "```toml\n{}\n```\n", grammar.example);
}

fn fields(out: &mut String, grammar: &Grammar) {
    *out += "| setting | takes | default | |\n|---|---|---|---|\n";
    for field in grammar.fields {
        let default = match (field.required, field.default) {
            (true, _) => "needed".to_owned(),
            (false, Some(default)) => format!("`{default}`"),
            (false, None) => String::new(),
        };
        let _ = writeln!(out, "| `{}` | {} | {default} | {} |", field.name, kind(field.kind), escaped(field.help));
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Bool => shape(&Shape::Bool),
        Kind::Integer { min, max: u64::MAX } => format!("a number from {min}"),
        Kind::Integer { min, max } => shape(&Shape::Integer { min, max }),
        Kind::Number { min, max } => format!("a number from {min} to {max}"),
        Kind::Duration { min, max } => shape(&Shape::Duration { min, max }),
        Kind::Size => "a size".to_owned(),
        Kind::Text | Kind::Checked(_) => "text".to_owned(),
        Kind::Word(words) => shape(&Shape::Word(words)),
        Kind::Texts(_) => "text; one or a list".to_owned(),
        Kind::Integers { min, max } => format!("a number from {min} to {max}; one or a list"),
    }
}

fn catalogue(title: &str, intro: &str, grammars: &[&'static Grammar]) -> String {
    let mut out = format!("# {title}\n\n{intro}\n{HELD}\n| name | |\n|---|---|\n");
    for grammar in grammars {
        let _ = writeln!(out, "| [`{0}`](#{0}) | {1} |", grammar.name, escaped(grammar.summary));
    }
    for grammar in grammars {
        let _ = write!(out, "\n## {}\n\n", grammar.name);
        about(&mut out, grammar);
    }
    out
}

#[test]
fn every_picker_probe_and_source_stands_in_the_reference_with_its_settings() {
    held("docs/reference/pickers.md", &pickers());
    held("docs/reference/probes.md", &probes());
    held("docs/reference/sources.md", &sources());
}

pub fn pickers() -> String {
    let pickers: Vec<&'static Grammar> = balance::CATALOG.iter().map(|spec| &spec.grammar).collect();
    let intro = "`balance` of a pool: how one of its usable endpoints is picked. A name alone takes every default.";
    catalogue("Pickers", intro, &pickers)
}

pub fn probes() -> String {
    let probes: Vec<&'static Grammar> = probe::CATALOG.iter().map(|spec| &spec.grammar).collect();
    let intro = "`probe` of a pool: how the health of its endpoints is known. [probes.md](../probes.md) tells more.";
    catalogue("Probes", intro, &probes)
}

pub fn sources() -> String {
    let intro = "`source` of a pool: where endpoints come from that stand in no file. [discovery.md](../discovery.md) tells more.";
    catalogue("Sources", intro, &source::of_pools())
}

#[test]
fn every_code_stands_in_the_reference() {
    let mut out = format!(
        "# Codes of mistakes\n\nWhat `strata check` finds. `E`: the file does not ship. `W`: it does, and may not mean what its author \
         thinks. Codes\nare stable. Each is shown by a file of [conf/bad/](../../conf/bad), with what is printed beside it.\n{HELD}\n| code | |\n|---|---|\n"
    );
    for code in CODES {
        let _ = writeln!(out, "| `{}` | {} |", code.id, escaped(code.explain));
    }
    held("docs/reference/codes.md", &out);
}

#[test]
fn every_command_stands_in_the_reference_with_its_options() {
    let mut out = format!(
        "# Commands\n\n`strata COMMAND --help` says the same. `strata gen man` makes a manual page of it.\n{HELD}"
    );
    let mut root = command();
    root.build();
    for sub in root.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        let name = sub.get_name().to_owned();
        let help = sub.clone().term_width(100).render_long_help().to_string();
        let _ = write!(
            out,
            "\n## {name}\n\n```text\n{}\n```\n",
            help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end()
        );
    }
    held("docs/reference/commands.md", &out);
}

#[test]
fn list_names_what_the_catalogues_hold() {
    let said = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_strata")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let topics = said(&["list"]);
    for topic in topics.lines().filter_map(|line| line.split_whitespace().next()) {
        let rows = said(&["list", topic]);
        assert!(
            rows.lines().count() >= 2 && rows.lines().all(|row| row.split_whitespace().count() > 1),
            "{topic}:\n{rows}"
        );
        let json: serde_json::Value = serde_json::from_str(&said(&["list", topic, "--json"])).unwrap();
        assert_eq!(json.as_array().map(Vec::len), Some(rows.lines().count()), "{topic}");
    }
    assert!(topics.lines().count() >= 7, "{topics}");
    for (topic, word) in [
        ("pickers", "maglev"),
        ("probes", "http"),
        ("sources", "file"),
        ("modes", "l3 ipip"),
        ("reasons", "no-endpoint"),
        ("codes", "E010"),
        ("metrics", "strata_drops_total"),
        ("keys", "[pool.NAME] endpoints"),
    ] {
        assert!(said(&["list", topic]).contains(word), "{topic}: no {word}");
    }
}

#[test]
fn the_manual_page_and_completions_know_every_command() {
    let said = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_strata")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let man = said(&["gen", "man"]);
    assert!(man.contains(".TH strata 1"), "{man}");
    let shells = ["bash", "zsh", "fish", "elvish", "powershell"].map(|shell| said(&["gen", "completions", shell]));
    for sub in command().get_subcommands() {
        let name = sub.get_name();
        assert!(man.contains(&format!(".SH \"STRATA {}\"", name.to_uppercase())), "no {name} in the manual page");
        assert!(shells.iter().all(|completions| completions.contains(name)), "no {name} in the completions");
    }
}
