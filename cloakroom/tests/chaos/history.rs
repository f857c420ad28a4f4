//! A history of all calls and their replies. The checker finds replies that no order of the calls explains: a lost change, a revived
//! session, or a session that went back to an earlier state.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One call, as its caller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The number of the session's id. A new id gets a new number.
    pub(crate) id: u64,
    /// The process that answered.
    pub(crate) node: usize,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
}

/// The kind of a call, and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session began with this counter.
    Started(u64),
    /// The counter was incremented to this.
    Added(u64),
    /// An increment with an unknown outcome.
    MaybeAdded,
    /// The counter that was read, or `None` if there was no session.
    Read(Option<u64>),
    /// The session ended.
    Ended,
    /// The end of a session with an unknown outcome.
    MaybeEnded,
}

/// The losses and delays that a test accepts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tolerance {
    /// Changes that were acknowledged in one of these periods may be lost.
    pub(crate) lost: Vec<(Instant, Instant)>,
    /// The time for which other processes may not see a change.
    pub(crate) unseen: Duration,
}

impl Tolerance {
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

    /// Returns the number of a new id.
    pub(crate) fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn push(&self, id: u64, node: usize, began: Instant, outcome: Outcome) {
        let event = Event { id, node, began, ended: Instant::now(), outcome };
        self.events.lock().unwrap().push(event);
    }

    /// Records a call that failed.
    pub(crate) fn failed(&self, error: &cloakroom::Error) {
        self.errors.lock().unwrap().push(format!("{error}"));
    }

    /// Returns the errors of all failed calls.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// Checks every session for replies that no order of the calls explains.
    pub(crate) fn judge(&self, allowed: &Tolerance) -> Verdict {
        let events = self.events.lock().unwrap().clone();
        let mut verdict = Verdict { errors: self.errors().len(), ..Verdict::default() };
        let mut sessions: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
        for event in events {
            match event.outcome {
                Outcome::Started(_) | Outcome::Added(_) | Outcome::Ended => verdict.acknowledged += 1,
                Outcome::Read(_) => verdict.reads += 1,
                Outcome::MaybeAdded | Outcome::MaybeEnded => {}
            }
            sessions.entry(event.id).or_default().push(event);
        }
        verdict.sessions = sessions.len();
        for events in sessions.values_mut() {
            events.sort_by_key(|event| event.began);
            for event in events.iter() {
                Check { events, event, allowed }.judge(&mut verdict);
            }
        }
        verdict
    }
}

/// The check of one event against the others of its session.
struct Check<'a> {
    events: &'a [Event],
    event: &'a Event,
    allowed: &'a Tolerance,
}

impl Check<'_> {
    fn judge(&self, verdict: &mut Verdict) {
        match self.event.outcome {
            Outcome::Started(_) | Outcome::MaybeAdded | Outcome::MaybeEnded => {}
            Outcome::Added(n) | Outcome::Read(Some(n)) => {
                if self.ended_before() {
                    verdict.note("revived", self.event);
                }
                if n < self.least() || (self.is_added() && n == self.least()) {
                    verdict.note("a change was lost or undone", self.event);
                }
                if n > self.most() {
                    verdict.note("the counter is higher than all increments", self.event);
                }
            }
            Outcome::Read(None) | Outcome::Ended => {
                // Ending a session that is gone has the same reply as ending a live one.
                if self.event.outcome == Outcome::Read(None) && !self.may_have_ended() {
                    verdict.note("the session is lost", self.event);
                }
            }
        }
    }

    fn is_added(&self) -> bool {
        matches!(self.event.outcome, Outcome::Added(_))
    }

    /// Returns the events whose effects this one must see.
    fn before(&self) -> impl Iterator<Item = &Event> {
        let slack = |event: &Event| {
            if event.node == self.event.node || self.is_added() {
                Duration::ZERO
            } else {
                self.allowed.unseen
            }
        };
        self.events.iter().filter(move |event| event.ended + slack(event) < self.event.began)
    }

    /// Returns true if an earlier event showed that the session had ended.
    fn ended_before(&self) -> bool {
        self.before().any(|event| {
            matches!(event.outcome, Outcome::Ended | Outcome::Read(None))
                && !self.allowed.may_lose(event.ended)
        })
    }

    /// Returns true if the session may have ended, or if its creation may have been lost.
    fn may_have_ended(&self) -> bool {
        self.events.iter().any(|event| match event.outcome {
            Outcome::Ended | Outcome::MaybeEnded => event.began <= self.event.ended,
            Outcome::Started(_) => self.allowed.may_lose(event.ended),
            _ => false,
        })
    }

    /// Returns the least that the counter can be now.
    fn least(&self) -> u64 {
        let known = |event: &Event| match event.outcome {
            Outcome::Started(n) | Outcome::Added(n) | Outcome::Read(Some(n)) => Some(n),
            _ => None,
        };
        self.before().filter(|event| !self.allowed.may_lose(event.ended)).filter_map(known).max().unwrap_or(0)
    }

    /// Returns the most that the counter can be: its start, and one for each increment that was attempted.
    fn most(&self) -> u64 {
        let asked = self.events.iter().filter(|event| event.began <= self.event.ended);
        asked.fold(0, |most, event| match event.outcome {
            Outcome::Started(n) => most + n,
            Outcome::Added(_) | Outcome::MaybeAdded => most + 1,
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
    fn note(&mut self, outcome: &str, event: &Event) {
        self.faults.push(format!("{outcome}: {event:?}"));
    }

    /// Asserts that every reply is explained, and that there were enough of them.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let few: Vec<_> = self.faults.iter().take(5).collect();
        assert!(self.faults.is_empty(), "{self}: {few:#?}");
        assert!(self.acknowledged > 20 && self.reads > 20, "too few calls succeeded: {self}");
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

    /// Counts the faults in a history of one session. Each event is a node and its reply, 10 ms after the one before.
    fn faults_within(events: &[(usize, Outcome)], allow: impl Fn(Instant) -> Tolerance) -> usize {
        let history = History::default();
        let start = Instant::now();
        for (turn, (node, outcome)) in (0u32..).zip(events) {
            let began = start + Duration::from_millis(10) * turn;
            let ended = began + Duration::from_millis(5);
            history.events.lock().unwrap().push(Event {
                id: 0,
                node: *node,
                began,
                ended,
                outcome: *outcome,
            });
        }
        history.judge(&allow(start)).faults.len()
    }

    fn faults(events: &[(usize, Outcome)]) -> usize {
        faults_within(events, |_| Tolerance::default())
    }

    use Outcome::{Added, Ended, MaybeAdded, MaybeEnded, Read, Started};

    #[test]
    fn a_history_in_order_has_no_fault() {
        let events = [
            (0, Started(0)),
            (1, Added(1)),
            (0, Read(Some(1))),
            (0, MaybeAdded),
            (1, Read(Some(2))),
            (0, Ended),
        ];
        assert_eq!(faults(&events), 0);
        assert_eq!(faults(&[(0, Started(3)), (1, MaybeAdded), (0, Read(Some(3))), (0, Read(Some(4)))]), 0);
        assert_eq!(faults(&[(0, Started(0)), (0, MaybeEnded), (0, Read(Some(0))), (1, Read(None))]), 0);
    }

    #[test]
    fn a_lost_change_is_found() {
        assert_eq!(faults(&[(0, Started(0)), (0, Added(1)), (1, Read(Some(0)))]), 1);
        assert_eq!(faults(&[(0, Started(0)), (0, Added(1)), (1, Added(1))]), 1);
        assert_eq!(faults(&[(0, Started(0)), (0, Read(None))]), 1);
    }

    #[test]
    fn a_session_that_goes_back_is_found() {
        let events = [(0, Started(0)), (0, MaybeAdded), (1, Read(Some(1))), (0, Read(Some(0)))];
        assert_eq!(faults(&events), 1);
    }

    #[test]
    fn a_change_without_a_call_is_found() {
        assert_eq!(faults(&[(0, Started(0)), (0, Read(Some(1)))]), 1);
    }

    #[test]
    fn a_revived_session_is_found() {
        assert_eq!(faults(&[(0, Started(0)), (0, Ended), (1, Read(Some(0)))]), 1);
        let events = [(0, Started(0)), (0, MaybeEnded), (0, Read(None)), (1, Read(Some(0)))];
        assert_eq!(faults(&events), 1);
    }

    #[test]
    fn only_changes_in_the_accepted_period_may_be_lost() {
        let first_three = |start| Tolerance {
            lost: vec![(start, start + Duration::from_millis(28))],
            ..Tolerance::default()
        };
        let lost = [(0, Started(0)), (0, Added(1)), (0, Ended), (1, Read(Some(0)))];
        assert_eq!(faults_within(&lost, first_three), 0);
        let later =
            [(0, Started(0)), (0, Read(Some(0))), (0, Read(Some(0))), (0, Added(1)), (1, Read(Some(0)))];
        assert_eq!(faults_within(&later, first_three), 1);
    }

    #[test]
    fn a_near_cache_may_be_stale_for_the_accepted_time() {
        let behind =
            |millis| move |_| Tolerance { unseen: Duration::from_millis(millis), ..Tolerance::default() };
        let elsewhere = [(0, Started(0)), (0, Ended), (1, Read(Some(0)))];
        assert_eq!(faults_within(&elsewhere, behind(10)), 0);
        assert_eq!(faults_within(&elsewhere, behind(1)), 1);
        let here = [(0, Started(0)), (0, Ended), (0, Read(Some(0)))];
        assert_eq!(faults_within(&here, behind(10)), 1);
    }
}
