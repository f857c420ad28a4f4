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
#[path = "sqlite/logs.rs"]
mod logs;
#[path = "sqlite/model.rs"]
mod model;
#[path = "sqlite/near_cache.rs"]
mod near_cache;
#[path = "support/random.rs"]
mod random;
#[path = "sqlite/tables.rs"]
mod tables;
#[path = "sqlite/unreadable.rs"]
mod unreadable;
#[path = "support/sql/unreadable.rs"]
mod unreadable_rows;

use std::time::Duration;

use cloakroom::providers::{SealedProvider, StoreKey};
use cloakroom::seal::SealKey;
use cloakroom::testkit::{Part, Store};
use cloakroom::{Cached, Clock, KeyRing, SqliteProvider};
use folder::DataFolder;

cloakroom::conformance!(one_handle, |clock| async move {
    let folder = DataFolder::new();
    let store = Store::new(opened(&folder, &clock).await);
    on(folder, store.without(Part::Second, "from_two_sides has it"))
});

// Two handles have connections and a writer of their own, like two processes. Neither may cache what the other changes.
cloakroom::conformance!(from_two_sides, |clock| async move {
    let folder = DataFolder::new();
    let store = Store::new(opened(&folder, &clock).await).with_second(opened(&folder, &clock).await);
    on(folder, store)
});

// A handle's copies never outlive its own changes. `near_cache.rs` has two handles, of which one is behind by the bound.
cloakroom::conformance!(behind_a_near_cache, |clock| async move {
    let folder = DataFolder::new();
    let near = Cached::builder(opened(&folder, &clock).await).clock(clock).within(near_cache::BOUND);
    on(folder, Store::new(near).without(Part::Second, "near_cache.rs has it"))
});

cloakroom::conformance!(sealed, |clock| async move {
    let folder = DataFolder::new();
    let ring = KeyRing::new(SealKey::generate().expect("a key"));
    let store = Store::new(SealedProvider::new(opened(&folder, &clock).await, ring, "conformance"));
    on(folder, store.without(Part::Second, "from_two_sides has it"))
});

async fn opened(folder: &DataFolder, clock: &Clock) -> SqliteProvider {
    let builder = SqliteProvider::builder(folder.path()).clock(clock.clone());
    // The suite tests the contract. A long deadline allows for a busy machine.
    builder.deadline(Duration::from_secs(20)).connect().await.expect("an empty folder opens")
}

/// The store in `folder`, whose rows a case may overwrite, and whose disk may fill or refuse changes.
fn on(folder: DataFolder, store: Store) -> Store {
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
