//! A provider that can do less than others, and says so.

use cloakroom::{
    Clock, Error, ErrorKind, MemoryProvider, Provider, Result,
    providers::{
        AnyProvider, Capabilities, Created, Cursor, IndexEntry, Page, Record, Renamed, StoreKey, Updated,
    },
};

/// Sessions in memory that can be neither listed nor ended, of a few kilobytes each.
#[derive(Debug)]
pub(crate) struct Less(AnyProvider);

const MAX_RECORD: usize = 4096;

impl Less {
    pub(crate) fn new(clock: Clock) -> Self {
        Less(AnyProvider::new(MemoryProvider::builder().clock(clock).build()))
    }

    fn fits(record: &Record) -> Result<()> {
        if record.as_bytes().len() <= MAX_RECORD {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::TooLarge, "more than a cookie holds"))
        }
    }
}

fn cannot<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "this store keeps no list"))
}

impl Provider for Less {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("less");
        capabilities.lists = false;
        capabilities.revocable = false;
        capabilities.max_record = Some(MAX_RECORD);
        capabilities
    }

    cloakroom::forward_provider!(self => self.0; load, touch, delete_expired);

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        Less::fits(record)?;
        self.0.create(key, record).await
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        Less::fits(record)?;
        self.0.update(key, record, base).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        Less::fits(record)?;
        self.0.rename(old, new, record, expected, tombstone).await
    }

    async fn delete(&self, _: &StoreKey) -> Result<bool> {
        cannot()
    }

    async fn count(&self) -> Result<u64> {
        cannot()
    }

    async fn scan(&self, _: Option<Cursor>, _: usize) -> Result<Page> {
        cannot()
    }

    async fn indexed(&self, _: &IndexEntry, _: Option<Cursor>, _: usize) -> Result<Page> {
        cannot()
    }
}

#[test]
fn a_limit_on_a_users_sessions_needs_a_provider_that_lists() {
    let one = std::num::NonZeroUsize::new(1).unwrap();
    let builder = cloakroom::Manager::builder(Less::new(Clock::system()));
    let error = builder.sessions_per_user(one, cloakroom::config::OverLimit::Refuse).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("sessionsPerUser"), "{error}");
}
