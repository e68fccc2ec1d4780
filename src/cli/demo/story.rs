//! The steps of the demonstration. Each one does what it says and looks at what became of it; the last one counts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stage::Stage;
use crate::callgoose::sandbox::Report;
use crate::cli::admin_client::event_path;
use crate::cli::events::text;
use crate::cli::terminal::{Paint, Terminal, painted, plain};

/// The telling of it.
pub(super) struct Story<'a> {
    stage: &'a mut Stage,
    terminal: &'a mut Terminal,
    begun: Instant,
    steps: usize,
    sent: Vec<Sent>,
    /// The relay is there when the story is told, and may be asked.
    stays: bool,
}

/// A payload that was posted, by what became of it.
enum Sent {
    /// Taken or refused: the journal has it under this id.
    Kept(String),
    Duplicate,
}

type Step = Result<(), String>;

impl<'a> Story<'a> {
    pub(super) fn new(stage: &'a mut Stage, terminal: &'a mut Terminal, stays: bool) -> Story<'a> {
        Story { stage, terminal, begun: Instant::now(), steps: 0, sent: Vec::new(), stays }
    }

    /// Plays all steps; an error says what did not come as it should.
    pub(super) async fn tell(mut self) -> Step {
        let (relay, sandbox) = (self.stage.relay_url(), self.stage.sandbox_url().to_owned());
        self.terminal.print(&format!("relay      {relay}"));
        self.terminal.print(&format!("Callgoose  {sandbox} (a sandbox: it alerts nobody)"));
        self.problem().await?;
        self.repetition().await?;
        self.broken_json().await?;
        self.outage().await?;
        self.expired_token().await?;
        self.recoveries().await?;
        self.account().await
    }

    async fn problem(&mut self) -> Step {
        self.title("A problem pages somebody");
        self.line("sent", "sp-evt-1001 CRITICAL, High CPU Usage - payments-service");
        let answer = self.post(PROBLEM, WAIT).await?;
        self.calls_so_far();
        self.line("relay", &format!("{}, {}", said(&answer, "status"), said(&answer, "outcome")));
        expect(answer["outcome"] == "created", "the problem opened no incident")
    }

    async fn repetition(&mut self) -> Step {
        self.title("Sent again, it pages nobody");
        self.line("sent", "the same once more");
        let answer = self.post(PROBLEM, WAIT).await?;
        let of = said(&answer, "of");
        self.line("relay", &format!("{} of event {of}: Callgoose is not called", said(&answer, "status")));
        expect(answer["status"] == "duplicate", "the repetition was not recognised")
    }

    async fn broken_json(&mut self) -> Step {
        self.title("A template renders broken JSON: refused, kept, shown");
        self.line("sent", BROKEN);
        let answer = self.post(BROKEN, None).await?;
        let id = said(&answer, "id");
        self.line("relay", &format!("{} {}", answer["status"], said(&answer, "detail")));
        let kept = self.stage.ask(&event_path(&id)).await?;
        self.line("journal", &format!("event {id} is kept, {}", said(&kept, "state")));
        if self.stays {
            let command = self.stage.command(&format!("events show {id}"));
            self.terminal.print(&format!("when the story is told:  {command}"));
        }
        expect(kept["state"] == "refused", "the broken payload was not kept")
    }

    async fn outage(&mut self) -> Step {
        self.title("Callgoose goes down, and the relay is killed: all is delivered, in the order of each incident");
        self.stage.set_sandbox_available(false);
        self.queue("sp-evt-1003", PROBLEM_STATE).await?;
        self.queue("sp-evt-1004", PROBLEM_STATE).await?;
        self.queue("sp-evt-1003", RECOVERY_STATE).await?;
        let report = self.stage.next_call().await?;
        self.line("Callgoose", &report.to_string());
        let waiting = self.stage.kill_and_start().await?;
        self.line("relay", &format!("killed by SIGKILL, started again: {waiting} events wait"));
        expect(waiting == 3, "not every event survived the kill")?;
        self.stage.set_sandbox_available(true);
        self.line("Callgoose", "is back");
        self.successes(3).await
    }

    async fn expired_token(&mut self) -> Step {
        self.title("A token expires");
        let token = self.stage.renew_upstream_token()?;
        self.queue("sp-evt-1005", PROBLEM_STATE).await?;
        let report = self.stage.next_call().await?;
        self.line("Callgoose", &report.to_string());
        let trouble = self.trouble("upstream_auth").await?;
        // The rest names the token's file, which has another name each time.
        let remedy = said(&trouble, "remedy");
        let remedy = remedy.split_once(';').map_or(&*remedy, |(remedy, _)| remedy);
        self.line("relay", &format!("deliveries are paused: {remedy}"));
        self.stage.write_upstream_token(&token)?;
        self.line("you", "write the new token into the relay's token file");
        self.successes(1).await
    }

    async fn recoveries(&mut self) -> Step {
        self.title("Recoveries close what is open");
        for payload in [event("sp-evt-1004", RECOVERY_STATE), event("sp-evt-1005", RECOVERY_STATE), RECOVERY.to_owned()]
        {
            let answer = self.post(&payload, WAIT).await?;
            self.calls_so_far();
            expect(answer["outcome"] == "resolved", "a recovery closed no incident")?;
        }
        Ok(())
    }

    /// Counts what was sent against the journal and Callgoose's incidents.
    async fn account(&mut self) -> Step {
        let (mut delivered, mut refused, mut duplicates) = (0, 0, 0);
        for sent in &self.sent {
            let Sent::Kept(id) = sent else {
                duplicates += 1;
                continue;
            };
            match self.stage.ask(&event_path(id)).await?["state"].as_str() {
                Some("delivered") => delivered += 1,
                Some("refused") => refused += 1,
                _ => {}
            }
        }
        let (sent, accounted) = (self.sent.len(), delivered + refused + duplicates);
        let lost = sent - accounted;
        let incidents = self.stage.incidents();
        let open = incidents.iter().filter(|incident| incident.resolved_at.is_none()).count();
        let summary = format!(
            "{sent} sent, {accounted} accounted for, {lost} lost: {delivered} delivered, {duplicates} duplicate, \
             {refused} refused; {} incidents, {open} open",
            incidents.len()
        );
        let paint = if lost == 0 && open == 0 { Paint::Green } else { Paint::Red };
        let summary = painted(&summary, paint, self.terminal.colour());
        self.terminal.print(&format!("\n{summary}"));
        expect(lost == 0 && open == 0, "an event was lost, or an incident left open")
    }

    /// Posts an event that is only to be queued.
    async fn queue(&mut self, key: &str, state: &str) -> Step {
        let answer = self.post(&event(key, state), None).await?;
        let (status, id) = (said(&answer, "status"), said(&answer, "id"));
        self.line("sent", &format!("{key} {state}: {status}, on disk as event {id}"));
        expect(status == "queued", "an event was not taken")
    }

    async fn post(&mut self, payload: &str, prefer: Option<&'static str>) -> Result<Value, String> {
        let answer = self.stage.send(payload, prefer).await?;
        let body = answer.json().ok_or_else(|| format!("the relay answered {}", answer.status))?;
        match (said(&body, "id"), body["status"] == "duplicate") {
            (_, true) => self.sent.push(Sent::Duplicate),
            (id, false) => self.sent.push(Sent::Kept(id)),
        }
        Ok(body)
    }

    /// Prints calls until so many had success.
    async fn successes(&mut self, mut count: usize) -> Step {
        while count > 0 {
            let report = self.stage.next_call().await?;
            if report.status.is_success() {
                self.line("Callgoose", &report.to_string());
                count -= 1;
            }
        }
        Ok(())
    }

    fn calls_so_far(&mut self) {
        let reports: Vec<Report> = std::iter::from_fn(|| self.stage.call_so_far()).collect();
        for report in reports.iter().filter(|report| report.status.is_success()) {
            self.line("Callgoose", &report.to_string());
        }
    }

    /// An entry of `/readyz`, as soon as it is there.
    async fn trouble(&mut self, reason: &str) -> Result<Value, String> {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let ready = self.stage.ask("/readyz").await?;
            let mut entries = ready["degraded"].as_array().into_iter().flatten();
            if let Some(entry) = entries.find(|entry| entry["reason"] == reason) {
                return Ok(entry.clone());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(format!("/readyz never said {reason}"))
    }

    fn title(&mut self, title: &str) {
        self.steps += 1;
        let title = painted(&format!("{}  {title}", self.steps), Paint::Bold, self.terminal.colour());
        self.terminal.print(&format!("\n{title}"));
    }

    fn line(&mut self, who: &str, text: &str) {
        let text = plain(text);
        let mut shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        let elapsed = format!("{:4.1} s", self.begun.elapsed().as_secs_f64());
        let elapsed = painted(&elapsed, Paint::Dim, self.terminal.colour());
        self.terminal.print(&format!("{elapsed}  {who:<9}  {shown}"));
    }
}

fn event(key: &str, state: &str) -> String {
    let title = format!("Disk full on {}", key.replace("sp-evt", "db"));
    json!({ "servicepilot_event_id": key, "state": state, "title": title }).to_string()
}

fn said(value: &Value, name: &str) -> String {
    text(&value[name])
}

fn expect(holds: bool, otherwise: &str) -> Step {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

const PROBLEM_STATE: &str = "CRITICAL";
const RECOVERY_STATE: &str = "OK";
const WAIT: Option<&str> = Some("wait=10");
const POLL: Duration = Duration::from_millis(20);
/// A line fits a page.
const TEXT_CHARS_MAX: usize = 98;

/// A template's result for a title with quotation marks in it.
const BROKEN: &str = r#"{"servicepilot_event_id": "sp-evt-1002", "title": "Disk "C:" full"}"#;

/// The trigger example of ServicePilot's integration guide.
const PROBLEM: &str = r#"{
  "servicepilot_event_id": "sp-evt-1001",
  "source": "servicepilot",
  "state": "CRITICAL",
  "severity": "HIGH",
  "title": "High CPU Usage - payments-service",
  "description": "CPU > 90% for 5 minutes on payments-service",
  "host": "payments-01",
  "service": "payments-service",
  "startTime": "2025-11-24T07:30:00Z",
  "tags": { "policy": "High CPU Alert", "policy_id": "pol-77" },
  "metadata": { "console_link": "servicepilot-console-link" }
}"#;

/// The resolve example of the same guide.
const RECOVERY: &str = r#"{
  "servicepilot_event_id": "sp-evt-1001",
  "source": "servicepilot",
  "state": "OK",
  "severity": "INFO",
  "title": "CPU Normal - payments-service",
  "description": "CPU returned to normal",
  "host": "payments-01",
  "service": "payments-service",
  "startTime": "2025-11-24T07:30:00Z",
  "endTime": "2025-11-24T07:40:00Z",
  "tags": { "policy": "High CPU Alert", "policy_id": "pol-77" }
}"#;
