"""TuneD itself, without its daemon: applies or verifies the sections of a profile that we import.

Run by the system's own Python, which has TuneD's modules: `tuned_peer.py apply|verify PROFILE`. `apply` says APPLIED,
waits for its standard input to end, and rolls back.
"""

import sys

from tuned.daemon.application import Application

KINDS = ("sysctl", "sysfs", "vm", "cpu")


def main() -> None:
    mode, profile = sys.argv[1:]
    daemon = Application(profile)._daemon
    units = {name: unit for name, unit in daemon._profile.units.items() if unit.type in KINDS}
    manager = daemon._unit_manager
    manager.create(units)
    if mode == "verify":
        print("VERIFIED" if manager.verify_tuning(True) else "DIFFERS", flush=True)
        return
    manager.start_tuning()
    print("APPLIED", flush=True)
    sys.stdin.read()
    manager.stop_tuning()


if __name__ == "__main__":
    main()
