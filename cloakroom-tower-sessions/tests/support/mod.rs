//! A store of each kind, and each test on all of them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cloakroom::providers::AnyProvider;
use cloakroom::{FileProvider, MemoryProvider, PostgresProvider, RedisProvider};
use servers::{Postgres, Redis};
use tempfile::TempDir;

/// A store with two handles, which stand for two processes where the store is shared.
pub(crate) struct Opened {
    pub(crate) provider: AnyProvider,
    #[allow(dead_code, reason = "not every file of tests has two processes")]
    pub(crate) another: AnyProvider,
    _folder: Option<TempDir>,
}

pub(crate) async fn memory() -> Opened {
    let provider = AnyProvider::new(MemoryProvider::new());
    Opened { another: provider.clone(), provider, _folder: None }
}

pub(crate) async fn file() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let open = || AnyProvider::new(FileProvider::builder(folder.path()).connect().unwrap());
    Opened { provider: open(), another: open(), _folder: Some(folder) }
}

pub(crate) async fn redis() -> Opened {
    static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);
    let prefix = a_name();
    let open = async || {
        AnyProvider::new(
            RedisProvider::builder(SERVER.url()).prefix(prefix.as_str()).connect().await.unwrap(),
        )
    };
    Opened { provider: open().await, another: open().await, _folder: None }
}

pub(crate) async fn postgres() -> Opened {
    static SERVER: LazyLock<Postgres> = LazyLock::new(Postgres::start);
    let table = a_name();
    let open = async || {
        let builder = PostgresProvider::builder(SERVER.url("")).table(table.as_str()).pool(3);
        AnyProvider::new(builder.connect().await.unwrap())
    };
    Opened { provider: open().await, another: open().await, _folder: None }
}

/// Returns a name that no other test uses.
fn a_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs each function as a test on every kind of store.
macro_rules! on_every_store {
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::memory().await).await })+
        }
        mod file {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::file().await).await })+
        }
        mod redis {
            $(
                #[tokio::test]
                #[ignore = "needs redis-server: cargo xtask test"]
                async fn $name() { super::$name(crate::support::redis().await).await }
            )+
        }
        mod postgres {
            $(
                #[tokio::test]
                #[ignore = "needs postgres: cargo xtask test"]
                async fn $name() { super::$name(crate::support::postgres().await).await }
            )+
        }
    };
}

pub(crate) use on_every_store;
