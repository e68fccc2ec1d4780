//! `gander explain`: why a payload is decided as it is, for a person or a program.

mod callgoose;
mod object;
mod page;
mod past;

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use self::callgoose::Callgoose;
use self::past::Past;
use super::recorded::Recorded;
use super::terminal::Terminal;
use super::{ConfigArguments, Exit, Stop, input};
use crate::advice::filter_verdict::FilterVerdict;
use crate::clock::WallTime;
use crate::config::{LoadedRules, load_addresses, load_rules, load_sender};
use crate::event::Draft;
use crate::inbound::{Accept, Decoded};
use crate::lenient_json::Repairs;
use crate::rules::{Context, Decision, Element, Trace};

/// Show why a payload is decided as it is
///
/// Shows every validation, rule and condition with the value that was seen, then the body that would be sent and, by the
/// sandbox filters, what Callgoose would do with it. Where no rule matches, it names the rule that came nearest, and what
/// kept it from matching. Reads only the source's rules from the configuration: no secret is needed, no relay has to run,
/// and nothing is sent.
///
/// With --relay or --journal it also says whether the event would be taken, or is known already. With --event it explains
/// what was received before, by the rules as they are now.
///
/// Exit codes: 0 whatever the verdict; 1 the relay refused; 2 the rules, the payload or the relay can't be used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander explain --source servicepilot alert.json\n  \
                        gander explain --source servicepilot --json < alert.json\n  \
                        gander explain --source servicepilot --relay alert.json\n  \
                        gander explain --rules new.yaml alert.json\n  \
                        gander explain --event 1764000000123")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The source whose rules decide
    #[arg(short, long, value_name = "NAME", required_unless_present_any = ["event", "rules"])]
    source: Option<String>,
    /// Let the rules in this file decide, instead of those that are configured
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// The payload, JSON [default: standard input, as for `-`]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The sandbox filters that tell what Callgoose would do [default: callgoose-filters.yaml beside the configuration]
    #[arg(long, value_name = "FILE")]
    filters: Option<PathBuf>,
    /// Ask the running relay, by its admin API, whether it would take the event or knows it already
    #[arg(long)]
    relay: bool,
    /// Ask the journal in this `data_dir`, which no relay may be using
    #[arg(long, value_name = "DIR", conflicts_with = "relay")]
    journal: Option<PathBuf>,
    /// Explain a kept event of the running relay, or of the --journal, instead of a payload
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "source", "relay"])]
    event: Option<String>,
    /// Print one JSON object: {"verdict", "events", "errors", "trace"}
    #[arg(long)]
    json: bool,
}

/// A payload, how it is decided, and what would come of it.
#[derive(Debug)]
struct Explanation {
    /// The rule file.
    rules: String,
    /// The repairs that the payload needed.
    repairs: Repairs,
    decision: Decision,
    trace: Trace,
    /// The filters' verdicts, where filters are known.
    callgoose: Option<Callgoose>,
    /// Deduplication's answer for each element, in the API's words; empty where nobody was asked.
    dedup: Vec<Option<Value>>,
    /// The event as it is kept, where it came before.
    recorded: Option<Recorded>,
    /// Templates that failed, and what a running relay would see otherwise.
    warnings: Vec<String>,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let config = &arguments.config;
    if (arguments.relay || arguments.journal.is_some()) && arguments.source.is_none() && arguments.event.is_none() {
        return Err("whose incident keys are asked for? Add --source".to_owned().into());
    }
    let past = match &arguments.journal {
        Some(directory) => Some(Past::journal(directory, config)?),
        None if arguments.relay || arguments.event.is_some() => Some(Past::relay(config)?),
        None => None,
    };
    let event = match (&arguments.event, &past) {
        (Some(id), Some(past)) => Some(past.event(id)?),
        _ => None,
    };
    let source = event.as_ref().and_then(|event| event["source"].as_str()).or(arguments.source.as_deref());
    let source = source.unwrap_or_default().to_owned();
    let loaded = arguments.loaded_rules(&source, terminal)?;
    let configuration = config.file.locate().ok();
    let callgoose = Callgoose::open(arguments.filters.as_deref(), configuration.as_deref(), terminal)?;
    let mut warnings = match &past {
        Some(past) if arguments.rules.is_none() => past.rules_in_force()?.into_iter().collect(),
        _ => Vec::new(),
    };
    let mut explanation = match event {
        Some(event) => {
            let problem = |problem| format!("event {}: {problem}", arguments.event.as_deref().unwrap_or_default());
            Explanation::of_recorded(&loaded, Recorded::of(event, loaded.accept).map_err(problem)?)
        }
        None => {
            let received_at = WallTime::now().rfc3339();
            let bytes = input::read(arguments.file.as_deref())?;
            if past.is_some() {
                let addresses = config.part(load_addresses)?;
                warnings.extend(too_large(bytes.len(), addresses.listen.bodies.bytes_max));
            }
            let payload = input::payload(&bytes, loaded.accept);
            let Decoded { value, repairs } = payload.map_err(|problem| format!("the payload is no JSON: {problem}"))?;
            if loaded.handshake.as_ref().is_some_and(|handshake| handshake.is_asked_for(&value)) {
                warnings.push("the relay answers this with its text, as a `handshake`: no rule sees it".to_owned());
            }
            let context = Context { source: &source, received_at: &received_at, json: loaded.accept.json, repairs };
            Explanation::of(&loaded, &value, context).with(repairs)
        }
    };
    explanation.warnings.append(&mut warnings);
    explanation.callgoose = callgoose.map(|callgoose| callgoose.asked(&explanation.decision, loaded.from.as_deref()));
    // Of an event that came, deduplication would say that it came.
    if let (Some(past), None) = (&past, &explanation.recorded) {
        explanation.dedup = explanation.foreseen(past, &source)?;
    }
    if arguments.json {
        terminal.print(&format!("{:#}", object::object(&explanation)));
    } else {
        terminal.print(page::text(&explanation, terminal.colour()).trim_end());
    }
    Ok(Exit::Fine)
}

impl Arguments {
    /// The rules that decide: those of the source, or of a file that no configuration has to name.
    fn loaded_rules(&self, source: &str, terminal: &mut Terminal) -> Result<LoadedRules, Stop> {
        let Some(file) = &self.rules else {
            return self.config.part(|inputs| load_rules(inputs, source));
        };
        let (from, accept) = match &self.source {
            Some(source) => self.config.part(|inputs| load_sender(inputs, source))?,
            None => (None, Accept { form: true, ..Accept::default() }),
        };
        Ok(LoadedRules {
            rules: input::rules(file, terminal)?,
            rules_file: file.clone(),
            from,
            accept,
            handshake: None,
        })
    }
}

/// The refusal that a payload of this size would meet, if any.
fn too_large(bytes: usize, most: usize) -> Option<String> {
    (bytes > most).then(|| {
        format!(
            "the payload has {bytes} bytes and `listen.max_body` is {most}: the relay would answer 413 and keep its beginning"
        )
    })
}

impl Explanation {
    fn of(loaded: &LoadedRules, payload: &Value, context: Context<'_>) -> Explanation {
        Explanation::new(loaded, loaded.rules.explain(payload, context))
    }

    fn new(loaded: &LoadedRules, (decision, trace): (Decision, Trace)) -> Explanation {
        let rules = loaded.rules_file.display().to_string();
        let warnings = template_failures(&decision).into_iter().collect();
        Explanation {
            rules,
            repairs: decision.repairs,
            decision,
            trace,
            callgoose: None,
            dedup: Vec::new(),
            recorded: None,
            warnings,
        }
    }

    /// Of what came before; of a batch only the element that became this event, if any still does.
    fn of_recorded(loaded: &LoadedRules, recorded: Recorded) -> Explanation {
        let &Recorded { ref source, ref received_at, json, repairs, .. } = &recorded;
        let context = Context { source, received_at, json, repairs };
        let mut explanation = match &recorded.element {
            None => Explanation::of(loaded, &recorded.payload, context),
            Some(element) => {
                Explanation::new(loaded, loaded.rules.explain_element(element, &recorded.payload, context))
            }
        };
        let place = |is_it: &dyn Fn(&Draft) -> bool| {
            let mut elements = explanation.decision.elements.iter();
            elements.position(|element| matches!(element, Element::Event(draft) if is_it(draft)))
        };
        // Elements may share a key: then it is the one with its body, if the rules still make that.
        let place = place(&|draft| recorded.is_exactly(draft)).or_else(|| place(&|draft| recorded.is_of(draft)));
        if let (true, Some(index)) = (explanation.decision.batch, place) {
            explanation.decision.elements = vec![explanation.decision.elements.swap_remove(index)];
            explanation.trace.elements = vec![explanation.trace.elements.swap_remove(index)];
        }
        explanation = explanation.with(recorded.repairs);
        explanation.recorded = Some(recorded);
        explanation
    }

    /// With what was repaired before the rules saw it.
    fn with(mut self, repairs: Repairs) -> Explanation {
        self.repairs = self.repairs.and(repairs);
        self
    }

    /// Asks deduplication about each element's event, one after the other as the relay takes them.
    fn foreseen(&self, past: &Past, source: &str) -> Result<Vec<Option<Value>>, Stop> {
        let events = self.decision.elements.iter().enumerate().filter_map(|(index, element)| match element {
            Element::Event(draft) => Some((index, draft)),
            _ => None,
        });
        let (indices, drafts): (Vec<usize>, Vec<&Draft>) = events.unzip();
        let element = |place: &Value| place.as_u64().and_then(|place| indices.get(usize::try_from(place).ok()?));
        let mut foreseen = vec![None; self.decision.elements.len()];
        for (index, mut answer) in indices.iter().zip(past.foresee(source, &drafts)?) {
            // The API counts events, and a person elements.
            answer["of_index"] = element(&answer["of_index"]).copied().into();
            if answer["known"].is_object() {
                answer["known"]["event_index"] = element(&answer["known"]["event_index"]).copied().into();
            }
            foreseen[*index] = Some(answer);
        }
        Ok(foreseen)
    }

    /// Deduplication's answer for an element's event.
    fn known(&self, index: usize) -> Option<&Value> {
        self.dedup.get(index)?.as_ref()
    }

    /// The filters' verdict on an element's event.
    fn sent(&self, index: usize) -> Option<&FilterVerdict> {
        self.callgoose.as_ref()?.sent.get(index)?.as_ref()
    }

    fn count(&self, which: fn(&Element) -> bool) -> usize {
        self.decision.elements.iter().filter(|element| which(element)).count()
    }
}

fn template_failures(decision: &Decision) -> Option<String> {
    let failures = &decision.template_failures;
    let first = failures.first.as_ref()?;
    let templates = if failures.count == 1 { "template" } else { "templates" };
    Some(format!("{} {templates} failed and rendered empty, the first: {first}", failures.count))
}

#[cfg(test)]
mod tests;
