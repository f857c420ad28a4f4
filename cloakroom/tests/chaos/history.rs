//! A record of what visitors saw of their sessions. It checks that some order of events explains it: each acknowledged change is
//! there, an ended session is dead to every process, and no session goes back to an earlier state.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One call, as its caller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The session's id, by a number of its own: a new id is a new number.
    pub(crate) id: u64,
    /// The process that was asked.
    pub(crate) node: usize,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) what: What,
}

/// A call's request, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The session began, and its counter is this.
    Begun(u64),
    /// The counter was raised to this.
    Added(u64),
    /// The counter was to be raised; whether it was is not known.
    MaybeAdded,
    /// The counter was this, or there was no such session.
    Read(Option<u64>),
    /// The session ended.
    Ended,
    /// The session was to end; whether it did is not known.
    MaybeEnded,
}

/// Losses that the history may show without a fault.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// Changes acknowledged in one of these stretches may be lost.
    pub(crate) lost: Vec<(Instant, Instant)>,
    /// A change may go unseen by other processes for so long.
    pub(crate) unseen: Duration,
}

impl Allowed {
    fn may_lose(&self, at: Instant) -> bool {
        self.lost.iter().any(|(from, to)| (*from..=*to).contains(&at))
    }
}

/// Every call of every visitor.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: Mutex<Vec<Event>>,
    ids: AtomicU64,
    errors: Mutex<Vec<String>>,
}

impl History {
    pub(crate) fn new() -> Arc<History> {
        Arc::default()
    }

    /// A number for a new id.
    pub(crate) fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn push(&self, id: u64, node: usize, began: Instant, what: What) {
        let event = Event { id, node, began, ended: Instant::now(), what };
        self.events.lock().unwrap().push(event);
    }

    /// A call that was answered with an error.
    pub(crate) fn failed(&self, error: &cloakroom::Error) {
        self.errors.lock().unwrap().push(format!("{error}"));
    }

    /// The errors that calls were answered with.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// Looks for a session that no order of events explains.
    pub(crate) fn judge(&self, allowed: &Allowed) -> Verdict {
        let events = self.events.lock().unwrap().clone();
        let mut verdict = Verdict { errors: self.errors().len(), ..Verdict::default() };
        let mut sessions: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
        for event in events {
            match event.what {
                What::Begun(_) | What::Added(_) | What::Ended => verdict.acknowledged += 1,
                What::Read(_) => verdict.reads += 1,
                What::MaybeAdded | What::MaybeEnded => {}
            }
            sessions.entry(event.id).or_default().push(event);
        }
        verdict.sessions = sessions.len();
        for events in sessions.values_mut() {
            events.sort_by_key(|event| event.began);
            for event in events.iter() {
                Look { events, event, allowed }.judge(&mut verdict);
            }
        }
        verdict
    }
}

/// One event among those of its session.
struct Look<'a> {
    events: &'a [Event],
    event: &'a Event,
    allowed: &'a Allowed,
}

impl Look<'_> {
    fn judge(&self, verdict: &mut Verdict) {
        match self.event.what {
            What::Begun(_) | What::MaybeAdded | What::MaybeEnded => {}
            What::Added(n) | What::Read(Some(n)) => {
                if self.dead_before() {
                    verdict.note("revived", self.event);
                }
                if n < self.least() || (self.is_added() && n == self.least()) {
                    verdict.note("lost or gone back", self.event);
                }
                if n > self.most() {
                    verdict.note("more than was ever asked for", self.event);
                }
            }
            What::Read(None) | What::Ended => {
                // A caller that ends what is gone is told the same as one that ends it.
                if self.event.what == What::Read(None) && !self.may_be_dead() {
                    verdict.note("the session is lost", self.event);
                }
            }
        }
    }

    fn is_added(&self) -> bool {
        matches!(self.event.what, What::Added(_))
    }

    /// Events that were over, and to be seen by everybody, before this one began.
    fn before(&self) -> impl Iterator<Item = &Event> {
        let slack = |event: &Event| match event.node == self.event.node || self.is_added() {
            true => Duration::ZERO,
            false => self.allowed.unseen,
        };
        self.events.iter().filter(move |event| event.ended + slack(event) < self.event.began)
    }

    /// True if it was known before that the session had ended.
    fn dead_before(&self) -> bool {
        self.before().any(|event| {
            matches!(event.what, What::Ended | What::Read(None)) && !self.allowed.may_lose(event.ended)
        })
    }

    /// True if the session may have ended, or never have been there after a loss.
    fn may_be_dead(&self) -> bool {
        self.events.iter().any(|event| match event.what {
            What::Ended | What::MaybeEnded => event.began <= self.event.ended,
            What::Begun(_) => self.allowed.may_lose(event.ended),
            _ => false,
        })
    }

    /// The least that the counter can be now.
    fn least(&self) -> u64 {
        let known = |event: &Event| match event.what {
            What::Begun(n) | What::Added(n) | What::Read(Some(n)) => Some(n),
            _ => None,
        };
        self.before().filter(|event| !self.allowed.may_lose(event.ended)).filter_map(known).max().unwrap_or(0)
    }

    /// The most that it can be: where it began, and one for each addition that was asked for.
    fn most(&self) -> u64 {
        let asked = self.events.iter().filter(|event| event.began <= self.event.ended);
        asked.fold(0, |most, event| match event.what {
            What::Begun(n) => most + n,
            What::Added(_) | What::MaybeAdded => most + 1,
            _ => most,
        })
    }
}

/// The result of the check.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) sessions: usize,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) errors: usize,
    pub(crate) faults: Vec<String>,
}

impl Verdict {
    fn note(&mut self, what: &str, event: &Event) {
        self.faults.push(format!("{what}: {event:?}"));
    }

    /// Asserts that nothing is unexplained, and that there was something to explain.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let few: Vec<_> = self.faults.iter().take(5).collect();
        assert!(self.faults.is_empty(), "{self}: {few:#?}");
        assert!(self.acknowledged > 20 && self.reads > 20, "hardly anything was tried: {self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ids, {} changes acknowledged, {} reads, {} errors, {} unexplained",
            self.sessions,
            self.acknowledged,
            self.reads,
            self.errors,
            self.faults.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history of one session, an event each 10 ms: the node, and what it saw.
    fn faults_within(events: &[(usize, What)], allow: impl Fn(Instant) -> Allowed) -> usize {
        let history = History::default();
        let start = Instant::now();
        for (turn, (node, what)) in (0u32..).zip(events) {
            let began = start + Duration::from_millis(10) * turn;
            let ended = began + Duration::from_millis(5);
            history.events.lock().unwrap().push(Event { id: 0, node: *node, began, ended, what: *what });
        }
        history.judge(&allow(start)).faults.len()
    }

    fn faults(events: &[(usize, What)]) -> usize {
        faults_within(events, |_| Allowed::default())
    }

    use What::{Added, Begun, Ended, MaybeAdded, MaybeEnded, Read};

    #[test]
    fn a_history_in_order_has_no_fault() {
        let events = [
            (0, Begun(0)),
            (1, Added(1)),
            (0, Read(Some(1))),
            (0, MaybeAdded),
            (1, Read(Some(2))),
            (0, Ended),
        ];
        assert_eq!(faults(&events), 0);
        assert_eq!(faults(&[(0, Begun(3)), (1, MaybeAdded), (0, Read(Some(3))), (0, Read(Some(4)))]), 0);
        assert_eq!(faults(&[(0, Begun(0)), (0, MaybeEnded), (0, Read(Some(0))), (1, Read(None))]), 0);
    }

    #[test]
    fn a_lost_change_is_found() {
        assert_eq!(faults(&[(0, Begun(0)), (0, Added(1)), (1, Read(Some(0)))]), 1);
        assert_eq!(faults(&[(0, Begun(0)), (0, Added(1)), (1, Added(1))]), 1);
        assert_eq!(faults(&[(0, Begun(0)), (0, Read(None))]), 1);
    }

    #[test]
    fn a_session_that_goes_back_is_found() {
        let events = [(0, Begun(0)), (0, MaybeAdded), (1, Read(Some(1))), (0, Read(Some(0)))];
        assert_eq!(faults(&events), 1);
    }

    #[test]
    fn a_change_that_nobody_asked_for_is_found() {
        assert_eq!(faults(&[(0, Begun(0)), (0, Read(Some(1)))]), 1);
    }

    #[test]
    fn an_ended_session_that_lives_is_found() {
        assert_eq!(faults(&[(0, Begun(0)), (0, Ended), (1, Read(Some(0)))]), 1);
        let events = [(0, Begun(0)), (0, MaybeEnded), (0, Read(None)), (1, Read(Some(0)))];
        assert_eq!(faults(&events), 1);
    }

    #[test]
    fn what_may_be_lost_is_no_fault_and_the_rest_is() {
        let first_three =
            |start| Allowed { lost: vec![(start, start + Duration::from_millis(28))], ..Allowed::default() };
        let lost = [(0, Begun(0)), (0, Added(1)), (0, Ended), (1, Read(Some(0)))];
        assert_eq!(faults_within(&lost, first_three), 0);
        let later =
            [(0, Begun(0)), (0, Read(Some(0))), (0, Read(Some(0))), (0, Added(1)), (1, Read(Some(0)))];
        assert_eq!(faults_within(&later, first_three), 1);
    }

    #[test]
    fn a_near_cache_may_be_behind_for_as_long_as_is_allowed() {
        let behind =
            |millis| move |_| Allowed { unseen: Duration::from_millis(millis), ..Allowed::default() };
        let elsewhere = [(0, Begun(0)), (0, Ended), (1, Read(Some(0)))];
        assert_eq!(faults_within(&elsewhere, behind(10)), 0);
        assert_eq!(faults_within(&elsewhere, behind(1)), 1);
        let here = [(0, Begun(0)), (0, Ended), (0, Read(Some(0)))];
        assert_eq!(faults_within(&here, behind(10)), 1);
    }
}
