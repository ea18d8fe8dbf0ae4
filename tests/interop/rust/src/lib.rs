//! What the peers share: their endpoint, their lines, hex.

pub mod endpoint;
pub mod hex;
pub mod member;
