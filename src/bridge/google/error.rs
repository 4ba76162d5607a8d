//! The canonical errors of Google's APIs: names, numbers, HTTP codes.
//!
//! Source: `google/rpc/code.proto` and the HTTP mapping written beside each code in it.

use crate::bridge::client_name::ClientName;
use crate::bridge::owner::Stopped;

/// The canonical codes that this cloud uses. The value is the number in `google.rpc.Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonical {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Canonical {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    pub fn http(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists => 409,
            Self::ResourceExhausted => 429,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }
}

/// A refused call of the management API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .status.as_str())]
pub struct ApiError {
    pub status: Canonical,
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(status: Canonical, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Canonical::InvalidArgument, message)
    }

    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        Self::new(Canonical::NotFound, format!("{what} '{name}' was not found."))
    }

    pub(crate) fn not_connected(device: &ClientName) -> Self {
        Self::new(Canonical::FailedPrecondition, format!("Device '{device}' is not connected."))
    }
}

impl From<Stopped> for ApiError {
    fn from(_: Stopped) -> Self {
        Self::new(Canonical::Unavailable, "The service is shutting down.")
    }
}
