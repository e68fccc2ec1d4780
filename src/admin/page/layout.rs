//! The parts that every view has: head, navigation, sign-out.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{DOCTYPE, Markup, html};

use super::html as response;
use crate::admin::State;

/// A view in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Events,
    Queue,
    Incidents,
    Attention,
    Bench,
    Connect,
}

impl Place {
    const ALL: [(Place, &'static str, &'static str); 7] = [
        (Place::Overview, "", "Overview"),
        (Place::Events, "events", "Events"),
        (Place::Queue, "queue", "Queue"),
        (Place::Incidents, "incidents", "Open incidents"),
        (Place::Attention, "attention", "Needs attention"),
        (Place::Bench, "bench", "Rule bench"),
        (Place::Connect, "connect", "Connect"),
    ];
}

/// One view: what stands around its content.
pub(super) struct Frame<'a> {
    pub(super) state: &'a State,
    pub(super) place: Place,
    pub(super) title: &'a str,
    /// The way from this view to `/`: links are relative.
    pub(super) root: &'static str,
    /// It changes by itself: the script fetches it again when something happened.
    pub(super) live: bool,
}

impl Frame<'_> {
    pub(super) fn show(&self, main: &Markup) -> Response {
        self.show_with(StatusCode::OK, main)
    }

    pub(super) fn show_with(&self, status: StatusCode, main: &Markup) -> Response {
        let Frame { state, root, .. } = self;
        // Whoever sees this showed the token, where there is one.
        let is_signed_in = state.access.token.is_some();
        let nav = html! {
            nav aria-label="Views" {
                @for (place, path, name) in Place::ALL {
                    a href={ (root) (path) } aria-current=[(place == self.place).then_some("page")] { (name) }
                }
            }
            @if is_signed_in {
                form method="post" action={ (root) "sign-out" } { button.quiet { "Sign out" } }
            }
        };
        response(status, document(self.title, root, self.live, &nav, main))
    }
}

/// A whole document. `nav` stands beside the name.
pub(super) fn document(title: &str, root: &str, is_live: bool, nav: &Markup, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Gander" }
                link rel="icon" href={ (root) "icon.svg" };
                link rel="stylesheet" href={ (root) "style.css" };
                script src={ (root) "script.js" } defer {}
            }
            body data-root=(root) data-live=[is_live.then_some("yes")] {
                a.skip href="#main" { "To the content" }
                header {
                    a.brand href=(root) { img src={ (root) "icon.svg" } alt="" width="22" height="22"; "Gander" }
                    (nav)
                    button.quiet data-clock="" title="Show times in UTC, or by this computer's clock" hidden {}
                }
                p.stale role="status" hidden {}
                main id="main" tabindex="-1" { (main) }
            }
        }
    }
}
