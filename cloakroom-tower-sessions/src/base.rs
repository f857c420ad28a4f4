//! The reserved keys: the version in loaded data, and the writer in stored data.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloakroom::providers::{Meta, Record, StoreKey};
use cloakroom::{Principal, Result};
use serde_json::{Value, json};

use crate::requests::{Data, Fingerprint, Seen};

/// The key in loaded data that holds the version, and what else of the record a save needs. It is never stored.
const VERSION: &str = "cloakroom.version";
/// The key in stored data that holds the fingerprint of the request that stored it. It is never loaded.
const WRITER: &str = "cloakroom.writer";

/// Returns true if an application cannot use this key.
pub(crate) fn is_reserved(key: &str) -> bool {
    key == VERSION || key == WRITER
}

/// The stored record that a request's data was made from, without its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Base {
    pub(crate) key: StoreKey,
    pub(crate) seen: Seen,
    created: SystemTime,
    /// The user and the time of the login.
    login: Option<(Principal, SystemTime)>,
}

impl Base {
    pub(crate) fn of(key: &StoreKey, record: &Record, digest: u64) -> Base {
        let meta = record.meta();
        let seen = Seen { version: meta.version(), digest };
        let login = meta.principal().cloned().zip(meta.authenticated());
        Base { key: key.clone(), seen, created: meta.created(), login }
    }

    /// Reads what [`put_into`](Self::put_into) has written. Other values count as none.
    pub(crate) fn read(data: &Data) -> Option<Base> {
        let parts = data.get(VERSION)?.as_array()?;
        let [version, digest, key, created, user, login] = parts.as_slice() else { return None };
        let login = match (user.as_str(), login.as_u64()) {
            (Some(user), Some(at)) => Some((Principal::new(user).ok()?, time(at))),
            _ => None,
        };
        Some(Base {
            key: key.as_str()?.parse().ok()?,
            seen: Seen { version: version.as_u64()?, digest: digest.as_u64()? },
            created: time(created.as_u64()?),
            login,
        })
    }

    pub(crate) fn put_into(&self, data: &mut Data) {
        let (user, at) = match &self.login {
            Some((user, at)) => (Some(user.as_str()), Some(millis(*at))),
            None => (None, None),
        };
        let Seen { version, digest } = self.seen;
        let parts = json!([version, digest, self.key.as_str(), millis(self.created), user, at]);
        data.insert(VERSION.to_owned(), parts);
    }

    /// Returns the metadata of the next record, which `principal` owns.
    pub(crate) fn next(&self, principal: Option<Principal>, now: SystemTime, ends: SystemTime) -> Meta {
        let meta = Meta::begin(self.created, ends).with_version(self.seen.version.saturating_add(1));
        let meta = meta.with_last_active(now);
        let Some(principal) = principal else { return meta };
        let same = self.login.as_ref().filter(|(user, _)| *user == principal);
        let login = same.map_or(now, |(_, at)| *at);
        meta.with_principal(principal, login)
    }

    /// Returns a record with this version, for [`Provider::update`](cloakroom::Provider::update).
    ///
    /// A provider that compares data in place of the version answers `Stale`, since no stored record has this data. The caller then loads
    /// the record itself.
    pub(crate) fn stand_in(&self) -> Result<Record> {
        let meta = Meta::begin(self.created, self.created).with_version(self.seen.version);
        Record::encode(&meta, &json!({ VERSION: null }), 100)
    }
}

/// Returns the values of a record, with its writer.
pub(crate) fn values_of(record: &Record) -> Result<(Data, Option<Fingerprint>)> {
    let mut values: Data = record.decode()?;
    values.remove(VERSION);
    let writer = values.remove(WRITER).and_then(|writer| writer.as_u64()).map(Fingerprint);
    Ok((values, writer))
}

/// Returns the values as they are stored: the application's own, and the writer.
pub(crate) fn stored<'a>(values: &'a Data, writer: &'a Value) -> BTreeMap<&'a str, &'a Value> {
    let own = values.iter().filter(|(key, _)| !is_reserved(key)).map(|(key, value)| (key.as_str(), value));
    own.chain([(WRITER, writer)]).collect()
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(login: Option<(Principal, SystemTime)>) -> Base {
        let seen = Seen { version: u64::MAX - 1, digest: u64::MAX };
        Base { key: "some-key".parse().unwrap(), seen, created: time(1_700_000_000_123), login }
    }

    #[test]
    fn a_base_is_read_back_from_the_data() {
        let alice = Principal::new("alice").unwrap();
        for base in [base(None), base(Some((alice, time(1_700_000_000_456))))] {
            let mut data = Data::new();
            base.put_into(&mut data);
            assert_eq!(Base::read(&data), Some(base));
        }
    }

    #[test]
    fn other_values_under_the_reserved_key_are_no_base() {
        assert_eq!(Base::read(&Data::new()), None);
        for value in [json!(null), json!(7), json!([]), json!([1, 2, 3]), json!([1, 2, "../", 3, null, null])]
        {
            let data = Data::from([(VERSION.to_owned(), value)]);
            assert_eq!(Base::read(&data), None, "{data:?}");
        }
    }

    #[test]
    fn a_login_keeps_its_time_until_the_user_changes() {
        let [alice, bob] = ["alice", "bob"].map(|name| Principal::new(name).unwrap());
        let (login, now) = (time(5_000), time(9_000));
        let base = base(Some((alice.clone(), login)));
        let next = |user| base.next(user, now, time(20_000));
        assert_eq!(next(Some(alice)).authenticated(), Some(login));
        assert_eq!(next(Some(bob)).authenticated(), Some(now));
        let anonymous = next(None);
        assert_eq!((anonymous.principal(), anonymous.authenticated()), (None, None));
        assert_eq!(
            (anonymous.version(), anonymous.created(), anonymous.last_active()),
            (u64::MAX, base.created, now)
        );
        assert_eq!(anonymous.expires(), time(20_000));
    }

    #[test]
    fn reserved_keys_are_stored_for_the_writer_alone() {
        let mut data = Data::from([("n".to_owned(), json!(1))]);
        base(None).put_into(&mut data);
        let meta = base(None).next(None, time(0), time(1));
        let writer = json!(77);
        let record = Record::encode(&meta, &stored(&data, &writer), 1000).unwrap();
        let raw: Data = record.decode().unwrap();
        assert_eq!(raw, Data::from([("n".to_owned(), json!(1)), (WRITER.to_owned(), json!(77))]));
        let (values, writer) = values_of(&record).unwrap();
        assert_eq!((values, writer), (Data::from([("n".to_owned(), json!(1))]), Some(Fingerprint(77))));
    }
}
