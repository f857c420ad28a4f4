//! A reader whose sessions the application adjusts before they are moved.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{MigrationSource, OldId, OldIds, OldSession, OldSessions};
use crate::error::Result;
use crate::visit::Visit;

/// A reader with a callback of the application: [`OldSessions::adjusted_by`] returns it.
#[derive(Clone)]
pub struct Adjusted<S> {
    sessions: S,
    adjust: Adjustment,
}

type Adjustment =
    Arc<dyn Fn(OldSession) -> Pin<Box<dyn Future<Output = Result<Option<OldSession>>> + Send>> + Send + Sync>;

impl<S> Adjusted<S> {
    pub(super) fn new<F>(sessions: S, adjust: impl Fn(OldSession) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<OldSession>>> + Send + 'static,
    {
        Adjusted { sessions, adjust: Arc::new(move |session| Box::pin(adjust(session))) }
    }
}

impl<S: OldSessions> OldSessions for Adjusted<S> {
    fn find(&self, request: &Visit) -> OldIds {
        self.sessions.find(request)
    }

    async fn load(&self, id: &OldId) -> Result<Option<OldSession>> {
        match self.sessions.load(id).await? {
            Some(session) => (self.adjust)(session).await,
            None => Ok(None),
        }
    }

    async fn delete(&self, id: &OldId) -> Result<bool> {
        self.sessions.delete(id).await
    }
}

impl<S: OldSessions> From<Adjusted<S>> for MigrationSource {
    fn from(old: Adjusted<S>) -> Self {
        MigrationSource::new(old)
    }
}

impl<S: fmt::Debug> fmt::Debug for Adjusted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Adjusted").field(&self.sessions).finish()
    }
}
