//! Engine: what became of a source's finding, with as many of its mistakes as somebody reads.

use std::collections::{BTreeMap, HashMap};

use crate::base::limits;
use crate::seam::source::{Mistake, Refusal};

/// What became of one source's finding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Members in force, those that leave not among them.
    pub members: usize,
    pub leaving: usize,
    pub routes: usize,
    /// As many of them as somebody reads, and how many there are by their reason.
    pub mistakes: Vec<Mistake>,
    pub refused: BTreeMap<Refusal, u64>,
}

impl Verdict {
    pub(super) fn refuse(&mut self, mistake: Mistake) {
        *self.refused.entry(mistake.why).or_default() += 1;
        self.mistakes.push(mistake);
    }

    /// Leaves as many mistakes as somebody reads, the first of everybody before the second of anybody: whoever makes many hides nobody
    /// else's one.
    pub(super) fn abridge(&mut self) {
        let mut made: HashMap<String, usize> = HashMap::new();
        // With how many each stands for.
        let mut ranked: Vec<(usize, usize, Mistake)> = Vec::new();
        for mistake in std::mem::take(&mut self.mistakes) {
            let nth = made.entry(mistake.maker().to_owned()).or_default();
            *nth += 1;
            // The one after the last that is told says how many there are in its place.
            if *nth <= limits::MAKER_MISTAKES + 1 {
                ranked.push((*nth, 1, mistake));
            }
        }
        for (_, count, mistake) in ranked.iter_mut().filter(|(nth, ..)| *nth > limits::MAKER_MISTAKES) {
            *count = made.get(mistake.maker()).map_or(1, |made| made - limits::MAKER_MISTAKES);
            if *count > 1 {
                *mistake =
                    Mistake::new(mistake.why, mistake.maker(), format!("{count} more mistakes, which are not told"));
            }
        }
        // Stable: otherwise in the order in which they were found.
        ranked.sort_by_key(|(nth, ..)| *nth);
        if ranked.len() > limits::SOURCE_MISTAKES {
            let rest = ranked.split_off(limits::SOURCE_MISTAKES - 1);
            let count = rest.iter().map(|(_, count, _)| count).sum();
            if let Some((nth, _, first)) = rest.first() {
                let message = format!("{count} more mistakes of these and others, which are not told");
                ranked.push((*nth, count, Mistake::new(first.why, "the rest", message)));
            }
        }
        self.mistakes = ranked.into_iter().map(|(.., mistake)| mistake).collect();
    }
}
