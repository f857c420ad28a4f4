//! Tests of the SQLite provider: the contract, hostile files, locks of other processes, and kills.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "sqlite/folder.rs"]
mod folder;
#[path = "sqlite/groups.rs"]
mod groups;
#[path = "sqlite/hostile.rs"]
mod hostile;
#[path = "sqlite/kill.rs"]
mod kill;
#[path = "sqlite/lists.rs"]
mod lists;
#[path = "sqlite/locks.rs"]
mod locks;
#[path = "sqlite/model.rs"]
mod model;
#[path = "sqlite/tables.rs"]
mod tables;
#[path = "sqlite/unreadable.rs"]
mod unreadable;

use std::time::Duration;

use cloakroom::providers::StoreKey;
use cloakroom::testkit::{Part, Store};
use cloakroom::{Clock, SqliteProvider};
use folder::DataFolder;

cloakroom::conformance!(one_handle, |clock| async move { a_store(&clock, 1).await });

// Two handles have connections and a writer of their own, like two processes. Neither may cache what the other changes.
cloakroom::conformance!(from_two_sides, |clock| async move { a_store(&clock, 2).await });

async fn a_store(clock: &Clock, handles: usize) -> Store {
    let folder = DataFolder::new();
    let open = async || {
        let builder = SqliteProvider::builder(folder.path()).clock(clock.clone());
        // The suite tests the contract. A long deadline allows for a busy machine.
        builder.deadline(Duration::from_secs(20)).connect().await.expect("an empty folder opens")
    };
    let store = Store::new(open().await);
    let store = if handles == 2 {
        store.with_second(open().await)
    } else {
        store.without(Part::Second, "from_two_sides has it")
    };
    let path = folder.path();
    let store = store.with_planting(move |key: StoreKey, bytes| {
        let path = path.clone();
        async move { folder::plant(&path, key.as_str(), &bytes) }
    });
    let (full, locked) = (folder.path(), folder.path());
    let store = store.with_full(move |on| {
        let path = full.clone();
        async move { folder::fill(&path, on) }
    });
    let store = store.with_read_only(move |on| {
        let path = locked.clone();
        async move { folder::lock(&path, on) }
    });
    store.keep(folder)
}
