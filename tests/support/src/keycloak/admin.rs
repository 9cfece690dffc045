//! What an administrator does through Keycloak's admin REST API.

use super::ADMIN;
use crate::files;
use parking_lot::Mutex;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Shorter than the 60 s for which Keycloak's admin token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(30);

/// The admin API of one server, signed in when needed.
#[derive(Clone)]
pub struct AdminApi {
    base: String,
    http: Client,
    token: Arc<Mutex<Option<(String, Instant)>>>,
}

impl AdminApi {
    /// The API of the server at `base`, for example `http://localhost:8080`.
    pub fn new(base: &str) -> Self {
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build();
        let http = http.expect("an HTTP client");
        Self { base: base.to_owned(), http, token: Arc::default() }
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.base
    }

    /// Makes a realm of its JSON representation.
    pub async fn create_realm(&self, realm: &Value) -> Realm {
        self.call(Method::POST, "", Some(realm)).await;
        self.realm(realm["realm"].as_str().expect("a realm has a name"))
    }

    /// A realm that exists.
    pub fn realm(&self, name: &str) -> Realm {
        Realm { api: self.clone(), name: name.to_owned() }
    }

    /// A call below `/admin/realms`; panics unless it succeeds.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.try_call(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} /admin/realms{path}: {status} {answer}");
        answer
    }

    /// A call below `/admin/realms`, whatever its answer.
    pub async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let url = format!("{}/admin/realms{path}", self.base);
        let mut request = self.http.request(method, &url).bearer_auth(self.token().await);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn token(&self) -> String {
        if let Some((token, since)) = &*self.token.lock()
            && since.elapsed() < TOKEN_LIFE
        {
            return token.clone();
        }
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.base);
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", ADMIN),
            ("password", ADMIN),
        ];
        let answer = self.http.post(&url).form(&form).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{url}: {error}"));
        let answer: Value = answer.json().await.expect("the token endpoint answers JSON");
        let token =
            answer["access_token"].as_str().unwrap_or_else(|| panic!("no admin token: {answer}")).to_owned();
        *self.token.lock() = Some((token.clone(), Instant::now()));
        token
    }
}

/// One realm, seen by its administrator. Users are called by their names, clients by their client ids.
#[derive(Clone)]
pub struct Realm {
    api: AdminApi,
    name: String,
}

impl Realm {
    /// The realm's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The realm's issuer URL.
    pub fn issuer(&self) -> String {
        format!("{}/realms/{}", self.api.base, self.name)
    }

    /// The realm's endpoint of that name below `protocol/openid-connect`, such as `token`.
    pub fn endpoint(&self, name: &str) -> String {
        format!("{}/protocol/openid-connect/{name}", self.issuer())
    }

    /// Changes the fields that `patch` names.
    pub async fn update(&self, patch: &Value) {
        self.patch("", patch).await;
    }

    /// Removes the realm.
    pub async fn delete(&self) {
        self.call(Method::DELETE, "", None).await;
    }

    /// Makes a client of its JSON representation.
    pub async fn create_client(&self, client: &Value) {
        self.call(Method::POST, "/clients", Some(client)).await;
    }

    /// Changes the fields of a client that `patch` names.
    pub async fn update_client(&self, client_id: &str, patch: &Value) {
        let id = self.client_uuid(client_id).await;
        self.patch(&format!("/clients/{id}"), patch).await;
    }

    /// The id that Keycloak gave to a client.
    pub async fn client_uuid(&self, client_id: &str) -> String {
        self.id_of(&format!("/clients?clientId={client_id}"), client_id).await
    }

    /// Makes a user with a password and roles of the realm, the default roles among them.
    pub async fn create_user(&self, name: &str, password: &str, roles: &[&str]) {
        let user = json!({
            "username": name, "enabled": true, "email": format!("{name}@example.com"), "emailVerified": true,
            "firstName": name, "lastName": "Tester",
            "credentials": [{"type": "password", "value": password, "temporary": false}],
        });
        self.call(Method::POST, "/users", Some(&user)).await;
        if !roles.is_empty() {
            self.add_roles(name, roles).await;
        }
    }

    /// Changes the fields of a user that `patch` names.
    pub async fn update_user(&self, name: &str, patch: &Value) {
        let id = self.user_id(name).await;
        self.patch(&format!("/users/{id}"), patch).await;
    }

    /// Enables or disables a user.
    pub async fn set_enabled(&self, name: &str, enabled: bool) {
        self.update_user(name, &json!({"enabled": enabled})).await;
    }

    /// The id of a user: the claim `sub`.
    pub async fn user_id(&self, name: &str) -> String {
        self.id_of(&format!("/users?exact=true&username={name}"), name).await
    }

    /// Gives roles of the realm to a user.
    pub async fn add_roles(&self, user: &str, roles: &[&str]) {
        self.map_roles(Method::POST, user, roles).await;
    }

    /// Takes roles of the realm from a user.
    pub async fn remove_roles(&self, user: &str, roles: &[&str]) {
        self.map_roles(Method::DELETE, user, roles).await;
    }

    /// The sessions of a user at Keycloak.
    pub async fn sessions(&self, user: &str) -> Vec<Value> {
        let id = self.user_id(user).await;
        as_list(self.call(Method::GET, &format!("/users/{id}/sessions"), None).await)
    }

    /// Ends one session at Keycloak.
    pub async fn delete_session(&self, id: &str) {
        self.call(Method::DELETE, &format!("/sessions/{id}"), None).await;
    }

    /// Ends all sessions of a user, as the administrator's console does.
    pub async fn logout_user(&self, user: &str) {
        let id = self.user_id(user).await;
        self.call(Method::POST, &format!("/users/{id}/logout"), None).await;
    }

    /// Declares all tokens issued so far invalid.
    pub async fn revoke_tokens_until_now(&self) {
        let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs();
        self.update(&json!({"notBefore": now})).await;
    }

    /// What users did in the realm, newest first. Keycloak writes it shortly after it happened.
    pub async fn events(&self) -> Vec<Value> {
        as_list(self.call(Method::GET, "/events?max=1000", None).await)
    }

    /// How often an event of that type happened, for example `REFRESH_TOKEN`.
    pub async fn count_events(&self, kind: &str) -> usize {
        self.events().await.iter().filter(|event| event["type"] == kind).count()
    }

    /// A call below `/admin/realms/NAME`; panics unless it succeeds.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        self.api.call(method, &format!("/{}{path}", self.name), body).await
    }

    /// The API replaces a representation as a whole, so it is read first.
    async fn patch(&self, path: &str, patch: &Value) {
        let mut value = self.call(Method::GET, path, None).await;
        files::merge(&mut value, patch);
        self.call(Method::PUT, path, Some(&value)).await;
    }

    async fn map_roles(&self, method: Method, user: &str, roles: &[&str]) {
        let id = self.user_id(user).await;
        let mut found = Vec::new();
        for role in roles {
            found.push(self.call(Method::GET, &format!("/roles/{role}"), None).await);
        }
        let path = format!("/users/{id}/role-mappings/realm");
        self.call(method, &path, Some(&Value::Array(found))).await;
    }

    async fn id_of(&self, path: &str, name: &str) -> String {
        let found = self.call(Method::GET, path, None).await;
        let id = found[0]["id"].as_str();
        id.unwrap_or_else(|| panic!("no {name} in realm {}", self.name)).to_owned()
    }
}

fn as_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("a list was expected: {other}"),
    }
}
