use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    crypto::SystemRandom,
    flow::{
        CurrentUserError, EndSessionError, EndedSession, Verdict,
        test_support::{FakeProvider, HOST, ORIGIN, TestFlows, flows, site},
    },
    policy::Request,
    session::SessionId,
};

const AWAY: &str = "http://127.0.0.1:9";

fn test() -> TestFlows {
    flows(site(ORIGIN), AWAY)
}

fn asking<'a>(cookie: &'a str) -> Request<'a> {
    let mut request = Request { method: "GET", host: HOST, target: "/auth/sessions", ..Request::default() };
    request.read_header("cookie", cookie);
    request
}

async fn is_live(test: &TestFlows, cookie: &str) -> bool {
    test.flows.session(&site(ORIGIN), &asking(cookie)).await.unwrap().is_some()
}

async fn end_group(test: &TestFlows, provider: &Provider, group: &SessionGroup, sign_out: SignOut) -> usize {
    test.flows.end_group(provider, group, sign_out).await.unwrap().len()
}

async fn was_signed_out(test: &TestFlows, session: &Session, transaction: &Transaction) -> bool {
    let key = SessionId::random(&SystemRandom).unwrap().key();
    test.flows.was_signed_out_meanwhile(&session.directory_entry(key), session, transaction).await.unwrap()
}

fn sid_group(session: &Session, sid: &str) -> SessionGroup {
    SessionGroup::ProviderSession { issuer: Arc::clone(&session.issuer), sid: sid.to_owned() }
}

fn transaction(created_at: Timestamp) -> Transaction {
    let text = String::new;
    Transaction {
        state: text(),
        nonce: text(),
        pkce_verifier: text(),
        return_to: text(),
        created_at: created_at.as_unix(),
        idp_hint: None,
        force: false,
        acr_values: Vec::new(),
        max_age: None,
        restarts: 0,
    }
}

#[tokio::test]
async fn signing_out_ends_what_was_begun_by_the_same_sign_in() {
    let test = test();
    let (_, first) = test.sign_in_as("alice", "one", &json!({}));
    let (_, second) = test.sign_in_as("alice", "one", &json!({}));
    let (_, elsewhere) = test.sign_in_as("alice", "two", &json!({}));
    let (id, session) = test.flows.session(&site(ORIGIN), &asking(&first)).await.unwrap().unwrap();
    test.flows.sign_out(&session.directory_entry(id.key())).await.unwrap();
    assert!(
        !is_live(&test, &first).await && !is_live(&test, &second).await && is_live(&test, &elsewhere).await
    );
}

#[tokio::test]
async fn a_provider_ends_only_what_was_begun_with_its_own_client() {
    let test = test();
    let (session, cookie) = test.sign_in_as("alice", "one", &json!({}));
    let provider = &test.flows.providers[&site(ORIGIN).frontend.provider];
    let now = test.flows.clock.now();
    let stranger =
        SessionGroup::ProviderSession { issuer: "https://other.example".into(), sid: "one".to_owned() };
    assert_eq!(end_group(&test, provider, &stranger, SignOut::here(now)).await, 0);
    assert_eq!(end_group(&test, provider, &sid_group(&session, "two"), SignOut::here(now)).await, 0);
    assert!(is_live(&test, &cookie).await);
    assert_eq!(end_group(&test, provider, &sid_group(&session, "one"), SignOut::here(now)).await, 1);
    assert!(!is_live(&test, &cookie).await);
}

#[tokio::test]
async fn a_login_does_not_overtake_a_sign_out_of_its_session() {
    let test = test();
    let (session, _) = test.sign_in_as("alice", "one", &json!({}));
    let provider = &test.flows.providers[&session.provider];
    let now = test.flows.clock.now();
    let before = transaction(now);
    assert!(!was_signed_out(&test, &session, &before).await);
    end_group(&test, provider, &sid_group(&session, "one"), SignOut::here(now)).await;
    assert!(was_signed_out(&test, &session, &before).await, "in the same second");
    let after = transaction(now + Duration::from_secs(1));
    assert!(!was_signed_out(&test, &session, &after).await, "begun since");
    test.clock.advance(TRANSACTION_LIFETIME);
    assert!(!was_signed_out(&test, &session, &before).await, "no login takes so long");
}

#[tokio::test]
async fn a_sign_out_of_a_person_holds_against_tokens_issued_before() {
    let test = test();
    let issued_at = test.flows.clock.now();
    let (session, _) = test.sign_in_as("alice", "one", &json!({}));
    let provider = &test.flows.providers[&session.provider];
    let group = SessionGroup::Subject { issuer: Arc::clone(&session.issuer), sub: "alice".to_owned() };
    let login = transaction(issued_at - Duration::from_secs(600));
    let told = |issued_at| SignOut::told(test.flows.clock.now(), issued_at);
    end_group(&test, provider, &group, told(issued_at - Duration::from_secs(1))).await;
    assert!(!was_signed_out(&test, &session, &login).await, "the sign-in came after the sign-out");
    end_group(&test, provider, &group, told(issued_at)).await;
    assert!(was_signed_out(&test, &session, &login).await);
    end_group(&test, provider, &group, told(issued_at - Duration::from_secs(9))).await;
    assert!(was_signed_out(&test, &session, &login).await, "a late word undoes nothing");
    let after = transaction(issued_at + Duration::from_secs(1));
    assert!(!was_signed_out(&test, &session, &after).await, "begun since");
}

#[tokio::test]
async fn users_see_and_end_their_own_sessions_only() {
    let test = test();
    let site = site(ORIGIN);
    let (_, here) = test.sign_in_as("alice", "one", &json!({}));
    let (beside, beside_cookie) = test.sign_in_as("alice", "one", &json!({}));
    let (elsewhere, elsewhere_cookie) = test.sign_in_as("alice", "two", &json!({}));
    let (bobs, bobs_cookie) = test.sign_in_as("bob", "three", &json!({}));
    let list = async |cookie: &str| -> Vec<(String, bool)> {
        let own = test.flows.own_sessions(&site, &asking(cookie)).await.unwrap().into_iter();
        own.map(|session| (session.handle, session.is_current)).collect()
    };
    assert_eq!(list(&here).await.len(), 3);
    assert_eq!(list(&here).await.iter().filter(|(_, is_current)| *is_current).count(), 1);
    assert_eq!(list(&bobs_cookie).await, [(bobs.handle.clone(), true)]);

    let end =
        async |handle: &str, cookie: &str| test.flows.end_own_session(&site, &asking(cookie), handle).await;
    assert_eq!(end(&bobs.handle, &here).await, Err(EndSessionError::NoSuchSession));
    assert_eq!(end("", &here).await, Err(EndSessionError::NoSuchSession));
    assert_eq!(end(&bobs.handle, "").await, Err(EndSessionError::CurrentUser(CurrentUserError::NotSignedIn)));
    assert!(is_live(&test, &bobs_cookie).await);

    assert_eq!(end(&elsewhere.handle, &here).await, Ok(EndedSession::Other));
    assert!(
        !is_live(&test, &elsewhere_cookie).await
            && is_live(&test, &here).await
            && is_live(&test, &beside_cookie).await
    );
    assert_eq!(end(&beside.handle, &here).await, Ok(EndedSession::Other));
    assert!(!is_live(&test, &beside_cookie).await && is_live(&test, &here).await, "the one that asked stays");
    let (own, _) = list(&here).await.remove(0);
    assert_eq!(end(&own, &here).await, Ok(EndedSession::Current));
    assert!(!is_live(&test, &here).await);
}

#[tokio::test]
async fn a_frame_signs_out_with_both_words_and_only_where_it_may() {
    let test = test();
    let mut closed = site(ORIGIN);
    Arc::get_mut(&mut closed.frontend).unwrap().login.front_channel_logout = false;
    let (_, cookie) = test.sign_in_as("alice", "one", &json!({}));
    let (issuer, sid) = (Some(AWAY), Some("one"));
    assert_eq!(test.flows.frontchannel_logout(&closed, issuer, sid).await, Ok(None));
    for (issuer, sid) in
        [(None, sid), (issuer, None), (Some("https://other.example"), sid), (issuer, Some("two"))]
    {
        assert_eq!(
            test.flows.frontchannel_logout(&site(ORIGIN), issuer, sid).await,
            Ok(Some(AWAY.to_owned()))
        );
        assert!(is_live(&test, &cookie).await, "{issuer:?} {sid:?}");
    }
    test.flows.frontchannel_logout(&site(ORIGIN), issuer, sid).await.unwrap();
    assert!(!is_live(&test, &cookie).await);
}

/// Ends a session in the middle of its refresh, with or without a newer one of the same sign-in; gives how many tokens
/// were revoked.
async fn revocations_after_a_late_refresh(has_successor: bool) -> usize {
    let provider = FakeProvider::start().await;
    let test = flows(site(ORIGIN), &provider.issuer);
    let (_, cookie) = test.sign_in_as("alice", "one", &json!({}));
    test.clock.advance(Duration::from_secs(45));
    provider.close();
    let api = Request { target: "/api", ..asking(&cookie) };
    assert!(matches!(test.flows.check(&api).await, Verdict::Allow(_)));
    let (id, _) = test.flows.session(&site(ORIGIN), &api).await.unwrap().unwrap();
    if has_successor {
        test.sign_in_as("alice", "one", &json!({}));
    }
    while provider.calls() == 0 {
        tokio::task::yield_now().await;
    }
    test.memory().remove(&id.key());
    provider.open();
    test.flows.refresher.tasks.close();
    test.flows.refresher.tasks.wait().await;
    assert!(!is_live(&test, &cookie).await);
    provider.revocations()
}

#[tokio::test]
async fn a_refresh_that_ends_too_late_is_revoked_unless_a_newer_session_lives_on_the_same_sign_in() {
    assert_eq!(revocations_after_a_late_refresh(false).await, 1);
    assert_eq!(revocations_after_a_late_refresh(true).await, 0);
}
