"""What TuneD's own loader makes of profiles: started by Debian's Python, which has its modules.

Reads a JSON list of [FOLDER, PROFILE] and prints a list of {unit: {option: value}}, null where it refuses.
"""

import json
import logging
import sys

import tuned.logs

logging.disable(logging.CRITICAL)
tuned.logs.get()

import tuned.profiles  # noqa: E402
import tuned.profiles.variables  # noqa: E402
from tuned.profiles.exceptions import InvalidProfileException  # noqa: E402


def loaded(folder: str, name: str):
    locator = tuned.profiles.Locator([f"{folder}/usr/lib/tuned", f"{folder}/etc/tuned"])
    variables = tuned.profiles.variables.Variables()
    loader = tuned.profiles.Loader(locator, tuned.profiles.Factory(), tuned.profiles.Merger(), None, variables)
    try:
        profile = loader.load([name])
    except InvalidProfileException:
        return None
    units = {}
    for unit in profile.units.values():
        found = {"_type": unit.type, "_enabled": unit.enabled, "_devices": unit.devices}
        for key in ("cpuinfo_regex", "uname_regex"):
            if getattr(unit, key) is not None:
                found[f"_{key}"] = getattr(unit, key)
        units[unit.name] = found | {
            key: variables.expand(value) for key, value in unit.options.items() if key != "script"
        }
    return {"summary": profile.options.get("summary", ""), "units": units}


print(json.dumps([loaded(*one) for one in json.load(sys.stdin)]))
