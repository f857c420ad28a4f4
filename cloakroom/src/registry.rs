//! Providers by name, and managers from a configuration string.
//!
//! [`register`] adds the constructor of a provider. [`Manager::new`](crate::Manager::new) calls it with the parsed settings. The
//! built-in providers of the enabled features are registered from the start, also under Beego's names.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Manager;
use crate::old_library;
use crate::provider::{AnyProvider, Provider};
use crate::sync::locks::RwLock;

type Constructor = dyn Fn(Config) -> Pin<Box<dyn Future<Output = Result<AnyProvider>> + Send>> + Send + Sync;

static CONSTRUCTORS: LazyLock<RwLock<BTreeMap<Box<str>, Arc<Constructor>>>> = LazyLock::new(|| {
    #[allow(unused_mut, reason = "no provider is inserted without its feature")]
    let mut all: BTreeMap<Box<str>, Arc<Constructor>> = BTreeMap::new();
    #[cfg(feature = "memory")]
    all.insert("memory".into(), erased(crate::provider::memory::from_config));
    #[cfg(all(feature = "file", unix))]
    all.insert("file".into(), erased(crate::provider::file::from_config));
    #[cfg(feature = "cookie")]
    all.insert("cookie".into(), erased(crate::provider::cookie::from_config));
    #[cfg(all(feature = "redis", unix))]
    {
        use crate::provider::redis;
        all.insert("redis".into(), erased(redis::from_config));
        all.insert("redis_cluster".into(), erased(redis::cluster_from_config));
        all.insert("redis_sentinel".into(), erased(redis::sentinel_from_config));
    }
    #[cfg(feature = "mysql")]
    all.insert("mysql".into(), erased(crate::provider::sql::mysql::from_config));
    #[cfg(feature = "postgres")]
    {
        use crate::provider::sql::postgres;
        all.insert("postgres".into(), erased(postgres::from_config));
        all.insert("postgresql".into(), erased(postgres::from_config));
    }
    #[cfg(all(feature = "sqlite", unix))]
    all.insert("sqlite".into(), erased(crate::provider::sql::sqlite::from_config));
    RwLock::new(all)
});

/// Registers a provider under `name`, for [`Manager::new`].
///
/// The constructor runs anew for each manager, so that two managers never share a provider by accident. It finds the provider's own string in
/// [`Config::provider_config`].
///
/// ```
/// use cloakroom::{Manager, MemoryProvider};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// cloakroom::register("own", |_config| async { Ok(MemoryProvider::new()) })?;
/// let sessions = Manager::new("own", r#"{"cookieName":"gosessionid","gclifetime":3600}"#).await?;
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// [`ErrorKind::Config`] if the name is taken.
#[doc(alias = "Register")]
pub fn register<F, P>(name: &str, constructor: impl Fn(Config) -> F + Send + Sync + 'static) -> Result<()>
where
    F: Future<Output = Result<P>> + Send + 'static,
    P: Provider,
{
    let mut all = CONSTRUCTORS.write();
    if all.contains_key(name) {
        return Err(Error::new(ErrorKind::Config, RegistryError::Taken { name: name.into() }));
    }
    all.insert(name.into(), erased(constructor));
    Ok(())
}

fn erased<F, P>(constructor: impl Fn(Config) -> F + Send + Sync + 'static) -> Arc<Constructor>
where
    F: Future<Output = Result<P>> + Send + 'static,
    P: Provider,
{
    Arc::new(move |config| {
        let provider = constructor(config);
        Box::pin(async move { Ok(AnyProvider::new(provider.await?)) })
    })
}

impl Manager {
    /// Makes a manager from the name of a provider and a configuration string: a JSON object with Beego's keys and additions.
    ///
    /// [The configuration string](crate::guide::configuration) lists every key.
    ///
    /// ```
    /// use cloakroom::Manager;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let sessions = Manager::new("memory", r#"{"cookieName":"gosessionid", "enableSetCookie,omitempty": true,
    ///     "gclifetime":3600, "maxLifetime": 3600, "secure": false, "sessionIDHashFunc": "sha1",
    ///     "sessionIDHashKey": "", "cookieLifeTime": 3600, "providerConfig": ""}"#).await?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a name that is not registered and for settings that cannot work, and those of the provider's
    /// constructor.
    #[doc(alias = "NewManager")]
    pub async fn new(provider: &str, config: &str) -> Result<Manager> {
        let config = Config::from_json(config)?;
        let constructor = {
            let all = CONSTRUCTORS.read();
            all.get(provider).cloned().ok_or_else(|| {
                let known = all.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
                let found = provider.chars().take(40).collect();
                Error::new(ErrorKind::Config, RegistryError::Unknown { found, known })
            })?
        };
        let builder = Manager::with_config(constructor(config.clone()).await?, config.clone());
        #[cfg(feature = "beego")]
        let builder = match config.as_it_was() {
            Some(former) => builder.migrate_from(constructor(former).await?),
            None => builder,
        };
        let builder = match &config.old_library {
            Some(old) => builder.migrate_from(old_library::source(&config, old).await?),
            None => builder,
        };
        builder.build()
    }
}

#[derive(Debug, thiserror::Error)]
enum RegistryError {
    #[error(
        "expected a free name, found {name:?}, under which a provider is registered already; choose another name"
    )]
    Taken { name: Box<str> },
    #[error(
        "no provider is registered as {found:?}; expected one of {known}; register the provider, or switch its feature on"
    )]
    Unknown { found: String, known: String },
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;
    use crate::provider::memory::MemoryProvider;

    #[tokio::test]
    async fn an_unknown_name_is_an_error_that_lists_the_known() {
        let memory = || register("memory", |_| async { Ok(MemoryProvider::new()) });
        assert_eq!(memory().unwrap_err().kind(), ErrorKind::Config);
        let error = Manager::new("memori", r#"{"cookieName":"id"}"#).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(r#""memori"; expected one of"#), "{error}");
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[tokio::test]
    async fn two_managers_of_one_name_share_nothing() {
        let manager = async || Manager::new("memory", r#"{"cookieName":"id"}"#).await.unwrap();
        let (one, two) = (manager().await, manager().await);
        let session = one.start(&http::HeaderMap::new()).await.unwrap();
        session.set("k", 1).unwrap();
        session.save().await.unwrap();
        assert_eq!(one.active_sessions().await.unwrap(), 1);
        assert_eq!(two.active_sessions().await.unwrap(), 0);
    }
}
