//! How each cloud spells what the model says.

pub mod token;
