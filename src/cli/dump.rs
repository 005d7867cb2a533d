//! Wiring: `strata dump`: what a file means, or what the running Strata has in force.

use std::path::Path;
use std::process::ExitCode;

use super::{Admin, read_config, remote, say};
use crate::admin::document::Dump;
use crate::config::dump::toml;

pub fn dump(file: Option<&Path>, admin: &Admin, json: bool) -> anyhow::Result<ExitCode> {
    let (dump, whose) = match file {
        Some(file) => {
            let Some(snapshot) = read_config(file)? else { return Ok(ExitCode::FAILURE) };
            let (config, places) = (snapshot.effective.clone(), snapshot.places.clone());
            (Dump { generation: snapshot.generation, config, places }, "this file".to_owned())
        }
        None => {
            let dump = remote::ask(async { Ok(remote::client(admin)?.dump().await?) })?;
            let whose = format!("generation {}", dump.generation);
            (dump, whose)
        }
    };
    if json {
        say(format_args!("{}\n", serde_json::to_string_pretty(&dump)?))?;
    } else {
        say(format_args!("# All that {whose} means: defaults filled in, secrets masked.\n\n"))?;
        say(toml(&dump.config, &dump.places))?;
    }
    Ok(ExitCode::SUCCESS)
}
