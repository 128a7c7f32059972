"""The files of cluster/ that need a cluster to run: read by the rules of what would run them.

Fields are those of the MPI operator's v2beta1 (pkg/apis/kubeflow/v2beta1/types.go) and of Kubernetes' core v1, as far
as the files use them: one that is misspelt is an error here, where Kubernetes would drop it or refuse the whole.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import distdiff
from distdiff.cli.grammar import parser
from distdiff.examples.demo import parser as demo_parser
from distdiff.service.options import HOST, PORT
from distdiff.service.tokens import Address

CLUSTER = Path(distdiff.__file__).parent.parent / "cluster"
FILES = ("mpijob.yaml", "mpijob-service.yaml")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMGT]i?)?")  # of memory, cores, storage


def quantity(value: Any) -> None:
    assert isinstance(value, str) and QUANTITY.fullmatch(value), value


def one_of(*words: str) -> Any:
    def check(value: Any) -> None:
        assert value in words, (value, words)
    return check


RESOURCES = {"requests": {"cpu": quantity, "memory": quantity}, "limits": {"cpu": quantity, "memory": quantity}}
CONTAINER = {
    "name!": str, "image!": str, "command": [str], "args": [str], "workingDir": str,
    "env": [{"name!": str, "value": str}],
    "ports": [{"containerPort!": int, "name": str, "protocol": one_of("TCP", "UDP")}], "resources": RESOURCES,
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool, "subPath": str}]}
VOLUME = {"name!": str, "emptyDir": {"medium": one_of("", "Memory"), "sizeLimit": quantity},
          "persistentVolumeClaim": {"claimName!": str, "readOnly": bool}, "hostPath": {"path!": str, "type": str}}
POD = {"containers!": [CONTAINER], "volumes": [VOLUME], "restartPolicy": one_of("Never", "OnFailure"),
       "nodeSelector": {}, "terminationGracePeriodSeconds": int}
METADATA = {"name!": str, "namespace": str, "labels": {}, "annotations": {}}
REPLICA = {"replicas!": int, "restartPolicy": one_of("Never", "OnFailure"),
           "template!": {"metadata": METADATA, "spec!": POD}}
KINDS: dict[tuple[str, str], dict[str, Any]] = {
    ("kubeflow.org/v2beta1", "MPIJob"): {
        "slotsPerWorker": int, "sshAuthMountPath": str, "waitForWorkers": bool,
        "mpiImplementation": one_of("OpenMPI", "Intel"),
        "runPolicy": {"cleanPodPolicy": one_of("All", "Running", "None"), "ttlSecondsAfterFinished": int,
                      "activeDeadlineSeconds": int, "backoffLimit": int, "suspend": bool},
        "mpiReplicaSpecs!": {"Launcher!": REPLICA, "Worker!": REPLICA}},
    ("v1", "PersistentVolumeClaim"): {
        "accessModes!": one_of(["ReadWriteOnce"], ["ReadWriteMany"]), "storageClassName": str,
        "resources!": {"requests!": {"storage!": quantity}}}}


def fits(value: Any, rule: Any, path: str) -> None:
    """`value` has the fields of `rule` and no others (an empty rule: any), those with a ! all, of the right kinds."""
    if isinstance(rule, dict):
        assert isinstance(value, dict), f"{path} holds {value!r}"
        known = {key.rstrip("!"): (sub, key.endswith("!")) for key, sub in rule.items()}
        assert not rule or set(value) <= set(known), f"{path} has no fields {sorted(set(value) - set(known))}"
        missing = [key for key, (_, needed) in known.items() if needed and key not in value]
        assert not missing, f"{path} lacks {missing}"
        for key, part in value.items():
            if rule:
                fits(part, known[key][0], f"{path}.{key}")
    elif isinstance(rule, list):
        assert isinstance(value, list), f"{path} holds {value!r}"
        for k, part in enumerate(value):
            fits(part, rule[0], f"{path}[{k}]")
    elif isinstance(rule, type):
        assert type(value) is rule, f"{path} holds {value!r}"
    else:
        rule(value)


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def environment() -> dict[str, str]:
    """What the image sets."""
    text = re.search(r"^ENV (.*?[^\\])\n", (CLUSTER / "Dockerfile").read_text(), re.M | re.S)
    assert text is not None
    return dict(pair.split("=", 1) for pair in text[1].replace("\\\n", " ").split())


@pytest.mark.parametrize("name", FILES)
def test_what_kubernetes_is_given(name):
    found = documents(name)
    assert [document["kind"] for document in found][-1] == "MPIJob"
    for document in found:
        rule = KINDS[document["apiVersion"], document["kind"]]
        fits(document, {"apiVersion!": str, "kind!": str, "metadata!": METADATA, "spec!": rule}, document["kind"])
    spec = found[-1]["spec"]
    claims = {document["metadata"]["name"]: document for document in found[:-1]}
    launcher, worker = (spec["mpiReplicaSpecs"][role] for role in ("Launcher", "Worker"))
    assert launcher["replicas"] == 1
    for replica in (launcher, worker):
        pod = replica["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        (container,) = pod["containers"]
        assert container["image"].endswith(f"/distdiff:{distdiff.__version__}")
        assert {mount["name"] for mount in container.get("volumeMounts", [])} == set(volumes)
        assert container["resources"]["requests"] == container["resources"]["limits"]  # cores of its own
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                modes = claims[claim["claimName"]]["spec"]["accessModes"]
                assert modes == ["ReadWriteMany"] or worker["replicas"] == 1
    (start,), (ranks,) = (replica["template"]["spec"]["containers"] for replica in (launcher, worker))
    words = start["command"]
    assert words[0] == "mpirun" and int(words[words.index("-n") + 1]) == spec["slotsPerWorker"] * worker["replicas"]
    assert ranks["resources"]["requests"]["cpu"] == str(spec["slotsPerWorker"])
    passed = [words[k + 1] for k, word in enumerate(words) if word == "-x"]
    assert passed and set(passed) <= set(environment())
    assert "/dev/shm" in [mount["mountPath"] for mount in ranks["volumeMounts"]]
    # The pods' sshd, and the key that the operator mounts, are where the image looks for them.
    image = (CLUSTER / "Dockerfile").read_text()
    assert ranks["command"][0] == "/usr/sbin/sshd" and "openssh-server" in image and "Port 2222" in image
    assert spec.get("sshAuthMountPath", "/root/.ssh") == "/root/.ssh"


def test_the_programs_that_pods_run():
    (job,), (_, service) = map(documents, FILES)
    start = service["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]
    assert start["args"][0] == "distdiff"
    options = parser().parse_args(start["args"][1:])
    state = service["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]["volumeMounts"][-1]
    assert options.command == "serve"
    assert (options.host or HOST) == "127.0.0.1"  # kubectl port-forward speaks to the pod's own
    assert options.token_file.startswith(state["mountPath"]) and options.spool.startswith(state["mountPath"])
    # What the comment above the file tells is the same pod, token and port.
    said = (CLUSTER / FILES[1]).read_text()
    assert f"kubectl exec {service['metadata']['name']}-worker-0 -- cat {options.token_file}" in said
    assert f"port-forward pod/{service['metadata']['name']}-worker-0 {options.port or PORT}" in said
    assert Address.of(re.search(r'connect\("([^"]+)"', said)[1]).port == (options.port or PORT)
    demo = job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]["args"]
    assert demo[:3] == ["python", "-m", "distdiff.examples.demo"]
    assert demo_parser().parse_args(demo[3:]).part == "grid"


def test_the_apptainer_definition():
    text = (CLUSTER / "apptainer.def").read_text()
    head, *parts = re.split(r"^%(\w+)\n", text, flags=re.M)
    sections = dict(zip(parts[::2], parts[1::2]))
    assert re.search(r"^Bootstrap: docker$", head, re.M)
    base = re.search(r"^From: (\S+)$", head, re.M)[1]
    assert f"FROM {base}\n" in (CLUSTER / "Dockerfile").read_text()
    assert set(sections) == {"files", "post", "environment", "test"}
    assert sections["files"].split() == [".", "/opt/distdiff"]
    bash = shutil.which("bash")
    for name in ("post", "environment", "test"):
        subprocess.run([bash, "-n"], input=sections[name], text=True, check=True)
    set_there = dict(pair.split("=", 1) for line in sections["environment"].splitlines() if line.strip()
                     for pair in line.split()[1:])
    assert set_there.items() <= environment().items()
    # What the sections call is in the project.
    assert "scripts/setup --debian" in sections["post"] and "--debian" in (CLUSTER.parent / "scripts/setup").read_text()
    words = sections["test"].split()
    assert demo_parser().parse_args(words[words.index("distdiff.examples.demo") + 1:]).size == "small"


def test_the_scripts_are_bash():
    for path in CLUSTER.glob("*.sh"):
        subprocess.run([shutil.which("bash"), "-n", str(path)], check=True)
