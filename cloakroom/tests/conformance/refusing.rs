//! Stores behind a wrapper that refuses changes on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloakroom::testkit::{Store, conformance};
use cloakroom::{Clock, Error, ErrorKind, FileProvider, MemoryProvider, Provider, Result};

use crate::hooked::{Call, Hook, Hooked, Verdict};

/// The calls that are refused at present.
#[derive(Clone, Default)]
struct Refuses {
    growth: Arc<AtomicBool>,
    changes: Arc<AtomicBool>,
}

impl Hook for Refuses {
    async fn before(&self, call: Call) -> Result<Verdict> {
        let grows = matches!(call, Call::Create | Call::Update | Call::End | Call::Touch | Call::Rename);
        let changes = grows || matches!(call, Call::Delete | Call::DeleteExpired);
        let refused =
            grows && self.growth.load(Ordering::SeqCst) || changes && self.changes.load(Ordering::SeqCst);
        if refused {
            return Err(Error::new(ErrorKind::Unavailable, "the store refuses changes"));
        }
        Ok(Verdict::Forward)
    }
}

fn refusing(provider: impl Provider) -> Store {
    let hook = Refuses::default();
    let (growth, changes) = (Arc::clone(&hook.growth), Arc::clone(&hook.changes));
    let switch = |flag: Arc<AtomicBool>| {
        move |on| {
            flag.store(on, Ordering::SeqCst);
            std::future::ready(())
        }
    };
    Store::new(Hooked::new(provider, hook)).with_full(switch(growth)).with_read_only(switch(changes))
}

fn files(clock: &Clock) -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let files = FileProvider::builder(folder.path()).clock(clock.clone()).connect();
    refusing(files.expect("an empty folder opens")).keep(folder)
}

fn memory(clock: Clock) -> Store {
    refusing(MemoryProvider::builder().clock(clock).build())
}

fn on_each(case: &str) {
    conformance::run(case, |clock| async move { memory(clock) });
    conformance::run(case, |clock| async move { files(&clock) });
}

#[test]
fn a_full_store_reads_and_deletes() {
    on_each("a_full_store_reads_and_deletes");
}

#[test]
fn a_read_only_store_reads_and_changes_nothing() {
    on_each("a_read_only_store_reads_and_changes_nothing");
}

#[test]
fn a_store_that_refuses_changes_answers_pages_that_read() {
    on_each("a_store_that_refuses_changes_answers_pages_that_read");
}

#[test]
fn a_full_store_logs_out() {
    on_each("a_full_store_logs_out");
}
