//! Engine: what one worker has told the control side lately, so that it does not tell it with every packet.
//!
//! A place for each hash of an event; what takes another's place has it told once more. Not here: who is told (`worker`).

use std::hash::{BuildHasher as _, RandomState};

use crate::base::{Moment, limits};
use crate::flow::decide::Event;

/// See the file's head.
pub(super) struct Told {
    places: [Option<(Event, Moment)>; limits::EVENTS_TOLD],
    /// Nobody outside can choose events that push out others.
    hash: RandomState,
}

impl Told {
    pub fn new() -> Told {
        Told { places: [None; limits::EVENTS_TOLD], hash: RandomState::new() }
    }

    /// Has `tell` tell an event that it was not told of lately. False when there was no room for it, so that it is told next time.
    pub fn tell(&mut self, event: Event, now: Moment, tell: impl FnOnce(Event) -> bool) -> bool {
        #[allow(clippy::cast_possible_truncation)] // a few places
        let at = self.hash.hash_one(event) as usize % limits::EVENTS_TOLD;
        let Some(place) = self.places.get_mut(at) else { return tell(event) };
        if place.is_some_and(|(known, at)| known == event && now.since(at) < limits::EVENT_REPEAT) {
            return true;
        }
        let told = tell(event);
        if told {
            *place = Some((event, now));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::tables::LinkId;

    fn event(last: u8) -> Event {
        Event::Unresolved { link: LinkId::plain(1), address: [10, 0, 0, last].into() }
    }

    #[test]
    fn an_event_is_told_once_in_a_while_and_again_where_there_was_no_room() {
        let mut told = Told::new();
        let mut heard = Vec::new();
        let at = |parts: u32| Moment::ZERO + limits::EVENT_REPEAT / 4 * parts;
        for (parts, room, want) in
            [(0, false, false), (0, true, true), (1, true, true), (3, true, true), (4, true, true), (5, false, true)]
        {
            let tell = |event| {
                heard.extend(room.then_some((parts, event)));
                room
            };
            assert_eq!(told.tell(event(1), at(parts), tell), want, "{parts}");
        }
        assert_eq!(heard, [(0, event(1)), (4, event(1))]);
    }

    #[test]
    fn events_do_not_silence_each_other() {
        let mut told = Told::new();
        let mut heard = 0;
        for last in 0..=255 {
            told.tell(event(last), Moment::ZERO, |_| {
                heard += 1;
                true
            });
        }
        assert_eq!(heard, 256);
    }
}
