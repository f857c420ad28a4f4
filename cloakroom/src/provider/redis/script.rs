//! The Lua scripts, each of which is one atomic step. They are called by their hash; a server that does not know a script is
//! sent its text.

use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use redis::Cmd;
use sha1::{Digest, Sha1};

/// A script's text, and the SHA-1 by which the server knows it.
pub(super) struct Script {
    text: String,
    hash: String,
}

macro_rules! scripts {
    ($($name:ident = $($part:literal)*;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("scripts/record.lua"), $(include_str!(concat!("scripts/", $part))),*))
        });)*
    };
}

scripts! {
    CREATE = "sets.lua" "due.lua" "create.lua";
    UPDATE = "sets.lua" "moving.lua" "update.lua";
    TOUCH = "sets.lua" "touch.lua";
    DELETE = "sets.lua" "moving.lua" "delete.lua";
    RENAME = "sets.lua" "due.lua" "rename.lua";
    LIST = "list.lua";
    COLLECT = "sets.lua" "due.lua" "collect.lua";
    COUNT = "sets.lua" "due.lua" "count.lua";
    CHECK = "check.lua";
    ASIDE = "aside.lua";
    MOVE_BEGIN = "moving.lua" "move_begin.lua";
    MOVE_END = "sets.lua" "move_end.lua";
    MOVE_CLAIM = "move_claim.lua";
    MOVE_UNDO = "sets.lua" "move_undo.lua";
    MOVE_FREE = "move_free.lua";
}

/// The outcome of a script. The order is that of the numbers in `scripts/record.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptOutcome {
    Done,
    Stale,
    Gone,
    Taken,
    Corrupt,
}

impl ScriptOutcome {
    pub(super) fn of(number: i64) -> Option<ScriptOutcome> {
        let all = [
            ScriptOutcome::Done,
            ScriptOutcome::Stale,
            ScriptOutcome::Gone,
            ScriptOutcome::Taken,
            ScriptOutcome::Corrupt,
        ];
        usize::try_from(number).ok().and_then(|number| all.get(number).copied())
    }
}

impl Script {
    /// Returns a script of this text. Its function `call` reports the errors of commands as data.
    pub(super) fn new(text: &str) -> Script {
        let (before, after) = (include_str!("scripts/call.lua"), include_str!("scripts/refused.lua"));
        let text = format!("{before}\nlocal function main()\n{text}\nend\n{after}");
        // The server keeps the text in memory, so comments are left out.
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        let text = lines.flat_map(|line| [line, "\n"]).collect::<String>();
        let hash = HEXLOWER.encode(&Sha1::digest(text.as_bytes()));
        Script { text, hash }
    }

    pub(super) fn call<'a>(&'a self, keys: &'a [String], args: &'a [&'a [u8]]) -> ScriptCall<'a> {
        ScriptCall { script: self, keys, args }
    }
}

/// A script with its keys and arguments.
pub(super) struct ScriptCall<'a> {
    script: &'a Script,
    keys: &'a [String],
    args: &'a [&'a [u8]],
}

impl ScriptCall<'_> {
    /// Returns the command that calls the script by its hash.
    pub(super) fn by_hash(&self) -> Cmd {
        self.by("EVALSHA", &self.script.hash)
    }

    /// Returns the command that sends the text as well, after which the server knows the script.
    pub(super) fn by_text(&self) -> Cmd {
        self.by("EVAL", &self.script.text)
    }

    fn by(&self, name: &str, script: &str) -> Cmd {
        let mut call = Cmd::with_capacity(self.keys.len() + self.args.len() + 3, 256);
        call.arg(name).arg(script).arg(self.keys.len());
        for key in self.keys {
            call.arg(key);
        }
        for arg in self.args {
            call.arg(arg);
        }
        call
    }
}
