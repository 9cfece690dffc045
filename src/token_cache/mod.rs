//! Tokens that are got from a provider to be used again: one request at a time for each token however many ask, renewed
//! ahead of its end, bounded in number. Whose tokens they are and how they are got is for others to say; nothing here
//! knows requests or sessions.

mod cache;
mod slot;
mod token;

pub use cache::{Owner, TokenCache, TokenKey};
pub use slot::{Failure, NoToken, Renewal, Wanted};
pub use token::CachedToken;
