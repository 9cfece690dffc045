//! What every store does, whichever it is: the same tests over each, so that they cannot differ.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret;

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    crypto::SystemRandom,
};

pub(super) const START: u64 = 1_000_000;
const ISSUER: &str = "https://id.example.com";
const IDLE: Duration = Duration::from_secs(100);
const ABSOLUTE: Duration = Duration::from_secs(1000);

/// Two replicas of the program that share one store, or the one there is, twice.
pub(super) struct Replicas {
    pub(super) here: Arc<SessionStore>,
    pub(super) there: Arc<SessionStore>,
    pub(super) clock: Arc<ManualClock>,
    /// What the store needs to go on.
    pub(super) _server: Option<Box<dyn std::any::Any>>,
}

/// Tokens that are told apart by their number.
pub(super) fn tokens(number: u64, now: u64, refresh_end: Option<u64>) -> Tokens {
    Tokens {
        access_expires_at: Timestamp::from_unix(now + 60),
        access_lifetime: Duration::from_secs(60),
        refresh_token: Some(format!("refresh-{number}").into()),
        refresh_expires_at: refresh_end.map(Timestamp::from_unix),
        id_token: format!("id-{number}").into(),
        id_claims: serde_json::Map::from_iter([("sub".to_owned(), "alice".into())]),
        access_claims: serde_json::Map::new(),
        upstream: UpstreamHeaders {
            authorization: format!("Bearer access-{number}").into(),
            identity: Vec::new(),
            remove: Vec::new(),
        },
    }
}

/// A session of alice at the provider `users`.
pub(super) fn session(now: u64, refresh_end: Option<u64>) -> Arc<Session> {
    session_at("users", now, refresh_end)
}

fn session_at(provider: &str, now: u64, refresh_end: Option<u64>) -> Arc<Session> {
    let new = NewSession {
        handle: "handle".into(),
        frontend: "app".into(),
        provider: provider.into(),
        issuer: ISSUER.into(),
        subject: "alice".into(),
        provider_session: Some("sid".to_owned()),
        tokens: tokens(1, now, refresh_end),
        lifetimes: Lifetimes { idle: IDLE, absolute: ABSOLUTE },
    };
    Arc::new(Session::new(new, Timestamp::from_unix(now)))
}

fn id() -> SessionId {
    SessionId::random(&SystemRandom).unwrap()
}

fn by_subject(issuer: &str, sub: &str) -> SessionGroup {
    SessionGroup::Subject { issuer: issuer.into(), sub: sub.into() }
}

fn by_sid(issuer: &str, sid: &str) -> SessionGroup {
    SessionGroup::ProviderSession { issuer: issuer.into(), sid: sid.into() }
}

async fn insert(replicas: &Replicas) -> SessionId {
    let id = id();
    replicas.here.insert(&id, session(START, None)).await.unwrap();
    id
}

async fn get(store: &SessionStore, id: &SessionId) -> Option<Arc<Session>> {
    store.get(id).await.unwrap()
}

/// Waits until both replicas agree that a session is over.
async fn gone(replicas: &Replicas, id: &SessionId) {
    assert!(get(&replicas.here, id).await.is_none(), "known at once where it was done");
    let there = async || get(&replicas.there, id).await.is_none().then_some(());
    keycloak_bff_testbed::wait::until("the end of a session", Duration::from_secs(1), there).await;
}

fn access_token(session: &Session) -> String {
    session.tokens().upstream.access_token().to_owned()
}

pub(super) async fn a_session_is_found_by_its_id(replicas: Replicas) {
    let (known, unknown) = (insert(&replicas).await, id());
    for store in [&replicas.here, &replicas.there] {
        assert!(get(store, &unknown).await.is_none());
        let session = get(store, &known).await.unwrap();
        assert_eq!((session.handle.as_str(), &*session.frontend), ("handle", "app"));
        assert_eq!((&*session.provider, &*session.issuer), ("users", ISSUER));
        assert_eq!(session.provider_session.as_deref(), Some("sid"));
        assert_eq!(session.created_at, Timestamp::from_unix(START));
        let tokens = session.tokens();
        assert_eq!(tokens.upstream.access_token(), "access-1");
        assert_eq!(tokens.id_token.expose_secret(), "id-1");
        assert_eq!(tokens.id_claims["sub"], "alice");
        assert_eq!(tokens.access_expires_at, Timestamp::from_unix(START + 60));
        assert_eq!(tokens.refresh_token.as_ref().unwrap().expose_secret(), "refresh-1");
    }
}

pub(super) async fn a_session_ends_when_it_is_idle(replicas: Replicas) {
    let id = insert(&replicas).await;
    replicas.clock.advance(IDLE - Duration::from_secs(1));
    get(&replicas.here, &id).await.unwrap().touch(replicas.clock.now());
    replicas.clock.advance(IDLE - Duration::from_secs(1));
    assert!(get(&replicas.here, &id).await.is_some());
    replicas.clock.advance(Duration::from_secs(1));
    gone(&replicas, &id).await;
}

pub(super) async fn a_session_ends_at_its_absolute_lifetime_however_busy(replicas: Replicas) {
    let id = insert(&replicas).await;
    for _ in 0..19 {
        replicas.clock.advance(IDLE / 2);
        get(&replicas.here, &id).await.unwrap().touch(replicas.clock.now());
    }
    replicas.clock.advance(IDLE / 2);
    gone(&replicas, &id).await;
}

pub(super) async fn a_session_ends_with_its_refresh_token(replicas: Replicas) {
    let id = id();
    replicas.here.insert(&id, session(START, Some(START + 30))).await.unwrap();
    replicas.clock.advance(Duration::from_secs(29));
    assert!(get(&replicas.here, &id).await.is_some());
    replicas.clock.advance(Duration::from_secs(1));
    gone(&replicas, &id).await;
}

pub(super) async fn a_session_that_is_ended_is_gone_everywhere(replicas: Replicas) {
    let id = insert(&replicas).await;
    let entry = get(&replicas.there, &id).await.unwrap().directory_entry(id.key());
    assert!(replicas.here.remove(&entry).await.unwrap());
    gone(&replicas, &id).await;
    assert!(!replicas.here.remove(&entry).await.unwrap());
    assert!(replicas.there.group(&by_sid(ISSUER, "sid")).await.unwrap().is_empty());
    assert!(replicas.there.group(&by_subject(ISSUER, "alice")).await.unwrap().is_empty());
}

pub(super) async fn sessions_are_found_by_what_the_provider_calls_them(replicas: Replicas) {
    insert(&replicas).await;
    replicas.here.insert(&id(), session(START, Some(START + 10))).await.unwrap();
    for (group, expected) in [
        (by_subject(ISSUER, "alice"), 2),
        (by_sid(ISSUER, "sid"), 2),
        (by_subject(ISSUER, "bob"), 0),
        (by_sid(ISSUER, "alice"), 0),
        (by_subject("https://other.example.com", "alice"), 0),
        (by_sid("https://other.example.com", "sid"), 0),
    ] {
        let found = replicas.there.group(&group).await.unwrap();
        assert_eq!(found.len(), expected, "{group:?}");
        for entry in found {
            assert_eq!(
                (entry.handle.as_str(), &*entry.frontend, &*entry.provider),
                ("handle", "app", "users")
            );
            assert_eq!((entry.subject.as_str(), entry.provider_session.as_deref()), ("alice", Some("sid")));
            assert_eq!(entry.created_at, Timestamp::from_unix(START));
            assert!(entry.expires_at > entry.last_used_at);
            assert_eq!(entry.refresh_token.unwrap().expose_secret(), "refresh-1");
            assert_eq!(entry.id_token.expose_secret(), "id-1");
        }
    }
    replicas.clock.advance(Duration::from_secs(10));
    assert_eq!(replicas.there.group(&by_sid(ISSUER, "sid")).await.unwrap().len(), 1, "one has expired");
}

pub(super) async fn a_provider_ends_its_own_sessions_and_it_is_remembered(replicas: Replicas) {
    let (own, other) = (insert(&replicas).await, id());
    replicas.here.insert(&other, session_at("others", START, None)).await.unwrap();
    assert!(get(&replicas.there, &own).await.is_some(), "both have a copy of it");
    let (group, end) = (by_sid(ISSUER, "sid"), Timestamp::from_unix(START + 60));
    let told = |at: u64, issued_at: u64| {
        SignOut::told(Timestamp::from_unix(START + at), Timestamp::from_unix(START + issued_at))
    };
    assert_eq!(replicas.there.latest_sign_out("users", &group).await.unwrap(), None);
    let ended = replicas.here.end_group("users", &group, told(1, 5), end).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].refresh_token.as_ref().unwrap().expose_secret(), "refresh-1");
    gone(&replicas, &own).await;
    assert!(get(&replicas.there, &other).await.is_some());
    assert!(replicas.there.end_group("users", &group, told(2, 3), end).await.unwrap().is_empty());
    assert_eq!(replicas.here.latest_sign_out("users", &group).await.unwrap(), Some(told(2, 5)));
    assert_eq!(replicas.here.latest_sign_out("others", &group).await.unwrap(), None);
    assert_eq!(replicas.here.latest_sign_out("users", &by_subject(ISSUER, "sid")).await.unwrap(), None);
}

pub(super) async fn what_may_be_used_once_is_used_once(replicas: Replicas) {
    let (transaction, end) = (Once::Transaction([1; 32]), Timestamp::from_unix(START + 60));
    assert!(!replicas.there.was_used(transaction).await.unwrap());
    assert_eq!(replicas.here.use_once(transaction, end).await, Ok(Use::First));
    assert_eq!(replicas.there.use_once(transaction, end).await, Ok(Use::Again));
    assert!(replicas.there.was_used(transaction).await.unwrap());
    assert!(!replicas.there.was_used(Once::LogoutToken([1; 32])).await.unwrap());
    assert!(!replicas.there.was_used(Once::Transaction([2; 32])).await.unwrap());
    let stores = [&replicas.here, &replicas.there];
    let uses = (0..20).map(|number| stores[number % 2].use_once(Once::LogoutToken([3; 32]), end));
    let uses = futures_util::future::join_all(uses).await;
    assert_eq!(uses.iter().filter(|&used| *used == Ok(Use::First)).count(), 1);
}

pub(super) async fn new_tokens_are_seen_everywhere_and_never_overwrite_newer_ones(replicas: Replicas) {
    let id = insert(&replicas).await;
    let (here, there) = (get(&replicas.here, &id).await.unwrap(), get(&replicas.there, &id).await.unwrap());
    let seen = here.version();
    assert_eq!(there.version(), seen);
    let renewed = replicas.here.renew(&id, &here, seen, tokens(2, START, None)).await;
    assert_eq!(renewed, Ok(Renewed::Stored));
    assert_eq!(access_token(&get(&replicas.here, &id).await.unwrap()), "access-2");
    let fresh =
        async || (access_token(&get(&replicas.there, &id).await.unwrap()) == "access-2").then_some(());
    keycloak_bff_testbed::wait::until("new tokens", Duration::from_secs(1), fresh).await;

    let there = get(&replicas.there, &id).await.unwrap();
    let late = replicas.there.renew(&id, &there, seen, tokens(3, START, None)).await;
    assert_eq!(late, Ok(Renewed::Overtaken));
    assert_eq!(access_token(&get(&replicas.there, &id).await.unwrap()), "access-2");
    assert!(matches!(replicas.there.lease(&id, seen).await, Ok(Leased::Overtaken)));
    assert!(matches!(replicas.there.lease(&id, there.version()).await, Ok(Leased::Held(_))));

    let entry = there.directory_entry(id.key());
    assert_eq!(entry.refresh_token.as_ref().unwrap().expose_secret(), "refresh-2");
    assert_eq!(replicas.here.remove_seen(&entry, seen).await, Ok(false), "of older tokens");
    assert!(get(&replicas.here, &id).await.is_some());
    assert_eq!(replicas.here.remove_seen(&entry, there.version()).await, Ok(true));
    gone(&replicas, &id).await;
    let late = replicas.there.renew(&id, &there, there.version(), tokens(4, START, None)).await;
    assert_eq!(late, Ok(Renewed::Gone));
    assert!(get(&replicas.there, &id).await.is_none(), "it does not come back");
    assert!(matches!(replicas.there.lease(&id, there.version()).await, Ok(Leased::Overtaken)));
}

pub(super) async fn what_is_known_of_failed_refreshes_is_shared(replicas: Replicas) {
    let id = insert(&replicas).await;
    let here = get(&replicas.here, &id).await.unwrap();
    assert!(get(&replicas.there, &id).await.is_some());
    here.disable_account();
    here.pause_refresh(replicas.clock.now(), |_| Duration::from_secs(7));
    replicas.here.share_failure(&id, &here, here.version()).await.unwrap();
    let known = async || {
        let there = get(&replicas.there, &id).await.unwrap();
        let pause = there.refresh_pause();
        (there.is_account_disabled() && pause.failures == 1).then_some(pause.until)
    };
    let until = keycloak_bff_testbed::wait::until("the failure", Duration::from_secs(1), known).await;
    assert_eq!(until, Timestamp::from_unix(START + 7));
    let group = replicas.there.group(&by_sid(ISSUER, "sid")).await.unwrap();
    assert!(group[0].is_account_disabled);
    let there = get(&replicas.there, &id).await.unwrap();
    there.refresh_succeeded();
    let renewed = replicas.there.renew(&id, &there, there.version(), tokens(2, START, None)).await;
    assert_eq!(renewed, Ok(Renewed::Stored));
    let forgotten = async || {
        let here = get(&replicas.here, &id).await.unwrap();
        (!here.is_account_disabled() && here.refresh_pause().failures == 0).then_some(())
    };
    keycloak_bff_testbed::wait::until("the success", Duration::from_secs(1), forgotten).await;
}

/// The whole contract as tests of one store, which `$replicas` makes afresh for each.
macro_rules! contract {
    ($replicas:path) => {
        $crate::session::contract_tests::contract! { $replicas:
            a_session_is_found_by_its_id
            a_session_ends_when_it_is_idle
            a_session_ends_at_its_absolute_lifetime_however_busy
            a_session_ends_with_its_refresh_token
            a_session_that_is_ended_is_gone_everywhere
            sessions_are_found_by_what_the_provider_calls_them
            a_provider_ends_its_own_sessions_and_it_is_remembered
            what_may_be_used_once_is_used_once
            new_tokens_are_seen_everywhere_and_never_overwrite_newer_ones
            what_is_known_of_failed_refreshes_is_shared
        }
    };
    ($replicas:path: $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                $crate::session::contract_tests::$test($replicas().await).await;
            }
        )*
    };
}
pub(super) use contract;

mod memory {
    use super::*;

    async fn replicas() -> Replicas {
        let clock = ManualClock::starting_at(START);
        let store = Arc::new(SessionStore::Memory(MemoryStore::new(100, clock.clone())));
        Replicas { here: Arc::clone(&store), there: store, clock, _server: None }
    }

    super::contract!(replicas);
}
