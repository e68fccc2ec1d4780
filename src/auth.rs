//! Who may send: credentials checked in constant time, before anything of the body is read as JSON.

use http::HeaderName;

use crate::secret::Secret;

/// What lets a request in.
#[derive(Debug)]
pub enum Policy {
    /// `auth: none`, written out by the operator.
    Open,
    /// Any one of these.
    AnyOf(Vec<Credential>),
}

/// Where a request carries a secret, and which.
#[derive(Debug)]
pub enum Credential {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(Secret),
    Header {
        name: HeaderName,
        secret: Secret,
    },
    /// A query parameter; a repeated one is refused.
    Query {
        name: String,
        secret: Secret,
    },
}
