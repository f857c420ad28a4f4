//! The linter: what an effective configuration is weaker in than the builder's defaults.

use std::borrow::Cow;
use std::fmt;

use super::Config;
use crate::cookie::{CookieWriter, SameSite};
use crate::id::HashFunc;

/// One weakness of a configuration: the setting, and what follows from it.
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
    /// The setting that is weak, as the string door spells it.
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
    /// The weaknesses of these settings on a provider that is `persistent` or not.
    pub(crate) fn advice(&self, persistent: bool) -> Vec<Advice> {
        let mut all = Vec::new();
        let mut add = |weak, setting, text| {
            if weak {
                all.push(Advice { setting, text });
            }
        };
        self.advice_on_cookie(&mut add);
        self.advice_on_sessions(persistent, &mut add);
        all
    }

    fn advice_on_cookie(&self, add: &mut dyn FnMut(bool, &'static str, Cow<'static, str>)) {
        let cookie = &self.cookie;
        let no_prefix = !cookie.name.starts_with("__Host-");
        add(
            !cookie.secure,
            "secure",
            "secure is off: the cookie crosses plain HTTP, where anyone on the way can take it".into(),
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
            "the name does not begin with __Host-: a neighbouring host can plant this cookie".into(),
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
            "browsers keep a cookie for 400 days at most; it is cut to that".into(),
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
            "the session id also crosses in a header that scripts can read".into(),
        );
        add(
            persistent && !self.hash_ids,
            "hashIds",
            "ids are stored in clear: whoever reads the store can be any visitor; set \"hashIds\": true"
                .into(),
        );
        add(
            self.unsealed_until.is_some(),
            "acceptUnsealedUntil",
            "sessions that are not sealed are taken for a time: until then whoever writes to the store can make one"
                .into(),
        );
        add(
            self.plain_ids_until.is_some(),
            "acceptPlainIdsUntil",
            "sessions stored under their plain ids are found for a time: until then whoever reads the store can be one of them"
                .into(),
        );
        add(
            self.idle_timeout > strong.idle_timeout,
            "maxLifetime",
            format!(
                "an unused session lives {} min; the builder's default is 30",
                self.idle_timeout.as_secs() / 60
            )
            .into(),
        );
        add(
            self.absolute_timeout.is_none_or(|timeout| Some(timeout) > strong.absolute_timeout),
            "absoluteTimeout",
            "a session in use lives on for more than the builder's 8 h, so a stolen one does too".into(),
        );
        add(
            self.id_bits() < 256,
            "sessionIDHashFunc",
            format!("ids carry {} bits; the builder's random ids carry 256", self.id_bits()).into(),
        );
    }

    fn id_bits(&self) -> usize {
        match (self.ids.length, self.ids.func) {
            (Some(bytes), _) => 8 * bytes,
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
    fn the_builders_defaults_leave_nothing_to_say() {
        assert_eq!(Config::default().advice(true), []);
    }

    #[test]
    fn the_seeds_example_is_told_each_of_its_weaknesses() {
        let config = Config::from_json(super::super::json::SEED_EXAMPLE).unwrap();
        let settings: Vec<_> = config.advice(true).iter().map(|advice| advice.setting).collect();
        assert_eq!(
            settings,
            [
                "secure",
                "cookieName",
                "cookieLifeTime",
                "hashIds",
                "maxLifetime",
                "absoluteTimeout",
                "sessionIDHashFunc"
            ]
        );
        let in_memory = config.advice(false);
        assert!(in_memory.iter().all(|advice| advice.setting != "hashIds"));
    }
}
