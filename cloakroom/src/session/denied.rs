//! The reasons for which a session may not take a step.

use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    #[error(
        "expected a session of a user who has logged in, found an anonymous one; have the visitor log in"
    )]
    Anonymous,
    #[error("expected a login within the last {age:?}, found one {found:?} ago; have the user log in again")]
    Old { age: Duration, found: Duration },
    #[error("expected authentication of level {level} or more, found {found}; ask for the further proof")]
    Low { level: u8, found: u8 },
}
