//! Signing in: the way to Keycloak and back, and what it leaves in the browser.

use crate::steps::{ADMIN, APP, Begun, SESSION, agent_with_session, session_id, signed_in, transactions};
use keycloak_bff_testbed::cookies::SameSite;
use keycloak_bff_testbed::{Stand, UserAgent};
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

#[tokio::test]
async fn signing_in_returns_to_the_page_that_was_asked_for_with_its_query() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let wanted = format!("{}/api/echo?q=a%20b&r=%C3%A5&q=%26", stand.app());
    let page = agent.navigate(&wanted).await;
    assert!(page.is_login_page(), "{page:#?}");
    let landed = agent.submit_login(&page, "alice", "alice").await;
    assert_eq!((landed.status, landed.url.as_str()), (200, wanted.as_str()));
    assert_eq!(landed.json()["path"], "/api/echo?q=a%20b&r=%C3%A5&q=%26");
    assert!(landed.echoed("authorization").is_some_and(|value| value.starts_with("Bearer ey")));
}

#[tokio::test]
async fn a_wrong_password_stays_at_keycloak_and_the_right_one_then_signs_in() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let page = agent.navigate(format!("{}/api/echo", stand.app())).await;
    let page = agent.submit_login(&page, "alice", "no such password").await;
    assert!(page.is_login_page() && page.url.starts_with(&stand.realm.issuer()), "{}", page.url);
    assert_eq!(session_id(&agent, APP), None);
    let landed = agent.submit_login(&page, "alice", "alice").await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo", stand.app())));
}

#[tokio::test]
async fn a_return_target_never_leaves_the_origin() {
    let stand = Stand::start().await;
    let (app, port) = (stand.app(), stand.ports.edge);
    let agent = UserAgent::new();
    let foreign = "//evil.example/page";
    let page = Begun::at(&stand, &agent, foreign).await.page;
    let landed = agent.submit_login(&page, "alice", "alice").await;
    assert_eq!(landed.url, format!("{app}/"), "after a login for {foreign}");

    // With the session, a login goes straight back: many forms in little time.
    let begin = async |query: &str| {
        let answer = agent.navigate(format!("{app}/auth/login?{query}")).without_redirects().await;
        assert_eq!(answer.status, 302, "{query}: {}", answer.text());
        answer.header("location").expect("a redirect says where")
    };
    let encode = |target: &str| -> String {
        url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", target).finish()
    };
    for target in [
        "https://evil.example/".to_owned(),
        "//evil.example".to_owned(),
        "///evil.example".to_owned(),
        "////evil.example".to_owned(),
        "/\\evil.example".to_owned(),
        "\\\\evil.example".to_owned(),
        "/\t/evil.example".to_owned(),
        "/\n/evil.example".to_owned(),
        "/%09/evil.example".to_owned(),
        "/%5cevil.example".to_owned(),
        "/%0d%0aSet-Cookie:%20a=b".to_owned(),
        " //evil.example".to_owned(),
        "http:evil.example".to_owned(),
        "http:///evil.example".to_owned(),
        "evil.example".to_owned(),
        "javascript:alert(1)".to_owned(),
        "data:text/html,x".to_owned(),
        format!("{app}@evil.example/"),
        format!("http://user:password@{APP}:{port}/"),
        format!("http://{APP}.evil.example:{port}/"),
        format!("http://evil{APP}:{port}/"),
        format!("https://{APP}:{port}/"),
        format!("http://{APP}/"),
        format!("{}/", stand.admin()),
        format!("/{}", "a".repeat(3000)),
        "/auth/login?return_to=/".to_owned(),
        "/auth/logout".to_owned(),
        String::new(),
    ] {
        let location = begin(&encode(&target)).await;
        assert_eq!(location, format!("{app}/"), "for {target:?}");
    }
    // A browser reads the first, a check may read the last: neither is believed.
    assert_eq!(begin("return_to=/a&return_to=//evil.example").await, format!("{app}/"));
    for target in ["/page?x=1&y=%2F".to_owned(), format!("{app}/page?z"), "/..//evil.example".to_owned()] {
        let location = Url::parse(&begin(&encode(&target)).await).expect("a URL");
        assert_eq!(location.origin().ascii_serialization(), app, "for {target:?}");
        assert!(location.path().ends_with("page") || location.path() == "//evil.example", "{location}");
    }
}

#[tokio::test]
async fn a_hint_leads_to_the_identity_provider_only_where_the_frontend_allows_it() {
    let stand = Stand::builder().with_corp().start().await;
    let corp = stand.corp.as_ref().expect("the stand has a realm corp").issuer();
    let query = "/auth/login?return_to=/api/echo&kc_idp_hint=corp";

    let agent = UserAgent::new();
    let page = agent.navigate(format!("{}{query}", stand.app())).await;
    assert!(page.is_login_page() && page.url.starts_with(&corp), "{}", page.url);
    let landed = agent.submit_login(&page, "dave", "dave").await;
    assert_eq!(
        (landed.status, landed.url.clone()),
        (200, format!("{}/api/echo", stand.app())),
        "{landed:#?}"
    );
    assert_eq!(landed.echoed("x-user-name").as_deref(), Some("Dave%20Dawson"));

    for address in [
        format!("{}{query}", stand.admin()),
        format!("{}/auth/login?kc_idp_hint=other", stand.app()),
        format!("{}/auth/login?kc_idp_hint=corp&kc_idp_hint=corp", stand.app()),
    ] {
        let page = UserAgent::new().navigate(&address).await;
        assert!(
            page.is_login_page() && page.url.starts_with(&stand.realm.issuer()),
            "{address}: {}",
            page.url
        );
        let request = page.hops[0].location.clone().expect("a login redirects");
        assert!(!request.contains("kc_idp_hint"), "{address}: {request}");
    }
}

#[tokio::test]
async fn force_asks_for_the_password_again_and_gives_a_new_session() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let old = session_id(&agent, APP).expect("alice has a session");

    let page = agent.navigate(format!("{}/auth/login?force=true&return_to=/api/echo", stand.app())).await;
    assert!(page.is_login_page(), "Keycloak should ask again: {page:#?}");
    // Nothing has happened yet: going back leaves her signed in.
    assert_eq!(agent.fetch(format!("{}/api/echo", stand.app())).await.status, 200);
    let landed = agent.submit_login(&page, "alice", "alice").await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo", stand.app())));

    let new = session_id(&agent, APP).expect("alice has a session again");
    assert_ne!(new, old);
    let thief = agent_with_session(APP, &old);
    assert_eq!(thief.fetch(format!("{}/api/echo", stand.app())).await.status, 401, "the old id is dead");
}

#[tokio::test]
async fn a_login_with_a_live_session_goes_straight_back() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let id = session_id(&agent, APP);
    let landed = agent.navigate(format!("{}/auth/login?return_to=/api/echo?again", stand.app())).await;
    assert_eq!(landed.url, format!("{}/api/echo?again", stand.app()));
    assert_eq!(landed.hops.len(), 2, "no way over Keycloak: {:#?}", landed.hops);
    assert_eq!((session_id(&agent, APP), transactions(&agent).len()), (id, 0));

    // Without it, Keycloak's own session signs her in without a word.
    agent.cookies.remove(APP, SESSION);
    let landed = agent.navigate(format!("{}/api/echo", stand.app())).await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo", stand.app())));
    assert!(landed.hops.iter().any(|hop| hop.url.starts_with(&stand.realm.issuer())));
}

#[tokio::test]
async fn the_authorization_request_holds_what_it_needs_and_nothing_that_the_browser_added() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let asked = async || {
        let foreign = "scope=admin&prompt=none&login_hint=mallory&redirect_uri=https://evil.example/&state=mine\
                       &nonce=mine&client_id=other&acr_values=1&max_age=1&response_mode=fragment&request=x\
                       &code_challenge=mine&code_challenge_method=plain&id_token_hint=x&claims=%7B%7D&force=yes";
        let url = format!("{}/auth/login?return_to=/&{foreign}", stand.app());
        let answer = agent.navigate(url).without_redirects().await;
        let location = Url::parse(&answer.header("location").expect("a redirect")).expect("a URL");
        assert!(location.as_str().starts_with(&format!("{}?", stand.realm.endpoint("auth"))), "{location}");
        let pairs: Vec<_> = location.query_pairs().into_owned().collect();
        let parameters: BTreeMap<String, String> = pairs.iter().cloned().collect();
        assert_eq!(parameters.len(), pairs.len(), "a parameter is repeated: {location}");
        parameters
    };
    let first = asked().await;
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "client_id",
            "code_challenge",
            "code_challenge_method",
            "nonce",
            "redirect_uri",
            "response_type",
            "scope",
            "state"
        ]
    );
    assert_eq!(first["client_id"], "keycloak-bff");
    assert_eq!((first["response_type"].as_str(), first["code_challenge_method"].as_str()), ("code", "S256"));
    assert_eq!(first["redirect_uri"], format!("{}/auth/callback", stand.app()));
    let scopes: BTreeSet<&str> = first["scope"].split(' ').collect();
    assert_eq!(scopes, BTreeSet::from(["email", "openid", "profile"]));
    let second = asked().await;
    for secret in ["state", "nonce", "code_challenge"] {
        assert_eq!(first[secret].len(), 43, "{secret} has 256 bits: {}", first[secret]);
        assert_ne!(first[secret], second[secret], "{secret} is new each time");
    }
}

#[tokio::test]
async fn the_cookies_have_every_attribute_that_keeps_them_safe() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let begun = Begun::at(&stand, &agent, "/").await;
    let transaction = transactions(&agent).pop().expect("a login under way has a cookie");
    assert!(transaction.secure && transaction.http_only && transaction.host_only, "{transaction:?}");
    assert_eq!((transaction.path.as_str(), transaction.same_site), ("/", SameSite::Lax));
    assert!(transaction.expires.is_some(), "it ends with Keycloak's own patience");
    assert!(transaction.name.len() + transaction.value.len() <= 1024);

    let callback = begun.callback(&agent, "alice").await;
    let landed = agent.navigate(callback).without_redirects().await;
    let lines = landed.header_values("set-cookie");
    let line = lines.iter().find(|line| line.starts_with("__Host-session="));
    let line = line.unwrap_or_else(|| panic!("no session cookie: {lines:?}"));
    let mut attributes: Vec<&str> = line.split("; ").skip(1).collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);
    assert_eq!(session_id(&agent, APP).map(|id| id.len()), Some(43), "256 bits, and nothing else");
    assert_eq!(transactions(&agent).len(), 0, "the login is over");
    assert_eq!(landed.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(session_id(&agent, ADMIN), None);
}

#[tokio::test]
async fn a_session_id_planted_before_the_login_is_never_adopted() {
    let stand = Stand::start().await;
    let planted = "A".repeat(43);
    let agent = agent_with_session(APP, &planted);
    let landed = agent.sign_in(format!("{}/api/echo", stand.app()), "alice", "alice").await;
    assert_eq!(landed.status, 200);
    assert_ne!(session_id(&agent, APP).expect("alice has a session"), planted);
    let thief = agent_with_session(APP, &planted);
    assert_eq!(thief.fetch(format!("{}/auth/me", stand.app())).await.status, 401);
}
