//! Our own providers keep the whole contract, by the same cases that others run theirs by.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "conformance/less.rs"]
mod less;

use std::collections::BTreeSet;

use cloakroom::testkit::{Store, conformance};
use cloakroom::{Clock, FileProvider, KeyRing, MemoryProvider, Provider, SealKey, SealedProvider};
use less::Less;

cloakroom::conformance!(memory, |clock| async move { MemoryProvider::builder().clock(clock).build() });

cloakroom::conformance!(file, |clock| async move { a_folder(&clock, 1) });

// Two of them on one folder, as two processes would be: neither may keep in memory what the other changes.
cloakroom::conformance!(file_from_two_sides, |clock| async move { a_folder(&clock, 2) });

// Sealing is no excuse: whatever a store keeps to, it keeps to with sealed records.
cloakroom::conformance!(sealed_memory, |clock| async move {
    sealed(MemoryProvider::builder().clock(clock).build())
});

cloakroom::conformance!(sealed_file, |clock| async move {
    let folder = tempfile::tempdir().expect("a folder");
    let files = FileProvider::builder(folder.path()).clock(clock).open().expect("an empty folder opens");
    Store::new(sealed(files)).keep(folder)
});

fn sealed(inner: impl Provider) -> SealedProvider {
    SealedProvider::new(inner, KeyRing::new(SealKey::generate().expect("a key")), "conformance")
}

// What a provider says that it cannot do is not asked of it, and all else is.
cloakroom::conformance!(less_than_others, |clock| async move { Less::new(clock) });

fn a_folder(clock: &Clock, handles: usize) -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let open =
        || FileProvider::builder(folder.path()).clock(clock.clone()).open().expect("an empty folder opens");
    let store = Store::new(open());
    let store = if handles == 2 { store.with_second(open()) } else { store };
    store.keep(folder)
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let names: BTreeSet<_> = conformance::cases().iter().map(|case| case.name()).collect();
    assert_eq!(names.len(), conformance::cases().len());
}

#[test]
#[should_panic(expected = "no conformance case called a_case_that_nobody_wrote")]
fn a_misspelt_case_is_no_passed_case() {
    conformance::run("a_case_that_nobody_wrote", |_| async { unreachable!() as cloakroom::AnyProvider });
}
