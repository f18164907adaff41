//! How long to insist: growing pauses with jitter, and an end when nothing has moved for too long.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);

/// The patience of one piece of work.
pub(super) struct Patience {
    give_up: Duration,
    since: Instant,
    failures: u32,
}

impl Patience {
    pub(super) fn new(give_up: Duration) -> Self {
        Self { give_up, since: Instant::now(), failures: 0 }
    }

    /// Something was achieved: the time to give up starts again.
    pub(super) fn progressed(&mut self) {
        self.since = Instant::now();
        self.failures = 0;
    }

    /// After a failure: how long to wait before the next attempt, or `None` to give up. What the
    /// server asks for counts, but never makes the wait longer than what is left of the patience.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let left = self.give_up.checked_sub(self.since.elapsed()).filter(|left| !left.is_zero())?;
        let grown = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Between half and all of it, so that clients cut together do not come back together.
        let pause = grown.mul_f64(0.5 + 0.5 * fraction());
        Some(pause.max(asked.unwrap_or_default()).min(left))
    }
}

/// A number in [0, 1); without randomness the pause is only less spread.
fn fraction() -> f64 {
    f64::from(getrandom::u32().unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_cap_and_end() {
        let give_up = Duration::from_secs(900);
        let mut patience = Patience::new(give_up);
        let start = Instant::now();
        let mut pauses = Vec::new();
        while let Some(pause) = patience.pause(None) {
            assert!(pause <= LONGEST);
            pauses.push(pause);
            tokio::time::advance(pause).await;
        }
        assert!(start.elapsed() >= give_up);
        assert!(start.elapsed() <= give_up + LONGEST);
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST / 2);
        assert!(pauses[10] >= LONGEST / 2);
        assert!(pauses.len() < 150, "{}", pauses.len());
    }

    #[tokio::test(start_paused = true)]
    async fn progress_starts_it_again() {
        let mut patience = Patience::new(Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(9)).await;
        patience.progressed();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(patience.pause(None).is_some_and(|pause| pause <= FIRST));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(patience.pause(None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_may_ask_for_longer_but_not_for_ever() {
        let mut patience = Patience::new(Duration::from_secs(100));
        assert_eq!(patience.pause(Some(Duration::from_secs(42))), Some(Duration::from_secs(42)));
        assert_eq!(patience.pause(Some(Duration::from_secs(86_400))), Some(Duration::from_secs(100)));
    }
}
