//! A hook that counts the calls, and has those fail that a test wants to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::{Error, ErrorKind, Result};

use super::hooked::{Call, Hook, Verdict, give_way};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and does nothing.
    Fail,
    /// It does its work, and then the answer is lost.
    LoseAnswer,
    /// It says that what is stored cannot be read.
    Corrupt,
    /// It never answers.
    Hang,
    /// It answers after a while.
    Slow(Duration),
    Panic,
    /// It says that somebody else was first, whether or not that is so.
    Lose,
}

/// Lets calls through, counted, each of them pending now and then as a real store's are; but for the faults that are set.
#[derive(Clone, Default)]
pub(crate) struct Faulty(Arc<Mutex<State>>);

struct State {
    calls: Vec<Call>,
    faults: BTreeMap<Call, Fault>,
    /// How often each call is pending before it begins, and again before it answers.
    pauses: u32,
}

impl Default for State {
    fn default() -> Self {
        State { calls: Vec::new(), faults: BTreeMap::new(), pauses: 1 }
    }
}

impl Faulty {
    /// From now on `call` goes wrong by `fault`.
    pub(crate) fn set(&self, call: Call, fault: Fault) {
        self.0.lock().unwrap().faults.insert(call, fault);
    }

    /// From now on whatever a request can ask for goes wrong by `fault`.
    pub(crate) fn set_all(&self, fault: Fault) {
        for call in [Call::Create, Call::Load, Call::Update, Call::Touch, Call::Rename, Call::End] {
            self.set(call, fault);
        }
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().faults.clear();
    }

    /// Has each call be pending `pauses` times before and after its work.
    pub(crate) fn pause(&self, pauses: u32) {
        self.0.lock().unwrap().pauses = pauses;
    }

    /// The calls since this was last asked.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    fn at(&self, call: Call) -> (Option<Fault>, u32) {
        let state = self.0.lock().unwrap();
        (state.faults.get(&call).copied(), state.pauses)
    }
}

/// The text of a store that tells too much; no response may repeat it.
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
            Some(Fault::Panic) => panic!("the provider panics, as it was asked to"),
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
