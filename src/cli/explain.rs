//! `gander explain`: why a payload is decided as it is, for a person or a program.

mod callgoose;
mod object;
mod page;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use self::callgoose::{Callgoose, Sent};
use super::terminal::Terminal;
use super::{ConfigArguments, Exit, input};
use crate::config::{self, Desk, Secrets};
use crate::rules::{Context, Decision, Element, Trace};
use crate::time::WallTime;

/// Show why a payload is decided as it is
///
/// Every validation, rule and condition with the value that was seen, then the body that would be sent and, by the
/// sandbox filters, what Callgoose would do with it. Where no rule matches, the rule that lacked least and what it
/// lacked. Reads only the source's rules from the configuration: no secret is needed, no relay has to run, and nothing
/// is sent.
///
/// Exit codes: 0 whatever the verdict; 2 the rules or the payload can't be used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  gander explain --source servicepilot alert.json\n  \
                        gander explain --source servicepilot --json < alert.json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The source whose rules decide
    #[arg(short, long, value_name = "NAME")]
    source: String,
    /// The payload, JSON [default: standard input, as for `-`]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The sandbox filters that tell what Callgoose would do [default: callgoose-filters.yaml beside the configuration]
    #[arg(long, value_name = "FILE")]
    filters: Option<PathBuf>,
    /// Print one JSON object: {"verdict", "events", "errors", "trace"}
    #[arg(long)]
    json: bool,
}

pub(crate) fn command(arguments: &Arguments, terminal: &mut Terminal) -> Exit {
    match explained(arguments, terminal) {
        Ok(()) => Exit::Fine,
        Err(exit) => exit,
    }
}

/// A payload, how it is decided, and what would come of it.
#[derive(Debug)]
struct Explanation {
    /// The rule file.
    rules: String,
    decision: Decision,
    trace: Trace,
    /// What Callgoose would do, where filters are known.
    callgoose: Option<Callgoose>,
}

fn explained(arguments: &Arguments, terminal: &mut Terminal) -> Result<(), Exit> {
    let inputs = arguments.config.inputs(Secrets::Optional, terminal)?;
    let desk = config::load_desk(&inputs, &arguments.source).map_err(|failure| {
        terminal.say_failure(&failure);
        Exit::CouldNotRun
    })?;
    let callgoose = Callgoose::open(arguments.filters.as_deref(), &inputs.path, terminal)?;
    let payload = payload(arguments.file.as_deref(), terminal)?;
    let received_at = WallTime::now().rfc3339();
    let context = Context { source: &arguments.source, received_at: &received_at };
    let explanation = Explanation::of(&desk, &payload, context, callgoose);
    if arguments.json {
        terminal.print(&format!("{:#}", object::object(&explanation)));
    } else {
        terminal.print(page::text(&explanation, terminal.colour()).trim_end());
    }
    Ok(())
}

fn payload(file: Option<&Path>, terminal: &mut Terminal) -> Result<Value, Exit> {
    let mut could_not = |problem: String| {
        terminal.say(&format!("error: {problem}"));
        Exit::CouldNotRun
    };
    let payload = input::read(file).map_err(&mut could_not)?;
    serde_json::from_slice(&payload).map_err(|error| could_not(format!("the payload is no JSON: {error}")))
}

impl Explanation {
    fn of(desk: &Desk, payload: &Value, context: Context<'_>, callgoose: Option<Callgoose>) -> Explanation {
        let (decision, trace) = desk.rules.explain(payload, context);
        let callgoose = callgoose.map(|callgoose| callgoose.asked(&decision, desk.from.as_deref()));
        Explanation { rules: desk.rules_file.display().to_string(), decision, trace, callgoose }
    }

    /// What Callgoose would do with the event of an element.
    fn sent(&self, index: usize) -> Option<&Sent> {
        self.callgoose.as_ref()?.sent.get(index)?.as_ref()
    }

    /// Templates that failed and rendered empty.
    fn warning(&self) -> Option<String> {
        let failures = &self.decision.template_failures;
        let first = failures.first.as_ref()?;
        Some(format!("{} templates failed and rendered empty, the first: {first}", failures.count))
    }

    fn count(&self, which: fn(&Element) -> bool) -> usize {
        self.decision.elements.iter().filter(|element| which(element)).count()
    }
}

#[cfg(test)]
mod tests;
