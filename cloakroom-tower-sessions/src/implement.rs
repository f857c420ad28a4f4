//! The traits of one tower-sessions-core on the store.

/// Implements `SessionStore` and `ExpiredDeletion` of the crate `$core`.
macro_rules! implement {
    ($core:ident) => {
        use async_trait::async_trait;
        use cloakroom::{Error as CloakroomError, SessionId};
        use $core::session::{Id, Record};
        use $core::session_store::{Error, ExpiredDeletion, Result, SessionStore};

        use crate::error::{Class, Reason};
        use crate::store::CloakroomStore;
        use crate::time::{from_offset, to_offset};

        #[async_trait]
        impl SessionStore for CloakroomStore {
            async fn create(&self, record: &mut Record) -> Result<()> {
                let mut creation =
                    self.begin_session(&record.data, from_offset(record.expiry_date)).map_err(error)?;
                while !creation.store(&text(&record.id)?, &mut record.data).await.map_err(error)? {
                    record.id = Id::default();
                }
                Ok(())
            }

            async fn save(&self, record: &Record) -> Result<()> {
                let ends = from_offset(record.expiry_date);
                self.save_session(&text(&record.id)?, &record.data, ends).await.map_err(error)
            }

            async fn load(&self, id: &Id) -> Result<Option<Record>> {
                let loaded = self.load_session(&text(id)?).await.map_err(error)?;
                Ok(loaded.map(|(data, ends)| Record { id: *id, data, expiry_date: to_offset(ends) }))
            }

            async fn delete(&self, id: &Id) -> Result<()> {
                self.end_session(&text(id)?).await.map_err(error)
            }
        }

        #[async_trait]
        impl ExpiredDeletion for CloakroomStore {
            async fn delete_expired(&self) -> Result<()> {
                self.collect().await.map_err(error)
            }
        }

        /// Returns the id as the cookie holds it.
        fn text(id: &Id) -> Result<SessionId> {
            id.to_string().parse().map_err(|found: CloakroomError| error(found.into()))
        }

        fn error(reason: Reason) -> Error {
            let text = reason.to_string();
            match reason.class() {
                Class::Encode => Error::Encode(text),
                Class::Decode => Error::Decode(text),
                Class::Backend => Error::Backend(text),
            }
        }
    };
}

/// tower-sessions 0.14.
#[cfg(feature = "tower-sessions-0_14")]
mod v0_14 {
    implement!(core_0_14);
}

/// tower-sessions 0.15.
#[cfg(feature = "tower-sessions-0_15")]
mod v0_15 {
    implement!(core_0_15);
}
