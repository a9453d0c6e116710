"""README's cluster page on a real node: this machine. What is written to its kernel is put back."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from controlplane import KUBELET_PORT, NODE, ControlPlane, wait_for
from image import Builder
from node import RealNode
from support import tree
from tuneagent.contracts.values import Value
from tuneagent.facts.kubelet import kubelet_field
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files

PROJECT = Path(__file__).parents[2]
SWAPPINESS = Path("/proc/sys/vm/swappiness")
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
DEFRAG = Path("/sys/kernel/mm/transparent_hugepage/defrag")
PAGES = Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
DROP_INS = (Path("/etc/sysctl.d/99-zz-tuneagent.conf"), Path("/etc/tmpfiles.d/00-00-tuneagent.conf"))
STATE = Path("/var/lib/tuneagent")


def _chosen(path: Path) -> str:
    return path.read_text().partition("[")[2].partition("]")[0]


@pytest.fixture(scope="module")
def kept() -> Iterator[dict[Path, str]]:
    """What the test may touch, put back whatever happens."""
    before = {
        SWAPPINESS: SWAPPINESS.read_text(),
        SOMAXCONN: SOMAXCONN.read_text(),
        DEFRAG: _chosen(DEFRAG),
        PAGES: PAGES.read_text(),
    }
    drop_ins = {path: path.read_bytes() if path.exists() else None for path in DROP_INS}
    state_before = STATE.exists()
    yield before
    for path, value in before.items():
        path.write_text(value)
    for path, data in drop_ins.items():
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(data)
    if not state_before:
        subprocess.run(["rm", "-rf", str(STATE)], check=True)


@pytest.fixture(scope="module")
def installed(
    plane: ControlPlane, cache: Path, tmp_path_factory: pytest.TempPathFactory, kept: object
) -> Iterator[RealNode]:
    """The node, the images of the Containerfile's steps, and the manifests."""
    folder = tmp_path_factory.mktemp("node")
    node = RealNode(plane, cache, folder)
    try:
        subprocess.run(["make", "--silent", "wheelhouse"], cwd=PROJECT, check=True)
        node.up()
        builder = Builder(PROJECT, cache.parent)
        for stage, name in (("agent", "tuneagent"), ("operator", "tuneagent-operator")):
            archive = folder / f"{stage}.tar"
            builder.archive(stage, f"docker.io/library/{name}:0.1.0", archive)
            node.import_archive(archive)
        plane.kubectl("apply", "-k", str(PROJECT / "tests/cluster/overlay"))
        yield node
    finally:
        print(plane.kubectl("get", "pods", "-A", "-o", "wide", check=False))
        for app in ("tuneagent-agent", "tuneagent-operator"):
            print(plane.kubectl("logs", "-n", "tuneagent-system", "-l", f"app={app}", "--tail=40", check=False))
        node.down()


def _profile(**tune: object) -> str:
    spec = {
        "nodeSelector": {"matchLabels": {"tuneagent.dev/real": "true"}},
        "tune": tune,
        "rollout": {"canary": 0, "soakSeconds": 1},
    }
    return json.dumps(
        {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "first"}, "spec": spec}
    )


def test_agent_and_operator_become_ready(plane: ControlPlane, installed: RealNode) -> None:
    plane.kubectl("rollout", "status", "-n", "tuneagent-system", "daemonset/tuneagent-agent", "--timeout=120s")
    plane.kubectl("rollout", "status", "-n", "tuneagent-system", "deployment/tuneagent-operator", "--timeout=120s")


def test_a_profile_takes_effect_on_the_host(plane: ControlPlane, installed: RealNode) -> None:
    swappiness = 10 if SWAPPINESS.read_text().strip() != "10" else 11
    tune = {
        "sysctl": {"vm.swappiness": swappiness, "net.core.somaxconn": 8192},
        "transparentHugepages": {"defrag": "defer+madvise"},
        "hugepages": {"pages": [{"size": "2Mi", "node": 0, "count": 4}]},
    }
    plane.kubectl("apply", "-f", "-", stdin=_profile(**tune))
    # They are written one after the other.
    wait_for("somaxconn", lambda: SOMAXCONN.read_text().strip() == "8192", 120)
    wait_for("pages", lambda: PAGES.read_text().strip() == "4", 30)
    wait_for("swappiness", lambda: SWAPPINESS.read_text().strip() == str(swappiness), 30)
    wait_for("defrag", lambda: _chosen(DEFRAG) == "defer+madvise", 30)
    wait_for("Done", lambda: plane.get("nodetuning", NODE)["status"]["rollout"]["phase"] == "Done", 90)
    node = plane.get("nodetuning", NODE)["status"]["node"]
    assert node.get("notAsWanted", 0) == 0 and not node.get("error"), node
    assert "8192" in DROP_INS[0].read_text()


def test_drift_by_hand_is_repaired_and_told(plane: ControlPlane, installed: RealNode) -> None:
    culprit = Path("/etc/sysctl.d/10-tuneagent-test.conf")
    culprit.write_text("net.core.somaxconn = 777\n")
    try:
        # A pass that has begun has read the files already: the one that finds the new value must be a later one.
        time.sleep(8)
        SOMAXCONN.write_text("777\n")
        wait_for("repair", lambda: SOMAXCONN.read_text().strip() == "8192", 60)
        events = wait_for("event", lambda: _events(plane), 30)
    finally:
        culprit.unlink()
    assert any("wanted 8192, found 777" in message and culprit.name in message for message in events), events


def _events(plane: ControlPlane) -> list[str]:
    items = plane.get("events", "-n", "default")["items"]
    return [item["message"] for item in items if item["reason"] == "DriftRepaired" and "somaxconn" in item["message"]]


def test_the_kubelets_configuration_is_what_it_serves(plane: ControlPlane, installed: RealNode, tmp_path: Path) -> None:
    # The API server hands no request on to an address of the loopback, so the kubelet is asked with its certificate.
    context = ssl.create_default_context(cafile=str(plane.pki / "ca.crt"))
    context.load_cert_chain(*(plane.pki / f"apiserver-kubelet-client.{end}" for end in ("crt", "key")))
    with urllib.request.urlopen(f"https://127.0.0.1:{KUBELET_PORT}/configz", timeout=10, context=context) as answer:
        served = json.load(answer)["kubeletconfig"]
    (tmp_path / "var/lib/kubelet").mkdir(parents=True)
    (tmp_path / "var/lib/kubelet/config.yaml").write_text((installed.folder / "kubelet.yaml").read_text())
    facts = Facts(tree(Files(str(tmp_path))))
    fields = ("cpuManagerPolicy", "topologyManagerPolicy", "memoryManagerPolicy", "cgroupDriver", "evictionHard")
    default = {"cpuManagerPolicy": "none", "topologyManagerPolicy": "none", "memoryManagerPolicy": "None"}
    assert {one: kubelet_field(one, default.get(one))(facts) for one in fields} == {
        one: Value(served[one]) for one in fields
    }


def test_nothing_is_written_while_nothing_changes(plane: ControlPlane, installed: RealNode) -> None:
    time.sleep(8)
    before = plane.get("nodetuning", NODE)["metadata"]["resourceVersion"]
    time.sleep(20)
    assert plane.get("nodetuning", NODE)["metadata"]["resourceVersion"] == before


def test_pause_stops_every_write(plane: ControlPlane, installed: RealNode) -> None:
    plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"pause":"all"}}')
    time.sleep(12)
    SOMAXCONN.write_text("778\n")
    time.sleep(15)
    assert SOMAXCONN.read_text().strip() == "778"
    plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"pause":"none"}}')
    wait_for("repair", lambda: SOMAXCONN.read_text().strip() == "8192", 60)


def test_profile_removed_brings_the_old_values_back(
    plane: ControlPlane, installed: RealNode, kept: dict[Path, str]
) -> None:
    plane.kubectl("delete", "tuningprofile", "first")
    wait_for("baseline", lambda: plane.get("nodetuning", NODE)["status"]["node"].get("baseline"), 120)
    assert SWAPPINESS.read_text() == kept[SWAPPINESS]
    assert SOMAXCONN.read_text() == kept[SOMAXCONN]
    assert PAGES.read_text() == kept[PAGES]
    assert _chosen(DEFRAG) == kept[DEFRAG]
    assert not DROP_INS[0].exists() and not DROP_INS[1].exists()


def test_deleting_everything_leaves_the_host_as_it_is(plane: ControlPlane, installed: RealNode) -> None:
    plane.kubectl("apply", "-f", "-", stdin=_profile(sysctl={"net.core.somaxconn": 8193}))
    wait_for("setting", lambda: SOMAXCONN.read_text().strip() == "8193", 120)
    wait_for("Done", lambda: plane.get("nodetuning", NODE)["status"]["rollout"]["phase"] == "Done", 60)
    plane.kubectl("scale", "-n", "tuneagent-system", "deployment/tuneagent-operator", "--replicas=0")
    time.sleep(4)
    plane.kubectl("delete", "nodetuning", NODE)
    time.sleep(8)
    assert SOMAXCONN.read_text().strip() == "8193"
    plane.kubectl("delete", "-f", str(PROJECT / "manifests/crds"))
    time.sleep(10)
    assert SOMAXCONN.read_text().strip() == "8193"
