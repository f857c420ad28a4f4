//! The store that a manager moves sessions from, without its type.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{OldId, OldIds, OldSession, OldSessions};
use crate::error::Result;
use crate::provider::{AnyProvider, Provider};
use crate::visit::Visit;

/// The store that [`ManagerBuilder::migrate_from`](crate::ManagerBuilder::migrate_from) moves sessions from.
///
/// Every reader of this crate and every [`Provider`] in another library's layout converts into it. [`new`](Self::new) takes a reader of
/// your own.
#[derive(Clone)]
pub struct MigrationSource(SourceKind);

#[derive(Clone)]
enum SourceKind {
    /// A provider in another library's layout. Both libraries share one cookie and its ids.
    Layout(AnyProvider),
    /// A reader with a cookie of its own.
    Reader(Arc<dyn ErasedOldSessions>),
}

impl MigrationSource {
    /// Returns `old` as a source of sessions.
    pub fn new(old: impl OldSessions) -> Self {
        MigrationSource(SourceKind::Reader(Arc::new(old)))
    }

    /// Returns the provider in another library's layout, if the source is one.
    pub(crate) fn layout(&self) -> Option<&AnyProvider> {
        match &self.0 {
            SourceKind::Layout(provider) => Some(provider),
            SourceKind::Reader(_) => None,
        }
    }

    /// Returns the reader, if the source is one.
    pub(crate) fn reader(&self) -> Option<&dyn ErasedOldSessions> {
        match &self.0 {
            SourceKind::Layout(_) => None,
            SourceKind::Reader(reader) => Some(&**reader),
        }
    }
}

impl<P: Provider> From<P> for MigrationSource {
    fn from(provider: P) -> Self {
        MigrationSource(SourceKind::Layout(AnyProvider::new(provider)))
    }
}

impl fmt::Debug for MigrationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SourceKind::Layout(provider) => f.debug_tuple("MigrationSource").field(provider).finish(),
            SourceKind::Reader(_) => f.write_str("MigrationSource"),
        }
    }
}

type BoxedAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// [`OldSessions`] with boxed futures, which make it fit for `dyn`.
pub(crate) trait ErasedOldSessions: Send + Sync {
    fn find(&self, request: &Visit) -> OldIds;
    fn load<'a>(&'a self, id: &'a OldId) -> BoxedAnswer<'a, Option<OldSession>>;
    fn delete<'a>(&'a self, id: &'a OldId) -> BoxedAnswer<'a, bool>;
}

impl<S: OldSessions> ErasedOldSessions for S {
    fn find(&self, request: &Visit) -> OldIds {
        OldSessions::find(self, request)
    }

    fn load<'a>(&'a self, id: &'a OldId) -> BoxedAnswer<'a, Option<OldSession>> {
        Box::pin(OldSessions::load(self, id))
    }

    fn delete<'a>(&'a self, id: &'a OldId) -> BoxedAnswer<'a, bool> {
        Box::pin(OldSessions::delete(self, id))
    }
}
