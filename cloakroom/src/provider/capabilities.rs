//! The capabilities of a store, as it declares them.

use std::any::TypeId;

use super::{Provider, SealedTokens};
use crate::clock::Clock;
use crate::codec::Codec;

/// The abilities of a provider, so that callers get a clear error where something cannot be done.
///
/// ```
/// use cloakroom::{MemoryProvider, Provider};
///
/// assert!(!MemoryProvider::new().capabilities().persistent);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The provider's name, for logs and errors.
    pub name: &'static str,
    /// True if sessions outlive the process. Ids are then hashed before they become keys, unless that is switched off.
    pub persistent: bool,
    /// True if no power failure undoes a change that was answered. False for a store on a disk that is not synced at each change: the
    /// latest logouts may be undone. [`may_lose`](Self::may_lose) says more.
    pub durable: bool,
    /// True if a session can be ended from the server's side.
    pub revocable: bool,
    /// True if the store drops expired records by itself, so that garbage collection has nothing to do.
    pub native_expiry: bool,
    /// True if `count`, `scan` and `indexed` work.
    pub lists: bool,
    /// True if other processes may use the same store at the same time.
    pub shared: bool,
    /// True if the store holds tombstones, so that a request still running when its session ends learns of that. Without
    /// tombstones such a request may begin a new session, and routine rotation of ids is refused.
    pub tombstones: bool,
    /// True if the store keeps the [`Principal`](crate::Principal) of a session. `indexed` then finds sessions by it where `lists` is true.
    pub users: bool,
    /// True if the store keeps the [labels](crate::providers::Label) of a session. `indexed` then finds sessions by them where `lists` is true.
    pub labels: bool,
    /// The only codec whose data the store can keep, if it has another library's layout. `None` means any codec.
    pub codec: Option<Codec>,
    /// The largest record in bytes, as [`Record::as_bytes`](crate::providers::Record::as_bytes) counts. `None` means that only the manager's limits apply.
    pub max_record: Option<usize>,
    /// The type whose futures are all ready at their first poll. A flag would not do, since a wrapper may return these
    /// capabilities as its own and wait nevertheless.
    pub(super) at_once: Option<TypeId>,
    /// The seal of the tokens, if the token is the sealed record and the provider stores none.
    pub(super) tokens: Option<SealedTokens>,
    /// The clock that deadlines are compared with; `None` if it is not known.
    pub(super) clock: Option<Clock>,
    /// The failures that undo answered changes, each with its cure.
    pub(super) losses: &'static [&'static str],
}

impl Capabilities {
    /// Returns the capabilities of a provider that keeps all of a session in this process, and can end and list sessions. Set
    /// the fields that differ.
    ///
    /// ```
    /// let mut capabilities = cloakroom::providers::Capabilities::new("own");
    /// capabilities.persistent = true;
    /// assert!(capabilities.revocable && capabilities.lists && !capabilities.shared);
    /// ```
    pub fn new(name: &'static str) -> Self {
        Capabilities {
            name,
            persistent: false,
            durable: true,
            revocable: true,
            native_expiry: false,
            lists: true,
            shared: false,
            tombstones: true,
            users: true,
            labels: true,
            codec: None,
            max_record: None,
            at_once: None,
            tokens: None,
            clock: None,
            losses: &[],
        }
    }

    /// Declares that the store may undo changes that were answered, unless `losses` is empty. Each text says by which failure, and what to
    /// set instead. [`Manager::advice`](crate::Manager::advice) shows the texts of a site with logins.
    ///
    /// ```
    /// use cloakroom::providers::Capabilities;
    ///
    /// let losses = &["a crash may undo the latest changes, logouts included; set sync = true"];
    /// assert!(!Capabilities::new("own").may_lose(losses).durable);
    /// assert!(Capabilities::new("own").may_lose(&[]).durable);
    /// ```
    pub fn may_lose(self, losses: &'static [&'static str]) -> Self {
        Capabilities { durable: losses.is_empty(), losses, ..self }
    }

    /// Returns the failures that undo answered changes, each with its cure.
    pub(crate) fn losses(&self) -> &'static [&'static str] {
        const UNSYNCED: &[&str] = &[
            "a power failure may undo the latest changes, logouts included; set \"durability\": \"durable\"",
        ];
        match self.losses {
            _ if self.durable => &[],
            [] => UNSYNCED,
            losses => losses,
        }
    }

    /// Returns true if the client carries the whole session, sealed, and nothing is stored. Of parallel responses the last then
    /// wins. A logout cannot end the copy of a cookie, unless [`revocable`](Self::revocable) is true.
    ///
    /// ```
    /// # #[cfg(feature = "cookie")] {
    /// use cloakroom::{CookieProvider, KeyRing, MemoryProvider, Provider, seal::SealKey};
    ///
    /// let cookies = CookieProvider::new(KeyRing::new(SealKey::generate()?));
    /// assert!(cookies.capabilities().token_is_record());
    /// assert!(!MemoryProvider::new().capabilities().token_is_record());
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn token_is_record(&self) -> bool {
        self.tokens.is_some()
    }

    pub(crate) fn sealed_tokens(&self) -> Option<&SealedTokens> {
        self.tokens.as_ref()
    }

    /// Declares that the token is the whole record, sealed by `tokens`, and that the provider stores no record itself.
    ///
    /// The manager then sends `tokens`' sealed record as the cookie. The key of [`Provider::load`] is the token that the request came with:
    /// open it with [`SealedTokens::open`]. The key of every other method is the session's id, which stays the same from
    /// token to token: see [`Record::token_id`](crate::providers::Record::token_id).
    ///
    /// ```
    /// use cloakroom::KeyRing;
    /// use cloakroom::providers::{Capabilities, SealedTokens};
    /// use cloakroom::seal::SealKey;
    ///
    /// let tokens = SealedTokens::new(KeyRing::new(SealKey::generate()?));
    /// let mut capabilities = Capabilities::new("own cookie").with_tokens(tokens);
    /// capabilities.lists = false;
    /// assert!(capabilities.token_is_record());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn with_tokens(self, tokens: SealedTokens) -> Self {
        Capabilities { tokens: Some(tokens), ..self }
    }

    pub(crate) fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// Declares the clock that the provider compares deadlines with. A manager with another clock is then refused, since its
    /// sessions would expire at other times than their records: a test that moves the clock of the manager alone.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, Manager, ManualClock, MemoryProvider};
    ///
    /// // `MemoryProvider` declares its clock in this way: the system's by default.
    /// let time = ManualClock::default();
    /// let error = Manager::builder(MemoryProvider::new()).clock(time.clock()).build().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    ///
    /// let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn with_clock(self, clock: Clock) -> Self {
        Capabilities { clock: Some(clock), ..self }
    }

    /// Declares that the futures of `P`, the provider itself, are all ready at their first poll. A request is then served without a
    /// future for each call.
    ///
    /// The declaration holds for `P` alone. A wrapper that returns the capabilities of a provider inside it is polled
    /// as usual. A future that is not ready nevertheless is dropped, and the call is made again and awaited.
    ///
    /// ```
    /// use cloakroom::MemoryProvider;
    /// use cloakroom::providers::Capabilities;
    ///
    /// let capabilities = Capabilities::new("own").never_waits::<MemoryProvider>();
    /// assert_ne!(capabilities, Capabilities::new("own"));
    /// ```
    pub fn never_waits<P: Provider>(self) -> Self {
        Capabilities { at_once: Some(TypeId::of::<P>()), ..self }
    }
}
