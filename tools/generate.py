"""Writes what is derived from the code: CRDs, JSON Schemas, the table of tunables. `--check` only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml
from tuneagent.comparison import Comparison
from tuneagent.crd_schema import structural, tune_schema
from tuneagent.journal import JournalDocument
from tuneagent.model import Plan, Report
from tuneagent.report.reference import reference_markdown
from tuneagent.restore import UndoneDocument
from tuneagent.session import Applied
from tuneagent.topology import Topology
from tuneagent.tunables import registry
from tuneagent.tuning_profile import ProfileSpec, load_yaml

ROOT = Path(__file__).parents[1]
GROUP, VERSION = "tuneagent.dev", "v1alpha1"
CONDITIONS: dict[str, Any] = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status"],
        "properties": {
            "type": {"type": "string"},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": {"type": "string"},
            "message": {"type": "string"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64"},
        },
    },
}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


def _text(*enum: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(enum)} if enum else {"type": "string"}


def _crd(
    kind: str, plural: str, short: str, schema: dict[str, Any], columns: list[tuple[str, str, str]]
) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "jsonPath": path} for name, type_, path in columns
                    ],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }  # fmt: skip


def tuning_profile() -> dict[str, Any]:
    spec = structural(ProfileSpec)
    spec["properties"]["tune"] = tune_schema({name: tunable.spec_type for name, tunable in registry().items()})
    status = _object(
        {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "revision": _text(),
            "nodes": _object(
                {name: {"type": "integer"} for name in ("selected", "done", "inFlight", "failed", "waiting", "unknown")}
            ),
            "conditions": CONDITIONS,
        }
    )
    columns = [
        ("Revision", "string", ".status.revision"),
        ("Selected", "integer", ".status.nodes.selected"),
        ("Done", "integer", ".status.nodes.done"),
        ("Failed", "integer", ".status.nodes.failed"),
        ("Unknown", "integer", ".status.nodes.unknown"),
        ("Rollout", "string", '.status.conditions[?(@.type=="RolledOut")].reason'),
    ]
    return _crd(
        "TuningProfile",
        "tuningprofiles",
        "tprof",
        _object({"spec": spec, "status": status}, required=["spec"]),
        columns,
    )


def node_tuning() -> dict[str, Any]:
    grant = _object(
        {
            "digest": _text(),
            "disruption": _text("service", "kubelet", "gpu", "reboot"),
            "lifetime_s": {"type": "integer"},
        }
    )
    spec = _object(
        {
            "profile": _text(),
            "revision": _text(),
            "desired": _text("Profile", "Baseline"),
            "machineId": _text(),
            "grant": {**grant, "nullable": True},
        }
    )
    finding = _object(
        {name: _text() for name in ("tunable", "subject", "verdict", "severity", "found", "wanted", "reason")}
    )
    node = _object(
        {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "revision": _text(),
            "baseline": {"type": "boolean"},
            "paused": {"type": "boolean"},
            "left": {"type": "integer"},
            "version": _text(),
            "bootId": _text(),
            "error": {"type": "string", "maxLength": 1000},
            "tunables": {"type": "array", "items": _text(), "maxItems": 500},
            "summary": {"type": "object", "additionalProperties": {"type": "integer"}, "nullable": True},
            "findings": {"type": "array", "items": finding, "maxItems": 50, "nullable": True},
            "pending": {
                **_object({"digest": _text(), "disruption": _text(), "changes": {"type": "integer"}}),
                "nullable": True,
            },
        }
    )
    rollout = _object(
        {
            "phase": _text(),
            "since": {"type": "number"},
            "attempts": {"type": "integer"},
            "reason": {"type": "string", "maxLength": 1000},
            "target": _text(),
            "previous": _text(),
            "bootId": _text(),
            "cordonedByUs": {"type": "boolean"},
        }
    )
    status = _object({"node": node, "rollout": rollout, "conditions": CONDITIONS})
    columns = [
        ("Profile", "string", ".spec.profile"),
        ("Revision", "string", ".status.node.revision"),
        ("Phase", "string", ".status.rollout.phase"),
        ("Drifted", "integer", ".status.node.summary.drifted"),
        ("Unknown", "integer", ".status.node.summary.unknown"),
        ("Reason", "string", ".status.rollout.reason"),
    ]
    return _crd("NodeTuning", "nodetunings", "ntun", _object({"spec": spec, "status": status}), columns)


def tuning_policy() -> dict[str, Any]:
    spec = _object(
        {
            "maxUnavailable": {"x-kubernetes-int-or-string": True},
            "pause": _text("none", "rollouts", "all"),
            "approve": {"type": "array", "items": _text(), "maxItems": 100},
        }
    )
    holder = _object({"node": _text(), "profile": _text(), "since": {"type": "number"}}, required=["node"])
    status = _object(
        {
            "holders": {
                "type": "array",
                "items": holder,
                "maxItems": 1000,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["node"],
            },
            "awaitingApproval": {"type": "array", "items": _text(), "maxItems": 100},
            "conditions": CONDITIONS,
        }
    )
    schema = _object({"metadata": _object({"name": _text("default")}), "spec": spec, "status": status})
    columns = [
        ("Pause", "string", ".spec.pause"),
        ("MaxUnavailable", "string", ".spec.maxUnavailable"),
        ("Holders", "string", ".status.holders[*].node"),
    ]
    return _crd("TuningPolicy", "tuningpolicies", "tpol", schema, columns)


# What the commands print with `-o json`.
DOCUMENTS = {
    "report": Report,
    "plan": Plan,
    "applied": Applied,
    "undone": UndoneDocument,
    "journal": JournalDocument,
    "diff": Comparison,
    "topology": Topology,
}


def outputs() -> dict[Path, str]:
    """Every generated file with its content."""
    head = "# Generated by tools/generate.py; do not edit.\n"
    found: dict[Path, str] = {}
    for crd in (tuning_profile(), node_tuning(), tuning_policy()):
        path = ROOT / "manifests/crds" / f"{crd['metadata']['name'].partition('.')[0]}.yaml"
        found[path] = head + yaml.safe_dump(crd, sort_keys=False, width=120)
    schemas = ROOT / "agent/tuneagent/schemas"
    for name, kind in DOCUMENTS.items():
        encoded = msgspec.json.encode(msgspec.json.schema(kind), order="sorted")
        found[schemas / f"{name}.schema.json"] = msgspec.json.format(encoded, indent=1).decode() + "\n"
    tune = tune_schema({name: tunable.spec_type for name, tunable in registry().items()})
    found[schemas / "tune.json"] = (
        msgspec.json.format(msgspec.json.encode(tune, order="sorted"), indent=1).decode() + "\n"
    )
    for path in sorted((ROOT / "agent/tuneagent/profiles").glob("*.yaml")):
        document = load_yaml(path.read_text(), path.name)
        found[path.with_suffix(".json")] = msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"
    readme = ROOT / "README.md"
    pattern = re.compile(r"(<!-- tunables -->\n).*?(<!-- end of tunables -->)", re.DOTALL)
    found[readme] = pattern.sub(
        lambda match: match.group(1) + reference_markdown(registry()) + match.group(2), readme.read_text()
    )
    return found


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    stale = []
    for path, content in outputs().items():
        if path.exists() and path.read_text() == content:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.write_text(content)
    if check and stale:
        print("stale, run tools/generate.py:", *stale, sep="\n  ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
