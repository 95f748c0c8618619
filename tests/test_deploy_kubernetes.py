"""
deploy/kubernetes, read as the API server, the kubelet and popfetchd would.

Rules of this file: that each field is one of Kubernetes' was checked by hand with its own
schema (`kubernetes-validate --strict`); here it is whether they agree.
"""

from __future__ import annotations

import re

from pathlib import Path

import pytest
import yaml

from popfetchd.config.load import load
from popfetchd.web import parse_listen


ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "deploy/kubernetes/popfetchd.yaml").read_text("utf-8")
OBJECTS = {made["kind"]: made for made in yaml.safe_load_all(TEXT)}
POD = OBJECTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
MOUNTS = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
VOLUMES = {volume.pop("name"): volume for volume in POD["spec"]["volumes"]}
USER = 65532


def test_there_is_what_it_takes():
    """
    Each object is there once, with a name and a label to be found by.
    """
    kinds = [
        "ConfigMap",
        "Secret",
        "PersistentVolumeClaim",
        "Deployment",
        "Service",
        "ServiceMonitor",
    ]
    assert kinds == list(OBJECTS) == re.findall(r"(?m)^kind: (\w+)$", TEXT)
    for made in OBJECTS.values():
        assert "popfetchd" == made["metadata"]["name"]
        assert {"app.kubernetes.io/name": "popfetchd"} == made["metadata"]["labels"]


def test_there_is_never_a_second_pod():
    """
    One replica, replaced after its end.
    """
    spec = OBJECTS["Deployment"]["spec"]
    assert (1, {"type": "Recreate"}) == (spec["replicas"], spec["strategy"])
    assert ["ReadWriteOnce"] == OBJECTS["PersistentVolumeClaim"]["spec"]["accessModes"]


def test_selectors_find_what_they_are_for():
    """
    The Deployment and the Service find the pod, the ServiceMonitor the Service.
    """
    pod = POD["metadata"]["labels"]
    assert pod == OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"]
    assert pod == OBJECTS["Service"]["spec"]["selector"]
    monitor = OBJECTS["ServiceMonitor"]["spec"]
    assert (
        OBJECTS["Service"]["metadata"]["labels"] == monitor["selector"]["matchLabels"]
    )
    # The alerts ask for this job.
    assert "popfetchd" == OBJECTS["Service"]["metadata"]["labels"][monitor["jobLabel"]]


def test_the_pod_may_do_nothing_beside_its_task():
    """
    As the `restricted` pod security standard wants it, and a root that is not written.
    """
    pod, own = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert {USER} == {pod[key] for key in ("runAsUser", "runAsGroup", "fsGroup")}
    assert f"USER {USER}:{USER}\n" in (ROOT / "Dockerfile").read_text("utf-8")
    assert {"type": "RuntimeDefault"} == pod["seccompProfile"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert {"drop": ["ALL"]} == own["capabilities"]


def test_volumes_are_what_is_mounted():
    """
    Each mount has its volume, and each volume the object that it names.
    """
    assert VOLUMES.keys() == MOUNTS.keys()
    assert {"name": "popfetchd"} == VOLUMES["configuration"]["configMap"]
    assert "popfetchd" == VOLUMES["secrets"]["secret"]["secretName"]
    assert {"claimName": "popfetchd"} == VOLUMES["state"]["persistentVolumeClaim"]
    writable = [name for name, mount in MOUNTS.items() if not mount.get("readOnly")]
    assert ["state"] == writable
    assert "/var/lib/popfetchd" == MOUNTS["state"]["mountPath"]
    assert "/etc/popfetchd" == MOUNTS["configuration"]["mountPath"]


def test_secrets_have_their_place_to_themselves():
    """
    The cluster's token would be mounted below /run/secrets, too.
    """
    assert "/run/secrets" == MOUNTS["secrets"]["mountPath"]
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert 0o440 == VOLUMES["secrets"]["secret"]["defaultMode"]


def test_the_configuration_works(tmp_path):
    """
    It loads without a doubt; its secrets are in the Secret, its archives on the volume,
    and it listens where everything asks.
    """
    path = tmp_path / "popfetchd.yaml"
    path.write_text(OBJECTS["ConfigMap"]["data"]["popfetchd.yaml"])
    path.chmod(0o644)
    loaded = load(path, {"STATE_DIRECTORY": "/var/lib/popfetchd"})
    configuration = loaded.configuration
    assert () == loaded.held_back + loaded.doubts
    for account in configuration.accounts:
        assert account.password_credential in OBJECTS["Secret"]["stringData"]
        assert account.archive.path.startswith(MOUNTS["state"]["mountPath"])
    (port,) = CONTAINER["ports"]
    listen = ("0.0.0.0", port["containerPort"])
    assert listen == parse_listen(configuration.http.listen)
    (served,) = OBJECTS["Service"]["spec"]["ports"]
    (asked,) = OBJECTS["ServiceMonitor"]["spec"]["endpoints"]
    assert port["name"] == served["targetPort"]
    assert served["name"] == asked["port"]


@pytest.mark.parametrize(
    ("probe", "path"),
    [
        ("startupProbe", "/readyz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/healthz"),
    ],
)
def test_probes_ask_what_is_served(probe, path):
    """
    Each asks for a page that needs no password, at the port that has a name.
    """
    assert {"path": path, "port": CONTAINER["ports"][0]["name"]} == CONTAINER[probe][
        "httpGet"
    ]
