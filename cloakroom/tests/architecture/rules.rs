//! The floors, and what may stand and lean where.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Edge, Tree};

/// A file over this many lines without its tests asks to be split along its ideas.
const MAX_FILE: usize = 600;
/// A function over this many lines asks for the same.
const MAX_FUNCTION: usize = 60;

const PROVIDERS: u8 = 3;
const ENGINE: u8 = 4;

/// The floor each module stands on. A provider's own module, `provider/<name>`, needs no line.
const FLOORS: [(&str, u8); 19] = [
    ("error", 0),
    ("sync", 0),
    ("clock", 0),
    ("id", 0),
    ("record", 1),
    ("codec", 1),
    ("cookie", 1),
    ("principal", 1),
    ("seal", 1),
    ("config", 1),
    ("event", 1),
    ("provider", 2),
    ("engine", ENGINE),
    ("session", ENGINE),
    ("manager", ENGINE),
    ("gc", ENGINE),
    ("registry", 5),
    ("middleware", 6),
    // Uses everything, is used by nothing.
    ("testkit", 7),
];

/// Everything that is wrong with `tree`, a sentence each; empty where nothing is.
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

/// What lies in `provider` and is none: parts of the contract.
const CONTRACT: [&str; 5] = ["any", "foreign", "sealed", "tokens", "watch"];

/// The module a place belongs to: the first name, but each provider is one of its own.
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

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Who uses whom on one floor; between floors `wrong_edge` has judged already.
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

/// Who uses whom among the files of one folder. A file and its folder's own file are one thing seen twice: the folder declares
/// and calls its files, they use its words.
fn file_edges(edges: &[Edge<'_>]) -> Graph {
    let mut graph = Graph::new();
    for edge in edges {
        let to = edge.to.as_deref().unwrap_or_default();
        let common = edge.from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if common > 0 && common < edge.from.len() && common < to.len() {
            let (from, to) = (edge.from[..=common].join("/"), to[..=common].join("/"));
            graph.entry(from).or_default().insert(to);
        }
    }
    graph
}

/// One sentence for each module that can be reached from itself by way of a later one of its circle.
fn cycles(graph: &Graph) -> Vec<String> {
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

/// The shortest way from `start` back to it.
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
        if lines > MAX_FILE {
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
