//! What a test changes in tokens and answers before they leave.

use super::Provider;
use parking_lot::Mutex;
use serde_json::Value;

type Edit = Box<dyn FnMut(&mut Value) + Send>;

#[derive(Default)]
pub(super) struct Edits {
    id_token: Mutex<Option<Edit>>,
    answer: Mutex<Option<Edit>>,
}

impl Edits {
    pub(super) fn apply_to_id_token(&self, claims: &mut Value) {
        if let Some(edit) = &mut *self.id_token.lock() {
            edit(claims);
        }
    }

    pub(super) fn apply_to_answer(&self, answer: &mut Value) {
        if let Some(edit) = &mut *self.answer.lock() {
            edit(answer);
        }
    }

    pub(super) fn clear(&self) {
        *self.id_token.lock() = None;
        *self.answer.lock() = None;
    }
}

impl Provider {
    /// From now on this has the last word on the claims of every ID token before it is signed, at logins and
    /// refreshes. It takes the place of an earlier edit.
    pub fn edit_id_token(&self, edit: impl FnMut(&mut Value) + Send + 'static) {
        *self.core.edits.id_token.lock() = Some(Box::new(edit));
    }

    /// From now on this has the last word on the JSON of every successful token answer. It takes the place of an
    /// earlier edit.
    pub fn edit_answer(&self, edit: impl FnMut(&mut Value) + Send + 'static) {
        *self.core.edits.answer.lock() = Some(Box::new(edit));
    }
}
