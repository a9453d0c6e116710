"""Runs inside the guest: takes commands as JSON lines from a virtio-serial port and answers each.

Started with `python3 -S -E`: only the standard library, and as little of it as will do.
"""

import base64
import glob
import json
import os
import subprocess
import time

PORT_NAME = "tuneagent"


def port():
    """Path of the port of that name, once the driver is there."""
    while True:
        for folder in glob.glob("/sys/class/virtio-ports/*"):
            with open(folder + "/name") as handle:
                device = "/dev/" + os.path.basename(folder)
                if handle.read().strip() == PORT_NAME and os.path.exists(device):
                    return device
        time.sleep(0.1)


def answer(question):
    """Carry out one command: `run` a program, `put` a file, or tell `who` this boot is."""
    if question["op"] == "run":
        try:
            done = subprocess.run(
                question["argv"],
                input=question.get("stdin", "").encode(),
                capture_output=True,
                timeout=question["timeout_s"],
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            return {"code": 124, "out": "", "err": "timed out"}
        except OSError as error:
            return {"code": 127, "out": "", "err": str(error)}
        return {
            "code": done.returncode,
            "out": done.stdout.decode(errors="replace"),
            "err": done.stderr.decode(errors="replace"),
        }
    if question["op"] == "put":
        os.makedirs(os.path.dirname(question["path"]), exist_ok=True)
        with open(question["path"], "wb") as handle:
            handle.write(base64.b64decode(question["data"]))
        os.chmod(question["path"], question["mode"])
        return {"code": 0}
    with open("/proc/sys/kernel/random/boot_id") as handle:
        return {"code": 0, "boot_id": handle.read().strip()}


def main():
    """Answer until the guest stops."""
    descriptor = os.open(port(), os.O_RDWR | os.O_NOCTTY)
    pending = b""
    while True:
        piece = os.read(descriptor, 65536)
        if not piece:
            # Nobody is connected on the other side.
            time.sleep(0.05)
            continue
        pending += piece
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            try:
                question = json.loads(line)
            except ValueError:
                continue
            reply = json.dumps({"id": question.get("id"), **answer(question)}).encode() + b"\n"
            while reply:
                reply = reply[os.write(descriptor, reply) :]


if __name__ == "__main__":
    main()
