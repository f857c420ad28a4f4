//! Checks that the store gives the suite everything that its capabilities ask for, or says why it cannot.

use std::fmt::Write;

use crate::testkit::fixture::Fixture;

pub(super) async fn the_store_gives_every_part_or_says_why_not(f: Fixture) {
    for (part, why) in f.left_out() {
        println!("{part:?} is left out: {why}");
    }
    let missing = f.missing_parts();
    let mut text = String::new();
    for part in &missing {
        let method = part.method();
        let _ = write!(text, "\n  {part:?}: use Store::{method}, or Store::without(Part::{part:?}, \"why\")");
    }
    assert!(
        missing.is_empty(),
        "the capabilities of this provider ask for parts of the suite that its store does not give:{text}"
    );
}
