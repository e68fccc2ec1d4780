//! The fields of a query or of a form.

use axum::extract::Query;
use axum::http::Uri;

/// Names and values, in their order.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Of an address; without those that were left empty.
    pub(super) fn of_query(uri: &Uri) -> Fields {
        let Query(mut pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
        pairs.retain(|(_, value)| !value.trim().is_empty());
        Fields(pairs)
    }

    /// Of a body, `application/x-www-form-urlencoded`; none if it is something else.
    pub(super) fn of_form(body: &[u8]) -> Fields {
        let pairs = form_urlencoded::parse(body).into_owned();
        Fields(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// As a query, with another value for one of the names.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        encoded(self.iter().filter(|(given, _)| *given != name).chain([(name, value)]))
    }
}

/// Names and values as a query.
pub(super) fn encoded<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
