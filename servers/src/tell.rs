//! Output of a test that passes.

use std::fmt::Display;
use std::io::Write;

/// Prints counts of a test to the terminal. The test runner captures what `eprintln!` prints, and shows it only if the
/// test fails.
///
/// ```
/// servers::tell(format_args!("kills: {}", 200));
/// ```
pub fn tell(what: impl Display) {
    // One write keeps the line whole, since other threads print too. Without a terminal the error does not matter.
    let _ = std::io::stderr().write_all(format!("{what}\n").as_bytes());
}
