//! Our own providers keep the whole contract, by the same cases that others run theirs by.

use std::collections::BTreeSet;

use cloakroom::testkit::{Store, conformance};
use cloakroom::{Clock, FileProvider, MemoryProvider};

cloakroom::conformance!(memory, |clock| async move { MemoryProvider::builder().clock(clock).build() });

cloakroom::conformance!(file, |clock| async move { a_folder(&clock, 1) });

// Two of them on one folder, as two processes would be: neither may keep in memory what the other changes.
cloakroom::conformance!(file_from_two_sides, |clock| async move { a_folder(&clock, 2) });

fn a_folder(clock: &Clock, handles: usize) -> Store {
    let folder = tempfile::tempdir().unwrap();
    let open = || FileProvider::builder(folder.path()).clock(clock.clone()).open().unwrap();
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
