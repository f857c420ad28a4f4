//! One source file as tokens, without comments, text literals and test code.

use std::collections::BTreeSet;

/// A word, a `::`, or one other character that is not a blank.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A source file without its tests.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tokens: Vec<Token>,
    /// The number of lines, with comments, without test code.
    pub(crate) lines: usize,
    /// Modules that have a file of their own and that only tests see.
    pub(crate) test_modules: BTreeSet<String>,
}

impl Source {
    pub(crate) fn parse(text: &str) -> Source {
        let mut source =
            Source { tokens: Vec::new(), lines: text.lines().count(), test_modules: BTreeSet::new() };
        let all = tokens(text);
        let mut at = 0;
        while at < all.len() {
            match attribute(&all[at..]) {
                Some(attribute) if is_for_tests(attribute) => {
                    let inner = attribute[1].text == "!";
                    let len = if inner { all.len() - at } else { item(&all[at..]) };
                    source.set_apart(&all[at..at + len]);
                    at += len;
                }
                _ => {
                    source.tokens.push(all[at].clone());
                    at += 1;
                }
            }
        }
        source
    }

    fn set_apart(&mut self, item: &[Token]) {
        if let [first, .., last] = item {
            self.lines -= last.line + 1 - first.line;
        }
        let words: Vec<_> = item.iter().map(|token| token.text.as_str()).collect();
        if let [.., "mod", name, ";"] = words[..] {
            self.test_modules.insert(name.to_owned());
        }
    }

    /// Returns the functions with a body: name, line of the `fn`, number of lines.
    pub(crate) fn functions(&self) -> Vec<(&str, usize, usize)> {
        let mut functions = Vec::new();
        for (at, pair) in self.tokens.windows(2).enumerate() {
            // In the type of a function pointer, no name follows `fn`.
            if pair[0].text != "fn" || !is_word(&pair[1].text) {
                continue;
            }
            let signature = &self.tokens[at..];
            let len = until(signature, |text| text == ";" || text == "{");
            if signature.get(len - 1).is_some_and(|token| token.text == "{") {
                let end = len - 1 + group(&signature[len - 1..]);
                let lines = signature[end - 1].line + 1 - pair[0].line;
                functions.push((pair[1].text.as_str(), pair[0].line, lines));
            }
        }
        functions
    }
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Returns the attribute at the start of `tokens`, from `#` to `]`.
fn attribute(tokens: &[Token]) -> Option<&[Token]> {
    let open = match tokens {
        [hash, bang, ..] if hash.text == "#" && bang.text == "!" => 2,
        [hash, ..] if hash.text == "#" => 1,
        _ => return None,
    };
    (tokens.get(open)?.text == "[").then(|| &tokens[..open + group(&tokens[open..])])
}

/// True for `cfg(test)` and `cfg(all(test, ..))`. Code under `any` or `not` is compiled without tests as well.
fn is_for_tests(attribute: &[Token]) -> bool {
    let words: Vec<_> = attribute.iter().map(|token| token.text.as_str()).collect();
    let words = words.strip_prefix(&["#"]).unwrap_or(&words);
    let words = words.strip_prefix(&["!"]).unwrap_or(words);
    matches!(words, ["[", "cfg", "(", "test", ")", "]"] | ["[", "cfg", "(", "all", "(", "test", ",", ..])
}

/// Returns the number of tokens of the item at the start of `tokens`, with its attributes.
fn item(tokens: &[Token]) -> usize {
    let mut start = 0;
    while let Some(attribute) = attribute(&tokens[start..]) {
        start += attribute.len();
    }
    const ITEMS: [&str; 17] = [
        "pub",
        "fn",
        "mod",
        "use",
        "struct",
        "enum",
        "impl",
        "const",
        "static",
        "type",
        "trait",
        "async",
        "unsafe",
        "extern",
        "macro_rules",
        "let",
        "union",
    ];
    let is_item = tokens.get(start).is_some_and(|token| ITEMS.contains(&token.text.as_str()));
    // A field, a variant or a match arm ends with a comma.
    let end = until(&tokens[start..], |text| text == ";" || text == "{" || (text == "," && !is_item));
    match tokens.get(start + end - 1) {
        Some(open) if open.text == "{" => start + end - 1 + group(&tokens[start + end - 1..]),
        _ => start + end,
    }
}

/// Returns the number of tokens up to the first `wanted` one outside brackets, with that one.
fn until(tokens: &[Token], wanted: impl Fn(&str) -> bool) -> usize {
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            text if wanted(text) => return at + 1,
            "(" | "[" | "{" => at += group(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// Returns the number of tokens of the bracketed group at the start of `tokens`.
fn group(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let (len, is_token) = lexeme(rest);
        if is_token {
            let text = rest[..len].iter().collect::<String>();
            tokens.push(Token { text: text.trim_start_matches("r#").to_owned(), line });
        }
        line += rest[..len].iter().filter(|char| **char == '\n').count();
        at += len;
    }
    tokens
}

/// Returns the number of characters of the next lexeme, and true if it is a token.
fn lexeme(rest: &[char]) -> (usize, bool) {
    let word = |from: usize| {
        rest[from..].iter().position(|char| !is_word_char(*char)).map_or(rest.len(), |len| from + len)
    };
    match rest {
        ['/', '/', ..] => (rest.iter().position(|char| *char == '\n').unwrap_or(rest.len()), false),
        ['/', '*', ..] => (block_comment(rest), false),
        ['"', ..] => (text_literal(rest), false),
        ['r', '#' | '"', ..] if raw_text(&rest[1..]).is_some() => {
            (1 + raw_text(&rest[1..]).unwrap_or(0), false)
        }
        ['b' | 'c', 'r', '#' | '"', ..] if raw_text(&rest[2..]).is_some() => {
            (2 + raw_text(&rest[2..]).unwrap_or(0), false)
        }
        ['r', '#', ..] => (word(2), true),
        ['\'', '\\', _, tail @ ..] => {
            (3 + tail.iter().position(|char| *char == '\'').map_or(tail.len(), |end| end + 1), false)
        }
        ['\'', _, '\'', ..] => (3, false),
        ['\'', ..] => (word(1), false),
        [':', ':', ..] => (2, true),
        [first, ..] if is_word_char(*first) => (word(0), true),
        [first, ..] => (1, !first.is_whitespace()),
        [] => (0, false),
    }
}

fn is_word_char(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn block_comment(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn text_literal(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Returns the length of `#"..."#` with any number of hashes.
fn raw_text(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().take_while(|char| **char == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = &rest[hashes + 1..];
    let len =
        body.windows(end.len()).position(|window| window == end).map_or(body.len(), |at| at + end.len());
    Some(hashes + 1 + len)
}
