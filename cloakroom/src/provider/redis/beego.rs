//! The storage of Beego's `redis` provider: a string under the bare session id, with a time to live.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{Cmd, Value};

use super::client::{CallKind, RedisClient};
use super::error::StoreError;
use super::script::{Script, ScriptOutcome};
use crate::clock::{Clock, Millis};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::foreign::{FoundValue, Life, Values};
use crate::provider::{Capabilities, Collected, Created, Cursor, Renamed, Touched, Updated};

/// The only partition of a single server.
const ONLY: u16 = 0;
/// The time for which an unreadable value is kept: a week, in milliseconds.
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

static PUT_NON_STRING_ASIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local kind = call('TYPE', KEYS[1]).ok
     if kind == 'none' or kind == 'string' then return 1 end
     call('RENAME', KEYS[1], KEYS[2])
     call('PEXPIRE', KEYS[2], ARGV[1])
     return 0",
    )
});

/// The sessions of a Beego service on one server. A clone is a handle on the same store.
#[derive(Clone)]
pub(super) struct BeegoValues {
    client: Arc<RedisClient>,
    clock: Clock,
    /// The idle timeout: the time for which an unused value lives.
    lifetime: Duration,
    /// The prefix of the keys under which unreadable values are set aside.
    prefix: Box<str>,
}

impl BeegoValues {
    pub(super) fn new(client: RedisClient, clock: Clock, lifetime: Duration, prefix: &str) -> Self {
        BeegoValues { client: Arc::new(client), clock, lifetime, prefix: prefix.into() }
    }

    async fn run_script(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
        kind: CallKind,
    ) -> Result<ScriptOutcome> {
        let form = StoreError::Form { expected: "our script's answer" };
        match self.client.run(ONLY, &script.call(keys, args), kind, self.client.deadline()).await? {
            Value::Int(number) => Ok(ScriptOutcome::of(number).ok_or(form)?),
            _ => Err(form.into()),
        }
    }

    /// Returns the time to live of a value that ends at `life.deadline`, in milliseconds. It is at least 1: Redis refuses 0.
    fn time_to_live(&self, life: Life) -> String {
        Millis::count_in(life.deadline.since(self.clock.millis())).max(1).to_string()
    }

    /// Sets aside a value that is not a string. It cannot be read, and would be an error on every request.
    async fn put_non_string_aside(&self, key: &StoreKey) {
        let keys = [own(key), self.aside(key)];
        match self
            .run_script(&PUT_NON_STRING_ASIDE, &keys, &[ASIDE.as_bytes()], CallKind::NotIdempotent)
            .await
        {
            Ok(_) => tracing::warn!("a Redis value that is not a string was set aside for a week"),
            Err(error) => tracing::warn!(%error, "a Redis value that is not a string could not be set aside"),
        }
    }

    fn aside(&self, key: &StoreKey) -> String {
        format!("{}:corrupt:{}", self.prefix, key.as_str())
    }

    /// Returns every key that has the form of a session id. The database may hold keys of other applications too.
    async fn keys(&self) -> Result<BTreeSet<StoreKey>> {
        let (mut keys, mut cursor) = (BTreeSet::new(), "0".to_owned());
        loop {
            let mut command = Cmd::new();
            command.arg("SCAN").arg(&cursor).arg("COUNT").arg(1000).arg("TYPE").arg("string");
            let answer = self.client.read(ONLY, command).await?;
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

/// Returns true if a key ends like Beego's ids: with 32 or more hexadecimal digits, which are 16 bytes.
fn is_id(name: &str) -> bool {
    let hex = name.bytes().rev().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
    hex >= 32
}

fn own(key: &StoreKey) -> String {
    key.as_str().to_owned()
}

impl Values for BeegoValues {
    fn capabilities(&self) -> Capabilities {
        Capabilities { shared: true, native_expiry: true, ..Capabilities::new("redis") }
    }

    async fn read(&self, key: &StoreKey) -> Result<Option<FoundValue>> {
        let form = StoreError::Form { expected: "our script's answer" };
        let answer = self.client.ask(ONLY, &READ.call(&[own(key)], &[])).await;
        if let Err(StoreError::NotARecord) = answer {
            Box::pin(self.put_non_string_aside(key)).await;
        }
        match answer? {
            Value::Nil => Ok(None),
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::BulkString(value), Value::Int(left)]) => {
                    // A value without a time to live counts as used just now.
                    let left = u64::try_from(left).map_or(self.lifetime, Duration::from_millis);
                    let now = self.clock.millis();
                    let used = now.before(self.lifetime.saturating_sub(left));
                    Ok(Some(FoundValue { value, life: Life { used, deadline: now.after(left) } }))
                }
                _ => Err(form.into()),
            },
            _ => Err(form.into()),
        }
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created> {
        let time = self.time_to_live(life);
        match self
            .run_script(&INSERT, &[own(key)], &[value, time.as_bytes()], CallKind::NotIdempotent)
            .await?
        {
            ScriptOutcome::Done => Ok(Created::Done),
            _ => Ok(Created::Taken),
        }
    }

    async fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Updated> {
        let time = self.time_to_live(life);
        let args = [value, time.as_bytes(), former];
        match self.run_script(&SWAP, &[own(key)], &args, CallKind::NotIdempotent).await? {
            ScriptOutcome::Done => Ok(Updated::Done),
            ScriptOutcome::Stale => Ok(Updated::Stale),
            _ => Ok(Updated::Gone),
        }
    }

    async fn touch(&self, key: &StoreKey, used: Millis) -> Result<Touched> {
        let time = self.time_to_live(Life { used, deadline: used.after(self.lifetime) });
        match self.run_script(&TOUCH, &[own(key)], &[time.as_bytes()], CallKind::Idempotent).await? {
            ScriptOutcome::Done => Ok(Touched::Done),
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
        match self.run_script(&RENAME, &[own(old), own(new)], &args, CallKind::NotIdempotent).await? {
            ScriptOutcome::Done => Ok(Renamed::Done),
            ScriptOutcome::Stale => Ok(Renamed::Stale),
            ScriptOutcome::Taken => Ok(Renamed::Taken),
            _ => Ok(Renamed::Gone),
        }
    }

    async fn remove(&self, key: &StoreKey) -> Result<bool> {
        Ok(self.run_script(&REMOVE, &[own(key)], &[], CallKind::NotIdempotent).await? == ScriptOutcome::Done)
    }

    async fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<()> {
        let keys = [own(key), self.aside(key)];
        let args = [value, ASIDE.as_bytes()];
        if self.run_script(&PUT_ASIDE, &keys, &args, CallKind::NotIdempotent).await? == ScriptOutcome::Done {
            tracing::warn!("an unreadable Beego session was set aside in Redis for a week");
        }
        Ok(())
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.keys().await?.len() as u64)
    }

    async fn remove_expired(&self, _: usize) -> Result<Collected> {
        // Redis removes expired keys itself.
        Ok(Collected::default())
    }

    /// Reads all keys for each page and returns a part of them, since a cursor of `SCAN` may return a key twice.
    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(StoreKey, FoundValue)>, Option<Cursor>)> {
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
