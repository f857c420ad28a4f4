//! Providers of others declare all that the built-in ones do.

use std::time::{Duration, SystemTime};

use cloakroom::{
    Clock, Error, ErrorKind, KeyRing, Manager, MemoryProvider, Provider, Released, Result,
    providers::{
        Capabilities, Collected, Created, Cursor, IndexEntry, Page, Record, Renamed, SealedTokens, StoreKey,
        Touched, Updated,
    },
    seal::SealKey,
};
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};

/// A declaration of a [`Memory`], true or not.
#[derive(Clone, Copy)]
enum Says {
    /// It never waits, and keeps to it.
    Truth,
    /// It returns the capabilities of the store inside it, and waits.
    AnothersTruth,
    /// It never waits, and waits.
    ALie,
}

/// Sessions in memory, behind a wrapper of another crate.
struct Memory {
    inner: MemoryProvider,
    says: Says,
}

impl Memory {
    async fn wait(&self) {
        if !matches!(self.says, Says::Truth) {
            tokio::task::yield_now().await;
        }
    }
}

impl Provider for Memory {
    fn capabilities(&self) -> Capabilities {
        match self.says {
            Says::AnothersTruth => self.inner.capabilities(),
            Says::Truth | Says::ALie => Capabilities::new("others").never_waits::<Memory>(),
        }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        self.wait().await;
        self.inner.create(key, record).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        self.wait().await;
        self.inner.load(key).await
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        self.wait().await;
        self.inner.update(key, record, base).await
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        self.wait().await;
        self.inner.touch(key, at).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        self.wait().await;
        self.inner.rename(old, new, record, expected, tombstone).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        self.wait().await;
        self.inner.delete(key).await
    }

    cloakroom::forward_provider!(self => self.inner; count, delete_expired, scan, indexed);
}

/// The next request of a browser that has received `response`.
fn next(response: &HeaderMap) -> HeaderMap {
    let cookie = response[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    HeaderMap::from_iter([(COOKIE, cookie.parse().unwrap())])
}

#[tokio::test]
async fn a_promise_never_to_wait_is_checked() {
    for says in [Says::Truth, Says::AnothersTruth, Says::ALie] {
        let sessions = Manager::builder(Memory { inner: MemoryProvider::new(), says }).build().unwrap();
        let mut response = HeaderMap::new();
        let session = sessions.start(&HeaderMap::new()).await.unwrap();
        session.set("n", 1).unwrap();
        assert_eq!(session.release(&mut response).await.unwrap(), Released::Created);
        let request = next(&response);
        let session = sessions.start(&request).await.unwrap();
        assert_eq!(session.update("n", |n: Option<u8>| n.unwrap() + 1).await.unwrap(), 2);
        let _ = session.release(&mut HeaderMap::new()).await.unwrap();
        let session = sessions.start(&request).await.unwrap();
        assert_eq!(session.get::<u8>("n").unwrap(), Some(2));
    }
}

/// Sessions in the visitor's cookie, as another crate would make them.
struct Cookies {
    tokens: SealedTokens,
    clock: Clock,
}

fn nothing_stored<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "nothing is stored"))
}

impl Provider for Cookies {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities =
            Capabilities::new("cookies").with_tokens(self.tokens.clone()).never_waits::<Cookies>();
        (capabilities.persistent, capabilities.shared, capabilities.native_expiry) = (true, true, true);
        (capabilities.lists, capabilities.revocable, capabilities.tombstones) = (false, false, false);
        capabilities
    }

    async fn create(&self, id: &StoreKey, record: &Record) -> Result<Created> {
        self.tokens.fits(id, record).map(|()| Created::Done)
    }

    async fn load(&self, token: &StoreKey) -> Result<Option<Record>> {
        let record = self.tokens.open(token).filter(|record| !record.is_expired(self.clock.now()));
        assert!(record.as_ref().is_none_or(|record| record.token_id().is_some()), "the id is in the token");
        Ok(record)
    }

    async fn update(&self, id: &StoreKey, record: &Record, _: &Record) -> Result<Updated> {
        self.tokens.fits(id, record).map(|()| Updated::Done)
    }

    async fn touch(&self, _: &StoreKey, _: SystemTime) -> Result<Touched> {
        Ok(Touched::Done)
    }

    async fn rename(
        &self,
        _: &StoreKey,
        new: &StoreKey,
        record: &Record,
        _: u64,
        _: Option<&Record>,
    ) -> Result<Renamed> {
        self.tokens.fits(new, record).map(|()| Renamed::Done)
    }

    async fn delete(&self, _: &StoreKey) -> Result<bool> {
        Ok(true)
    }

    async fn count(&self) -> Result<u64> {
        nothing_stored()
    }

    async fn delete_expired(&self, _: usize) -> Result<Collected> {
        Ok(Collected::default())
    }

    async fn scan(&self, _: Option<Cursor>, _: usize) -> Result<Page> {
        nothing_stored()
    }

    async fn indexed(&self, _: &IndexEntry, _: Option<Cursor>, _: usize) -> Result<Page> {
        nothing_stored()
    }
}

#[tokio::test]
async fn a_cookie_provider_can_be_made_outside() {
    let tokens = SealedTokens::new(KeyRing::new(SealKey::generate().unwrap()))
        .with_label("outside")
        .with_max_age(Duration::from_secs(3600));
    let provider = Cookies { tokens: tokens.clone(), clock: Clock::system() };
    let sessions = Manager::builder(provider).build().unwrap();
    assert_eq!(tokens.idle_timeout(), Duration::from_secs(1800), "the manager has bound it");
    let mut response = HeaderMap::new();
    let session = sessions.start(&HeaderMap::new()).await.unwrap();
    session.set("n", 1).unwrap();
    assert_eq!(session.release(&mut response).await.unwrap(), Released::Created);
    let session = sessions.start(&next(&response)).await.unwrap();
    assert_eq!(session.get::<u8>("n").unwrap(), Some(1));
}
