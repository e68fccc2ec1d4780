//! What is shipped for compose, held against the program and against itself. `tests/manifests` reads it as the compose
//! specification says.

use std::fs;
use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};

use crate::manifests::{checked, document};
use crate::pages::{read, root};

const COMPOSE: &str = "config/deploy/compose";

/// The services of compose.yaml.
pub fn services() -> Value {
    document(&format!("{COMPOSE}/compose.yaml"))["services"].clone()
}

/// The environment of a service, with what is given for its variables, else their defaults.
pub fn environment(service: &Value, given: &[(&str, &str)]) -> Vec<(String, String)> {
    let reference = Regex::new(r"\$\{(\w+)(?::([-?])([^}]*))?\}").unwrap();
    let variables = service["environment"].as_object().unwrap().iter();
    let filled = variables.map(|(name, value)| {
        let filled = reference.replace_all(value.as_str().unwrap(), |found: &regex::Captures<'_>| {
            let given = given.iter().find(|(name, _)| *name == &found[1]).map(|(_, value)| (*value).to_owned());
            given.unwrap_or_else(|| match found.get(2).map(|kind| kind.as_str()) {
                Some("-") => found[3].to_owned(),
                _ => "a-value-of-sixteen-or-more".to_owned(),
            })
        });
        (name.clone(), filled.into_owned())
    });
    filled.collect()
}

#[test]
fn gander_check_finds_nothing_in_what_compose_sets() {
    let shipped = [("config/rules/servicepilot.yaml", "rules/servicepilot.yaml")];
    for given in [&[][..], &[("CALLGOOSE_URL", "https://sqibs.callgoose.com/sqibs-api/v1/process")]] {
        let variables = environment(&services()["gander"], given);
        let (fine, said) = checked(&read("config/gander.yaml"), &shipped, &variables);
        assert!(fine && said.contains("is fine"), "{given:?}: {said}");
    }
}

#[test]
fn the_services_of_compose_reach_each_other_and_take_the_files_that_are_there() {
    let services = services();
    for (service, described) in services.as_object().unwrap() {
        for volume in described["volumes"].as_array().into_iter().flatten() {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            if from.starts_with('.') {
                assert!(root().join(COMPOSE).join(from).is_file(), "{service}: {volume}");
            }
        }
    }
    let relay = &services["gander"];
    for (service, port) in
        [("gander", "8443:8443"), ("gander", "127.0.0.1:9180:9180"), ("sandbox", "127.0.0.1:8090:8090")]
    {
        assert!(services[service]["ports"].as_array().unwrap().contains(&json!(port)), "{service}: {port}");
    }
    let variables = environment(relay, &[]);
    let value =
        |name: &str| variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap();
    assert_eq!(value("GANDER_UPSTREAM__URL"), "http://sandbox:8090/sqibs-api/v1/process");
    assert_eq!(services["sandbox"]["command"], json!(["sandbox", "--listen", "0.0.0.0:8090"]));
    assert_eq!(relay["healthcheck"]["test"], json!(["CMD", "/usr/local/bin/gander", "health"]));

    let settings = document(&format!("{COMPOSE}/prometheus.yml"));
    let job = &settings["scrape_configs"][0];
    assert_eq!((&job["job_name"], &job["static_configs"][0]["targets"][0]), (&json!("gander"), &json!("gander:9180")));
    assert_eq!(value("GANDER_ADMIN__ADDRESS"), "0.0.0.0:9180");
    let secret = job["authorization"]["credentials_file"].as_str().unwrap().strip_prefix("/run/secrets/").unwrap();
    assert!(services["prometheus"]["secrets"].as_array().unwrap().contains(&json!(secret)));
    let whole = document(&format!("{COMPOSE}/compose.yaml"));
    assert_eq!(whole["secrets"][secret]["environment"], "ADMIN_TOKEN", "what the relay asks for");
    assert_eq!(settings["rule_files"], json!(["alerts.yaml"]));

    let source = document(&format!("{COMPOSE}/grafana/datasources.yaml"));
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let boards = document(&format!("{COMPOSE}/grafana/dashboards.yaml"));
    let path = boards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = services["grafana"]["volumes"].to_string();
    assert!(mounts.contains(&format!("dashboard.json:{path}/")), "{mounts}");
}

#[test]
fn prometheus_takes_its_settings_for_compose() {
    let directory = tempfile::tempdir().unwrap();
    let text = read(&format!("{COMPOSE}/prometheus.yml"));
    let token = directory.path().join("admin-token");
    fs::write(&token, "a token").unwrap();
    let text = text.replace("/run/secrets/admin-token", &token.display().to_string());
    fs::write(directory.path().join("prometheus.yml"), text).unwrap();
    fs::write(directory.path().join("alerts.yaml"), read("config/deploy/prometheus/alerts.yaml")).unwrap();
    let told = Command::new("promtool").args(["check", "config", "prometheus.yml"]).current_dir(&directory).output();
    let told = told.unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}
