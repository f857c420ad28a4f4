//! The rules on the project itself: types, comments, names and words of the whole workspace.
//!
//! `exceptions` lists what breaks a rule today. A list only gets shorter.

use std::path::Path;
use std::sync::LazyLock;

use crate::exceptions::{CIRCLES, NAMESAKES, Rule, SPREAD, UNREAD};
use crate::rules::file_edges;
use crate::types::{Finding, Types};
use crate::workspace::{self, Text};
use crate::{code, comments, library, words};

/// The most comments in a hundred that may open without a subject.
const MAX_HEADLESS: usize = 1;

/// The library's types. The tests share one reading.
fn types() -> &'static Types {
    static TYPES: LazyLock<Types> = LazyLock::new(|| Types::read(library()));
    &TYPES
}

fn texts(extensions: &[&str]) -> Vec<Text> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the library is in a workspace");
    let mut texts = workspace::texts(root).expect("the workspace is readable");
    texts.retain(|text| extensions.iter().any(|extension| text.path.ends_with(extension)));
    assert!(!texts.is_empty(), "found no file with {extensions:?}");
    texts
}

fn is_exempt(path: &str, rule: Rule) -> bool {
    UNREAD.iter().any(|(start, rules)| path.starts_with(start) && rules.contains(&rule))
}

/// Fails with every finding that `known` does not list.
#[track_caller]
fn only(known: &[&str], findings: Vec<Finding>) {
    let new: Vec<_> =
        findings.into_iter().filter(|finding| !known.contains(&finding.name.as_str())).collect();
    let lines: Vec<_> = new.iter().map(|Finding { name, problem }| format!("{name}: {problem}")).collect();
    assert!(lines.is_empty(), "{} problems:\n{}", lines.len(), lines.join("\n"));
}

/// Fails with every line of `found` whose file is not known to break `rule`.
#[track_caller]
fn none(rule: Rule, found: Vec<(String, String)>) {
    let new = found.iter().filter(|(path, _)| !is_exempt(path, rule));
    let lines: Vec<_> = new.map(|(_, line)| line.as_str()).collect();
    assert!(lines.is_empty(), "{} problems:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn no_methods_of_one_type_call_each_other_in_circles() {
    only(&CIRCLES, types().circles_of_a_type());
}

#[test]
fn no_calls_make_a_cycle_that_imports_hide() {
    only(&CIRCLES, types().circles_of_files(&file_edges(&library().edges())));
}

#[test]
fn no_types_methods_are_in_more_than_three_files() {
    only(&SPREAD, types().spread());
}

#[test]
fn no_two_private_types_share_a_name() {
    only(&NAMESAKES, types().namesakes());
}

#[test]
fn at_most_one_comment_in_a_hundred_is_headless() {
    let (mut count, mut headless) = (0, Vec::new());
    for text in texts(&[".rs", ".lua"]) {
        if UNREAD.iter().any(|(start, rules)| text.path.starts_with(start) && rules.contains(&Rule::Comments))
        {
            continue;
        }
        let blocks = comments::blocks(&text);
        count += blocks.len();
        let found = blocks.iter().filter(|block| block.is_headless());
        headless.extend(found.map(|block| format!("{}:{}: {}", text.path, block.line, block.opening())));
    }
    let lines = headless.join("\n");
    assert!(headless.len() * 100 <= count * MAX_HEADLESS, "{} of {count} comments:\n{lines}", headless.len());
    println!("{} of {count} comments open without a subject\n{lines}", headless.len());
}

#[test]
fn a_test_has_a_name_of_at_most_60_characters() {
    let mut found = Vec::new();
    for text in texts(&[".rs"]) {
        for (name, line) in
            code::tests(&text.content).into_iter().filter(|(name, _)| name.len() > code::MAX_NAME)
        {
            found.push((
                text.path.clone(),
                format!("{}:{line}: {} characters: {name}", text.path, name.len()),
            ));
        }
    }
    none(Rule::TestNames, found);
}

#[test]
fn a_bool_is_no_subject_of_a_match() {
    let mut found = Vec::new();
    for text in texts(&[".rs"]) {
        for line in code::bool_arms(&text.content) {
            found.push((text.path.clone(), format!("{}:{line}: a match on a bool; write `if`", text.path)));
        }
    }
    none(Rule::Bools, found);
}

#[test]
fn no_word_of_the_list_occurs() {
    let mut found = Vec::new();
    for text in texts(&[".rs", ".lua", ".md", ".html", ".toml"]) {
        if text.path != "cloakroom/tests/architecture/words.rs" {
            let words = words::found(&text);
            let line = |(line, word, why): (usize, &str, &str)| {
                (text.path.clone(), format!("{}:{line}: {word}: {why}", text.path))
            };
            found.extend(words.into_iter().map(line));
        }
    }
    none(Rule::Words, found);
}
