//! Wiring: `strata check`: pure, so it may run anywhere, as anyone, as often as one likes.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::say;
use crate::app::load::{self, Origin};

/// 0: every file is valid. 1: one is not. 2: one cannot be read.
pub fn check(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let colour = std::io::stdout().is_terminal();
    let mut worst = 0;
    let mut documents = Vec::new();
    for file in files {
        match load::read(&Origin::File(file.clone())) {
            Err(error) => {
                eprintln!("strata: cannot read {}: {error}", file.display());
                worst = 2;
            }
            Ok(mut loaded) => {
                load::compile(&mut loaded, &load::nothing());
                worst = worst.max(u8::from(!loaded.is_valid()));
                if json {
                    documents.push(serde_json::json!({
                        "file": file, "valid": loaded.is_valid(), "diagnostics": loaded.json(),
                    }));
                } else {
                    say(loaded.render(colour))?;
                    if loaded.is_valid() {
                        say(format_args!("{}: valid\n", file.display()))?;
                    }
                }
            }
        }
    }
    if json {
        say(format_args!("{:#}\n", serde_json::Value::Array(documents)))?;
    }
    Ok(ExitCode::from(worst))
}
