//! The builder of a manager: its fields, and the checks of `build`.

use std::fmt;
use std::sync::Arc;

use super::{Manager, check};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::{AdmitCallback, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventListener, Events};
use crate::id::{IdMaker, RandomSource, system_random};
use crate::migration::MigrationSource;
use crate::provider::{AnyProvider, Provider, SealedProvider};

/// The settings of a [`Manager`]. [`build`](Self::build) checks them together.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider, config::SameSite};
/// use std::time::Duration;
///
/// let sessions = Manager::builder(MemoryProvider::new())
///     .idle_timeout(Duration::from_secs(15 * 60))
///     .absolute_timeout(Some(Duration::from_secs(4 * 60 * 60)))
///     .same_site(SameSite::Strict)
///     .build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// The defaults suit an application behind HTTPS:
///
/// | setting | default |
/// |---|---|
/// | [`cookie_name`](Self::cookie_name), [`secure`](Self::secure), [`same_site`](Self::same_site) | `__Host-id`, on, Lax |
/// | [`cookie_lifetime`](Self::cookie_lifetime) | until the browser closes |
/// | [`idle_timeout`](Self::idle_timeout), [`absolute_timeout`](Self::absolute_timeout) | 30 min, 8 h |
/// | [`rotate_every`](Self::rotate_every) | off |
/// | [`deadline`](Self::deadline), [`longest_request`](Self::longest_request) | 2 s, 60 s |
/// | [`sessions_per_user`](Self::sessions_per_user), [`session_quota`](Self::session_quota) | no limit |
/// | [`max_bytes`](Self::max_bytes), [`max_keys`](Self::max_keys), [`max_depth`](Self::max_depth) | 64 KiB, 1,024, 32 |
/// | [`codec`](Self::codec), [`seal`](Self::seal) | MessagePack, off |
/// | [`gc_interval`](Self::gc_interval) | 60 s |
#[must_use = "a builder does nothing until it is built"]
pub struct ManagerBuilder {
    pub(super) provider: AnyProvider,
    pub(super) former: Option<MigrationSource>,
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) random: RandomSource,
    pub(super) listener: Option<Arc<dyn EventListener>>,
    pub(super) guard: Option<AdmitCallback>,
    pub(super) plain_http: bool,
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerBuilder")
            .field("provider", &self.provider)
            .field("config", &self.config)
            .field("listener", &self.listener.is_some())
            .field("guard", &self.guard.is_some())
            .finish_non_exhaustive()
    }
}

impl ManagerBuilder {
    pub(super) fn new(provider: AnyProvider, config: Config) -> Self {
        ManagerBuilder {
            provider,
            former: None,
            config,
            clock: Clock::system(),
            random: system_random,
            listener: None,
            guard: None,
            plain_http: false,
        }
    }

    /// Checks all settings together, and makes the manager.
    ///
    /// Each setting that is weaker than the defaults is logged as a warning. [`Manager::advice`] returns the same list.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, Manager, MemoryProvider};
    ///
    /// let open = Manager::builder(MemoryProvider::new()).cookie_name("__Host-id").secure(false).build();
    /// assert_eq!(open.unwrap_err().kind(), ErrorKind::Config);
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that cannot work together, and
    /// [`ErrorKind::Random`] if no random key could be made.
    pub fn build(self) -> Result<Manager> {
        let ManagerBuilder { provider, former, mut config, clock, random, listener, guard, plain_http } =
            self;
        if plain_http {
            config.cookie.allow_plain_http();
        }
        config.check()?;
        let capabilities = provider.capabilities();
        let former_capabilities =
            former.as_ref().and_then(MigrationSource::layout).map(AnyProvider::capabilities);
        if let Some(problem) = check::problem(&config, &capabilities, former_capabilities.as_ref(), &clock)
            .or_else(|| check::reader_problem(&config, &capabilities, former.as_ref()))
        {
            return Err(Error::new(ErrorKind::Config, problem));
        }
        let ids = &config.ids;
        let mut maker = IdMaker::new(ids.func, ids.key.as_bytes(), random)?.with_prefix(&ids.prefix);
        if let Some(bytes) = ids.length {
            maker = maker.with_hex_of(bytes);
        }
        if former_capabilities.is_some() || capabilities.codec.is_some() {
            maker = maker.with_those_of_beego();
        }
        let provider = match (capabilities.sealed_tokens(), config.seal.clone()) {
            (Some(tokens), _) => {
                // A token that is not renewed is refused at this age, so it is the idle timeout that `explain` and `advice` tell.
                if let Some(most) = tokens.max_age() {
                    config.idle_timeout = config.idle_timeout.min(most);
                }
                tokens.bind(&config)?;
                config.limits.bytes = config.limits.bytes.min(tokens.room());
                provider
            }
            (None, Some(ring)) => AnyProvider::new(
                SealedProvider::new(provider, ring, config.namespace())
                    .accept_unsealed_until(config.unsealed_until, clock.clone())
                    .random(random),
            ),
            (None, None) => provider,
        };
        for advice in
            config.advice(capabilities.persistent && !capabilities.token_is_record(), capabilities.losses())
        {
            tracing::warn!(provider = capabilities.name, "{advice}");
        }
        if plain_http {
            tracing::warn!(
                "plain_http_for_development is on: the cookie is sent over plain HTTP, where anyone on the network path can take it; \
                 leave it out in production"
            );
        }
        let events = Events::new(listener, &config.event_key, system_random)?;
        let engine = Engine::new(provider, former, config, clock, maker, events, guard);
        Ok(Manager(Arc::new(engine)))
    }
}
