//! Value: which endpoint a verdict's number means, so that what it is sent and what comes back from it is counted for it.
//!
//! Budget: three loads a packet. Not here: the numbers (`books`).

use std::sync::Arc;

use super::books::Book;
use crate::base::ServiceId;
use crate::state::{Endpoint, Family};

type Members = Arc<[Option<Arc<Endpoint>>]>;

/// The endpoints of every packet service. Made with the tables whose verdicts it explains.
#[derive(Default)]
pub(super) struct Roster {
    /// By the service's id: for IPv4 and for IPv6, which are one where a tunnel may cross.
    services: Vec<[Members; 2]>,
}

impl Roster {
    pub fn new<'b>(books: impl IntoIterator<Item = &'b Book>) -> Roster {
        let mut services: Vec<[Members; 2]> = Vec::new();
        for book in books {
            let place = book.service().index();
            if services.len() <= place {
                services.resize_with(place + 1, Default::default);
            }
            let members: Members = book.members().into();
            match book.family() {
                Family::V4 => services[place][0] = members,
                Family::V6 => services[place][1] = members,
                Family::Any => services[place] = [members.clone(), members],
            }
        }
        Roster { services }
    }

    /// The endpoint of this number in the service's table for packets of this family, outside where they are in a tunnel.
    pub fn find(&self, service: ServiceId, ipv6: bool, number: u16) -> Option<&Endpoint> {
        self.services.get(service.index())?.get(usize::from(ipv6))?.get(usize::from(number))?.as_deref()
    }
}
