//! What an administrator does through the HTTP API.

use super::{ADMIN, Cluster};
use crate::wait;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a change may take to be seen everywhere in the API server.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// The account that the program asks with.
const PROGRAM: &str = "keycloak-bff";

/// Counts the namespaces of this process, so that no two tests have one.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// What the API server says.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The texts of its `Warning` headers (RFC 9111 section 5.5).
    pub warnings: Vec<String>,
    /// The body.
    pub body: Value,
}

/// A client that believes this authority. Connections are not kept: they would end with the test that made them.
pub(super) fn client(authority: &[u8]) -> Option<Client> {
    let authorities = Certificate::from_pem_bundle(authority).ok()?;
    let client = Client::builder().no_proxy().tls_certs_only(authorities).pool_max_idle_per_host(0);
    Some(client.timeout(Duration::from_secs(60)).build().expect("an HTTP client"))
}

impl Cluster {
    /// A call as the administrator; panics unless it succeeds.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call_as(ADMIN, method.clone(), path, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        answer.body
    }

    /// A call as the administrator, whatever its answer.
    pub async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.call_as(ADMIN, method, path, body).await
    }

    /// Makes an object as its manifest says; a field that there is not is refused.
    pub async fn create(&self, manifest: &Value) -> Answer {
        self.try_call(Method::POST, &format!("{}?fieldValidation=Strict", path_of(manifest)), Some(manifest))
            .await
    }

    /// What would become of [`create`](Self::create). Nothing is made.
    pub async fn dry_run(&self, manifest: &Value) -> Answer {
        let path = format!("{}?fieldValidation=Strict&dryRun=All", path_of(manifest));
        self.try_call(Method::POST, &path, Some(manifest)).await
    }

    /// A namespace of this name with these labels, unless it is there already.
    pub async fn create_namespace(&self, name: &str, labels: &Value) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        let answer = self.try_call(Method::POST, "/api/v1/namespaces", Some(&namespace)).await;
        assert!(matches!(answer.status, 201 | 409), "{answer:?}");
    }

    /// A namespace that nobody else has, with these service accounts. Returns its name.
    pub async fn new_namespace(&self, accounts: &[&str]) -> String {
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.create_namespace(&name, &json!({})).await;
        for account in accounts {
            self.create_service_account(&name, account).await;
        }
        name
    }

    /// A service account.
    pub async fn create_service_account(&self, namespace: &str, name: &str) {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        self.call(Method::POST, &accounts(namespace), Some(&account)).await;
    }

    /// Removes a service account.
    pub async fn delete_service_account(&self, namespace: &str, name: &str) {
        self.call(Method::DELETE, &format!("{}/{name}", accounts(namespace)), None).await;
    }

    /// A pod with a service account, which no node will ever run.
    pub async fn create_pod(&self, namespace: &str, name: &str, account: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "none"}]},
        });
        self.call(Method::POST, &pods(namespace), Some(&pod)).await;
    }

    /// Removes a pod.
    pub async fn delete_pod(&self, namespace: &str, name: &str) {
        self.call(Method::DELETE, &format!("{}/{name}", pods(namespace)), None).await;
    }

    /// A token of a service account that lives for ten minutes, the least there is. Without an audience it is for the
    /// API server.
    pub async fn token(&self, namespace: &str, account: &str, audience: Option<&str>) -> String {
        self.request_token(namespace, account, audience, &Value::Null).await
    }

    /// The token that a pod finds in a projected volume.
    pub async fn pod_token(&self, namespace: &str, account: &str, pod: &str, audience: &str) -> String {
        let found = self.call(Method::GET, &format!("{}/{pod}", pods(namespace)), None).await;
        let uid = &found["metadata"]["uid"];
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
        self.request_token(namespace, account, Some(audience), &bound).await
    }

    /// A file with the token that the program asks the API server with. Its account is made in this namespace, and may
    /// do nothing but have tokens reviewed.
    pub async fn program_token_file(&self, namespace: &str) -> PathBuf {
        self.create_service_account(namespace, PROGRAM).await;
        self.allow_reviews(namespace, PROGRAM).await;
        let token = self.token(namespace, PROGRAM, None).await;
        let is_allowed = async || {
            let answer = self.review_as(&token, &token, None).await;
            (answer.status == 201).then_some(())
        };
        wait::until("the program's account to be allowed reviews", SOON, is_allowed).await;
        let file = self.dir().join(format!("token-{namespace}"));
        fs::write(&file, token).expect("the token can be written");
        file
    }

    /// Lets a service account create TokenReviews.
    pub async fn allow_reviews(&self, namespace: &str, account: &str) {
        let name = format!("{namespace}-{account}-tokenreview");
        let (group, path) = ("rbac.authorization.k8s.io", "/apis/rbac.authorization.k8s.io/v1");
        let reviews = json!({"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]});
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": [reviews],
        });
        self.call(Method::POST, &format!("{path}/clusterroles"), Some(&role)).await;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": account}],
        });
        self.call(Method::POST, &format!("{path}/clusterrolebindings"), Some(&binding)).await;
    }

    /// Waits until the API server itself takes a token for a bad one.
    pub async fn until_refused(&self, token: &str, audience: &str) {
        let is_refused = async || {
            let review = self.review_as(ADMIN, token, Some(audience)).await;
            (review.body["status"]["authenticated"] != true).then_some(())
        };
        wait::until("the API server to refuse a token", SOON, is_refused).await;
    }

    async fn review_as(&self, credential: &str, token: &str, audience: Option<&str>) -> Answer {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audience.as_slice()},
        });
        self.call_as(credential, Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", Some(&review))
            .await
    }

    async fn request_token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        bound: &Value,
    ) -> String {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audience.as_slice(), "expirationSeconds": 600, "boundObjectRef": bound},
        });
        let path = format!("{}/{account}/token", accounts(namespace));
        let answer = self.call(Method::POST, &path, Some(&request)).await;
        answer["status"]["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    pub(super) async fn apply_with(&self, manifest: &Value, options: &str) -> Answer {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{}/{name}?fieldManager=test&fieldValidation=Strict{options}", path_of(manifest));
        self.send(ADMIN, Method::PATCH, &path, Some(("application/apply-patch+yaml", manifest))).await
    }

    async fn call_as(&self, credential: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.send(credential, method, path, body.map(|body| ("application/json", body))).await
    }

    async fn send(
        &self,
        credential: &str,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Answer {
        let authority = fs::read(self.ca_file()).expect("the API server has a certificate");
        let http = client(&authority).expect("the API server's certificate is one");
        let mut request = http.request(method, format!("{}{path}", self.url())).bearer_auth(credential);
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind).body(body.to_string());
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let status = answer.status().as_u16();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings = warnings.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let text = answer.text().await.unwrap_or_default();
        Answer { status, warnings, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }
}

/// Where objects of a manifest's kind are made.
fn path_of(manifest: &Value) -> String {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    let group = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let kind = plural(&text("/kind").to_lowercase());
    match text("/metadata/namespace") {
        "" => format!("{group}/{kind}"),
        namespace => format!("{group}/namespaces/{namespace}/{kind}"),
    }
}

/// As Kubernetes and everyone who defines objects for it forms it.
fn plural(kind: &str) -> String {
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

fn accounts(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/serviceaccounts")
}

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}
