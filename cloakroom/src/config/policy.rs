//! Timeouts of sessions: recommended values, and the explanation of the effective ones.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::time::Duration;

use super::Config;
use crate::error::{Error, ErrorKind};

/// The reaction to a login of a user who already has the maximum number of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverLimit {
    /// Ends the session whose login is the oldest.
    EndOldest,
    /// Refuses the login with an error of kind [`ErrorKind::Refused`].
    Refuse,
}

/// The idle and the absolute timeout that an authority recommends.
///
/// The configuration string takes the names `nist-aal1`, `nist-aal2`, `nist-aal3`, `owasp-high-value` and `owasp-low-value`.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider, config::Policy};
///
/// let sessions = Manager::builder(MemoryProvider::new()).policy(Policy::NIST_AAL2).build()?;
/// println!("{}", sessions.explain());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    name: &'static str,
    pub(super) idle: Duration,
    pub(super) absolute: Duration,
}

impl Policy {
    /// NIST SP 800-63B-4, section 2.1.3: 30 days absolute, no idle timeout.
    pub const NIST_AAL1: Policy = Policy::of("nist-aal1", 30 * 24 * 60, 30 * 24 * 60);
    /// NIST SP 800-63B-4, section 2.2.3: 1 hour idle, 24 hours absolute.
    pub const NIST_AAL2: Policy = Policy::of("nist-aal2", 60, 24 * 60);
    /// NIST SP 800-63B-4, section 2.3.3: 15 minutes idle, 12 hours absolute.
    pub const NIST_AAL3: Policy = Policy::of("nist-aal3", 15, 12 * 60);
    /// The OWASP Session Management Cheat Sheet for high-value applications: 5 minutes idle, 4 hours absolute. It recommends 2
    /// to 5 minutes and 4 to 8 hours.
    pub const OWASP_HIGH_VALUE: Policy = Policy::of("owasp-high-value", 5, 4 * 60);
    /// The OWASP Session Management Cheat Sheet for low-risk applications: 30 minutes idle, 8 hours absolute. It recommends 15
    /// to 30 minutes and 4 to 8 hours. The default of the builder.
    pub const OWASP_LOW_VALUE: Policy = Policy::of("owasp-low-value", 30, 8 * 60);

    const ALL: [Policy; 5] = [
        Policy::NIST_AAL1,
        Policy::NIST_AAL2,
        Policy::NIST_AAL3,
        Policy::OWASP_HIGH_VALUE,
        Policy::OWASP_LOW_VALUE,
    ];

    const fn of(name: &'static str, idle: u64, absolute: u64) -> Self {
        Policy { name, idle: Duration::from_secs(idle * 60), absolute: Duration::from_secs(absolute * 60) }
    }

    /// Returns the time without a request after which a session ends.
    ///
    /// ```
    /// use cloakroom::config::Policy;
    /// use std::time::Duration;
    ///
    /// let policy: Policy = "nist-aal3".parse()?;
    /// assert_eq!(policy.idle_timeout(), Duration::from_secs(15 * 60));
    /// assert_eq!(policy.absolute_timeout(), Duration::from_secs(12 * 60 * 60));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn idle_timeout(&self) -> Duration {
        self.idle
    }

    /// Returns the time after which a session ends even if it is used.
    pub fn absolute_timeout(&self) -> Duration {
        self.absolute
    }
}

impl FromStr for Policy {
    type Err = Error;

    /// Parses a name in any case. Another name is an error of kind [`ErrorKind::Config`].
    fn from_str(name: &str) -> Result<Self, Error> {
        let named = Policy::ALL.into_iter().find(|policy| policy.name.eq_ignore_ascii_case(name));
        named.ok_or_else(|| {
            let found = name.chars().take(40).collect();
            Error::new(ErrorKind::Config, PolicyError { found })
        })
    }
}

impl Config {
    fn explain_the_anonymous(&self, say: &mut dyn FnMut(fmt::Arguments<'_>)) {
        if self.anonymous_timeout() < self.idle_timeout {
            say(format_args!(
                "Where nobody has logged in it ends {} after that use (anonymous timeout)",
                Span(self.anonymous_timeout())
            ));
        }
        if let Some(quota) = self.session_quota {
            say(format_args!(
                "With {quota} sessions in the store no anonymous one begins; logins go on (quota)"
            ));
        }
    }

    fn explain_ended(&self, say: &mut dyn FnMut(fmt::Arguments<'_>)) {
        say(format_args!(
            "A request that was under way when its id was replaced or its session ended changes nothing and sets no cookie; that is remembered for {}",
            Span(self.longest_request)
        ));
        say(format_args!(
            "A request that arrives under a replaced id may log in, and may change nothing else within {} of the replacement; after that, and under the id of a session that ended, it begins a new session",
            Span(self.arrival_grace())
        ));
    }

    /// Returns the effective policy in words, one statement per line.
    pub(crate) fn explain(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let mut say = |statement: fmt::Arguments<'_>| {
            let _ = writeln!(text, "- {statement}.");
        };
        let touch = Span(Config::touch_interval(
            self.cookie.lifetime.map_or(self.idle_timeout, |kept| kept.min(self.idle_timeout)),
        ));
        say(format_args!(
            "A session ends {} after its last use that was noted (idle timeout); a use is noted if the last one was noted {touch} ago or more",
            Span(self.idle_timeout)
        ));
        self.explain_the_anonymous(&mut say);
        match self.absolute_timeout {
            Some(timeout) => say(format_args!(
                "It ends {} after the login, or after its beginning where nobody has logged in, however much it is used (absolute timeout)",
                Span(timeout)
            )),
            None => say(format_args!("It lives as long as it is used (no absolute timeout)")),
        }
        match self.rotate_every {
            Some(age) => say(format_args!(
                "Its id is replaced in passing once it is {} old; the old one reaches the session for {} more, and its use after that is reported{}",
                Span(age),
                Span(self.rotation_grace),
                if self.end_user_on_reuse { " and ends every session of the user" } else { "" },
            )),
            None => say(format_args!(
                "Its id is replaced by a login and where the application asks for it, and never in passing"
            )),
        }
        self.explain_ended(&mut say);
        match self.cookie.lifetime {
            _ if !self.send_cookie => say(format_args!("No cookie is sent")),
            Some(lifetime) => say(format_args!(
                "The cookie is kept for {} from its last renewal, and never longer than the absolute timeout",
                Span(lifetime)
            )),
            None => say(format_args!("The cookie is kept until the browser is closed")),
        }
        match self.user_limit {
            Some((limit, OverLimit::EndOldest)) => {
                say(format_args!("A user has at most {limit} sessions; one more login ends the oldest"));
            }
            Some((limit, OverLimit::Refuse)) => {
                say(format_args!("A user has at most {limit} sessions; one more login is refused"));
            }
            None => say(format_args!("A user has as many sessions as they like")),
        }
        say(format_args!(
            "A session may have a lifetime of its own, which then goes before both timeouts and the cookie's"
        ));
        text
    }
}

/// A time in units: `1 d 2 h`, `30 min`, `1.500 s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        let millis = self.0.subsec_millis();
        let mut parts = Vec::new();
        for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("min", 60)] {
            if rest >= seconds {
                parts.push(format!("{} {unit}", rest / seconds));
                rest %= seconds;
            }
        }
        match (rest, millis) {
            (0, 0) if !parts.is_empty() => {}
            (rest, 0) => parts.push(format!("{rest} s")),
            (rest, millis) => parts.push(format!("{rest}.{millis:03} s")),
        }
        f.write_str(&parts.join(" "))
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "policy: expected nist-aal1, nist-aal2, nist-aal3, owasp-high-value or owasp-low-value, found {found:?}"
)]
struct PolicyError {
    found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_units() {
        let read = |millis| Span(Duration::from_millis(millis)).to_string();
        assert_eq!(read(0), "0 s");
        assert_eq!(read(1_500), "1.500 s");
        assert_eq!(read(30 * 60_000), "30 min");
        assert_eq!(read(93_784_000), "1 d 2 h 3 min 4 s");
    }

    #[test]
    fn every_policy_has_a_name_and_other_names_are_errors() {
        for policy in Policy::ALL {
            assert_eq!(policy.name.to_uppercase().parse::<Policy>().unwrap(), policy);
        }
        let error = "aal9".parse::<Policy>().unwrap_err().to_string();
        assert!(error.contains("expected nist-aal1") && error.contains("\"aal9\""), "{error}");
    }

    #[test]
    fn the_timeouts_are_those_of_the_sources() {
        let hours = |policy: Policy| (policy.idle.as_secs() / 60, policy.absolute.as_secs() / 3_600);
        assert_eq!(hours(Policy::NIST_AAL1), (43_200, 720));
        assert_eq!(hours(Policy::NIST_AAL2), (60, 24));
        assert_eq!(hours(Policy::NIST_AAL3), (15, 12));
        assert_eq!(hours(Policy::OWASP_HIGH_VALUE), (5, 4));
        assert_eq!(hours(Policy::OWASP_LOW_VALUE), (30, 8));
    }
}
