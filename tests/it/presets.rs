//! The rule files that are shipped, one for each kind of sender: without a finding, and as good as their tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gander::exports::event::Action;
use gander::exports::lenient_json::{JsonReading, Repairs};
use gander::exports::rules::{Context, Element, RuleSet};
use gander::exports::yaml::{Findings, Source};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules")
}

/// The names of the presets: each rule file without `.yaml`.
pub fn presets() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .filter(|name| !name.ends_with(".test"))
        .collect();
    names.sort();
    names
}

pub fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn compiled(preset: &str) -> Arc<RuleSet> {
    let name = format!("{preset}.yaml");
    let source = Arc::new(Source::new(name.clone(), text(&name)));
    let mut findings = Findings::new();
    let rules = RuleSet::compile(&source, &mut findings);
    assert!(findings.is_empty(), "{}", findings.render(false));
    Arc::new(rules.unwrap())
}

#[test]
fn a_preset_compiles_without_a_finding() {
    for preset in presets() {
        compiled(&preset);
    }
}

/// So each state that a rule names has a test, and each condition one that it turns away.
#[test]
fn the_tests_of_a_preset_pass_and_leave_nothing_of_it_out() {
    let mut gander = Command::new(env!("CARGO_BIN_EXE_gander"));
    let output = gander.arg("test").arg(folder()).args(["--coverage-min", "100"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// One shape of a sender's payloads, with `STATE` where the state stands, and what becomes of each state that is
/// documented, or that was seen.
struct States {
    preset: &'static str,
    payload: &'static str,
    trigger: &'static [&'static str],
    resolve: &'static [&'static str],
    ignore: &'static [&'static str],
    refuse: &'static [&'static str],
}

const STATES: &[States] = &[
    States {
        preset: "aimbetter",
        payload: r#"{"alert_id": 77, "Status": "STATE", "Level": 3}"#,
        trigger: &["new", "Open", "started", "active", "updated"],
        resolve: &["Ended", "closed", "resolved", "ok"],
        ignore: &[],
        refuse: &["acknowledged", "{status}", ""],
    },
    States {
        preset: "alertmanager",
        payload: r#"{"alerts": [{"fingerprint": "f1", "status": "STATE", "labels": {}}]}"#,
        trigger: &["firing"],
        resolve: &["resolved"],
        ignore: &[],
        refuse: &["suppressed", "{{ .Status }}", ""],
    },
    States {
        preset: "azure-monitor",
        payload: r#"{"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": {"alertId": "/alerts/1",
            "signalType": "Metric", "monitoringService": "Platform", "monitorCondition": "STATE"}, "alertContext": {}}}"#,
        trigger: &["Fired"],
        resolve: &["Resolved"],
        ignore: &[],
        refuse: &["Activated", ""],
    },
    States {
        preset: "azure-monitor",
        payload: r#"{"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": {"alertId": "/alerts/1",
            "signalType": "Activity Log", "monitoringService": "ServiceHealth", "monitorCondition": "Fired"},
            "alertContext": {STATE}}}"#,
        trigger: &[
            r#""status": "Active", "properties": {"trackingId": "t1", "stage": "Active"}"#,
            r#""status": "Active", "properties": {"trackingId": "t1", "stage": "Planned"}"#,
            r#""status": "Active", "properties": {"trackingId": "t1", "stage": "InProgress"}"#,
            r#""status": "Active", "properties": {"trackingId": "t1", "stage": "Rescheduled"}"#,
        ],
        resolve: &[
            r#""status": "Resolved", "properties": {"trackingId": "t1", "stage": "Resolved"}"#,
            r#""status": "Active", "properties": {"trackingId": "t1", "stage": "Complete"}"#,
            r#""status": "Active", "properties": {"trackingId": "t1", "stage": "Canceled"}"#,
        ],
        ignore: &[r#""status": "Active", "properties": {"trackingId": "t1", "stage": "RCA"}"#],
        refuse: &[r#""status": "Paused""#, ""],
    },
    States {
        preset: "azure-monitor",
        payload: r#"{"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": {"alertId": "/alerts/1",
            "signalType": "Activity Log", "monitoringService": "ResourceHealth", "monitorCondition": "Fired",
            "alertTargetIDs": ["/vm-1"]},
            "alertContext": {STATE}}}"#,
        trigger: &[
            r#""status": "Active", "properties": {"currentHealthStatus": "Unavailable"}"#,
            r#""status": "InProgress", "properties": {"currentHealthStatus": "Degraded"}"#,
            r#""status": "Updated", "properties": {"currentHealthStatus": "Unknown"}"#,
            r#""status": "Resolved", "properties": {"currentHealthStatus": "Unavailable"}"#,
            r#""status": "Resolved", "properties": {"currentHealthStatus": "Degraded"}"#,
        ],
        resolve: &[
            r#""status": "Resolved", "properties": {"currentHealthStatus": "Available"}"#,
            r#""status": "Resolved", "properties": {"currentHealthStatus": "Unknown"}"#,
            r#""status": "Updated", "properties": {"currentHealthStatus": "Available"}"#,
        ],
        ignore: &[],
        refuse: &[r#""status": "Paused""#, ""],
    },
    States {
        preset: "better-stack",
        payload: r#"{"event": "STATE", "data": {"type": "incident", "id": "1"}}"#,
        trigger: &["started", "reopened"],
        resolve: &["resolved"],
        ignore: &["acknowledged"],
        refuse: &["escalated", ""],
    },
    States {
        preset: "checkmk",
        payload: r#"{"host": "db-1", "service": "ssh", STATE}"#,
        trigger: &[
            r#""type": "PROBLEM", "state": "WARNING""#,
            r#""type": "PROBLEM", "state": "UNKNOWN""#,
            r#""type": "PROBLEM", "state": "DOWN""#,
            r#""type": "PROBLEM", "state": "UNREACHABLE""#,
            r#""type": "FLAPPINGSTOP", "state": "CRITICAL""#,
            r#""type": "DOWNTIMEEND", "state": "DOWN""#,
        ],
        resolve: &[
            r#""type": "RECOVERY", "state": "OK""#,
            r#""type": "RECOVERY", "state": "UP""#,
            r#""type": "FLAPPINGSTOP", "state": "OK""#,
            r#""type": "FLAPPINGDISABLED", "state": "UP""#,
            r#""type": "DOWNTIMEEND", "state": "OK""#,
            r#""type": "DOWNTIMECANCELLED", "state": "UP""#,
            r#""type": "ACKNOWLEDGEMENT", "state": "OK""#,
        ],
        ignore: &[
            r#""type": "ACKNOWLEDGEMENT", "state": "CRITICAL""#,
            r#""type": "FLAPPINGSTART", "state": "OK""#,
            r#""type": "DOWNTIMESTART", "state": "OK""#,
            r#""type": "CUSTOM", "state": "UP""#,
            r#""type": "ALERTHANDLER (OK)", "state": "DOWN""#,
        ],
        refuse: &[
            r#""type": "FLAPPINGSTOP", "state": "PENDING""#,
            r#""type": "ESCALATION", "state": "DOWN""#,
            r#""type": "", "state": "DOWN""#,
        ],
    },
    States {
        preset: "cloudwatch-sns",
        payload: r#"{"Type": "Notification", "Message": "{\"AlarmArn\": \"arn:aws:cloudwatch:1\", \"NewStateValue\": \"STATE\"}"}"#,
        trigger: &["ALARM"],
        resolve: &["OK"],
        ignore: &["INSUFFICIENT_DATA"],
        refuse: &["PENDING", ""],
    },
    States {
        preset: "datadog",
        payload: r#"{"aggreg_key": "a1", "transition": "STATE"}"#,
        trigger: &[
            "Triggered",
            "Re-Triggered",
            "Alert",
            "Warn",
            "Re-Warn",
            "Warning",
            "No Data",
            "Re-No Data",
            "Renotify",
            "Re-Notify",
            "renotified",
            "Recovered to Warn",
        ],
        resolve: &["Recovered", "RECOVERED", "Warn Recovered", "No Data Recovered", "Auto-Recovered", "Resolved"],
        ignore: &[],
        refuse: &["Null", "Muted", "Unresolved", "Not Recovered", "$ALERT_TRANSITION", ""],
    },
    States {
        preset: "dynatrace",
        payload: r#"{"pid": "1_2V2", STATE}"#,
        trigger: &[r#""state": "OPEN""#],
        resolve: &[r#""state": "RESOLVED""#],
        ignore: &[r#""state": "MERGED""#, r#""state": "OPEN", "title": "Dynatrace problem notification test run""#],
        refuse: &[r#""state": "CLOSED""#, r#""state": "{State}""#, r#""state": """#],
    },
    States {
        preset: "gatus",
        payload: r#"{"group": "core", "name": "payments", "status": "STATE"}"#,
        trigger: &["TRIGGERED"],
        resolve: &["RESOLVED"],
        ignore: &[],
        refuse: &["[ALERT_TRIGGERED_OR_RESOLVED]", "down", ""],
    },
    States {
        preset: "generic",
        payload: r#"{"id": "i1", "status": "STATE"}"#,
        trigger: &[
            "problem",
            "critical",
            "alarm",
            "alert",
            "alerting",
            "error",
            "failed",
            "failure",
            "firing",
            "fired",
            "triggered",
            "down",
            "open",
            "DOWN",
        ],
        resolve: &["ok", "resolved", "recovery", "recovered", "up", "closed", "cleared", "normal", "OK"],
        ignore: &["acknowledged", "ack"],
        refuse: &["degraded", "not ok", "{{ status }}", ""],
    },
    States {
        preset: "google-cloud-monitoring",
        payload: "{STATE}",
        trigger: &[
            r#""version": "1.2", "incident": {"incident_id": "0.a", "state": "open"}"#,
            r#""version": "1.2", "incident": {"incident_id": "0.a", "state": "OPEN"}"#,
        ],
        resolve: &[
            r#""version": "1.2", "incident": {"incident_id": "0.a", "state": "closed"}"#,
            r#""version": "1.2", "incident": {"incident_id": "0.a", "state": "CLOSED"}"#,
        ],
        ignore: &[r#""version": "test", "incident": {"incident_id": "0.a", "state": "OPEN"}"#],
        refuse: &[
            r#""version": "1.2", "incident": {"incident_id": "0.a", "state": "acknowledged"}"#,
            r#""version": "1.2", "incident": {"incident_id": "0.a", "state": ""}"#,
        ],
    },
    States {
        preset: "grafana",
        payload: r#"{"orgId": 1, "alerts": [{"fingerprint": "f1", "labels": {"alertname": "{{ $labels.host }}"}, STATE}]}"#,
        trigger: &[r#""status": "firing""#],
        resolve: &[
            r#""status": "resolved""#,
            r#""status": "resolved", "annotations": {"grafana_state_reason": "Paused"}"#,
        ],
        ignore: &[
            r#""status": "firing", "labels": {"alertname": "TestAlert", "instance": "Grafana"}"#,
            r#""status": "resolved", "labels": {"alertname": "TestAlert", "instance": "Alertmanager"}"#,
        ],
        refuse: &[r#""status": "pending""#, r#""status": "alerting""#, r#""state": "ok""#],
    },
    States {
        preset: "healthchecks-io",
        payload: r#"{"code": "31365bce", STATE}"#,
        trigger: &[
            r#""status": "down", "name": "Backup", "slug": "backup""#,
            r#""status": "down", "name": "TEST", "slug": "test""#,
        ],
        resolve: &[r#""status": "up", "name": "Backup", "slug": "backup""#],
        ignore: &[r#""status": "down", "name": "TEST", "slug": """#],
        refuse: &[
            r#""status": "new", "name": "Backup", "slug": "backup""#,
            r#""status": "grace", "name": "Backup", "slug": "backup""#,
            r#""status": "paused", "name": "Backup", "slug": "backup""#,
            r#""status": "$STATUS", "name": "Backup", "slug": "backup""#,
            r#""status": "", "name": "Backup", "slug": "backup""#,
        ],
    },
    States {
        preset: "icinga2",
        payload: r#"{"object": "db-1!ssh", STATE}"#,
        trigger: &[
            r#""type": "PROBLEM", "state": "WARNING""#,
            r#""type": "PROBLEM", "state": "DOWN""#,
            r#""type": "FLAPPINGEND", "state": "CRITICAL""#,
            r#""type": "FlappingEnd", "state": "Unknown""#,
        ],
        resolve: &[
            r#""type": "RECOVERY", "state": "OK""#,
            r#""type": "FLAPPINGEND", "state": "OK""#,
            r#""type": "FlappingEnd", "state": "Up""#,
            r#""type": "DOWNTIMEEND", "state": "OK""#,
            r#""type": "DOWNTIMECANCELLED", "state": "UP""#,
            r#""type": "DOWNTIMEREMOVED", "state": "UP""#,
            r#""type": "ACKNOWLEDGEMENT", "state": "OK""#,
        ],
        ignore: &[
            r#""type": "ACKNOWLEDGEMENT", "state": "CRITICAL""#,
            r#""type": "DOWNTIMESTART", "state": "OK""#,
            r#""type": "DOWNTIMEEND", "state": "DOWN""#,
            r#""type": "FLAPPINGSTART", "state": "OK""#,
            r#""type": "CUSTOM", "state": "OK""#,
        ],
        refuse: &[
            r#""type": "FLAPPINGEND", "state": """#,
            r#""type": "FLAPPINGEND", "state": "PENDING""#,
            r#""type": "UNKNOWN_NOTIFICATION", "state": "OK""#,
            r#""type": "", "state": "DOWN""#,
        ],
    },
    States {
        preset: "librenms",
        payload: r#"{"alert": "1207", "state": "STATE"}"#,
        trigger: &["1", "3", "4", "5"],
        resolve: &["0"],
        ignore: &["2"],
        refuse: &["6", "{{ $state }}", ""],
    },
    States {
        preset: "metoro",
        payload: r#"{"alert_fire_uuid": "f-1", "alert_state": "STATE"}"#,
        trigger: &["firing"],
        resolve: &["resolved"],
        ignore: &[],
        refuse: &["no_data", "$alert_state", ""],
    },
    States {
        preset: "nagios",
        payload: r#"{"object": "db-1!ssh", STATE}"#,
        trigger: &[r#""type": "PROBLEM", "state": "WARNING""#, r#""type": "PROBLEM", "state": "UNREACHABLE""#],
        resolve: &[
            r#""type": "RECOVERY", "state": "OK""#,
            r#""type": "FLAPPINGSTOP", "state": "OK""#,
            r#""type": "FLAPPINGDISABLED", "state": "UP""#,
            r#""type": "DOWNTIMEEND", "state": "UP""#,
            r#""type": "DOWNTIMECANCELLED", "state": "OK""#,
            r#""type": "ACKNOWLEDGEMENT", "state": "OK""#,
        ],
        ignore: &[
            r#""type": "ACKNOWLEDGEMENT", "state": "CRITICAL""#,
            r#""type": "DOWNTIMESTART", "state": "UP""#,
            r#""type": "DOWNTIMEEND", "state": "DOWN""#,
            r#""type": "FLAPPINGSTART", "state": "OK""#,
            r#""type": "FLAPPINGSTOP", "state": "CRITICAL""#,
            r#""type": "CUSTOM", "state": "UP""#,
        ],
        refuse: &[r#""type": "NORMAL", "state": "OK""#, r#""type": "$NOTIFICATIONTYPE$", "state": "DOWN""#],
    },
    States {
        preset: "netdata",
        payload: r#"{"host": "web-1", "chart": "system.cpu", "name": "10min_cpu_usage", "status": "STATE"}"#,
        trigger: &["WARNING", "CRITICAL"],
        resolve: &["CLEAR"],
        ignore: &[],
        refuse: &["REMOVED", "UNDEFINED", "UNINITIALIZED", ""],
    },
    States {
        preset: "new-relic",
        payload: r#"{"id": "d1b1f3fd", STATE}"#,
        trigger: &[
            r#""state": "ACTIVATED", "trigger": "STATE_CHANGE""#,
            r#""state": "ACTIVATED", "trigger": "INCIDENT_ADDED""#,
            r#""state": "ACTIVATED", "trigger": "INCIDENT_CLOSED""#,
            r#""state": "ACTIVATED", "trigger": "PRIORITY_CHANGED""#,
            r#""state": "CREATED", "trigger": "INCIDENT_ADDED""#,
        ],
        resolve: &[
            r#""state": "CLOSED", "trigger": "INCIDENT_CLOSED""#,
            r#""state": "CLOSED", "trigger": "STATE_CHANGE""#,
            r#""state": "CLOSED", "trigger": "USER_ACTION""#,
        ],
        ignore: &[
            r#""state": "ACTIVATED", "trigger": "USER_ACTION""#,
            r#""state": "ACKNOWLEDGED", "trigger": "STATE_CHANGE""#,
        ],
        refuse: &[
            r#""state": "DEACTIVATED", "trigger": "STATE_CHANGE""#,
            r#""state": "{{ json state }}", "trigger": "STATE_CHANGE""#,
            r#""state": "", "trigger": "STATE_CHANGE""#,
        ],
    },
    States {
        preset: "obkio",
        payload: r#"{"type": "alert_notification", "data": {"alert_id": 12, "severity": "STATE"}}"#,
        trigger: &["critical", "Error", "warning", "information"],
        resolve: &["ok", "OK"],
        ignore: &[],
        refuse: &["acknowledged", ""],
    },
    States {
        preset: "openstatus",
        payload: "{STATE}",
        trigger: &[
            r#""monitor": {"id": 2260, "name": "Payments", "url": "https://payments.example"}, "status": "error""#,
            r#""monitor": {"id": 2260, "name": "Payments", "url": "https://payments.example"}, "status": "degraded""#,
        ],
        resolve: &[
            r#""monitor": {"id": 2260, "name": "Payments", "url": "https://payments.example"}, "status": "recovered""#,
        ],
        ignore: &[r#""monitor": {"id": 1, "name": "test", "url": "http://openstat.us"}, "status": "recovered""#],
        refuse: &[
            r#""monitor": {"id": 2260, "name": "Payments", "url": "https://payments.example"}, "status": "active""#,
            r#""monitor": {"id": 2260, "name": "Payments", "url": "https://payments.example"}, "status": """#,
        ],
    },
    States {
        preset: "prtg",
        payload: r#"{"sensorid": "2045", "status": "STATE"}"#,
        trigger: &[
            "Down",
            "Down (Partial)",
            "Down (before: Warning)",
            "Down ESCALATION",
            "Down (Acknowledged) ended (now: Down)",
            "Warning",
            "Warning (before: Down)",
            "Warning ended (now: Down)",
            "Warning ended (now: Down (Partial))",
            "Unusual",
            "Unusual ended (now: Warning)",
            "Unknown",
            "Up ended (now: Down)",
        ],
        resolve: &[
            "Up",
            "Up (before: Down)",
            "Down ended (now: Up)",
            "Down ended (now: Warning)",
            "Down ended (now: Unusual)",
            "Down (Acknowledged) ended (now: Up)",
            "Warning ended (now: Up)",
            "Warning ended (now: Unusual)",
        ],
        ignore: &[
            "Down (Acknowledged)",
            "Down ended (now: Down (Acknowledged))",
            "Down ended (now: Paused)",
            "Down ended (now: Paused (by User))",
            "Down ended (now: Unknown)",
            "Up ended (now: Paused)",
            "Paused",
            "Paused (by User)",
            "Paused (by Schedule)",
        ],
        refuse: &["Above 50 ms (Ping Time)", "Down ended (now: Collecting)", "%status", ""],
    },
    States {
        preset: "sentry",
        payload: "{STATE}",
        trigger: &[
            r#""action": "triggered", "data": {"event": {"issue_id": "1170"}}"#,
            r#""action": "triggered", "data": {"issue": {"id": "1170", "status": "unresolved"}}"#,
            r#""action": "triggered", "data": {"issue": {"id": "1170"}, "activity": {"type": "escalating"}}"#,
        ],
        resolve: &[
            r#""action": "resolved", "data": {"issue": {"id": "1170"}}"#,
            r#""action": "archived", "data": {"issue": {"id": "1170"}}"#,
            r#""action": "ignored", "data": {"issue": {"id": "1170"}}"#,
            r#""action": "triggered", "data": {"issue": {"id": "1170", "status": "resolved"}, "activity": {}}"#,
            r#""action": "triggered", "data": {"issue": {"id": "1170", "status": "ignored"}, "activity": {}}"#,
        ],
        ignore: &[
            r#""action": "created", "data": {"issue": {"id": "1170"}}"#,
            r#""action": "unresolved", "data": {"issue": {"id": "1170"}}"#,
            r#""action": "assigned", "data": {"issue": {"id": "1170"}}"#,
            r#""action": "created", "data": {"comment": "x"}"#,
            r#""action": "triggered", "data": {"issue": {"id": "1170"}, "activity": {"type": "seer_pr_created"}}"#,
        ],
        refuse: &[
            r#""action": "open", "data": {"issue": {"id": "1170"}}"#,
            r#""action": "", "data": {"issue": {"id": "1170"}}"#,
        ],
    },
    States {
        preset: "sentry",
        payload: r#"{"action": "STATE", "data": {"metric_alert": {"id": "1170"}}}"#,
        trigger: &["critical", "warning"],
        resolve: &["resolved"],
        ignore: &[],
        refuse: &["open", ""],
    },
    States {
        preset: "servicepilot",
        payload: r#"{"servicepilot_event_id": "e1", "state": "STATE"}"#,
        trigger: &["CRITICAL", "ALARM", "PROBLEM", "alarm: CPU", "RECOVERY from PROBLEM"],
        resolve: &["OK", "RESOLVED", "RECOVERY", "ok"],
        ignore: &[],
        refuse: &["NOT OK", "UNKNOWN", "BROKEN", "<% event.state %>", ""],
    },
    States {
        preset: "site24x7",
        payload: r#"{"MONITOR_ID": 15698000, "STATUS": "STATE"}"#,
        trigger: &["DOWN", "CRITICAL", "TROUBLE", "Trouble"],
        resolve: &["UP"],
        ignore: &[],
        refuse: &["SUSPENDED", "MAINTENANCE", "$STATUS", ""],
    },
    States {
        preset: "statuscake",
        payload: r#"{"Name": "shop", "URL": "https://shop.example", "Status": "STATE"}"#,
        trigger: &["Down", "down"],
        resolve: &["Up"],
        ignore: &[],
        refuse: &["Paused", ""],
    },
    States {
        preset: "tiger-data",
        payload: r#"{"orgId": 1, "alerts": [{"fingerprint": "f1", "labels": {"alertname": "Disk"}, STATE}]}"#,
        trigger: &[r#""status": "firing""#],
        resolve: &[r#""status": "resolved""#],
        ignore: &[r#""status": "firing", "labels": {"alertname": "TestAlert", "instance": "Grafana"}"#],
        refuse: &[r#""status": "pending""#],
    },
    States {
        preset: "uptime-kuma",
        payload: r#"{"heartbeat": STATE, "monitor": {"id": 89}, "msg": "[api] Testing"}"#,
        trigger: &[r#"{"status": 0}"#],
        resolve: &[r#"{"status": 1}"#],
        ignore: &[r#"{"status": 2}"#, r#"{"status": 3}"#, "null"],
        refuse: &[r#"{"status": 4}"#, r#"{"status": "down"}"#, "{}"],
    },
    States {
        preset: "uptimerobot",
        payload: r#"{"monitorID": "7788", "alertType": "STATE"}"#,
        trigger: &["1"],
        resolve: &["2"],
        ignore: &[],
        refuse: &["3", "*alertType*", ""],
    },
    States {
        preset: "zabbix",
        payload: r#"{"event_id": "1284", STATE}"#,
        trigger: &[
            r#""event_source": "0", "event_value": "1", "event_update_status": "0""#,
            r#""event_source": "3", "event_value": "1", "event_update_status": "{EVENT.UPDATE.STATUS}""#,
            r#""event_source": "4", "event_value": 1"#,
            r#""event_value": "1", "event_update_status": "1", "event_update_action": "changed severity from High to Warning""#,
        ],
        resolve: &[
            r#""event_source": "0", "event_value": "0", "event_update_status": "0""#,
            r#""event_source": "0", "event_value": "0", "event_update_status": "1""#,
            r#""event_value": "0", "alert_message": "NOTE: Escalation canceled: action disabled""#,
        ],
        ignore: &[
            r#""event_value": "1", "event_update_status": "1", "event_update_action": "acknowledged, commented""#,
            r#""event_value": "1", "event_update_status": "1", "event_update_action": "suppressed""#,
            r#""event_value": "1", "alert_message": "NOTE: Escalation canceled: trigger disabled""#,
            r#""event_value": "1", "alert_message": "NOTE: Escalation cancelled: host disabled""#,
            r#""event_source": "1", "event_value": "2""#,
            r#""event_source": "2", "event_value": "{EVENT.VALUE}""#,
        ],
        refuse: &[r#""event_value": "{EVENT.VALUE}""#, r#""event_value": """#, r#""event_source": "0""#],
    },
];

/// The decision on the last element of a payload.
fn decided(rules: &RuleSet, payload: &str) -> Element {
    let value = serde_json::from_str(payload).unwrap_or_else(|error| panic!("{payload}: {error}"));
    let context = Context {
        source: "test",
        received_at: "2025-01-01T00:00:00Z",
        json: JsonReading::Strict,
        repairs: Repairs::NONE,
    };
    rules.decide(&value, context).elements.pop().unwrap()
}

/// What becomes of a payload: `trigger`, `resolve`, `ignore` or `refuse`, with the incident key of an event.
fn becomes(rules: &RuleSet, payload: &str) -> (&'static str, Option<String>) {
    match decided(rules, payload) {
        Element::Event(draft) => match draft.action {
            Action::Trigger => ("trigger", Some(draft.incident_key)),
            Action::Resolve => ("resolve", Some(draft.incident_key)),
        },
        Element::Ignored { .. } => ("ignore", None),
        Element::Refused { .. } => ("refuse", None),
    }
}

/// A trigger whose resolve has another key would stay open for ever.
#[test]
fn every_state_of_a_sender_is_decided_and_all_of_one_fault_have_one_key() {
    let mut wrong = Vec::new();
    for states in STATES {
        let rules = compiled(states.preset);
        let mut keys = std::collections::BTreeSet::new();
        let expected = [
            ("trigger", states.trigger),
            ("resolve", states.resolve),
            ("ignore", states.ignore),
            ("refuse", states.refuse),
        ];
        for (action, states_of_it) in expected {
            for state in states_of_it {
                let (found, key) = becomes(&rules, &states.payload.replace("STATE", state));
                keys.extend(key);
                if found != action {
                    wrong.push(format!("{}: `{state}` is {found}, not {action}", states.preset));
                }
            }
        }
        if keys.len() != 1 {
            wrong.push(format!("{}: {keys:?}", states.preset));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let told = |preset: &String| STATES.iter().any(|states| states.preset == preset);
    let missing: Vec<String> = presets().into_iter().filter(|preset| !told(preset)).collect();
    assert!(missing.is_empty(), "no states of {missing:?}");
}

/// On the list of events the first reason stands for all.
#[test]
fn the_first_reason_of_a_refusal_is_the_state_that_the_preset_does_not_know() {
    for (preset, payload, path) in [
        (
            "azure-monitor",
            r#"{"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": {"alertId": "/alerts/1",
                "monitoringService": "Platform", "monitorCondition": "Activated"}, "alertContext": {}}}"#,
            "$.data.essentials.monitorCondition",
        ),
        (
            "azure-monitor",
            r#"{"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": {"alertId": "/alerts/1",
                "monitoringService": "ServiceHealth", "monitorCondition": "Fired"}, "alertContext": {"status": "Paused"}}}"#,
            "$.data.alertContext.status",
        ),
        ("healthchecks-io", r#"{"code": "c1", "status": "grace", "name": "Backup", "slug": "backup"}"#, "$.status"),
        ("new-relic", r#"{"id": "d1", "state": "DEACTIVATED", "trigger": "STATE_CHANGE"}"#, "$.state"),
        ("openstatus", r#"{"monitor": {"id": 2, "name": "shop", "url": "u"}, "status": "active"}"#, "$.status"),
        ("sentry", r#"{"action": "open", "data": {"issue": {"id": "1170"}}}"#, "$.action"),
        ("uptime-kuma", r#"{"heartbeat": {"status": 4}, "monitor": {"id": 89}, "msg": "m"}"#, "$.heartbeat.status"),
        ("zabbix", r#"{"event_id": "1284", "event_value": "{EVENT.VALUE}"}"#, "$.event_value"),
    ] {
        let Element::Refused { violations, .. } = decided(&compiled(preset), payload) else { panic!("{preset}") };
        assert_eq!(violations[0].path, path, "{preset}: {violations:?}");
    }
}

/// What Callgoose would do with the events is part of it: the same two filters serve every sender. That the tests pass is
/// tested beside `gander test`.
#[test]
fn a_preset_is_tested_both_ways_with_a_repeat_and_a_refusal() {
    for preset in presets() {
        let tests = text(&format!("{preset}.test.yaml"));
        for part in [
            "filters: ../callgoose-filters.yaml",
            "outcome: created",
            "outcome: resolved",
            "status: duplicate",
            "verdict: refused",
        ] {
            assert!(tests.contains(part), "{preset}.test.yaml has no `{part}`");
        }
    }
}

/// Incident keys of two senders may be equal, and a resolve of the one must not close the other's incident.
#[test]
fn what_callgoose_maps_by_names_its_sender() {
    for preset in presets().iter().filter(|preset| *preset != "servicepilot") {
        let mapped = "\n  servicepilot_event_id: '{{ source }}/{{ incident_key }}'\n";
        assert!(text(&format!("{preset}.yaml")).contains(mapped), "{preset}");
    }
}
