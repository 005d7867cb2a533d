//! Codec: answers of an engine without what no source reads, for a proxy between the two.
//!
//! What an engine says of a container holds its environment, its command and its mounts, with the secrets that are in them. What is
//! kept is by construction what `facts` reads. Lists and events are cut as they come, a container or an event at a time, and nobody
//! holds one whole. Not here: which questions there are (`cli::docker_proxy`).

use super::engine::{Lines, Said};
use super::facts;
use crate::base::limits;

/// The most that is held of one answer: of what has come, or of what is kept of it. Many short containers may come in one piece, and
/// each is some thirty bytes longer where it leaves out what is read.
pub const HELD_BYTES: usize = limits::DOCKER_CONTAINER_BYTES + 256 * 1024;

/// The answer about one container.
///
/// # Errors
/// What is wrong with it, in words.
pub fn container(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut kept = facts::cut_container(body)?;
    kept.shrink_to_fit();
    Ok(kept)
}

/// The list of containers.
#[derive(Debug, Default)]
pub struct List {
    at: At,
    /// Of the container that is being said.
    one: Vec<u8>,
    /// Whether one has been kept: the next has a comma before it.
    has_any: bool,
    left_out: usize,
}

/// Where in the list.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Before,
    Between,
    /// In a container: how deep, and in a text of it.
    In {
        depth: usize,
        text: Text,
        too_long: bool,
    },
    After,
    /// It does not read, and nothing more of it is passed on.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Out,
    In,
    Escaped,
}

impl List {
    /// What is known to be said after some bytes more. A list that does not read is none that reads afterwards either.
    pub fn push(&mut self, data: &[u8]) -> Vec<u8> {
        let mut kept = Vec::new();
        for &byte in data {
            self.at = match self.at {
                At::Lost => break,
                at if byte.is_ascii_whitespace() && !matches!(at, At::In { .. }) => at,
                At::Before if byte == b'[' => {
                    kept.push(b'[');
                    At::Between
                }
                At::Between if byte == b',' => At::Between,
                At::Between if byte == b']' => {
                    kept.push(b']');
                    At::After
                }
                At::Between if byte == b'{' => self.go_on(byte, 0, Text::Out, false, &mut kept),
                At::In { depth, text, too_long } => self.go_on(byte, depth, text, too_long, &mut kept),
                At::Before | At::Between | At::After => lost(&mut kept),
            };
        }
        kept.shrink_to_fit();
        kept
    }

    /// How many containers were left out since that was asked last, because an engine says more of each than a source would read.
    pub fn left_out(&mut self) -> usize {
        std::mem::take(&mut self.left_out)
    }

    /// A byte more of a container.
    fn go_on(&mut self, byte: u8, depth: usize, text: Text, mut too_long: bool, kept: &mut Vec<u8>) -> At {
        if self.one.len() == limits::DOCKER_CONTAINER_BYTES {
            (self.one, too_long) = (Vec::new(), true);
        }
        if !too_long {
            if self.one.len() == self.one.capacity() {
                // Not twice as much each time: what is held is bounded.
                self.one.reserve_exact(GROWTH);
            }
            self.one.push(byte);
        }
        let (depth, text) = match (text, byte) {
            (Text::In, b'\\') => (depth, Text::Escaped),
            (Text::In, b'"') => (depth, Text::Out),
            (Text::In | Text::Escaped, _) => (depth, Text::In),
            (Text::Out, b'"') => (depth, Text::In),
            (Text::Out, b'{' | b'[') => (depth + 1, Text::Out),
            (Text::Out, b'}' | b']') => (depth - 1, Text::Out),
            (Text::Out, _) => (depth, Text::Out),
        };
        if depth > 0 {
            return At::In { depth, text, too_long };
        }
        if too_long {
            self.left_out += 1;
            return At::Between;
        }
        let one = facts::cut_listed(&self.one);
        self.one.clear();
        self.one.shrink_to(GROWTH);
        let Ok(one) = one else { return lost(kept) };
        if std::mem::replace(&mut self.has_any, true) {
            kept.push(b',');
        }
        kept.extend(one);
        At::Between
    }
}

/// Wherever it stands, no list reads with that.
fn lost(kept: &mut Vec<u8>) -> At {
    kept.extend(b"null");
    At::Lost
}

/// The stream of events.
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
        kept.shrink_to_fit();
        kept
    }
}

/// Of the room for one container of a list, where it has more to say than most.
const GROWTH: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789ab";

    #[test]
    fn events_keep_what_a_source_reads_of_them_however_they_are_cut_up() {
        // As Docker has it: labels, and words of its own among them.
        let event = |action: &str| {
            format!(
                r#"{{"Type":"container","Action":"{action}","from":"web:1.27","Actor":{{"ID":"{ID}","Attributes":{{"execID":"f00d","exitCode":"137","image":"web:1.27","name":"shop-1","strata.pool":"web","signal":"15"}}}},"timeNano":7}}"#
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
            for word in ["hunter2", "image", "web:1.27", "exitCode", "execID", "shop-1"] {
                assert!(stream.contains(word) && !text.contains(word), "{word}: {text}");
            }
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

    fn pushed(list: &mut List, text: &str, size: usize) -> Vec<u8> {
        text.as_bytes().chunks(size).flat_map(|piece| list.push(piece)).collect()
    }

    #[test]
    fn a_list_keeps_what_a_source_reads_of_it_however_it_is_cut_up() {
        let one = |labels: &str| {
            format!(
                r#"{{"Id":"{ID}","Names":["/web-1"],"Command":"run hunter2","Labels":{labels},"Mounts":[{{"Source":"/secret"}}]}}"#
            )
        };
        let odd = one(r#"{"strata.pool":"a]}\"[{\\"}"#);
        for said in ["[]".to_owned(), format!("[{}]\n", one("null")), format!(" [ {odd} ,\n{},{odd}]", one("{}"))] {
            for size in [1, 7, said.len()] {
                let mut list = List::default();
                let kept = pushed(&mut list, &said, size);
                assert_eq!((facts::list(&kept), list.left_out()), (facts::list(said.as_bytes()), 0), "{said}");
                assert!(facts::list(&kept).is_ok(), "{said}");
                let text = String::from_utf8(kept).unwrap();
                assert!(!text.contains("hunter2") && !text.contains("secret"), "{text}");
            }
        }
        // What is no list, or ends too early, is none afterwards.
        let good = one("null");
        for said in [
            r#"{"Id":"hunter2"}"#.to_owned(),
            "\"hunter2\"".to_owned(),
            "null".to_owned(),
            String::new(),
            format!("[{good}"),
            format!("[{good}] {good}"),
            format!("[{good},\"hunter2\"]"),
            format!("[{good},{{\"Id\":7,\"b\":\"hunter2\"}},{good}]"),
            format!("[{good},{{\"Id\":\"a\",\"b\":[\"hunter2\"}}],{good}]"),
        ] {
            for size in [1, 7, 1000] {
                let kept = pushed(&mut List::default(), &said, size);
                assert!(facts::list(&kept).is_err() && facts::list(said.as_bytes()).is_err(), "{said}");
                assert!(!String::from_utf8(kept).unwrap().contains("hunter2"), "{said}");
            }
        }
    }

    #[test]
    fn a_list_of_any_length_is_never_held() {
        let one = |labels: usize| format!(r#"{{"Id":"{ID}","Labels":{{"a.b":"{}"}}}}"#, "c".repeat(labels));
        // The last that fits, and the first that does not.
        let most = limits::DOCKER_CONTAINER_BYTES - one(0).len();
        let mut list = List::default();
        let (mut kept, mut held) = (0, 0);
        let mut push = |list: &mut List, text: &str| {
            for piece in text.as_bytes().chunks(64 * 1024) {
                let more = list.push(piece);
                kept += more.len();
                held = held.max(more.capacity() + list.one.capacity());
            }
        };
        push(&mut list, "[");
        for labels in [0, most, most + 1, 4 * most, 1000, most] {
            push(&mut list, &format!("{},", one(labels)));
        }
        push(&mut list, &format!("{}]", r#"{"Id":""},"#.repeat(100_000)));
        assert_eq!(list.left_out(), 2);
        assert!(kept > 2 * most && held <= HELD_BYTES, "{held} of {kept}");
    }
}
