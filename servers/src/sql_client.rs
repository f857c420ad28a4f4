//! The command line client of a SQL server, as a connection that stays open.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A connection of the server's administrator. It ends with its locks and its transaction when this is dropped.
#[derive(Debug)]
pub struct SqlClient {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl SqlClient {
    /// Starts the client, which reads statements from its input.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start(client: &mut Command) -> SqlClient {
        let started = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("the client starts");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        SqlClient { child, answers }
    }

    /// Sends `statement` without waiting for its end. Further statements queue behind it.
    ///
    /// # Panics
    /// If the connection has ended.
    pub fn run(&mut self, statement: &str) {
        let pipe = self.child.stdin.as_mut().expect("piped");
        writeln!(pipe, "{statement};").and_then(|()| pipe.flush()).expect("the connection is open");
    }

    /// Runs `statement` and returns its one line of result.
    ///
    /// # Panics
    /// If the connection has ended.
    pub fn ask(&mut self, statement: &str) -> String {
        self.run(statement);
        self.answer()
    }

    /// Returns the next line of result.
    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the connection is open");
        line.trim_end().to_owned()
    }
}

impl Drop for SqlClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
