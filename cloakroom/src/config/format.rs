//! In whose layout sessions are stored.

use std::fmt;

use crate::codec::Codec;

/// In whose layout a store keeps sessions: `"format"` at the string door. A constructor of a provider finds it in
/// [`Config::format`](crate::config::Config::format).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Our own: `docs/format.md`.
    #[default]
    Native,
    /// That of Beego's session module, 1.4 to 2.x: `docs/from-beego.md`.
    Beego,
}

impl Format {
    /// The codec that the layout asks for.
    #[cfg(feature = "beego")]
    pub(super) fn codec(self) -> Option<Codec> {
        match self {
            Format::Native => None,
            Format::Beego => Some(Codec::GOB),
        }
    }

    #[cfg(not(feature = "beego"))]
    pub(super) fn codec(self) -> Option<Codec> {
        None
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
