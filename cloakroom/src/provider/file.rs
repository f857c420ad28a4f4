//! Sessions in a folder.
