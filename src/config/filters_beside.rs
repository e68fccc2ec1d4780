//! The filters of Callgoose beside the configuration, for those who look at what the relay sends. They decide nothing, so
//! what is wrong with them keeps no relay from starting.

use std::sync::Arc;

use super::{Reader, read_source};
use crate::callgoose::filters::{Filters, FiltersBeside};
use crate::yaml::Findings;

impl Reader<'_> {
    pub(super) fn filters(&mut self) -> FiltersBeside {
        let path = self.inputs.path.with_file_name(FILTERS_BESIDE);
        self.files.note(&path);
        if path.symlink_metadata().is_err() {
            return FiltersBeside::None;
        }
        let name = path.display().to_string();
        let source = match read_source(&path) {
            Ok(source) => source,
            Err(unreadable) => return FiltersBeside::Unusable { name, problem: unreadable.to_string() },
        };
        let mut findings = Findings::new();
        match Filters::read(&source, &mut findings) {
            Some(filters) => FiltersBeside::Read { name, filters: Arc::new(filters) },
            None => {
                FiltersBeside::Unusable { name, problem: findings.error_lines().into_iter().next().unwrap_or_default() }
            }
        }
    }
}

/// Their file, as `gander init` writes it.
pub(crate) const FILTERS_BESIDE: &str = "callgoose-filters.yaml";
