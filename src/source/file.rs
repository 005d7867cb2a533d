//! Shell: the file source: endpoints in a file of their own, which another program writes. An edit of it is a finding.
//!
//! ```text
//!  quiet ──event, or POLL──▶ look: the same content as is judged ──▶ quiet
//!                             ▲ │ other content, first seen now
//!                             └─┘ QUIET later the same again ──▶ judged, and told
//! ```
//! A file that is broken, emptied or gone is a failure, so that what it said before stays in force. It is right or wrong as a whole: of a
//! list with one typo, the others are not a wish to lose that one.
//!
//! Not here: what the text means (`entries`), nor how folders are watched (`net::folders`).

mod entries;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use crate::base::limits;
use crate::doc::{Field, Grammar, Kind, Settings};
use crate::net::folders::Folders;
use crate::seam::Source;
use crate::seam::source::{DRAIN, Failure, Finding, Place, Spec, Tell, Trouble};

pub(super) const SPEC: Spec = Spec {
    grammar: Grammar {
        name: "file",
        summary: "endpoints in a file of their own, JSON or TOML, followed as it is edited; that of Prometheus' `file_sd` is one",
        fields: &[
            Field::required(
                "path",
                Kind::Checked(path),
                "where it is; a relative one begins at the configuration's folder",
            ),
            DRAIN,
        ],
        example: "source = { type = \"file\", path = \"/etc/strata/web.json\" }",
    },
    routes: false,
    build: |settings: &Settings, place: &Place| {
        Box::new(Listed { path: place.folder.join(settings.text("path").unwrap_or_default()) })
    },
};

fn path(text: &str) -> Result<(), String> {
    match text.is_empty() || text.ends_with('/') || text.contains('\0') {
        true => Err("not the path of a file".to_owned()),
        false => Ok(()),
    }
}

struct Listed {
    path: PathBuf,
}

/// Long enough for an editor to write and rename; twice this is well within the second in which a change is to show.
const QUIET: Duration = Duration::from_millis(100);
/// Where no event comes (another machine's disk), it is looked all the same.
const POLL: Duration = Duration::from_secs(5);

impl Source for Listed {
    fn run(self: Box<Self>, tell: Tell) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move { self.follow(&tell).await })
    }
}

impl Listed {
    async fn follow(&self, tell: &Tell) {
        let mut folders = Folders::new().map_err(|error| {
            tracing::warn!(path = %self.path.display(), error, "no edit is noticed at once: it is looked every few seconds");
        });
        let mut judged: Option<Result<Vec<u8>, String>> = None;
        loop {
            if let Ok(folders) = &mut folders {
                folders.follow(std::iter::once(&*self.path), std::iter::empty());
            }
            let mut read = self.read();
            while judged.as_ref() != Some(&read) {
                // The first is not in the middle of an edit more often than any other time, and whoever starts waits for it.
                if judged.is_some() {
                    tokio::time::sleep(QUIET).await;
                    let again = self.read();
                    if again != read {
                        read = again;
                        continue;
                    }
                }
                match self.judge(&read) {
                    Ok(finding) => tell.found(finding).await,
                    Err(failure) => tell.failed(failure).await,
                }
                judged = Some(read.clone());
            }
            match &mut folders {
                Ok(folders) => {
                    // Both mean: look.
                    let _ = tokio::time::timeout(POLL, folders.stirred()).await;
                    tokio::time::sleep(QUIET).await;
                }
                Err(()) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// The content; of one that cannot be read, why.
    fn read(&self) -> Result<Vec<u8>, String> {
        contents(&self.path).map_err(|error| error.to_string())
    }

    fn judge(&self, read: &Result<Vec<u8>, String>) -> Result<Finding, Failure> {
        let shown = self.path.display();
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(why) => {
                let missing = !self.path.exists();
                let trouble = if missing { Trouble::Missing } else { Trouble::Refused };
                return Err(Failure::new(trouble, format!("cannot read {shown}: {why}")));
            }
        };
        let members = entries::read(bytes, &shown.to_string())?;
        if members.is_empty() {
            return Err(Failure::new(Trouble::Empty, format!("{shown} names no endpoint")));
        }
        Ok(Finding { members, ..Finding::default() })
    }
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would hold the control thread until somebody writes.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    let most = limits::SOURCE_FILE_BYTES as u64;
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}
