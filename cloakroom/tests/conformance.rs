//! Our own providers keep the whole contract, by the same cases that others run theirs by.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[allow(dead_code, reason = "the faults use the rest of it")]
#[path = "support/hooked.rs"]
mod hooked;
#[path = "conformance/less.rs"]
mod less;
#[path = "conformance/refusing.rs"]
mod refusing;
#[path = "conformance/rights.rs"]
mod rights;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cloakroom::testkit::{Part, Store, conformance};
use cloakroom::{
    Clock, FileProvider, KeyRing, MemoryProvider, Provider,
    providers::{SealedProvider, StoreKey},
    seal::SealKey,
};
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
    let files = FileProvider::builder(folder.path()).clock(clock).connect().expect("an empty folder opens");
    let store = without_refusals(planting(Store::new(sealed(files)), folder.path()));
    store.without(Part::Second, "file_from_two_sides has it").keep(folder)
});

fn sealed(inner: impl Provider) -> SealedProvider {
    SealedProvider::new(inner, KeyRing::new(SealKey::generate().expect("a key")), "conformance")
}

// The suite leaves out what a provider cannot do by its capabilities, and tests the rest.
cloakroom::conformance!(less_than_others, |clock| async move { Less::new(clock) });

fn a_folder(clock: &Clock, handles: usize) -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        FileProvider::builder(folder.path()).clock(clock.clone()).connect().expect("an empty folder opens")
    };
    let store = without_refusals(planting(Store::new(open()), folder.path()));
    let store = if handles == 2 {
        store.with_second(open())
    } else {
        store.without(Part::Second, "file_from_two_sides has it")
    };
    store.keep(folder)
}

/// The store on `folder`, whose record files a case may overwrite.
fn planting(store: Store, folder: &Path) -> Store {
    let folder = folder.to_owned();
    store.with_planting(move |key: StoreKey, bytes| {
        let name = key.as_str();
        let file = folder.join(&name[..1]).join(&name[1..2]).join(name);
        async move { fs::write(file, bytes).expect("the file of the record is there") }
    })
}

fn without_refusals(store: Store) -> Store {
    let why =
        "the process may write wherever root may; the cases run on files behind a wrapper, see refusing.rs";
    store.without(Part::Full, why).without(Part::ReadOnly, why)
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let names: BTreeSet<_> = conformance::cases().iter().map(|case| case.name()).collect();
    assert_eq!(names.len(), conformance::cases().len());
}

#[test]
#[should_panic(expected = "no conformance case called a_case_that_nobody_wrote")]
fn a_misspelt_case_is_no_passed_case() {
    conformance::run("a_case_that_nobody_wrote", |_| async {
        unreachable!() as cloakroom::providers::AnyProvider
    });
}

/// A provider that says of itself what asks for every part.
fn asks_for_everything() -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let files = FileProvider::connect(folder.path()).expect("an empty folder opens");
    Store::new(files).keep(folder)
}

const PARTS: &str = "the_store_gives_every_part_or_says_why_not";

#[test]
#[should_panic(expected = "Second: use Store::with_second")]
fn a_shared_store_without_a_second_handle_is_told() {
    conformance::run(PARTS, |_| async { asks_for_everything() });
}

#[test]
#[should_panic(expected = "Planting: use Store::with_planting")]
fn a_persistent_store_without_unreadable_records_is_told() {
    conformance::run(PARTS, |_| async { asks_for_everything() });
}

#[test]
#[should_panic(expected = "Full: use Store::with_full")]
fn a_persistent_store_that_is_never_full_is_told() {
    conformance::run(PARTS, |_| async {
        asks_for_everything().without(Part::Planting, "of no interest here")
    });
}

#[test]
fn a_part_may_be_left_out_for_a_reason() {
    let parts = [Part::Second, Part::Planting, Part::Full, Part::ReadOnly];
    let without =
        move |store: Store| parts.iter().fold(store, |store, part| store.without(*part, "a reason"));
    conformance::run(PARTS, |_| async move { without(asks_for_everything()) });
}

#[test]
#[should_panic(expected = "expected the reason why Full is left out, found an empty text")]
fn a_part_is_left_out_for_no_empty_reason() {
    let _ = Store::new(MemoryProvider::new()).without(Part::Full, " ");
}
