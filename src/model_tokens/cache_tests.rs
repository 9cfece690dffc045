use parking_lot::Mutex as Lock;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    crypto::SystemRandom,
    model_tokens::{ModelGrant, ModelLifetimes, ModelSettings},
    oidc::{ClientAuthentication, HttpClient, Provider, ProviderSettings},
};

const LIFETIME: u64 = 60;
const WAIT: Duration = Duration::from_secs(5);

/// A realm that gives tokens as it is told.
struct Realm {
    calls: AtomicUsize,
    fails: Lock<Option<fn() -> Failure>>,
    /// Every call uses up a permit.
    gate: Semaphore,
}

struct Test {
    cache: Cache,
    client: Arc<ModelClient>,
    clock: Arc<ManualClock>,
    realm: Arc<Realm>,
}

fn test() -> Test {
    let clock = ManualClock::starting_at(1_000_000);
    let settings = ProviderSettings {
        name: "models".into(),
        issuer: "http://127.0.0.1:9".into(),
        client_id: "model".to_owned(),
        client_authentication: ClientAuthentication::Public,
        scopes: Vec::new(),
        signature_algorithms: Vec::new(),
        trusted_audiences: Vec::new(),
        clock_skew: Duration::ZERO,
        metadata_lifetime: Duration::ZERO,
        keys_lifetime: Duration::ZERO,
        concurrent_refreshes: 1,
    };
    let http = HttpClient::new(WAIT).unwrap();
    let client = ModelClient {
        settings: ModelSettings {
            name: "chat".into(),
            grants: vec![ModelGrant::ClientCredentials],
            scope: String::new(),
            audience: None,
            lifetimes: ModelLifetimes { ahead: Duration::from_secs(30), least_life: Duration::from_secs(5) },
            allowed: Vec::new(),
            on_behalf: Vec::new(),
            needs_live_session: true,
        },
        provider: Arc::new(Provider::new(settings, http, Arc::new(SystemRandom), clock.clone())),
    };
    let realm = Realm {
        calls: AtomicUsize::new(0),
        fails: Lock::new(None),
        gate: Semaphore::new(Semaphore::MAX_PERMITS),
    };
    Test {
        cache: Cache::new(2, TaskTracker::new(), clock.clone()),
        client: Arc::new(client),
        clock,
        realm: Arc::new(realm),
    }
}

impl Test {
    async fn ask(&self, owner: Owner, min_validity: u64) -> Result<String, ModelTokenError> {
        let realm = Arc::clone(&self.realm);
        let obtain = async move || {
            let call = realm.calls.fetch_add(1, Ordering::SeqCst) + 1;
            realm.gate.acquire().await.unwrap().forget();
            let fails = *realm.fails.lock();
            match fails {
                Some(failure) => Err(failure()),
                None => Ok(TokenSet {
                    access_token: format!("token-{call}").into(),
                    expires_in: Some(Duration::from_secs(LIFETIME)),
                    refresh_token: None,
                    refresh_expires_in: None,
                    id_token: None,
                    scope: None,
                }),
            }
        };
        let min_validity = Duration::from_secs(min_validity);
        let token = self.cache.token(&self.client, owner, min_validity, WAIT, obtain).await?;
        Ok(token.access_token().to_owned())
    }

    async fn service(&self) -> Result<String, ModelTokenError> {
        self.ask(Owner::Service, 0).await
    }

    fn calls(&self) -> usize {
        self.realm.calls.load(Ordering::SeqCst)
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn user(sub: &str) -> Owner {
    Owner::User { issuer: "https://id.example.com".into(), sub: sub.to_owned() }
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
        assert!(matches!(test.service().await, Err(ModelTokenError::Unavailable { .. })));
    }
    assert_eq!(test.calls(), 3);
    *test.realm.fails.lock() = None;
    test.advance(30);
    assert_eq!(test.service().await.as_deref(), Ok("token-4"));
}

#[tokio::test]
async fn a_token_lives_as_long_as_is_asked_for_or_it_is_said_that_none_does() {
    let test = test();
    assert_eq!(test.ask(Owner::Service, 60).await.as_deref(), Ok("token-1"));
    test.advance(5);
    assert_eq!(test.ask(Owner::Service, 55).await.as_deref(), Ok("token-1"));
    assert_eq!(test.ask(Owner::Service, 56).await.as_deref(), Ok("token-2"));
    for _ in 0..5 {
        assert_eq!(test.ask(Owner::Service, 61).await, Err(ModelTokenError::ValidityTooLong));
    }
    assert_eq!(test.calls(), 2, "that is known without asking");
    test.advance(60);
    assert_eq!(test.ask(Owner::Service, 61).await, Err(ModelTokenError::ValidityTooLong));
    assert_eq!(test.calls(), 3, "asked again once the old token tells nothing any more");
    let empty = super::tests::test();
    assert_eq!(empty.ask(Owner::Service, 61).await, Err(ModelTokenError::ValidityTooLong));
}

#[tokio::test]
async fn every_user_has_a_token_of_their_own_and_users_are_bounded() {
    let test = test();
    assert_eq!(test.ask(user("alice"), 0).await.as_deref(), Ok("token-1"));
    assert_eq!(test.ask(user("bob"), 0).await.as_deref(), Ok("token-2"));
    assert_eq!(test.ask(user("alice"), 0).await.as_deref(), Ok("token-1"));
    assert_eq!(test.ask(user("carol"), 0).await, Err(ModelTokenError::TooManyUsers));
    assert_eq!(test.service().await.as_deref(), Ok("token-3"), "the client's own is none of them");
    // Nobody of them has a session.
    test.cache.remove_unused(&MemoryStore::new(1, test.clock.clone()));
    assert_eq!(test.ask(user("carol"), 0).await.as_deref(), Ok("token-4"));
    assert_eq!(test.ask(user("alice"), 0).await.as_deref(), Ok("token-5"), "forgotten with the session");
}

#[tokio::test]
async fn a_final_answer_is_given_again_without_asking() {
    let test = test();
    *test.realm.fails.lock() = Some(|| Failure::Final(ModelTokenError::UserNotLinked));
    for _ in 0..5 {
        assert_eq!(test.ask(user("alice"), 0).await, Err(ModelTokenError::UserNotLinked));
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
    test.cache.tasks.close();
    test.cache.tasks.wait().await;
    assert_eq!(test.service().await.as_deref(), Ok("token-1"));
    assert_eq!(test.calls(), 1);
    assert_eq!(test.clock.now(), Timestamp::from_unix(1_000_000));
}

#[tokio::test]
async fn what_one_caller_brings_holds_nobody_else_back() {
    let test = test();
    *test.realm.fails.lock() = Some(|| Failure::Caller(ModelTokenError::SubjectTokenRefused));
    assert_eq!(test.ask(user("alice"), 0).await, Err(ModelTokenError::SubjectTokenRefused));
    *test.realm.fails.lock() = None;
    assert_eq!(test.ask(user("alice"), 0).await.as_deref(), Ok("token-2"));
}

#[tokio::test]
async fn a_pause_that_the_realm_asks_for_is_kept() {
    let test = test();
    *test.realm.fails.lock() = Some(|| Failure::Passing(Some(Duration::from_secs(20))));
    let retry_after = Duration::from_secs(20);
    assert_eq!(test.service().await, Err(ModelTokenError::Unavailable { retry_after }));
    *test.realm.fails.lock() = None;
    test.advance(19);
    let retry_after = Duration::from_secs(1);
    assert_eq!(test.service().await, Err(ModelTokenError::Unavailable { retry_after }));
    test.advance(1);
    assert_eq!(test.service().await.as_deref(), Ok("token-2"));
}
