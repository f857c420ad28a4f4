//! The providers under attack: a new store of each kind, and access to it that the application does not have.

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use cloakroom::{
    Clock, FileProvider, KeyRing, MemoryProvider, Provider,
    providers::{AnyProvider, Capabilities, StoreKey},
    seal::SealKey,
};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use servers::Proxy;
use tempfile::TempDir;

/// A kind of provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    File,
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "redis")]
    Redis,
    #[cfg(feature = "mysql")]
    MySql,
    #[cfg(feature = "postgres")]
    Postgres,
    /// The provider stores nothing.
    Cookie,
    /// Only revocations are stored.
    CookieWithRevocations,
}

impl Kind {
    /// The kinds of this build.
    pub(crate) const ALL: &[Kind] = &[
        Kind::Memory,
        Kind::File,
        #[cfg(feature = "sqlite")]
        Kind::Sqlite,
        #[cfg(feature = "redis")]
        Kind::Redis,
        #[cfg(feature = "mysql")]
        Kind::MySql,
        #[cfg(feature = "postgres")]
        Kind::Postgres,
        Kind::Cookie,
        Kind::CookieWithRevocations,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Memory => "memory",
            Kind::File => "file",
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => "sqlite",
            #[cfg(feature = "redis")]
            Kind::Redis => "redis",
            #[cfg(feature = "mysql")]
            Kind::MySql => "mysql",
            #[cfg(feature = "postgres")]
            Kind::Postgres => "postgres",
            Kind::Cookie => "cookie",
            Kind::CookieWithRevocations => "cookie+revocations",
        }
    }

    /// Returns whether the provider needs a server, which plain `cargo test` does not start.
    pub(crate) fn needs_server(self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Kind::Redis => true,
            #[cfg(feature = "mysql")]
            Kind::MySql => true,
            #[cfg(feature = "postgres")]
            Kind::Postgres => true,
            _ => false,
        }
    }
}

/// The provider on which a row runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
}

impl Target {
    /// Opens a new, empty store that uses `clock`.
    pub(crate) async fn store(&self, clock: &Clock) -> Store {
        let place = Backend::new(self.kind, clock);
        let ring = KeyRing::new(secret_key());
        let provider = place.open(clock, &ring, None).await;
        Store { provider, clock: clock.clone(), place, ring }
    }

    /// Returns `full` in memory, and a tenth of it where each request waits for a disk or a server.
    pub(crate) fn many(&self, full: usize) -> usize {
        if self.kind == Kind::Memory { full } else { full / 10 }
    }
}

/// Returns a sealing key and adds it to the secrets that no log may contain.
fn secret_key() -> SealKey {
    let random = || RandomState::new().build_hasher().finish().to_be_bytes();
    let bytes = [random(), random(), random(), random()].concat();
    crate::log::keep_secret(&HEXLOWER.encode(&bytes));
    crate::log::keep_secret(&BASE64URL_NOPAD.encode(&bytes));
    SealKey::from_bytes(&bytes).expect("randomness")
}

/// The backend of one row, which no other row uses: a folder, a prefix or a table.
pub(crate) enum Backend {
    Memory,
    File(TempDir),
    #[cfg(feature = "sqlite")]
    Sqlite(TempDir),
    #[cfg(feature = "redis")]
    Redis(String),
    #[cfg(feature = "mysql")]
    MySql(String),
    #[cfg(feature = "postgres")]
    Postgres(String),
    /// The store of the revocations, if there is one.
    Cookie(Option<AnyProvider>),
}

/// A store, and access to it that the application does not have.
pub(crate) struct Store {
    pub(crate) provider: AnyProvider,
    pub(crate) clock: Clock,
    pub(crate) place: Backend,
    /// The keys that seal tokens, and also records in the rows that seal them.
    pub(crate) ring: KeyRing,
}

impl Backend {
    fn new(kind: Kind, clock: &Clock) -> Backend {
        match kind {
            Kind::Memory => Backend::Memory,
            Kind::File => Backend::File(tempfile::tempdir().expect("a folder")),
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => Backend::Sqlite(tempfile::tempdir().expect("a folder")),
            #[cfg(feature = "redis")]
            Kind::Redis => Backend::Redis(unique_name()),
            #[cfg(feature = "mysql")]
            Kind::MySql => Backend::MySql(unique_name()),
            #[cfg(feature = "postgres")]
            Kind::Postgres => Backend::Postgres(unique_name()),
            Kind::Cookie => Backend::Cookie(None),
            Kind::CookieWithRevocations => Backend::Cookie(Some(AnyProvider::new(
                MemoryProvider::builder().clock(clock.clone()).build(),
            ))),
        }
    }

    /// Opens a provider on this backend, through the proxy on `port` if one is given.
    async fn open(&self, clock: &Clock, ring: &KeyRing, port: Option<u16>) -> AnyProvider {
        match self {
            Backend::Memory => AnyProvider::new(MemoryProvider::builder().clock(clock.clone()).build()),
            Backend::File(folder) => {
                let builder = FileProvider::builder(root_of(folder)).clock(clock.clone());
                AnyProvider::new(builder.connect().expect("a new folder"))
            }
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(folder) => sqlite::open(folder, clock).await,
            #[cfg(feature = "redis")]
            Backend::Redis(prefix) => redis::open(prefix, clock, port).await,
            #[cfg(feature = "mysql")]
            Backend::MySql(table) => mysql::open(table, clock, port).await,
            #[cfg(feature = "postgres")]
            Backend::Postgres(table) => postgres::open(table, clock, port).await,
            Backend::Cookie(marks) => {
                let builder = cloakroom::CookieProvider::builder(ring.clone()).clock(clock.clone());
                let longest = std::time::Duration::from_secs(8 * 60 * 60);
                AnyProvider::new(match marks {
                    Some(marks) => builder.revocations(marks.clone(), longest).build(),
                    None => builder.build(),
                })
            }
        }
    }
}

/// Returns a prefix or table name that no other row uses.
#[cfg(any(feature = "redis", feature = "mysql", feature = "postgres"))]
fn unique_name() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("a{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns a folder inside the temporary one. The provider creates it, so that it has the provider's permissions.
pub(crate) fn root_of(folder: &TempDir) -> PathBuf {
    folder.path().join("sessions")
}

impl Store {
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    /// Opens the same store as another process would. In memory, where that is impossible, returns another handle.
    pub(crate) async fn second(&self) -> AnyProvider {
        match &self.place {
            Backend::Memory => self.provider.clone(),
            place => place.open(&self.clock, &self.ring, None).await,
        }
    }

    /// Opens the same store through a new proxy. `None` if there is no server.
    pub(crate) async fn through_a_proxy(&self) -> Option<(AnyProvider, Proxy)> {
        let proxy = match &self.place {
            #[cfg(feature = "redis")]
            Backend::Redis(_) => Proxy::before(redis::address()),
            #[cfg(feature = "mysql")]
            Backend::MySql(_) => Proxy::before(mysql::address()),
            #[cfg(feature = "postgres")]
            Backend::Postgres(_) => Proxy::before(postgres::address()),
            _ => return None,
        };
        Some((self.place.open(&self.clock, &self.ring, Some(proxy.port())).await, proxy))
    }

    /// Returns the keys of all live sessions.
    pub(crate) async fn keys(&self) -> Vec<StoreKey> {
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.provider.scan(cursor, 1000).await.expect("a page");
            for listed in page.entries {
                crate::log::keep_secret(listed.key.as_str());
                keys.push(listed.key);
            }
            cursor = page.next;
            if cursor.is_none() {
                return keys;
            }
        }
    }

    /// Asserts the number of sessions, if the provider can count them.
    #[track_caller]
    pub(crate) fn assert_count(&self, expected: u64) -> impl Future<Output = ()> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            if self.capabilities().lists {
                let found = self.provider.count().await.expect("a count");
                assert_eq!(found, expected, "sessions, at {caller}");
                // Listing the keys also adds them to the secrets that no log may contain.
                assert_eq!(self.keys().await.len() as u64, expected, "keys, at {caller}");
            }
        }
    }

    /// Returns every byte that a thief of the store would get; nothing for a store in memory.
    pub(crate) fn dump(&self) -> Vec<u8> {
        match &self.place {
            Backend::Memory => Vec::new(),
            Backend::Cookie(_) => Vec::new(),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(folder) => sqlite::dump(folder),
            Backend::File(folder) => {
                let mut all = Vec::new();
                for path in files(folder.path()) {
                    all.extend_from_slice(path.as_os_str().as_encoded_bytes());
                    all.push(b'\n');
                    all.extend(std::fs::read(&path).expect("a file"));
                }
                all
            }
            #[cfg(feature = "redis")]
            Backend::Redis(prefix) => redis::dump(prefix),
            #[cfg(feature = "mysql")]
            Backend::MySql(table) => mysql::dump(table),
            #[cfg(feature = "postgres")]
            Backend::Postgres(table) => postgres::dump(table),
        }
    }

    /// Replaces every stored record by `bytes`, without the provider; does nothing for a store in memory.
    pub(crate) fn plant(&self, bytes: &[u8]) {
        match &self.place {
            Backend::Memory => {}
            Backend::Cookie(_) => {}
            Backend::File(folder) => {
                for path in files(folder.path()) {
                    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > 0) {
                        std::fs::write(&path, bytes).expect("a file");
                    }
                }
            }
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(folder) => sqlite::plant(folder, bytes),
            #[cfg(feature = "redis")]
            Backend::Redis(prefix) => redis::plant(prefix, bytes),
            #[cfg(feature = "mysql")]
            Backend::MySql(table) => mysql::plant(table, bytes),
            #[cfg(feature = "postgres")]
            Backend::Postgres(table) => postgres::plant(table, bytes),
        }
    }
}

/// Returns every file below `folder`.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.append(&mut files(&path));
        } else {
            all.push(path);
        }
    }
    all
}
