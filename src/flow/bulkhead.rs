use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Bounds how many refreshes call one provider at once, so that ten thousand sessions whose tokens end together do
/// not become ten thousand calls.
///
/// Those that a request waits for go before those that run behind requests; among equals, first come, first served.
/// A session has one refresh at a time, so that this is fair between sessions.
pub(super) struct Bulkhead {
    queue: Mutex<Queue>,
}

struct Queue {
    free: usize,
    last_turn: u64,
    waiting: HashMap<Turn, Waiting>,
    waited_for: VecDeque<Turn>,
    background: VecDeque<Turn>,
}

struct Waiting {
    grant: oneshot::Sender<Permit>,
    urgency: Urgency,
}

/// How many places must have been left before it is worth the time to forget them.
const LEAST_FORGOTTEN: usize = 64;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Turn(u64);

/// Whether somebody waits for a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A request cannot go on without it.
    WaitedFor,
    /// The tokens at hand are still good.
    Background,
}

/// The right to call the provider; given back when it is dropped.
pub(super) struct Permit {
    /// None in a permit that nobody took.
    bulkhead: Option<Arc<Bulkhead>>,
}

impl Bulkhead {
    /// Lets `bound` calls run at once.
    pub(super) fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue {
                free: bound,
                last_turn: 0,
                waiting: HashMap::new(),
                waited_for: VecDeque::new(),
                background: VecDeque::new(),
            }),
        })
    }

    /// Queues up. The permit comes through the receiver, at once if nobody is before.
    pub(super) fn queue_up(self: &Arc<Self>, urgency: Urgency) -> (Turn, oneshot::Receiver<Permit>) {
        let (grant, permit) = oneshot::channel();
        let mut queue = self.queue.lock();
        queue.last_turn += 1;
        let turn = Turn(queue.last_turn);
        queue.waiting.insert(turn, Waiting { grant, urgency });
        match urgency {
            Urgency::WaitedFor => queue.waited_for.push_back(turn),
            Urgency::Background => queue.background.push_back(turn),
        }
        self.let_in(&mut queue);
        (turn, permit)
    }

    /// Lets a turn go before those in the background, because a request waits for it now.
    pub(super) fn hurry(&self, turn: Turn) {
        let mut queue = self.queue.lock();
        if let Some(waiting) = queue.waiting.get_mut(&turn)
            && waiting.urgency == Urgency::Background
        {
            waiting.urgency = Urgency::WaitedFor;
            // Its old place stays in the other queue and is passed over there.
            queue.waited_for.push_back(turn);
            queue.forget_old_places();
        }
    }

    fn let_in(self: &Arc<Self>, queue: &mut Queue) {
        while queue.free > 0 {
            let Some(turn) = queue.waited_for.pop_front().or_else(|| queue.background.pop_front()) else {
                return;
            };
            let Some(waiting) = queue.waiting.remove(&turn) else { continue };
            match waiting.grant.send(Permit { bulkhead: Some(Arc::clone(self)) }) {
                Ok(()) => queue.free -= 1,
                Err(mut unwanted) => unwanted.bulkhead = None,
            }
        }
    }
}

impl Queue {
    /// Under lasting pressure nobody comes by the places in the background that were left for better ones.
    fn forget_old_places(&mut self) {
        if self.background.len() > 2 * self.waiting.len() + LEAST_FORGOTTEN {
            let waiting = &self.waiting;
            self.background.retain(|turn| {
                waiting.get(turn).is_some_and(|waiting| waiting.urgency == Urgency::Background)
            });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(bulkhead) = self.bulkhead.take() {
            let mut queue = bulkhead.queue.lock();
            queue.free += 1;
            bulkhead.let_in(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of those who got their permits, in that order, when permits are given back one by one.
    fn order(mut waiting: Vec<(usize, oneshot::Receiver<Permit>)>, first: Permit) -> Vec<usize> {
        let mut order = Vec::new();
        let mut permit = Some(first);
        while let Some(current) = permit.take() {
            drop(current);
            for (number, receiver) in &mut waiting {
                if let Ok(granted) = receiver.try_recv() {
                    order.push(*number);
                    assert!(permit.replace(granted).is_none(), "two at once");
                }
            }
        }
        order
    }

    #[test]
    fn the_bound_holds_and_permits_come_back() {
        let bulkhead = Bulkhead::new(2);
        let (_, mut first) = bulkhead.queue_up(Urgency::Background);
        let (_, mut second) = bulkhead.queue_up(Urgency::Background);
        let (_, mut third) = bulkhead.queue_up(Urgency::WaitedFor);
        let held = (first.try_recv().ok(), second.try_recv().ok());
        assert!(held.0.is_some() && held.1.is_some() && third.try_recv().is_err());
        drop(held.0);
        assert!(third.try_recv().is_ok());
    }

    #[test]
    fn those_that_are_waited_for_go_first_and_in_their_order() {
        let bulkhead = Bulkhead::new(1);
        let (_, mut first) = bulkhead.queue_up(Urgency::Background);
        let first = first.try_recv().unwrap();
        let urgencies = [
            Urgency::Background,
            Urgency::WaitedFor,
            Urgency::Background,
            Urgency::WaitedFor,
            Urgency::Background,
        ];
        let (turns, waiting): (Vec<Turn>, Vec<_>) = urgencies
            .into_iter()
            .enumerate()
            .map(|(number, urgency)| {
                let (turn, receiver) = bulkhead.queue_up(urgency);
                (turn, (number, receiver))
            })
            .unzip();
        // A request waits for the last one now; being told so twice does not let it in twice.
        bulkhead.hurry(turns[4]);
        bulkhead.hurry(turns[4]);
        assert_eq!(order(waiting, first), [1, 3, 4, 0, 2]);
        let queue = bulkhead.queue.lock();
        assert_eq!(
            (queue.free, queue.waiting.len(), queue.waited_for.len(), queue.background.len()),
            (1, 0, 0, 0)
        );
    }

    #[test]
    fn places_that_were_left_are_forgotten() {
        let bulkhead = Bulkhead::new(1);
        let (_, mut held) = bulkhead.queue_up(Urgency::Background);
        let mut held = held.try_recv().ok();
        // The queue is never empty, and everyone in it moves up.
        let (_, mut next) = bulkhead.queue_up(Urgency::WaitedFor);
        for _ in 0..1000 {
            let (turn, after) = bulkhead.queue_up(Urgency::Background);
            bulkhead.hurry(turn);
            drop(held.take());
            held = next.try_recv().ok();
            assert!(held.is_some());
            next = after;
        }
        assert!(bulkhead.queue.lock().background.len() <= LEAST_FORGOTTEN + 4);
    }

    #[test]
    fn whoever_left_the_queue_takes_no_place() {
        let bulkhead = Bulkhead::new(1);
        let (_, mut first) = bulkhead.queue_up(Urgency::Background);
        let first = first.try_recv().unwrap();
        drop(bulkhead.queue_up(Urgency::WaitedFor));
        let (_, mut third) = bulkhead.queue_up(Urgency::WaitedFor);
        drop(first);
        let third = third.try_recv().unwrap();
        drop(third);
        assert_eq!(bulkhead.queue.lock().free, 1);
    }
}
