//! One manager shared by all tests of a program, on the stores that need no server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support {
    pub(crate) mod one_manager;
}

use cloakroom::{FileProvider, Manager, MemoryProvider};

async fn in_memory() -> Manager {
    Manager::builder(MemoryProvider::new()).build().unwrap()
}

async fn in_files() -> Manager {
    // The folder stays until the program ends.
    let folder = tempfile::tempdir().unwrap().keep();
    Manager::builder(FileProvider::connect(folder.join("sessions")).unwrap()).build().unwrap()
}

one_manager!(memory, super::in_memory());
one_manager!(file, super::in_files());
