//! Strings as Beego's `redis` provider keeps them: the value under the bare id, with a time to live.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{Cmd, Value};

use super::call::{Caller, Repeat};
use super::error::StoreError;
use super::script::{Answer, Script};
use crate::clock::{Clock, Millis};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::foreign::{Found, Life, Values};
use crate::provider::{Capabilities, Collected, Created, Cursor, Renamed, Touched, Updated};

/// The one partition of a server that is no cluster.
const ONLY: u16 = 0;
/// How long a value that cannot be read is kept aside: a week, in milliseconds.
const ASIDE: &str = "604800000";

static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local value = call('GET', KEYS[1])
     if not value then return false end
     return {value, call('PTTL', KEYS[1])}",
    )
});
static INSERT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if call('EXISTS', KEYS[1]) == 1 then return 3 end
     call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
     return 0",
    )
});
static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local value = call('GET', KEYS[1])
     if not value then return 2 end
     if value ~= ARGV[3] then return 1 end
     call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
     return 0",
    )
});
static TOUCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local left = call('PTTL', KEYS[1])
     if left == -2 then return 2 end
     if left < tonumber(ARGV[1]) then call('PEXPIRE', KEYS[1], ARGV[1]) end
     return 0",
    )
});
static RENAME: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local value = call('GET', KEYS[1])
     if not value then return 2 end
     if value ~= ARGV[3] then return 1 end
     if call('EXISTS', KEYS[2]) == 1 then return 3 end
     call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
     call('DEL', KEYS[1])
     return 0",
    )
});
static REMOVE: LazyLock<Script> =
    LazyLock::new(|| Script::new("if call('DEL', KEYS[1]) == 1 then return 0 else return 2 end"));
static PUT_ASIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if call('GET', KEYS[1]) ~= ARGV[1] then return 1 end
     call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
     call('DEL', KEYS[1])
     return 0",
    )
});

static PUT_STRANGER_ASIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local kind = call('TYPE', KEYS[1]).ok
     if kind == 'none' or kind == 'string' then return 1 end
     call('RENAME', KEYS[1], KEYS[2])
     call('PEXPIRE', KEYS[2], ARGV[1])
     return 0",
    )
});

/// The values of one server. A clone is a handle on the same.
#[derive(Clone)]
pub(super) struct Strings {
    caller: Arc<Caller>,
    clock: Clock,
    /// How long a value lives unused.
    lifetime: Duration,
    /// Under what a value is put aside.
    prefix: Box<str>,
}

impl Strings {
    pub(super) fn new(caller: Caller, clock: Clock, lifetime: Duration, prefix: &str) -> Self {
        Strings { caller: Arc::new(caller), clock, lifetime, prefix: prefix.into() }
    }

    async fn ask(&self, script: &Script, keys: &[String], args: &[&[u8]], repeat: Repeat) -> Result<Answer> {
        let form = StoreError::Form { expected: "our script's answer" };
        match self.caller.run(ONLY, &script.call(keys, args), repeat, self.caller.deadline()).await? {
            Value::Int(number) => Ok(Answer::of(number).ok_or(form)?),
            _ => Err(form.into()),
        }
    }

    /// The time to live of a value that ends at `life.deadline`, in milliseconds; Redis takes none of zero.
    fn time_to_live(&self, life: Life) -> String {
        Millis::of(life.deadline.since(self.clock.millis())).max(1).to_string()
    }

    /// Puts aside a value that is no string: it cannot be read at all, and would be an error for ever.
    async fn put_stranger_aside(&self, key: &StoreKey) {
        let keys = [own(key), self.aside(key)];
        match self.ask(&PUT_STRANGER_ASIDE, &keys, &[ASIDE.as_bytes()], Repeat::IfNotDone).await {
            Ok(_) => tracing::warn!("what is no session of Beego's was put aside in Redis, for a week"),
            Err(error) => tracing::warn!(%error, "what is no session of Beego's could not be put aside"),
        }
    }

    fn aside(&self, key: &StoreKey) -> String {
        format!("{}:corrupt:{}", self.prefix, key.as_str())
    }

    /// Every key that has the form of an id. Other applications' keys may lie beside them.
    async fn keys(&self) -> Result<BTreeSet<StoreKey>> {
        let (mut keys, mut cursor) = (BTreeSet::new(), "0".to_owned());
        loop {
            let mut command = Cmd::new();
            command.arg("SCAN").arg(&cursor).arg("COUNT").arg(1000).arg("TYPE").arg("string");
            let answer = self.caller.read(ONLY, command).await?;
            let page: Result<(String, Vec<Vec<u8>>), _> = redis::from_redis_value(answer);
            let (next, names) = page.map_err(|_| StoreError::Form { expected: "SCAN" })?;
            let names = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
            keys.extend(names.filter(|name| is_id(name)).filter_map(|name| name.parse().ok()));
            if next == "0" {
                return Ok(keys);
            }
            cursor = next;
        }
    }
}

/// Whether a key ends as Beego's ids do: with the hex of 16 bytes or more.
fn is_id(name: &str) -> bool {
    let hex = name.bytes().rev().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
    hex >= 32
}

fn own(key: &StoreKey) -> String {
    key.as_str().to_owned()
}

impl Values for Strings {
    fn capabilities(&self) -> Capabilities {
        Capabilities { shared: true, native_expiry: true, ..Capabilities::new("redis") }
    }

    async fn read(&self, key: &StoreKey) -> Result<Option<Found>> {
        let form = StoreError::Form { expected: "our script's answer" };
        let answer = self.caller.ask(ONLY, &READ.call(&[own(key)], &[])).await;
        if let Err(StoreError::NoRecord) = answer {
            Box::pin(self.put_stranger_aside(key)).await;
        }
        match answer? {
            Value::Nil => Ok(None),
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::BulkString(value), Value::Int(left)]) => {
                    // A value that was left without an end has begun to have one.
                    let left = u64::try_from(left).map_or(self.lifetime, Duration::from_millis);
                    let now = self.clock.millis();
                    let used = now.before(self.lifetime.saturating_sub(left));
                    Ok(Some(Found { value, life: Life { used, deadline: now.after(left) } }))
                }
                _ => Err(form.into()),
            },
            _ => Err(form.into()),
        }
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created> {
        let time = self.time_to_live(life);
        match self.ask(&INSERT, &[own(key)], &[value, time.as_bytes()], Repeat::IfNotDone).await? {
            Answer::Done => Ok(Created::Done),
            _ => Ok(Created::Taken),
        }
    }

    async fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Updated> {
        let time = self.time_to_live(life);
        let args = [value, time.as_bytes(), former];
        match self.ask(&SWAP, &[own(key)], &args, Repeat::IfNotDone).await? {
            Answer::Done => Ok(Updated::Done),
            Answer::Stale => Ok(Updated::Stale),
            _ => Ok(Updated::Gone),
        }
    }

    async fn touch(&self, key: &StoreKey, used: Millis) -> Result<Touched> {
        let time = self.time_to_live(Life { used, deadline: used.after(self.lifetime) });
        match self.ask(&TOUCH, &[own(key)], &[time.as_bytes()], Repeat::Freely).await? {
            Answer::Done => Ok(Touched::Done),
            _ => Ok(Touched::Gone),
        }
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Renamed> {
        let time = self.time_to_live(life);
        let args = [value, time.as_bytes(), former];
        match self.ask(&RENAME, &[own(old), own(new)], &args, Repeat::IfNotDone).await? {
            Answer::Done => Ok(Renamed::Done),
            Answer::Stale => Ok(Renamed::Stale),
            Answer::Taken => Ok(Renamed::Taken),
            _ => Ok(Renamed::Gone),
        }
    }

    async fn remove(&self, key: &StoreKey) -> Result<bool> {
        Ok(self.ask(&REMOVE, &[own(key)], &[], Repeat::IfNotDone).await? == Answer::Done)
    }

    async fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<()> {
        let keys = [own(key), self.aside(key)];
        let args = [value, ASIDE.as_bytes()];
        if self.ask(&PUT_ASIDE, &keys, &args, Repeat::IfNotDone).await? == Answer::Done {
            tracing::warn!("a session of Beego's cannot be read; it was put aside in Redis, for a week");
        }
        Ok(())
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.keys().await?.len() as u64)
    }

    async fn remove_expired(&self, _: usize) -> Result<Collected> {
        // Redis does it by itself.
        Ok(Collected::default())
    }

    /// Redis's own cursor may meet a key twice, so each page is cut from all keys.
    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(StoreKey, Found)>, Option<Cursor>)> {
        let (mut page, mut last) = (Vec::new(), None);
        let after = cursor.as_ref().map_or("", Cursor::as_str);
        for key in self.keys().await?.into_iter().filter(|key| key.as_str() > after) {
            if page.len() == limit {
                return Ok((page, last.map(|last: StoreKey| Cursor::new(last.as_str()))));
            }
            if let Some(found) = self.read(&key).await? {
                page.push((key.clone(), found));
                last = Some(key);
            }
        }
        Ok((page, None))
    }
}
