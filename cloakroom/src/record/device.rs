//! The device of a session, for a list of devices.

use std::fmt;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::USER_AGENT;

/// The browser and the network that a session is used from, for a list of devices: see
/// [`Session::set_device`](crate::Session::set_device).
///
/// It is kept only if the application asks for it, since it is personal data. The address is cut to its network, which is enough to
/// tell home from another country. `Debug` hides both.
///
/// ```
/// use cloakroom::Device;
///
/// let mut request = http::HeaderMap::new();
/// request.insert("user-agent", "Mozilla/5.0 (X11; Linux x86_64)".parse()?);
/// let device = Device::of_request(&request).with_address("203.0.113.77".parse()?);
/// assert_eq!(device.network(), Some("203.0.113.0/24"));
/// assert_eq!(device.user_agent(), Some("Mozilla/5.0 (X11; Linux x86_64)"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Device {
    pub(super) user_agent: Option<Box<str>>,
    pub(super) network: Option<Box<str>>,
}

impl Device {
    /// The most bytes of a user agent that are kept.
    pub const MAX_USER_AGENT: usize = 256;

    /// Returns the device that a request's `User-Agent` names, cut to [`MAX_USER_AGENT`](Self::MAX_USER_AGENT) bytes. A header that
    /// is not plain text is left out.
    ///
    /// ```
    /// use cloakroom::Device;
    ///
    /// let mut request = http::HeaderMap::new();
    /// assert_eq!(Device::of_request(&request).user_agent(), None);
    /// request.insert("user-agent", "curl/8.5".parse()?);
    /// assert_eq!(Device::of_request(&request).user_agent(), Some("curl/8.5"));
    /// # Ok::<(), http::header::InvalidHeaderValue>(())
    /// ```
    pub fn of_request(headers: &HeaderMap) -> Self {
        let named = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let cut = named.map(|text| text.get(..Self::MAX_USER_AGENT).unwrap_or(text));
        Device { user_agent: cut.filter(|text| !text.is_empty()).map(Box::from), network: None }
    }

    /// Adds the network of `address`: the first 24 bits of an IPv4 address, the first 48 of an IPv6 address.
    ///
    /// Behind a proxy, take the address from the header that your proxy sets, and from no other header.
    ///
    /// ```
    /// use cloakroom::Device;
    ///
    /// let device = Device::default().with_address("2001:db8:12:3456::7".parse()?);
    /// assert_eq!(device.network(), Some("2001:db8:12::/48"));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn with_address(mut self, address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
            }
        };
        self.network = Some(network.into());
        self
    }

    /// Returns the `User-Agent` as it was sent. A visitor may write anything there, so escape it where you show it.
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }

    /// Returns the network, such as `203.0.113.0/24` or `2001:db8:1::/48`.
    pub fn network(&self) -> Option<&str> {
        self.network.as_deref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.user_agent.is_none() && self.network.is_none()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("user_agent", &self.user_agent.is_some())
            .field("network", &self.network.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_to_its_network() {
        let network = |address: &str| {
            Device::default().with_address(address.parse().unwrap()).network().unwrap().to_owned()
        };
        assert_eq!(network("198.51.100.7"), "198.51.100.0/24");
        assert_eq!(network("2001:db8:12:3456::7"), "2001:db8:12::/48");
        assert_eq!(network("::ffff:198.51.100.7"), "198.51.100.0/24");
    }

    #[test]
    fn a_long_user_agent_is_cut_and_one_that_is_no_text_left_out() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, http::HeaderValue::from_bytes(value).unwrap());
            Device::of_request(&headers)
        };
        assert_eq!(of(&[b'x'; 300]).user_agent().unwrap().len(), 256);
        assert_eq!(of(b"caf\xe9"), Device::default());
        assert_eq!(of(b""), Device::default());
    }
}
