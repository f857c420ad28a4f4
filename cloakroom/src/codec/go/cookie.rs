//! Sessions of Beego's `cookie` provider, which seals the whole session in its cookie.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use data_encoding::BASE64URL;
use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha1::Sha1;
use sha2::Sha256;

use super::GoSession;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};

/// The bound on the length of a cookie that is decoded. Real ones have a few kilobytes.
const MAX_COOKIE: usize = 16 << 10;
/// The block size of AES in bytes, and so the length of the initial counter.
const BLOCK: usize = 16;

/// Opens sessions that Beego's `cookie` provider (1.4 to 2.x) has sealed in a cookie, to copy them to the server.
///
/// It cannot write such cookies, since a cookie that holds a session cannot be revoked.
///
/// ```
/// use cloakroom::go::BeegoCookies;
/// use std::time::{Duration, SystemTime};
///
/// let cookies = BeegoCookies::from_json(
///     r#"{"cookieName":"gosessionid","securityKey":"beegocookiehashkey","blockKey":"0123456789abcdef",
///         "securityName":"beegosessionname","maxage":3600}"#,
/// )?;
/// let sent_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_380_088);
/// let value = "MTc5NTM4MDA4OHxuM1IyVUxrOTctRndRalF5WFN3SEtGbzg5OURyb1BoeWJJU1pycjFhNFBpSjZJMD18gakC_OLQJOvaGWJO_LI7pjWBO2L51dV290Yvi2JTfk0%3D";
/// assert!(cookies.open(value, sent_at)?.keys()?.is_empty());
/// let late = cookies.open(value, sent_at + Duration::from_secs(3601)).unwrap_err();
/// assert_eq!(late.kind(), cloakroom::ErrorKind::Gone);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct BeegoCookies {
    cookie: Box<str>,
    security_key: Box<[u8]>,
    security_name: Box<str>,
    cipher: Cipher,
    max_age: Duration,
}

/// AES with the strength of the key.
#[derive(Clone)]
enum Cipher {
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
}

/// The configuration string of Beego's provider.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoCookieSettings {
    #[serde(default)]
    cookie_name: String,
    #[serde(default)]
    security_key: String,
    #[serde(default)]
    block_key: String,
    #[serde(default)]
    security_name: String,
    #[serde(default)]
    maxage: u64,
}

impl BeegoCookies {
    /// Reads the settings of Beego's provider: the JSON of its `ProviderConfig`.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, go::BeegoCookies};
    ///
    /// let settings = r#"{"cookieName":"gosessionid","securityKey":"beegocookiehashkey",
    ///     "blockKey":"0123456789abcdef","securityName":"beegosessionname"}"#;
    /// assert_eq!(BeegoCookies::from_json(settings)?.cookie_name(), "gosessionid");
    /// let error = BeegoCookies::from_json(r#"{"cookieName":"gosessionid"}"#).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("securityKey"));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `cookieName`, `securityKey`, `securityName` or a `blockKey` of 16, 24 or 32 bytes is missing. Beego
    /// then generates random ones for each process, and no other process can open its cookies.
    pub fn from_json(text: &str) -> Result<Self> {
        let config = |error: BeegoCookieError| Error::new(ErrorKind::Config, error);
        let settings: GoCookieSettings =
            serde_json::from_str(text).map_err(|_| config(BeegoCookieError::Settings))?;
        let needed = [
            ("cookieName", settings.cookie_name.is_empty()),
            ("securityKey", settings.security_key.is_empty()),
            ("securityName", settings.security_name.is_empty()),
        ];
        if let Some((key, _)) = needed.into_iter().find(|(_, missing)| *missing) {
            return Err(config(BeegoCookieError::Missing { key }));
        }
        let cipher = Cipher::new(settings.block_key.as_bytes());
        Ok(BeegoCookies {
            cookie: settings.cookie_name.into(),
            security_key: settings.security_key.into_bytes().into(),
            security_name: settings.security_name.into(),
            cipher: cipher.ok_or_else(|| config(BeegoCookieError::BlockKey))?,
            // The default of Beego.
            max_age: Duration::from_secs(if settings.maxage == 0 { 3600 } else { settings.maxage }),
        })
    }

    /// Returns the name of the cookie.
    pub fn cookie_name(&self) -> &str {
        &self.cookie
    }

    /// Opens a cookie's `value`, as the client sent it, at the time `now`.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, go::BeegoCookies};
    /// use std::time::SystemTime;
    ///
    /// # let settings = r#"{"cookieName":"gosessionid","securityKey":"beegocookiehashkey",
    /// #     "blockKey":"0123456789abcdef","securityName":"beegosessionname"}"#;
    /// let cookies = BeegoCookies::from_json(settings)?;
    /// let forged = "MTc5NTM4MDA4OHxuM1IyVUxrOTctRndRalF5WFN3SEtGbw==";
    /// assert_eq!(cookies.open(forged, SystemTime::now()).unwrap_err().kind(), ErrorKind::Corrupt);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] if it is older than `maxage` seconds; [`ErrorKind::Corrupt`] if it was not sealed with these keys.
    pub fn open(&self, value: &str, now: SystemTime) -> Result<GoSession> {
        let (sealed_at, gob) =
            self.unseal(value).ok_or_else(|| Error::new(ErrorKind::Corrupt, BeegoCookieError::Seal))?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if sealed_at > now || sealed_at < now.saturating_sub(self.max_age.as_secs()) {
            return Err(Error::new(ErrorKind::Gone, BeegoCookieError::Age));
        }
        GoSession::read(Codec::GOB, &gob)
    }

    /// Returns the time of sealing, in seconds since 1970, and the gob.
    fn unseal(&self, value: &str) -> Option<(u64, Vec<u8>)> {
        if value.len() > MAX_COOKIE {
            return None;
        }
        let outer = BASE64URL.decode(value.replace("%3D", "=").replace("%3d", "=").as_bytes()).ok()?;
        let bar = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'|');
        let time = bar(&outer)?;
        let body = bar(&outer[time + 1..])? + time + 1;
        let (signed, tag) = outer.split_at(body + 1);
        if !self.is_signed(signed, tag) {
            return None;
        }
        let sealed_at = std::str::from_utf8(&outer[..time]).ok()?.parse().ok()?;
        let sealed = BASE64URL.decode(&outer[time + 1..body]).ok()?;
        let (start, mut gob) =
            sealed.split_first_chunk::<BLOCK>().map(|(start, rest)| (*start, rest.to_vec()))?;
        self.cipher.count(start, &mut gob);
        Some((sealed_at, gob))
    }

    /// Verifies the HMAC, which is SHA-256 in 2.x and SHA-1 in 1.4. The signed text begins with the name, which is not sent.
    fn is_signed(&self, signed: &[u8], tag: &[u8]) -> bool {
        let name = self.security_name.as_bytes();
        match tag.len() {
            32 => Hmac::<Sha256>::new_from_slice(&self.security_key).is_ok_and(|mac| {
                mac.chain_update(name).chain_update(b"|").chain_update(signed).verify_slice(tag).is_ok()
            }),
            20 => Hmac::<Sha1>::new_from_slice(&self.security_key).is_ok_and(|mac| {
                mac.chain_update(name).chain_update(b"|").chain_update(signed).verify_slice(tag).is_ok()
            }),
            _ => false,
        }
    }
}

impl Cipher {
    fn new(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Cipher::Aes128(Box::new(Aes128::new_from_slice(key).ok()?)),
            24 => Cipher::Aes192(Box::new(Aes192::new_from_slice(key).ok()?)),
            32 => Cipher::Aes256(Box::new(Aes256::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    /// Applies counter mode, which is its own inverse. The counter starts at `start`, as one big-endian number.
    fn count(&self, start: [u8; BLOCK], bytes: &mut [u8]) {
        let mut counter = u128::from_be_bytes(start);
        for piece in bytes.chunks_mut(BLOCK) {
            let mut block = counter.to_be_bytes().into();
            match self {
                Cipher::Aes128(cipher) => cipher.encrypt_block(&mut block),
                Cipher::Aes192(cipher) => cipher.encrypt_block(&mut block),
                Cipher::Aes256(cipher) => cipher.encrypt_block(&mut block),
            }
            piece.iter_mut().zip(block.iter()).for_each(|(byte, key)| *byte ^= key);
            counter = counter.wrapping_add(1);
        }
    }
}

impl fmt::Debug for BeegoCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeegoCookies").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
enum BeegoCookieError {
    #[error("expected the JSON object of Beego's cookie provider, found something else")]
    Settings,
    #[error(
        "{key}: expected the value of Beego's cookie provider, found none; without it each Beego process generates its own"
    )]
    Missing { key: &'static str },
    #[error(
        "blockKey: expected 16, 24 or 32 bytes, found none or another number; without it each Beego process generates its own"
    )]
    BlockKey,
    #[error("expected a cookie that Beego has sealed with these keys, found another value")]
    Seal,
    #[error("the cookie is older than maxage, or from the future")]
    Age,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_cookies_open_to_the_values_set() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/beego/cookie.json");
        let cases: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut opened = 0;
        for case in &cases {
            let config = &case["provider_config"];
            let Ok(cookies) = BeegoCookies::from_json(&config.to_string()) else {
                assert!(config.get("blockKey").is_none(), "{config}");
                continue;
            };
            let mut expected: Vec<&str> = Vec::new();
            for step in case["steps"].as_array().unwrap() {
                let request = step["req"].as_str().unwrap();
                for (start, key) in [("GET /set?k=username", "username"), ("GET /seti?k=n", "n")] {
                    if request.starts_with(start) {
                        expected.push(key);
                    }
                }
                for set in step["set_cookie"].as_array().into_iter().flatten() {
                    let value = set.as_str().unwrap().strip_prefix("gosessionid=").unwrap();
                    let value = value.split(';').next().unwrap();
                    let sealed = BASE64URL.decode(value.replace("%3D", "=").as_bytes()).unwrap_or_default();
                    let Some(time) = std::str::from_utf8(sealed.get(..10).unwrap_or_default()).ok() else {
                        continue;
                    };
                    let Ok(seconds) = time.parse::<u64>() else { continue };
                    let now = UNIX_EPOCH + Duration::from_secs(seconds);
                    let session =
                        cookies.open(value, now).unwrap_or_else(|error| panic!("{request}: {error}"));
                    let mut keys = session.keys().unwrap();
                    keys.sort();
                    let mut expected = expected.clone();
                    expected.sort_unstable();
                    assert_eq!(keys, expected, "{} {}: {request}", case["server"], case["case"]);
                    if keys.contains(&"username".to_owned()) {
                        assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
                    }
                    if request.starts_with("GET /incr") {
                        assert_eq!(session.get::<u8>("n").unwrap(), Some(42));
                    }
                    opened += 1;

                    let kind = |value: &str, now| cookies.open(value, now).unwrap_err().kind();
                    assert_eq!(kind(value, now + Duration::from_secs(3601)), ErrorKind::Gone);
                    assert_eq!(kind(value, now - Duration::from_secs(1)), ErrorKind::Gone);
                    let place = value.len() / 2;
                    let other = if &value[place..=place] == "A" { "B" } else { "A" };
                    let broken = [&value[..place], other, &value[place + 1..]].concat();
                    assert_eq!(kind(&broken, now), ErrorKind::Corrupt);
                    assert_eq!(kind(&value[..place], now), ErrorKind::Corrupt);
                    // These decrypt, but the signature is for another key, another name, or another time.
                    for (setting, other) in [("securityKey", "other"), ("securityName", "other")] {
                        let mut config = config.clone();
                        config[setting] = other.into();
                        let others = BeegoCookies::from_json(&config.to_string()).unwrap();
                        assert_eq!(
                            others.open(value, now).unwrap_err().kind(),
                            ErrorKind::Corrupt,
                            "{setting}"
                        );
                    }
                    let mut later = sealed.clone();
                    later[..10].copy_from_slice((seconds + 60).to_string().as_bytes());
                    let later = BASE64URL.encode(&later);
                    assert_eq!(kind(&later, now + Duration::from_secs(60)), ErrorKind::Corrupt);
                    let mut tag = sealed.clone();
                    *tag.last_mut().unwrap() ^= 1;
                    assert_eq!(kind(&BASE64URL.encode(&tag), now), ErrorKind::Corrupt);
                }
            }
        }
        assert!(opened >= 20, "{opened}");
    }

    #[test]
    fn keys_that_beego_would_generate_are_required() {
        let error = |text: &str| BeegoCookies::from_json(text).unwrap_err();
        for (text, expected) in [
            ("", "expected the JSON object"),
            (r#"{"cookieName":"a"}"#, "securityKey: expected"),
            (r#"{"cookieName":"a","securityKey":"b","securityName":"c"}"#, "blockKey: expected 16"),
            (
                r#"{"cookieName":"a","securityKey":"b","securityName":"c","blockKey":"hunter2"}"#,
                "blockKey: expected 16",
            ),
        ] {
            assert_eq!(error(text).kind(), ErrorKind::Config);
            assert!(error(text).to_string().contains(expected), "{text}");
            assert!(!format!("{:?}", error(text)).contains("hunter2"));
        }
    }
}
