use std::collections::HashSet;

use futures_util::future::{join_all, try_join_all};

use super::{Pending, RedisStore, Removed, Shared, Way, idle, scripts};
use crate::{
    clock::Timestamp,
    session::{DirectoryEntry, Session, SessionGroup, SessionKey, SignOut, StoreError},
};

impl RedisStore {
    /// See [`crate::session::SessionStore::group`].
    pub(in crate::session) async fn group(
        &self,
        group: &SessionGroup,
    ) -> Result<Vec<DirectoryEntry>, StoreError> {
        self.shared.group(self.shared.way(), group).await
    }

    /// See [`crate::session::SessionStore::end_group`].
    pub(in crate::session) async fn end_group(
        &self,
        provider: &str,
        group: &SessionGroup,
        sign_out: SignOut,
        end: Timestamp,
    ) -> Result<Vec<DirectoryEntry>, StoreError> {
        let shared = &self.shared;
        let ended = shared.end_group(shared.way(), provider, group, sign_out, end).await;
        if ended.is_err() {
            shared.end_group_at_hand(provider, group);
            let (provider, group) = (provider.to_owned(), group.clone());
            shared.pending.add(Pending::EndGroup { provider, group, sign_out, end });
        }
        ended
    }

    /// See [`crate::session::SessionStore::latest_sign_out`].
    pub(in crate::session) async fn latest_sign_out(
        &self,
        provider: &str,
        group: &SessionGroup,
    ) -> Result<Option<SignOut>, StoreError> {
        let keys = self.shared.keys.sign_out(&self.shared.ring, provider, group);
        let read = keys.into_iter().map(async |key| {
            let read = scripts::command("HMGET", &key, ("a", "i"));
            let times: (Option<u64>, Option<u64>) = self.shared.way().send(&read).await?;
            let (Some(at), Some(issued_at)) = times else { return Ok(None) };
            let (at, issued_at) = (Timestamp::from_unix(at), Timestamp::from_unix(issued_at));
            Ok::<_, StoreError>(Some(SignOut { at, issued_at }))
        });
        Ok(try_join_all(read).await?.into_iter().flatten().reduce(SignOut::latest))
    }
}

impl Shared {
    /// Notes a session in its groups.
    pub(super) async fn index(
        &self,
        way: Way<'_>,
        entry: &DirectoryEntry,
        session: &Session,
    ) -> Result<(), StoreError> {
        let (ends_at, now) = (session.login_expires_at(), self.clock.now());
        let names = entry.groups().filter_map(|group| self.keys.group(&self.ring, &group).into_iter().next());
        let written =
            names.map(async |name| way.send::<i64>(&scripts::index(&name, &entry.key, ends_at, now)).await);
        try_join_all(written).await.map(|_| ())
    }

    /// Takes a session out of its groups, under whatever key of the ring it was noted.
    pub(super) async fn unindex(&self, way: Way<'_>, entry: &DirectoryEntry) -> Result<(), StoreError> {
        let names = entry.groups().flat_map(|group| self.keys.group(&self.ring, &group));
        let removed = names
            .map(async |name| way.send::<()>(&scripts::command("ZREM", &name, entry.key.as_bytes())).await);
        try_join_all(removed).await.map(|_| ())
    }

    pub(super) async fn group(
        &self,
        way: Way<'_>,
        group: &SessionGroup,
    ) -> Result<Vec<DirectoryEntry>, StoreError> {
        let names = self.keys.group(&self.ring, group).into_iter();
        let members = names
            .map(async |name| way.send::<Vec<Vec<u8>>>(&scripts::command("ZRANGE", &name, (0, -1))).await);
        let members = try_join_all(members).await?.into_iter().flatten();
        let members: HashSet<SessionKey> =
            members.filter_map(|member| SessionKey::from_bytes(&member)).collect();
        let now = self.clock.now();
        let entries = members.into_iter().map(async |key| {
            let stored = self.fetch(way, &key).await?;
            // The last use is written a little later than it took place.
            let entry = stored.and_then(|stored| self.records().entry(key, &stored, now, idle::SLACK));
            // What does not fit its name was moved there by somebody else.
            Ok::<_, StoreError>(entry.filter(|entry| entry.groups().any(|other| other == *group)))
        });
        Ok(try_join_all(entries).await?.into_iter().flatten().collect())
    }

    pub(super) async fn end_group(
        &self,
        way: Way<'_>,
        provider: &str,
        group: &SessionGroup,
        sign_out: SignOut,
        end: Timestamp,
    ) -> Result<Vec<DirectoryEntry>, StoreError> {
        // Before the sessions are looked for: a login looks here after it has put its session there.
        self.note_sign_out(way, provider, group, sign_out, end).await?;
        let entries = self.group(way, group).await?;
        let own = entries.into_iter().filter(|entry| &*entry.provider == provider);
        let ended = own.map(async |entry| {
            self.cache.remove(&entry.key);
            let removed = self.end(way, &entry, None).await;
            self.cache.remove(&entry.key);
            if removed == Ok(Removed::Now) {
                self.pending.done(Pending::Remove { entry: entry.clone(), version: None });
            }
            removed.map(|removed| (removed == Removed::Now).then_some(entry))
        });
        // Each of them is tried, whatever becomes of the others.
        let ended: Result<Vec<_>, StoreError> = join_all(ended).await.into_iter().collect();
        let ended = ended?;
        let (provider, group) = (provider.to_owned(), group.clone());
        self.pending.done(Pending::SignOut { provider, group, sign_out, end });
        Ok(ended.into_iter().flatten().collect())
    }

    pub(super) async fn note_sign_out(
        &self,
        way: Way<'_>,
        provider: &str,
        group: &SessionGroup,
        sign_out: SignOut,
        end: Timestamp,
    ) -> Result<(), StoreError> {
        let keep = scripts::life(end, self.clock.now());
        let names = self.keys.sign_out(&self.ring, provider, group);
        let Some(name) = names.first() else { return Ok(()) };
        way.send::<i64>(&scripts::sign_out(name, sign_out.at, sign_out.issued_at, keep)).await.map(|_| ())
    }

    fn end_group_at_hand(&self, provider: &str, group: &SessionGroup) {
        for (key, copy) in self.cache.iter() {
            let session = &copy.session;
            if &*session.provider == provider
                && session.directory_entry(key).groups().any(|other| other == *group)
            {
                self.cache.remove(&key);
            }
        }
    }
}
