//! What a test has to say though it passes.

use std::fmt::Display;
use std::io::Write;

/// Says what was counted on the terminal itself: past the runner, which captures what `eprintln!` prints and shows it only of tests
/// that fail.
///
/// ```
/// servers::tell(format_args!("kills: {}", 200));
/// ```
pub fn tell(what: impl Display) {
    // In one piece, since others print at the same time. Without a terminal there is nobody to tell.
    let _ = std::io::stderr().write_all(format!("{what}\n").as_bytes());
}
