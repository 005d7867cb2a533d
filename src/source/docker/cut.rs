//! Codec: answers of an engine without what no source reads, for a proxy between the two.
//!
//! What an engine says of a container holds its environment, its command and its mounts, with the secrets that are in them. What is
//! kept is by construction what `facts` reads. Not here: which questions there are (`cli::docker_proxy`).

use super::engine::{Lines, Said};
use super::facts;
use crate::base::limits;

/// What was asked, and so what of the answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    List,
    Container,
}

impl Cut {
    /// A longer answer would not be read by a source either.
    pub fn most(self) -> usize {
        match self {
            Cut::List => limits::DOCKER_LIST_BYTES,
            Cut::Container => limits::DOCKER_CONTAINER_BYTES,
        }
    }

    /// # Errors
    /// What is wrong with the answer, in words.
    pub fn answer(self, body: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Cut::List => facts::cut_list(body),
            Cut::Container => facts::cut_container(body),
        }
    }
}

/// The same of the stream of events.
#[derive(Debug, Default)]
pub struct Events {
    lines: Lines,
}

impl Events {
    /// What is known to be said after some bytes more, as whole lines. One that is too long or that does not read is one of that kind
    /// afterwards too: a source then looks at all containers, or begins anew.
    pub fn push(&mut self, data: &[u8]) -> Vec<u8> {
        self.lines.push(data);
        let mut kept = Vec::new();
        while let Some(said) = self.lines.next() {
            let line = match said {
                Said::Event(line) => match facts::cut_event(&line) {
                    Ok(Some(line)) => line,
                    Ok(None) => continue,
                    Err(_) => b"null".to_vec(),
                },
                Said::TooLong => vec![b'x'; limits::DOCKER_EVENT_BYTES + 1],
                Said::End => break,
            };
            kept.extend(line);
            kept.push(b'\n');
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_what_a_source_reads_of_them_however_they_are_cut_up() {
        let id = "0123456789ab";
        let event = |action: &str| {
            format!(
                r#"{{"Type":"container","Action":"{action}","from":"image","Actor":{{"ID":"{id}","Attributes":{{"strata.pool":"web","signal":"15"}}}},"timeNano":7}}"#
            )
        };
        let long = "y".repeat(limits::DOCKER_EVENT_BYTES + 1);
        let said =
            [&*event("kill"), &*event("exec_create: sh -c hunter2"), r#"{"Type":"image","Action":"pull"}"#, "{", &long];
        let stream = said.map(|line| format!("{line}\n")).concat();
        for size in [1, 7, 100_000, stream.len()] {
            let mut events = Events::default();
            let kept: Vec<u8> = stream.as_bytes().chunks(size).flat_map(|piece| events.push(piece)).collect();
            let text = String::from_utf8(kept.clone()).unwrap();
            assert!(!text.contains("hunter2") && !text.contains("image"), "{text}");
            // As it was, for whoever reads it.
            let mut lines = Lines::default();
            lines.push(&kept);
            let read: Vec<Said> = std::iter::from_fn(|| lines.next()).collect();
            let [Said::Event(kill), Said::Event(exec), Said::Event(bad), Said::TooLong] = read.as_slice() else {
                panic!("{size}: {} lines", read.len());
            };
            assert_eq!(facts::event(kill), facts::event(event("kill").as_bytes()));
            assert_eq!(facts::event(exec), facts::event(event("exec_create: sh -c hunter2").as_bytes()));
            assert!(facts::event(bad).is_err());
        }
    }
}
