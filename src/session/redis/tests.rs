//! The store over a real server. What every store must do stands in the contract; here is what only this one can get
//! wrong.

use std::time::Duration;

use keycloak_bff_testbed::{Gate, Redis, ports, wait};
use redis::IntoConnectionInfo;
use secrecy::ExposeSecret;

use super::*;
use crate::{
    clock::ManualClock,
    crypto::SystemRandom,
    session::{
        Leased, SessionStore,
        contract_tests::{Replicas, START, contract, session, tokens},
    },
};

const SOON: Duration = Duration::from_secs(5);
const KEY: &str = "0123456789abcdef0123456789abcdef";
const NEWER_KEY: &str = "abcdef0123456789abcdef0123456789";

fn ring(keys: &[&str]) -> Arc<KeyRing> {
    Arc::new(KeyRing::new(keys.iter().map(|&key| key.to_owned().into()).collect()).unwrap())
}

fn render(_: &str, access_token: &str, _: &Map<String, Value>) -> Option<Rendered> {
    let authorization = format!("Bearer {access_token}").into();
    let upstream = UpstreamHeaders { authorization, identity: Vec::new(), remove: Vec::new() };
    Some(Rendered { access_claims: Map::new(), upstream })
}

fn store(port: u16, keys: &[&str], grace: Option<Duration>, clock: &SharedClock) -> Arc<SessionStore> {
    let settings = RedisSettings {
        server: format!("redis://127.0.0.1:{port}").into_connection_info().unwrap(),
        tls: RedisTls::default(),
        username: None,
        password: None,
        prefix: "bff:".to_owned(),
        grace,
        at_hand: 100,
    };
    let random: SharedRandom = Arc::new(SystemRandom);
    Arc::new(SessionStore::Redis(RedisStore::start(
        settings,
        ring(keys),
        Box::new(render),
        random,
        Arc::clone(clock),
    )))
}

/// Two replicas with their server.
async fn with_server() -> (Replicas, Redis) {
    let server = Redis::start().await;
    let clock = ManualClock::starting_at(START);
    let shared: SharedClock = clock.clone();
    let [here, there] = [(); 2].map(|()| store(server.port(), &[KEY], None, &shared));
    (Replicas { here, there, clock, _server: None }, server)
}

async fn replicas() -> Replicas {
    let (replicas, server) = with_server().await;
    Replicas { _server: Some(Box::new(server)), ..replicas }
}

contract!(replicas);

fn inner(store: &SessionStore) -> &Arc<Shared> {
    let SessionStore::Redis(redis) = store else { panic!("it is another store") };
    &redis.shared
}

async fn insert(store: &SessionStore) -> SessionId {
    let id = SessionId::random(&SystemRandom).unwrap();
    store.insert(&id, session(START, None)).await.unwrap();
    id
}

async fn get(store: &SessionStore, id: &SessionId) -> Option<Arc<Session>> {
    store.get(id).await.unwrap()
}

async fn entry(store: &SessionStore, id: &SessionId) -> DirectoryEntry {
    get(store, id).await.unwrap().directory_entry(id.key())
}

fn away<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Away(_)))
}

async fn commands(server: &Redis) -> u64 {
    let info = server.command(&["INFO", "commandstats"]).await;
    let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    info.lines().filter(|line| line.starts_with("cmdstat_hmget")).filter_map(calls).sum()
}

#[tokio::test]
async fn a_session_at_hand_costs_no_round_trip_and_is_one_object() {
    let (replicas, server) = with_server().await;
    let id = insert(&replicas.here).await;
    let first = get(&replicas.here, &id).await.unwrap();
    let before = commands(&server).await;
    for _ in 0..100 {
        assert!(Arc::ptr_eq(&first, &get(&replicas.here, &id).await.unwrap()));
    }
    assert_eq!(commands(&server).await, before);
    let SessionStore::Redis(redis) = &*replicas.here else { panic!() };
    let mut get = std::pin::pin!(redis.get(&id));
    let waker = std::task::Waker::noop();
    assert!(get.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready(), "it waits for nothing");
}

#[tokio::test]
async fn what_was_changed_while_it_was_read_is_not_kept() {
    let (replicas, _server) = with_server().await;
    let id = insert(&replicas.here).await;
    let (shared, key) = (inner(&replicas.here), id.key());
    let live = shared.link.live().await.unwrap();
    let mark = shared.cache.mark(&key);
    let read = shared.fetch(&live, &key).await.unwrap().0.unwrap();
    // The word of the change comes before the old answer is put away.
    shared.cache.invalidate(&key);
    shared.cache.put(key, shared.records().open(&id, read).unwrap(), mark);
    assert!(shared.cache.get(&key).is_none());
    let mark = shared.cache.mark(&key);
    let read = shared.fetch(&live, &key).await.unwrap().0.unwrap();
    shared.cache.put(key, shared.records().open(&id, read).unwrap(), mark);
    assert!(shared.cache.get(&key).is_some(), "the same without a change");
    let mark = shared.cache.mark(&key);
    let read = shared.fetch(&live, &key).await.unwrap().0.unwrap();
    shared.cache.begin();
    shared.cache.put(key, shared.records().open(&id, read).unwrap(), mark);
    assert!(shared.cache.get(&key).is_none(), "read over a connection that is gone");
}

#[tokio::test]
async fn one_holds_the_lease_and_the_next_gets_it_when_it_is_given_back_or_its_time_is_over() {
    let (replicas, server) = with_server().await;
    let id = insert(&replicas.here).await;
    let version = get(&replicas.here, &id).await.unwrap().version();
    let held = replicas.here.lease(&id, version).await.unwrap();
    assert!(matches!(held, Leased::Held(_)));
    let (there, other) = (Arc::clone(&replicas.there), id.clone());
    let mut waiting = tokio::spawn(async move { there.lease(&other, version).await });
    let name = inner(&replicas.here).keys.lease(&id.key());
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "it waits");

    // The holder changes the session: whoever waits learns of it at once, long before the lease is over.
    let here = get(&replicas.here, &id).await.unwrap();
    replicas.here.renew(&id, &here, version, tokens(2, START, None)).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(1), waiting).await.expect("in time").unwrap();
    assert!(matches!(told, Ok(Leased::Overtaken)));
    drop(held);
    let free = async || server.command(&["EXISTS", &name]).await.contains(":0").then_some(());
    wait::until("the end of the lease", SOON, free).await;

    // One that died: nothing is said any more, and the lease ends by itself.
    server.command(&["SET", &name, "somebody who died", "PX", "700"]).await;
    let got = tokio::time::timeout(SOON, replicas.there.lease(&id, version + 1)).await.expect("in time");
    assert!(matches!(got, Ok(Leased::Held(_))));
    drop(got);
    wait::until("the end of the lease", SOON, free).await;
}

#[tokio::test]
async fn a_lease_is_kept_up_and_only_its_holder_gives_it_back() {
    let (replicas, server) = with_server().await;
    let id = insert(&replicas.here).await;
    let held = replicas.here.lease(&id, 1).await.unwrap();
    let name = inner(&replicas.here).keys.lease(&id.key());
    server.command(&["PEXPIRE", &name, "2000"]).await;
    let kept = async || {
        let left = server.command(&["PTTL", &name]).await;
        let left: i64 = left.trim().trim_start_matches(':').parse().unwrap();
        (left > 3000).then_some(())
    };
    wait::until("a longer lease", SOON, kept).await;
    server.command(&["SET", &name, "another holder"]).await;
    drop(held);
    // What is sent over the same connection afterwards comes later.
    wait::within(Duration::from_millis(200), async || None::<()>).await;
    assert!(server.command(&["GET", &name]).await.contains("another holder"));
}

#[tokio::test]
async fn the_ring_may_change_while_sessions_live() {
    let (replicas, server) = with_server().await;
    let clock: SharedClock = replicas.clock.clone();
    let id = insert(&replicas.here).await;
    let group = get(&replicas.here, &id).await.unwrap().directory_entry(id.key()).subject_group();
    let both = store(server.port(), &[NEWER_KEY, KEY], None, &clock);
    let session = get(&both, &id).await.unwrap();
    assert_eq!(both.group(&group).await.unwrap().len(), 1, "found under the older key");
    let version = session.version();
    assert_eq!(both.renew(&id, &session, version, tokens(2, START, None)).await, Ok(Renewed::Stored));
    let newer = store(server.port(), &[NEWER_KEY], None, &clock);
    assert_eq!(get(&newer, &id).await.unwrap().tokens().upstream.access_token(), "access-2");
    assert_eq!(newer.group(&group).await.unwrap().len(), 1, "found under the newer key alone");
    let entry = entry(&both, &id).await;
    assert_eq!(both.remove(&entry).await, Ok(true));
    assert!(newer.group(&group).await.unwrap().is_empty());
    assert!(get(&newer, &id).await.is_none());
    let stranger = store(server.port(), &[NEWER_KEY], None, &clock);
    let id = insert(&replicas.here).await;
    assert!(get(&stranger, &id).await.is_none(), "without its key a session is none");
}

#[tokio::test]
async fn what_lies_there_names_nobody_and_has_an_end() {
    let (replicas, server) = with_server().await;
    let id = insert(&replicas.here).await;
    let group = entry(&replicas.here, &id).await.provider_session_group().unwrap();
    let _lease = replicas.here.lease(&id, 1).await.unwrap();
    let end = Timestamp::from_unix(START + 60);
    replicas.here.use_once(Once::Transaction([1; 32]), end).await.unwrap();
    replicas.here.end_group("others", &group, crate::session::SignOut::here(end), end).await.unwrap();
    let dump = server.dump().await;
    assert_eq!(
        dump.len(),
        7,
        "a session, its last use, its lease, two groups, a transaction, a sign-out: {dump:?}"
    );
    for (key, life, contents) in dump {
        assert!(life > 0, "{key} has no end");
        for secret in [
            "alice",
            "refresh-1",
            "access-1",
            "id-1",
            "sid",
            "users",
            "handle",
            "example.com",
            &id.cookie_value(),
        ] {
            assert!(!key.contains(secret) && !contents.contains(secret), "{secret} in {key}: {contents}");
        }
    }
}

#[tokio::test]
async fn without_the_server_sessions_at_hand_go_on_for_the_grace_and_the_others_are_unknown() {
    let (replicas, mut server) = with_server().await;
    let clock: SharedClock = replicas.clock.clone();
    let strict = store(server.port(), &[KEY], Some(Duration::ZERO), &clock);
    let (known, unknown) = (insert(&replicas.here).await, insert(&replicas.there).await);
    assert!(get(&replicas.here, &known).await.is_some() && get(&strict, &known).await.is_some());
    server.stop().await;
    let lost = async || (inner(&replicas.here).link.away_for() > Duration::ZERO).then_some(());
    wait::until("the loss of the server", SOON, lost).await;
    assert!(get(&replicas.here, &known).await.is_some());
    assert!(away(strict.get(&known).await));
    assert!(away(replicas.here.get(&unknown).await));
    assert!(away(replicas.here.lease(&known, 1).await));
    assert!(away(replicas.here.use_once(Once::Transaction([1; 32]), Timestamp::from_unix(START + 60)).await));
    assert!(away(replicas.here.insert(&unknown, session(START, None)).await));

    server.start_again().await;
    for store in [&replicas.here, &strict] {
        for id in [&known, &unknown] {
            let back = async || store.get(id).await.ok();
            assert!(wait::until("the server", SOON, back).await.is_some(), "nobody is signed out");
        }
    }
}

#[tokio::test]
async fn what_could_not_be_written_counts_here_and_is_written_later() {
    let (replicas, mut server) = with_server().await;
    let ids = [insert(&replicas.here).await, insert(&replicas.here).await];
    let [ended, renewed] =
        [get(&replicas.here, &ids[0]).await.unwrap(), get(&replicas.here, &ids[1]).await.unwrap()];
    server.stop().await;
    assert!(away(replicas.here.remove(&ended.directory_entry(ids[0].key())).await));
    assert!(away(replicas.here.get(&ids[0]).await), "over here, and unknown elsewhere");
    assert!(away(replicas.here.renew(&ids[1], &renewed, 1, tokens(2, START, None)).await));
    let session = get(&replicas.here, &ids[1]).await.unwrap();
    assert_eq!(session.tokens().upstream.access_token(), "access-2", "used at once");

    server.start_again().await;
    let there = async || replicas.there.get(&ids[0]).await.ok();
    wait::until("the server", SOON, there).await;
    let gone =
        async || replicas.there.get(&ids[0]).await.is_ok_and(|session| session.is_none()).then_some(());
    wait::until("the end of the session", SOON, gone).await;
    let token = async || {
        let session = get(&replicas.there, &ids[1]).await?;
        (session.tokens().refresh_token.as_ref()?.expose_secret() == "refresh-2").then_some(())
    };
    wait::until("the new tokens", SOON, token).await;
}

#[tokio::test]
async fn a_group_that_could_not_be_ended_is_over_here_and_ended_later() {
    let (replicas, mut server) = with_server().await;
    let (known, unknown) = (insert(&replicas.here).await, insert(&replicas.there).await);
    let group = entry(&replicas.here, &known).await.provider_session_group().unwrap();
    server.stop().await;
    let now = Timestamp::from_unix(START);
    let end = now + Duration::from_secs(60);
    let sign_out = crate::session::SignOut::here(now);
    assert!(away(replicas.here.end_group("users", &group, sign_out, end).await));
    assert!(away(replicas.here.get(&known).await), "over here");
    server.start_again().await;
    for id in [&known, &unknown] {
        let gone = async || replicas.there.get(id).await.is_ok_and(|session| session.is_none()).then_some(());
        wait::until("the end of the session", SOON, gone).await;
    }
    let remembered = replicas.there.latest_sign_out("users", &group).await;
    assert_eq!(remembered, Ok(Some(sign_out)));
}

#[tokio::test]
async fn an_emptied_server_signs_everyone_out() {
    let (replicas, server) = with_server().await;
    let id = insert(&replicas.here).await;
    assert!(get(&replicas.here, &id).await.is_some());
    server.command(&["FLUSHALL"]).await;
    let gone = async || get(&replicas.here, &id).await.is_none().then_some(());
    wait::until("the end of the session", SOON, gone).await;
    let again = insert(&replicas.here).await;
    assert!(get(&replicas.there, &again).await.is_some());
}

#[tokio::test]
async fn uses_are_written_once_a_minute_and_wake_nobody() {
    let (replicas, server) = with_server().await;
    let id = insert(&replicas.here).await;
    let (here, there) = (get(&replicas.here, &id).await.unwrap(), get(&replicas.there, &id).await.unwrap());
    let name = inner(&replicas.here).keys.last_used(&id.key());
    let live = inner(&replicas.here).link.live().await.unwrap();
    let known = async || {
        let known = server.command(&["GET", &name]).await;
        known.lines().nth(1).unwrap().parse::<u64>().unwrap()
    };
    // A quarter of the idle time of these sessions, which is less than a minute.
    for (passed, expected) in [(24, START), (1, START + 25), (24, START + 25), (1, START + 50)] {
        replicas.clock.advance(Duration::from_secs(passed));
        here.touch(crate::clock::Clock::now(&*replicas.clock));
        inner(&replicas.here).write_uses(&live, false).await;
        assert_eq!(known().await, expected);
    }
    assert!(inner(&replicas.there).cache.get(&id.key()).is_some(), "no reason to read it again");
    assert_eq!(there.last_used_at(), Timestamp::from_unix(START));
    replicas.clock.advance(Duration::from_secs(60));
    assert!(get(&replicas.there, &id).await.is_some(), "it would have ended here, and was used there");
}

#[tokio::test]
async fn a_frozen_connection_is_not_believed_for_longer_than_a_second() {
    let server = Redis::start().await;
    let gate = Gate::closed(ports::free(), server.port());
    gate.open().await;
    let clock: SharedClock = ManualClock::starting_at(START);
    let behind = store(gate.port(), &[KEY], None, &clock);
    let direct = store(server.port(), &[KEY], None, &clock);
    let id = insert(&direct).await;
    assert!(get(&behind, &id).await.is_some());
    gate.freeze();
    let frozen = tokio::time::Instant::now();
    assert_eq!(direct.remove(&entry(&direct, &id).await).await, Ok(true));
    let gone = async || behind.get(&id).await.is_ok_and(|session| session.is_none()).then_some(());
    wait::until("the end of the session", SOON, gone).await;
    assert!(frozen.elapsed() < Duration::from_secs(2), "{:?}", frozen.elapsed());
}
