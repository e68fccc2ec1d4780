//! What is shipped for Kubernetes and Helm, held against the program: its ports, paths, files and rules.
//!
//! `tests/manifests` holds the same files against the published schemas, and renders the chart.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gander::exports::yaml::{Findings, Source, parse};
use regex::Regex;
use serde_json::{Value, json};

use crate::pages::{read, root};

const BASE: &str = "config/deploy/kubernetes/base";
const EDGE: &str = "config/deploy/kubernetes/overlays/edge";
const SIDECAR: &str = "config/deploy/kubernetes/overlays/sidecar";
const MONITORING: &str = "config/deploy/kubernetes/components/monitoring";
const CHART: &str = "config/deploy/helm/gander";

/// The documents of a YAML file.
fn documents(path: &str) -> Vec<Value> {
    let text = read(path);
    let documents = text.split("\n---\n").enumerate().map(|(number, part)| {
        let mut findings = Findings::new();
        let source = Arc::new(Source::new(format!("{path}, document {number}"), part.to_owned()));
        let tree = parse(&source, &mut findings).map(|node| node.to_json());
        assert!(!findings.has_errors(), "{}", findings.render(false));
        tree.unwrap_or_else(|| panic!("{path}: nothing in it"))
    });
    documents.collect()
}

pub fn document(path: &str) -> Value {
    let mut all = documents(path);
    assert_eq!(all.len(), 1, "{path}");
    all.remove(0)
}

/// The one of a list that has this name.
fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|member| member["name"] == name)
}

/// A pod with the relay in it, and the configuration that is mounted there.
#[derive(Clone)]
struct Pod {
    spec: Value,
    configuration: Value,
}

impl Pod {
    fn edge() -> Pod {
        let workload = document(&format!("{EDGE}/stateful-set.yaml"));
        Pod {
            spec: workload["spec"]["template"]["spec"].clone(),
            configuration: document(&format!("{BASE}/gander.yaml")),
        }
    }

    fn sidecar() -> Pod {
        let patch = document(&format!("{SIDECAR}/sidecar.yaml"));
        Pod {
            spec: patch["spec"]["template"]["spec"].clone(),
            configuration: document(&format!("{SIDECAR}/gander.yaml")),
        }
    }

    fn container(&self) -> &Value {
        let lists = ["containers", "initContainers"].map(|list| named(&self.spec[list], "gander"));
        lists.into_iter().flatten().next().expect("the relay is in it")
    }

    /// The number of a port, given by its name or itself.
    fn port(&self, port: &Value) -> Option<u64> {
        let of_name = |name| named(&self.container()["ports"], name)?["containerPort"].as_u64();
        port.as_str().map_or_else(|| port.as_u64(), of_name)
    }

    /// The port on which a listener of the configuration listens.
    fn listens(&self, listener: &str) -> Option<u64> {
        self.configuration[listener]["address"].as_str()?.rsplit(':').next()?.parse().ok()
    }

    /// What is not as the program needs it.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let container = self.container();
        for (probe, path) in
            [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
        {
            let Some(get) = container.get(probe).map(|probe| &probe["httpGet"]) else { continue };
            let is_admin = self.port(&get["port"]).is_some() && self.port(&get["port"]) == self.listens("admin");
            if get["path"] != path || !is_admin {
                faults.push(format!("{probe}: {get}"));
            }
        }
        let mounts: Vec<&Value> = container["volumeMounts"].as_array().unwrap().iter().collect();
        let is_mounted = |file: &str, writable: bool| {
            let mount = mounts.iter().find(|mount| Path::new(file).starts_with(mount["mountPath"].as_str().unwrap()));
            mount.is_some_and(|mount| (mount["readOnly"] != true) == writable && mount.get("subPath").is_none())
        };
        let text = self.configuration.to_string();
        let files = Regex::new(r#""(/[^"]+)""#).unwrap();
        for file in files.captures_iter(&text).map(|found| found[1].to_owned()) {
            if !is_mounted(&file, file.starts_with("/var/lib/")) {
                faults.push(format!("{file} is on no volume of its kind"));
            }
        }
        // Where the program looks for it, and nothing else is beside it.
        if !is_mounted("/etc/gander/gander.yaml", false) {
            faults.push("no gander.yaml".to_owned());
        }
        let security = &container["securityContext"];
        let pod_security = &self.spec["securityContext"];
        let either = |name: &str| security.get(name).or_else(|| pod_security.get(name)).cloned().unwrap_or_default();
        for (name, expected) in [
            ("runAsNonRoot", json!(true)),
            ("runAsUser", json!(65532)),
            ("allowPrivilegeEscalation", json!(false)),
            ("readOnlyRootFilesystem", json!(true)),
            ("capabilities", json!({"drop": ["ALL"]})),
            ("seccompProfile", json!({"type": "RuntimeDefault"})),
        ] {
            if either(name) != expected {
                faults.push(format!("{name}: {}", either(name)));
            }
        }
        if self.spec["enableServiceLinks"] != false {
            faults.push("the cluster sets GANDER_ variables".to_owned());
        }
        faults
    }
}

#[test]
fn ports_probes_files_and_powers_of_the_pods_are_those_of_the_program() {
    for pod in [Pod::edge(), Pod::sidecar()] {
        assert_eq!(pod.faults(), [""; 0]);
    }
    let edge = Pod::edge();
    assert_eq!(edge.port(&json!("hooks")), edge.listens("listen"));
    assert!(edge.spec["terminationGracePeriodSeconds"].as_u64().unwrap() > 25, "it drains for 25 seconds");
    // The two differ in where they stand, not in how they are run.
    for same in ["startupProbe", "livenessProbe", "resources"] {
        let text = Pod::sidecar().container()[same].to_string().replace("gander-admin", "admin");
        assert_eq!(edge.container()[same].to_string(), text, "{same}");
    }
}

#[test]
fn what_is_wrong_with_a_pod_is_told() {
    type Change = fn(&mut Pod);
    let rows: [(Change, &str); 7] = [
        (|pod| pod.configuration["admin"]["address"] = json!("0.0.0.0:9181"), "livenessProbe"),
        (|pod| pod.spec["containers"][0]["readinessProbe"]["httpGet"]["path"] = json!("/ready"), "/ready"),
        (|pod| pod.spec["containers"][0]["volumeMounts"][2]["mountPath"] = json!("/secrets"), "callgoose-token is on"),
        (|pod| pod.spec["containers"][0]["volumeMounts"][0]["readOnly"] = json!(true), "/var/lib/gander/data is on"),
        (|pod| pod.spec["containers"][0]["volumeMounts"][1]["subPath"] = json!("gander.yaml"), "no gander.yaml"),
        (|pod| pod.spec["securityContext"]["runAsUser"] = json!(0), "runAsUser: 0"),
        (|pod| pod.spec["enableServiceLinks"] = json!(true), "GANDER_"),
    ];
    for (change, expected) in rows {
        let mut pod = Pod::edge();
        change(&mut pod);
        let faults = pod.faults();
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected}: {faults:?}");
    }
}

#[test]
fn services_policies_and_monitors_lead_to_the_ports_that_are_there() {
    let edge = Pod::edge();
    let (hooks, admin) = (edge.listens("listen").unwrap(), edge.listens("admin").unwrap());
    let services = documents(&format!("{EDGE}/services.yaml"));
    let ports = |service: &Value| edge.port(&service["spec"]["ports"][0]["targetPort"]);
    assert_eq!(services.iter().map(ports).collect::<Vec<_>>(), [Some(hooks), Some(admin)]);
    let policy = document(&format!("{EDGE}/network-policy.yaml"));
    let ingress = policy["spec"]["ingress"].as_array().unwrap();
    let open = ingress.iter().map(|rule| (rule["ports"][0]["port"].as_u64(), rule.get("from").is_some()));
    assert_eq!(open.collect::<Vec<_>>(), [(Some(hooks), false), (Some(admin), true)]);
    // Names, and the proxy of the configuration.
    let egress = policy["spec"]["egress"].as_array().unwrap();
    let proxy: u64 =
        edge.configuration["upstream"]["proxy"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    let leaves: Vec<u64> = egress
        .iter()
        .flat_map(|rule| rule["ports"].as_array().unwrap())
        .map(|port| port["port"].as_u64().unwrap())
        .collect();
    assert_eq!(leaves, [53, 53, proxy]);
    assert!(egress.iter().all(|rule| rule.get("to").is_some()), "each to one place: {egress:?}");

    let monitor = document(&format!("{MONITORING}/service-monitor.yaml"));
    let service = &services[1];
    for (name, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service["metadata"]["labels"][name], value);
    }
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    // The alerts ask for this job, which is made of the label of the service.
    assert!(read("config/deploy/prometheus/alerts.yaml").contains(r#"up{job="gander"}"#));
    let label = monitor["spec"]["jobLabel"].as_str().unwrap();
    assert_eq!(service["metadata"]["labels"][label], "gander");
    let hosts = edge.configuration["admin"]["hosts"].to_string();
    assert!(hosts.contains(service["metadata"]["name"].as_str().unwrap()), "{hosts}");
}

#[test]
fn the_volumes_hold_the_journals() {
    let bytes = |size: &str| {
        let (number, unit) = size.split_at(size.find(|c: char| c.is_ascii_alphabetic()).unwrap());
        number.parse::<u64>().unwrap() * if unit.starts_with('G') { 1 << 30 } else { 1 << 20 }
    };
    let claim = document(&format!("{SIDECAR}/volume-claim.yaml"));
    let workload = document(&format!("{EDGE}/stateful-set.yaml"));
    let values = document(&format!("{CHART}/values.yaml"));
    for (volume, configuration) in [
        (&claim["spec"]["resources"]["requests"]["storage"], &Pod::sidecar().configuration),
        (
            &workload["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"],
            &Pod::edge().configuration,
        ),
        (&values["persistence"]["size"], &values["config"]),
    ] {
        let journal = bytes(configuration["journal"]["max_bytes"].as_str().unwrap());
        let (volume, needed) = (bytes(volume.as_str().unwrap()), journal / 4 * 5 + (72 << 20));
        assert!(volume >= needed, "{volume} bytes for {needed}");
    }
}

#[test]
fn what_is_copied_is_as_shipped() {
    for (copy, of) in [
        (format!("{BASE}/servicepilot.yaml"), "config/rules/servicepilot.yaml"),
        (format!("{BASE}/callgoose-filters.yaml"), "config/callgoose-filters.yaml"),
        (format!("{SIDECAR}/alertmanager.yaml"), "config/rules/alertmanager.yaml"),
        (format!("{CHART}/files/servicepilot.yaml"), "config/rules/servicepilot.yaml"),
        (format!("{CHART}/files/callgoose-filters.yaml"), "config/callgoose-filters.yaml"),
        (format!("{CHART}/files/alerts.yaml"), "config/deploy/prometheus/alerts.yaml"),
    ] {
        assert!(read(&copy) == read(of), "{copy} is not {of}: cp {of} {copy}");
    }
    let rule = document(&format!("{MONITORING}/prometheus-rule.yaml"));
    let alerts = document("config/deploy/prometheus/alerts.yaml");
    assert_eq!(rule["spec"], alerts, "`spec` is what alerts.yaml holds");
}

#[test]
fn the_versions_are_those_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = document(&format!("{CHART}/Chart.yaml"));
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));
    for overlay in [EDGE, SIDECAR] {
        assert_eq!(document(&format!("{overlay}/kustomization.yaml"))["images"][0]["newTag"], version, "{overlay}");
    }
}

#[test]
fn the_chart_has_the_configuration_of_the_manifests() {
    let values = document(&format!("{CHART}/values.yaml"));
    let mut edge = Pod::edge().configuration;
    // What the chart makes of other values: `gander.config` in _helpers.tpl.
    edge["listen"].as_object_mut().unwrap().remove("tls");
    edge["admin"].as_object_mut().unwrap().remove("hosts");
    edge["upstream"].as_object_mut().unwrap().remove("proxy");
    assert_eq!(values["config"], edge);
    assert_eq!(values["resources"], Pod::edge().container()["resources"]);
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let validator = jsonschema::draft7::new(&schema).unwrap();
    assert!(validator.is_valid(&values), "{:?}", validator.iter_errors(&values).map(|e| e.to_string()).next());
    // Every value is one that the schema knows, and one that a template reads.
    let mut templates = String::new();
    for template in fs::read_dir(root().join(CHART).join("templates")).unwrap() {
        templates.push_str(&fs::read_to_string(template.unwrap().path()).unwrap());
    }
    let names: BTreeSet<&String> = values.as_object().unwrap().keys().collect();
    let unread: Vec<_> = names.iter().filter(|name| !templates.contains(&format!(".Values.{name}"))).collect();
    assert!(unread.is_empty(), "{unread:?}");
}

/// What `gander check` says of a configuration, with a file for each secret that it names, `/var/lib/gander` elsewhere, and
/// beside it copies of files under these names.
pub fn checked(configuration: &str, beside: &[(&str, &str)], variables: &[(String, String)]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let put = |path: &Path, content: String| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o440)).unwrap();
    };
    let pair = rcgen::generate_simple_self_signed(["gander".to_owned()]).unwrap();
    for found in Regex::new(r"/run/secrets/([\w./-]+)").unwrap().captures_iter(configuration) {
        let content = match found[1].rsplit('/').next().unwrap() {
            "tls.crt" => pair.cert.pem(),
            "tls.key" => pair.signing_key.serialize_pem(),
            name => format!("{name}-of-sixteen-or-more"),
        };
        put(&at("secrets").join(&found[1]), content);
    }
    beside.iter().for_each(|(file, name)| put(&at("configuration").join(name), read(file)));
    let text = configuration.replace("/run/secrets", &at("secrets").display().to_string());
    put(&at("configuration/gander.yaml"), text.replace("/var/lib/gander", &at("state").display().to_string()));
    let mut gander = Command::new(env!("CARGO_BIN_EXE_gander"));
    gander.current_dir(directory.path()).env_clear().envs(variables.iter().cloned());
    let ended = gander.args(["check", "--config", "configuration/gander.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    (ended.status.success(), said.into_owned())
}

#[test]
fn gander_check_finds_nothing_in_the_configurations_of_the_pods() {
    let filters = (&*format!("{BASE}/callgoose-filters.yaml"), "callgoose-filters.yaml");
    for (configuration, rules, name) in [
        (BASE, format!("{BASE}/servicepilot.yaml"), "servicepilot.yaml"),
        (SIDECAR, format!("{SIDECAR}/alertmanager.yaml"), "alertmanager.yaml"),
    ] {
        // In a ConfigMap all files stand beside each other.
        let text = read(&format!("{configuration}/gander.yaml"));
        let (fine, said) = checked(&text, &[(&rules, name), filters], &[]);
        assert!(fine && said.contains("is fine"), "{configuration}: {said}");
    }
}

#[test]
fn the_example_of_a_sender_posts_to_its_sidecar_with_its_token() {
    let (pod, sender) = (Pod::sidecar(), documents(&format!("{SIDECAR}/sender.yaml")));
    let settings = sender[1]["data"]["alertmanager.yml"].as_str().unwrap();
    let url = format!("http://{}/hooks/alertmanager", pod.configuration["listen"]["address"].as_str().unwrap());
    assert!(settings.contains(&format!("url: {url}\n")), "{settings}");
    let container = &sender[0]["spec"]["template"]["spec"]["containers"][0];
    let token = named(&container["volumeMounts"], "token").unwrap()["mountPath"].as_str().unwrap();
    assert!(settings.contains(&format!("credentials_file: {token}/token")), "{settings}");
    let secret = named(&sender[0]["spec"]["template"]["spec"]["volumes"], "token").unwrap();
    let read = &pod.configuration["sources"]["alertmanager"]["auth"][0]["bearer"]["file"];
    assert!(read.as_str().unwrap().ends_with(secret["secret"]["items"][0]["key"].as_str().unwrap()), "{read}");
}
