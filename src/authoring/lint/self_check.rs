//! Warns of a self check that can't come whole: by the rules of its source, and by the filters.

use crate::callgoose::filters::{Filters, FiltersBeside};
use crate::clock::WallTime;
use crate::config::{Config, SelfCheckSection};
use crate::event::Draft;
use crate::inbound::SourceConfig;
use crate::self_check::repeated;
use crate::yaml::{Findings, Place};

/// The warnings of a start or a reload: the self check of this configuration, by the filters beside it.
pub(crate) fn self_check_beside(config: &Config) -> Findings {
    let mut findings = Findings::new();
    if let Some(section) = &config.self_check {
        let filters = match &config.filters {
            FiltersBeside::Read { name, filters } => Some((&**filters, name.as_str())),
            FiltersBeside::None | FiltersBeside::Unusable { .. } => None,
        };
        self_check(section, &config.sources, filters, &mut findings);
    }
    findings
}

/// Decides both payloads by the rules, and holds what would be sent against the filters if there are any, with the name of
/// their file.
pub(crate) fn self_check(
    section: &SelfCheckSection,
    sources: &[SourceConfig],
    filters: Option<(&Filters, &str)>,
    findings: &mut Findings,
) {
    let SelfCheckSection { settings, place } = section;
    let Some(source) = sources.iter().find(|source| source.name == settings.source) else {
        return;
    };
    let now = WallTime::now();
    let round = |started| settings.drafts(&source.rules.live, source.accept.json, started);
    let drafts = match round(now) {
        Ok(drafts) => drafts,
        Err(failure) => {
            let message = format!("by the rules of `{}` no round can come whole: {}", source.name, failure.detail());
            findings.warning(place.clone(), "self_check", message).code("self-check-undecided").help(
                "`self_check.trigger` has to become a trigger, and `self_check.resolve` a resolve with the same incident \
                 key; without these keys the payloads are in ServicePilot's shape",
            );
            return;
        }
    };
    if let Ok(earlier) = round(now.before(settings.every))
        && let Some(action) = repeated(&earlier, &drafts)
    {
        let message = format!(
            "by the rules of `{}` the {action} of each round has the same `occurrence`: from the second round on it passes \
             for a duplicate, and is not sent",
            source.name
        );
        findings.warning(place.clone(), "self_check", message).code("self-check-repeats").help(format!(
            "let what `occurrence` reads be `$time` in `self_check.{action}`: it stands for the time of the round"
        ));
    }
    if let Some(filters) = filters {
        against_filters(&drafts, source.from.as_deref(), filters, place, findings);
    }
}

/// Warns of events that no filter opens or closes, and of incidents that somebody is paged for.
fn against_filters(
    [trigger, resolve]: &[Draft; 2],
    from: Option<&str>,
    (filters, file): (&Filters, &str),
    place: &Place,
    findings: &mut Findings,
) {
    let evaluate = |draft: &Draft| filters.evaluate(&draft.body.value(), from);
    let (opened, closed) = (evaluate(trigger), evaluate(resolve));
    let closes = |key: &String| {
        closed.services.iter().filter_map(|service| service.resolve.as_ref()).any(|one| one.key.as_ref() == Some(key))
    };
    if !opened.opens() {
        let message = format!("no trigger filter in {file} matches the self check");
        findings
            .warning(place.clone(), "self_check", message)
            .code("self-check-unmatched")
            .help("add the service that takes self checks: config/OPERATING.md, The self check");
    }
    for (service, opening) in
        opened.services.iter().filter_map(|service| Some((&service.service, service.trigger.as_ref()?)))
    {
        if !opening.key.as_ref().is_some_and(closes) {
            let message = format!("no resolve filter in {file} closes what the self check opens in {service}");
            findings
                .warning(place.clone(), "self_check", message)
                .code("self-check-unmatched")
                .help("the Resolve filter has to match `self_check.resolve`, and map by the key of the Trigger filter");
        }
        if &*opening.urgency == "high" {
            let message = format!(
                "the self check opens incidents of urgency high in {service} (trigger filter {}): each round would page \
                 whoever is on call there",
                opening.filter
            );
            findings.warning(place.clone(), "self_check", message).code("self-check-pages").help(
                "let the rules send a `state` for it that only a filter made for it contains: config/OPERATING.md, The \
                 self check",
            );
        }
    }
}
