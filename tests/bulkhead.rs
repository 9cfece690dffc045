//! Ten thousand sessions whose access tokens end in the same second.

use crate::steps::{SESSION, bearer, patient_envoy};
use futures_util::stream::{self, StreamExt};
use keycloak_bff_testbed::{Deployment, Provider, Response, UserAgent, wait};
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

const SESSIONS: usize = 10_000;
/// How many users sign in at once.
const LOGINS_AT_ONCE: usize = 64;
/// How many requests are under way at once; Envoy turns requests away above 1024.
const REQUESTS_AT_ONCE: usize = 400;
/// How many refreshes the program has under way at once, unless it is configured otherwise.
const REFRESHES_AT_ONCE: usize = 32;

/// The cookie that an answer sets whose name begins like this, as a browser sends it back.
fn cookie(answer: &Response, prefix: &str) -> String {
    let cookies = answer.header_values("set-cookie");
    let cookie = cookies.iter().find(|cookie| cookie.starts_with(prefix));
    let cookie = cookie.unwrap_or_else(|| panic!("no cookie {prefix}: {} {}", answer.status, answer.text()));
    cookie.split(';').next().unwrap_or_default().to_owned()
}

/// Signs a new user in and gives the session's cookie. The one agent is everyone's browser and keeps no cookie.
async fn sign_in(deployment: &Deployment, agent: &UserAgent) -> String {
    let login = agent.navigate(format!("{}/auth/login", deployment.app()));
    let login = login.without_cookies().without_redirects().await;
    let transaction = cookie(&login, "__Host-login-app-");
    let request = login.header("location").expect("a login redirects");
    let answer = agent.navigate(request).without_cookies().without_redirects().await;
    let callback = agent.navigate(answer.header("location").expect("the provider sends the browser back"));
    let landed = callback.without_cookies().header("cookie", transaction).without_redirects().await;
    cookie(&landed, SESSION)
}

/// Calls the API for each of these sessions, and gives the tokens that it was called with and the sessions that were
/// told to come back. Nobody is told anything else.
async fn call_api(
    deployment: &Deployment,
    agent: &UserAgent,
    sessions: Vec<String>,
) -> (Vec<String>, Vec<String>) {
    let api = format!("{}/api/echo", deployment.app());
    let calls = sessions.into_iter().map(|session| {
        let call = agent.fetch(&api).without_cookies().header("cookie", &session);
        async move { (session, call.await) }
    });
    let mut calls = stream::iter(calls).buffer_unordered(REQUESTS_AT_ONCE);
    let (mut tokens, mut turned_away) = (Vec::new(), Vec::new());
    while let Some((session, echo)) = calls.next().await {
        match bearer(&echo) {
            Some(token) => tokens.push(token),
            None => {
                assert_eq!(echo.status, 503, "{}", echo.text());
                assert!(echo.header("retry-after").is_some(), "{:?}", echo.headers);
                turned_away.push(session);
            }
        }
    }
    (tokens, turned_away)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tokens_that_end_at_once_lose_no_session_and_do_not_overrun_the_provider() {
    let provider = Provider::start().await;
    // Less than the refreshes of all requests that are under way at once take, so that some do not wait for theirs.
    let impatient = |config: &mut serde_json::Value| config["sessions"]["refresh_wait"] = json!("100ms");
    // However slow the machine is, every answer is the program's own.
    let deployment = Deployment::builder().program(impatient).envoy(patient_envoy);
    let deployment = deployment.start(provider.issuer()).await;
    let now = || std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs();
    let end = now() + 20;
    provider.token_end(end);
    let agent = UserAgent::new();
    let logins = stream::iter((0..SESSIONS).map(|_| sign_in(&deployment, &agent)));
    let mut sessions: Vec<String> = logins.buffer_unordered(LOGINS_AT_ONCE).collect().await;
    let over = async || (now() > end).then_some(());
    wait::until("the end of all tokens", Duration::from_secs(60), over).await;
    assert_eq!((provider.logins(), provider.refreshes()), (SESSIONS, 0));

    provider.access_lifetime(Duration::from_secs(600));
    provider.delay_refreshes(Duration::from_millis(20));
    let (mut tokens, mut turned_away) = (HashSet::new(), 0);
    // Whoever is told to come back does so when everyone else has had their turn.
    let served = async || {
        let (passed, again) = call_api(&deployment, &agent, std::mem::take(&mut sessions)).await;
        tokens.extend(passed);
        turned_away += again.len();
        sessions = again;
        sessions.is_empty().then_some(())
    };
    wait::until("every session to be served", Duration::from_secs(120), served).await;
    assert_eq!(tokens.len(), SESSIONS, "everyone has a new token of their own");
    assert_eq!(provider.refreshes(), SESSIONS, "one refresh for each session");
    assert_eq!(provider.logins(), SESSIONS, "nobody signed in anew");
    assert!(turned_away > 0, "nobody was told to come back while their refresh went on");
    let at_once = provider.most_refreshes_at_once();
    assert!(at_once <= REFRESHES_AT_ONCE, "{at_once} refreshes were under way at once");
}
