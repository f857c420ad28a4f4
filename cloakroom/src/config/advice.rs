//! The advice on a configuration: settings that are weaker than the builder's defaults.

use std::borrow::Cow;
use std::fmt;

use super::Config;
use crate::cookie::{CookieWriter, SameSite};
use crate::id::HashFunc;

/// A weakness of a configuration: the setting, and its consequence.
///
/// [`Manager::advice`](crate::Manager::advice) returns all of them, and the log shows them once at the start.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider};
///
/// let sessions = Manager::builder(MemoryProvider::new()).cookie_name("id").secure(false).build()?;
/// assert!(sessions.advice().iter().any(|advice| advice.setting() == "secure"));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    setting: &'static str,
    text: Cow<'static, str>,
}

impl Advice {
    /// Returns the name of the weak setting, as the configuration string spells it. `Display` gives the whole sentence.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider};
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_name("id").build()?;
    /// for advice in sessions.advice() {
    ///     println!("{advice}");      // cookieName: ..
    /// }
    /// assert_eq!(sessions.advice()[0].setting(), "cookieName");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn setting(&self) -> &str {
        self.setting
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.text)
    }
}

impl Config {
    /// Returns the weaknesses of these settings. Plain ids are one only in a `persistent` store. The `losses` of a store that is not
    /// durable are some only if a setting shows that the site has logins.
    pub(crate) fn advice(&self, persistent: bool, losses: &[&'static str]) -> Vec<Advice> {
        let mut all = Vec::new();
        let mut add = |weak, setting, text| {
            if weak {
                all.push(Advice { setting, text });
            }
        };
        self.advice_on_cookie(&mut add);
        self.advice_on_sessions(persistent, &mut add);
        let has_logins = self.user_limit.is_some() || self.end_user_on_reuse;
        for loss in losses {
            add(persistent && has_logins, "durability", (*loss).into());
        }
        all
    }

    fn advice_on_cookie(&self, add: &mut dyn FnMut(bool, &'static str, Cow<'static, str>)) {
        let cookie = &self.cookie;
        let no_prefix = !cookie.name.starts_with("__Host-");
        add(
            !cookie.secure,
            "secure",
            "secure is off: the cookie is sent over plain HTTP, where anyone on the network can read it"
                .into(),
        );
        add(
            !cookie.http_only,
            "disableHTTPOnly",
            "HttpOnly is off: every script on the page can read the cookie".into(),
        );
        add(
            matches!(cookie.same_site, SameSite::None | SameSite::Unspecified),
            "cookieSameSite",
            "SameSite is not Lax or Strict: other sites can act with the visitor's session".into(),
        );
        add(
            no_prefix,
            "cookieName",
            "the name does not begin with __Host-: a host of the same domain can set this cookie".into(),
        );
        add(
            cookie.domain.is_some(),
            "domain",
            "a domain is set: every host below it receives the cookie".into(),
        );
        add(
            cookie.lifetime.is_some(),
            "cookieLifeTime",
            "the cookie is kept on disk after the browser closes".into(),
        );
        add(
            cookie.lifetime.is_some_and(|lifetime| lifetime > CookieWriter::LONGEST),
            "cookieLifeTime",
            "browsers keep a cookie for at most 400 days, so the lifetime is cut to that".into(),
        );
    }

    fn advice_on_sessions(
        &self,
        persistent: bool,
        add: &mut dyn FnMut(bool, &'static str, Cow<'static, str>),
    ) {
        let strong = Config::default();
        add(
            self.id_header.is_some(),
            "enableSidInHTTPHeader",
            "the session id is also sent in a header, which scripts can read".into(),
        );
        add(
            persistent && !self.hash_ids,
            "hashIds",
            "ids are stored in plain text: anyone who reads the store can act as any visitor; set \"hashIds\": true"
                .into(),
        );
        add(
            self.unsealed_until.is_some(),
            "acceptUnsealedUntil",
            "unsealed sessions are accepted until this time: until then, anyone who can write to the store can create one"
                .into(),
        );
        add(
            self.plain_ids_until.is_some(),
            "acceptPlainIdsUntil",
            "sessions under their plain ids are found until this time: until then, anyone who reads the store can act as their visitors"
                .into(),
        );
        add(
            self.idle_timeout > strong.idle_timeout,
            "maxLifetime",
            format!(
                "an unused session lives for {} min; the builder's default is 30",
                self.idle_timeout.as_secs() / 60
            )
            .into(),
        );
        add(
            self.absolute_timeout.is_none_or(|timeout| Some(timeout) > strong.absolute_timeout),
            "absoluteTimeout",
            "a session in use can live for more than the builder's 8 h, and so can a stolen one".into(),
        );
        add(
            self.id_bits() < 256,
            "sessionIDHashFunc",
            format!("ids have {} bits; the builder's random ids have 256", self.id_bits()).into(),
        );
    }

    fn id_bits(&self) -> usize {
        match (self.ids.length, self.ids.func) {
            (Some(bytes), _) => 8 * bytes,
            #[cfg(feature = "config-string")]
            (None, HashFunc::Md5) => 128,
            (None, HashFunc::Sha1) => 160,
            (None, HashFunc::Sha256 | HashFunc::Random) => 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_not_durable_is_a_weakness_with_logins() {
        let config = Config { end_user_on_reuse: true, ..Config::default() };
        let told = |config: &Config, persistent, losses: &[&'static str]| {
            config.advice(persistent, losses).iter().map(Advice::to_string).collect::<Vec<_>>()
        };
        let losses = &["one; set a", "two; set b"];
        assert_eq!(told(&config, true, losses), ["durability: one; set a", "durability: two; set b"]);
        assert_eq!((told(&config, true, &[]), told(&config, false, losses)), (Vec::new(), Vec::new()));
        assert_eq!(told(&Config::default(), true, losses), Vec::<String>::new());
    }

    #[test]
    fn the_defaults_of_the_builder_have_no_weakness() {
        assert_eq!(Config::default().advice(true, &["a crash may undo changes"]), []);
    }
}
