//! Engine: what failed and is tried again, the more seldom the longer it fails. It counts looks and not time: for who looks each second,
//! its pauses are of 1, 2, 4, 8, 16 and then 30 seconds.

pub(super) struct Again<E> {
    /// What it came to last.
    failed: Option<E>,
    /// Looks that pass before it is tried.
    left: u32,
    /// As many will pass when it fails again.
    pause: u32,
}

impl<E: Clone> Again<E> {
    pub const fn new() -> Again<E> {
        Again { failed: None, left: 0, pause: 0 }
    }

    /// Whether to try at this look.
    ///
    /// # Errors
    /// It is too early: why it failed last.
    pub fn try_now(&mut self) -> Result<(), E> {
        match &self.failed {
            Some(error) if self.left > 0 => {
                self.left -= 1;
                Err(error.clone())
            }
            _ => Ok(()),
        }
    }

    /// Takes note of what came of it, and hands it on.
    ///
    /// # Errors
    /// It failed.
    pub fn note<T>(&mut self, outcome: Result<T, E>) -> Result<T, E> {
        match &outcome {
            Ok(_) => *self = Again::new(),
            Err(error) => {
                self.failed = Some(error.clone());
                self.left = self.pause;
                self.pause = (2 * self.pause + 1).min(LONGEST);
            }
        }
        outcome
    }
}

/// A failure at one look is at most so many looks old at another.
const LONGEST: u32 = 29;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_at_once_then_more_and_more_seldom_and_afresh_once_it_has_worked() {
        let mut again = Again::new();
        let mut tried = |looks: u32, outcome: Result<(), u32>| -> Vec<u32> {
            let tries = |look: &u32| match again.try_now() {
                Ok(()) => again.note(outcome.map_err(|_| *look)).is_ok() || outcome.is_err(),
                Err(_) => false,
            };
            (0..looks).filter(tries).collect()
        };
        assert_eq!(tried(100, Err(0)), [0, 1, 3, 7, 15, 31, 61, 91]);
        assert_eq!(tried(25, Ok(())), (21..25).collect::<Vec<_>>());
        assert_eq!(tried(5, Err(0)), [0, 1, 3]);
    }

    #[test]
    fn why_it_failed_is_known_in_between() {
        let mut again = Again::new();
        for why in [1, 2] {
            assert_eq!((again.try_now(), again.note(Err::<(), _>(why))), (Ok(()), Err(why)));
        }
        assert_eq!((again.try_now(), again.try_now()), (Err(2), Ok(())));
    }
}
