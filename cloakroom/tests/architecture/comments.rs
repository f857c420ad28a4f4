//! The rule about comments: a comment opens with its subject, not with a clause.
//!
//! "Stores the record" says at once what happens; "What is stored where nothing was" makes the reader wait. CONTRIBUTING.md
//! states the rule and the measure.

use crate::workspace::Text;

/// Words that open a clause without a subject. `When` and `Where` are judged apart: "When a lock is lost, ..." is such a clause,
/// "Where the files are." is not.
const OPENINGS: [&str; 39] = [
    "Another's",
    "Anothers",
    "As many",
    "As much",
    "By those",
    "By what",
    "For those",
    "For what",
    "For whom",
    "From those",
    "From what",
    "From where",
    "How",
    "In those",
    "In what",
    "Nobody",
    "Nothing",
    "Of those",
    "Of what",
    "Of whom",
    "Others",
    "Those",
    "To those",
    "To what",
    "To whom",
    "What",
    "Whatever",
    "Wherever",
    "Whether",
    "Which",
    "Whichever",
    "Who",
    "Whoever",
    "Whom",
    "Whose",
    "Why",
    "With those",
    "With what",
    "With whom",
];

/// A run of comment lines of one kind.
#[derive(Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) line: usize,
    lines: Vec<String>,
}

impl Block {
    /// True if the block opens with a clause that has no subject.
    pub(crate) fn is_headless(&self) -> bool {
        let first = self.lines.first().map_or("", String::as_str);
        let opens = |opening: &&str| starts_with_word(first, opening);
        if OPENINGS.iter().any(opens) {
            return true;
        }
        ["When", "Where"].iter().any(opens) && first_sentence(&self.lines.join(" ")).contains(',')
    }

    pub(crate) fn opening(&self) -> &str {
        self.lines.first().map_or("", String::as_str)
    }
}

/// The comments of `text` that stand on lines of their own. Code in documentation, and blocks without prose, are left out.
pub(crate) fn blocks(text: &Text) -> Vec<Block> {
    let is_lua = text.path.ends_with(".lua");
    let mut blocks: Vec<Block> = Vec::new();
    let (mut kind, mut is_code) = ("", false);
    for (at, line) in text.content.lines().enumerate() {
        let Some((marker, rest)) = comment(line.trim(), is_lua) else {
            kind = "";
            continue;
        };
        if marker != kind {
            (kind, is_code) = (marker, false);
            blocks.push(Block { line: at + 1, lines: Vec::new() });
        }
        if rest.starts_with("```") {
            is_code = !is_code;
        } else if let Some(block) = blocks.last_mut().filter(|_| !is_code && !rest.trim().is_empty()) {
            block.lines.push(rest.to_owned());
        }
    }
    blocks.retain(|block| !block.lines.is_empty());
    blocks
}

/// The marker and the text of a line that is a comment.
fn comment(line: &str, is_lua: bool) -> Option<(&'static str, &str)> {
    let markers: &[&'static str] = if is_lua { &["--"] } else { &["///", "//!", "//"] };
    let (marker, rest) = markers.iter().find_map(|marker| Some((*marker, line.strip_prefix(marker)?)))?;
    Some((marker, rest.strip_prefix(' ').unwrap_or(rest)))
}

fn starts_with_word(text: &str, word: &str) -> bool {
    let rest = text.strip_prefix(word);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

/// `text` up to the first stop, semicolon or colon that a blank or the end follows.
fn first_sentence(text: &str) -> &str {
    let ends =
        |(at, mark): (usize, &str)| text[at + mark.len()..].chars().next().is_none_or(|next| next == ' ');
    let end = text.match_indices(['.', ';', ':']).find(|found| ends(*found));
    end.map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headless(content: &str) -> Vec<usize> {
        let text = Text { path: "a.rs".into(), content: content.into() };
        blocks(&text).iter().filter(|block| block.is_headless()).map(|block| block.line).collect()
    }

    #[test]
    fn a_comment_without_a_subject_is_found() {
        let text = "/// What is stored.\nfn a() {}\n// Whoever asks waits.\n// Nothing: it is gone.\n//! Whether it is.\n";
        assert_eq!(headless(text), [1, 3, 5]);
        assert_eq!(headless("    /// Of what a user has, this is the first.\n    x,\n"), [1]);
        assert_eq!(headless("// When a lock is lost, the write fails.\n"), [1]);
        assert_eq!(headless("//! Of those\n"), [1]);
    }

    #[test]
    fn a_comment_with_a_subject_is_none() {
        let texts = [
            "/// Stores what is new.\n/// What follows continues the sentence.\n",
            "// Whatsoever\n",
            "// Where the files are. On Unix, that is.\n",
            "/// ```\n/// // What is code.\n/// ```\n",
            "let a = 1; // What follows code is not counted.\n",
            "-- What a file in Lua says, only a file in Lua says.\n",
        ];
        for text in texts {
            assert_eq!(headless(text), [0; 0], "{text}");
        }
    }

    #[test]
    fn a_comment_in_lua_is_read() {
        let text =
            Text { path: "a.lua".into(), content: "-- What it does.\nreturn 1\n-- Returns one.\n".into() };
        let found: Vec<_> = blocks(&text).iter().map(Block::is_headless).collect();
        assert_eq!(found, [true, false]);
    }
}
