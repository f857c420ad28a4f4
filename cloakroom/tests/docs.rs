//! Holds the documentation to the sources: every test that it names exists, and its table of configuration keys is complete.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Words with this many underscores are names of tests or functions in our prose, not keys or commands.
const UNDERSCORES: usize = 4;
/// The same on the page of the evidence, which names little else.
const UNDERSCORES_OF_EVIDENCE: usize = 2;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file below `folder` whose name ends in `.ending`, without what cargo builds.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|found| found == ending) {
            found.push(path);
        }
    }
}

/// The names that `text` gives in backticks and that have the form of a test's. The last part of a path counts.
fn named(text: &str, underscores: usize) -> impl Iterator<Item = &str> {
    let spans = text.split('`').skip(1).step_by(2).map(|span| span.rsplit("::").next().unwrap_or(span));
    spans.filter(move |span| {
        let plain =
            span.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        // Variables of database servers have the same form.
        plain && span.matches('_').count() >= underscores && !span.starts_with("innodb_")
    })
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let (mut sources, mut pages) = (Vec::new(), Vec::new());
    files(&root(), "rs", &mut sources);
    // A file of tests is named without its ending.
    let mut names = BTreeSet::new();
    for source in sources {
        names.extend(source.file_stem().and_then(OsStr::to_str).map(str::to_owned));
        let text = fs::read_to_string(source).unwrap();
        for definition in text.split("fn ").skip(1) {
            let end = definition.find(|character: char| !character.is_alphanumeric() && character != '_');
            names.insert(definition[..end.unwrap_or(definition.len())].to_owned());
        }
    }
    files(&root().join("docs"), "md", &mut pages);
    files(&root().join("cloakroom/src/guide"), "md", &mut pages);
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|page| root().join(page)));
    let mut missing = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let underscores =
            if page.ends_with("docs/evidence.md") { UNDERSCORES_OF_EVIDENCE } else { UNDERSCORES };
        let unknown = named(&text, underscores).filter(|name| !names.contains(*name));
        missing.extend(unknown.map(|name| (page.clone(), name.to_owned())));
    }
    assert!(missing.is_empty(), "the documentation names functions that do not exist: {missing:#?}");
}

#[test]
fn the_names_of_tests_in_a_page_are_found() {
    let page = "Run `cargo test`: `a_test_of_mine` and `file::another_test_here` fail, `Manager::session_of_all(x)` does not.";
    assert_eq!(named(page, 2).collect::<Vec<_>>(), ["a_test_of_mine", "another_test_here"]);
    assert_eq!(named(page, 3).count(), 1);
}

#[test]
fn the_table_of_configuration_keys_is_complete() {
    let source = fs::read_to_string(root().join("cloakroom/src/config/json.rs")).unwrap();
    let (_, keys) = source.split_once("const KEYS: &[&str] = &[").expect("the list of keys");
    let (keys, _) = keys.split_once("];").expect("the end of the list of keys");
    let keys: Vec<_> = keys.split('"').skip(1).step_by(2).collect();
    assert!(keys.len() > 30, "{keys:?}");
    let page = fs::read_to_string(root().join("cloakroom/src/guide/configuration.md")).unwrap();
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let absent: Vec<_> = keys
        .iter()
        .filter(|key| {
            !rows
                .iter()
                .any(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{key}`"))))
        })
        .collect();
    assert!(absent.is_empty(), "guide/configuration.md lacks rows for {absent:?}");
}

#[test]
fn every_quoted_error_is_in_the_sources() {
    let mut sources = Vec::new();
    files(&root().join("cloakroom/src"), "rs", &mut sources);
    let texts = sources.iter().map(|source| fs::read_to_string(source).unwrap());
    let all: String = texts.map(|text| text.replace("\\\"", "\"")).collect();
    // A text that is broken over several lines of the source is one line at run time.
    let all: String = all
        .split("\\\n")
        .enumerate()
        .map(|(at, part)| if at == 0 { part } else { part.trim_start() })
        .collect();
    let page = fs::read_to_string(root().join("cloakroom/src/guide/troubleshooting.md")).unwrap();
    let (_, tables) = page.split_once("## Errors by their text").expect("the section of texts");
    let quoted: Vec<_> =
        tables.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(quoted.len() > 25, "{quoted:?}");
    let absent: Vec<_> = quoted.iter().filter(|text| !all.contains(**text)).collect();
    assert!(absent.is_empty(), "guide/troubleshooting.md quotes texts that no error has: {absent:#?}");
}

/// Files that the registry shows. There it has no repository to resolve a path against.
const PUBLISHED: [&str; 2] = ["README.md", "gob/README.md"];

#[test]
fn every_link_of_a_published_readme_is_absolute() {
    let chapters = fs::read_to_string(root().join("cloakroom/src/guide/mod.rs")).unwrap();
    for page in PUBLISHED {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let inline = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
        let defined = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
        let links: Vec<_> = inline.chain(defined.map(|(_, link)| link)).collect();
        assert!(!links.is_empty(), "{page} has links");
        for link in links {
            assert!(link.starts_with("https://"), "{page} has a relative link: {link}");
            let chapter = link.strip_prefix("https://docs.rs/cloakroom/latest/cloakroom/guide/");
            if let Some((chapter, _)) = chapter.and_then(|rest| rest.split_once('/')) {
                let file = format!("\"{chapter}.md\"");
                assert!(chapters.contains(&file), "{page} links to a chapter that does not exist: {chapter}");
            }
        }
    }
}

#[test]
fn every_reference_of_the_readme_is_defined_and_used() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let used: BTreeSet<_> = text.split("][").skip(1).filter_map(|rest| rest.split(']').next()).collect();
    let lines = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: https://"));
    assert_eq!(used, lines.map(|(name, _)| name).collect());
}
