//! The derivation of store keys from ids.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

use super::text::{Text, is_lower_hex};
use super::{SessionId, StoreKey};

/// The length of a hashed key in characters.
const HASHED_LEN: usize = 64;
/// The length of a tag. 60 bits are enough, since the application chooses the namespaces, and never a visitor.
const TAG_LEN: usize = 10;

/// The way in which a manager derives store keys from ids.
#[derive(Clone, Debug)]
pub(crate) enum Keying {
    /// SHA-256 of namespace and id, for stores that outlive the process.
    Hashed { namespace: Box<str> },
    /// The id after a short tag of the namespace, for stores in this process's memory, which cannot be stolen.
    Tagged { tag: [u8; TAG_LEN] },
    /// The id itself, as Beego documents it.
    Clear,
}

impl Keying {
    pub(crate) fn hashed(namespace: &str) -> Self {
        Keying::Hashed { namespace: namespace.into() }
    }

    pub(crate) fn tagged(namespace: &str) -> Self {
        let digest = Sha256::new().chain_update(b"cloakroom/namespace\0").chain_update(namespace).finalize();
        let text = BASE64URL_NOPAD.encode(&digest[..8]);
        Keying::Tagged { tag: text.as_bytes().first_chunk().copied().unwrap_or_default() }
    }

    /// Returns the mark of a namespace, which a record holds if its key is the plain id.
    pub(crate) fn mark(namespace: &str) -> [u8; 8] {
        let digest = Sha256::new().chain_update(b"cloakroom/namespace\0").chain_update(namespace).finalize();
        digest.first_chunk().copied().unwrap_or_default()
    }

    /// Returns the key of `id`, the text of an id.
    #[inline]
    pub(crate) fn named(&self, id: &[u8]) -> Named {
        match self {
            Keying::Clear => Named { key: StoreKey::of(Text::new(id, b"")), id: IdText::EndOfKey(id.len()) },
            Keying::Tagged { tag } => {
                let key = StoreKey::of(Text::new(tag, id));
                Named { key, id: IdText::EndOfKey(id.len()) }
            }
            Keying::Hashed { namespace } => Keying::hash(namespace, id),
        }
    }

    /// Returns the key that the session had before ids were hashed.
    ///
    /// `None` for an id with the form of a hashed key: an attacker who has read the store could present such a key.
    pub(crate) fn plain_key(&self, name: &Named) -> Option<StoreKey> {
        let id = name.id_bytes();
        let may_be_a_hash = id.len() == HASHED_LEN && id.iter().all(|&byte| is_lower_hex(byte));
        match self {
            Keying::Hashed { .. } if !may_be_a_hash => Some(StoreKey::of(Text::new(id, b""))),
            _ => None,
        }
    }

    /// Returns true if a key contains its id.
    pub(crate) fn tells_ids(&self) -> bool {
        !matches!(self, Keying::Hashed { .. })
    }

    /// Returns the id that `key` contains; `None` if keys are hashes.
    pub(crate) fn named_by(&self, key: &StoreKey) -> Option<Named> {
        let id = match self {
            Keying::Clear => key.as_bytes(),
            Keying::Tagged { tag } => key.as_bytes().strip_prefix(tag)?,
            Keying::Hashed { .. } => return None,
        };
        Some(self.named(id))
    }

    /// Derives a hashed key. It is not part of [`named`](Self::named), so that the other cases can be inlined.
    fn hash(namespace: &str, id: &[u8]) -> Named {
        Named { key: Keying::hashed_key(namespace, id), id: IdText::Apart(Box::from(id)) }
    }

    /// Returns the hashed key alone.
    pub(crate) fn hashed_key(namespace: &str, id: &[u8]) -> StoreKey {
        // No id contains a NUL, so the last one ends the namespace, and two pairs never hash the same bytes.
        let digest = Sha256::new()
            .chain_update(b"cloakroom/key/1\0")
            .chain_update(namespace.as_bytes())
            .chain_update(b"\0")
            .chain_update(id)
            .finalize();
        let mut hex = [0; HASHED_LEN];
        HEXLOWER.encode_mut(&digest, &mut hex);
        StoreKey::of(Text::new(&hex, b""))
    }
}

/// The key of a session, with the id that it was derived from.
#[derive(Clone)]
pub(crate) struct Named {
    key: StoreKey,
    id: IdText,
}

/// The location of an id's text. Most keys in memory end with it, and a copy would cost every request.
#[derive(Clone)]
enum IdText {
    /// The id is the last bytes of the key, this many.
    EndOfKey(usize),
    Apart(Box<[u8]>),
}

impl Named {
    /// Returns an id under a key that it was not derived from, such as another library's id.
    pub(crate) fn apart(id: &[u8], key: StoreKey) -> Named {
        Named { key, id: IdText::Apart(id.into()) }
    }

    pub(crate) fn key(&self) -> &StoreKey {
        &self.key
    }

    pub(crate) fn id(&self) -> SessionId {
        SessionId::of(self.id_bytes())
    }

    pub(crate) fn id_bytes(&self) -> &[u8] {
        match &self.id {
            IdText::EndOfKey(len) => &self.key.as_bytes()[self.key.as_bytes().len() - len..],
            IdText::Apart(id) => id,
        }
    }

    /// Returns the same id with another key.
    pub(crate) fn to(&self, key: StoreKey) -> Named {
        Named::apart(self.id_bytes(), key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_distinct_keys_even_with_a_common_prefix() {
        let id: SessionId = "Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM".parse().unwrap();
        for keying in [Keying::hashed, Keying::tagged] {
            let keys = ["", "prod", "prod2", "admin"]
                .map(|namespace| keying(namespace).named(id.expose().as_bytes()).key);
            for (place, key) in keys.iter().enumerate() {
                assert!(keys[place + 1..].iter().all(|other| other != key));
            }
        }
        assert_eq!(Keying::Clear.named(id.expose().as_bytes()).key.as_str(), id.expose());
    }

    #[test]
    fn a_hashed_key_is_the_documented_sha256() {
        // printf 'cloakroom/key/1\0shop\0abcd' | sha256sum
        let Named { key, .. } = Keying::hashed("shop").named(b"abcd");
        assert_eq!(key.as_str(), "c34860c604f32ade51f88c056fe9db6143a40486eeb6bc2693cc46f1c89b492e");
        assert_eq!(key.as_str().parse::<StoreKey>().unwrap(), key);
    }

    #[test]
    fn a_key_keeps_the_id_it_was_derived_from() {
        for keying in [Keying::hashed("shop"), Keying::tagged("shop"), Keying::Clear] {
            let named = keying.named(b"some-id");
            assert_eq!(named.id().expose(), "some-id");
            assert_eq!(named.to("other".parse().unwrap()).id().expose(), "some-id");
        }
    }

    #[test]
    fn debug_and_handle_hide_the_id() {
        let id: SessionId = "Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM".parse().unwrap();
        let Named { key, .. } = Keying::Clear.named(id.expose().as_bytes());
        let shown = format!("{id:?} {key:?} {}", key.handle());
        for start in 0..id.expose().len() - 6 {
            assert!(!shown.contains(&id.expose()[start..start + 6]));
        }
    }
}
