//! `deploy/man/` and `deploy/completions/`: what packages install, from the commands and from the pages of the reference.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{held, reference};

fn strata(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_strata")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn manual_pages_and_completions_of_packages_are_what_the_code_says() {
    held("deploy/man/strata.1", &strata(&["gen", "man"]));
    held("deploy/man/strata.toml.5", &page());
    for (shell, file) in SHELLS {
        held(&format!("deploy/completions/{file}"), &strata(&["gen", "completions", shell]));
    }
}

const SHELLS: [(&str, &str); 3] = [("bash", "strata.bash"), ("zsh", "_strata"), ("fish", "strata.fish")];

#[test]
fn manual_pages_are_set_without_a_warning() {
    if !there("groff") {
        return;
    }
    for (name, page) in [("strata.1", strata(&["gen", "man"])), ("strata.toml.5", self::page())] {
        // What `man` runs, with every warning.
        let (set, warnings) = run("groff", &["-K", "utf8", "-T", "utf8", "-man", "-ww", "-rLL=100n"], &page);
        assert_eq!(warnings, "", "{name}");
        assert!(set.lines().count() > 100, "{name}: {set}");
        let broken = set.lines().find(|line| line.contains("\\f") || line.contains('`'));
        assert_eq!(broken, None, "{name}: something was left as it is written");
    }
}

#[test]
fn shells_complete_by_what_is_installed() {
    for (shell, file) in SHELLS.into_iter().filter(|(shell, _)| there(shell)) {
        let ask = match shell {
            // As readline calls it, on `strata sta` and `strata gen comp`.
            "bash" => {
                "source deploy/completions/strata.bash; complete -p strata >&2 || exit 1\n\
                 ask() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); \
                 _strata strata \"${!#}\" \"${COMP_WORDS[$#-2]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"; }\n\
                 ask strata sta; ask strata gen comp"
            }
            // Keys typed at a terminal: nothing else makes zsh complete.
            "zsh" => ZSH,
            _ => {
                "source deploy/completions/strata.fish\n\
                 complete -C 'strata sta' | string split -f 1 \\t; complete -C 'strata gen comp' | string split -f 1 \\t"
            }
        };
        // No file of the user's, no history.
        let bare: &[&str] = match shell {
            "bash" => &["--noprofile", "--norc"],
            "zsh" => &["-f"],
            _ => &["--no-config"],
        };
        let arguments = [bare, &["-c", ask]].concat();
        let (said, _) = run(shell, &arguments, "");
        let said: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(said, ["status", "completions"], "{shell}, by deploy/completions/{file}");
    }
}

const ZSH: &str = r#"
zmodload zsh/zpty || exit 1
zpty shell 'TERM=xterm zsh -f -i'
keys() { zpty -w -n shell "$1" }
await() {
    local seen= part
    repeat 500; do
        zpty -r -t shell part && seen+=$part && [[ $seen == *$1* ]] && return
        sleep 0.02
    done
    print -u2 -r -- "no ${(q)1} in ${(q)seen}"; exit 1
}
keys $'PS1=; fpath=(deploy/completions $fpath); autoload -Uz compinit; compinit -D -u; print rea""dy\n'
await ready
keys $'strata sta\t'; await 'strata status'; print status
keys $'\025strata gen comp\t'; await 'gen completions'; print completions
"#;

fn there(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok_and(|run| run.status.success());
    if !found {
        let all = std::env::var_os("STRATA_TEST_ALL").is_some_and(|all| all == "1");
        assert!(!all, "what {program} says of packaged files may not be skipped: it is not installed");
        eprintln!("SKIPPED: what {program} says of packaged files: it is not installed");
    }
    found
}

/// Output and errors of a program that must succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str], input: &str) -> (String, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(program);
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // Who does not read it does not need it.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect(program);
    writer.join().expect("the writer");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{program}: {err}");
    (out, err)
}

/// strata.toml(5), of what the reference says.
fn page() -> String {
    let mut out = format!(".TH strata.toml 5 \"\" \"strata {}\" \"\"\n", env!("CARGO_PKG_VERSION"));
    out += INTRO;
    for (title, markdown) in [
        ("KEYS", reference::keys()),
        ("PICKERS", reference::pickers()),
        ("PROBES", reference::probes()),
        ("SOURCES", reference::sources()),
    ] {
        let _ = writeln!(out, ".SH {title}");
        set(&mut out, &markdown);
    }
    out + OUTRO
}

/// Markdown as the reference is written in, without its title and what it says of itself.
fn set(out: &mut String, markdown: &str) {
    let mut lines = markdown.lines().skip(1).peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with("A test holds this page") {
            continue;
        }
        if line.starts_with("```") {
            *out += ".PP\n.RS 4\n.nf\n";
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                let _ = writeln!(out, "{}", line_of(&literal(code)));
            }
            *out += ".fi\n.RE\n";
        } else if let Some(title) = line.strip_prefix("## ") {
            let _ = writeln!(out, ".SS \"{}\"", inline(title).replace('"', "\\(dq"));
        } else if let Some(title) = line.strip_prefix("### ") {
            let _ = writeln!(out, ".PP\n{}", line_of(&inline(title)));
        } else if line.starts_with("| ") && lines.peek().is_some_and(|next| next.starts_with("|---")) {
            lines.next();
            while let Some(row) = lines.next_if(|next| next.starts_with("| ")) {
                row_of(out, row);
            }
        } else {
            let _ = writeln!(out, ".PP\n{}", line_of(&inline(line)));
        }
    }
}

/// A row: what it is about, what that takes and means by default where there are such columns, and the rest below it.
fn row_of(out: &mut String, row: &str) {
    let row = row.trim_start_matches("| ").trim_end_matches('|').replace("\\|", "\u{0}");
    let cells: Vec<String> = row.split('|').map(|cell| inline(&cell.trim().replace('\u{0}', "|"))).collect();
    let [first, between @ .., last] = &cells[..] else { return };
    let _ = write!(out, ".TP\n{}", line_of(first));
    match between {
        [takes, default] if default == "needed" => {
            let _ = write!(out, ": {takes}; needed");
        }
        [takes, default] if default == "see there" => {
            let _ = write!(out, ": {takes}; needed by some");
        }
        [takes, default] if !default.is_empty() => {
            let _ = write!(out, ": {takes}; default {default}");
        }
        [takes, ..] => {
            let _ = write!(out, ": {takes}");
        }
        [] => {}
    }
    let _ = writeln!(out, "\n{}", line_of(last));
}

/// Code in bold, links by their words.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(out, "\\fB{}\\fR", literal(part));
            continue;
        }
        let mut rest = part;
        while let Some((before, link)) = rest.split_once('[') {
            let Some((words, after)) =
                link.split_once("](").and_then(|(words, target)| Some((words, target.split_once(')')?.1)))
            else {
                break;
            };
            out += &escaped(before);
            out += &escaped(words);
            rest = after;
        }
        out += &escaped(rest);
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e")
}

/// Text that may be copied: its hyphens are those of a keyboard.
fn literal(text: &str) -> String {
    escaped(text).replace('-', "\\-").replace('\'', "\\(aq")
}

/// A line that begins with a dot or a quote would be a request.
fn line_of(text: &str) -> String {
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text.to_owned() }
}

const INTRO: &str = r#".SH NAME
strata.toml \- configuration of the Strata load balancer
.SH DESCRIPTION
One file in TOML says what
.BR strata (1)
serves: services, which are what clients reach; pools of endpoints, where that leads; and how their health is known.
\fBstrata check\fR \fIFILE\fR names every mistake of a file at once, and runs the tests that it has in \fB[[test]]\fR.
A file that is wrong never reaches traffic: what was in force before serves on.
.PP
Any text may name variables of the environment, as in \fB"${NAME}"\fR or \fB"${NAME:\-default}"\fR. Secrets may stand in files of their
own, as in \fB"file:/etc/strata/token"\fR. Units stand behind numbers, as in \fB"500ms"\fR or \fB"64KiB"\fR.
"#;

const OUTRO: &str = r#".SH FILES
.TP
\fI/etc/strata/strata.toml\fR
what \fBstrata.service\fR serves by
.TP
\fI/etc/strata/NAME.toml\fR
what \fBstrata@NAME.service\fR serves by
.TP
\fI/usr/share/doc/strata/examples\fR
a file for each thing that works
.SH "SEE ALSO"
.BR strata (1)
"#;
