use std::time::Duration;

use deserr::Deserr;

use super::{
    Checker,
    duration::Span,
    errors::{At, ShapeErrors},
    redis::RedisSection,
};
use crate::{
    flow::RefreshSettings,
    session::{Lifetimes, redis::RedisSettings},
};

/// How sessions live and how their tokens are renewed.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// How long sessions live, unless a frontend says otherwise.
    pub lifetimes: Lifetimes,
    /// How many sessions there may be at once; with Redis, how many are kept at hand.
    pub maximum: usize,
    /// Where the sessions are, if not in memory.
    pub redis: Option<RedisSettings>,
    /// When tokens are renewed.
    pub refresh: RefreshSettings,
    /// How long a stopping program waits for what is under way.
    pub drain: Duration,
}

/// Where the sessions are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
pub(super) enum Store {
    #[default]
    Memory,
    Redis,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct SessionsSection {
    #[deserr(default)]
    store: Store,
    #[deserr(default)]
    redis: Option<RedisSection>,
    #[deserr(default = IDLE)]
    idle: Span,
    #[deserr(default = ABSOLUTE)]
    absolute: Span,
    #[deserr(default = MAXIMUM)]
    maximum: usize,
    #[deserr(default = REFRESH_AHEAD)]
    refresh_ahead: Span,
    #[deserr(default = LEAST_TOKEN_LIFE)]
    least_token_life: Span,
    #[deserr(default = REFRESH_WAIT)]
    refresh_wait: Span,
    #[deserr(default = DRAIN)]
    drain: Span,
}

const IDLE: Span = Span::seconds(30 * 60);
const ABSOLUTE: Span = Span::seconds(10 * 3600);
const MAXIMUM: usize = 100_000;
const REFRESH_AHEAD: Span = Span::seconds(30);
const LEAST_TOKEN_LIFE: Span = Span::seconds(5);
/// Envoy files of ours wait 3 s for a check.
const REFRESH_WAIT: Span = Span(Duration::from_millis(2500));
/// Longer than a call to the provider may take, so that a refresh under way is not lost.
const DRAIN: Span = Span::seconds(20);

impl Default for SessionsSection {
    fn default() -> Self {
        Self {
            store: Store::Memory,
            redis: None,
            idle: IDLE,
            absolute: ABSOLUTE,
            maximum: MAXIMUM,
            refresh_ahead: REFRESH_AHEAD,
            least_token_life: LEAST_TOKEN_LIFE,
            refresh_wait: REFRESH_WAIT,
            drain: DRAIN,
        }
    }
}

impl SessionsSection {
    /// Checks the section; `has_keys` says whether there is a key ring that every replica has.
    pub(super) fn check(
        self,
        has_keys: bool,
        at: &At<'_>,
        checker: &mut Checker<'_>,
    ) -> Option<SessionSettings> {
        let lifetimes = lifetimes(self.idle, self.absolute, at, checker);
        if self.maximum == 0 {
            checker.error(&at.key("maximum"), "must be at least 1");
        }
        if self.refresh_ahead.0 <= self.least_token_life.0 {
            checker.error(&at.key("refresh_ahead"), "must be longer than least_token_life");
        }
        if self.refresh_wait.0.is_zero() {
            checker.error(&at.key("refresh_wait"), "must be longer than zero");
        }
        let redis_at = at.key("redis");
        let redis = match (self.store, self.redis) {
            (Store::Memory, None) => None,
            (Store::Memory, Some(_)) => {
                checker.error(&redis_at, "is there, and sessions.store is not redis");
                None
            }
            (Store::Redis, None) => {
                checker.required(None::<RedisSection>, &redis_at);
                None
            }
            (Store::Redis, Some(redis)) => {
                if !has_keys {
                    let message =
                        "is redis, which needs keys: every replica must open what another one sealed";
                    checker.error(&at.key("store"), message);
                }
                redis.check(self.maximum, &redis_at, checker)
            }
        };
        Some(SessionSettings {
            lifetimes,
            maximum: self.maximum,
            redis,
            refresh: RefreshSettings {
                ahead: self.refresh_ahead.0,
                least_life: self.least_token_life.0,
                wait: self.refresh_wait.0,
            },
            drain: self.drain.0,
        })
    }
}

/// Checks a pair of lifetimes, those of all frontends or of one.
pub(super) fn lifetimes(idle: Span, absolute: Span, at: &At<'_>, checker: &mut Checker<'_>) -> Lifetimes {
    let second = Duration::from_secs(1);
    if idle.0 < second {
        checker.error(&at.key("idle"), "must be at least 1s");
    }
    if absolute.0 < idle.0 {
        checker.error(&at.key("absolute"), "must not be shorter than idle");
    }
    Lifetimes { idle: idle.0, absolute: absolute.0 }
}
