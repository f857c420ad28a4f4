//! Weak keys: widely known ones, and patterns.

use std::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;

/// The minimum number of different bytes in a key. 32 random bytes have fewer with a probability below 2^-100.
const MIN_DISTINCT: usize = 8;

/// Keys of at least 32 bytes from documentation and templates. Shorter ones are refused for their length.
const KNOWN: &[&[u8]] = &[
    // Flask's documentation, in hex.
    b"192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    // Apache Superset's templates: CVE-2023-27524.
    b"CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET",
    b"YOUR_OWN_RANDOM_GENERATED_SECRET_KEY",
    // Placeholders for a key of 32 characters.
    b"abcdefghijklmnopqrstuvwxyz012345",
    b"abcdefghijklmnopqrstuvwxyz123456",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345",
    b"12345678901234567890123456789012",
    b"your-32-byte-long-auth-key-here!",
    b"super-secret-key-that-is-32-chars",
    b"this-is-a-secret-key-for-testing",
];

/// The weakness of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weakness {
    Known,
    Repeats,
    Counts,
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weakness::Known => "expected a secret sealing key, found one that is widely known",
            Weakness::Repeats => "expected a random sealing key, found one that repeats itself",
            Weakness::Counts => "expected a random sealing key, found one that counts up or down",
        })
    }
}

pub(super) fn weakness(key: &[u8]) -> Option<Weakness> {
    let known = |known: &&[u8]| {
        **known == *key || HEXLOWER_PERMISSIVE.decode(known).is_ok_and(|decoded| decoded == key)
    };
    if KNOWN.iter().any(known) {
        return Some(Weakness::Known);
    }
    let mut distinct = [false; 256];
    key.iter().for_each(|&byte| distinct[usize::from(byte)] = true);
    let few = distinct.iter().filter(|there| **there).count() < MIN_DISTINCT;
    let periodic = (1..=key.len() / 2).any(|period| key[period..].iter().eq(&key[..key.len() - period]));
    if few || periodic {
        return Some(Weakness::Repeats);
    }
    let step = key.get(1)?.wrapping_sub(*key.first()?);
    key.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step).then_some(Weakness::Counts)
}
