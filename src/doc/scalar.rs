//! Engine: the scalars of a configuration: booleans, numbers, texts and what texts stand for. Each reader reports what is
//! wrong with the value and how to write it right.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::codes;
use super::cursor::Item;
use super::diagnostic::{Diagnostic, quote};
use super::shape::Shape;
use super::span::Spanned;
use super::suggest;
use super::tree::Data;
use crate::base::units::{parse_duration, parse_size, show_duration, show_size};
use crate::base::{Listen, MacAddr, Network, PortRange, address};

impl<'t> Item<'t> {
    pub fn bool(&self) -> Option<Spanned<bool>> {
        self.note(|| Shape::Bool);
        match self.value {
            Data::Boolean(value) => Some(self.spanned(*value)),
            Data::Text(text) => match text.value.parse::<bool>() {
                Ok(value) if text.from_variable => Some(self.spanned(value)),
                Ok(value) => self.wrong("true or false", Some(format!("write {value} without quotes"))),
                Err(_) => self.wrong("true or false", None),
            },
            _ => self.wrong("true or false", None),
        }
    }

    /// A whole number within the inclusive bounds.
    pub fn integer(&self, min: u64, max: u64) -> Option<Spanned<u64>> {
        self.note(|| Shape::Integer { min, max });
        let range = || format!("a whole number from {min} to {max}");
        let number = self.whole(&range)?;
        match u64::try_from(number).ok().filter(|n| (min..=max).contains(n)) {
            Some(number) => Some(self.spanned(number)),
            None => self.outside(&range()),
        }
    }

    /// A whole number of either sign within the inclusive bounds.
    pub fn signed(&self, min: i64, max: i64) -> Option<Spanned<i64>> {
        self.note(|| Shape::Signed { min, max });
        let range = || format!("a whole number from {min} to {max}");
        let number = self.whole(&range)?;
        match i64::try_from(number).ok().filter(|n| (min..=max).contains(n)) {
            Some(number) => Some(self.spanned(number)),
            None => self.outside(&range()),
        }
    }

    /// A whole number; one beyond 128 bits is as good as the largest.
    fn whole(&self, expected: &dyn Fn() -> String) -> Option<i128> {
        match self.value {
            Data::Integer { digits, radix } => Some(i128::from_str_radix(digits, *radix).unwrap_or(i128::MAX)),
            Data::Text(text) => match text.value.parse::<i128>() {
                Ok(number) if text.from_variable => Some(number),
                Ok(number) => self.wrong(&expected(), Some(format!("write {number} without quotes"))),
                Err(_) => self.wrong(&expected(), None),
            },
            _ => self.wrong(&expected(), None),
        }
    }

    /// A number within the inclusive bounds; whole numbers are welcome.
    pub fn number(&self, min: f64, max: f64) -> Option<Spanned<f64>> {
        let range = || format!("a number from {min} to {max}");
        let number = match self.value {
            Data::Float(number) => number.parse::<f64>().ok(),
            // Beyond 2^53 it rounds; no number of ours is that large.
            #[allow(clippy::cast_precision_loss)]
            Data::Integer { digits, radix } => i128::from_str_radix(digits, *radix).ok().map(|n| n as f64),
            Data::Text(text) => match text.value.parse::<f64>() {
                Ok(number) if text.from_variable => Some(number),
                Ok(_) => return self.wrong(&range(), Some(format!("write {} without quotes", text.value))),
                Err(_) => return self.wrong(&range(), None),
            },
            _ => return self.wrong(&range(), None),
        };
        match number.filter(|n| (min..=max).contains(n)) {
            Some(number) => Some(self.spanned(number)),
            None => self.outside(&range()),
        }
    }

    pub fn text(&self) -> Option<Spanned<&'t str>> {
        self.note(|| Shape::Text);
        self.text_as("text", |_| None)
    }

    /// The digits of a whole number, `None` for anything else.
    pub(super) fn digits(&self) -> Option<String> {
        match self.value {
            Data::Integer { digits, radix: 10 } => Some(digits.clone()),
            _ => None,
        }
    }

    /// Text that `parse` makes a value of. `expected` says what it is, with an example.
    pub fn parsed<T, E: AsRef<str>>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Spanned<T>> {
        let text = self.text_as(expected, |_| None)?;
        self.read(text.value, &format!("a valid {}", quote(self.key)), parse)
    }

    /// One of `words`, and what it stands for.
    pub fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<Spanned<T>> {
        self.note(|| Shape::Words(words.iter().map(|(word, _)| *word).collect()));
        let names = || words.iter().map(|(word, _)| *word);
        let text = self.text_as(&suggest::one_of(names()), |_| None)?;
        match words.iter().find(|(word, _)| *word == text.value) {
            Some((_, meaning)) => Some(self.spanned(*meaning)),
            None => self.unknown_word(text.value, names()),
        }
    }

    pub fn duration(&self, min: Duration, max: Duration) -> Option<Spanned<Duration>> {
        self.note(|| Shape::Duration { min, max });
        let text = self.text_as("a duration, as in \"2s\"", |value| match value {
            Data::Integer { digits: number, .. } => Some(format!("give it a unit: \"{number}s\" or \"{number}ms\"")),
            _ => None,
        })?;
        let duration = self.read(text.value, "a duration", parse_duration)?;
        if (min..=max).contains(&duration.value) {
            return Some(duration);
        }
        self.outside(&format!("from {} to {}", show_duration(min), show_duration(max)))
    }

    /// Bytes.
    pub fn size(&self, min: u64, max: u64) -> Option<Spanned<u64>> {
        self.note(|| Shape::Size { min, max });
        let text = self.text_as("a size, as in \"64KiB\"", |value| match value {
            Data::Integer { digits: number, .. } => Some(format!("give it a unit: \"{number}B\" or \"{number}KiB\"")),
            _ => None,
        })?;
        let size = self.read(text.value, "a size", parse_size)?;
        if (min..=max).contains(&size.value) {
            return Some(size);
        }
        self.outside(&format!("from {} to {}", show_size(min), show_size(max)))
    }

    pub fn listen(&self) -> Option<Spanned<Listen>> {
        self.note(|| Shape::Listen);
        let text = self.text_as("an address, as in \":80\" or \"10.0.0.1:80\"", |value| match value {
            Data::Integer { digits: number, .. } => {
                Some(format!("write \":{number}\" for every address of this machine"))
            }
            _ => None,
        })?;
        self.read(text.value, "an address to listen on", Listen::parse)
    }

    pub fn socket(&self) -> Option<Spanned<SocketAddr>> {
        self.note(|| Shape::Socket);
        let text = self.text_as("an address and a port, as in \"10.0.0.1:80\"", |_| None)?;
        self.read(text.value, "an address and a port", address::parse_socket)
    }

    pub fn network(&self) -> Option<Spanned<Network>> {
        self.note(|| Shape::Network);
        let text = self.text_as("a network, as in \"10.0.0.0/8\"", |_| None)?;
        self.read(text.value, "a network", Network::parse)
    }

    /// An address alone: neither a port nor a prefix length.
    pub fn ip(&self) -> Option<Spanned<IpAddr>> {
        self.note(|| Shape::Ip);
        let text = self.text_as("an address, as in \"10.0.0.1\"", |_| None)?;
        self.read(text.value, "an address", address::parse_ip)
    }

    /// `"80/tcp"`, `"7000-7999/udp"`.
    pub fn port_range(&self) -> Option<Spanned<PortRange>> {
        self.note(|| Shape::Ports);
        let text = self.text_as("ports and a protocol, as in \"80/tcp\"", |value| match value {
            Data::Integer { digits: number, .. } => Some(format!("write \"{number}/tcp\" or \"{number}/udp\"")),
            _ => None,
        })?;
        self.read(text.value, "a port or a range of ports", PortRange::parse)
    }

    /// The address of one station.
    pub fn mac(&self) -> Option<Spanned<MacAddr>> {
        self.note(|| Shape::Mac);
        let text = self.text_as("a MAC address, as in \"02:00:00:00:00:01\"", |_| None)?;
        let mac = self.read(text.value, "a MAC address", MacAddr::parse)?;
        if mac.is_unicast() {
            return Some(mac);
        }
        let help = Some("a group's address, and all zeros, belong to nobody".to_owned());
        self.fail(&codes::MALFORMED, format!("{} is not the MAC address of one machine", quote(text.value)), help)
    }

    pub(super) fn spanned<T>(&self, value: T) -> Spanned<T> {
        Spanned::new(value, self.span)
    }

    /// Reports a word that is none of `words`.
    pub fn unknown_word<'a, T>(&self, word: &str, words: impl Iterator<Item = &'a str> + Clone) -> Option<T> {
        let help = match suggest::nearest(word, words.clone()) {
            Some(meant) => format!("did you mean `{meant}`"),
            None => format!("one of {}", suggest::one_of(words)),
        };
        self.fail(&codes::UNKNOWN_WORD, format!("unknown {} {}", self.key, quote(word)), Some(help))
    }

    fn text_as(&self, expected: &str, help: impl FnOnce(&Data) -> Option<String>) -> Option<Spanned<&'t str>> {
        match self.value {
            Data::Text(text) => Some(self.spanned(&*text.value)),
            other => self.wrong(expected, help(other)),
        }
    }

    pub(super) fn read<T, E: AsRef<str>>(
        &self,
        text: &str,
        noun: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Spanned<T>> {
        match parse(text) {
            Ok(value) => Some(self.spanned(value)),
            Err(error) => {
                let message = format!("{} is not {noun}", quote(text));
                self.report(Diagnostic::new(&codes::MALFORMED, self.span, message).label(error.as_ref()));
                None
            }
        }
    }

    fn outside<T>(&self, range: &str) -> Option<T> {
        self.report(
            Diagnostic::new(&codes::OUT_OF_BOUNDS, self.span, format!("{} is out of bounds", quote(self.key)))
                .label(format!("must be {range}")),
        );
        None
    }
}
