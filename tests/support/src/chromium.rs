//! A real browser: headless Chromium, driven through WebDriver.

use crate::process::Process;
use crate::{files, ports, tools, wait};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);
/// How long an element or a condition of a page may take to appear.
const PATIENCE: Duration = Duration::from_secs(15);
/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Besides these, a data directory of its own. The network ones keep it from asking for anything by itself.
const FLAGS: [&str; 9] = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1100,900",
];

/// A browser, at first with one tab. Dropping it ends it.
pub struct Chromium {
    http: Client,
    session: String,
    // Before the directory, so that the browser has ended when that goes.
    _driver: Process,
    _dir: TempDir,
}

impl Chromium {
    /// Starts a browser that knows nothing yet.
    pub async fn start() -> Self {
        let dir = files::temporary("chromium-");
        let port = ports::free();
        let mut command = Command::new(tools::chromedriver());
        command.arg(format!("--port={port}"));
        // Reports of crashes would go to the user's own configuration.
        command.env("XDG_CONFIG_HOME", dir.path());
        let mut driver = Process::spawn("chromedriver", &mut command, dir.path());
        driver.ready(START, async || wait::accepts(port).await).await;

        let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", dir.path().join("profile").display()));
        // Chromium's sandbox refuses to start as root.
        if rustix::process::geteuid().is_root() {
            flags.push("--no-sandbox".to_owned());
        }
        let options = json!({"binary": tools::chromium(), "args": flags});
        let capabilities = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}});
        let http = Client::builder().no_proxy().timeout(START).build().expect("an HTTP client");
        let base = format!("http://127.0.0.1:{port}/session");
        let answer = call(&http, Method::POST, &base, Some(&capabilities)).await;
        let answer =
            answer.unwrap_or_else(|error| panic!("Chromium did not start: {error}\n{}", driver.log_tail()));
        let id = answer["sessionId"].as_str().expect("a session has an id");
        Self { http, session: format!("{base}/{id}"), _driver: driver, _dir: dir }
    }

    /// Opens an address and waits until the page is loaded.
    pub async fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url})).await;
    }

    /// Where it is.
    pub async fn url(&self) -> String {
        string(self.get("/url").await)
    }

    /// Waits until the address begins like this, and gives the whole.
    pub async fn wait_for_url(&self, prefix: &str) -> String {
        let found =
            wait::within(PATIENCE, async || Some(self.url().await).filter(|url| url.starts_with(prefix)));
        match found.await {
            Some(url) => url,
            None => panic!(
                "the browser never came to {prefix}, it is at {}:\n{}",
                self.url().await,
                self.source().await
            ),
        }
    }

    /// The tab that it shows, to come back to it.
    pub async fn tab(&self) -> String {
        string(self.get("/window").await)
    }

    /// Opens another tab and shows it.
    pub async fn new_tab(&self) -> String {
        let tab = string(self.post("/window/new", &json!({"type": "tab"})).await["handle"].take());
        self.show_tab(&tab).await;
        tab
    }

    /// Shows a tab.
    pub async fn show_tab(&self, tab: &str) {
        self.post("/window", &json!({"handle": tab})).await;
    }

    /// The title of the page.
    pub async fn title(&self) -> String {
        string(self.get("/title").await)
    }

    /// The page as it stands.
    pub async fn source(&self) -> String {
        string(self.get("/source").await)
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.post("/refresh", &json!({})).await;
    }

    /// Goes one step back in the history.
    pub async fn back(&self) {
        self.post("/back", &json!({})).await;
    }

    /// Waits for the first element that a CSS selector finds and that shows, and clicks it.
    pub async fn click(&self, selector: &str) {
        let element = self.wait_for(selector).await;
        self.post(&format!("{element}/click"), &json!({})).await;
    }

    /// Waits for an element and types into it, in place of what it held.
    pub async fn fill(&self, selector: &str, text: &str) {
        let element = self.wait_for(selector).await;
        self.post(&format!("{element}/clear"), &json!({})).await;
        self.post(&format!("{element}/value"), &json!({"text": text})).await;
    }

    /// Waits for an element and gives its visible text.
    pub async fn text(&self, selector: &str) -> String {
        let element = self.wait_for(selector).await;
        string(self.get(&format!("{element}/text")).await)
    }

    /// Waits until an element's text satisfies a condition, and gives the text.
    pub async fn wait_for_text(&self, selector: &str, wanted: impl Fn(&str) -> bool) -> String {
        let found = wait::within(PATIENCE, async || {
            // The page may change between finding the element and reading it.
            let text = self.visible(selector).await?;
            let text = self.try_call(Method::GET, &format!("{text}/text"), None).await.ok()?;
            text.as_str().filter(|text| wanted(text)).map(str::to_owned)
        });
        match found.await {
            Some(text) => text,
            None => {
                panic!("{selector} never read as wanted, at {}:\n{}", self.url().await, self.source().await)
            }
        }
    }

    /// Whether the page shows an element now.
    pub async fn shows(&self, selector: &str) -> bool {
        self.visible(selector).await.is_some()
    }

    /// Fills in and sends Keycloak's login page.
    pub async fn sign_in(&self, user: &str, password: &str) {
        self.fill("#username", user).await;
        self.fill("#password", password).await;
        self.click("#kc-login").await;
    }

    /// Runs the body of a script function and gives what it returns.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// The cookies of the page's host, those that scripts cannot see included.
    pub async fn cookies(&self) -> Vec<Value> {
        self.get("/cookie").await.as_array().expect("cookies are a list").clone()
    }

    /// Removes the cookies of the page's host.
    pub async fn delete_cookies(&self) {
        self.call(Method::DELETE, "/cookie", None).await;
    }

    /// Writes a PNG of the window.
    pub async fn screenshot(&self, file: &Path) {
        let png = STANDARD.decode(string(self.get("/screenshot").await)).expect("a screenshot is base64");
        std::fs::write(file, png).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// The path of an element that shows, waited for.
    async fn wait_for(&self, selector: &str) -> String {
        match wait::within(PATIENCE, async || self.visible(selector).await).await {
            Some(element) => element,
            None => panic!("no {selector} shows at {}:\n{}", self.url().await, self.source().await),
        }
    }

    async fn visible(&self, selector: &str) -> Option<String> {
        let query = json!({"using": "css selector", "value": selector});
        let found = self.try_call(Method::POST, "/element", Some(&query)).await.ok()?;
        let path = format!("/element/{}", found[ELEMENT].as_str()?);
        let shown = self.try_call(Method::GET, &format!("{path}/displayed"), None).await.ok()?;
        (shown == true).then_some(path)
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("Chromium, {path}: {error}"))
    }

    async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        call(&self.http, method, &format!("{}{path}", self.session), body).await
    }
}

/// One WebDriver command: the `value` of its answer, or what went wrong.
async fn call(http: &Client, method: Method, url: &str, body: Option<&Value>) -> Result<Value, String> {
    let mut request = http.request(method, url);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
    let value = answer["value"].take();
    if status.is_success() { Ok(value) } else { Err(value["message"].to_string()) }
}

fn string(value: Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string was expected: {value}")).to_owned()
}
