//! Engine: which flow a fragment is of. Only a datagram's first fragment has ports; the others go where it went.
//!
//! Nothing is put together and nothing is held back: a fragment that comes before its first is refused, and the sender repeats
//! the datagram. Each byte of a datagram passes once: what overlaps is refused (RFC 5722; hardening G10), a doubled fragment
//! with it, so an endpoint never puts together something else than what was judged here.
//!
//! When there is no room, the datagram that came about longest ago gives way. It is no record: fragments of one datagram travel
//! within milliseconds, and a table that refused instead would let a few hundred forged ones a second stop all.
//!
//! A table behind one lock: fragments are rare. Not here: what wire codecs refuse (tiny, unaligned, beyond 65 535 bytes), and
//! the rewriting.

use std::net::IpAddr;

use parking_lot::Mutex;

use super::key::octets;
use super::table::{self, Entry, Table};
use crate::base::{HashKey, Moment, ServiceId, limits};

/// What the fragments of one datagram have in common (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    bytes: [u8; 37],
}

/// Where the first fragment went, for those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    pub source_port: u16,
    pub destination_port: u16,
    /// Whose endpoint it is: a reload may give the port to another service.
    pub service: ServiceId,
    /// An endpoint's index with its generation, or what else the caller put there.
    pub endpoint: u16,
    pub generation: u16,
}

/// Why a fragment goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refused {
    /// Its first fragment was not seen, or is too long ago.
    FirstMissing,
    /// Some of its bytes were there before, or lie beyond the datagram's end, or it has none.
    Overlap,
    /// The datagram comes in too many pieces out of order.
    Scattered,
}

impl Refused {
    pub const ALL: &'static [Refused] = &[Refused::FirstMissing, Refused::Overlap, Refused::Scattered];

    pub const fn word(self) -> &'static str {
        match self {
            Refused::FirstMissing => "fragment-without-first",
            Refused::Overlap => "fragment-overlap",
            Refused::Scattered => "fragment-scattered",
        }
    }
}

impl Datagram {
    /// IPv6 names no protocol: later fragments need not repeat the first one's next header (RFC 8200 §4.5).
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, id: u32) -> Datagram {
        let protocol = if source.is_ipv4() { protocol } else { 0 };
        let parts = [&octets(source)[..], &octets(destination)[..], &id.to_be_bytes()[..], &[protocol][..]];
        let mut bytes = [0; 37];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        Datagram { bytes }
    }
}

/// The datagrams under way. See the file's head.
pub struct Fragments {
    table: Mutex<Table<Open>>,
    key: HashKey,
}

impl Fragments {
    /// Room for `capacity` datagrams. `key` is a secret of this process.
    pub fn new(capacity: usize, key: HashKey) -> Fragments {
        Fragments { table: Mutex::new(Table::new(capacity)), key }
    }

    /// Takes note of a first fragment that goes to `carried`: `len` bytes after the IP header or headers.
    ///
    /// # Errors
    /// `Overlap` when a datagram of that name is under way. After a second of silence that one is taken for lost, for names are
    /// used again: 65 536 of them do not last a fast sender for the time that a datagram may take (RFC 4963).
    pub fn first(&self, datagram: &Datagram, len: u16, carried: Carried, now: Moment) -> Result<(), Refused> {
        let tag = self.tag(datagram);
        let mut table = self.table.lock();
        if let Some(place) = table.find(tag, |open| open.datagram == *datagram) {
            if table.get(place).is_some_and(|open| now <= open.last + limits::FRAGMENT_GAP) {
                return Err(Refused::Overlap);
            }
            table.remove(place);
        }
        if table.is_full()
            && let Some(oldest) = table.hunt(1, |_| true)
        {
            table.remove(oldest);
        }
        let mut pieces = [EMPTY; limits::FRAGMENT_PIECES];
        if let Some(piece) = pieces.first_mut() {
            *piece = (0, u32::from(len));
        }
        table.insert(Open { datagram: *datagram, tag, carried, pieces, end: None, since: now, last: now });
        Ok(())
    }

    /// Where a later fragment goes: `offset` and `len` in bytes, `last` if no more follow.
    ///
    /// # Errors
    /// Any of [`Refused`].
    pub fn later(
        &self,
        datagram: &Datagram,
        offset: u16,
        len: u16,
        last: bool,
        now: Moment,
    ) -> Result<Carried, Refused> {
        let mut table = self.table.lock();
        let place = table.find(self.tag(datagram), |open| open.datagram == *datagram).ok_or(Refused::FirstMissing)?;
        let open = table.get_mut(place).ok_or(Refused::FirstMissing)?;
        if now > open.since + limits::FRAGMENT_TIME {
            table.remove(place);
            return Err(Refused::FirstMissing);
        }
        let carried = open.carried;
        let start = u32::from(offset);
        open.take(start, start.saturating_add(u32::from(len)), last)?;
        open.last = now;
        if open.is_whole() {
            table.remove(place);
        }
        Ok(carried)
    }

    /// Forgets what is under way to endpoints of these services: they are gone, and one that is named like them numbers its
    /// endpoints anew.
    pub fn forget(&self, which: impl Fn(ServiceId) -> bool) {
        let mut table = self.table.lock();
        for place in 0..table.places() {
            if table.get(place).is_some_and(|open| which(open.carried.service)) {
                table.remove(place);
            }
        }
    }

    /// Datagrams of which something is missing, those included that never will be whole.
    pub fn open(&self) -> usize {
        self.table.lock().len()
    }

    fn tag(&self, datagram: &Datagram) -> u32 {
        table::spread(self.key.hash(&datagram.bytes), 1).0
    }
}

/// A datagram that is not whole yet.
struct Open {
    datagram: Datagram,
    tag: u32,
    carried: Carried,
    /// The bytes that passed, as ranges that do not touch.
    pieces: [(u32, u32); limits::FRAGMENT_PIECES],
    /// Known from the last fragment.
    end: Option<u32>,
    since: Moment,
    last: Moment,
}

impl Entry for Open {
    fn tag(&self) -> u32 {
        self.tag
    }
}

impl Open {
    fn take(&mut self, start: u32, end: u32, last: bool) -> Result<(), Refused> {
        let furthest = self.pieces.iter().map(|piece| piece.1).max().unwrap_or(0);
        let beyond = self.end.is_some_and(|known| end > known || last) || (last && end < furthest);
        if start >= end || beyond || self.pieces.iter().any(|&(from, to)| start < to && from < end) {
            return Err(Refused::Overlap);
        }
        let mut whole = (start, end);
        let mut pieces = self.pieces;
        for piece in &mut pieces {
            if *piece != EMPTY && (piece.1 == whole.0 || piece.0 == whole.1) {
                whole = (piece.0.min(whole.0), piece.1.max(whole.1));
                *piece = EMPTY;
            }
        }
        *pieces.iter_mut().find(|piece| **piece == EMPTY).ok_or(Refused::Scattered)? = whole;
        self.pieces = pieces;
        if last {
            self.end = Some(end);
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.end.is_some_and(|end| self.pieces.contains(&(0, end)))
    }
}

const EMPTY: (u32, u32) = (0, 0);

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u32 = 77;

    fn datagram(id: u32) -> Datagram {
        Datagram::new([192, 0, 2, 1].into(), [10, 0, 0, 100].into(), 17, id)
    }

    fn carried(port: u16) -> Carried {
        Carried { source_port: port, destination_port: 53, service: ServiceId(7), endpoint: 3, generation: 1 }
    }

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn fragments() -> Fragments {
        Fragments::new(100, HashKey::new([1; 16]))
    }

    /// Offset, bytes, whether it is the last, and what it gets.
    type Piece = (u16, u16, bool, Result<(), Refused>);

    #[test]
    fn each_byte_of_a_datagram_passes_once() {
        let overlap = Err(Refused::Overlap);
        let cases: &[(&str, &[Piece], usize)] = &[
            ("in order", &[(8, 8, false, Ok(())), (16, 8, false, Ok(())), (24, 5, true, Ok(()))], 0),
            ("the last before the middle", &[(16, 3, true, Ok(())), (8, 8, false, Ok(()))], 0),
            ("backwards", &[(24, 8, true, Ok(())), (16, 8, false, Ok(())), (8, 8, false, Ok(()))], 0),
            ("one is missing", &[(24, 8, true, Ok(())), (8, 8, false, Ok(()))], 1),
            ("over the header", &[(0, 16, false, overlap), (8, 8, true, Ok(()))], 0),
            ("into the first", &[(4, 8, false, overlap)], 1),
            ("doubled", &[(8, 8, false, Ok(())), (8, 8, false, overlap), (16, 8, true, Ok(()))], 0),
            ("around another", &[(16, 8, false, Ok(())), (8, 24, false, overlap), (8, 8, false, Ok(()))], 1),
            ("beyond the end", &[(16, 8, true, Ok(())), (24, 8, false, overlap)], 1),
            ("without a byte", &[(8, 0, false, overlap), (8, 0, true, overlap), (8, 8, true, Ok(()))], 0),
            ("two ends", &[(16, 8, true, Ok(())), (8, 8, true, overlap), (8, 8, false, Ok(()))], 0),
            ("an end before what passed", &[(24, 8, false, Ok(())), (8, 8, true, overlap)], 1),
            (
                "too scattered to follow",
                &[
                    (16, 8, false, Ok(())),
                    (32, 8, false, Ok(())),
                    (48, 8, false, Ok(())),
                    (64, 8, false, Err(Refused::Scattered)),
                    (8, 8, false, Ok(())),
                    (64, 8, false, Ok(())),
                ],
                1,
            ),
        ];
        for (name, pieces, left) in cases {
            let fragments = fragments();
            fragments.first(&datagram(ID), 8, carried(1), at(0)).unwrap();
            for &(offset, len, last, want) in *pieces {
                let got = fragments.later(&datagram(ID), offset, len, last, at(1));
                assert_eq!(got, want.map(|()| carried(1)), "{name}: {offset}+{len}");
            }
            assert_eq!(fragments.open(), *left, "{name}");
        }
    }

    #[test]
    fn a_fragment_is_of_no_other_datagram() {
        let fragments = fragments();
        fragments.first(&datagram(ID), 8, carried(1), at(0)).unwrap();
        let v6 = |protocol| Datagram::new([1; 16].into(), [2; 16].into(), protocol, ID);
        let (source, destination) = ([192, 0, 2, 1].into(), [10, 0, 0, 100].into());
        for other in [
            datagram(ID + 1),
            Datagram::new(source, destination, 6, ID),
            Datagram::new(destination, source, 17, ID),
            v6(17),
        ] {
            assert_eq!(fragments.later(&other, 8, 8, true, at(1)), Err(Refused::FirstMissing));
        }
        assert_eq!((v6(17), v6(17) == v6(6)), (v6(6), true), "IPv6 names no protocol");
    }

    #[test]
    fn a_first_fragment_waits_for_the_others_so_long_and_no_longer() {
        let fragments = fragments();
        let time = limits::FRAGMENT_TIME.as_millis() as u64;
        fragments.first(&datagram(ID), 8, carried(1), at(0)).unwrap();
        assert!(fragments.later(&datagram(ID), 8, 8, false, at(time)).is_ok());
        assert_eq!(fragments.later(&datagram(ID), 16, 8, true, at(time + 1)), Err(Refused::FirstMissing));
        assert_eq!(fragments.open(), 0);
    }

    #[test]
    fn a_name_is_used_again_once_its_datagram_is_whole_or_silent() {
        let fragments = fragments();
        fragments.first(&datagram(ID), 8, carried(1), at(0)).unwrap();
        assert_eq!(fragments.first(&datagram(ID), 8, carried(2), at(900)), Err(Refused::Overlap));
        assert_eq!(fragments.later(&datagram(ID), 8, 8, true, at(950)), Ok(carried(1)), "whole");
        fragments.first(&datagram(ID), 8, carried(3), at(950)).unwrap();
        fragments.first(&datagram(ID), 8, carried(4), at(1951)).unwrap();
        assert_eq!(fragments.later(&datagram(ID), 8, 8, true, at(1951)), Ok(carried(4)));
    }

    #[test]
    fn a_flood_of_first_fragments_leaves_time_for_honest_ones() {
        let fragments = fragments();
        for id in 0..1000 {
            fragments.first(&datagram(id), 8, carried(1), at(0)).unwrap();
            assert!(fragments.open() <= 100);
            if id >= 100 {
                let older = fragments.later(&datagram(id - 60), 8, 8, false, at(0));
                assert!(older.is_ok(), "{id}: 60 forged ones came in between, and there is room for 100");
            }
        }
    }

    #[test]
    fn what_goes_to_a_service_is_forgotten_with_it() {
        let (fragments, other) = (fragments(), Carried { service: ServiceId(8), ..carried(1) });
        for id in 0..80 {
            fragments.first(&datagram(id), 8, if id % 2 == 0 { carried(1) } else { other }, at(0)).unwrap();
        }
        fragments.forget(|service| service == ServiceId(7));
        assert_eq!(fragments.open(), 40);
        for id in 0..80 {
            let kept = if id % 2 == 0 { Err(Refused::FirstMissing) } else { Ok(other) };
            assert_eq!(fragments.later(&datagram(id), 8, 8, true, at(1)), kept);
        }
    }
}
