//! A hook that counts calls and injects faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::{Error, ErrorKind, Result};

use super::hooked::{Call, Hook, Verdict, give_way};

/// A fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails and does nothing.
    Fail,
    /// The call does its work, but its answer is lost.
    LoseAnswer,
    /// The call reports that the stored record cannot be read.
    Corrupt,
    /// The call never answers.
    Hang,
    /// The call answers after a delay.
    Slow(Duration),
    Panic,
    /// The call reports a conflict, also without one.
    Lose,
}

/// A hook that counts calls and injects the faults that a test sets. Without a fault a call is pending now and then,
/// like one to a real store.
#[derive(Clone, Default)]
pub(crate) struct Faulty(Arc<Mutex<State>>);

struct State {
    calls: Vec<Call>,
    faults: BTreeMap<Call, Fault>,
    /// The number of times that each call is pending before it begins, and again before it answers.
    pauses: u32,
}

impl Default for State {
    fn default() -> Self {
        State { calls: Vec::new(), faults: BTreeMap::new(), pauses: 1 }
    }
}

impl Faulty {
    /// Injects `fault` into `call` from now on.
    pub(crate) fn set(&self, call: Call, fault: Fault) {
        self.0.lock().unwrap().faults.insert(call, fault);
    }

    /// Injects `fault` into every call that a request can make, from now on.
    pub(crate) fn set_all(&self, fault: Fault) {
        for call in [Call::Create, Call::Load, Call::Update, Call::Touch, Call::Rename, Call::End] {
            self.set(call, fault);
        }
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().faults.clear();
    }

    /// Makes each call pending `pauses` times before and after its work.
    pub(crate) fn pause(&self, pauses: u32) {
        self.0.lock().unwrap().pauses = pauses;
    }

    /// Returns the calls since the last call of this method.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    fn at(&self, call: Call) -> (Option<Fault>, u32) {
        let state = self.0.lock().unwrap();
        (state.faults.get(&call).copied(), state.pauses)
    }
}

/// An error text with secrets of the store. No response may repeat it.
pub(crate) const INDISCRETION: &str = "redis://admin:hunter2@10.0.0.7:6379 refused SELECT /var/lib/store";

impl Hook for Faulty {
    async fn before(&self, call: Call) -> Result<Verdict> {
        self.0.lock().unwrap().calls.push(call);
        let (fault, pauses) = self.at(call);
        give_way(pauses).await;
        match fault {
            Some(Fault::Fail) => Err(Error::new(ErrorKind::Unavailable, INDISCRETION)),
            Some(Fault::Corrupt) => Err(Error::new(ErrorKind::Corrupt, INDISCRETION)),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                Ok(Verdict::Forward)
            }
            Some(Fault::Panic) => panic!("an injected panic of the provider"),
            Some(Fault::Lose) => Ok(Verdict::Lose),
            Some(Fault::LoseAnswer) | None => Ok(Verdict::Forward),
        }
    }

    async fn after(&self, call: Call, _: bool) -> Result<()> {
        let (fault, pauses) = self.at(call);
        give_way(pauses).await;
        match fault {
            Some(Fault::LoseAnswer) => Err(Error::new(ErrorKind::Unavailable, INDISCRETION)),
            _ => Ok(()),
        }
    }
}
