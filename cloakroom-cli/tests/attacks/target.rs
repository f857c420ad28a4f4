//! The providers under attack: a fresh store of each kind, a way in behind the application's back, and ways to break it.

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "redis")]
pub(crate) mod redis;

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
    #[cfg(feature = "redis")]
    Redis,
    #[cfg(feature = "mysql")]
    MySql,
    /// Nothing is stored.
    Cookie,
    /// Nothing is stored but what has ended.
    CookieWithRevocations,
}

impl Kind {
    /// Those of this build.
    pub(crate) const ALL: &[Kind] = &[
        Kind::Memory,
        Kind::File,
        #[cfg(feature = "redis")]
        Kind::Redis,
        #[cfg(feature = "mysql")]
        Kind::MySql,
        Kind::Cookie,
        Kind::CookieWithRevocations,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Memory => "memory",
            Kind::File => "file",
            #[cfg(feature = "redis")]
            Kind::Redis => "redis",
            #[cfg(feature = "mysql")]
            Kind::MySql => "mysql",
            Kind::Cookie => "cookie",
            Kind::CookieWithRevocations => "cookie+revocations",
        }
    }

    /// Whether it is a process of its own, which plain `cargo test` does not start.
    pub(crate) fn is_a_server(self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Kind::Redis => true,
            #[cfg(feature = "mysql")]
            Kind::MySql => true,
            _ => false,
        }
    }
}

/// Where the rows are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
}

impl Target {
    /// An empty store of its own, whose time is `clock`'s.
    pub(crate) async fn store(&self, clock: &Clock) -> Store {
        let place = Place::new(self.kind, clock);
        let ring = KeyRing::new(a_key());
        let provider = place.open(clock, &ring, None).await;
        Store { provider, clock: clock.clone(), place, ring }
    }

    /// As many as this where there is no server to wait for, and a tenth elsewhere.
    pub(crate) fn many(&self, full: usize) -> usize {
        if self.kind == Kind::Memory { full } else { full / 10 }
    }
}

/// A sealing key that no log may show.
fn a_key() -> SealKey {
    let random = || RandomState::new().build_hasher().finish().to_be_bytes();
    let bytes = [random(), random(), random(), random()].concat();
    crate::log::keep_secret(&HEXLOWER.encode(&bytes));
    crate::log::keep_secret(&BASE64URL_NOPAD.encode(&bytes));
    SealKey::from_bytes(&bytes).expect("randomness")
}

/// What nobody else uses: a folder, a prefix, a table.
pub(crate) enum Place {
    Memory,
    File(TempDir),
    #[cfg(feature = "redis")]
    Redis(String),
    #[cfg(feature = "mysql")]
    MySql(String),
    /// Where what has ended is kept, if it is.
    Cookie(Option<AnyProvider>),
}

/// A store, and the ways into it that the application does not have.
pub(crate) struct Store {
    pub(crate) provider: AnyProvider,
    pub(crate) clock: Clock,
    pub(crate) place: Place,
    /// Of the tokens, where these are sealed, and of the records, where a row has them sealed.
    pub(crate) ring: KeyRing,
}

impl Place {
    fn new(kind: Kind, clock: &Clock) -> Place {
        match kind {
            Kind::Memory => Place::Memory,
            Kind::File => Place::File(tempfile::tempdir().expect("a folder")),
            #[cfg(feature = "redis")]
            Kind::Redis => Place::Redis(a_name()),
            #[cfg(feature = "mysql")]
            Kind::MySql => Place::MySql(a_name()),
            Kind::Cookie => Place::Cookie(None),
            Kind::CookieWithRevocations => {
                Place::Cookie(Some(AnyProvider::new(MemoryProvider::builder().clock(clock.clone()).build())))
            }
        }
    }

    /// A provider on this place; through a proxy on `port`, where that is given.
    async fn open(&self, clock: &Clock, ring: &KeyRing, port: Option<u16>) -> AnyProvider {
        match self {
            Place::Memory => AnyProvider::new(MemoryProvider::builder().clock(clock.clone()).build()),
            Place::File(folder) => {
                let builder = FileProvider::builder(root_of(folder)).clock(clock.clone());
                AnyProvider::new(builder.open().expect("a folder of ours"))
            }
            #[cfg(feature = "redis")]
            Place::Redis(prefix) => redis::open(prefix, clock, port).await,
            #[cfg(feature = "mysql")]
            Place::MySql(table) => mysql::open(table, clock, port).await,
            Place::Cookie(marks) => {
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

/// One that no other prefix or table has.
#[cfg(any(feature = "redis", feature = "mysql"))]
fn a_name() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("a{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A folder inside the temporary one: the provider makes it, and so with its own modes.
pub(crate) fn root_of(folder: &TempDir) -> PathBuf {
    folder.path().join("sessions")
}

impl Store {
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    /// The same store as another process opens it; in memory, where there is none, a further handle.
    pub(crate) async fn second(&self) -> AnyProvider {
        match &self.place {
            Place::Memory => self.provider.clone(),
            place => place.open(&self.clock, &self.ring, None).await,
        }
    }

    /// The same store through a proxy before its server, and the proxy; none where there is no server.
    pub(crate) async fn through_a_proxy(&self) -> Option<(AnyProvider, Proxy)> {
        let proxy = match &self.place {
            #[cfg(feature = "redis")]
            Place::Redis(_) => Proxy::before(redis::address()),
            #[cfg(feature = "mysql")]
            Place::MySql(_) => Proxy::before(mysql::address()),
            _ => return None,
        };
        Some((self.place.open(&self.clock, &self.ring, Some(proxy.port())).await, proxy))
    }

    /// The keys of all live sessions.
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

    /// Asserts that there are so many sessions, where the provider counts them.
    #[track_caller]
    pub(crate) fn assert_count(&self, expected: u64) -> impl Future<Output = ()> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            if self.capabilities().lists {
                let found = self.provider.count().await.expect("a count");
                assert_eq!(found, expected, "sessions, at {caller}");
                // Seen on the way, their keys are among what no log may show.
                assert_eq!(self.keys().await.len() as u64, expected, "keys, at {caller}");
            }
        }
    }

    /// Every byte that a thief of the store would have; nothing for a store in memory.
    pub(crate) fn dump(&self) -> Vec<u8> {
        match &self.place {
            Place::Memory => Vec::new(),
            Place::Cookie(_) => Vec::new(),
            Place::File(folder) => {
                let mut all = Vec::new();
                for path in files(folder.path()) {
                    all.extend_from_slice(path.as_os_str().as_encoded_bytes());
                    all.push(b'\n');
                    all.extend(std::fs::read(&path).expect("a file"));
                }
                all
            }
            #[cfg(feature = "redis")]
            Place::Redis(prefix) => redis::dump(prefix),
            #[cfg(feature = "mysql")]
            Place::MySql(table) => mysql::dump(table),
        }
    }

    /// Puts `bytes` in the place of every stored record, behind the provider's back. Nothing for a store in memory.
    pub(crate) fn plant(&self, bytes: &[u8]) {
        match &self.place {
            Place::Memory => {}
            Place::Cookie(_) => {}
            Place::File(folder) => {
                for path in files(folder.path()) {
                    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > 0) {
                        std::fs::write(&path, bytes).expect("a file");
                    }
                }
            }
            #[cfg(feature = "redis")]
            Place::Redis(prefix) => redis::plant(prefix, bytes),
            #[cfg(feature = "mysql")]
            Place::MySql(table) => mysql::plant(table, bytes),
        }
    }
}

/// Every file below `folder`.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.append(&mut files(&path)),
            false => all.push(path),
        }
    }
    all
}
