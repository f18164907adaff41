//! What one connection is doing, as far as time limits go.
//!
//! Owns the instants that the watch of `connection.rs` judges by: a head that has begun, a connection
//! without a request, an answer that the peer does not take. Must never end anything itself: it only
//! gives a verdict.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::limits::Limits;

/// One connection's doings. Shared by its reading side, its requests and its watch.
#[derive(Debug)]
pub(crate) struct Activity {
    since: Instant,
    state: Mutex<State>,
    /// Milliseconds by which a test moves this connection's clock.
    #[cfg(test)]
    ahead: AtomicU64,
}

/// Instants are counted from the start of the connection.
#[derive(Debug)]
struct State {
    exchanges: HashMap<u64, Arc<AtomicU64>>,
    next: u64,
    quiet_since: Duration,
    head_since: Option<Duration>,
}

/// What the watch should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is late.
    Fine,
    /// No request for long: say goodbye.
    Idle,
    /// A head, or the first request, does not come: close.
    SlowHead,
    /// The peer does not take an answer: close.
    Stalled,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            state: Mutex::new(State {
                exchanges: HashMap::new(),
                next: 0,
                quiet_since: Duration::ZERO,
                head_since: None,
            }),
            #[cfg(test)]
            ahead: AtomicU64::new(0),
        })
    }

    fn now(&self) -> Duration {
        let now = self.since.elapsed();
        #[cfg(test)]
        let now = now + Duration::from_millis(self.ahead.load(Ordering::Relaxed));
        now
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values that are whole at every moment: a panic elsewhere leaves nothing to repair.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request head is now half received (HTTP/1.1).
    pub(crate) fn head(&self, open: bool) {
        let mut state = self.state();
        match (open, state.head_since) {
            (true, None) => state.head_since = Some(self.now()),
            (false, Some(_)) => state.head_since = None,
            _ => {}
        }
    }

    /// A request has begun.
    pub(crate) fn begin(self: &Arc<Self>) -> Exchange {
        let handed = Arc::new(AtomicU64::new(0));
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.exchanges.insert(id, Arc::clone(&handed));
        Exchange { activity: Arc::clone(self), id, handed }
    }

    /// Whether the connection has no request under way and for how long.
    pub(crate) fn quiet(&self) -> Option<Duration> {
        let state = self.state();
        state.exchanges.is_empty().then(|| self.now().saturating_sub(state.quiet_since))
    }

    pub(crate) fn verdict(&self, limits: &Limits) -> Verdict {
        let state = self.state();
        let now = self.now();
        if state.exchanges.is_empty() {
            let quiet = now.saturating_sub(state.quiet_since);
            let head = state.head_since.map(|since| now.saturating_sub(since).min(quiet));
            return match head {
                Some(open) if open > limits.head => Verdict::SlowHead,
                None if state.next == 0 && quiet > limits.head => Verdict::SlowHead,
                None if quiet > limits.idle => Verdict::Idle,
                _ => Verdict::Fine,
            };
        }
        let stalled = state.exchanges.values().any(|handed| {
            let handed = handed.load(Ordering::Relaxed);
            handed != 0 && now.saturating_sub(Duration::from_millis(handed)) > limits.stall
        });
        if stalled { Verdict::Stalled } else { Verdict::Fine }
    }
}

/// One request under way; dropping it says that its answer is done with.
#[derive(Debug)]
pub(crate) struct Exchange {
    activity: Arc<Activity>,
    id: u64,
    handed: Arc<AtomicU64>,
}

impl Exchange {
    /// A piece of the answer was handed over: the peer's turn to take it.
    pub(crate) fn handed(&self) {
        let now = u64::try_from(self.activity.now().as_millis()).unwrap_or(u64::MAX);
        // Zero means "not waiting".
        self.handed.store(now.max(1), Ordering::Relaxed);
    }

    /// The next piece is asked for: the peer took what it was given.
    pub(crate) fn taken(&self) {
        self.handed.store(0, Ordering::Relaxed);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.exchanges.remove(&self.id);
        if state.exchanges.is_empty() {
            state.quiet_since = self.activity.now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(activity: &Activity, seconds: u64) {
        activity.ahead.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    fn limits() -> Limits {
        Limits {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            ..Limits::default()
        }
    }

    #[test]
    fn each_lateness_has_its_verdict() {
        let limits = limits();
        let activity = Activity::new();
        assert_eq!(activity.verdict(&limits), Verdict::Fine);
        advance(&activity, 11);
        assert_eq!(activity.verdict(&limits), Verdict::SlowHead, "the first request does not come");

        let exchange = activity.begin();
        advance(&activity, 3600);
        assert_eq!(activity.verdict(&limits), Verdict::Fine, "a transfer may last");
        exchange.handed();
        advance(&activity, 29);
        assert_eq!(activity.verdict(&limits), Verdict::Fine);
        advance(&activity, 2);
        assert_eq!(activity.verdict(&limits), Verdict::Stalled);
        exchange.taken();
        assert_eq!(activity.verdict(&limits), Verdict::Fine);
        drop(exchange);

        advance(&activity, 59);
        assert_eq!(activity.verdict(&limits), Verdict::Fine, "a connection kept for the next request");
        activity.head(true);
        advance(&activity, 9);
        assert_eq!(activity.verdict(&limits), Verdict::Fine, "the head has its own time");
        activity.head(true);
        advance(&activity, 2);
        assert_eq!(activity.verdict(&limits), Verdict::SlowHead, "more octets do not prolong it");
        activity.head(false);
        assert_eq!(activity.verdict(&limits), Verdict::Idle);
    }

    #[test]
    fn a_head_behind_a_long_request_is_counted_from_its_end() {
        let limits = limits();
        let activity = Activity::new();
        let exchange = activity.begin();
        activity.head(true);
        advance(&activity, 600);
        assert_eq!(activity.verdict(&limits), Verdict::Fine);
        drop(exchange);
        assert_eq!(activity.verdict(&limits), Verdict::Fine);
        advance(&activity, 11);
        assert_eq!(activity.verdict(&limits), Verdict::SlowHead);
    }
}
