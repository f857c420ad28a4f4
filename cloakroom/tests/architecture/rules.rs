//! The rules about modules: the floor of each, the direction of imports, cycles, and sizes.

use std::collections::{BTreeMap, BTreeSet};

use crate::exceptions::LONG_FILES;
use crate::tree::{Edge, Tree};

/// The most lines of a file without its tests. A longer file should be split along its ideas.
const MAX_FILE: usize = 500;
/// The most lines of a function.
const MAX_FUNCTION: usize = 60;

const PROVIDERS: u8 = 3;
const ENGINE: u8 = 4;

/// The floor of each module. A provider's own module, `provider/<name>`, needs no line.
const FLOORS: [(&str, u8); 26] = [
    ("error", 0),
    ("sync", 0),
    ("tls", 0),
    ("clock", 0),
    ("id", 0),
    ("head", 0),
    ("visit", 0),
    ("record", 1),
    ("codec", 1),
    ("cookie", 1),
    ("principal", 1),
    ("seal", 1),
    ("config", 1),
    ("event", 1),
    ("provider", 2),
    ("migration", 2),
    ("engine", ENGINE),
    ("request", ENGINE),
    ("session", ENGINE),
    ("manager", ENGINE),
    ("gc", ENGINE),
    ("old_library", 5),
    ("registry", 5),
    ("middleware", 6),
    // Uses everything, is used by nothing.
    ("testkit", 7),
    // Documentation alone.
    ("guide", 7),
];

/// Returns every break of a rule in `tree`, a sentence each.
pub(crate) fn problems(tree: &Tree) -> Vec<String> {
    let edges = tree.edges();
    let mut problems = orphans(tree);
    problems.extend(without_floor(tree));
    problems.extend(edges.iter().filter_map(wrong_edge));
    problems.extend(cycles(&module_edges(&edges)));
    problems.extend(cycles(&file_edges(&edges)));
    problems.extend(too_long(tree));
    problems
}

/// The modules in `provider` that are parts of the contract or of several providers, not providers.
const CONTRACT: [&str; 9] = [
    "any",
    "capabilities",
    "durability",
    "foreign",
    "outcome",
    "private_folder",
    "sealed",
    "tokens",
    "watch",
];

/// Returns the module of a place: its first name. Each provider is a module of its own.
pub(crate) fn module(place: &[String]) -> String {
    match place {
        [provider, name, ..] if provider == "provider" && !CONTRACT.contains(&name.as_str()) => {
            format!("provider/{name}")
        }
        [first, ..] => first.clone(),
        [] => "lib".to_owned(),
    }
}

fn floor(module: &str) -> Option<u8> {
    if module.starts_with("provider/") {
        return Some(PROVIDERS);
    }
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn orphans(tree: &Tree) -> Vec<String> {
    let reached = tree.reached();
    let orphans = tree.files.keys().filter(|path| !reached.contains_key(path.as_str()));
    orphans.map(|path| format!("{path}: no `mod` line leads here from lib.rs")).collect()
}

fn without_floor(tree: &Tree) -> Vec<String> {
    let files = tree.files.iter().filter(|(_, file)| !file.place.is_empty());
    let unknown = files.filter(|(_, file)| floor(&module(&file.place)).is_none());
    unknown.map(|(path, file)| format!("{path}: module {} has no floor", module(&file.place))).collect()
}

fn wrong_edge(edge: &Edge<'_>) -> Option<String> {
    let Edge { file, line, path, .. } = edge;
    let Some(to) = &edge.to else {
        return Some(format!(
            "{file}:{line}: crate::{path} cannot be followed; spell the module, re-export name by name"
        ));
    };
    let (from, to) = (module(edge.from), module(to));
    let (from_floor, to_floor) = (floor(&from)?, floor(&to)?);
    let why = match (from_floor, to_floor) {
        _ if from == to => return None,
        (PROVIDERS, PROVIDERS) => "providers never know each other",
        (ENGINE, PROVIDERS) => "the engine knows providers by their trait alone",
        _ if to_floor > from_floor => "that is upward",
        _ => return None,
    };
    Some(format!("{file}:{line}: {from} (floor {from_floor}) uses {to} (floor {to_floor}): {why}"))
}

pub(crate) type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns the uses between modules of one floor. `wrong_edge` checks those between floors.
fn module_edges(edges: &[Edge<'_>]) -> Graph {
    let mut graph = Graph::new();
    for edge in edges {
        let (from, to) = (module(edge.from), module(edge.to.as_deref().unwrap_or_default()));
        if from != to && floor(&from).is_some() && floor(&from) == floor(&to) {
            graph.entry(from).or_default().insert(to);
        }
    }
    graph
}

/// Returns the uses between files of one folder.
///
/// Uses between a file and the `mod.rs` of its folder are left out: `mod.rs` declares and calls its files, and they use its types.
pub(crate) fn file_edges(edges: &[Edge<'_>]) -> Graph {
    let mut graph = Graph::new();
    for edge in edges {
        if let Some((from, to)) = siblings(edge.from, edge.to.as_deref().unwrap_or_default()) {
            graph.entry(from).or_default().insert(to);
        }
    }
    graph
}

/// Returns the two different parts of one folder that hold the two places. `None` if one place holds the other.
pub(crate) fn siblings(from: &[String], to: &[String]) -> Option<(String, String)> {
    let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let are_siblings = common > 0 && common < from.len() && common < to.len();
    are_siblings.then(|| (from[..=common].join("/"), to[..=common].join("/")))
}

/// Returns a sentence for each cycle. A node is in one sentence at most.
pub(crate) fn cycles(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    let mut told = BTreeSet::new();
    for start in graph.keys() {
        if told.contains(start) {
            continue;
        }
        if let Some(circle) = circle(graph, start) {
            problems.push(format!("a cycle: {}", circle.join(" -> ")));
            told.extend(circle);
        }
    }
    problems
}

/// Returns the shortest path from `start` back to `start`.
fn circle(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut ways = std::collections::VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| graph.get(last)).into_iter().flatten() {
            let longer = [&way[..], std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

fn too_long(tree: &Tree) -> Vec<String> {
    let reached = tree.reached();
    let mut problems = Vec::new();
    for (path, file) in &tree.files {
        if reached.get(path.as_str()) == Some(&true) {
            continue;
        }
        let lines = file.source.lines;
        if lines > MAX_FILE && !LONG_FILES.contains(&path.as_str()) {
            problems.push(format!("{path}: {lines} lines without tests, over {MAX_FILE}"));
        }
        for (name, line, lines) in file.source.functions() {
            if lines > MAX_FUNCTION {
                problems.push(format!("{path}:{line}: fn {name} has {lines} lines, over {MAX_FUNCTION}"));
            }
        }
    }
    problems
}
