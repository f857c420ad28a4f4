//! The changes that a power failure may undo, as a setting of the providers that write to a disk of this machine.

use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The changes that a power failure may undo. A killed process loses none in either mode.
///
/// ```
/// use cloakroom::{ErrorKind, providers::Durability};
///
/// assert_eq!("durable".parse::<Durability>()?, Durability::Durable);
/// assert_eq!("sometimes".parse::<Durability>().unwrap_err().kind(), ErrorKind::Config);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Writes each change as a whole and lets the kernel write it to the disk, up to 30 s later. A power failure may undo
    /// the latest changes, including a logout. Files may then hold a corrupt record; SQLite's file stays intact.
    #[default]
    Atomic,
    /// Syncs the disk (`fsync`) before a create, a change, a rename or a delete returns. A change takes some milliseconds longer. A `touch`
    /// of a file syncs the file alone: a power failure may undo the touch and nothing else.
    Durable,
}

impl FromStr for Durability {
    type Err = Error;

    /// Parses `atomic` or `durable`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another name.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "atomic" => Ok(Durability::Atomic),
            "durable" => Ok(Durability::Durable),
            _ => {
                let found = name.chars().take(40).collect();
                Err(Error::new(ErrorKind::Config, UnknownDurability { found }))
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("durability: expected atomic or durable, found {found:?}")]
struct UnknownDurability {
    found: String,
}
