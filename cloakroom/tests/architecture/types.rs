//! The rules about types: how far a type's methods are spread, how its files call each other, how private types are named.
//!
//! `syn` reads the source here. The imports do not show any of this, so `rules` cannot see it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::Span;
use syn::visit::{self, Visit};

use crate::rules::{Graph, cycles, module, siblings};
use crate::tree::{Tree, place};

/// A type with methods in more files than this is several types.
const MAX_FILES: usize = 3;

/// Method names that types of other crates have as well. A call counts for a type of the library only on `self` or with its name.
const STANDARD: [&str; 29] = [
    "as_bytes", "as_str", "clear", "clone", "contains", "count", "entries", "execute", "extend", "first",
    "for_each", "get", "insert", "is_empty", "iter", "keys", "len", "lock", "name", "new", "next", "pop",
    "position", "push", "remove", "set", "take", "update", "version",
];

/// The types of the library and their methods, by file.
#[derive(Debug, Default)]
pub(crate) struct Types {
    /// The definitions of each name.
    definitions: BTreeMap<String, Vec<Definition>>,
    /// The methods of each name.
    methods: BTreeMap<String, Vec<Method>>,
    /// Names of methods of traits, which a call by name may mean as well.
    of_traits: BTreeSet<String>,
    calls: Vec<Call>,
}

/// A struct, an enum or a union.
#[derive(Debug)]
struct Definition {
    file: String,
    line: usize,
    is_public: bool,
}

/// A method of an inherent implementation.
#[derive(Debug)]
struct Method {
    owner: String,
    file: String,
}

/// A method call, by name.
#[derive(Debug)]
struct Call {
    file: String,
    /// The type whose inherent implementation holds the call.
    within: Option<String>,
    method: String,
    /// The type that the call names: `Self` and `self` are the type around it. `None` for a call on another value.
    on: Option<String>,
}

impl Types {
    /// Reads the types of `tree`, without test code.
    pub(crate) fn read(tree: &Tree) -> Types {
        let reached = tree.reached();
        let mut types = Types::default();
        for (path, file) in &tree.files {
            if reached.get(path.as_str()) != Some(&true) {
                let syntax = syn::parse_file(&file.text).unwrap_or_else(|error| panic!("{path}: {error}"));
                Reading { types: &mut types, path, within: None }.visit_file(&syntax);
            }
        }
        types
    }

    /// Returns the cycles of calls among the files that hold one type's methods.
    pub(crate) fn circles_of_a_type(&self) -> Vec<Finding> {
        let mut graphs: BTreeMap<String, Graph> = BTreeMap::new();
        for call in &self.calls {
            let Some(within) = call.within.as_ref().map(|name| self.identity(name, &call.file)) else {
                continue;
            };
            let Some(method) = self.meant(call).filter(|method| method.file != call.file) else { continue };
            if self.identity(&method.owner, &method.file) == within {
                let graph = graphs.entry(within).or_default();
                graph.entry(call.file.clone()).or_default().insert(method.file.clone());
            }
        }
        let mut findings = Vec::new();
        for (name, graph) in &graphs {
            let circles = cycles(graph).into_iter();
            findings.extend(
                circles.map(|text| Finding::new(name, format!("its methods call each other in {text}"))),
            );
        }
        findings
    }

    /// Returns the cycles among the files of a folder. Calls of methods count as `imports` do, since a call needs no import.
    pub(crate) fn circles_of_files(&self, imports: &Graph) -> Vec<Finding> {
        let mut graph = imports.clone();
        let mut examples = BTreeMap::new();
        for call in &self.calls {
            let Some(method) = self.meant(call) else { continue };
            let (from, to) = (place(&call.file), place(&method.file));
            if module(&from) == module(&to)
                && let Some((from, to)) = siblings(&from, &to)
            {
                examples.insert((from.clone(), to.clone()), call.method.as_str());
                graph.entry(from).or_default().insert(to);
            }
        }
        let finding = |circle: String| {
            let name = circle.trim_start_matches("a cycle: ");
            let files: Vec<_> = name.split(" -> ").map(str::to_owned).collect();
            let pairs = files.windows(2).map(|pair| (pair[0].clone(), pair[1].clone()));
            let calls: Vec<_> = pairs.filter_map(|pair| examples.get(&pair).copied()).collect();
            Finding::new(name, format!("a cycle by the calls of {}", calls.join(", ")))
        };
        cycles(&graph).into_iter().map(finding).collect()
    }

    /// Returns the method that `call` means, if that is certain.
    fn meant(&self, call: &Call) -> Option<&Method> {
        let mut named = self.methods.get(&call.method).into_iter().flatten();
        match &call.on {
            Some(owner) => {
                let owner = self.identity(owner, &call.file);
                named.find(|method| self.identity(&method.owner, &method.file) == owner)
            }
            None => named.next().filter(|_| self.is_unique(&call.method)),
        }
    }

    /// Returns true if one type of the library has a method of this name, and no trait or known type of another crate has one.
    fn is_unique(&self, method: &str) -> bool {
        let owners = self.methods.get(method).map_or(0, Vec::len);
        owners == 1 && !self.of_traits.contains(method) && !STANDARD.contains(&method)
    }

    /// Returns the types whose inherent methods are in more than `MAX_FILES` files.
    pub(crate) fn spread(&self) -> Vec<Finding> {
        let mut types: BTreeMap<String, (usize, BTreeSet<&str>)> = BTreeMap::new();
        for method in self.methods.values().flatten() {
            let (count, files) = types.entry(self.identity(&method.owner, &method.file)).or_default();
            *count += 1;
            files.insert(&method.file);
        }
        let spread = types.iter().filter(|(_, (_, files))| files.len() > MAX_FILES);
        let finding = |(name, (count, files)): (&String, &(usize, BTreeSet<&str>))| {
            let (number, files) = (files.len(), files.iter().copied().collect::<Vec<_>>().join(", "));
            Finding::new(name, format!("{count} methods in {number} files, over {MAX_FILES}: {files}"))
        };
        spread.map(finding).collect()
    }

    /// Returns the names that several private types share.
    pub(crate) fn namesakes(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, definitions) in &self.definitions {
            let private = definitions.iter().filter(|definition| !definition.is_public);
            let places: Vec<_> = private.map(|it| format!("{}:{}", it.file, it.line)).collect();
            if places.len() > 1 {
                findings.push(Finding::new(name, format!("private types at {}", places.join(", "))));
            }
        }
        findings
    }

    /// Returns the type that `name` means in `file`. If several files define the name, the nearest file is put before it.
    fn identity(&self, name: &str, file: &str) -> String {
        let named = self.definitions.get(name).map_or(&[][..], Vec::as_slice);
        let common =
            |it: &&Definition| it.file.split('/').zip(file.split('/')).take_while(|(a, b)| a == b).count();
        match named.iter().max_by_key(|it| (common(it), Reverse(it.file.len()))) {
            Some(nearest) if named.len() > 1 => format!("{}: {name}", nearest.file),
            _ => name.to_owned(),
        }
    }
}

/// A break of a rule, and the name of the type that breaks it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) problem: String,
}

impl Finding {
    fn new(name: &str, problem: String) -> Finding {
        Finding { name: name.to_owned(), problem }
    }
}

/// The visit of one file.
struct Reading<'a> {
    types: &'a mut Types,
    path: &'a str,
    /// The type whose inherent implementation is being read.
    within: Option<String>,
}

impl Reading<'_> {
    fn define(&mut self, visibility: &syn::Visibility, name: &syn::Ident) {
        let is_public = matches!(visibility, syn::Visibility::Public(_));
        let definition = Definition { file: self.path.to_owned(), line: line(name.span()), is_public };
        self.types.definitions.entry(name.to_string()).or_default().push(definition);
    }

    fn call(&mut self, method: &syn::Ident, on: Option<String>) {
        let (file, method) = (self.path.to_owned(), method.to_string());
        self.types.calls.push(Call { file, within: self.within.clone(), method, on });
    }
}

impl<'ast> Visit<'ast> for Reading<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if attributes(item).iter().any(is_for_tests) {
            return;
        }
        match item {
            syn::Item::Struct(it) => self.define(&it.vis, &it.ident),
            syn::Item::Enum(it) => self.define(&it.vis, &it.ident),
            syn::Item::Union(it) => self.define(&it.vis, &it.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = last_name(&item.self_ty);
        let methods = item.items.iter().filter_map(|item| match item {
            syn::ImplItem::Fn(method) => Some(method.sig.ident.to_string()),
            _ => None,
        });
        if item.trait_.is_some() {
            self.types.of_traits.extend(methods);
        } else if let Some(name) = &name {
            for method in methods {
                let it = Method { owner: name.clone(), file: self.path.to_owned() };
                self.types.methods.entry(method).or_default().push(it);
            }
        }
        self.within = name.filter(|_| item.trait_.is_none());
        visit::visit_item_impl(self, item);
        self.within = None;
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.types.of_traits.insert(item.sig.ident.to_string());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let is_self = matches!(&*call.receiver, syn::Expr::Path(path) if path.path.is_ident("self"));
        let on = self.within.clone().filter(|_| is_self);
        self.call(&call.method, on);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let segments: Vec<_> = path.path.segments.iter().collect();
        if let [.., owner, method] = segments[..] {
            let on = if owner.ident == "Self" { self.within.clone() } else { Some(owner.ident.to_string()) };
            self.call(&method.ident, on);
        }
        visit::visit_expr_path(self, path);
    }
}

/// Returns the name of the type that an implementation is for.
fn last_name(of: &syn::Type) -> Option<String> {
    match of {
        syn::Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        syn::Type::Reference(inner) => last_name(&inner.elem),
        _ => None,
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(it) => &it.attrs,
        syn::Item::Enum(it) => &it.attrs,
        syn::Item::Fn(it) => &it.attrs,
        syn::Item::Impl(it) => &it.attrs,
        syn::Item::Mod(it) => &it.attrs,
        syn::Item::Static(it) => &it.attrs,
        syn::Item::Struct(it) => &it.attrs,
        syn::Item::Trait(it) => &it.attrs,
        syn::Item::Type(it) => &it.attrs,
        syn::Item::Union(it) => &it.attrs,
        _ => &[],
    }
}

/// True for `cfg(test)` and `cfg(all(test, ..))`.
fn is_for_tests(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let condition = list.tokens.to_string().replace(' ', "");
    list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
}

/// Returns the line of `span`.
pub(crate) fn line(span: Span) -> usize {
    span.start().line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::file_edges;

    fn types(files: &[(&str, &str)]) -> Types {
        Types::read(&Tree::new(
            files.iter().copied().chain([("lib.rs", "mod a; mod b; mod c; mod d; mod e; mod f;")]),
        ))
    }

    fn names(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.name).collect()
    }

    const CALLS: [(&str, &str); 3] = [
        ("a/mod.rs", "mod one; mod two; pub struct Engine { n: u8 }"),
        ("a/one.rs", "use super::Engine; impl Engine { fn load(&self) { self.adopt() } fn end(&self) {} }"),
        (
            "a/two.rs",
            "use super::Engine; impl Engine { fn adopt(&self) {} fn claim(engine: &Engine) { engine.end() } }",
        ),
    ];

    #[test]
    fn a_cycle_of_a_types_methods_is_found() {
        assert_eq!(names(types(&CALLS).circles_of_a_type()), ["Engine"]);
        let own = CALLS[2].1.replace("engine.end()", "Self::end(engine)");
        assert_eq!(names(types(&[CALLS[0], CALLS[1], ("a/two.rs", &own)]).circles_of_a_type()), ["Engine"]);
        let one_way = CALLS[2].1.replace("engine.end()", "engine.adopt()");
        assert_eq!(names(types(&[CALLS[0], CALLS[1], ("a/two.rs", &one_way)]).circles_of_a_type()), [""; 0]);
    }

    #[test]
    fn a_cycle_of_calls_between_two_types_is_found() {
        let files = [
            ("a/mod.rs", "mod one; mod two;"),
            (
                "a/one.rs",
                "use super::two::B; pub struct A; impl A { fn load(&self, b: B) { b.adopt() } fn end(&self) {} }",
            ),
            ("a/two.rs", "pub struct B; impl B { fn adopt(&self) {} fn claim(&self) { self.a().end() } }"),
        ];
        let imports = file_edges(&Tree::new(files).edges());
        assert_eq!(names(types(&files).circles_of_files(&imports)), ["a/one -> a/two -> a/one"]);
    }

    #[test]
    fn a_call_that_may_mean_a_trait_or_another_type_is_none() {
        for other in ["trait T { fn end(&self); }", "struct Other; impl Other { fn end(&self) {} }"] {
            let files = [CALLS[0], CALLS[1], CALLS[2], ("b.rs", other)];
            assert_eq!(names(types(&files).circles_of_a_type()), [""; 0], "{other}");
        }
    }

    #[test]
    fn a_type_in_four_files_is_found() {
        let method = |name: &str| format!("use crate::a::Engine; impl Engine {{ fn {name}(&self) {{}} }}");
        let (b, c, d, e) = (method("b"), method("c"), method("d"), method("e"));
        let mut files = vec![("a.rs", "pub struct Engine;"), ("b.rs", &b), ("c.rs", &c), ("d.rs", &d)];
        assert_eq!(names(types(&files).spread()), [""; 0]);
        files.push(("e.rs", &e));
        assert_eq!(names(types(&files).spread()), ["Engine"]);
        files.push(("e/f.rs", "struct Engine;"));
        assert_eq!(names(types(&files).spread()), ["a.rs: Engine"]);
    }

    #[test]
    fn two_private_types_of_one_name_are_found() {
        let tests = "#[cfg(test)] mod tests { struct Place; }";
        assert_eq!(
            names(
                types(&[("a.rs", "struct Place;"), ("b.rs", "pub struct Place;"), ("c.rs", tests)])
                    .namesakes()
            ),
            [""; 0]
        );
        assert_eq!(
            names(types(&[("a.rs", "struct Place;"), ("b.rs", "pub(crate) enum Place {}")]).namesakes()),
            ["Place"]
        );
    }
}
