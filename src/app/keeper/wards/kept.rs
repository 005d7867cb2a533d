//! Wiring: a pool as the keeper has it: its rules, its probe as it was built, and what was said of its view.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::Moment;
use crate::doc::Settings;
use crate::health::Rules;
use crate::observe::events;
use crate::probe;
use crate::seam::probe::{Pace, Probe};
use crate::seam::through::Path;
use crate::state::Pool;

pub(super) struct Kept {
    pub(super) pool: Arc<Pool>,
    pub(super) rules: Rules,
    pub(super) checker: Option<Rc<Checker>>,
    /// The ways of a probe that goes through VIPs.
    pub(super) paths: Vec<Path>,
    /// It was said that probes of it cannot be made.
    pub(super) troubled: bool,
    /// What was said last of its view: it panics, backups serve.
    pub(super) told: (bool, bool),
    /// When the counts of its traffic are read next; `None`: nobody judges them.
    pub(super) next_sample: Option<Moment>,
}

/// A pool's probe as it was built.
pub(in crate::app::keeper) struct Checker {
    pub(in crate::app::keeper) probe: Box<dyn Probe>,
    pub(in crate::app::keeper) pace: Pace,
    pub(super) settings: Settings,
}

impl Kept {
    /// `before` gives its probe where the settings are the same, so that results under way still count.
    pub(super) fn of(pool: &Arc<Pool>, before: Option<Kept>, now: Moment) -> Kept {
        let troubled = before.as_ref().is_some_and(|before| before.troubled);
        let told = before.as_ref().map_or((false, false), |before| before.told);
        let checker = pool.spec.probe.as_ref().and_then(|settings| {
            let same = before.and_then(|before| before.checker).filter(|checker| checker.settings == *settings);
            same.or_else(|| {
                // Settings only come from the catalogue's grammars, so the name is found.
                let probe = (probe::find(settings.name)?.build)(settings);
                Some(Rc::new(Checker { probe, pace: Pace::of(settings), settings: settings.clone() }))
            })
        });
        let rules = Rules {
            probe: checker.as_ref().map(|checker| checker.pace.rules),
            outlier: pool.spec.outlier,
            damping: pool.spec.damping,
        };
        let next_sample = (rules.outlier.error_percent > 0).then_some(now);
        Kept { pool: pool.clone(), rules, checker, paths: Vec::new(), troubled, told, next_sample }
    }

    /// Says when the pool begins and ends to panic, and when backups take over and give back.
    pub(super) fn note_view(&mut self) {
        let view = self.pool.view();
        let now = (view.panic, view.backup);
        let before = std::mem::replace(&mut self.told, now);
        let (pool, serving) = (&*self.pool.spec.name, view.endpoints.len());
        let percent = self.pool.spec.placement.panic_percent;
        match (before.0, now.0) {
            (false, true) => {
                let cause = format!("fewer than {percent} % of its endpoints are usable");
                tracing::warn!(
                    event = events::POOL,
                    pool,
                    serving,
                    cause,
                    "pool panics: all serve that are not drained"
                );
            }
            (true, false) => tracing::info!(event = events::POOL, pool, serving, "pool panics no more"),
            _ => {}
        }
        match (before.1, now.1) {
            (false, true) => tracing::warn!(event = events::POOL, pool, serving, "backups serve: no primary is usable"),
            (true, false) => tracing::info!(event = events::POOL, pool, serving, "primaries serve again"),
            _ => {}
        }
    }
}
