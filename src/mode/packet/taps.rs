//! Shell: opens an interface's taps: a ring each, or `pnet`'s loop where the file asks for it or a ring cannot be made.
//!
//! Why the ring is first: it carries more than twice as much on a core (`docs/performance.md`), and it sees VLAN tags.
//! Not here: which frames are wanted (`engine`), who serves the taps (`worker`).

use crate::state::Io;
use crate::sys::packet::{self, Fanout, Options, PacketError, Tap};

/// One tap a worker, all of one kind: which they are. Several share the interface's flows. `tagged`: some frames have a VLAN tag.
///
/// # Errors
/// What the kernel said to the first kind that was tried.
pub(super) fn open(
    (wanted, tagged): (Option<Io>, bool),
    interface: &str,
    workers: usize,
    options: &Options<'_>,
) -> Result<(Io, Vec<Tap>), String> {
    let open = |io| -> Result<Vec<Tap>, PacketError> {
        let fanout = if workers > 1 { Some(Fanout::claim(options.interface)?) } else { None };
        let options = Options { fanout, ..*options };
        (0..workers.max(1)).map(|_| Tap::open(engine(io), &options)).collect()
    };
    let (io, taps, refused) = choose(needed(wanted, tagged), open).map_err(|error| match (wanted, tagged) {
        (None, true) => format!("{error}; `vlan` of a VIP needs a ring there"),
        _ => error.to_string(),
    })?;
    if let Some(error) = refused {
        tracing::warn!(interface, %error, "no ring on this interface: pnet's loop serves, slower and without VLANs");
    }
    Ok((io, taps))
}

/// `pnet`'s loop sees no tags, so that it cannot take a ring's place where some frames have one. The file does not ask for it there.
fn needed(wanted: Option<Io>, tagged: bool) -> Option<Io> {
    wanted.or(tagged.then_some(Io::Ring))
}

/// What is wanted, or what can be made; with why the better one was not.
fn choose<T, E>(wanted: Option<Io>, open: impl Fn(Io) -> Result<T, E>) -> Result<(Io, T, Option<E>), E> {
    if let Some(io) = wanted {
        return open(io).map(|made| (io, made, None));
    }
    match open(Io::Ring) {
        Ok(made) => Ok((Io::Ring, made, None)),
        Err(refused) => match open(Io::Pnet) {
            Ok(made) => Ok((Io::Pnet, made, Some(refused))),
            Err(_) => Err(refused),
        },
    }
}

const fn engine(io: Io) -> packet::Engine {
    match io {
        // What AF_XDP leaves comes by a ring.
        Io::Ring | Io::AfXdp => packet::Engine::Ring,
        Io::Pnet => packet::Engine::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_first_and_pnet_takes_its_place_only_where_nobody_has_asked_for_one() {
        type Outcome = Result<(Io, Io, Option<Io>), Io>;
        let (ring, pnet, both) = (&[Io::Ring][..], &[Io::Pnet][..], &[Io::Ring, Io::Pnet][..]);
        let cases: [(Option<Io>, &[Io], Outcome); 9] = [
            (None, both, Ok((Io::Ring, Io::Ring, None))),
            (None, pnet, Ok((Io::Pnet, Io::Pnet, Some(Io::Ring)))),
            // Nothing can be opened: why no ring is what there is to say.
            (None, &[], Err(Io::Ring)),
            (Some(Io::Ring), both, Ok((Io::Ring, Io::Ring, None))),
            (Some(Io::AfXdp), pnet, Err(Io::AfXdp)),
            (Some(Io::Ring), pnet, Err(Io::Ring)),
            (Some(Io::Pnet), both, Ok((Io::Pnet, Io::Pnet, None))),
            (Some(Io::Pnet), pnet, Ok((Io::Pnet, Io::Pnet, None))),
            (Some(Io::Pnet), ring, Err(Io::Pnet)),
        ];
        for (wanted, possible, outcome) in cases {
            let open = |io: Io| if possible.contains(&io) { Ok(io) } else { Err(io) };
            assert_eq!(choose(wanted, open), outcome, "{wanted:?} of {possible:?}");
        }
    }

    #[test]
    fn where_frames_have_tags_nothing_takes_the_place_of_a_ring() {
        let only_pnet = |io: Io| if io == Io::Pnet { Ok(io) } else { Err(io) };
        for (tagged, outcome) in [(false, Ok((Io::Pnet, Io::Pnet, Some(Io::Ring)))), (true, Err(Io::Ring))] {
            assert_eq!(choose(needed(None, tagged), only_pnet), outcome, "{tagged}");
        }
    }
}
