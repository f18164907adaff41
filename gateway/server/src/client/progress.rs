//! How far a transfer is, on standard error: a bar on a terminal, plain lines elsewhere.
//! Owns counters and their display; knows nothing of what is transferred.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::texts::{self, Standing};

const REDRAW: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Speed is the mean over this long, so that it neither jumps nor lags.
const WINDOW: Duration = Duration::from_secs(10);
/// The same trouble is not told more often than this.
const TROUBLE_EVERY: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(super) struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    bar: Option<ProgressBar>,
    quiet: bool,
    phase: Mutex<&'static str>,
    /// Bytes in place, counting those of earlier runs.
    done: AtomicU64,
    total: AtomicU64,
    /// Bytes moved by this run; never goes back, speed is made of it.
    moved: AtomicU64,
    files_done: AtomicUsize,
    files: AtomicUsize,
    samples: Mutex<VecDeque<(Instant, u64)>>,
    troubled: AtomicBool,
    last_trouble: Mutex<Option<Instant>>,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:16} {wide_msg}") {
                bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
            }
            bar
        });
        let inner = Inner {
            bar,
            quiet,
            phase: Mutex::new(""),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            files_done: AtomicUsize::new(0),
            files: AtomicUsize::new(0),
            samples: Mutex::new(VecDeque::new()),
            troubled: AtomicBool::new(false),
            last_trouble: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A sentence for the person who waits.
    pub(super) fn say(&self, text: &str) {
        if self.inner.quiet {
            return;
        }
        self.write(text);
    }

    /// A sentence that even `--quiet` does not hide: something was left out or renamed.
    pub(super) fn warn(&self, text: &str) {
        self.write(&format!("pli : {text}"));
    }

    fn write(&self, text: &str) {
        use std::io::Write as _;
        match &self.inner.bar {
            Some(bar) if !bar.is_finished() => bar.suspend(|| {
                let _ = writeln!(std::io::stderr(), "{text}");
            }),
            // A closed standard error is no reason to stop a transfer.
            _ => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }

    /// An attempt failed and another follows.
    pub(super) fn trouble(&self, why: &str, pause: Duration) {
        self.inner.troubled.store(true, Ordering::Relaxed);
        let mut last = self.inner.last_trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Streams are cut together: one sentence is enough for all of them.
        if last.is_none_or(|at| now.duration_since(at) >= TROUBLE_EVERY) {
            *last = Some(now);
            drop(last);
            self.say(&texts::retry(why, pause));
        }
    }

    pub(super) fn start(&self, phase: &'static str, total: u64, files: usize) {
        self.next_phase(phase);
        self.inner.total.store(total, Ordering::Relaxed);
        self.inner.files.store(files, Ordering::Relaxed);
    }

    /// Files are counted from none again.
    pub(super) fn next_phase(&self, phase: &'static str) {
        *self.inner.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.inner.files_done.store(0, Ordering::Relaxed);
    }

    pub(super) fn file_done(&self) {
        self.inner.files_done.fetch_add(1, Ordering::Relaxed);
    }

    /// A counter for one piece of content.
    pub(super) fn piece(&self) -> Piece {
        Piece { progress: self.clone(), at: AtomicU64::new(0) }
    }

    fn standing(&self) -> Standing {
        let inner = &self.inner;
        let total = inner.total.load(Ordering::Relaxed);
        let done = inner.done.load(Ordering::Relaxed).min(total);
        let speed = self.speed();
        Standing {
            phase: *inner.phase.lock().unwrap_or_else(PoisonError::into_inner),
            done,
            total,
            speed,
            left: (speed > 0).then(|| Duration::from_secs((total - done) / speed)),
            files: (inner.files_done.load(Ordering::Relaxed), inner.files.load(Ordering::Relaxed)),
        }
    }

    /// Bytes a second over the window.
    fn speed(&self) -> u64 {
        let mut samples = self.inner.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let moved = self.inner.moved.load(Ordering::Relaxed);
        samples.push_back((now, moved));
        while samples.len() > 2 && samples.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            samples.pop_front();
        }
        match samples.front() {
            Some((at, before)) if now > *at => {
                let millis = now.duration_since(*at).as_millis().max(1);
                let bytes = u128::from(moved.saturating_sub(*before)) * 1000 / millis;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
            _ => 0,
        }
    }

    /// Keeps the display up to date until the guard is dropped.
    pub(super) fn display(&self) -> Display {
        let progress = self.clone();
        let task = tokio::spawn(async move {
            let inner = &progress.inner;
            if inner.quiet {
                return;
            }
            let mut tick = tokio::time::interval(REDRAW);
            let mut last_line = Instant::now();
            loop {
                tick.tick().await;
                let standing = progress.standing();
                if let Some(bar) = &inner.bar {
                    bar.set_length(inner.total.load(Ordering::Relaxed).max(1));
                    bar.set_position(inner.done.load(Ordering::Relaxed));
                    bar.set_message(texts::beside_bar(&standing));
                } else if last_line.elapsed() >= LINE_EVERY {
                    last_line = Instant::now();
                    progress.say(&texts::progress(&standing));
                }
            }
        });
        Display { progress: self.clone(), task }
    }
}

/// While it lives, the progress is shown.
pub(super) struct Display {
    progress: Progress,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Display {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.progress.inner.bar {
            bar.finish_and_clear();
        }
        let total = self.progress.inner.total.load(Ordering::Relaxed);
        if total > 0 {
            self.progress.say(&texts::progress(&self.progress.standing()));
        }
    }
}

/// How far one piece of content is; what is counted of it is taken back when it starts again.
pub(super) struct Piece {
    progress: Progress,
    at: AtomicU64,
}

impl Piece {
    /// The piece stands at `position`: known from the server or from the disk, not moved now.
    pub(super) fn stands_at(&self, position: u64) {
        let before = self.at.swap(position, Ordering::Relaxed);
        let done = &self.progress.inner.done;
        if position >= before {
            done.fetch_add(position - before, Ordering::Relaxed);
        } else {
            done.fetch_sub(before - position, Ordering::Relaxed);
        }
    }

    /// `bytes` more were moved.
    pub(super) fn moved(&self, bytes: u64) {
        self.at.fetch_add(bytes, Ordering::Relaxed);
        let inner = &self.progress.inner;
        inner.done.fetch_add(bytes, Ordering::Relaxed);
        inner.moved.fetch_add(bytes, Ordering::Relaxed);
        if inner.troubled.swap(false, Ordering::Relaxed) {
            self.progress.say(texts::BACK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_starts_again_takes_back_what_it_counted() {
        let progress = Progress::new(true);
        progress.start("Envoi", 100, 2);
        let (a, b) = (progress.piece(), progress.piece());
        a.stands_at(30);
        a.moved(20);
        b.moved(10);
        a.stands_at(40);
        assert_eq!(progress.inner.done.load(Ordering::Relaxed), 50);
        assert_eq!(progress.inner.moved.load(Ordering::Relaxed), 30);
    }

    #[test]
    fn what_stands_beside_the_bar_fits_a_narrow_terminal() {
        let standing = Standing {
            phase: texts::RECEIVING,
            done: 123_456_789_000,
            total: 999_900_000_000,
            speed: 123_400_000,
            left: Some(Duration::from_secs(7_103)),
            files: (12, 1234),
        };
        let text = texts::beside_bar(&standing);
        assert!(text.chars().count() <= 80 - 17 && text.contains("reste"), "{text}");
        let line = texts::progress(&standing);
        assert!(line.contains("(12,3 %)") && line.ends_with("12/1\u{202f}234 fichiers"), "{line}");
    }

    #[tokio::test(start_paused = true)]
    async fn speed_is_what_moved_lately() {
        let progress = Progress::new(true);
        progress.start("Envoi", 1_000_000, 1);
        let piece = progress.piece();
        piece.stands_at(500_000);
        for _ in 0..60 {
            progress.standing();
            tokio::time::advance(Duration::from_secs(1)).await;
            piece.moved(1_000);
        }
        let speed = progress.speed();
        assert!((900..=1_000).contains(&speed), "{speed}");
    }
}
