//! Two rules about code of the whole workspace: test names are short, and a bool is no subject of a `match`.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::types::line;

/// The most characters of a test's name: it is a sentence of the contract, and a reader sees it in a list of hundreds.
pub(crate) const MAX_NAME: usize = 60;

/// The tests of `source`, also those that a macro such as `proptest!` holds: name and line.
pub(crate) fn tests(source: &str) -> Vec<(String, usize)> {
    let mut tests = Vec::new();
    match source.parse() {
        Ok(tokens) => walk(tokens, &mut tests),
        Err(error) => panic!("{error}"),
    }
    tests
}

/// Collects the functions in `tokens` that follow an attribute which ends in `test`.
fn walk(tokens: TokenStream, tests: &mut Vec<(String, usize)>) {
    let (mut is_test, mut is_name) = (false, false);
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                is_test = is_test || marks_a_test(&group.stream());
                walk(group.stream(), tests);
            }
            TokenTree::Ident(name) if is_name => {
                if is_test {
                    tests.push((name.to_string(), line(name.span())));
                }
                (is_test, is_name) = (false, false);
            }
            TokenTree::Ident(word) => is_name = word == "fn",
            TokenTree::Punct(_) | TokenTree::Literal(_) => is_name = false,
        }
    }
}

/// True for the inside of `[test]` and `[tokio::test(..)]`.
fn marks_a_test(attribute: &TokenStream) -> bool {
    let mut last: Option<Ident> = None;
    for token in attribute.clone() {
        match token {
            TokenTree::Ident(word) => last = Some(word),
            TokenTree::Punct(mark) if mark.as_char() == ':' => {}
            TokenTree::Group(_) => break,
            _ => return false,
        }
    }
    last.is_some_and(|word| word == "test")
}

/// The lines of `source` with a match arm for `true` or `false`.
pub(crate) fn bool_arms(source: &str) -> Vec<usize> {
    struct Arms(Vec<usize>);
    impl<'ast> Visit<'ast> for Arms {
        fn visit_arm(&mut self, arm: &'ast syn::Arm) {
            if let Some(line) = bool_line(&arm.pat) {
                self.0.push(line);
            }
            visit::visit_arm(self, arm);
        }
    }
    let mut arms = Arms(Vec::new());
    match syn::parse_file(source) {
        Ok(file) => arms.visit_file(&file),
        Err(error) => panic!("{error}"),
    }
    arms.0
}

/// The line of `pattern`, if it is `true` or `false`.
fn bool_line(pattern: &syn::Pat) -> Option<usize> {
    match pattern {
        syn::Pat::Lit(literal) => match &literal.lit {
            syn::Lit::Bool(it) => Some(line(it.span)),
            _ => None,
        },
        syn::Pat::Guard(guarded) => bool_line(&guarded.pat),
        syn::Pat::Or(either) => either.cases.iter().find_map(bool_line),
        _ => None,
    }
}

#[cfg(test)]
mod cases {
    use super::*;

    #[test]
    fn a_test_is_found_however_it_is_marked() {
        let source = "
            #[test] fn one() {}
            fn none() {}
            mod inner { #[tokio::test(flavor = \"current_thread\")] async fn two() {} }
            proptest! { #![proptest_config(c())] #[test] #[ignore = \"x\"] fn three(a in 0..9) {} }
            #[cfg(test)] fn none_either() {}
        ";
        let names: Vec<_> = tests(source).into_iter().collect();
        assert_eq!(names, [("one".into(), 2), ("two".into(), 4), ("three".into(), 5)]);
    }

    #[test]
    fn a_match_on_a_bool_is_found() {
        let source = "fn f(a: bool, b: u8) {
            match a { true => {} _ => {} }
            match a { false if b > 1 => {} _ => {} }
            match (a, b) { (true, _) => {}, _ => {} }
            match b { 1 => {}, _ => {} }
        }";
        assert_eq!(bool_arms(source), [2, 3]);
    }
}
