//! A source of `kind: confirmation`: who may send to it, and how what it takes is read.

use std::sync::Arc;

use ipnet::IpNet;

use super::Accept;
use super::auth::Policy;
use super::limits::RateLimit;
use crate::callgoose::confirmation::Shape;

/// An entry of the `sources` section of `kind: confirmation`.
#[derive(Debug)]
pub struct ConfirmationSource {
    pub name: Arc<str>,
    pub auth: Policy,
    /// Empty: anywhere.
    pub allow_from: Vec<IpNet>,
    pub rate_limit: RateLimit,
    pub accept: Accept,
    /// GET and HEAD are answered 200.
    pub probes: bool,
    pub shape: Shape,
}

/// The reading of the confirmations of a source.
#[derive(Debug)]
pub(super) struct Confirms {
    shape: Shape,
    /// The sources whose incidents they may be about.
    of: Arc<[Arc<str>]>,
}

impl Confirms {
    pub(super) fn new(shape: Shape, alerts: &Arc<[Arc<str>]>) -> Confirms {
        let of = match &shape.source {
            Some(source) => Arc::from([Arc::clone(source)]),
            None => Arc::clone(alerts),
        };
        Confirms { shape, of }
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn of(&self) -> &Arc<[Arc<str>]> {
        &self.of
    }
}
