//! The layout in which sessions are stored.

use std::fmt;

use crate::codec::Codec;

/// The layout in which a store keeps sessions: `"format"` in the configuration string.
///
/// The constructor of a provider reads it from [`Config::format`](crate::config::Config::format).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// cloakroom's own layout: `docs/format.md`.
    #[default]
    Native,
    /// The layout of Beego's session module, 1.4 to 2.x: see [from Beego](crate::guide::from_beego). It needs the feature `beego`.
    Beego,
}

impl Format {
    /// Returns the codec of another library's layout; `None` for the native layout, and for one that is not built in.
    pub(super) fn codec(self) -> Option<Codec> {
        match self {
            Format::Native => None,
            Format::Beego => Codec::of_beego(),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Native => "native",
            Format::Beego => "beego",
        })
    }
}
