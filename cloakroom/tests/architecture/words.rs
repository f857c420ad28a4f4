//! The words that the project does without, each with its reason.

use crate::workspace::Text;

/// A phrase that may not occur, and what to write instead.
const WORDS: [(&str, &str); 9] = [
    ("ticket", "a metaphor for the cookie: write cookie, token or request"),
    ("tickets", "a metaphor for cookies: write cookies, tokens or requests"),
    ("door", "a metaphor: write builder, configuration string, constructor or API"),
    ("doors", "a metaphor: write builder, configuration string, constructor or API"),
    ("seed's", "a word for Beego that users do not know: write Beego's"),
    (
        "the seed",
        "a word for Beego that users do not know; the seed of a random generator is followed by `of`",
    ),
    ("bury", "a metaphor: write a tombstone, end the session"),
    ("buried", "a metaphor: write ended, replaced by a tombstone"),
    ("whither", "archaic: write where"),
];

/// The lines of `text` with a word of the list.
pub(crate) fn found(text: &Text) -> Vec<(usize, &'static str, &'static str)> {
    let mut found = Vec::new();
    for (at, line) in text.content.lines().enumerate() {
        let line = line.to_lowercase();
        let words = WORDS.iter().filter(|(word, _)| holds(&line, word));
        found.extend(words.map(|(word, why)| (at + 1, *word, *why)));
    }
    found
}

/// True if `line` holds `word` with no letter or digit beside it.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let is_whole = !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
        is_whole && !(word == "the seed" && (after.starts_with(" of ") || after.starts_with('\'')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(content: &str) -> Vec<&'static str> {
        let text = Text { path: "a.md".into(), content: content.into() };
        found(&text).into_iter().map(|(_, word, _)| word).collect()
    }

    #[test]
    fn a_word_of_the_list_is_found() {
        assert_eq!(words("The string door, as in the seed."), ["door", "the seed"]);
        assert_eq!(words("self.ticket.id()\nThe Seed's key\nWhither?"), ["ticket", "seed's", "whither"]);
    }

    #[test]
    fn other_words_with_the_same_letters_are_none() {
        assert_eq!(words("the seed of one run; seeds; SHUTTLE_RANDOM_SEED; backdoor; indoors"), [""; 0]);
    }
}
