//! Steps that many tests take in the same way.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keycloak_bff_testbed::cookies::Cookie;
use keycloak_bff_testbed::stand::Builder;
use keycloak_bff_testbed::user_agent::Request;
use keycloak_bff_testbed::{Deployment, Response, Stand, UserAgent, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;

/// The name of the demo's session cookie, on both frontends.
pub const SESSION: &str = "__Host-session";
/// The hosts of the demo's frontends.
pub const APP: &str = "app.demo.localhost";
pub const ADMIN: &str = "admin.demo.localhost";

/// How long a condition may take to come about, unless it waits for a token's end.
pub const SOON: Duration = Duration::from_secs(30);

/// A browser that is signed in on the app frontend.
pub async fn signed_in(stand: &Stand, user: &str) -> UserAgent {
    let agent = UserAgent::new();
    let landed = agent.sign_in(format!("{}/api/echo", stand.app()), user, user).await;
    assert_eq!(landed.status, 200, "{user} should be signed in: {landed:#?}");
    agent
}

/// Takes a browser that is signed in on the app frontend to the admin frontend, where Keycloak's session signs it in.
pub async fn go_to_admin(stand: &Stand, agent: &UserAgent) {
    let landed = agent.navigate(format!("{}/api/echo", stand.admin())).await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo", stand.admin())));
}

/// Whether the app frontend's API can be called.
pub async fn is_signed_in(stand: &Stand, agent: &UserAgent) -> bool {
    is_signed_in_at(&stand.app(), agent).await
}

/// Whether the API of the frontend with this origin can be called.
pub async fn is_signed_in_at(origin: &str, agent: &UserAgent) -> bool {
    let answer = agent.fetch(format!("{origin}/api/echo")).await;
    match answer.status {
        200 => true,
        401 => false,
        status => panic!("neither signed in nor not: {status} {}", answer.text()),
    }
}

/// The value of the browser's session cookie on a frontend.
pub fn session_id(agent: &UserAgent, host: &str) -> Option<String> {
    agent.cookies.get(host, SESSION).map(|cookie| cookie.value)
}

/// The browser's session cookie on the app frontend, as a header carries it.
pub fn session_cookie(agent: &UserAgent) -> String {
    format!("{SESSION}={}", session_id(agent, APP).expect("the browser has a session"))
}

/// The cookies of the browser's logins under way on the app frontend.
pub fn transactions(agent: &UserAgent) -> Vec<Cookie> {
    let cookies = agent.cookies.of(APP).into_iter();
    cookies.filter(|cookie| cookie.name.starts_with("__Host-login-app-")).collect()
}

/// A browser that knows nothing but one session cookie.
pub fn agent_with_session(host: &str, id: &str) -> UserAgent {
    let agent = UserAgent::new();
    plant(&agent, host, SESSION, id);
    agent
}

/// Puts a cookie into a browser as the program itself would have set it.
pub fn plant(agent: &UserAgent, host: &str, name: &str, value: &str) {
    agent.cookies.put(Cookie {
        name: name.to_owned(),
        value: value.to_owned(),
        host: host.to_owned(),
        host_only: true,
        path: "/".to_owned(),
        secure: true,
        http_only: true,
        same_site: keycloak_bff_testbed::cookies::SameSite::Lax,
        expires: None,
    });
}

/// The access token that reaches the API, by what the upstream saw.
pub async fn access_token(deployment: &Deployment, agent: &UserAgent) -> String {
    let echo = agent.fetch(format!("{}/api/echo", deployment.app())).await;
    bearer(&echo)
        .unwrap_or_else(|| panic!("no access token reached the API: {} {}", echo.status, echo.text()))
}

/// Calls the API until its token is another one than `old`, and gives the new one.
pub async fn next_token(stand: &Stand, agent: &UserAgent, old: &str, limit: Duration) -> String {
    let changed = async || Some(access_token(stand, agent).await).filter(|token| token != old);
    wait::until("another access token", limit, changed).await
}

/// The access token that an echo shows.
pub fn bearer(echo: &Response) -> Option<String> {
    (echo.status == 200).then(|| echo.echoed("authorization"))??.strip_prefix("Bearer ").map(str::to_owned)
}

/// The claims of a token.
pub fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).expect("a JWT has three parts");
    let body = URL_SAFE_NO_PAD.decode(body).expect("a JWT is base64url");
    serde_json::from_slice(&body).expect("a JWT holds JSON")
}

/// Waits until a token's time is over.
pub async fn until_expired(token: &str) {
    until_after(claims(token)["exp"].as_u64().expect("a token ends")).await;
}

/// A stand whose access tokens live for so many seconds and whose Keycloak writes down every refresh.
pub fn with_token_life(seconds: u64) -> Builder {
    Stand::builder()
        .realm(move |realm| {
            realm["accessTokenLifespan"] = json!(seconds);
            realm["enabledEventTypes"] = json!([
                "LOGIN",
                "LOGOUT",
                "CODE_TO_TOKEN",
                "REFRESH_TOKEN",
                "REFRESH_TOKEN_ERROR",
                "REVOKE_GRANT"
            ]);
        })
        .program(|config| config["sessions"]["least_token_life"] = json!("1s"))
}

/// Has requests wait for Keycloak as long as a test holds it back.
pub fn patient(config: &mut Value) {
    config["sessions"]["refresh_wait"] = json!("30s");
}

/// The settings of Envoy's `ext_authz` filter.
pub fn ext_authz(envoy: &mut Value) -> &mut Value {
    let filter =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config";
    envoy.pointer_mut(filter).expect("the ext_authz filter")
}

/// Has Envoy wait for the program as long as that.
pub fn patient_envoy(envoy: &mut Value) {
    ext_authz(envoy)["grpc_service"]["timeout"] = json!("30s");
}

/// Holds Keycloak's answers back, waits until the access token is over, and calls the API, which now waits for a
/// refresh. Gives what becomes of the call.
pub async fn call_that_waits<'a>(stand: &'a Stand, agent: &'a UserAgent) -> impl Future<Output = u16> + 'a {
    until_expired(&access_token(stand, agent).await).await;
    stand.gate().hold();
    let mut call = Box::pin(async { agent.fetch(format!("{}/api/echo", stand.app())).await.status });
    let arrived = wait::until("a refresh", SOON, async || (stand.gate().waiting() > 0).then_some(()));
    tokio::select! {
        status = &mut call => panic!("the call should wait for the refresh: {status}"),
        () = arrived => call,
    }
}

/// How many checks Envoy waits for at this moment.
pub async fn checks_under_way(stand: &Stand) -> u64 {
    checks_under_way_at(stand.ports.admin).await
}

/// How many checks the Envoy with this port for its administration waits for at this moment.
pub async fn checks_under_way_at(admin: u16) -> u64 {
    let name = "cluster.bff.upstream_rq_active: ";
    let stats = format!("http://127.0.0.1:{admin}/stats?filter=cluster.bff.upstream_rq_active");
    let stats = UserAgent::new().fetch(stats).await.text();
    let count = stats.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
    count.unwrap_or_else(|| panic!("Envoy does not tell: {stats}"))
}

/// A login that was begun: the browser shows Keycloak's page.
pub struct Begun {
    /// Keycloak's login page.
    pub page: Response,
    /// Where the browser was sent to ask for the login.
    pub request: Url,
}

impl Begun {
    /// Begins a login on the app frontend that shall return to `return_to`.
    pub async fn at(stand: &Stand, agent: &UserAgent, return_to: &str) -> Self {
        let mut url = Url::parse(&format!("{}/auth/login", stand.app())).expect("a URL");
        url.query_pairs_mut().append_pair("return_to", return_to);
        let page = agent.navigate(url).await;
        assert!(page.is_login_page(), "{page:#?}");
        let request = page.hops[0].location.as_deref().expect("a login redirects");
        Self { request: Url::parse(request).expect("a URL"), page }
    }

    /// A parameter of the authorization request.
    pub fn parameter(&self, name: &str) -> String {
        let found = self.request.query_pairs().find(|(key, _)| key == name);
        found.unwrap_or_else(|| panic!("no {name} in {}", self.request)).1.into_owned()
    }

    pub fn state(&self) -> String {
        self.parameter("state")
    }

    /// Signs in at Keycloak and gives the callback's address instead of going there.
    pub async fn callback(&self, agent: &UserAgent, user: &str) -> String {
        let form = [("username", user), ("password", user), ("credentialId", "")];
        let request = agent.navigate(self.page.login_form()).method(Method::POST).form(&form);
        let answer = request.from_page(&self.page.url).without_redirects().await;
        answer.header("location").unwrap_or_else(|| panic!("Keycloak did not redirect: {answer:#?}"))
    }
}

/// The callback's address with these parameters.
pub fn callback_url(stand: &Stand, parameters: &[(&str, &str)]) -> String {
    let mut url = Url::parse(&format!("{}/auth/callback", stand.app())).expect("a URL");
    url.query_pairs_mut().extend_pairs(parameters);
    url.into()
}

/// Waits until Keycloak has written `count` events of a kind, and shows that there are no more of them.
pub async fn events(stand: &Stand, kind: &str, count: usize) {
    let enough = async || (stand.realm.count_events(kind).await >= count).then_some(());
    wait::until(&format!("{count} events {kind}"), SOON, enough).await;
    assert_eq!(stand.realm.count_events(kind).await, count, "{kind}");
}

/// Keycloak's strictest: a refresh token that is used twice ends the session.
pub fn rotation(realm: &mut Value) {
    realm["revokeRefreshToken"] = json!(true);
    realm["refreshTokenMaxReuse"] = json!(0);
}

/// Requests that no page of the app frontend itself made, each with what it is. `request` makes one to begin with.
pub fn from_elsewhere<'a>(
    stand: &Stand,
    request: impl Fn() -> Request<'a>,
) -> Vec<(&'static str, Request<'a>)> {
    let (app, admin) = (stand.app(), stand.admin());
    let (app, admin, evil) = (app.as_str(), admin.as_str(), "https://evil.example");
    let made: [(_, &[&str], _); 9] = [
        ("a foreign page", &[evil], Some("cross-site")),
        ("the other frontend", &[admin], Some("same-site")),
        ("a sandboxed page", &["null"], Some("cross-site")),
        ("a foreign page in an old browser", &[evil], None),
        ("a sandboxed page in an old browser", &["null"], None),
        ("a page that says nothing", &[], None),
        ("a page that hides its origin", &[], Some("cross-site")),
        ("a sibling that hides its origin", &[], Some("same-site")),
        ("two origins", &[app, evil], None),
    ];
    let request = |(what, origins, site): (_, &[&str], Option<&str>)| {
        let without = request().without_header("origin").without_header("sec-fetch-site");
        let with_origin = origins.iter().fold(without, |request, origin| request.header("origin", origin));
        (what, site.into_iter().fold(with_origin, |request, site| request.header("sec-fetch-site", site)))
    };
    made.into_iter().map(request).collect()
}

/// A request without what browsers tell of where it came from.
pub fn from_no_browser(request: Request<'_>) -> Request<'_> {
    let names = ["origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"];
    names.iter().fold(request, |request, name| request.without_header(name))
}

/// Keycloak's id of the session that signed a browser in on the app frontend: the claim `sid`.
pub async fn provider_session(stand: &Stand, agent: &UserAgent) -> String {
    let claims = claims(&access_token(stand, agent).await);
    claims["sid"].as_str().expect("Keycloak names its session").to_owned()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs()
}

/// Waits until the clock shows a later second than this.
pub async fn until_after(second: u64) {
    let is_over = async || (now() > second).then_some(());
    wait::until(&format!("the second after {second}"), Duration::from_secs(120), is_over).await;
}
