"""The chart: it renders to the plain manifests, refuses wrong values, and tells driver and sidecars what fits together."""

import json
import re
import subprocess
from typing import Any

import click
import pytest
import yaml

from csi_driver.cli.serve import serve
from tests.deploy.__main__ import MANIFESTS, content
from tests.deploy.helm import rendered

CLUSTERS = ("--set", "clusters[0].clusterID=prod,clusters[0].monitors={192.0.2.1:6789}")
EVERYTHING = (
    *CLUSTERS,
    "--set",
    "otlpEndpoint=http://collector:4318,controller.fenceGoneNodes=true,topology.enabled=true,topology.nodeLabels.zone=zone,storageCapacity=true,networkPolicy.enabled=true,sidecars.snapshotter.groupSnapshots=true,kms.entries.sealed.encryptionKMSType=metadata",
)


def objects(*flags: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(rendered(*flags)) if one]


def containers(kind: str, *flags: str) -> dict[str, dict[str, Any]]:
    (found,) = [one for one in objects(*flags) if one["kind"] == kind]
    return {one["name"]: one for one in found["spec"]["template"]["spec"]["containers"]}


def test_the_plain_manifests_are_what_the_chart_gives() -> None:
    assert MANIFESTS.read_text() == content(), "run scripts/manifests"


@pytest.mark.parametrize(
    "value",
    [
        "timeoutSeconds=0",
        "driverName=-bad",
        "logLevel=loud",
        "controller.replicas=0",
        "unknown=1",
        "metrics.nodePort=70000",
        "otlpEndpoint=collector",
        "clusters[0].clusterID=x",
        "kms.secrets[0].name=x",
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered("--set", value)
    name = re.split(r"[=\[]", value)[0].split(".")[-1]
    assert name in refused.value.stderr


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
@pytest.mark.parametrize("flags", [(), EVERYTHING], ids=["default", "everything"])
def test_the_driver_is_told_only_flags_that_it_has(kind: str, flags: tuple[str, ...]) -> None:
    command, *arguments = containers(kind, *flags)["rbd-csi"]["args"]
    assert command == "serve"
    known = {name for one in serve.params if isinstance(one, click.Option) for name in one.opts}
    assert {argument.partition("=")[0] for argument in arguments} <= known


def test_each_sidecar_waits_longer_than_the_driver_takes() -> None:
    """Else a call is repeated while the driver still answers the first one with what holds it up."""
    found = containers("Deployment", "--set", "timeoutSeconds=120")
    assert "--timeout=120" in found.pop("rbd-csi")["args"]
    assert set(found) == {"provisioner", "attacher", "resizer", "snapshotter"}
    for name, sidecar in found.items():
        (wait,) = re.findall(r"--timeout=(\d+)s", " ".join(sidecar["args"]))
        assert int(wait) > 120, name


def test_no_container_of_the_controller_has_rights_on_its_node() -> None:
    (controller,) = [one for one in objects(*EVERYTHING) if one["kind"] == "Deployment"]
    pod = controller["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_secrets_are_read_in_the_drivers_own_namespace_alone() -> None:
    for one in objects(*EVERYTHING):
        if one["kind"] == "ClusterRole":
            assert not any("secrets" in rule["resources"] for rule in one["rules"])


def test_the_clusters_file_is_a_secret_that_may_be_ones_own() -> None:
    made = [one for one in objects(*CLUSTERS) if one["kind"] == "Secret"]
    assert yaml.safe_load(made[0]["stringData"]["config.json"])[0]["clusterID"] == "prod"
    assert not [one for one in objects("--set", "existingClustersSecret=mine") if one["kind"] == "Secret"]


@pytest.mark.parametrize(
    ("value", "may_read"),
    [
        ("logLevel=info", False),
        ("clusters[0].readAffinity.enabled=false", False),
        ("clusters[0].readAffinity.enabled=true", True),
        ("existingClustersSecret=mine", True),
        ("topology.enabled=true", True),
    ],
)
def test_the_node_half_may_read_nodes_where_it_may_have_to(value: str, may_read: bool) -> None:
    roles = [one["metadata"]["name"] for one in objects(*CLUSTERS, "--set", value) if one["kind"] == "ClusterRole"]
    assert any(name.endswith("-node") for name in roles) == may_read


def test_an_entry_that_logs_in_finds_the_token_of_its_pod_and_tokens_are_reviewed_where_asked() -> None:
    for flags, is_mounted in (((), False), (EVERYTHING, True), (("--set", "kms.existingConfigMap=theirs"), True)):
        (node,) = [one for one in objects(*flags) if one["kind"] == "DaemonSet"]
        assert node["spec"]["template"]["spec"]["automountServiceAccountToken"] is is_mounted
    reviewing = [
        one
        for one in objects("--set", "kms.tokenReviews=true")
        if one["kind"] == "ClusterRoleBinding" and one["roleRef"]["name"] == "system:auth-delegator"
    ]
    assert [one["name"].rpartition("-")[2] for one in reviewing[0]["subjects"]] == ["controller", "node"]


def test_kms_entries_reach_both_halves_and_secrets_are_read_by_name_alone() -> None:
    secrets = "kms.secrets[0].name=phrases,kms.secrets[0].namespaces={shop,office}"
    flags = (*EVERYTHING, "--set", secrets)
    (config,) = [one for one in objects(*flags) if one["kind"] == "ConfigMap"]
    assert json.loads(config["data"]["config.json"]) == {"sealed": {"encryptionKMSType": "metadata"}}
    for kind in ("Deployment", "DaemonSet"):
        driver = containers(kind, *flags)["rbd-csi"]
        (told,) = [one for one in driver["args"] if one.startswith("--kms-config=")]
        (mount,) = [one for one in driver["volumeMounts"] if one["name"] == "kms"]
        assert told == f"--kms-config={mount['mountPath']}/config.json"
        (one,) = [one for one in objects(*flags) if one["kind"] == kind]
        (volume,) = [one for one in one["spec"]["template"]["spec"]["volumes"] if one["name"] == "kms"]
        assert volume["configMap"]["name"] == config["metadata"]["name"]
    roles = [
        one for one in objects(*flags) if one["kind"] == "Role" and one["metadata"]["name"].endswith("-kms-phrases")
    ]
    assert [role["metadata"]["namespace"] for role in roles] == ["shop", "office"]
    assert all(role["rules"][0]["resourceNames"] == ["phrases"] for role in roles)
    assert not [one for one in objects() if one["kind"] == "ConfigMap" or "kms" in str(one)]
