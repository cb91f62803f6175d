"""Checks what of deploy/ can be checked without a cluster: python3 deploy/check.py [--kserve FOLDER]

Kubernetes' objects against its schemas, the chart rendered by Helm's engine and its objects too, compose.yaml for what it refers to.
With --kserve, the folder config/crd/full of KServe's source, its objects against its own definitions. Needs the packages
kubernetes-validate, helm-python-sdk, jsonschema and pyyaml; scripts/deploy.sh installs them.
"""

import argparse
import pathlib
import re
import sys

import helm_python.chart
import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
VERSION = "1.34"
failures = []


def check(what, condition, said=""):
    print(f"{'ok  ' if condition else 'FAIL'} {what}{': ' + said if said and not condition else ''}")
    if not condition:
        failures.append(what)


def shown(thing):
    return f"{thing['kind']} {thing['metadata']['name']}"


def check_object(where, thing):
    try:
        kubernetes_validate.validate(thing, VERSION, strict=True)
        check(f"{where}: {shown(thing)}", True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        check(f"{where}: {shown(thing)}", False, str(error).split("\n")[0])


def options_of(config_map):
    """The options of a ConfigMap, as far as they are numbers."""
    return {name: int(number) for name, number in re.findall(r"^([a-z-]+) = (\d+)$", config_map["data"]["server.toml"], re.M)}


def check_together(where, things):
    """What belongs together: the end's times, ports that probes and services name, volumes, and selectors."""
    by_kind = {}
    for thing in things:
        by_kind.setdefault(thing["kind"], []).append(thing)
    (deployment,), (config_map,) = by_kind["Deployment"], by_kind["ConfigMap"]
    pod, options = deployment["spec"]["template"]["spec"], options_of(config_map)
    (container,) = pod["containers"]
    least = options["drain-delay-secs"] + options["exit-timeout-secs"]
    check(f"{where}: the grace period is longer than the delay and the timeout", pod["terminationGracePeriodSeconds"] > least)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = [container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    targets = [port["targetPort"] for service in by_kind["Service"] for port in service["spec"]["ports"]]
    check(f"{where}: probes and services name ports that there are", set(probes + targets) <= set(ports), f"{probes} {targets}")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    check(f"{where}: volumes are those that are mounted", volumes.keys() == mounts)
    check(f"{where}: the options are mounted", volumes["options"]["configMap"]["name"] == config_map["metadata"]["name"])
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [service["spec"]["selector"] for service in by_kind["Service"]]
    selectors += [thing["spec"]["selector"]["matchLabels"] for thing in by_kind["Deployment"] + by_kind.get("PodDisruptionBudget", [])]
    check(f"{where}: selectors find the pods", all(selector.items() <= labels for selector in selectors))
    claims = {claim["metadata"]["name"] for claim in by_kind.get("PersistentVolumeClaim", [])}
    wanted = volumes["models"].get("persistentVolumeClaim", {}).get("claimName")
    if claims:
        check(f"{where}: the models' claim is there", wanted in claims)
    for scaler in by_kind.get("HorizontalPodAutoscaler", []):
        check(f"{where}: the deployment that is scaled", scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"])


def read(file):
    return [thing for thing in yaml.safe_load_all(file.read_text()) if thing]


# Manifests.
things = []
for file in sorted((HERE / "kubernetes").glob("*.yaml")):
    for thing in read(file):
        things.append(thing)
        check_object(file.name, thing)
check_together("kubernetes", things)
(broken,) = [thing for thing in things if thing["kind"] == "Deployment"]
broken["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
try:
    kubernetes_validate.validate(broken, VERSION, strict=True)
    check("a wrong name in a Deployment is found", False)
except kubernetes_validate.ValidationError:
    check("a wrong name in a Deployment is found", broken["kind"] == "Deployment")

# The chart.
folder = HERE / "helm/sardonyx"
report = helm_python.chart.lint(folder, strict=True, kube_version="v1.34.0")
bad = [message for message in report["messages"] if message["severity"] > 1]
check("helm lint", not bad and not report["errors"], str(bad + report["errors"]))
variants = {
    "defaults": {},
    "all": {
        "autoscaling": {"enabled": True}, "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "apiKeysSecret": "keys", "models": {"existingClaim": "models"}, "resources": {"limits": {"nvidia.com/gpu": 1}},
        "nodeSelector": {"gpu": "yes"}, "tolerations": [{"operator": "Exists"}], "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "pull"}], "podAnnotations": {"a": "b"}, "options": {"exit-timeout-secs": 120, "load-model": ["a"]},
    },
    "one": {"replicas": 1, "models": {"volume": {"hostPath": {"path": "/srv/models"}}}},
}
with helm_python.chart.Chart.load(folder) as chart:
    for variant, values in variants.items():
        where = f"chart, {variant}"
        chart.validate_schema(values)
        texts = chart.render(values, name="demo", namespace="models").values()
        things = [thing for text in texts for thing in yaml.safe_load_all(text) if thing]
        for thing in things:
            if thing["kind"] == "PodMonitor":
                check(f"{where}: {shown(thing)} (without a schema)", thing["spec"]["podMetricsEndpoints"][0]["port"] == "metrics")
            else:
                check_object(where, thing)
        check_together(where, things)
        kinds = {thing["kind"] for thing in things}
        check(f"{where}: a claim is made only where there is none", ("PersistentVolumeClaim" in kinds) == (variant == "defaults"))
        check(f"{where}: one replica has no budget of disruptions", ("PodDisruptionBudget" in kinds) == (variant != "one"))
    try:
        chart.validate_schema({"replica": 3})
        check("helm refuses a value that there is not", False)
    except Exception as error:
        check("helm refuses a value that there is not", "replica" in str(error), str(error))

# Compose.
stack = yaml.safe_load((HERE / "compose.yaml").read_text())
for name, config in stack["configs"].items():
    check(f"compose: the file of {name}", (HERE / config["file"]).is_file())
server = stack["services"]["sardonyx"]
seconds = {flag.split("=")[0]: int(flag.split("=")[1]) for flag in server["command"] if flag.split("=")[-1].isdigit()}
grace = int(server["stop_grace_period"].removesuffix("s"))
check("compose: the grace period", grace > seconds["--drain-delay-secs"] + seconds["--exit-timeout-secs"])
check("compose: the Dockerfile", (HERE / server["build"]["context"] / server["build"]["dockerfile"]).is_file())

# KServe.
parser = argparse.ArgumentParser()
parser.add_argument("--kserve", type=pathlib.Path)
parser.add_argument("--compose", type=pathlib.Path, help="the file compose-spec.json")
arguments = parser.parse_args()
if arguments.compose:
    import json

    errors = list(jsonschema.Draft7Validator(json.loads(arguments.compose.read_text())).iter_errors(stack))
    check("compose: the schema", not errors, str([error.message for error in errors]))
else:
    print("not checked: the schema of compose (--compose)")


def closed(schema):
    """A definition that allows no other names than it has."""
    if isinstance(schema, dict):
        schema = {name: closed(value) for name, value in schema.items()}
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        if schema.pop("x-kubernetes-int-or-string", False):
            schema.pop("type", None)
        return schema
    return [closed(value) for value in schema] if isinstance(schema, list) else schema


if arguments.kserve:
    schemas = {}
    for file in arguments.kserve.rglob("*.yaml"):
        for thing in read(file):
            if isinstance(thing, dict) and thing.get("kind") == "CustomResourceDefinition":
                for version in thing["spec"].get("versions", []):
                    name = (thing["spec"]["names"]["kind"], f"{thing['spec']['group']}/{version['name']}")
                    schemas[name] = version["schema"]["openAPIV3Schema"]
    for file in sorted((HERE / "kserve").glob("*.yaml")):
        for thing in read(file):
            schema = closed(schemas[thing["kind"], thing["apiVersion"]])
            schema["properties"]["metadata"] = {"type": "object"}
            errors = list(jsonschema.Draft7Validator(schema).iter_errors(thing))
            check(f"kserve: {shown(thing)}", not errors, str([(list(error.absolute_path), error.message) for error in errors]))
else:
    print("not checked: KServe's definitions (--kserve)")

print(f"{len(failures)} failures")
sys.exit(1 if failures else 0)
