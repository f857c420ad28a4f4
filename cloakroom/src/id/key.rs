//! How ids become store keys.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

use super::text::{Text, is_lower_hex};
use super::{SessionId, StoreKey};

/// Characters of a hashed key.
const HASHED_LEN: usize = 64;

/// How a manager turns ids into store keys.
#[derive(Clone, Debug)]
pub(crate) enum Keying {
    /// SHA-256 of namespace and id: for stores that outlive the process.
    Hashed { namespace: Box<str> },
    /// A short tag of the namespace before the id: for stores in this process's memory, which nobody steals.
    Tagged { tag: Box<str> },
    /// The id itself, as the seed documents it.
    Clear,
}

impl Keying {
    pub(crate) fn hashed(namespace: &str) -> Self {
        Keying::Hashed { namespace: namespace.into() }
    }

    pub(crate) fn tagged(namespace: &str) -> Self {
        let digest = Sha256::new().chain_update(b"cloakroom/namespace\0").chain_update(namespace).finalize();
        // 60 bits: namespaces are chosen by the application, never by a visitor.
        Keying::Tagged { tag: BASE64URL_NOPAD.encode(&digest[..8])[..10].into() }
    }

    /// The mark that a record of `namespace` bears where its key is the plain id.
    pub(crate) fn mark(namespace: &str) -> [u8; 8] {
        let digest = Sha256::new().chain_update(b"cloakroom/namespace\0").chain_update(namespace).finalize();
        digest.first_chunk().copied().unwrap_or_default()
    }

    /// The key of `id`, which is an id's text.
    #[inline]
    pub(crate) fn named(&self, id: &[u8]) -> Named {
        match self {
            Keying::Clear => Named { key: StoreKey::of(Text::new(id, b"")), id: IdText::EndOfKey(id.len()) },
            Keying::Tagged { tag } => {
                let key = StoreKey::of(Text::new(tag.as_bytes(), id));
                Named { key, id: IdText::EndOfKey(id.len()) }
            }
            Keying::Hashed { namespace } => Keying::hash(namespace, id),
        }
    }

    /// The key under which a session lay before its id was hashed. None for an id that has the form of a hashed key: it may
    /// be one, and whoever has read the store could present it.
    pub(crate) fn plain_key(&self, name: &Named) -> Option<StoreKey> {
        let id = name.id_bytes();
        let may_be_a_hash = id.len() == HASHED_LEN && id.iter().all(|&byte| is_lower_hex(byte));
        match self {
            Keying::Hashed { .. } if !may_be_a_hash => Some(StoreKey::of(Text::new(id, b""))),
            _ => None,
        }
    }

    /// True if a key holds the id that leads to it.
    pub(crate) fn tells_ids(&self) -> bool {
        !matches!(self, Keying::Hashed { .. })
    }

    /// The id that `key` holds; `None` where keys are hashes.
    pub(crate) fn named_by(&self, key: &StoreKey) -> Option<Named> {
        let id = match self {
            Keying::Clear => key.as_bytes(),
            Keying::Tagged { tag } => key.as_bytes().strip_prefix(tag.as_bytes())?,
            Keying::Hashed { .. } => return None,
        };
        Some(self.named(id))
    }

    /// Apart from [`named`](Self::named), which is small without it.
    fn hash(namespace: &str, id: &[u8]) -> Named {
        // Neither a namespace nor an id holds a NUL, so no two pairs give the same input.
        let digest = Sha256::new()
            .chain_update(b"cloakroom/key/1\0")
            .chain_update(namespace.as_bytes())
            .chain_update(b"\0")
            .chain_update(id)
            .finalize();
        let mut hex = [0; HASHED_LEN];
        HEXLOWER.encode_mut(&digest, &mut hex);
        Named { key: StoreKey::of(Text::new(&hex, b"")), id: IdText::Apart(Box::from(id)) }
    }
}

/// A session's key, and the id that leads to it.
#[derive(Clone)]
pub(crate) struct Named {
    key: StoreKey,
    id: IdText,
}

/// Where an id's text stands: most keys in memory end with it, and copying it would cost every request.
#[derive(Clone)]
enum IdText {
    /// In as many bytes at the end of the key.
    EndOfKey(usize),
    Apart(Box<[u8]>),
}

impl Named {
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

    /// The same id, leading elsewhere.
    pub(crate) fn to(&self, key: StoreKey) -> Named {
        Named { key, id: IdText::Apart(self.id_bytes().into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_separate_namespaces_even_where_one_is_a_prefix_of_the_other() {
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
    fn a_key_leads_back_to_the_id_it_was_made_from() {
        for keying in [Keying::hashed("shop"), Keying::tagged("shop"), Keying::Clear] {
            let named = keying.named(b"some-id");
            assert_eq!(named.id().expose(), "some-id");
            assert_eq!(named.to("other".parse().unwrap()).id().expose(), "some-id");
        }
    }

    #[test]
    fn nothing_that_prints_shows_the_secret() {
        let id: SessionId = "Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM".parse().unwrap();
        let Named { key, .. } = Keying::Clear.named(id.expose().as_bytes());
        let shown = format!("{id:?} {key:?} {}", key.handle());
        for start in 0..id.expose().len() - 6 {
            assert!(!shown.contains(&id.expose()[start..start + 6]));
        }
    }
}
