"""Fuzz target of every parser that reads a host's files: it may answer or refuse, never fail in another way.

    python tests/fuzz/parsers.py [SECONDS]

With atheris installed it is guided by coverage; without it, by mutations of the seeds below.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "agent"))

from tuneagent.checks.environment import _conf
from tuneagent.engine.journal_lines import decode
from tuneagent.errors import TuneError
from tuneagent.formats import kernel_line, pci_config
from tuneagent.formats.cpulist import parse_cpulist, parse_cpumask
from tuneagent.formats.yaml_document import load_yaml
from tuneagent.host.machine import tree_host
from tuneagent.interop.tuned_file import parse as parse_tuned
from tuneagent.persist import sysctl_d, tmpfiles_d
from tuneagent.persist.own_files import read_notes
from tuneagent.profile_files.document import parse
from tuneagent.share.redaction import Pseudonyms, Redactor
from tuneagent.tunables.irq_affinity import actions_of

FILTERED = (
    "proc/cmdline", "proc/cpuinfo", "proc/mounts", "proc/sys/vm/x", "sys/x", "etc/sysctl.d/x", "etc/tmpfiles.d/x",
    "etc/modprobe.d/x", "etc/udev/rules.d/x", "etc/systemd/x", "etc/security/limits.conf", "etc/default/grub",
    "boot/grub/grub.cfg", "etc/tuneagent/kernel-arguments", "etc/fstab", "etc/nccl.conf", "etc/os-release",
    "etc/containerd/config.toml", "var/lib/kubelet/config.yaml", "var/lib/kubelet/cpu_manager_state", "etc/unknown",
    "sys/bus/pci/devices/x/config",
)  # fmt: skip


def redacted(data: bytes) -> None:
    """Every filter of captures; a word that is long and random comes out of none of those for people's files."""
    redactor = Redactor(Pseudonyms(NOBODY, enabled=True))
    for path in FILTERED:
        redactor.content(path, data)
        kept = redactor.content(path, data + b" " + SECRET + b"\n")
        assert SECRET not in kept or path.startswith(("proc/", "sys/")), path
    redactor.answer('["dmesg"]', data.decode(errors="replace"))
    redactor.answer('["systemctl"]', data.decode(errors="replace"))


TEXT: tuple[Callable[[str], object], ...] = (
    parse_cpulist,
    parse_cpumask,
    kernel_line.split_line,
    lambda text: kernel_line.values_of(text, "isolcpus"),
    sysctl_d.parse,
    tmpfiles_d.parse,
    read_notes,
    actions_of,
    _conf,
    lambda text: parse_tuned(text, "fuzz"),
    lambda text: parse(load_yaml(text, "fuzz")),
)
BYTES: tuple[Callable[[bytes], object], ...] = (
    redacted,
    pci_config.device_control,
    pci_config.redirects_requests,
    decode,
)
NOBODY = tree_host(tempfile.gettempdir())
SECRET = b"kq7Zp3vXw9Lm2Rt8Yb5Nc4Hd6Gf1Js0A"
SEEDS = (
    b"[plugins.x]\n SystemdCgroup = true\n a = '''", b"options nvidia NVreg_X=1 psk=", b"GRUB_CMDLINE_LINUX='ro isolcpus=1",
    b"cpuManagerPolicy: static\nfeatureGates: {a: true}\n", b"linux /vmlinuz ro quiet", b"/dev/sda none swap sw",
    b"0-3,8,10-14:2", b"ff,00000001", b'quiet isolcpus="1-3" --', b"-vm.swappiness = 10\nnet/ipv4/tcp_rmem=1 2 3",
    b"w! /sys/x - - - - 1", b"# tuneagent: a b", b" 34: 1 2 PCI-MSI 524288-edge nvme0q0", b"[sysctl]\na=>b",
    b"apiVersion: tuneagent.dev/v1alpha1\nkind: TuningProfile\nmetadata: {name: a}\nspec: {tune: {}}",
    bytes(6) + b"\x10" + bytes(45) + b"\x40" + bytes(11) + b"\x10\x00" + bytes(200),
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Hand the same bytes to every parser."""
    for parser in BYTES:
        try:
            parser(data)
        except (ValueError, TuneError):
            continue
    text = data.decode(errors="replace")
    for reader in TEXT:
        try:
            reader(text)
        except (ValueError, TuneError):
            continue


def main() -> None:
    """Run for the seconds given, 30 by default."""
    try:
        import atheris
    except ImportError:
        seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
        end, count, rng = time.monotonic() + seconds, 0, random.Random()
        while time.monotonic() < end:
            data = bytearray(rng.choice(SEEDS))
            for _ in range(rng.randint(0, 8)):
                place = rng.randrange(len(data) + 1)
                data[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
            one_input(bytes(data))
            count += 1
        print(f"{count} inputs, none fails a parser")
        return
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
