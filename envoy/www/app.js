// The demo frontend. It knows four addresses of its own origin: /auth/me, /auth/login, /auth/logout and the API.

const element = (id) => document.getElementById(id);

const otherFrontends = { "app.": "admin.", "admin.": "app." };
const kind = location.hostname.split(".")[0];
const otherOrigin = location.origin.replace(/^http:\/\/(app\.|admin\.)/, (_, name) => `http://${otherFrontends[name]}`);

const meanings = {
  401: "Not signed in. The API saw nothing of this call.",
  403: "Signed in, but not allowed: a role is missing. The API saw nothing of this call.",
  503: "Cannot be decided at the moment. Try again soon.",
};

/** The address that signs in and comes back to this page. */
function loginAddress(parameters = {}) {
  const here = location.pathname + location.search;
  return "/auth/login?" + new URLSearchParams({ return_to: here, ...parameters });
}

/** Asks who is signed in and shows it. */
async function showUser() {
  const answer = await fetch("/auth/me", { headers: { accept: "application/json" } });
  if (answer.status !== 200 && answer.status !== 401) {
    element("who").textContent = `Cannot tell at the moment (${answer.status})`;
    return;
  }
  const me = await answer.json();
  const name = me.claims?.name ?? me.claims?.preferred_username ?? me.claims?.sub;
  element("who").textContent = me.authenticated ? name : "Nobody";
  element("sign-in").hidden = me.authenticated;
  element("sign-in-corp").hidden = me.authenticated || kind !== "app";
  element("sign-in-again").hidden = !me.authenticated;
  element("sign-out").hidden = !me.authenticated;
  showDetails(me);
}

/** The claims, and when the session ends. */
function showDetails(me) {
  const rows = Object.entries(me.claims ?? {}).filter(([claim]) => claim !== "name");
  rows.push(["session ends", moment(me.session?.expires_at)]);
  rows.push(["at the latest", moment(me.session?.login_expires_at)]);
  const cells = rows.filter(([, value]) => value !== undefined).flatMap(([title, value]) => {
    const dt = document.createElement("dt");
    dt.textContent = title;
    const dd = document.createElement("dd");
    dd.textContent = typeof value === "string" ? value : JSON.stringify(value);
    return [dt, dd];
  });
  element("details").replaceChildren(...cells);
  element("details").hidden = !me.authenticated;
}

/** A moment given in seconds since 1970, or as text, in the reader's own way. */
function moment(value) {
  if (value === undefined || value === null) return undefined;
  return new Date(typeof value === "number" ? value * 1000 : value).toLocaleString();
}

/** Calls an address and shows what came of it. */
async function call(address, options) {
  show("Calling …", "");
  element("result").hidden = true;
  try {
    const answer = await fetch(address, options);
    const body = await answer.text();
    const meaning = meanings[answer.status] ?? (answer.ok ? "This reached the API:" : "Unexpected.");
    show(`${answer.status} – ${meaning}`, answer.ok ? "good" : "bad");
    element("result").textContent = readable(body);
    element("result").hidden = false;
  } catch (error) {
    show(`The browser refused or could not reach it: ${error.message}`, "bad");
  }
}

function show(text, tone) {
  element("outcome").textContent = text;
  element("outcome").className = tone;
}

/** JSON with indents, and with no more of the access token than shows that there was one. */
function readable(body) {
  try {
    const json = JSON.parse(body);
    const authorization = json.headers?.authorization;
    if (authorization) json.headers.authorization = authorization.map((value) => value.slice(0, 20) + "…");
    return JSON.stringify(json, null, 2);
  } catch {
    return body;
  }
}

element("frontend").textContent = `${kind} frontend`;
document.title = `${kind} frontend`;
element("sign-in").href = loginAddress();
element("sign-in-corp").href = loginAddress({ kc_idp_hint: "corp" });
element("sign-in-again").href = loginAddress({ force: "true" });
element("call-api").addEventListener("click", () => call("/api/echo"));
element("call-admin").addEventListener("click", () => call("/admin/echo"));
element("call-other").addEventListener("click", () => call(`${otherOrigin}/api/echo`, { credentials: "include" }));
// A page that comes back from the history may show somebody who has signed out since.
addEventListener("pageshow", showUser);
