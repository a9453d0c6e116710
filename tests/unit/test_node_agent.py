"""A node's agent over an API server in memory: what it takes leave for, when, and what it answers."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from memory_api import merge
from memory_node import FILES, LIVE, REBOOT, SMT, SMT_PATH, Node, Server
from tuneagent import __version__
from tuneagent.contracts.plan import digest_of
from tuneagent.contracts.values import Disruption
from tuneagent.errors import WriteFailed
from tuneagent.host.files import Files
from tuneagent.node import cluster_agent as node_agent
from tuneagent.node.metrics import Metrics


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, Server(), monkeypatch)


def test_live_changes_go_at_once_and_heavier_ones_are_proposed(node: Node) -> None:
    name = node.server.name(SMT)
    node.agent.once()
    told = node.server.node
    assert node.read("proc/sys/vm/swappiness") == "10" and node.read(SMT_PATH) == "on"
    assert told["revision"] == name and told["notAsWanted"] == 0 and told["refusal"] == "" and told["error"] == ""
    assert told["proposal"]["disruption"] == "kubelet" and told["proposal"]["changes"] == 1
    assert told.get("taken") is None


def test_a_grant_is_taken_before_the_first_write_and_answered_after_the_last(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    grant = node.server.grant()
    seen: list[str] = []
    node.server.before_patch = lambda: seen.append(node.read(SMT_PATH))
    node.agent.once()
    assert node.read(SMT_PATH) == "off"
    taken, answer = node.server.patches[-2:]
    assert taken == {"taken": {"digest": grant["digest"], "bootID": "b0", "epoch": grant["epoch"]}}
    assert seen == ["on", "off"] and answer["taken"] is None and answer["proposal"] is None
    # The same grant is worth nothing more.
    (node.root / SMT_PATH).write_text("on\n")
    node.agent.once()
    assert node.server.node["proposal"]["digest"]


def test_a_grant_that_was_taken_back_cannot_be_taken(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()

    def take_back() -> None:
        node.server.before_patch = lambda: None
        node.server.spec(grant=None)

    node.server.before_patch = take_back
    node.agent.once()
    assert node.read(SMT_PATH) == "on"
    assert not any((patch.get("taken") or {}).get("digest") for patch in node.server.patches)
    (told,) = [one for one in caplog.records if one.getMessage() == "grant not taken"]
    fields = vars(told)["fields"]
    assert set(fields) == {"digest", "error"} and "409" in fields["error"]


@pytest.mark.parametrize(
    "change",
    [
        {"bootID": "b9"},
        {"bootID": ""},
        {"digest": "sha256:other"},
        {"lifetimeSeconds": -1},
        {"disruption": "live"},
        {"disruption": "x"},
    ],
    ids=str,
)
def test_a_grant_that_does_not_fit_is_not_taken(node: Node, change: dict[str, Any]) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant(**change)
    node.agent.once()
    assert node.read(SMT_PATH) == "on"
    assert node.server.node.get("taken") is None


def test_an_agent_that_died_with_a_grant_in_hand_goes_on_and_answers(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    grant = node.server.grant()
    taken = {"digest": grant["digest"], "bootID": "b0", "epoch": grant["epoch"]}
    merge(node.server.tuning, {"status": {"node": {"taken": taken}}})
    node.again()
    before = len(node.server.patches)
    node.agent.once()
    assert node.read(SMT_PATH) == "off" and node.server.node.get("taken") is None
    # The object itself says that the grant is ours: a second claim would be a second write.
    assert [patch.get("taken", "-") for patch in node.server.patches[before:]] == [None]


def test_one_whose_grant_is_gone_answers_without_a_change(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    merge(node.server.tuning, {"status": {"node": {"taken": {"digest": "d", "bootID": "b0", "epoch": 1}}}})
    node.again()
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node.get("taken") is None


def test_a_reboot_is_answered_from_the_next_boot(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    assert node.server.node["proposal"]["disruption"] == "reboot"
    grant = node.server.grant()
    node.agent.once()
    assert node.programs.reboots == 1
    # Until the machine goes down nothing is answered, however long that takes and whatever runs out meanwhile.
    node.agent.grants.first_seen = dict.fromkeys(node.agent.grants.first_seen, -1e9)
    node.agent.once()
    assert node.server.node["taken"]["digest"] == grant["digest"]
    text = FILES["proc/1/limits"].replace("8388608", "unlimited")
    (node.root / "proc/1/limits").write_text(text)
    node.boot("b1")
    node.agent.once()
    told = node.server.node
    assert (
        told.get("taken") is None
        and told.get("proposal") is None
        and told["bootID"] == "b1"
        and told["notAsWanted"] == 0
    )
    assert node.programs.reboots == 1


def test_a_reboot_that_cannot_be_ordered_is_given_up_when_the_grant_has_run_out(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    node.server.grant()
    node.programs.refuses = True
    with pytest.raises(Exception, match="reboot"):
        node.agent.once()
    assert node.server.node["taken"]
    node.agent.grants.first_seen = dict.fromkeys(node.agent.grants.first_seen, -1e9)
    node.agent.once()
    assert node.server.node.get("taken") is None


def test_content_that_this_agent_will_not_take_is_a_refusal_and_a_server_that_is_away_is_none(node: Node) -> None:
    first = node.server.name(LIVE)
    node.agent.once()
    second = node.server.name({"sysctl": {"vm.swappiness": 1000}})
    node.agent.once()
    assert second in node.server.node["refusal"] and "from 0 to 200" in node.server.node["refusal"]
    assert node.server.node["revision"] == first and node.read("proc/sys/vm/swappiness") == "10"
    node.server.name(LIVE)
    node.agent.once()
    assert node.server.node["refusal"] == ""
    node.server.is_away = True
    (node.root / "proc/sys/vm/swappiness").write_text("60\n")
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10"


def test_what_this_host_cannot_do_is_a_refusal(node: Node) -> None:
    node.server.name({"kernelArguments": {"isolcpus": "1"}})
    node.agent.once()
    assert "kernelArguments arg:isolcpus" in node.server.node["refusal"]
    assert "by hand" in node.server.node["refusal"] and node.server.node["notAsWanted"] == 1


def _smt_off_then_baseline(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()
    node.agent.once()
    assert node.read(SMT_PATH) == "off"
    node.server.spec(desired="Baseline", revision="", grant=None)


def test_baseline_takes_its_grant_too(node: Node) -> None:
    _smt_off_then_baseline(node)
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "60" and node.read(SMT_PATH) == "off"
    assert node.server.node["proposal"]["disruption"] == "kubelet" and not node.server.node["baseline"]
    node.server.grant()
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node["baseline"] and node.server.node.get("taken") is None


def test_pause_takes_no_grant(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()
    node.server.policy = {"spec": {"pause": "all"}}
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node.get("taken") is None


def test_without_a_policy_the_agent_goes_on(node: Node) -> None:
    node.server.policy = None
    node.server.name(LIVE)
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10"


def test_a_plan_that_has_grown_since_it_was_proposed_needs_a_new_grant(node: Node) -> None:
    (node.root / SMT_PATH).write_text("off\n")
    (node.root / "etc/tmpfiles.d/smt.conf").write_text(f"w /{SMT_PATH} - - - - off\n")
    node.server.name({**REBOOT, "smt": {"enabled": False}})
    node.agent.once()
    proposed = node.server.node["proposal"]
    assert (proposed["disruption"], proposed["changes"]) == ("reboot", 2)
    node.server.grant()
    # Someone switches it on: now there is more to do than leave was asked for.
    (node.root / SMT_PATH).write_text("on\n")
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.programs.reboots == 0
    assert node.server.node["taken"] is None and node.server.node["proposal"]["changes"] == 3


def test_a_plan_that_has_shrunk_since_it_was_proposed_is_covered_by_its_grant(node: Node) -> None:
    node.server.name({**REBOOT, "smt": {"enabled": False}})
    node.agent.once()
    assert node.server.node["proposal"]["changes"] == 3
    node.server.grant()
    (node.root / SMT_PATH).write_text("off\n")
    node.agent.once()
    assert node.programs.reboots == 1 and node.server.node["taken"] is not None


def drifted(node: Node, value: str = "33") -> None:
    """The value that the profile wants was there, and someone changed it."""
    node.server.name(LIVE)
    node.agent.once()
    (node.root / "proc/sys/vm/swappiness").write_text(f"{value}\n")


def test_drift_that_is_repaired_is_an_event(node: Node) -> None:
    node.server.name(LIVE)
    node.agent.once()
    assert node.server.events == []
    drifted(node)
    node.agent.once()
    ((path, event),) = node.server.events
    assert path == "/api/v1/namespaces/default/events" and event["reason"] == "DriftRepaired"
    assert event["message"].startswith("sysctl key:vm.swappiness: wanted 10, found 33; changed by hand")
    assert not event["message"].endswith("; ")
    assert event["involvedObject"]["name"] == "n1"
    node.agent.once()
    assert len(node.server.events) == 1


def test_a_repair_that_fails_is_an_event_with_its_reason(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    drifted(node)

    def refuse(self: Files, path: str, text: str) -> None:
        raise WriteFailed(f"{path}: EPERM")

    monkeypatch.setattr(Files, "write", refuse)
    node.agent.once()
    ((_, event),) = node.server.events
    assert event["reason"] == "RepairFailed" and "EPERM" in event["message"].rpartition("; ")[2]
    assert node.server.node["error"].startswith("key:vm.swappiness: ") and node.server.node["notAsWanted"] == 1


def test_events_are_counted_and_limited(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_agent, "EVENTS_PER_PASS", 0)
    drifted(node)
    node.agent.once()
    assert node.server.events == [] and node.read("proc/sys/vm/swappiness") == "10"


def test_an_event_that_is_refused_changes_nothing(node: Node) -> None:
    drifted(node)
    node.server.refuses_events = True
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10" and node.server.node["error"] == ""


def test_writes_to_the_server_are_counted(node: Node) -> None:
    wrote: list[str] = []
    node.agent.metrics.wrote = wrote.append  # type: ignore[method-assign]
    drifted(node)
    node.agent.once()
    assert wrote.count("event") == 1 and set(wrote) == {"event", "status"}
    assert wrote.count("status") == len(node.server.patches)
    node.agent.once()
    before = len(wrote)
    node.agent.once()
    assert len(wrote) == before, "nothing changed, nothing is written"


def test_an_object_that_is_not_understood_changes_nothing(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    drifted(node)
    node.server.tuning["spec"] = {"revision": 7}
    patches = len(node.server.patches)
    with caplog.at_level(logging.WARNING, logger="tuneagent"):
        node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10", "the last good revision goes on"
    assert len(node.server.patches) == patches
    assert "NodeTuning not understood; the last good revision goes on" in [one.getMessage() for one in caplog.records]


def test_without_a_server_it_says_so_and_goes_on(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    drifted(node)
    node.server.is_away = True
    with caplog.at_level(logging.WARNING, logger="tuneagent"):
        node.agent.once()
    (told,) = [one for one in caplog.records if "no API server" in one.getMessage()]
    assert vars(told)["fields"] == {"error": "API server: unreachable: away"}


def test_without_a_revision_there_is_nothing_to_follow(node: Node) -> None:
    node.server.spec(desired="Profile", revision="")
    node.agent.once()
    told = node.server.node
    assert told["error"] == "no revision yet" and told["refusal"] == "" and told["bootID"] == "b0"
    assert (
        told["version"] == __version__
        and "sysctl" in told["tunables"]
        and list(told["tunables"]) == sorted(told["tunables"])
    )


def test_a_revision_that_is_not_there_and_one_that_was_cut(node: Node) -> None:
    node.server.spec(desired="Profile", revision="p-0123456789")
    node.agent.once()
    told = node.server.node
    assert told["error"] == told["refusal"] == "revision p-0123456789: ControllerRevision p-0123456789 does not exist"
    name = node.server.name(LIVE)
    node.server.revisions[name]["data"]["spec"]["tune"] = {"sysctl": {"vm.swappiness": 11}}
    node.agent.once()
    assert "cut, or of a newer version" in node.server.node["refusal"] and node.read("proc/sys/vm/swappiness") == "60"


def test_a_hold_on_the_host_is_a_pause(node: Node) -> None:
    node.server.name(LIVE)
    (node.root / "etc/tuneagent").mkdir()
    (node.root / "etc/tuneagent/hold").write_text("")
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "60" and node.server.node["paused"] is True
    (node.root / "etc/tuneagent/hold").unlink()
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10" and node.server.node["paused"] is False


def test_a_profile_that_only_reports_proposes_nothing(node: Node) -> None:
    node.server.name(SMT, drift="report")
    node.agent.once()
    told = node.server.node
    assert node.read("proc/sys/vm/swappiness") == "60" and told["summary"]["drifted"] == 2
    assert told["proposal"] is None and told["notAsWanted"] == 0
    assert [(one["subject"], one["found"], one["wanted"]) for one in told["findings"]] == [
        ("smt:control", "on", "off"), ("key:vm.swappiness", "60", "10"),
    ]  # fmt: skip


def test_baseline_under_a_pause_undoes_nothing(node: Node) -> None:
    node.server.name(LIVE)
    node.agent.once()
    node.server.policy = {"spec": {"pause": "all"}}
    node.server.spec(desired="Baseline", revision="", grant=None)
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10"
    assert node.server.node["paused"] is True and node.server.node["baseline"] is False
    node.server.policy = {"spec": {"pause": "rollouts"}}
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "60" and node.server.node["baseline"] is True


def test_baseline_says_what_it_could_not_give_back(node: Node) -> None:
    node.server.name(LIVE)
    node.agent.once()
    (node.root / "proc/sys/vm/swappiness").write_text("33\n")
    node.server.spec(desired="Baseline", revision="", grant=None)
    node.agent.once()
    told = node.server.node
    assert told["baseline"] is False and told["error"].startswith("key:vm.swappiness: wrote 10, found 33")


def test_a_status_that_is_refused_is_written_again(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.server.name(LIVE)

    def refuse() -> None:
        raise node_agent.ApiFailed(500, "no")

    node.server.before_patch = refuse
    with caplog.at_level(logging.WARNING, logger="tuneagent"):
        node.agent.once()
    assert "status not written" in [one.getMessage() for one in caplog.records]
    node.server.before_patch = lambda: None
    node.agent.once()
    assert node.server.node["revision"] and node.server.tuning["status"]["node"]["observedGeneration"] == 2


def test_the_proposal_stands_until_the_machine_has_rebooted(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    node.server.grant()
    node.agent.once()
    proposed = node.server.node["proposal"]
    assert proposed["disruption"] == "reboot"
    node.agent.once()
    assert node.server.node["proposal"] == proposed
    # An agent that knows of no proposal, on a host where all is written and the reboot is to come, makes an empty one.
    node.again()
    node.agent.grants.propose(None)
    node.agent.once()
    assert node.server.node["proposal"] == {"digest": digest_of(()), "disruption": "reboot", "changes": 0}


def test_the_proposal_stands_where_someone_else_has_written_it_all(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    proposed = node.server.node["proposal"]
    assert proposed["changes"] > 0
    outcomes = node.agent.tuner.apply(limit=Disruption.REBOOT).outcomes
    assert {one.result for one in outcomes} == {"verified"}
    node.agent.once()
    assert node.server.node["proposal"] == proposed and node.programs.reboots == 0


def test_a_clean_baseline_forgets_the_revision(node: Node) -> None:
    node.server.name(LIVE)
    node.agent.once()
    assert node.agent.last_good.read()[1]
    node.server.spec(desired="Baseline", revision="", grant=None)
    node.agent.once()
    assert node.agent.last_good.read() == (None, "")


def test_a_revision_that_was_damaged_on_disk_is_followed_no_more(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.server.name(LIVE)
    node.agent.once()
    node.agent.tuner.state.replace("revision.json", b"{")
    with caplog.at_level(logging.ERROR, logger="tuneagent"):
        assert node.agent.last_good.read() == (None, "")
    assert [one.getMessage() for one in caplog.records] == ["kept revision not read"]
    node.agent.once()
    assert node.agent.last_good.read()[1] == node.server.node["revision"]


def test_a_grant_in_hand_that_fits_no_more_gives_nothing_back(node: Node) -> None:
    _smt_off_then_baseline(node)
    merge(node.server.tuning, {"status": {"node": {"taken": {"digest": "d", "bootID": "b0", "epoch": 1}}}})
    node.agent.once()
    assert node.read(SMT_PATH) == "off" and node.server.node.get("taken") is None


def test_baseline_names_every_setting_that_stays(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()
    node.agent.once()
    node.server.spec(desired="Baseline", revision="", grant=None)
    (node.root / "proc/sys/vm/swappiness").write_text("33\n")
    node.agent.once()
    node.server.grant()
    write = Files.write

    def refuse(self: Files, path: str, text: str) -> None:
        if path == SMT_PATH:
            raise WriteFailed("EBUSY")
        write(self, path, text)

    monkeypatch.setattr(Files, "write", refuse)
    node.agent.once()
    told = node.server.node["error"]
    assert told.startswith("key:vm.swappiness: wrote 10, found 33") and told.endswith("; smt:control: EBUSY")
    assert node.server.node["bootID"] == "b0" and node.server.node["baseline"] is False


def test_a_grant_that_has_run_out_does_not_end_the_next_one(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant(digest="sha256:other")
    node.agent.once()
    node.agent.grants.first_seen = dict.fromkeys(node.agent.grants.first_seen, -1e9)
    node.server.grant()
    node.agent.once()
    assert node.read(SMT_PATH) == "off"


def test_an_agent_watches_its_own_object_as_its_pod(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    pod, stop = object(), threading.Event()
    seen: list[object] = []
    monkeypatch.setattr(node_agent, "credentials", lambda: pod)
    monkeypatch.setattr(node_agent, "KubeApi", lambda given: ("api of", given))
    monkeypatch.setattr(node_agent, "ObjectWatch", lambda *given: seen.extend(given))
    node_agent.NodeAgent(node.agent.tuner, "n1", Metrics(), stop, 60)
    assert seen == [("api of", pod), "/apis/tuneagent.dev/v1alpha1/nodetunings", "n1", stop]


def test_taking_a_grant_is_a_write_that_is_counted(node: Node) -> None:
    wrote: list[str] = []
    node.agent.metrics.wrote = wrote.append  # type: ignore[method-assign]
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()
    node.agent.once()
    assert wrote == ["status"] * len(node.server.patches) and len(wrote) == 3
    node.agent.once()
    assert len(node.server.patches) == 3, "what is answered is answered"


def test_a_node_without_an_object_is_no_error(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.server.tuning = None  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING, logger="tuneagent"):
        node.agent.once()
    assert [one.getMessage() for one in caplog.records] == [] and node.server.patches == []


def test_a_revision_that_is_held_is_not_read_again(node: Node) -> None:
    name = node.server.name(LIVE)
    node.agent.once()
    node.agent.once()
    assert node.server.asked == [name]


def test_a_revision_that_cannot_be_read_now_is_no_refusal(node: Node) -> None:
    node.server.name(LIVE)
    node.server.refuses_revisions = True
    node.agent.once()
    assert node.server.node["refusal"] == "" and "no revisions now" in node.server.node["error"]


def test_a_revision_with_a_fault_is_named(node: Node) -> None:
    name = node.server.name(LIVE)
    node.server.revisions[name]["data"]["spec"]["drfit"] = "repair"
    node.agent.once()
    told = node.server.node["refusal"]
    assert f"ControllerRevision {name}" in told and "drfit" in told


def test_a_grant_that_runs_out_while_the_machine_goes_down_stays_ours(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    node.server.grant()
    node.agent.once()
    assert node.programs.reboots == 1
    node.agent.grants.first_seen = dict.fromkeys(node.agent.grants.first_seen, -1e9)
    with caplog.at_level(logging.WARNING, logger="tuneagent"):
        node.agent.once()
    assert "grant has run out" not in [one.getMessage() for one in caplog.records]


def test_a_baseline_that_reboots_keeps_its_grant_until_then(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    node.server.grant()
    node.agent.once()
    (node.root / "proc/1/limits").write_text(FILES["proc/1/limits"].replace("8388608", "unlimited"))
    node.boot("b1")
    node.agent.once()
    node.server.spec(desired="Baseline", revision="", grant=None)
    node.agent.once()
    grant = node.server.grant(bootID="b1")
    node.agent.once()
    assert node.server.node["taken"]["digest"] == grant["digest"] and node.programs.reboots == 2


def test_a_setting_that_did_not_drift_hides_no_event_of_the_next(node: Node) -> None:
    two = {"sysctl": {"vm.stat_interval": 10, "vm.swappiness": 10}}
    node.server.name(two)
    node.agent.once()
    # The first is there from now on and set for the first time, which is no drift.
    (node.root / "proc/sys/vm/stat_interval").write_text("1\n")
    (node.root / "proc/sys/vm/swappiness").write_text("33\n")
    node.agent.once()
    assert node.read("proc/sys/vm/stat_interval") == "10"
    assert [event["message"].split(":")[1].split(".")[1] for _, event in node.server.events] == ["swappiness"]
