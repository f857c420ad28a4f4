//! The macro that writes the methods of a wrapper around a provider.

/// Writes methods of a [`Provider`](crate::Provider) that call the same method of another provider.
///
/// A test often needs a store that fails, waits or counts in one method. It wraps a real store, changes that method, and forwards the
/// others. The macro takes `self`, the provider inside, and the methods to forward. It stands inside the `impl` block. A method that is
/// neither written nor named is a compile error, since the trait has no default methods.
///
/// ```
/// use cloakroom::providers::{Capabilities, Record, StoreKey};
/// use cloakroom::{Error, ErrorKind, Manager, MemoryProvider, Provider, Result};
/// # use http::header::{COOKIE, SET_COOKIE};
///
/// /// A store in memory whose reads fail.
/// struct Unreadable(MemoryProvider);
///
/// impl Provider for Unreadable {
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::new("unreadable")
///     }
///
///     async fn load(&self, _: &StoreKey) -> Result<Option<Record>> {
///         Err(Error::new(ErrorKind::Unavailable, "the disk is on fire"))
///     }
///
///     cloakroom::forward_provider!(
///         self => self.0;
///         create, update, touch, rename, delete, count, delete_expired, scan, indexed
///     );
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let sessions = Manager::builder(Unreadable(MemoryProvider::new())).build()?;
/// # let session = sessions.start(&http::HeaderMap::new()).await?;
/// # session.set("n", 1)?;
/// # let mut response = http::HeaderMap::new();
/// # let _ = session.release(&mut response).await?;
/// # let mut request = http::HeaderMap::new();
/// # request.insert(COOKIE, response[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().parse().unwrap());
/// let error = sessions.start(&request).await.unwrap_err(); // `request` carries the cookie of a session
/// assert_eq!((error.kind(), error.status().as_u16()), (ErrorKind::Unavailable, 503));
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
#[macro_export]
macro_rules! forward_provider {
    ($self:ident => $inner:expr; $($method:ident),+ $(,)?) => {
        $($crate::__forward_provider!($method $self $inner);)+
    };
}

/// Writes one method. `$self` comes from the caller, since a macro's own `self` is another name than the caller's.
#[doc(hidden)]
#[macro_export]
macro_rules! __forward_provider {
    (create $self:ident $inner:expr) => {
        async fn create(
            &$self,
            key: &$crate::providers::StoreKey,
            record: &$crate::providers::Record,
        ) -> $crate::Result<$crate::providers::Created> {
            $crate::Provider::create(&$inner, key, record).await
        }
    };
    (load $self:ident $inner:expr) => {
        async fn load(
            &$self,
            key: &$crate::providers::StoreKey,
        ) -> $crate::Result<::std::option::Option<$crate::providers::Record>> {
            $crate::Provider::load(&$inner, key).await
        }
    };
    (update $self:ident $inner:expr) => {
        async fn update(
            &$self,
            key: &$crate::providers::StoreKey,
            record: &$crate::providers::Record,
            base: &$crate::providers::Record,
        ) -> $crate::Result<$crate::providers::Updated> {
            $crate::Provider::update(&$inner, key, record, base).await
        }
    };
    (touch $self:ident $inner:expr) => {
        async fn touch(
            &$self,
            key: &$crate::providers::StoreKey,
            at: ::std::time::SystemTime,
        ) -> $crate::Result<$crate::providers::Touched> {
            $crate::Provider::touch(&$inner, key, at).await
        }
    };
    (rename $self:ident $inner:expr) => {
        async fn rename(
            &$self,
            old: &$crate::providers::StoreKey,
            new: &$crate::providers::StoreKey,
            record: &$crate::providers::Record,
            expected: u64,
            tombstone: ::std::option::Option<&$crate::providers::Record>,
        ) -> $crate::Result<$crate::providers::Renamed> {
            $crate::Provider::rename(&$inner, old, new, record, expected, tombstone).await
        }
    };
    (delete $self:ident $inner:expr) => {
        async fn delete(&$self, key: &$crate::providers::StoreKey) -> $crate::Result<bool> {
            $crate::Provider::delete(&$inner, key).await
        }
    };
    (count $self:ident $inner:expr) => {
        async fn count(&$self) -> $crate::Result<u64> {
            $crate::Provider::count(&$inner).await
        }
    };
    (delete_expired $self:ident $inner:expr) => {
        async fn delete_expired(&$self, limit: usize) -> $crate::Result<$crate::providers::Collected> {
            $crate::Provider::delete_expired(&$inner, limit).await
        }
    };
    (scan $self:ident $inner:expr) => {
        async fn scan(
            &$self,
            cursor: ::std::option::Option<$crate::providers::Cursor>,
            limit: usize,
        ) -> $crate::Result<$crate::providers::Page> {
            $crate::Provider::scan(&$inner, cursor, limit).await
        }
    };
    (indexed $self:ident $inner:expr) => {
        async fn indexed(
            &$self,
            entry: &$crate::providers::IndexEntry,
            cursor: ::std::option::Option<$crate::providers::Cursor>,
            limit: usize,
        ) -> $crate::Result<$crate::providers::Page> {
            $crate::Provider::indexed(&$inner, entry, cursor, limit).await
        }
    };
}
