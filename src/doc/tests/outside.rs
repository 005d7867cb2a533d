//! Variables, included files and secrets in files, against a world that is a table.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// Variables and files by name.
#[derive(Default)]
struct World {
    variables: BTreeMap<&'static str, String>,
    files: BTreeMap<&'static str, Vec<u8>>,
    public: bool,
}

impl World {
    fn with(variables: &[(&'static str, &str)], files: &[(&'static str, &str)]) -> World {
        World {
            variables: variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            files: files.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect(),
            public: false,
        }
    }
}

impl Outside for World {
    fn variable(&self, name: &str) -> Result<String, &'static str> {
        self.variables.get(name).cloned().ok_or("is not set")
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, String> {
        let folder = folder.to_str().unwrap();
        let within = |path: &&str| path.rsplit_once('/').is_some_and(|(parent, _)| parent == folder);
        let names: Vec<String> =
            self.files.keys().copied().filter(within).map(|path| path.rsplit('/').next().unwrap().into()).collect();
        // In no order that anybody may rely on.
        if names.is_empty() { Err("no such folder".into()) } else { Ok(names.into_iter().rev().collect()) }
    }

    fn read(&self, path: &Path, most: usize) -> Result<Contents, String> {
        let bytes = self.files.get(path.to_str().unwrap()).ok_or("no such file")?;
        Ok(Contents { bytes: bytes.iter().copied().take(most + 1).collect(), is_public: self.public })
    }
}

fn shown(text: &str, world: &World) -> String {
    let document = read_with(&Source::new("etc/main.toml", text), world);
    render(&document.sources, &document.diagnostics, false)
}

fn codes_in(text: &str, world: &World) -> Vec<&'static str> {
    read_with(&Source::new("etc/main.toml", text), world).diagnostics.iter().map(|d| d.code).collect()
}

#[test]
fn variables_stand_for_texts_and_for_what_texts_stand_for() {
    let world = World::with(
        &[
            ("PORT", "80"),
            ("ON", "true"),
            ("SHARE", "0.5"),
            ("WAIT", "2s"),
            ("HOST", "10.0.0.1:80"),
            ("KIND", "ring-hash"),
        ],
        &[],
    );
    for line in [
        "listen = \":${PORT}\"",
        "on = \"${ON}\"\nlisten = \":80\"",
        "count = \"${NO:-7}\"\nlisten = \":80\"",
        "share = \"${SHARE}\"\nlisten = \":80\"",
        "wait = \"${WAIT}\"\nlisten = [\":${PORT}\"]",
        "hosts = [\"${HOST}\"]\nlisten = \":80\"",
        "balance = { type = \"${KIND}\", key = \"path\", points = \"${PORT}\" }\nlisten = \":80\"",
    ] {
        assert_eq!(shown(&format!("[app.web]\n{line}\n"), &world), "", "{line}");
    }
}

#[test]
fn what_a_variable_brings_is_judged_like_what_is_written() {
    let world = World::with(&[("PORT", "eighty"), ("MANY", "70000")], &[]);
    for (line, codes) in [
        ("listen = \":${PORT}\"", &["E014"][..]),
        ("listen = \":80\"\ncount = \"${PORT}\"", &["E012"]),
        ("listen = \":80\"\ncount = \"${MANY}\"", &["E013"]),
        // Missing: one mistake, and none that follows from it.
        ("listen = \"${NO}\"", &["E048"]),
        ("listen = \":80\"\ncount = \"${NO}\"\non = \"${NO}\"\nbalance = \"${NO}\"", &["E048", "E048", "E048"]),
        ("listen = [\"${NO}:80\", \"${NO}${X}\"]", &["E048", "E048", "E048"]),
    ] {
        assert_eq!(codes_in(&format!("[app.web]\n{line}\n"), &world), codes, "{line}");
    }
}

#[test]
fn a_later_mistake_points_into_the_files_own_text() {
    let world = World::with(&[("LONG", &"x".repeat(500)), ("NO", "")], &[]);
    let text = "[app.web]\nlisten = \"${LONG}\"\nhosts = [\"${LONG}\", \"10.0.0.1\"]\n";
    let document = read_with(&Source::new("m", text), &world);
    let places: Vec<&str> = document.diagnostics.iter().map(|d| &text[d.span.start..d.span.end]).collect();
    assert_eq!(places, ["\"${LONG}\"", "\"${LONG}\"", "\"10.0.0.1\""]);
}

#[test]
fn variables_bring_no_more_than_a_file_may_hold() {
    let world = World::with(&[("BIG", &"x".repeat(100_000))], &[]);
    let text = format!("[app.web]\nlisten = \":80\"\nhosts = [{}]\n", "\"${BIG}\",".repeat(100));
    assert!(codes_in(&text, &world).contains(&"E003"));
}

#[test]
fn included_files_join_by_name_and_each_mistake_names_its_file_and_line() {
    let world = World::with(
        &[],
        &[
            ("etc/conf.d/b.toml", "[app.b]\nlisten = \":81\"\nhosts = [\"10.0.0.2:80\"]\n"),
            ("etc/conf.d/a.toml", "[app.a]\nlisten = \":80\"\n\nwiat = \"1s\"\nhosts = [\"10.0.0.1:80\"]\n"),
            ("etc/conf.d/c.toml~", "not TOML"),
            ("etc/conf.d/.d.toml", "not TOML"),
            ("etc/other.toml", "[app.main]\nlisten = \":84\""),
        ],
    );
    let main = "include = [\"conf.d/*.toml\", \"other.toml\"]\n[app.z]\nlisten = \":82\"\ncount = 99\n";
    let document = read_with(&Source::new("etc/main.toml", main), &world);
    let names: Vec<&str> = document.sources.files().map(|file| &*file.name).collect();
    assert_eq!(names, ["etc/main.toml", "etc/conf.d/a.toml", "etc/conf.d/b.toml", "etc/other.toml"]);
    // Tables come in the order of the files, as if they were one text.
    assert_eq!(document.value.0, ["10.0.0.1:80", "10.0.0.2:80"]);
    let places: Vec<(String, &str)> =
        document.diagnostics.iter().map(|d| (document.sources.place(d.span.start).to_string(), d.code)).collect();
    let want = [("etc/main.toml:4", "E013"), ("etc/conf.d/a.toml:4", "E010")];
    assert_eq!(places, want.map(|(place, code)| (place.to_owned(), code)));
    let shown = render(&document.sources, &document.diagnostics, false);
    assert!(shown.contains(" --> etc/conf.d/a.toml:4:1\n") && shown.contains("4 | wiat"), "{shown}");
}

#[test]
fn what_cannot_be_included_says_why() {
    let world = World::with(
        &[],
        &[
            ("etc/conf.d/a.toml", "include = \"x\"\n[app.a]\nlisten = \":80\"\n"),
            ("etc/twice/a.toml", "[app.z]\nlisten = \":80\"\n"),
            ("etc/broken/a.toml", "[app.a\nlisten = :80\n"),
            ("etc/empty/x", ""),
            ("etc/main.toml", "x"),
        ],
    );
    for (include, codes, words) in [
        ("\"conf.d/a.toml\"", &["E050"][..], "an included file includes others"),
        ("\"twice/*.toml\"", &["E051"], "`app.z` is given in two files"),
        ("\"twice/*.toml\"", &["E051"], "::: etc/main.toml:2:6"),
        ("\"broken/a.toml\"", &["E001", "E001"], "--> etc/broken/a.toml:1:7"),
        ("\"empty/*.toml\"", &["W015"], "looked in etc/empty"),
        ("\"nowhere/*.toml\"", &["W015"], "etc/nowhere: no such folder"),
        ("\"nowhere/a.toml\"", &["E050"], "cannot read `etc/nowhere/a.toml`: no such file"),
        ("\"*/a.toml\"", &["E050"], "in a folder's name"),
        ("\"..\"", &["E050"], "names no file"),
        ("[5]", &["E012"], "this is a whole number"),
        // Itself, by a pattern: read once.
        ("\"*.toml\"", &[], ""),
    ] {
        let text = format!("include = {include}\n[app.z]\nlisten = \":82\"\n");
        assert_eq!(codes_in(&text, &world), codes, "{include}\n{}", shown(&text, &world));
        assert!(shown(&text, &world).contains(words), "{include}: {words}\n{}", shown(&text, &world));
    }
}

#[test]
fn included_files_are_bounded_in_number_and_in_bytes_together() {
    let half = format!("#{}", "x".repeat(limits::CONFIG_BYTES / 2));
    let world = World::with(&[], &[("etc/a.toml", &half), ("etc/b.toml", &half)]);
    let text = "include = [\"a.toml\", \"b.toml\"]\n[app.z]\nlisten = \":82\"\n";
    assert_eq!(codes_in(text, &world), ["E003"]);
    assert!(shown(text, &world).contains("with `etc/b.toml`"));

    /// A folder without an end.
    struct Endless(Cell<usize>);
    impl Outside for Endless {
        fn variable(&self, _: &str) -> Result<String, &'static str> {
            Err("is not set")
        }
        fn list(&self, _: &Path) -> Result<Vec<String>, String> {
            Ok((0..limits::CONFIG_FILES * 2).map(|n| format!("{n}.toml")).collect())
        }
        fn read(&self, _: &Path, _: usize) -> Result<Contents, String> {
            self.0.set(self.0.get() + 1);
            Ok(Contents::default())
        }
    }
    let endless = Endless(Cell::new(0));
    let document = read_with(&Source::new("m", "include = \"x/*.toml\"\n[app.z]\nlisten = \":82\"\n"), &endless);
    assert_eq!(document.diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), ["E050"]);
    assert_eq!(endless.0.get(), limits::CONFIG_FILES);
}

/// What a secret was read as, and what was found.
fn secret(text: &str, world: &World) -> (Option<Secret>, String) {
    let document = read("etc/main.toml", text.into(), world, &Lore::NONE, |root| {
        root.get("key").and_then(|item| item.secret()).map(|secret| secret.value)
    });
    (document.value, render(&document.sources, &document.diagnostics, false))
}

#[test]
fn secrets_are_read_from_the_text_a_variable_or_a_file() {
    let world = World::with(
        &[("KEY", "hunter2"), ("AT", "key")],
        &[("etc/key", "hunter2\n"), ("/run/key", "hunter2"), ("etc/crlf", "hunter2\r\n"), ("etc/two", "hunter2\n\n")],
    );
    for (value, want) in [
        ("hunter2", "hunter2"),
        ("${KEY}", "hunter2"),
        ("${NO:-hunter2}", "hunter2"),
        ("x${KEY}", "xhunter2"),
        ("file:key", "hunter2"),
        ("file:/run/key", "hunter2"),
        ("file:crlf", "hunter2"),
        // One line end is an editor's; a second one is somebody's will.
        ("file:two", "hunter2\n"),
        ("file:${AT}", "hunter2"),
    ] {
        let (secret, found) = secret(&format!("key = \"{value}\"\n"), &world);
        assert_eq!(found, "", "{value}");
        assert_eq!(secret.as_ref().map(Secret::expose), Some(want), "{value}");
    }
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_a_byte_of_it() {
    let large = "hunter2".repeat(limits::SECRET_BYTES);
    let mut world = World::with(&[("AT", "hunter2")], &[("etc/large", &large), ("etc/empty", "\n")]);
    world.files.insert("etc/binary", b"hunter2\xff".to_vec());
    for (value, words) in [
        ("file:none", "cannot read `etc/none`: no such file"),
        ("file:large", "has more than 8192 bytes"),
        ("file:empty", "`etc/empty` is empty"),
        ("file:binary", "`etc/binary` is not UTF-8 text"),
        ("${NO}", "variable `NO` is not set"),
    ] {
        let (secret, found) = secret(&format!("key = \"{value}\"\n"), &world);
        assert!(secret.is_none() && found.contains(words) && found.contains(value), "{value}\n{found}");
        assert!(!found.contains("hunter2"), "{value}\n{found}");
    }
    // A wrong line beside it must not show it either.
    let (_, found) = secret("key = \"hunter2\"\nkye = 1\nkey2 = [\"hunter2\"]", &world);
    assert!(found.contains("kye") && !found.contains("key = \"hunter2"), "{found}");
    let (_, found) = secret("key = [\"hunter2\"]\n", &world);
    assert!(found.contains("E012") && !found.contains("hunter2"), "{found}");
}

#[test]
fn a_secret_that_others_can_read_or_that_is_only_a_mask_is_a_warning() {
    let mut world = World::with(&[], &[("etc/key", "hunter2")]);
    world.public = true;
    let (found, shown) = secret("key = \"file:key\"\n", &world);
    assert!(found.is_some() && shown.contains("W016") && shown.contains("chmod o-r etc/key"), "{shown}");
    let (found, shown) = secret(&format!("key = \"{}\"\n", Secret::MASK), &world);
    assert!(found.is_some() && shown.contains("W017"), "{shown}");
}

#[test]
fn every_value_knows_where_it_was_written() {
    let world = World::with(
        &[],
        &[("etc/b.toml", "[app.b]\nlisten = \":80\"\nhosts = [\n  \"10.0.0.1:80\",\n  \"10.0.0.2:80\",\n]\n")],
    );
    let main = "include = \"b.toml\"\n[app.a]\nlisten = \":81\"\nbalance = \"random\"\n";
    let document = read_with(&Source::new("etc/main.toml", main), &world);
    let meant = serde_json::json!({
        "workers": 4,
        "app": {
            "a": { "listen": [":81"], "balance": { "type": "random", "seed": 7 }, "wait": "1s" },
            "b": { "listen": [":80"], "hosts": [{ "address": "10.0.0.1:80", "weight": 1 }, { "address": "10.0.0.2:80", "weight": 1 }] },
        },
    });
    let want = serde_json::json!({
        "workers": null,
        "app": {
            "a": {
                "listen": ["etc/main.toml:3"],
                "balance": { "type": "etc/main.toml:4", "seed": null },
                "wait": null,
            },
            "b": {
                "listen": ["etc/b.toml:2"],
                "hosts": [{ "address": "etc/b.toml:4", "weight": null }, { "address": "etc/b.toml:5", "weight": null }],
            },
        },
    });
    assert_eq!(document.written.places(&meant), want);
}
