//! Callgoose's API Filters, as documented: would this body open or close an incident there?
