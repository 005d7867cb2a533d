//! Wiring: how the supervisor takes over what sources find: each batch is a generation, as a reload is, but of the same file.

use std::collections::BTreeMap;

use super::Supervisor;
use super::reload::Said;
use super::succession::Heir;
use crate::app::discovery::Draft;
use crate::app::load;
use crate::app::upgrade::found::{self, FoundMember};
use crate::observe::events;
use crate::seam::source::{Finding, Owner};
use crate::state::{Snapshot, diff};

impl Supervisor {
    /// Before the first commit: `first`, with what sources find in a bounded time.
    pub(super) async fn discover(&mut self, first: Snapshot, heir: &Heir) -> Snapshot {
        let Said { config, written } = &self.said;
        let mut inherited: BTreeMap<Owner, Finding> = BTreeMap::new();
        for given in &heir.legacy.found {
            let owner = Owner::Pool(given.pool.as_str().into());
            inherited.entry(owner).or_default().members.push(found::member(given));
        }
        let (services, passed_over) = found::read(&heir.legacy.services);
        inherited.extend(services);
        if passed_over > 0 {
            tracing::warn!(
                event = events::SOURCE,
                passed_over,
                "not all that the process before this one had found is known to this version: that is found anew"
            );
        }
        for (owner, finding) in inherited {
            self.discovery.inherit(owner, finding);
        }
        let draft = self.discovery.draft(config).await;
        let merged = self.discovery.merge(config, &draft, &self.crew.snapshot.load());
        if merged.verdicts.is_empty() {
            self.discovery.commit(&merged, draft);
            return first;
        }
        // A process that has seen no name before has ids for as many as a file and its sources may have.
        let next = load::generation(&merged.config, written, &load::nothing()).unwrap_or(first);
        self.discovery.commit(&merged, draft);
        next
    }

    /// What sources of pools have found, for a process that takes over.
    pub(super) fn found_members(&self) -> Vec<FoundMember> {
        let mut members = Vec::new();
        for (owner, finding) in self.discovery.findings() {
            if let Owner::Pool(pool) = owner {
                members.extend(found::members(pool, &finding.members));
            }
        }
        members
    }

    /// What sources of services have found, for the same.
    pub(super) fn found_by_services(&self) -> Vec<u8> {
        let (text, left_out) = found::write(self.discovery.findings());
        if left_out > 0 {
            tracing::warn!(
                event = events::SOURCE,
                left_out,
                "more pools and routes were found than can be handed over: the others are found anew"
            );
        }
        text
    }

    /// Makes the next generation of what was found since the last.
    pub(super) async fn discovered(&mut self) {
        let current = self.crew.snapshot.load_full();
        let cause = self.discovery.cause();
        let draft = Draft::default();
        let merged = self.discovery.merge(&self.said.config, &draft, &current);
        let next = match load::generation(&merged.config, &self.said.written, &current) {
            Ok(next) => next,
            Err(diagnostics) => {
                let why: Vec<String> = diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect();
                return self.not_taken(&cause, &why.join("\n"));
            }
        };
        if diff(&current, &next).is_empty() {
            return self.discovery.settle(&merged, draft);
        }
        match self.adopt(next, None, Some(&cause)).await {
            Ok(adopted) => {
                if !adopted.unserved.is_empty() {
                    let why = adopted.unserved.join("\n");
                    tracing::error!(
                        event = events::SOURCE,
                        cause,
                        "what was found is in force, but not all of it is served: {why}"
                    );
                }
                self.discovery.commit(&merged, draft);
            }
            Err(errors) => self.not_taken(&cause, &errors.join("\n")),
        }
    }

    fn not_taken(&mut self, cause: &str, why: &str) {
        if self.discovery.defer(why) {
            tracing::error!(event = events::SOURCE, cause, "what was found is not taken: {why}");
        }
    }
}
