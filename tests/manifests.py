"""What `tests/manifests` checks once its tools are there."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import helm_python
import yaml
from compose_spec import PyCompose

TOOLS = pathlib.Path(sys.argv[1])
CHART = "config/deploy/helm/gander"
COMPOSE = pathlib.Path("config/deploy/compose/compose.yaml")
# The oldest with sidecars, and the newest of the schemas.
KUBERNETES = ["1.29", "1.37"]
# Each value that the chart has, other than it is by default.
ALL_VALUES = {
    "image": {"repository": "registry.example/other", "tag": "1", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "config": {"dedup": {"window": "5m"}, "upstream": {"timeout": "5s"}},
    "rules": {"servicepilot.yaml": "version: 1\n", "other.yaml": "version: 1\n"},
    "secretName": "other",
    "tlsSecretName": "gander-tls",
    "proxy": {"url": "http://egress-proxy.egress:3128", "namespace": "egress", "port": 3128},
    "service": {"type": "LoadBalancer", "port": 8443, "annotations": {"a": "b"}},
    "persistence": {"size": "2Gi", "storageClassName": "fast"},
    "networkPolicy": {"monitoringNamespace": "observability"},
    "podDisruptionBudget": {"maxUnavailable": 1},
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"a": "b"},
}
# As the overlay `edge` is.
EDGE_VALUES = {
    "image": {"repository": "registry.example/gander"},
    "tlsSecretName": "gander-tls",
    "proxy": {"url": "http://egress-proxy.egress:3128", "namespace": "egress", "port": 3128},
    "service": {"type": "LoadBalancer"},
    "monitoring": {"enabled": True},
}
REFUSED_VALUES = [{"replicas": 2}, {"proxy": {"url": "http://a:1"}}, {"podDisruptionBudget": {"maxUnavailable": 2}}]
CRDS = """
import fs from 'fs';
for (const document of JSON.parse(fs.readFileSync(0))) {
    const models = '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/';
    new (await import(models + document.kind))[document.kind](document).validate();
}
"""


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def validate(name, text):
    """Against the schemas of Kubernetes, strictly, and those of the Prometheus operator."""
    file = TOOLS / f"{name}-own.yaml"
    own = [document for document in documents(text) if document["apiVersion"].startswith("monitoring.")]
    file.write_text(yaml.safe_dump_all(document for document in documents(text) if document not in own))
    for version in KUBERNETES:
        tool = [TOOLS / "venv/bin/kubernetes-validate", "--strict", "--quiet", "-k", version, file]
        subprocess.run(tool, check=True)
    # Beside the modules that it imports.
    (TOOLS / "crds.mjs").write_text(CRDS)
    subprocess.run(["node", TOOLS / "crds.mjs"], input=json.dumps(own), text=True, check=True)
    print(f"{name}: {len(documents(text))} documents are as their schemas want them")


def render(name, values):
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="gander", namespace="gander")
    assert "rollout status statefulset/gander" in next(text for path, text in files.items() if path.endswith(".txt"))
    text = "\n---\n".join(text for path, text in sorted(files.items()) if path.endswith(".yaml"))
    validate(name, text)
    return documents(text)


def one(all_documents, kind, name="gander"):
    found = [each for each in all_documents if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, (kind, name, found)
    return found[0]


def gander_check(name, rendered):
    """The ConfigMap of a chart, as the relay finds it, with a file for each secret that it names."""
    with tempfile.TemporaryDirectory() as directory:
        at = pathlib.Path(directory)
        for file, text in one(rendered, "ConfigMap")["data"].items():
            for secret in re.findall(r"/run/secrets/[\w./-]+", text) if file == "gander.yaml" else []:
                to = at / secret.lstrip("/")
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_text("a-token-of-sixteen-or-more")
                to.chmod(0o440)
            text = text.replace("/run/secrets", f"{at}/run/secrets").replace("/var/lib/gander", f"{at}/state")
            (at / file).write_text(text)
        if (at / "run/secrets/gander-tls").is_dir():
            files = [at / "run/secrets/gander-tls" / file for file in ("tls.key", "tls.crt")]
            pair = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-subj", "/CN=gander",
                    "-addext", "subjectAltName=DNS:gander", "-keyout", files[0], "-out", files[1]]
            subprocess.run(pair, check=True, capture_output=True)
        told = subprocess.run([TOOLS.parent / "debug/gander", "check", "--config", at / "gander.yaml"],
                              capture_output=True, text=True, env={})
        assert told.returncode == 0 and "is fine" in told.stdout, told.stdout + told.stderr
    print(f"{name}: gander check finds nothing")


def same_as_the_overlay(rendered):
    """The chart, told to be what the overlay `edge` is, is that."""
    overlay = documents((TOOLS / "edge.yaml").read_text())
    for kind, name in [("StatefulSet", "gander"), ("Service", "gander"), ("Service", "gander-admin"),
                       ("NetworkPolicy", "gander"), ("PodDisruptionBudget", "gander"), ("PrometheusRule", "gander"),
                       ("ServiceMonitor", "gander")]:
        specs = [json.loads(json.dumps(one(each, kind, name)["spec"])) for each in (rendered, overlay)]
        for spec in specs:
            # The labels by which a chart tells its releases apart.
            text = json.dumps(spec, sort_keys=True)
            text = re.sub(r'"(app\.kubernetes\.io/(instance|version|managed-by)|helm\.sh/chart)": "[^"]*",? ?', "", text)
            text = text.replace(', }', '}').replace('"imagePullPolicy": "IfNotPresent", ', "")
            spec["text"] = text
        assert specs[0]["text"] == specs[1]["text"], f"{kind} {name}:\n{specs[0]['text']}\n{specs[1]['text']}"
    configurations = [yaml.safe_load(one(each, "ConfigMap")["data"]["gander.yaml"]) for each in (rendered, overlay)]
    assert configurations[0] == configurations[1] | {"admin": configurations[0]["admin"]}, configurations
    print("the chart and the overlay say the same")


def beside_a_sender():
    """A chart of one's own with this one as a dependency gets the sidecar of the overlay into its pod."""
    parent = TOOLS / "parent"
    shutil.rmtree(parent, ignore_errors=True)
    shutil.copytree(CHART, parent / "charts/gander")
    (parent / "templates").mkdir()
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: sender\nversion: 0.1.0\n")
    overlay = documents((TOOLS / "sidecar.yaml").read_text())
    sender = one(overlay, "StatefulSet", "alertmanager")
    pod = sender["spec"]["template"]["spec"]
    theirs = {"initContainers": pod.pop("initContainers"),
              "volumes": [each for each in pod["volumes"] if each["name"].startswith("gander-")]}
    pod["volumes"] = [each for each in pod["volumes"] if each not in theirs["volumes"]]
    pod["initContainers"], pod["volumes"] = "SIDECAR", pod["volumes"] + ["VOLUMES"]
    text = yaml.safe_dump(sender)
    text = text.replace("initContainers: SIDECAR", "initContainers: {{ include \"gander.sidecar\" .Subcharts.gander | nindent 6 }}")
    text = text.replace("      - VOLUMES", "      {{- include \"gander.sidecar.volumes\" .Subcharts.gander | nindent 6 }}")
    (parent / "templates/sender.yaml").write_text(text)
    configuration = yaml.safe_load(one(overlay, "ConfigMap")["data"]["gander.yaml"])
    values = {"gander": {"mode": "sidecar", "image": {"repository": "registry.example/gander"},
                         "persistence": {"size": "2Gi"}, "monitoring": {"enabled": True},
                         "config": {"sources": configuration["sources"] | {"servicepilot": None},
                                    "journal": configuration["journal"]},
                         "rules": {"alertmanager.yaml": pathlib.Path("config/rules/alertmanager.yaml").read_text()}}}
    with helm_python.Chart.load(str(parent)) as chart:
        files = chart.render(values, name="gander", namespace="alerting")
    text = "\n---\n".join(text for path, text in sorted(files.items()) if path.endswith(".yaml"))
    validate("chart-sidecar", text)
    rendered = documents(text)
    kinds = sorted(each["kind"] for each in rendered)
    assert kinds == ["ConfigMap", "PersistentVolumeClaim", "PrometheusRule", "StatefulSet"], kinds
    pod = one(rendered, "StatefulSet", "alertmanager")["spec"]["template"]["spec"]
    assert pod["initContainers"][0].pop("imagePullPolicy") == "IfNotPresent"
    assert pod["initContainers"] == theirs["initContainers"], (pod["initContainers"], theirs["initContainers"])
    assert [each for each in pod["volumes"] if each["name"].startswith("gander-")] == theirs["volumes"], pod["volumes"]
    assert one(rendered, "PersistentVolumeClaim", "gander-data")["spec"] == one(
        overlay, "PersistentVolumeClaim", "gander-data")["spec"]
    # `off` is no text to the reader of YAML here, and is one to Gander.
    made = yaml.safe_load(one(rendered, "ConfigMap")["data"]["gander.yaml"])
    assert made["listen"] == {"address": "127.0.0.1:8443", "tls": "off"}, made["listen"]
    del made["admin"]["hosts"], made["listen"], configuration["listen"]
    assert made == configuration, (made, configuration)
    gander_check("chart-sidecar", rendered)
    print("the chart beside a sender and the overlay say the same")


def compose():
    text = COMPOSE.read_text()
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "given", text)
    print("compose:", ", ".join(PyCompose.from_yaml(text).service_names()))
    try:
        PyCompose.from_yaml(text.replace("stop_grace_period", "stop_grace"))
    except ValueError:
        return
    raise AssertionError("a key that compose does not know is not noticed")


def main():
    for overlay in ["edge", "sidecar"]:
        validate(overlay, (TOOLS / f"{overlay}.yaml").read_text())
    found = helm_python.lint(CHART)
    assert not found["errors"] and all(each["severity"] < 2 for each in found["messages"]), found
    defaults = render("chart-defaults", {})
    assert "names" in one(defaults, "ConfigMap")["data"]["gander.yaml"]
    everything = render("chart-all", ALL_VALUES)
    configuration = yaml.safe_load(one(everything, "ConfigMap")["data"]["gander.yaml"])
    assert configuration["upstream"]["timeout"] == "5s" and configuration["upstream"]["url"], "it is merged"
    assert one(everything, "ConfigMap")["data"]["servicepilot.yaml"] == "version: 1\n"
    edge = render("chart-edge", EDGE_VALUES)
    same_as_the_overlay(edge)
    gander_check("chart-defaults", defaults)
    gander_check("chart-edge", edge)
    beside_a_sender()
    for values in REFUSED_VALUES:
        with helm_python.Chart.load(CHART) as chart:
            try:
                chart.validate_schema(values)
            except helm_python.HelmError:
                continue
        raise AssertionError(f"{values} is not refused")
    compose()


main()
