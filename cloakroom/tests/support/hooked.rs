//! A provider with a hook before and after each call.

use std::future::Future;
use std::time::SystemTime;

use cloakroom::{
    Provider, Result,
    providers::{
        Capabilities, Collected, Created, Cursor, IndexEntry, Page, Record, Renamed, StoreKey, Touched,
        Updated,
    },
};

/// A method of [`Provider`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Create,
    Load,
    Update,
    /// An update to a tombstone, which ends a session.
    End,
    Touch,
    Rename,
    Delete,
    Count,
    DeleteExpired,
    Scan,
    OfPrincipal,
}

/// The decision of a hook about a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Forward,
    /// The call is not forwarded. It reports a conflict: the key is taken, the record is stale, or no record exists.
    Lose,
}

/// A hook before and after each call.
pub(crate) trait Hook: Send + Sync + 'static {
    fn before(&self, _: Call) -> impl Future<Output = Result<Verdict>> + Send {
        std::future::ready(Ok(Verdict::Forward))
    }

    /// Runs after the call. `done` is true if the call found or changed a record.
    fn after(&self, _: Call, _done: bool) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Changes a page of a user's sessions.
    fn page(&self, page: Page) -> Page {
        page
    }

    /// Returns the capabilities of the hooked provider. `inner` are those of the provider itself.
    fn capabilities(&self, inner: Capabilities) -> Capabilities {
        inner
    }
}

/// A provider that calls `hook` around every call of `inner`.
pub(crate) struct Hooked<P, H> {
    inner: P,
    hook: H,
}

impl<P: Provider, H: Hook> Hooked<P, H> {
    pub(crate) fn new(inner: P, hook: H) -> Self {
        Hooked { inner, hook }
    }

    async fn around<T: Send>(
        &self,
        call: Call,
        step: impl Future<Output = Result<T>> + Send,
        done: impl FnOnce(&T) -> bool + Send,
        lost: T,
    ) -> Result<T> {
        if self.hook.before(call).await? == Verdict::Lose {
            return Ok(lost);
        }
        let answer = step.await?;
        self.hook.after(call, done(&answer)).await?;
        Ok(answer)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<P: Provider, H: Hook> Provider for Hooked<P, H> {
    fn capabilities(&self) -> Capabilities {
        self.hook.capabilities(self.inner.capabilities())
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let done = |answer: &Created| *answer == Created::Done;
        self.around(Call::Create, self.inner.create(key, record), done, Created::Taken).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        self.around(Call::Load, self.inner.load(key), Option::is_some, None).await
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let done = |answer: &Updated| *answer == Updated::Done;
        // A session ends by an update to a tombstone.
        let call = if record.is_tombstone() { Call::End } else { Call::Update };
        self.around(call, self.inner.update(key, record, base), done, Updated::Stale).await
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let done = |answer: &Touched| *answer == Touched::Done;
        self.around(Call::Touch, self.inner.touch(key, at), done, Touched::Gone).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let step = self.inner.rename(old, new, record, expected, tombstone);
        self.around(Call::Rename, step, |answer| *answer == Renamed::Done, Renamed::Stale).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        self.around(Call::Delete, self.inner.delete(key), |deleted| *deleted, false).await
    }

    async fn count(&self) -> Result<u64> {
        self.around(Call::Count, self.inner.count(), |_| true, 0).await
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        let step = self.inner.delete_expired(limit);
        self.around(Call::DeleteExpired, step, |_| true, Collected::default()).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.around(Call::Scan, self.inner.scan(cursor, limit), |_| true, Page::default()).await
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let page = self.inner.indexed(entry, cursor, limit);
        let page = self.around(Call::OfPrincipal, page, |_| true, Page::default()).await?;
        Ok(self.hook.page(page))
    }
}

/// Is pending `times` times.
pub(crate) async fn give_way(times: u32) {
    let mut left = times;
    std::future::poll_fn(|context| match left.checked_sub(1) {
        None => std::task::Poll::Ready(()),
        Some(fewer) => {
            left = fewer;
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    })
    .await;
}
