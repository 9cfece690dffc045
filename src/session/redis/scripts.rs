//! What the server does in one step. Every script touches the keys of one session, or of one group, alone.

use std::{sync::LazyLock, time::Duration};

use redis::{Pipeline, RedisResult, Script, ScriptInvocation, aio::MultiplexedConnection};

use crate::clock::Timestamp;

/// What a session's keys hold when they are written.
pub(super) struct Fields {
    pub(super) directory: Vec<u8>,
    pub(super) access: Vec<u8>,
    pub(super) failures: String,
    /// When the session ends however much it is used.
    pub(super) ends_at: Timestamp,
}

/// Makes every script known to the server, so that none is sent a second time because it was not: what is sent in an order
/// stays in it.
pub(super) async fn load(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    for script in [&RENEW, &FAIL, &REMOVE, &TOUCH, &INDEX, &SIGN_OUT, &LEASE, &KEEP_LEASE] {
        script.load_async(connection).await?;
    }
    Ok(())
}

/// For how long a key is kept that is of use until `end`. Redis counts by its own clock.
pub(super) fn life(end: Timestamp, now: Timestamp) -> u64 {
    end.since(now).as_secs().max(1)
}

/// Writes a new session.
pub(super) fn insert(
    session: &str,
    last_used: &str,
    fields: &Fields,
    now: Timestamp,
    idle: Duration,
) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    pipeline.cmd("HSET").arg(session).arg("v").arg(1).arg("d").arg(&fields.directory);
    pipeline.arg("t").arg(&fields.access).arg("f").arg(&fields.failures);
    pipeline.cmd("EXPIRE").arg(session).arg(life(fields.ends_at, now));
    pipeline.cmd("SET").arg(last_used).arg(now.as_unix()).arg("EX").arg(idle.as_secs().max(1));
    pipeline
}

/// What a script says of a session that was not as it was seen.
pub(super) const GONE: i64 = 0;
pub(super) const OVERTAKEN: i64 = 1;

/// Writes new tokens into a session of this version.
pub(super) fn renew(
    session: &str,
    version: u64,
    fields: &Fields,
    now: Timestamp,
) -> ScriptInvocation<'static> {
    let mut script = RENEW.key(session);
    script.arg(version).arg(&fields.directory).arg(&fields.access).arg(&fields.failures);
    script.arg(life(fields.ends_at, now));
    script
}

/// Writes what is known of failed refreshes into a session of this version.
pub(super) fn fail(session: &str, version: u64, failures: &str) -> ScriptInvocation<'static> {
    let mut script = FAIL.key(session);
    script.arg(version).arg(failures);
    script
}

/// Ends a session, of any version or of this one alone.
pub(super) fn remove(session: &str, last_used: &str, version: Option<u64>) -> ScriptInvocation<'static> {
    let mut script = REMOVE.key(session);
    script.key(last_used).arg(version.map(|version| version.to_string()).unwrap_or_default());
    script
}

/// Moves the last use of a session forward.
pub(super) fn touch(last_used: &str, at: Timestamp, keep: Duration) -> ScriptInvocation<'static> {
    let mut script = TOUCH.key(last_used);
    script.arg(at.as_unix()).arg(keep.as_secs().max(1));
    script
}

/// Notes a session in a group until it has ended, and forgets those that have.
pub(super) fn index(
    group: &str,
    member: &[u8],
    ends_at: Timestamp,
    now: Timestamp,
) -> ScriptInvocation<'static> {
    let mut script = INDEX.key(group);
    script.arg(ends_at.as_unix()).arg(member).arg(now.as_unix());
    script
}

/// Remembers the later of two sign-outs of a group.
pub(super) fn sign_out(
    key: &str,
    at: Timestamp,
    issued_at: Timestamp,
    keep: u64,
) -> ScriptInvocation<'static> {
    let mut script = SIGN_OUT.key(key);
    script.arg(at.as_unix()).arg(issued_at.as_unix()).arg(keep);
    script
}

/// Takes the right to refresh a session of this version. Gives [`LEASE_TAKEN`], [`LEASE_OVERTAKEN`], or for how many
/// milliseconds somebody else has it.
pub(super) fn lease(
    session: &str,
    lease: &str,
    version: u64,
    holder: &str,
    keep: Duration,
) -> ScriptInvocation<'static> {
    let mut script = LEASE.key(session);
    script.key(lease).arg(version).arg(holder).arg(millis(keep));
    script
}

pub(super) const LEASE_TAKEN: i64 = -11;
pub(super) const LEASE_OVERTAKEN: i64 = -12;

/// Keeps a lease for longer, if the holder still has it, or gives it back.
pub(super) fn keep_lease(lease: &str, holder: &str, keep: Option<Duration>) -> ScriptInvocation<'static> {
    let mut script = KEEP_LEASE.key(lease);
    script.arg(holder).arg(millis(keep.unwrap_or_default()));
    script
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local version = redis.call('HGET', KEYS[1], 'v')
        if not version then return 0 end
        if version ~= ARGV[1] then return 1 end
        redis.call('HSET', KEYS[1], 'v', version + 1, 'd', ARGV[2], 't', ARGV[3], 'f', ARGV[4])
        redis.call('EXPIRE', KEYS[1], ARGV[5])
        return 2",
    )
});

static FAIL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local version = redis.call('HGET', KEYS[1], 'v')
        if not version then return 0 end
        if version ~= ARGV[1] then return 1 end
        redis.call('HSET', KEYS[1], 'v', version + 1, 'f', ARGV[2])
        return 2",
    )
});

static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local version = redis.call('HGET', KEYS[1], 'v')
        if not version then return 0 end
        if ARGV[1] ~= '' and version ~= ARGV[1] then return 1 end
        redis.call('UNLINK', KEYS[1], KEYS[2])
        return 2",
    )
});

static TOUCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local known = redis.call('GET', KEYS[1])
        if not known then return 0 end
        if tonumber(known) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
        return 2",
    )
});

static INDEX: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
        redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
        local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
        redis.call('EXPIRE', KEYS[1], math.max(1, tonumber(last[2]) - tonumber(ARGV[3])))
        return 2",
    )
});

static SIGN_OUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local known = redis.call('HMGET', KEYS[1], 'a', 'i')
        local at = math.max(tonumber(known[1] or 0), tonumber(ARGV[1]))
        local issued = math.max(tonumber(known[2] or 0), tonumber(ARGV[2]))
        redis.call('HSET', KEYS[1], 'a', string.format('%.0f', at), 'i', string.format('%.0f', issued))
        redis.call('EXPIRE', KEYS[1], ARGV[3])
        return 2",
    )
});

static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', KEYS[1], 'v') ~= ARGV[1] then return -12 end
        if redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then return -11 end
        return redis.call('PTTL', KEYS[2])",
    )
});

static KEEP_LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
        return 2",
    )
});
