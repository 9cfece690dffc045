//! What the server is asked to do, one step at a time. A step touches the keys of one session or of one group alone, so that
//! a cluster can do it at one place.

use std::{sync::LazyLock, time::Duration};

use redis::{Cmd, Script, ToRedisArgs};

use super::Keys;
use crate::{clock::Timestamp, session::SessionKey};

/// One step: a command, and the key by which a cluster knows where it belongs.
pub(super) struct Step {
    pub(super) key: String,
    pub(super) command: Cmd,
    /// Whether it is a write that must not be lost when another server takes over.
    pub(super) matters: bool,
}

/// What a session's keys hold when they are written.
pub(super) struct Fields {
    pub(super) directory: Vec<u8>,
    pub(super) access: Vec<u8>,
    pub(super) failures: String,
    /// When the session ends however much it is used.
    pub(super) ends_at: Timestamp,
}

/// For how long a key is kept that is of use until `end`. Redis counts by its own clock.
pub(super) fn life(end: Timestamp, now: Timestamp) -> u64 {
    end.since(now).as_secs().max(1)
}

/// The scripts, for a server that does not know them yet.
pub(super) fn all() -> [&'static Script; 9] {
    [&INSERT, &RENEW, &FAIL, &REMOVE, &TOUCH, &INDEX, &SIGN_OUT, &LEASE, &KEEP_LEASE]
}

/// No further arguments.
pub(super) const NOTHING: &[&str] = &[];

/// A plain command.
pub(super) fn command<Arguments: ToRedisArgs>(name: &str, key: &str, arguments: Arguments) -> Step {
    let mut command = redis::cmd(name);
    command.arg(key).arg(arguments);
    Step { key: key.to_owned(), command, matters: false }
}

fn script(script: &Script, keys: &[String], matters: bool) -> Step {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(keys.len()).arg(keys);
    Step { key: keys.first().cloned().unwrap_or_default(), command, matters }
}

/// Reads a session's fields, in the order of [`super::FIELDS`].
pub(super) fn read(keys: &Keys, key: &SessionKey) -> Step {
    command("HMGET", &keys.session(key), &super::FIELDS[..])
}

/// Reads when a session was last used.
pub(super) fn read_last_use(keys: &Keys, key: &SessionKey) -> Step {
    command("GET", &keys.last_used(key), NOTHING)
}

/// Writes a new session.
pub(super) fn insert(keys: &Keys, key: &SessionKey, fields: &Fields, now: Timestamp, idle: Duration) -> Step {
    let mut step = script(&INSERT, &[keys.session(key), keys.last_used(key)], true);
    step.command.arg(&fields.directory).arg(&fields.access).arg(&fields.failures);
    step.command.arg(life(fields.ends_at, now)).arg(now.as_unix()).arg(idle.as_secs().max(1));
    step
}

/// What a script says of a session that was not as it was seen.
pub(super) const GONE: i64 = 0;
pub(super) const OVERTAKEN: i64 = 1;

/// Writes new tokens into a session of this version.
pub(super) fn renew(keys: &Keys, key: &SessionKey, version: u64, fields: &Fields, now: Timestamp) -> Step {
    let mut step = script(&RENEW, &[keys.session(key)], true);
    step.command.arg(version).arg(&fields.directory).arg(&fields.access).arg(&fields.failures);
    step.command.arg(life(fields.ends_at, now));
    step
}

/// Writes what is known of failed refreshes into a session of this version.
pub(super) fn fail(keys: &Keys, key: &SessionKey, version: u64, failures: &str) -> Step {
    let mut step = script(&FAIL, &[keys.session(key)], false);
    step.command.arg(version).arg(failures);
    step
}

/// Ends a session, of any version or of this one alone.
pub(super) fn remove(keys: &Keys, key: &SessionKey, version: Option<u64>) -> Step {
    let mut step = script(&REMOVE, &[keys.session(key), keys.last_used(key)], true);
    step.command.arg(version.map(|version| version.to_string()).unwrap_or_default());
    step
}

/// Moves the last use of a session forward.
pub(super) fn touch(keys: &Keys, key: &SessionKey, at: Timestamp, keep: Duration) -> Step {
    let mut step = script(&TOUCH, &[keys.last_used(key)], false);
    step.command.arg(at.as_unix()).arg(keep.as_secs().max(1));
    step
}

/// Notes a session in a group until it has ended, and forgets those that have.
pub(super) fn index(group: &str, member: &SessionKey, ends_at: Timestamp, now: Timestamp) -> Step {
    let mut step = script(&INDEX, &[group.to_owned()], true);
    step.command.arg(ends_at.as_unix()).arg(member.as_bytes()).arg(now.as_unix());
    step
}

/// Remembers the later of two sign-outs of a group.
pub(super) fn sign_out(name: &str, at: Timestamp, issued_at: Timestamp, keep: u64) -> Step {
    let mut step = script(&SIGN_OUT, &[name.to_owned()], true);
    step.command.arg(at.as_unix()).arg(issued_at.as_unix()).arg(keep);
    step
}

/// Takes the right to refresh a session of this version. Gives [`LEASE_TAKEN`], [`LEASE_OVERTAKEN`], or for how many
/// milliseconds somebody else has it.
pub(super) fn lease(keys: &Keys, key: &SessionKey, version: u64, holder: &str, keep: Duration) -> Step {
    let mut step = script(&LEASE, &[keys.session(key), keys.lease(key)], false);
    step.command.arg(version).arg(holder).arg(millis(keep));
    step
}

pub(super) const LEASE_TAKEN: i64 = -11;
pub(super) const LEASE_OVERTAKEN: i64 = -12;

/// Keeps a lease for longer, if the holder still has it, or gives it back.
pub(super) fn keep_lease(keys: &Keys, key: &SessionKey, holder: &str, keep: Option<Duration>) -> Step {
    let mut step = script(&KEEP_LEASE, &[keys.lease(key)], false);
    step.command.arg(holder).arg(millis(keep.unwrap_or_default()));
    step
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

static INSERT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('HSET', KEYS[1], 'v', 1, 'd', ARGV[1], 't', ARGV[2], 'f', ARGV[3])
        redis.call('EXPIRE', KEYS[1], ARGV[4])
        redis.call('SET', KEYS[2], ARGV[5], 'EX', ARGV[6])
        return 2",
    )
});
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
