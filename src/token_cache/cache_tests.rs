use std::{sync::atomic::AtomicUsize, time::Duration};

use parking_lot::Mutex as Lock;
use secrecy::ExposeSecret;
use tokio::{sync::Semaphore, time::timeout};

use super::*;
use crate::{
    clock::{Clock, ManualClock, Patience, Timestamp},
    token_cache::Renewal,
};

const LIFETIME: u64 = 60;
const WAIT: Duration = Duration::from_secs(5);
const START: u64 = 1_000_000;

type Unhappy = fn() -> Failure<&'static str>;

/// A realm that gives tokens as it is told.
struct Realm {
    calls: AtomicUsize,
    fails: Lock<Option<Unhappy>>,
    /// Every call uses up a permit.
    gate: Semaphore,
    gives_refresh_tokens: bool,
    /// The refresh tokens that were presented.
    presented: Lock<Vec<Option<String>>>,
}

struct Test {
    cache: TokenCache<&'static str>,
    clock: Arc<ManualClock>,
    realm: Arc<Realm>,
}

fn test() -> Test {
    test_of(false)
}

fn test_of(gives_refresh_tokens: bool) -> Test {
    let clock = ManualClock::starting_at(START);
    let realm = Realm {
        calls: AtomicUsize::new(0),
        fails: Lock::new(None),
        gate: Semaphore::new(Semaphore::MAX_PERMITS),
        gives_refresh_tokens,
        presented: Lock::default(),
    };
    Test { cache: TokenCache::new(2, TaskTracker::new(), clock.clone()), clock, realm: Arc::new(realm) }
}

type Answer = Result<String, NoToken<&'static str>>;

impl Test {
    async fn ask(&self, owner: Owner, min_validity: u64) -> Answer {
        self.ask_since(owner, min_validity, 0).await
    }

    async fn ask_since(&self, owner: Owner, min_validity: u64, since: u64) -> Answer {
        let realm = Arc::clone(&self.realm);
        let obtain = async move |refresh_token: Option<SecretString>| {
            let refresh_token = refresh_token.map(|token| token.expose_secret().to_owned());
            realm.presented.lock().push(refresh_token);
            let call = realm.calls.fetch_add(1, Ordering::SeqCst) + 1;
            realm.gate.acquire().await.unwrap().forget();
            let fails = *realm.fails.lock();
            match fails {
                Some(failure) => Err(failure()),
                None => Ok(TokenSet {
                    access_token: format!("token-{call}").into(),
                    expires_in: Some(Duration::from_secs(LIFETIME)),
                    refresh_token: realm.gives_refresh_tokens.then(|| format!("refresh-{call}").into()),
                    refresh_expires_in: Some(Duration::from_secs(100)),
                    id_token: None,
                    scope: None,
                }),
            }
        };
        let patience = Patience::new(WAIT);
        let wanted = Wanted {
            renewal: Renewal { ahead: Duration::from_secs(30), least_life: Duration::from_secs(5) },
            min_validity: Duration::from_secs(min_validity),
            since: Timestamp::from_unix(since),
            patience: &patience,
        };
        let key = TokenKey { purpose: "chat".into(), owner };
        let token = self.cache.token(key, wanted, obtain).await?;
        Ok(token.access_token().to_owned())
    }

    async fn service(&self) -> Answer {
        self.ask(Owner::Client, 0).await
    }

    fn calls(&self) -> usize {
        self.realm.calls.load(Ordering::SeqCst)
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn user(sub: &str) -> Owner {
    Owner::User { issuer: "https://id.example.com".into(), subject: sub.to_owned() }
}

#[tokio::test]
async fn a_thousand_callers_are_one_request() {
    let test = Arc::new(test());
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let test = Arc::clone(&test);
            tokio::spawn(async move { test.service().await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().as_deref(), Ok("token-1"));
    }
    assert_eq!(test.calls(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_behind_the_request_and_then_before_it() {
    let test = test();
    assert_eq!(test.service().await.as_deref(), Ok("token-1"));
    test.advance(39);
    assert_eq!(test.service().await.as_deref(), Ok("token-1"));
    assert_eq!(test.calls(), 1, "too early");
    test.advance(1);
    assert_eq!(test.service().await.as_deref(), Ok("token-1"), "the old one is good yet");
    while test.service().await.as_deref() != Ok("token-2") {
        tokio::task::yield_now().await;
    }
    test.advance(56);
    assert_eq!(test.service().await.as_deref(), Ok("token-3"), "waited for");
    assert_eq!(test.calls(), 3);
}

#[tokio::test]
async fn an_outage_serves_the_token_while_it_lives_and_is_not_asked_on_and_on() {
    let test = test();
    test.service().await.unwrap();
    *test.realm.fails.lock() = Some(|| Failure::Passing(None));
    test.advance(50);
    for _ in 0..20 {
        assert_eq!(test.service().await.as_deref(), Ok("token-1"));
        tokio::task::yield_now().await;
    }
    assert_eq!(test.calls(), 2);
    test.advance(10);
    for _ in 0..20 {
        assert!(matches!(test.service().await, Err(NoToken::Unavailable { .. })));
    }
    assert_eq!(test.calls(), 3);
    *test.realm.fails.lock() = None;
    test.advance(30);
    assert_eq!(test.service().await.as_deref(), Ok("token-4"));
}

#[tokio::test]
async fn a_token_lives_as_long_as_is_asked_for_or_it_is_said_that_none_does() {
    let test = test();
    assert_eq!(test.ask(Owner::Client, 60).await.as_deref(), Ok("token-1"));
    test.advance(5);
    assert_eq!(test.ask(Owner::Client, 55).await.as_deref(), Ok("token-1"));
    assert_eq!(test.ask(Owner::Client, 56).await.as_deref(), Ok("token-2"));
    for _ in 0..5 {
        assert_eq!(test.ask(Owner::Client, 61).await, Err(NoToken::TooShort));
    }
    assert_eq!(test.calls(), 2, "that is known without asking");
    test.advance(60);
    assert_eq!(test.ask(Owner::Client, 61).await, Err(NoToken::TooShort));
    assert_eq!(test.calls(), 3, "asked again once the old token tells nothing any more");
    let empty = super::tests::test();
    assert_eq!(empty.ask(Owner::Client, 61).await, Err(NoToken::TooShort));
}

#[tokio::test]
async fn every_user_has_a_token_of_their_own_and_users_are_bounded() {
    let test = test();
    assert_eq!(test.ask(user("alice"), 0).await.as_deref(), Ok("token-1"));
    assert_eq!(test.ask(user("bob"), 0).await.as_deref(), Ok("token-2"));
    assert_eq!(test.ask(user("alice"), 0).await.as_deref(), Ok("token-1"));
    assert_eq!(test.ask(user("carol"), 0).await, Err(NoToken::Full));
    assert_eq!(test.service().await.as_deref(), Ok("token-3"), "the client's own is none of them");
    test.advance(60);
    test.cache.remove_expired();
    assert_eq!(test.cache.slots.len(), 1, "the sweep leaves the client's own");
    assert_eq!(test.ask(user("carol"), 0).await.as_deref(), Ok("token-4"));
}

#[tokio::test]
async fn a_final_answer_is_given_again_without_asking() {
    let test = test();
    *test.realm.fails.lock() = Some(|| Failure::Final("no"));
    for _ in 0..5 {
        assert_eq!(test.ask(user("alice"), 0).await, Err(NoToken::Refused("no")));
    }
    assert_eq!(test.calls(), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_lose_the_token() {
    let test = test();
    test.realm.gate.forget_permits(Semaphore::MAX_PERMITS);
    let left = timeout(Duration::from_millis(50), test.service()).await;
    assert!(left.is_err());
    test.realm.gate.add_permits(1);
    test.cache.finish().await;
    assert_eq!(test.service().await.as_deref(), Ok("token-1"));
    assert_eq!(test.calls(), 1);
    assert_eq!(test.clock.now(), Timestamp::from_unix(1_000_000));
}

#[tokio::test]
async fn what_one_caller_brings_holds_nobody_else_back() {
    let test = test();
    *test.realm.fails.lock() = Some(|| Failure::Caller("bad"));
    assert_eq!(test.ask(user("alice"), 0).await, Err(NoToken::Refused("bad")));
    *test.realm.fails.lock() = None;
    assert_eq!(test.ask(user("alice"), 0).await.as_deref(), Ok("token-2"));
}

#[tokio::test]
async fn a_pause_that_the_realm_asks_for_is_kept() {
    let test = test();
    *test.realm.fails.lock() = Some(|| Failure::Passing(Some(Duration::from_secs(20))));
    let retry_after = Duration::from_secs(20);
    assert_eq!(test.service().await, Err(NoToken::Unavailable { retry_after }));
    *test.realm.fails.lock() = None;
    test.advance(19);
    let retry_after = Duration::from_secs(1);
    assert_eq!(test.service().await, Err(NoToken::Unavailable { retry_after }));
    test.advance(1);
    assert_eq!(test.service().await.as_deref(), Ok("token-2"));
}

#[tokio::test]
async fn a_token_of_an_earlier_sign_in_is_not_handed_out() {
    let test = test_of(true);
    assert_eq!(test.ask_since(user("alice"), 0, START).await.as_deref(), Ok("token-1"));
    test.advance(10);
    assert_eq!(test.ask_since(user("alice"), 0, START + 5).await.as_deref(), Ok("token-2"));
    assert_eq!(test.ask_since(user("alice"), 0, START).await.as_deref(), Ok("token-2"), "it is newer");
    assert_eq!(*test.realm.presented.lock(), [None, None], "nor does its refresh token get another");
}

#[tokio::test]
async fn a_refresh_token_is_presented_while_it_lives() {
    let test = test_of(true);
    test.service().await.unwrap();
    test.advance(60);
    assert_eq!(test.service().await.as_deref(), Ok("token-2"));
    test.advance(100);
    assert_eq!(test.service().await.as_deref(), Ok("token-3"));
    assert_eq!(*test.realm.presented.lock(), [None, Some("refresh-1".to_owned()), None]);
}

#[tokio::test]
async fn whoever_was_held_back_did_not_fail() {
    let test = test();
    *test.realm.fails.lock() = Some(|| Failure::Held(Duration::from_secs(4)));
    let retry_after = Duration::from_secs(4);
    for _ in 0..5 {
        assert_eq!(test.service().await, Err(NoToken::Unavailable { retry_after }));
        test.advance(4);
    }
    *test.realm.fails.lock() = Some(|| Failure::Passing(None));
    let retry_after = Duration::from_secs(2);
    assert_eq!(test.service().await, Err(NoToken::Unavailable { retry_after }), "the first failure");
}

#[tokio::test]
async fn what_is_over_makes_room() {
    let test = test();
    test.ask(user("alice"), 0).await.unwrap();
    test.ask(user("bob"), 0).await.unwrap();
    test.advance(59);
    assert_eq!(test.ask(user("carol"), 0).await, Err(NoToken::Full));
    test.advance(1);
    assert_eq!(test.ask(user("carol"), 0).await.as_deref(), Ok("token-3"));
}
