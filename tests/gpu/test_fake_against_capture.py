"""The fake card against what a real H100 answered, field by field, through the real pynvml."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CAPTURE = Path(__file__).parents[1] / "fixtures" / "hosts" / "h100-vm" / "nvml.json"
# Asks the fake everything that the capture holds, in a process that loads it fresh.
PROBE = """
import json, sys, pynvml
wanted = json.load(open(sys.argv[1]))
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
def plain(value):
    if isinstance(value, bytes): return value.decode()
    if hasattr(value, '_fields_'): return {name: plain(getattr(value, name)) for name, *_ in value._fields_}
    return list(value) if isinstance(value, tuple) else value
def ask(call, *arguments):
    try:
        return plain(call(*arguments))
    except pynvml.NVMLLibraryMismatchError:
        return 'ERR FunctionNotFound: needs the versioned call'
    except pynvml.NVMLError as error:
        return f'ERR {type(error).__name__} {error}'
answers = {name: ask(getattr(pynvml, name), handle) for name in wanted['devices'][0] if hasattr(pynvml, name) and name != 'nvmlDeviceIsMigDeviceHandle'}
system = {name: ask(getattr(pynvml, name)) for name in ('nvmlSystemGetDriverVersion', 'nvmlSystemGetNVMLVersion')}
profiles = []
import ctypes
for index in range(32):
    try:
        info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, index, version=2)
    except pynvml.NVMLError:
        continue
    count = ctypes.c_uint(0)
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, info.id, None, ctypes.byref(count))
    places = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, info.id, places, ctypes.byref(count))
    profile = {name: plain(getattr(info, name)) for name, *_ in info._fields_ if name != 'version'}
    profile['nvmlProfileIndex'] = index
    profile['placements'] = {'starts': [place.start for place in places], 'size': places[0].size}
    profiles.append(profile)
print(json.dumps({'device': answers, 'system': system, 'profiles': profiles}))
"""


@pytest.fixture
def answers(card: Any) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", PROBE, str(CAPTURE)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_answered_field_is_the_cards(answers: dict[str, Any]) -> None:
    real = json.loads(CAPTURE.read_text())
    device = real["devices"][0]
    answered = {name: value for name, value in answers["device"].items() if "FunctionNotFound" not in str(value)}
    wrong = {name: (value, device[name]) for name, value in answered.items() if value != device[name]}
    assert wrong == {}
    assert len(answered) >= 38, sorted(answered)
    assert answers["system"] == {name: real[name] for name in answers["system"]}


def test_profiles_are_the_cards(answers: dict[str, Any]) -> None:
    real = json.loads(CAPTURE.read_text())["devices"][0]["gpuInstanceProfiles"]
    assert answers["profiles"] == [{key: one[key] for key in answers["profiles"][0]} for one in real]
