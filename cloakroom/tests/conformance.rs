//! Our own providers keep the whole contract, by the same cases that others run theirs by.

use std::collections::BTreeSet;

use cloakroom::testkit::conformance;

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
