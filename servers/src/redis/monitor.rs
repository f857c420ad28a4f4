//! The commands that clients send to a server, read with its own command `MONITOR`.

use std::time::{Duration, Instant};

use super::{PATIENCE, Redis, command};

/// The commands that clients have sent since this was started.
pub struct Monitor<'a> {
    server: &'a Redis,
    connection: redis::Connection,
    marks: u64,
}

impl Redis {
    /// Records what clients send from now on, without what scripts do inside the server.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn monitor(&self) -> Monitor<'_> {
        let mut connection = self.connection();
        command(&["MONITOR"]).exec(&mut connection).expect("MONITOR is allowed");
        connection.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Monitor { server: self, connection, marks: 0 }
    }
}

impl Monitor<'_> {
    /// Returns the commands since the last call, each split into its words.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn commands(&mut self) -> Vec<Vec<String>> {
        self.marks += 1;
        let mark = format!("mark {}", self.marks);
        // The mark comes after everything that was sent before.
        self.server.ask::<String>(&["ECHO", &mark]);
        let start = Instant::now();
        let mut all = Vec::new();
        loop {
            assert!(start.elapsed() < PATIENCE + Duration::from_secs(5), "the mark does not arrive");
            let line = self.connection.recv_response().expect("a line of MONITOR");
            let line: String = redis::from_redis_value(line).expect("a text");
            let Some((who, words)) = line.split_once("] ") else { continue };
            let words = split(words);
            if words == ["ECHO", &mark] {
                return all;
            }
            let from_test = matches!(words[0].to_ascii_uppercase().as_str(), "CLIENT" | "HELLO" | "ECHO");
            if !who.ends_with(" lua") && !from_test {
                all.push(words);
            }
        }
    }

    /// Returns the names of the commands since the last call, in upper case.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn names(&mut self) -> Vec<String> {
        self.commands().into_iter().map(|words| words[0].to_ascii_uppercase()).collect()
    }
}

impl std::fmt::Debug for Monitor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("server", self.server).finish_non_exhaustive()
    }
}

/// Splits a line into its quoted words. A backslash escapes the next character.
fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut inside) = (Vec::new(), String::new(), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside => {
                words.push(std::mem::take(&mut word));
                inside = false;
            }
            '"' => inside = true,
            '\\' if inside => word.extend(['\\'].into_iter().chain(chars.next())),
            c if inside => word.push(c),
            _ => {}
        }
    }
    words
}
