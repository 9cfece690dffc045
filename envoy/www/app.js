// The demo frontend. Of its own origin it knows /auth/me, /auth/login, /auth/logout, /auth/sessions and the API.

const element = (id) => document.getElementById(id);

const otherFrontends = { "app.": "admin.", "admin.": "app." };
const kind = location.hostname.split(".")[0];
const otherOrigin = location.origin.replace(/^http:\/\/(app\.|admin\.)/, (_, name) => `http://${otherFrontends[name]}`);

const meanings = {
  401: "Not signed in, or not lately enough. The API saw nothing of this call.",
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
  await showSessions(me.authenticated);
}

/** The user's sessions on all devices and frontends, each with a button that ends it. */
async function showSessions(authenticated) {
  element("sessions-card").hidden = !authenticated;
  if (!authenticated) return;
  const answer = await fetch("/auth/sessions");
  if (!answer.ok) return;
  const { sessions } = await answer.json();
  element("sessions").replaceChildren(...sessions.map(sessionItem));
}

function sessionItem(session) {
  const item = document.createElement("li");
  const text = document.createElement("span");
  const here = session.current ? " (this one)" : "";
  text.textContent = `${session.frontend}, since ${moment(session.created_at)}${here}`;
  const end = document.createElement("button");
  end.type = "button";
  end.className = "button";
  end.textContent = "End";
  end.addEventListener("click", async () => {
    await fetch(`/auth/sessions/${session.handle}`, { method: "DELETE" });
    await showUser();
  });
  item.append(text, end);
  return item;
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
  element("step-up").hidden = true;
  element("result").hidden = true;
  try {
    const answer = await fetch(address, options);
    const body = await answer.text();
    const meaning = meanings[answer.status] ?? (answer.ok ? "This reached the API:" : "Unexpected.");
    show(`${answer.status} – ${meaning}`, answer.ok ? "good" : "bad");
    offerStepUp(body);
    element("result").textContent = readable(body);
    element("result").hidden = false;
  } catch (error) {
    show(`The browser refused or could not reach it: ${error.message}`, "bad");
  }
}

/** Where the sign-in is not good enough for a call, the answer says how to sign in so that it is. */
function offerStepUp(body) {
  const link = element("step-up");
  link.hidden = true;
  try {
    const { error, login_url: address } = JSON.parse(body);
    if (error !== "insufficient_user_authentication") return;
    const login = new URL(address);
    login.searchParams.set("return_to", location.pathname + location.search);
    link.href = login;
    link.hidden = false;
  } catch {
    // Whatever it is, it asks for no other sign-in.
  }
}

/** Who issued a token, for whom and about whom, by the token's own word. */
function claims(authorization) {
  const payload = authorization.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
  const { iss, preferred_username, azp, aud, exp } = JSON.parse(new TextDecoder().decode(bytes));
  return { iss, preferred_username, azp, aud, ends: moment(exp) };
}

function show(text, tone) {
  element("outcome").textContent = text;
  element("outcome").className = tone;
}

/** JSON with indents. Of the access token that the demo's API tells of, only what it says of itself. */
function readable(body) {
  try {
    const json = JSON.parse(body);
    const authorization = json.headers?.authorization;
    if (!authorization) return JSON.stringify(json, null, 2);
    json.headers.authorization = authorization.map((value) => value.slice(0, 20) + "…");
    return JSON.stringify({ token: claims(authorization[0]), ...json }, null, 2);
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
element("call-model").addEventListener("click", () => call("/ml/echo"));
element("call-secure").addEventListener("click", () => call("/secure/echo"));
element("call-admin").addEventListener("click", () => call("/admin/echo"));
element("call-other").addEventListener("click", () => call(`${otherOrigin}/api/echo`, { credentials: "include" }));
// A page that comes back from the history may show somebody who has signed out since.
addEventListener("pageshow", showUser);
