//! A local stand-in for Callgoose: its documented calls, filters and answers. It is not Callgoose.
