//! Numbers as SQLite stores them: 64 bits with a sign.

/// Converts a time or a duration. One that is never reached becomes the greatest number, so that the order of all times stays.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a stored time back.
pub(super) fn unbound(stored: i64) -> u64 {
    match stored {
        i64::MAX => u64::MAX,
        stored => u64::try_from(stored).unwrap_or(0),
    }
}

/// Converts a version, bit by bit: versions are compared for equality alone.
pub(super) fn bound_version(version: u64) -> i64 {
    version.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_store_or_is_never() {
        for (time, stored, back) in [
            (0, 0, 0),
            (1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_000),
            (u64::MAX, i64::MAX, u64::MAX),
            (1 << 63, i64::MAX, u64::MAX),
        ] {
            assert_eq!((bound(time), unbound(bound(time))), (stored, back));
        }
        assert_eq!(unbound(-1), 0);
        assert_ne!(bound_version(u64::MAX), bound_version(u64::MAX >> 1));
    }
}
