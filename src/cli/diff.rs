//! Wiring: `strata diff`: what a reload would change, asked before it happens. Exits as diff(1) does.
//!
//! The running process compares, by the code that reloads: nobody else knows what it has in force, its secrets included. A file
//! of ours is sent with everything that it names, so that the process looks at nothing on its side: neither its environment nor
//! its files can be asked for in this way.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use super::{Admin, remote, say};
use crate::admin::document::{Candidate, Compared};
use crate::app::load::{self, Origin};

const SAME: u8 = 0;
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

pub fn diff(file: Option<&Path>, admin: &Admin, json: bool) -> ExitCode {
    let code = compare(file, admin, json).unwrap_or_else(|error| {
        eprintln!("strata: {error:#}");
        TROUBLE
    });
    ExitCode::from(code)
}

fn compare(file: Option<&Path>, admin: &Admin, json: bool) -> anyhow::Result<u8> {
    let candidate = match file {
        Some(file) => match candidate(file)? {
            Some(candidate) => Some(candidate),
            None => return Ok(TROUBLE),
        },
        None => None,
    };
    let compared = match remote::ask(async { Ok(remote::client(admin)?.compare(candidate.as_ref()).await?) })? {
        Ok(compared) => compared,
        Err(rejected) => {
            eprintln!("{}\n{}", rejected.rendered.trim_end(), rejected.error);
            return Ok(TROUBLE);
        }
    };
    show(&compared, json)?;
    if !compared.failures.is_empty() {
        eprintln!(
            "{}\na reload of this configuration would be refused: its own tests fail",
            compared.failures.trim_end()
        );
        return Ok(TROUBLE);
    }
    Ok(if compared.changes.is_empty() { SAME } else { DIFFERENT })
}

/// The file and all that it refers to; nothing after its mistakes were shown, for which nobody need be asked.
fn candidate(file: &Path) -> anyhow::Result<Option<Candidate>> {
    let mut loaded =
        load::read(&Origin::File(file.to_owned())).with_context(|| format!("cannot read {}", file.display()))?;
    // Its tests are the running process's to run: who fails them wants to see the changes all the same.
    load::compile_untested(&mut loaded, &load::nothing());
    if !loaded.is_valid() {
        eprint!("{}", loaded.render(std::io::stderr().is_terminal()));
        return Ok(None);
    }
    let candidate = std::mem::take(&mut loaded.asked).candidate();
    candidate.map(Some).ok_or_else(|| anyhow!("{}: the name of one of its files is no UTF-8 text", file.display()))
}

fn show(compared: &Compared, json: bool) -> anyhow::Result<()> {
    if json {
        return say(format_args!("{}\n", serde_json::to_string_pretty(compared)?));
    }
    eprint!("{}", compared.warnings);
    if compared.changes.is_empty() {
        return say("nothing would change\n");
    }
    compared.changes.iter().try_for_each(|change| say(format_args!("{change}\n")))
}
