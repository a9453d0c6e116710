"""What the next boot brings, foretold and then seen: random configurations of several mechanisms, and real reboots."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
import random_boot
from guest import Vm

BOOTS = int(os.environ.get("TUNEAGENT_BOOTS") or (100 if os.environ.get("TUNEAGENT_SOAK") else 5))
PROFILE = "/root/boots.yaml"
Findings = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def machine(vm: Vm) -> Iterator[Vm]:
    document = {
        "apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "boots"}, "spec": {"tune": random_boot.TUNE},
    }  # fmt: skip
    vm.put(PROFILE, json.dumps(document))
    _clear(vm)
    vm.await_reboot()
    yield vm
    _clear(vm)
    vm.await_reboot()


def _clear(vm: Vm) -> None:
    folders = "/etc /usr/lib /usr/local/lib /run"
    vm.sh(f"find {folders} -name '*{random_boot.MARK}*' -type f -delete; update-grub 2>/dev/null")


def _findings(vm: Vm) -> Findings:
    report = json.loads(vm.tuneagent("audit", "-f", PROFILE, "-o", "json").out)
    return {(one["tunable"], one["subject"]): one for one in report["findings"]}


def test_what_is_foretold_is_what_the_boot_brings(machine: Vm) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    # Without any file: what the kernel and Debian start with.
    first = _findings(machine)
    known = [key for key, one in first.items() if one["observed"] is not None]
    assert len(known) >= 60, len(known)
    wrong: list[str] = []
    definite = 0
    for number in range(BOOTS):
        _clear(machine)
        for path, text in random_boot.files(seed + number).items():
            machine.sh(f"mkdir -p {path.rpartition('/')[0]}")
            machine.put(path, text)
        machine.sh("update-grub 2>/dev/null")
        foretold = _findings(machine)
        machine.await_reboot()
        seen = _findings(machine)
        for key in known:
            one = foretold[key]
            # Nothing sets it, as nothing did before: then it is what the kernel starts with.
            is_left_alone = one["nextBoot"] is None and first[key]["nextBoot"] is None
            if one["verdict"] == "unknown" or (one["nextBoot"] is None and not is_left_alone):
                continue
            definite += 1
            wanted = first[key]["observed"] if is_left_alone else one["nextBoot"]
            if seen[key]["observed"] != wanted:
                wrong.append(
                    f"seed {seed + number}: {key}: foretold {one['nextBoot']!r}, seen {seen[key]['observed']!r}"
                )
    share = definite / (len(known) * BOOTS)
    print(f"{BOOTS} boots, {len(known)} settings: {definite} foretold for certain ({share:.1%}), {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong[:20])
    assert share >= 0.95
