//! Wiring: `strata gen`: what editors, shells and `man` want to know, from the tables that Strata itself goes by.

use std::process::ExitCode;

use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;

use super::{Arguments, say};
use crate::app::load::with_catalogs;
use crate::config::schema::schema;

#[derive(Debug, Subcommand)]
pub enum What {
    /// The JSON schema of the configuration, for editors
    Schema,
    /// The manual page, in roff: `strata gen man | man -l -`
    Man,
    /// Completions for a shell, to source or to put where it looks for them
    Completions { shell: Shell },
}

pub fn generate(what: &What) -> anyhow::Result<ExitCode> {
    let mut out = Vec::new();
    match what {
        What::Schema => {
            out = serde_json::to_vec_pretty(&with_catalogs(schema))?;
            out.push(b'\n');
        }
        What::Man => man(&mut out)?,
        What::Completions { shell } => clap_complete::generate(*shell, &mut command(), "strata", &mut out),
    }
    say(String::from_utf8_lossy(&out))?;
    Ok(ExitCode::SUCCESS)
}

/// Every command and its options.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// One page: the program, then each command with its options below it.
fn man(out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut command = command();
    command.build();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        out.extend_from_slice(format!(".SH \"STRATA {}\"\n", sub.get_name().to_uppercase()).as_bytes());
        let mut body = Vec::new();
        let page = clap_mangen::Man::new(sub.clone());
        page.render_synopsis_section(&mut body)?;
        page.render_description_section(&mut body)?;
        page.render_options_section(&mut body)?;
        // Sections of its own would look like those of the whole.
        out.extend_from_slice(
            String::from_utf8_lossy(&body).replace("\n.SH ", "\n.SS ").replacen(".SH ", ".SS ", 1).as_bytes(),
        );
    }
    page.render_version_section(out)?;
    out.extend_from_slice(TAIL.as_bytes());
    *out = emphasized(&String::from_utf8_lossy(out)).into_bytes();
    Ok(())
}

/// What help shows between backticks is bold on paper.
fn emphasized(page: &str) -> String {
    let line = |line: &str| {
        let parts = line.split('`').enumerate();
        parts
            .map(|(index, part)| if index % 2 == 1 { format!("\\fB{part}\\fR") } else { part.to_owned() })
            .collect::<String>()
    };
    page.lines().map(|text| line(text) + "\n").collect()
}

/// What commands have in common.
const TAIL: &str = "\
.SH \"EXIT STATUS\"
0: done. 1: the answer is no, or it could not be done. 2: wrong usage.
.SH FILES
.TP
\\fI/etc/strata/strata.toml\\fR
what the packaged service serves by: see \\fBstrata.toml\\fR(5)
.TP
\\fI/run/strata/strata/admin.sock\\fR
where that service is asked
.SH \"SEE ALSO\"
\\fBstrata.toml\\fR(5), \\fBsystemctl\\fR(1)
";
