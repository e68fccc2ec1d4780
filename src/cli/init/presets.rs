//! The presets that the program carries: the rule files of `config/rules`, with their tests.

/// One kind of sender.
#[derive(Debug)]
pub(super) struct Preset {
    /// The source's name, and that of its files.
    pub(super) name: &'static str,
    /// The name that people know; Callgoose puts it before each title.
    pub(super) title: &'static str,
    /// The keys that are read of it.
    pub(super) about: &'static str,
    /// The one thing to enter there; the rule file's head says it step by step.
    pub(super) enter: &'static str,
    pub(super) rules: &'static str,
    pub(super) tests: &'static str,
}

/// Declares presets: name, title, what is read, what to enter.
macro_rules! presets {
    ($($name:literal, $title:literal, $about:literal, $enter:literal;)*) => {
        &[$(Preset {
            name: $name,
            title: $title,
            about: $about,
            enter: $enter,
            rules: include_str!(concat!("../../../config/rules/", $name, ".yaml")),
            tests: include_str!(concat!("../../../config/rules/", $name, ".test.yaml")),
        }),*]
    };
}

/// By name, as they are listed.
pub(super) const PRESETS: &[Preset] = presets! {
    "aimbetter", "AimBetter", "AimBetter, webhook notification",
        "what to ask AimBetter's support for: the URL, the header, the default payload, the end of alerts";
    "alertmanager", "Alertmanager", "Prometheus Alertmanager, webhook version 4",
        "`webhook_configs` with the url and `http_config: { authorization: { credentials_file: … } }`";
    "azure-monitor", "Azure Monitor", "Azure Monitor, common alert schema",
        "an action group's Webhook: the URL with ?token=…, the common alert schema switched on";
    "better-stack", "Better Stack", "Better Stack, outgoing webhook of incidents",
        "an outgoing webhook of the type Incident: the URL with ?token=…";
    "checkmk", "Checkmk", "Checkmk, notification script for hosts and services",
        "the script of the rule file, and a notification rule that uses it";
    "cloudwatch-sns", "CloudWatch", "Amazon CloudWatch alarms by Amazon SNS",
        "an HTTPS subscription: the URL with ?token=…; SNS asks for a confirmation, which a person gives once";
    "datadog", "Datadog", "Datadog, Webhooks integration",
        "a webhook with the payload of the rule file and the header; @webhook-… in each monitor's message";
    "dynatrace", "Dynatrace", "Dynatrace, problem notification by a custom integration",
        "a custom integration with the payload of the rule file, the URL and the header";
    "gatus", "Gatus", "Gatus, alerting provider custom",
        "`alerting.custom` with the URL, the header and the body of the rule file, and `send-on-resolved: true`";
    "generic", "Generic", "anything that can post JSON with an id and a status",
        "POST JSON such as {\"id\": \"backup-db-1\", \"status\": \"problem\"} with the header";
    "google-cloud-monitoring", "Google Cloud Monitoring", "Google Cloud Monitoring, notification channel Webhook",
        "a notification channel Webhook: the URL with ?token=…, and closure notifications in each policy";
    "grafana", "Grafana", "Grafana Alerting, contact point Webhook",
        "a contact point Webhook: the URL, authorization scheme Bearer and the token as its credentials";
    "healthchecks-io", "Healthchecks.io", "Healthchecks.io, integration Webhook",
        "an integration Webhook: the URL, the header and the body of the rule file, for down and for up";
    "icinga2", "Icinga 2", "Icinga 2, notification commands for hosts and services",
        "the script and the notification commands of the rule file";
    "librenms", "LibreNMS", "LibreNMS, alert transport API",
        "an alert transport API: the URL, the headers and the body of the rule file";
    "metoro", "Metoro", "Metoro, webhook integration",
        "a webhook with the header and the body of the rule file; in each alert for trigger and recovery";
    "nagios", "Nagios", "Nagios Core and Naemon, notification commands for hosts and services",
        "the notification commands of the rule file, and a contact that uses them";
    "netdata", "Netdata", "Netdata Agent, custom notifications",
        "the `custom_sender` of the rule file in health_alarm_notify.conf";
    "new-relic", "New Relic", "New Relic, workflow with a webhook destination",
        "a webhook destination with the URL and the bearer token, in a workflow that also tells of closed issues";
    "obkio", "Obkio", "Obkio, notification webhook of the type Obkio",
        "the organization's webhook, type Obkio: the URL with ?token=…";
    "openstatus", "OpenStatus", "OpenStatus, notification Webhook",
        "a notification Webhook: the URL, and the header under Custom Headers";
    "prtg", "PRTG", "PRTG Network Monitor, Execute HTTP Action",
        "a notification template: the URL with ?token=…, POST, the payload of the rule file; and state triggers";
    "sentry", "Sentry", "Sentry, webhook of an internal integration",
        "an internal integration: the URL with ?token=…, Alert Rule Action on, the webhook `issue`";
    "servicepilot", "ServicePilot", "ServicePilot, webhook of an alert policy",
        "Policies → Alert Policies → Notifications / Actions → Webhook: the URL, the header, the guide's body";
    "site24x7", "Site24x7", "Site24x7, integration Webhooks",
        "a Webhooks integration: the URL, the header, Post as JSON and Send Incident Parameters on";
    "statuscake", "StatusCake", "StatusCake, webhook of a contact group",
        "a contact group's webhook: POST, the URL with ?token=…; the source takes forms, see the rule file";
    "tiger-data", "Tiger Data", "Tiger Data (Tiger Cloud, TimescaleDB), alerts by Grafana",
        "a contact point Webhook in Grafana: the URL, authorization scheme Bearer and the token";
    "uptime-kuma", "Uptime Kuma", "Uptime Kuma, notification Webhook",
        "a notification Webhook: the URL, and the header under Additional Headers";
    "uptimerobot", "UptimeRobot", "UptimeRobot, webhook integration",
        "a webhook with the value of the rule file, sent as JSON: the URL with ?token=…";
    "zabbix", "Zabbix", "Zabbix, media type Webhook",
        "a media type Webhook with the parameters and the script of the rule file";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_carries_every_rule_file_that_is_shipped() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/rules");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut shipped: Vec<String> = names
            .filter(|name| !name.ends_with(".test.yaml"))
            .filter_map(|name| Some(name.strip_suffix(".yaml")?.to_owned()))
            .collect();
        shipped.sort();
        let carried: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        assert_eq!(carried, shipped);
    }
}
