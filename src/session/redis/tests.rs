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
/// How long it may take until another server has taken over.
const TAKEOVER: Duration = Duration::from_secs(30);
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
    store_at(&[format!("redis://127.0.0.1:{port}")], RedisMode::Single, keys, grace, clock)
}

fn store_at(
    urls: &[String],
    mode: RedisMode,
    keys: &[&str],
    grace: Option<Duration>,
    clock: &SharedClock,
) -> Arc<SessionStore> {
    let settings = RedisSettings {
        servers: urls.iter().map(|url| url.as_str().into_connection_info().unwrap()).collect(),
        mode,
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

/// The contract over a cluster of six servers.
mod cluster {
    use keycloak_bff_testbed::RedisCluster;

    use super::*;

    async fn with_cluster() -> (Replicas, RedisCluster) {
        let cluster = RedisCluster::start().await;
        let clock = ManualClock::starting_at(START);
        let shared: SharedClock = clock.clone();
        let [here, there] =
            [(); 2].map(|()| store_at(&cluster.urls(), RedisMode::Cluster, &[KEY], None, &shared));
        (Replicas { here, there, clock, _server: None }, cluster)
    }

    async fn replicas() -> Replicas {
        let (replicas, cluster) = with_cluster().await;
        Replicas { _server: Some(Box::new(cluster)), ..replicas }
    }

    contract!(replicas);

    fn node_of(cluster: &RedisCluster, slot: usize) -> usize {
        (0..3)
            .find(|index| slot < 16384 * (index + 1) / 3)
            .expect("a slot of a master")
            .min(cluster.nodes.len())
    }

    #[tokio::test]
    async fn a_part_of_the_cluster_may_move_while_its_sessions_are_used() {
        let (replicas, cluster) = with_cluster().await;
        let id = insert(&replicas.here).await;
        assert!(get(&replicas.there, &id).await.is_some());
        let slot = usize::from(super::super::cluster::slot(
            inner(&replicas.here).keys.session(&id.key()).as_bytes(),
        ));
        let from = node_of(&cluster, slot);
        let half_way = async || {
            inner(&replicas.there).cache.begin();
            assert!(get(&replicas.there, &id).await.is_some(), "read while it is on its way");
        };
        cluster.move_slot(slot, from, (from + 1) % 3, half_way).await;
        for store in [&replicas.here, &replicas.there] {
            assert!(get(store, &id).await.is_some(), "nobody is signed out");
        }
        let here = get(&replicas.here, &id).await.unwrap();
        let renewed = replicas.here.renew(&id, &here, here.version(), tokens(2, START, None)).await;
        assert_eq!(renewed, Ok(Renewed::Stored));
        let told = async || {
            let there = get(&replicas.there, &id).await?;
            (there.tokens().upstream.access_token() == "access-2").then_some(())
        };
        wait::until("the new tokens", SOON, told).await;
        assert_eq!(replicas.there.remove(&entry(&replicas.there, &id).await).await, Ok(true));
        let gone = async || get(&replicas.here, &id).await.is_none().then_some(());
        wait::until("the end of the session", SOON, gone).await;
    }

    #[tokio::test]
    async fn another_server_takes_over_a_part_of_the_cluster() {
        let (replicas, mut cluster) = with_cluster().await;
        let ids = [insert(&replicas.here).await, insert(&replicas.here).await, insert(&replicas.here).await];
        cluster.nodes[0].kill();
        for id in &ids {
            let served = async || replicas.there.get(id).await.ok();
            let session = wait::until("the cluster", TAKEOVER, served).await;
            assert!(session.is_some(), "nobody is signed out");
        }
        let whole = async || {
            replicas.there.insert(&SessionId::random(&SystemRandom).unwrap(), session(START, None)).await.ok()
        };
        for _ in 0..10 {
            wait::until("room for new sessions", TAKEOVER, whole).await;
        }
    }
}

/// Sentinels that choose another master.
mod sentinels {
    use keycloak_bff_testbed::RedisSentinels;

    use super::*;

    #[tokio::test]
    async fn another_server_takes_over_and_gets_what_it_may_lack() {
        let mut sentinels = RedisSentinels::start().await;
        let clock: SharedClock = ManualClock::starting_at(START);
        let mode = RedisMode::Sentinel(RedisSentinels::MASTER.to_owned());
        let [here, there] = [(); 2].map(|()| store_at(&sentinels.urls(), mode.clone(), &[KEY], None, &clock));
        let ids = [insert(&here).await, insert(&here).await, insert(&here).await];
        let version = get(&here, &ids[1]).await.unwrap().version();
        // What the other server does not get any more: a sign-out and new tokens.
        sentinels.servers[1].stop().await;
        assert_eq!(here.remove(&entry(&here, &ids[0]).await).await, Ok(true));
        let renewing = get(&here, &ids[1]).await.unwrap();
        let renewed = here.renew(&ids[1], &renewing, version, tokens(2, START, None)).await;
        assert_eq!(renewed, Ok(Renewed::Stored));
        sentinels.servers[0].kill();
        sentinels.servers[1].start_again().await;
        for id in &ids[1..] {
            let served = async || there.get(id).await.ok();
            assert!(wait::until("the new master", TAKEOVER, served).await.is_some(), "nobody is signed out");
        }
        let gone = async || there.get(&ids[0]).await.is_ok_and(|session| session.is_none()).then_some(());
        wait::until("the end of the session", TAKEOVER, gone).await;
        let told = async || {
            let session = there.get(&ids[1]).await.ok()??;
            (session.tokens().upstream.access_token() == "access-2").then_some(())
        };
        wait::until("the new tokens", TAKEOVER, told).await;
    }
}

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
    let way = shared.way();
    let mark = shared.cache.mark(&key);
    let read = shared.fetch(way, &key).await.unwrap().unwrap();
    // The word of the change comes before the old answer is put away.
    shared.cache.invalidate(&key);
    shared.cache.put(key, shared.records().open(&id, read).unwrap(), mark);
    assert!(shared.cache.get(&key).is_none());
    let mark = shared.cache.mark(&key);
    let read = shared.fetch(way, &key).await.unwrap().unwrap();
    shared.cache.put(key, shared.records().open(&id, read).unwrap(), mark);
    assert!(shared.cache.get(&key).is_some(), "the same without a change");
    let mark = shared.cache.mark(&key);
    let read = shared.fetch(way, &key).await.unwrap().unwrap();
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
    let lost = async || (inner(&replicas.here).servers.away_for() > Duration::ZERO).then_some(());
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
    let known = async || {
        let known = server.command(&["GET", &name]).await;
        known.lines().nth(1).unwrap().parse::<u64>().unwrap()
    };
    // A quarter of the idle time of these sessions, which is less than a minute.
    for (passed, expected) in [(24, START), (1, START + 25), (24, START + 25), (1, START + 50)] {
        replicas.clock.advance(Duration::from_secs(passed));
        here.touch(crate::clock::Clock::now(&*replicas.clock));
        inner(&replicas.here).write_uses(false).await;
        assert_eq!(known().await, expected);
    }
    assert!(inner(&replicas.there).cache.get(&id.key()).is_some(), "no reason to read it again");
    assert_eq!(there.last_used_at(), Timestamp::from_unix(START));
    replicas.clock.advance(Duration::from_secs(60));
    assert!(get(&replicas.there, &id).await.is_some(), "it would have ended here, and was used there");
}

/// A certificate authority and what it has signed for `localhost`, made by openssl.
fn certificates(directory: &std::path::Path) {
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        let output = command.args(arguments.split(' ')).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"));
    openssl(&format!(
        "req -x509 {key} -keyout own.key -out own.pem -subj /CN=localhost -days 2 -CA ca.pem -CAkey ca.key \
         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
    ));
}

#[tokio::test]
async fn the_server_is_spoken_to_over_tls_with_certificates_and_passwords_that_may_change() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let file = |name: &str| directory.path().join(name);
    let text = |name: &str| file(name).to_str().unwrap().to_owned();
    let tls_port = ports::free();
    let server = Redis::start_with(&[
        "--tls-port",
        &tls_port.to_string(),
        "--tls-ca-cert-file",
        &text("ca.pem"),
        "--tls-cert-file",
        &text("own.pem"),
        "--tls-key-file",
        &text("own.key"),
    ])
    .await;
    // What docs/operations.md tells to allow.
    let allowed = "+hello +ping +client|tracking +evalsha +script|load +hset +hget +hmget +expire \
                   +pexpire +pttl +get +set +del +unlink +exists +zadd +zrem +zrange +zrevrange +zremrangebyscore";
    let user = format!("ACL SETUSER bff on >one ~bff:* {allowed}");
    let set = server.command(&user.split_whitespace().collect::<Vec<_>>()).await;
    assert!(set.contains("OK"), "{set}");
    std::fs::write(file("password"), "one\n").unwrap();

    let clock: SharedClock = ManualClock::starting_at(START);
    let settings = RedisSettings {
        servers: vec![format!("rediss://localhost:{tls_port}").into_connection_info().unwrap()],
        mode: RedisMode::Single,
        tls: RedisTls {
            authorities: Some(file("ca.pem")),
            identity: Some((file("own.pem"), file("own.key"))),
        },
        username: Some(Credential::Fixed("bff".into())),
        password: Some(Credential::File(file("password"))),
        prefix: "bff:".to_owned(),
        grace: Some(Duration::ZERO),
        at_hand: 100,
    };
    let start = |settings: RedisSettings| {
        let random: SharedRandom = Arc::new(SystemRandom);
        SessionStore::Redis(RedisStore::start(
            settings,
            ring(&[KEY]),
            Box::new(render),
            random,
            Arc::clone(&clock),
        ))
    };
    let store = start(settings.clone());
    let id = insert(&store).await;
    let session = get(&store, &id).await.unwrap();
    assert_eq!(store.renew(&id, &session, 1, tokens(2, START, None)).await, Ok(Renewed::Stored));
    assert!(matches!(store.lease(&id, 2).await, Ok(Leased::Held(_))));
    let group = entry(&store, &id).await.subject_group();
    assert_eq!(store.group(&group).await.unwrap().len(), 1);
    let sign_out = crate::session::SignOut::here(Timestamp::from_unix(START));
    let end = Timestamp::from_unix(START + 60);
    assert_eq!(store.end_group("users", &group, sign_out, end).await.unwrap().len(), 1);
    assert_eq!(store.use_once(Once::Transaction([1; 32]), end).await, Ok(Use::First));
    assert_eq!(store.was_used(Once::Transaction([1; 32])).await, Ok(true));

    let id = insert(&store).await;
    server.command(&["ACL", "SETUSER", "bff", "resetpass", ">two"]).await;
    std::fs::write(file("password"), "two").unwrap();
    server.command(&["CLIENT", "KILL", "USER", "bff"]).await;
    let back = async || store.get(&id).await.ok();
    assert!(wait::until("the new password", SOON, back).await.is_some());

    let without_certificate = RedisTls { identity: None, ..settings.tls.clone() };
    let other_authority = RedisTls { authorities: None, ..settings.tls.clone() };
    for tls in [without_certificate, other_authority] {
        let refused = start(RedisSettings { tls, ..settings.clone() });
        assert!(away(refused.get(&id).await));
    }
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
