//! The timeouts that authorities recommend.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

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
