//! The part of the library that its tests and its benchmark use. Everything else is private to the crate, so that the
//! compiler finds what nobody uses any more.

pub mod callgoose {
    pub mod answer {
        pub use crate::callgoose::answer::{Body, Trouble, Verdict, judge};
    }
    pub mod filters {
        pub use crate::callgoose::filters::Filters;
    }
}
pub mod cli {
    pub use crate::cli::test;
}
pub mod clock {
    pub use crate::clock::{Clock, Monotonic, Now, WallTime};
}
pub mod config {
    pub use crate::config::{Failure, Inputs, Secrets, load};
}
pub mod credential {
    pub use crate::credential::{
        Algorithm, Credential, Denied, Encoding, Hmac, RequestHead, SignedText, SubjectName, Timestamp,
    };
}
pub mod delivery {
    pub mod breaker {
        pub use crate::delivery::breaker::{Permit, Settings, Waiting};
    }
    pub mod dispatcher {
        pub use crate::delivery::dispatcher::{JudgedCall, RecentTriggers, next_step, restore, tried_before};
    }
    pub mod retry {
        pub use crate::delivery::retry::{NextStep, RetryState, Settings, Unresolved, retry_after};
    }
    pub mod schedule {
        pub use crate::delivery::schedule::{Delivery, KeySlot, Limits, Schedule, Step, ToSettle};
    }
    pub mod staleness {
        pub use crate::delivery::staleness::{Settings, StaleDecision, Then, age, decide};
    }
}
pub mod event {
    pub use crate::event::{
        Action, Body, Draft, EventId, KeyId, Occurrence, Outcome, Priority, Queued, Reason, Settlement, SourceId,
        SourceNames, State, Superseded, UpdateHash,
    };
}
pub mod inbound {
    pub use crate::inbound::{
        Accept, BodyLimits, Config, ConfirmationSource, Handshake, Ingest, Refusal, Respond, RulesBySource,
        SourceConfig, SourceRules, json,
    };
    pub mod auth {
        pub use crate::inbound::auth::Policy;
    }
    pub mod limits {
        pub use crate::inbound::limits::{OverLimit, RateLimit};
    }
}
pub mod lenient_json {
    pub use crate::lenient_json::{JsonReading, Repairs};
}
pub mod journal {
    pub use crate::journal::{
        AttemptRecord, Batch, Config, Details, Error, Filter, Found, Journal, Limits, Lock, NewEvent, NewRefusal, Raw,
        Reader, Repairs, RestoredEvent, Sendable, Share, Shares, StoredRetry, is_marked_damaged, repair,
    };
    pub mod decide {
        pub use crate::journal::decide::{Accepted, EntryNumber, Owed};
    }
    pub mod dedup {
        pub use crate::journal::dedup::{AcceptReason, Arrival, Dedup, DedupDecision, Effect, Occurrences, Settings};
    }
    pub mod fact {
        pub use crate::journal::fact::Fact;
    }
    pub mod known {
        pub use crate::journal::known::{Known, Question, questions};
    }
    pub mod recorder {
        pub use crate::journal::recorder::{Committed, Recorder, RecorderParts, RecorderThread};
        pub mod core {
            pub use crate::journal::recorder::core::{Core, Due};
        }
    }
    pub mod request {
        pub use crate::journal::request::{Entry, Request, Settle, Submission};
    }
    pub mod state {
        pub use crate::journal::state::{RecorderState, restore_key};
    }
}
pub mod metrics {
    pub use crate::metrics::{Exposition, Metrics};
}
pub mod relay {
    pub use crate::relay::{Running, start};
}
pub mod rules {
    pub use crate::rules::{Context, Decision, Element, RuleSet};
    pub mod budget {
        pub use crate::rules::budget::Budget;
    }
    pub mod path {
        pub use crate::rules::path::{JsonPath, Scope};
    }
}
pub mod secret {
    pub use crate::secret::Secret;
}
pub mod server {
    pub use crate::server::{
        Addresses, AnswerBody, Answering, BadHead, BoxError, LOCAL_PROXY_HEADER, Limits, Observer, Origin, Peer,
        Progress, RequestBody, Service, parse_proxy_header, serve,
    };
}
pub mod shutdown {
    pub use crate::shutdown::Shutdown;
}
pub mod tls {
    pub use crate::tls::{Config, Pair, Profile, Served, client_config, make_missing_pair};
}
pub mod trace_context {
    pub use crate::trace_context::{STORED_BYTES_MAX, SpanId, TraceContext};
}
pub mod yaml {
    pub use crate::yaml::{Findings, Place, Source, parse};
}
