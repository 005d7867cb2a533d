//! Engine: what becomes of a request, in short: for the tests of a file, of which there may be many.

use std::sync::Arc;

use super::ask::parse;
use super::question::{Fault, Question};
use super::reach::{Reached, reach};
use crate::base::Reason;
use crate::state::{Pool, Service, Snapshot, Traffic, Way};

/// Where it goes, as far as it does.
#[derive(Clone, Default)]
pub struct Brief<'s> {
    pub service: Option<&'s Arc<Service>>,
    /// Absent through an `l4` proxy, too.
    pub way: Option<Way<'s>>,
    pub pool: Option<&'s Arc<Pool>>,
    /// The word of the reason, and the status.
    pub refused: Option<(&'static str, u16)>,
    /// A sentence: there is no listener there.
    pub unreached: Option<String>,
}

/// # Errors
/// As of [`super::request`].
pub fn brief<'s>(snapshot: &'s Snapshot, question: &Question) -> Result<Brief<'s>, Fault> {
    let service = match reach(snapshot, question.to.as_ref(), question.service.as_deref())? {
        Reached::Nobody(why) => return Ok(Brief { unreached: Some(why), ..Brief::default() }),
        Reached::Service { service, .. } => service,
    };
    let mut brief = Brief { service: Some(service), ..Brief::default() };
    let refused = |reason: Reason| Some((reason.word(), reason.status()));
    match &service.traffic {
        Traffic::L4(l4) => brief.pool = snapshot.pool(l4.pool),
        Traffic::L7(l7) => match parse(question) {
            Err(reject) => brief.refused = Some((reject.word(), reject.status())),
            Ok(head) => match l7.way(service, snapshot, &head.view(&question.head)) {
                Err(reason) => brief.refused = refused(reason),
                Ok(way) => (brief.way, brief.pool) = (Some(way), Some(way.pool)),
            },
        },
        // `reach` finds none of these.
        Traffic::Packet(_) => {}
    }
    if brief.pool.is_some_and(|pool| pool.view().members.is_empty()) {
        brief.refused = refused(Reason::NoEndpoint);
    }
    Ok(brief)
}
