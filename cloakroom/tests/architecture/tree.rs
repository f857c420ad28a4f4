//! The library's modules and the uses between them, as the paths in the source show them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{Source, Token, is_word};

/// A module's path: `["provider", "memory"]`. It is empty for the crate's root.
pub(crate) type Place = Vec<String>;

/// Every file below a crate's `src`.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, File>,
}

/// One file: its place in the module tree, and the paths in it.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) place: Place,
    pub(crate) text: String,
    pub(crate) source: Source,
    /// The modules that this file declares, in files of their own or in line.
    declared: BTreeSet<Place>,
    in_files: BTreeSet<Place>,
    /// The names that `use` imports, each with its path from the root.
    imported: BTreeMap<String, Place>,
    macros: BTreeSet<String>,
    paths: Vec<Spelled>,
}

/// A path in the source, from the root.
#[derive(Debug)]
struct Spelled {
    path: Place,
    line: usize,
    /// True for `pub use child::Name` in the file that declares `child`. It exports a name and uses nothing.
    is_reexport: bool,
}

/// A use of another module by a file.
#[derive(Debug)]
pub(crate) struct Edge<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: usize,
    pub(crate) from: &'a Place,
    /// `None` if the path cannot be resolved.
    pub(crate) to: Option<Place>,
    pub(crate) path: String,
}

impl Tree {
    /// Builds a tree from pairs of path below `src` and text.
    pub(crate) fn new<P: Into<String>, T: AsRef<str>>(files: impl IntoIterator<Item = (P, T)>) -> Tree {
        let files = files.into_iter().map(|(path, text)| {
            let path = path.into();
            let file = File::parse(&path, text.as_ref());
            (path, file)
        });
        Tree { files: files.collect() }
    }

    /// Reads the tree below the folder `src`.
    pub(crate) fn read(src: &Path) -> std::io::Result<Tree> {
        let (mut folders, mut files) = (vec![src.to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(src).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                    files.push((name, std::fs::read_to_string(&path)?));
                }
            }
        }
        Ok(Tree::new(files))
    }

    /// Returns the files that `mod` lines reach from `lib.rs`. The value is true for files that only tests see.
    pub(crate) fn reached(&self) -> BTreeMap<&str, bool> {
        let mut reached = BTreeMap::new();
        let mut open = vec![(Place::new(), false)];
        while let Some((place, for_tests)) = open.pop() {
            let Some((path, file)) = self.files.iter().find(|(_, file)| file.place == place) else {
                continue;
            };
            reached.insert(path.as_str(), for_tests);
            open.extend(file.in_files.iter().map(|place| (place.clone(), for_tests)));
            let tests = file.source.test_modules.iter().map(|name| (below(&place, name), true));
            open.extend(tests);
        }
        reached
    }

    /// Returns every use of one module by another. Files that only tests see, and the root's re-exports, are left out.
    pub(crate) fn edges(&self) -> Vec<Edge<'_>> {
        let reached = self.reached();
        let mut edges = Vec::new();
        for (name, file) in &self.files {
            if file.place.is_empty() || reached.get(name.as_str()) == Some(&true) {
                continue;
            }
            for spelled in file.paths.iter().filter(|spelled| !spelled.is_reexport) {
                edges.push(Edge {
                    file: name,
                    line: spelled.line,
                    from: &file.place,
                    to: self.resolve(&spelled.path, 0),
                    path: spelled.path.join("::"),
                });
            }
        }
        edges
    }

    /// Returns the module of the item at `path`. Follows re-exports.
    fn resolve(&self, path: &[String], hops: usize) -> Option<Place> {
        let mut place = Place::new();
        for (at, name) in path.iter().enumerate() {
            let next = below(&place, name);
            if self.is_module(&next) {
                place = next;
                continue;
            }
            let imported = self.at(&place).and_then(|file| file.imported.get(name));
            return match imported {
                // The imports form a circle, which no compiler accepts.
                Some(_) if hops > 32 => None,
                Some(target) => self.resolve(&[target, &path[at + 1..]].concat(), hops + 1),
                None if place.is_empty() => self.macro_home(name),
                None => Some(place),
            };
        }
        (!place.is_empty()).then_some(place)
    }

    fn is_module(&self, place: &Place) -> bool {
        self.at(place).is_some() || self.files.values().any(|file| file.declared.contains(place))
    }

    fn at(&self, place: &[String]) -> Option<&File> {
        self.files.values().find(|file| file.place == place)
    }

    /// Returns the module that defines an exported macro. `#[macro_export]` puts its name at the root.
    fn macro_home(&self, name: &str) -> Option<Place> {
        self.files.values().find(|file| file.macros.contains(name)).map(|file| file.place.clone())
    }
}

impl File {
    fn parse(path: &str, text: &str) -> File {
        let mut file = File {
            place: place(path),
            text: text.to_owned(),
            source: Source::parse(text),
            declared: BTreeSet::new(),
            in_files: BTreeSet::new(),
            imported: BTreeMap::new(),
            macros: BTreeSet::new(),
            paths: Vec::new(),
        };
        let tokens = std::mem::take(&mut file.source.tokens);
        // Collect names first: a path may come before the `mod` or `use` line that declares its first name.
        file.scan(&tokens, File::name_at);
        file.scan(&tokens, File::path_at);
        file.source.tokens = tokens;
        file
    }

    /// Calls `visit` at every token, with the module around it. `visit` returns the number of tokens to skip.
    fn scan(&mut self, tokens: &[Token], visit: fn(&mut File, &[Token], usize, &Place) -> usize) {
        let (mut inline, mut depth, mut at) = (Vec::new(), 0_usize, 0);
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            while inline.last().is_some_and(|(_, outer)| tokens[at].text == "}" && depth == *outer) {
                inline.pop();
            }
            if let Some([word, name, open]) = tokens.get(at..at + 3)
                && word.text == "mod"
                && open.text == "{"
            {
                inline.push((name.text.clone(), depth));
            }
            let base: Place = self.place.iter().chain(inline.iter().map(|(name, _)| name)).cloned().collect();
            at += visit(self, tokens, at, &base).max(1);
        }
    }

    fn name_at(&mut self, tokens: &[Token], at: usize, base: &Place) -> usize {
        let text = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text.as_str());
        match (text(0), text(1), text(2)) {
            ("mod", name, ";") => {
                self.in_files.insert(below(base, name));
                self.declared.insert(below(base, name));
            }
            // `scan` has entered the module already: its name is the last part of `base`.
            ("mod", _, "{") => {
                self.declared.insert(base.clone());
            }
            ("macro_rules", "!", name) => {
                self.macros.insert(name.to_owned());
            }
            _ => {}
        }
        0
    }

    fn path_at(&mut self, tokens: &[Token], at: usize, base: &Place) -> usize {
        let token = &tokens[at];
        let before = at.checked_sub(1).map_or("", |before| tokens[before].text.as_str());
        if token.text == "use" && before != "," && before != "<" {
            return self.import(tokens, at, base);
        }
        let begins = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        if !begins || !is_word(&token.text) || before == "::" || before == "." {
            return 0;
        }
        let pairs = tokens[at + 1..].chunks_exact(2);
        let tail = pairs.take_while(|pair| pair[0].text == "::" && is_word(&pair[1].text));
        let path: Place =
            std::iter::once(token).chain(tail.map(|pair| &pair[1])).map(|t| t.text.clone()).collect();
        if let Some(path) = self.absolute(&path, base) {
            self.paths.push(Spelled { path, line: token.line, is_reexport: false });
        }
        0
    }

    /// Records the `use` item at `at`. Returns its length.
    fn import(&mut self, tokens: &[Token], at: usize, base: &Place) -> usize {
        let end =
            tokens[at..].iter().position(|token| token.text == ";").map_or(tokens.len(), |len| at + len);
        let mut names = Vec::new();
        use_tree(&tokens[at + 1..end], &Place::new(), &mut names);
        let is_public = at > 0 && matches!(tokens[at - 1].text.as_str(), "pub" | ")");
        for (path, name) in names {
            let Some(path) = self.absolute(&path, base) else { continue };
            let is_child = path.len() > base.len() && path.starts_with(base);
            let used = |token: &Token| Some(&token.text) == name.as_ref();
            // A name that the file exports and also uses is a use.
            let is_used = tokens[..at].iter().chain(&tokens[end..]).any(used);
            let is_reexport = is_public && is_child && !is_used;
            self.paths.push(Spelled { path: path.clone(), line: tokens[at].line, is_reexport });
            if let Some(name) = name {
                self.imported.insert(name, path);
            }
        }
        end - at
    }

    /// Returns `path` from the root. `None` for a path into another crate or a type of this file.
    fn absolute(&self, path: &[String], base: &Place) -> Option<Place> {
        let (first, mut rest) = path.split_first()?;
        let mut start = base.clone();
        match first.as_str() {
            "crate" => start.clear(),
            "self" => {}
            "super" => {
                start.pop();
            }
            name if self.declared.contains(&below(base, name)) => start.push(name.to_owned()),
            name => start = self.imported.get(name)?.clone(),
        }
        while let Some((first, tail)) = rest.split_first()
            && first == "super"
        {
            start.pop();
            rest = tail;
        }
        Some([&start, rest].concat())
    }
}

/// Returns the module of the file at `path`.
pub(crate) fn place(path: &str) -> Place {
    let mut place: Place = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    place.pop_if(|last| last == "mod" || last == "lib");
    place
}

fn below(place: &[String], name: &str) -> Place {
    [place, &[name.to_owned()]].concat()
}

/// Collects the paths of a `use` tree, each with the name that it imports. A `*` has no name.
fn use_tree(tokens: &[Token], prefix: &Place, names: &mut Vec<(Place, Option<String>)>) {
    let mut path = prefix.clone();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => {}
            "{" => {
                for branch in branches(&tokens[at + 1..tokens.len() - 1]) {
                    use_tree(branch, &path, names);
                }
                return;
            }
            "*" => return names.push((path, None)),
            "as" => return names.push((path, tokens.get(at + 1).map(|alias| alias.text.clone()))),
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    let name = path.last().cloned();
    names.push((path, name));
}

/// Returns the branches of a `use` tree between its braces.
fn branches(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0_usize;
    let outside = |token: &Token| {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        token.text == "," && depth == 0
    };
    tokens.split(outside).filter(|branch| !branch.is_empty()).collect()
}
