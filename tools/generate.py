"""Writes what is derived from the code: CRDs, JSON Schemas, reference pages. `--check` only compares."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import yaml
from audit_picture import audit_picture
from crd_schema import structural, tune_schema, without_defaults
from reference_pages import DOCUMENTS, commands_page, json_page, profile_page, tunables_page
from tuneagent.contracts.json_schema import json_schema
from tuneagent.contracts.node_tuning import FullStatus, NodeTuningSpec
from tuneagent.contracts.profile_schema import profile_schema
from tuneagent.contracts.tuning_policy import PolicySpec, PolicyStatus
from tuneagent.contracts.tuning_profile import ProfileSpec, ProfileStatus
from tuneagent.formats.yaml_document import load_yaml
from tuneagent.profile_files.document import Profile, parse
from tuneagent.tunables.registry import registry, resolved

ROOT = Path(__file__).parents[1]
GROUP, VERSION = "tuneagent.dev", "v1alpha1"


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


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


# Bounds that CEL needs to estimate its cost; the operator enforces the same ones.
SELECTOR_LIMIT = 64


def _selector_rules(spec: dict[str, Any]) -> None:
    """What the schema can say of a selector. Unknown fields are kept, so that the operator can refuse them by name:
    an API server that dropped `{gpu: h100}` would store a selector that asks for nothing.
    """
    selector = spec["properties"]["nodeSelector"]
    selector["x-kubernetes-preserve-unknown-fields"] = True
    selector["properties"]["matchLabels"]["maxProperties"] = SELECTOR_LIMIT
    expressions = selector["properties"]["matchExpressions"]
    expressions["maxItems"] = SELECTOR_LIMIT
    expressions["items"]["properties"]["values"]["maxItems"] = SELECTOR_LIMIT
    expressions["items"]["x-kubernetes-validations"] = [
        {
            "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 "
            ": !has(self.values) || size(self.values) == 0",
            "message": "In and NotIn need at least one value, Exists and DoesNotExist take none",
        }
    ]
    spec["x-kubernetes-validations"] = [
        {
            "rule": "!has(self.allNodes) || !self.allNodes || !has(self.nodeSelector) "
            "|| ((!has(self.nodeSelector.matchLabels) || size(self.nodeSelector.matchLabels) == 0) "
            "&& (!has(self.nodeSelector.matchExpressions) || size(self.nodeSelector.matchExpressions) == 0))",
            "message": "allNodes: true selects every node already; remove it, or remove nodeSelector",
        }
    ]


def tuning_profile() -> dict[str, Any]:
    spec = structural(ProfileSpec)
    spec["properties"]["tune"] = tune_schema({name: tunable.spec_type for name, tunable in registry().items()})
    spec["properties"]["tune"]["description"] = "Settings wanted, by tunable."
    spec["properties"]["drift"] = {**spec["properties"]["drift"], "default": "repair", "nullable": False}
    _selector_rules(spec)
    columns = [
        ("Revision", "string", ".status.revision"),
        ("Selected", "integer", ".status.nodes.selected"),
        ("Done", "integer", ".status.nodes.done"),
        ("Failed", "integer", ".status.nodes.failed"),
        ("Unknown", "integer", ".status.nodes.unknown"),
        ("Accepted", "string", '.status.conditions[?(@.type=="Accepted")].status'),
        ("Rollout", "string", '.status.conditions[?(@.type=="RolledOut")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    ]
    schema = _object({"spec": spec, "status": _status(ProfileStatus)}, required=["spec"])
    return _crd("TuningProfile", "tuningprofiles", "tprof", schema, columns)


def _status(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """A status: the server fills nothing in, and conditions are a list keyed by type."""
    schema = without_defaults(structural(kind))
    schema["properties"]["conditions"].update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})
    condition = schema["properties"]["conditions"]["items"]["properties"]
    condition["status"]["enum"] = ["True", "False", "Unknown"]
    condition["lastTransitionTime"] = {"type": "string", "format": "date-time"}
    condition["observedGeneration"]["format"] = "int64"
    return schema


def node_tuning() -> dict[str, Any]:
    spec = without_defaults(structural(NodeTuningSpec))
    columns = [
        ("Profile", "string", ".spec.profile"),
        ("Revision", "string", ".status.node.revision"),
        ("Phase", "string", ".status.rollout.phase"),
        ("Drifted", "integer", ".status.node.summary.drifted"),
        ("Unknown", "integer", ".status.node.summary.unknown"),
        ("Reason", "string", ".status.rollout.reason"),
    ]
    schema = _object({"spec": spec, "status": _status(FullStatus)})
    return _crd("NodeTuning", "nodetunings", "ntun", schema, columns)


def tuning_policy() -> dict[str, Any]:
    spec = structural(PolicySpec)
    spec["properties"]["approve"]["maxItems"] = 100
    name = {"type": "string", "enum": ["default"]}
    schema = _object({"metadata": _object({"name": name}), "spec": spec, "status": _status(PolicyStatus)})
    columns = [
        ("Pause", "string", ".spec.pause"),
        ("MaxUnavailable", "string", ".spec.maxUnavailable"),
        ("Accepted", "string", '.status.conditions[?(@.type=="Accepted")].status'),
    ]
    return _crd("TuningPolicy", "tuningpolicies", "tpol", schema, columns)


def with_values(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with the type of the values that each tunable's findings have."""
    finding = schema["$defs"].get("Finding")
    if finding is None:
        return schema
    by_type: dict[str, list[str]] = {}
    for name, tunable in registry().items():
        if tunable.value_type is not object:
            by_type.setdefault(msgspec.json.encode(json_schema(tunable.value_type)).decode(), []).append(name)
    fields = ("observed", "desired", "persisted", "nextBoot")
    finding["allOf"] = []
    for number, (kind, names) in enumerate(by_type.items()):
        schema["$defs"][f"Value{number}"] = {"anyOf": [json.loads(kind), {"type": "null"}]}
        then = {"properties": {field: {"$ref": f"#/$defs/Value{number}"} for field in fields}}
        finding["allOf"].append({"if": {"properties": {"tunable": {"enum": names}}}, "then": then})
    return schema


def outputs() -> dict[Path, str]:
    """Every generated file with its content."""
    head = "# Generated by tools/generate.py; do not edit.\n"
    found: dict[Path, str] = {}
    for crd in (tuning_profile(), node_tuning(), tuning_policy()):
        path = ROOT / "manifests/crds" / f"{crd['metadata']['name'].partition('.')[0]}.yaml"
        found[path] = head + yaml.safe_dump(crd, sort_keys=False, width=120)
    schemas = ROOT / "agent/tuneagent/contracts/schemas"
    for name, kind, _ in DOCUMENTS:
        encoded = msgspec.json.encode(with_values(json_schema(kind)), order="sorted")
        found[schemas / f"{name}.schema.json"] = msgspec.json.format(encoded, indent=1).decode() + "\n"
    tune = tune_schema({name: tunable.spec_type for name, tunable in registry().items()})
    found[schemas / "tune.json"] = (
        msgspec.json.format(msgspec.json.encode(tune, order="sorted"), indent=1).decode() + "\n"
    )
    editors = profile_schema({name: tunable.spec_type for name, tunable in registry().items()})
    found[schemas / "profile.schema.json"] = msgspec.json.format(msgspec.json.encode(editors), indent=1).decode() + "\n"
    for path in sorted((ROOT / "agent/tuneagent/profile_files/builtin").glob("*.yaml")):
        document = {**_written(path.stem), "revision": resolved(_parsed(path.stem), registry(), _parsed).revision}
        found[path.with_suffix(".json")] = msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"
    docs = ROOT / "docs"
    found |= {docs / "cli.md": commands_page(), docs / "profile-reference.md": profile_page()}
    found |= {docs / "tunables.md": tunables_page(), docs / "json.md": json_page()}
    found[docs / "audit.svg"] = audit_picture()
    screen = re.compile(r"(<!-- screen (\S+?)(?: (\d+) (\d+))? -->\n).*?(<!-- end of screen -->)", re.DOTALL)
    for page in (ROOT / "README.md", *sorted(docs.glob("*.md"))):
        if page in found or not screen.search(page.read_text()):
            continue
        found[page] = screen.sub(lambda match: match[1] + _screen(*match.group(2, 3, 4)) + match[5], page.read_text())
    return found


def _written(name: str) -> dict[str, object]:
    """A built-in profile as it was written."""
    path = ROOT / f"agent/tuneagent/profile_files/builtin/{name}.yaml"
    return msgspec.convert(load_yaml(path.read_text(), path.name), dict[str, object])


def _parsed(name: str) -> Profile:
    return parse(_written(name), name)


def _screen(name: str, first: str | None, last: str | None) -> str:
    """A stored screen, or some lines of it, as a block of a page."""
    lines = (ROOT / "tests/fixtures/screens" / name).read_text().splitlines()
    shown = lines[int(first or 0) : int(last) if last else None]
    rest = ["..."] if len(shown) < len(lines) else []
    return "\n" + textwrap.indent("\n".join([*shown, *rest]), "    ") + "\n\n"


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
