//! The layout and the style of the source, as tests.
//!
//! `rules` checks modules: imports from lower floors only, no cycles, no orphan files, no long files. `style` checks types,
//! comments, names and words. CONTRIBUTING.md explains both. The compiler checks none of this.

#[path = "architecture/code.rs"]
mod code;
#[path = "architecture/comments.rs"]
mod comments;
#[path = "architecture/exceptions.rs"]
mod exceptions;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/style.rs"]
mod style;
#[path = "architecture/tree.rs"]
mod tree;
#[path = "architecture/types.rs"]
mod types;
#[path = "architecture/words.rs"]
mod words;
#[path = "architecture/workspace.rs"]
mod workspace;

use std::path::Path;
use std::sync::LazyLock;

use rules::{module, problems};
use tree::Tree;

/// The library's source. The tests share one reading, which takes a second.
fn library() -> &'static Tree {
    static LIBRARY: LazyLock<Tree> = LazyLock::new(|| {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        Tree::read(&src).expect("the library's source is readable")
    });
    &LIBRARY
}

/// The `lib.rs` of the sample library below.
const ROOT: &str =
    "mod error; mod clock; mod codec; mod record; mod provider; mod session; mod manager; mod testkit;
    pub use error::Error; pub use record::Record; pub use provider::{Provider, memory::MemoryProvider};";

/// Returns a sample library that breaks no rule, with `changed` files added or replaced.
fn library_with(changed: &[(&str, &str)]) -> Tree {
    let good = [
        ("lib.rs", ROOT),
        ("error.rs", "pub struct Error;"),
        ("clock.rs", "pub struct Clock;"),
        ("codec/mod.rs", "mod json; mod pack; use crate::error::Error; fn both() { json::a(); pack::b() }"),
        ("codec/json.rs", "use super::pack::Shared;"),
        ("codec/pack.rs", "pub struct Shared;"),
        ("record.rs", "use crate::{codec::Codec, clock::Clock};"),
        (
            "provider/mod.rs",
            "mod any; pub mod memory; pub mod file; pub use any::AnyProvider; pub use memory::MemoryProvider;",
        ),
        ("provider/any.rs", "use super::Provider;"),
        ("provider/memory.rs", "use super::Provider; use crate::record::Record;"),
        ("provider/file.rs", "use super::Provider; use crate::Record;"),
        ("session.rs", "use crate::provider::AnyProvider;"),
        ("manager.rs", "use crate::session::Session;"),
        ("testkit.rs", "use crate::provider::memory::MemoryProvider; use crate::manager::Manager;"),
    ];
    let kept = good.iter().filter(|(path, _)| changed.iter().all(|(other, _)| other != path));
    Tree::new(kept.chain(changed).copied())
}

/// Returns the only problem of the sample library with `changed` files.
fn only_problem(changed: &[(&str, &str)]) -> String {
    let found = problems(&library_with(changed));
    assert_eq!(found.len(), 1, "expected one problem, found {found:#?}");
    found[0].clone()
}

#[test]
fn the_library_breaks_no_rule_about_modules() {
    let found = problems(library());
    assert!(found.is_empty(), "{} problems with the layout:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_uses_of_the_library_are_found() {
    let tree = library();
    let uses = |from: &str, to: &str| {
        tree.edges().iter().any(|edge| {
            module(edge.from) == from && edge.to.as_ref().is_some_and(|place| module(place) == to)
        })
    };
    for (from, to) in [("record", "codec"), ("codec", "error"), ("provider", "record"), ("config", "cookie")]
    {
        assert!(uses(from, to), "{from} uses {to}, and no edge shows it");
    }
    let functions: usize = tree.files.values().map(|file| file.source.functions().len()).sum();
    assert!(functions > 100, "found {functions} functions");
}

#[test]
fn the_sample_library_has_no_problem() {
    assert_eq!(problems(&library_with(&[])), [""; 0]);
}

#[test]
fn an_upward_use_is_found_in_every_spelling() {
    for text in [
        "use crate::record::Record;",
        "use crate::{clock::Clock, record::{self, Record as Stored}};",
        "use crate::Record;",
        "use super::record;",
        "fn f() -> crate::record::Record { todo!() }",
        "fn f() { let it: Vec<super::Record> = Vec::new(); }",
        "mod inner { use super::super::record::Record; }",
        "macro_rules! m { () => { $crate::record::Record } }",
    ] {
        let found = problems(&library_with(&[("error.rs", text)]));
        assert!(
            found.iter().any(|problem| problem.contains("uses record (floor 1): that is upward")),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn nothing_uses_the_testkit() {
    let problem = only_problem(&[("manager.rs", "use crate::testkit::Case;")]);
    assert_eq!(problem, "manager.rs:1: manager (floor 4) uses testkit (floor 7): that is upward");
}

#[test]
fn the_engine_uses_no_provider_through_a_reexport() {
    for text in [
        "use crate::provider::memory::MemoryProvider;",
        "use crate::provider::MemoryProvider;",
        "use crate::MemoryProvider;",
        "use crate::provider; fn f() { provider::memory::open() }",
    ] {
        let found = problems(&library_with(&[("session.rs", text)]));
        assert!(found.iter().any(|problem| problem.contains("by their trait alone")), "{text}: {found:?}");
    }
}

#[test]
fn the_contract_may_export_a_provider_but_not_use_it() {
    let used =
        "mod any; pub mod memory; pub mod file; pub use any::AnyProvider; pub use memory::MemoryProvider;
        fn f() -> MemoryProvider { todo!() }";
    assert!(
        only_problem(&[("provider/mod.rs", used)]).contains("uses provider/memory (floor 3): that is upward")
    );
    let called =
        "mod any; pub mod memory; pub mod file; pub use any::AnyProvider; pub use memory::MemoryProvider;
        fn f() { memory::open() }";
    assert!(only_problem(&[("provider/mod.rs", called)]).contains("uses provider/memory"));
}

#[test]
fn providers_never_know_each_other() {
    let problem = only_problem(&[("provider/file.rs", "use super::memory::MemoryProvider;")]);
    assert!(problem.ends_with("providers never know each other"), "{problem}");
}

#[test]
fn a_cycle_on_one_floor_is_found() {
    let problem = only_problem(&[("session.rs", "use crate::manager::Manager;")]);
    assert_eq!(problem, "a cycle: manager -> session -> manager");
    let problem = only_problem(&[("codec/mod.rs", "mod json; mod pack; use crate::record::Record;")]);
    assert_eq!(problem, "a cycle: codec -> record -> codec");
}

#[test]
fn a_cycle_among_the_files_of_a_folder_is_found() {
    let problem = only_problem(&[("codec/pack.rs", "use super::json::Text; pub struct Shared;")]);
    assert_eq!(problem, "a cycle: codec/json -> codec/pack -> codec/json");
}

#[test]
fn an_orphan_file_is_found() {
    let problem = only_problem(&[("codec/gob.rs", "")]);
    assert_eq!(problem, "codec/gob.rs: no `mod` line leads here from lib.rs");
    let problem =
        only_problem(&[("codec/pack.rs", "// mod old;\npub struct Shared;"), ("codec/pack/old.rs", "")]);
    assert!(problem.starts_with("codec/pack/old.rs: no `mod`"), "{problem}");
}

#[test]
fn a_module_without_a_floor_is_found() {
    let problem = only_problem(&[("lib.rs", &format!("mod utils; {ROOT}")), ("utils.rs", "")]);
    assert_eq!(problem, "utils.rs: module utils has no floor");
}

#[test]
fn a_path_that_cannot_be_resolved_is_found() {
    let problem = only_problem(&[("session.rs", "use crate::Nowhere;")]);
    assert!(problem.contains("crate::Nowhere cannot be followed"), "{problem}");
}

#[test]
fn test_code_comments_and_text_are_exempt() {
    let text = r##"
        //! Like [`Record`](crate::Record).
        /* use crate::record::Record; /* nested */ use crate::record::Record; */
        const TEXT: (&str, &str, char) = ("crate::record::\"Record", r#"crate::record::"Record"#, '"');
        fn f<'a>(x: &'a str) {}
        #[cfg(test)]
        use crate::record::Record;
        #[cfg(test)]
        fn helper() -> crate::record::Record { todo!() }
        #[cfg(test)]
        mod cases;
        #[cfg(all(test, feature = "file"))]
        mod tests { use crate::record::Record; }
    "##;
    let cases = ("error/cases.rs", "use crate::record::Record;");
    assert_eq!(problems(&library_with(&[("error.rs", text), cases])), [""; 0]);
    let after = format!("{text}\nuse crate::record::Record;");
    assert!(only_problem(&[("error.rs", &after), cases]).contains("uses record"));
    let not_only = "#[cfg(any(test, feature = \"x\"))] use crate::record::Record;";
    assert!(only_problem(&[("error.rs", not_only)]).contains("uses record"));
}

#[test]
fn a_long_file_is_found_and_its_tests_do_not_count() {
    let lines = |count: usize| "// line\n".repeat(count);
    let tests = |count: usize| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(count));
    assert_eq!(problems(&library_with(&[("error.rs", &(lines(500) + &tests(900)))])), [""; 0]);
    let problem = only_problem(&[("error.rs", &(lines(501) + &tests(900)))]);
    assert_eq!(problem, "error.rs: 501 lines without tests, over 500");
}

#[test]
fn a_long_function_is_found_and_a_test_may_be_long() {
    let function =
        |count: usize| format!("fn long(with: fn(&u8)) -> [u8; 2] {{\n{}}}\n", "// line\n".repeat(count - 2));
    let exempt = format!("{}#[cfg(test)]\nmod tests {{ {} }}", function(60), function(90));
    assert_eq!(problems(&library_with(&[("error.rs", &exempt)])), [""; 0]);
    let problem = only_problem(&[("error.rs", &format!("\n{}", function(61)))]);
    assert_eq!(problem, "error.rs:2: fn long has 61 lines, over 60");
}
