"""A hunt for `converged` that is not true: one boot file or running value of a tree is made wrong, and it must be seen.

A tree of a real machine is given values by a profile, and all that the next boot needs, so that settings are
`converged`. Then one thing is made wrong, in a way that is wrong beyond doubt.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support import PlayedPrograms, session_of, tree, write_tree
from tuneagent.contracts.report import Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.host.files import Files

THP = "sys/kernel/mm/transparent_hugepage"
# Settings that a tree of any machine can have: file, text before, and what a profile asks for.
SYSCTLS: dict[str, tuple[str, int]] = {
    "vm.swappiness": ("60", 7), "vm.stat_interval": ("1", 10), "vm.vfs_cache_pressure": ("100", 50), "vm.max_map_count": ("65530", 262144),
    "kernel.numa_balancing": ("1", 0), "kernel.pid_max": ("32768", 4194304), "kernel.nmi_watchdog": ("1", 0),
    "kernel.timer_migration": ("1", 0), "kernel.sched_autogroup_enabled": ("1", 0), "net.core.rmem_max": ("212992", 67108864),
    "net.core.somaxconn": ("4096", 65536), "net.ipv4.tcp_slow_start_after_idle": ("1", 0), "fs.aio-max-nr": ("65536", 1048576),
    "net.ipv4.conf.all.arp_ignore": ("0", 1), "vm.compaction_proactiveness": ("20", 0),
}  # fmt: skip
FILES = {
    f"{THP}/enabled": "[always] madvise never", f"{THP}/defrag": "always defer defer+madvise [madvise] never",
    f"{THP}/khugepaged/defrag": "1", "sys/kernel/mm/ksm/merge_across_nodes": "1",
    "sys/devices/virtual/workqueue/cpumask": "ff", "sys/module/nvme_core/parameters/io_timeout": "30",
    "proc/1/limits": "Max locked memory         8388608              8388608              bytes",
}  # fmt: skip
TUNE: dict[str, Any] = {
    "sysctl": {key: wanted for key, (_, wanted) in SYSCTLS.items()},
    "transparentHugepages": {"enabled": "madvise", "defrag": "defer+madvise"},
    "kernelFiles": {"ksmAcrossNodes": False},
    "moduleOptions": {"nvme_core.io_timeout": 120},
    "kernelArguments": {"skew_tick": True, "nowatchdog": True, "iommu": "pt"},
    "limits": {"memlock": "infinity"},
    "nvme": {"scheduler": "none", "readAheadKiB": 512},
    "pciPower": {"control": "on"},
    "hugepages": {"pages": [{"size": "2Mi", "perNumaNode": 4}]},
}
LINE = "root=/dev/sda1 ro"
MENU = "menuentry x {{\n\tlinux /vmlinuz {}\n}}\n"
FOLDERS = ("etc/sysctl.d", "etc/tmpfiles.d", "etc/modprobe.d", "etc/udev/rules.d", "etc/systemd/system", "etc/security/limits.d",
           "etc/default/grub.d", "etc/cron.d", "usr/lib/sysctl.d", "usr/lib/tmpfiles.d")  # fmt: skip


class Harm(NamedTuple):
    """What was made wrong, and the subjects that it touches."""

    told: str
    subjects: frozenset[str]


def prepared(source: Path | None, root: Path) -> HostTuner:
    """The tree with the settings of the profile, all applied, as after a reboot."""
    if source is not None:
        shutil.copytree(source, root, symlinks=True, dirs_exist_ok=True)
    files = {f"proc/sys/{key.replace('.', '/')}": f"{text}\n" for key, (text, _) in SYSCTLS.items()}
    files |= {path: f"{text}\n" for path, text in FILES.items()}
    files |= {
        "proc/cmdline": f"{LINE}\n", "boot/grub/grub.cfg": MENU.format(LINE), "etc/default/grub": 'GRUB_CMDLINE_LINUX=""\n',
        "usr/sbin/update-grub": "", "proc/1/mounts": "/dev/sda1 / ext4 rw 0 0\n",
    }  # fmt: skip
    for path in files:
        (root / path).unlink(missing_ok=True)
    for _, name in _drives(root):
        files |= {
            f"sys/block/{name}/queue/scheduler": "none [mq-deadline] kyber\n",
            f"sys/block/{name}/queue/read_ahead_kb": "128\n",
        }
    for path in (root / "sys/bus/pci/devices").glob("*/class"):
        files[str(path.parent.relative_to(root) / "power/control")] = "auto\n"
    write_tree(root, files, FOLDERS)
    session = session_of(tree(Files(str(root)), PlayedPrograms(root)), TUNE)
    outcomes = session.apply(limit=Disruption.REBOOT).outcomes
    assert {one.result for one in outcomes} == {"verified"}, outcomes
    # The reboot: the kernel's line is that of the menu, and processes have the new limit.
    line = next(
        one.split("linux /vmlinuz ")[1]
        for one in (root / "boot/grub/grub.cfg").read_text().splitlines()
        if "linux" in one
    )
    (root / "proc/cmdline").write_text(f"{line}\n")
    (root / "proc/1/limits").write_text("Max locked memory         unlimited            unlimited            bytes\n")
    (root / "sys/module/nvme_core/parameters/io_timeout").write_text("120\n")
    return session


def converged(session: HostTuner) -> set[str]:
    """Subjects that are said to be as wanted, now and after the next boot."""
    return {one.subject for one in session.observe().report.findings if one.verdict is Verdict.CONVERGED}


def harm(root: Path, dice: random.Random) -> Harm:
    """Make one thing wrong."""
    return dice.choice(list(HARMS))(root, dice)


def _wrong(key: str, dice: random.Random) -> int:
    return dice.choice([one for one in (0, 1, 3, 5, 9) if one != SYSCTLS[key][1]])


def _some_key(dice: random.Random) -> str:
    return dice.choice(list(SYSCTLS))


def _spelled(key: str, value: object, dice: random.Random) -> str:
    name = dice.choice((key, key.replace(".", "/"), f"-{key}"))
    equals = dice.choice(("=", " = ", "\t=\t"))
    return f"{dice.choice(('', '  '))}{name}{equals}{value}{dice.choice(('', '  ', ' # as it was'))}\n"


def _value_now(root: Path, dice: random.Random) -> Harm:
    key = _some_key(dice)
    path = root / f"proc/sys/{key.replace('.', '/')}"
    path.write_text(f"{_wrong(key, dice)}\n")
    return Harm(f"{path} is wrong now", frozenset({f"key:{key}"}))


def _file_now(root: Path, dice: random.Random) -> Harm:
    path, text, subject = dice.choice((
        (f"{THP}/enabled", "[always] madvise never", "thp:enabled"), (f"{THP}/enabled", "always madvise [never]", "thp:enabled"),
        (f"{THP}/defrag", "[always] defer defer+madvise madvise never", "thp:defrag"), ("sys/kernel/mm/ksm/merge_across_nodes", "1", "file:ksmAcrossNodes"),
        ("sys/module/nvme_core/parameters/io_timeout", "30", "option:nvme_core.io_timeout"),
        ("proc/1/limits", "Max locked memory         65536                65536                bytes", "limit:memlock"),
    ))  # fmt: skip
    (root / path).write_text(f"{text}\n")
    return Harm(f"{path} is wrong now", frozenset({subject}))


def _later_sysctl(root: Path, dice: random.Random) -> Harm:
    key = _some_key(dice)
    place = dice.choice(
        (
            "etc/sysctl.d/zzz-site.conf",
            "usr/lib/sysctl.d/zzzz.conf",
            "etc/sysctl.d/99-zzz.conf",
        )
    )
    write_tree(root, {place: _spelled(key, _wrong(key, dice), dice)})
    return Harm(f"{place} sets {key}", frozenset({f"key:{key}"}))


def _our_sysctl_changed(root: Path, dice: random.Random) -> Harm:
    key = _some_key(dice)
    path = root / "etc/sysctl.d/99-zz-tuneagent.conf"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(key)]
    if dice.random() < 0.5:
        lines.append(f"{key} = {_wrong(key, dice)}")
    path.write_text("\n".join(lines) + "\n")
    return Harm("our file of sysctl.d was edited", frozenset({f"key:{key}"}))


def _gone(root: Path, dice: random.Random) -> Harm:
    path, subjects = dice.choice((
        ("etc/sysctl.d/99-zz-tuneagent.conf", [f"key:{key}" for key in SYSCTLS]),
        ("etc/tmpfiles.d/00-00-tuneagent.conf", ["thp:enabled", "thp:defrag", "file:ksmAcrossNodes"]),
        ("etc/modprobe.d/zz-tuneagent.conf", ["option:nvme_core.io_timeout"]),
        ("etc/systemd/system.conf.d/zz-tuneagent.conf", ["limit:memlock"]),
    ))  # fmt: skip
    file = root / path
    how = dice.choice(("removed", "masked", "emptied"))
    file.unlink()
    if how == "masked":
        file.symlink_to("/dev/null")
    if how == "emptied":
        file.write_text("")
    return Harm(f"{path} was {how}", frozenset(subjects))


def _earlier_tmpfiles(root: Path, dice: random.Random) -> Harm:
    path, text, subject = dice.choice(
        (
            (f"{THP}/enabled", "always", "thp:enabled"),
            (f"{THP}/defrag", "always", "thp:defrag"),
            ("sys/kernel/mm/ksm/merge_across_nodes", "1", "file:ksmAcrossNodes"),
        )
    )
    kind = dice.choice(("w", "w", '"w"'))
    place = dice.choice(("etc/tmpfiles.d/00-0.conf", "usr/lib/tmpfiles.d/00-00-a.conf"))
    name = dice.choice((f"/{path}", f'"/{path}"', f"//{path}"))
    write_tree(root, {place: f"{kind} {name} - - - - {text}\n"})
    return Harm(f"{place} writes {path}", frozenset({subject}))


def _glob_of_tmpfiles(root: Path, dice: random.Random) -> Harm:
    place = dice.choice(("etc/tmpfiles.d/50-x.conf", "usr/lib/tmpfiles.d/zz.conf"))
    write_tree(root, {place: "w /sys/kernel/mm/transparent_hugepage/en* - - - - always\n"})
    return Harm(f"{place} writes a glob", frozenset({"thp:enabled"}))


def _other_module_option(root: Path, dice: random.Random) -> Harm:
    place = dice.choice(("etc/modprobe.d/zzz.conf", "usr/lib/modprobe.d/zzzz.conf"))
    gap = dice.choice((" ", "  ", " \\\n  "))
    write_tree(root, {place: f"options{gap}{dice.choice(('nvme_core', 'nvme-core'))}{gap}io_timeout=30\n"})
    return Harm(f"{place} sets the option", frozenset({"option:nvme_core.io_timeout"}))


def _kernel_line(root: Path, dice: random.Random) -> Harm:
    path = root / "boot/grub/grub.cfg"
    text = path.read_text()
    word, subject = dice.choice(
        (("skew_tick", "arg:skew_tick"), ("nowatchdog", "arg:nowatchdog"), ("iommu=pt", "arg:iommu"))
    )
    if dice.random() < 0.5 or "=" not in word:
        path.write_text(text.replace(f" {word}", ""))
        return Harm(f"{word} is not on the next line", frozenset({subject}))
    path.write_text(text.replace(word, f"{word} {word.partition('=')[0]}=0"))
    return Harm(f"{word} is given another value after it", frozenset({subject}))


def _kernel_line_of_others(root: Path, dice: random.Random) -> Harm:
    path = root / "boot/grub/grub.cfg"
    words, file, subject = dice.choice((
        ("nvme_core.io_timeout=30", None, "option:nvme_core.io_timeout"),
        ("transparent_hugepage=never", "etc/tmpfiles.d/00-00-tuneagent.conf", "thp:enabled"),
        ("numa_balancing=enable", "etc/sysctl.d/99-zz-tuneagent.conf", "key:kernel.numa_balancing"),
    ))  # fmt: skip
    path.write_text(path.read_text().replace(" root=/dev/sda1", f" root=/dev/sda1 {words}"))
    if file is not None:
        # What the line gives counts where no file sets it later.
        (root / file).unlink()
    return Harm(f"the next line has {words}", frozenset({subject}))


def _volatile(root: Path, dice: random.Random) -> Harm:
    mounts = dice.choice((
        "tmpfs / tmpfs rw 0 0\n", "/dev/sda1 / ext4 rw 0 0\ntmpfs /etc tmpfs rw 0 0\n",
        "tmpfs /run tmpfs rw 0 0\noverlay / overlay rw,lowerdir=/l,upperdir=/run/u,workdir=/run/w 0 0\n",
        "/dev/sda1 / ext4 rw 0 0\nnone /etc ramfs rw 0 0\n",
    ))  # fmt: skip
    (root / "proc/1/mounts").write_text(mounts)
    subjects = [f"key:{key}" for key in SYSCTLS] + ["thp:enabled", "thp:defrag", "file:ksmAcrossNodes"]
    return Harm(f"/etc does not last: {mounts!r}", frozenset(subjects))


def _script(root: Path, dice: random.Random) -> Harm:
    key = _some_key(dice)
    command = dice.choice((
        f"sysctl -w {key}={_wrong(key, dice)}", f"echo {_wrong(key, dice)} > /proc/sys/{key.replace('.', '/')}",
        f"/usr/sbin/sysctl -q {key}='{_wrong(key, dice)}'",
    ))  # fmt: skip
    place, text = dice.choice((
        ("etc/rc.local", f"#!/bin/sh\n{command}\n"), ("etc/rc.d/rc.local", f"#!/bin/sh\n{command}\n"),
        ("etc/cron.d/site", f"@reboot root {command}\n"), ("etc/crontab", f"*/5 * * * * root {command}\n"),
        ("var/spool/cron/crontabs/root", f"@reboot {command}\n"),
        ("etc/systemd/system/site.service", f"[Service]\nExecStart=/bin/sh -c \"{command}\"\n[Install]\nWantedBy=multi-user.target\n"),
    ))  # fmt: skip
    write_tree(root, {place: text})
    if place.endswith(".service"):
        write_tree(root, {"etc/systemd/system/multi-user.target.wants/site.service": text})
    (root / place).chmod(0o755)
    return Harm(f"{place}: {command}", frozenset({f"key:{key}"}))


def _limits(root: Path, dice: random.Random) -> Harm:
    place, text, subject = dice.choice((
        ("etc/security/limits.d/zzz.conf", "* - memlock 64\n", "login:memlock"), ("etc/security/limits.d/zzz.conf", "root hard memlock 64\n", "login:memlock"),
        ("etc/security/limits.conf", "@users - memlock 4096\n", "login:memlock"), ("etc/security/limits.d/10.conf", "jane soft memlock 64\n", "login:memlock"),
        ("etc/systemd/system.conf.d/zzz.conf", "[Manager]\nDefaultLimitMEMLOCK=64K\n", "limit:memlock"),
        ("usr/lib/systemd/system.conf.d/zzz.conf", "[Manager]\nDefaultLimitMEMLOCK=8M:8M\n", "limit:memlock"),
    ))  # fmt: skip
    write_tree(root, {place: text})
    return Harm(f"{place}: {text.strip()}", frozenset({subject}))


def _drives(root: Path) -> list[tuple[str, str]]:
    """PCI address and name of each NVMe drive."""
    found = sorted((root / "sys/bus/pci/devices").glob("*/nvme/nvme*/nvme*n1"))
    return [(path.parts[-4], path.name) for path in found]


def _later_rule(root: Path, dice: random.Random) -> Harm:
    drives = _drives(root)
    if not drives:
        return Harm("no drive", frozenset())
    address, name = dice.choice(drives)
    match = dice.choice((f'KERNEL=="{name}"', 'KERNEL=="nvme*n*"', 'SUBSYSTEM=="block", ACTION=="add|change"', f'KERNELS=="{address}"',
                         'ATTR{queue/nothing}!="1", SUBSYSTEM=="block"', 'ENV{ID_MODEL}=="x"', 'PROGRAM=="/bin/true"'))  # fmt: skip
    if "nothing" in match:
        return Harm("a rule that never holds", frozenset())
    text = f'{match}, ATTR{{queue/scheduler}}="mq-deadline"\n'
    place = dice.choice(("etc/udev/rules.d/99-zzz.rules", "usr/lib/udev/rules.d/99-zzzz.rules"))
    write_tree(root, {place: text})
    return Harm(f"{place}: {text}", frozenset({f"nvme:{address}/ns1/scheduler"}))


def _our_rules_gone(root: Path, dice: random.Random) -> Harm:
    path = root / "etc/udev/rules.d/99-zz-tuneagent.rules"
    subjects = [
        f"nvme:{address}/ns1/{field}" for address, _ in _drives(root) for field in ("scheduler", "read_ahead_kib")
    ]
    how = dice.choice(("removed", "masked", "edited"))
    text = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    if how == "masked":
        path.symlink_to("/dev/null")
    if how == "edited":
        path.write_text(text.replace("ATTR{queue/scheduler}", "ATTR{queue/sched}").replace('"512"', '"256"'))
    return Harm(f"our rules were {how}", frozenset(subjects))


def _pages(root: Path, dice: random.Random) -> Harm:
    pools = sorted((root / "sys/devices/system/node").glob("node*/hugepages/hugepages-2048kB/nr_hugepages"))
    if not pools:
        return Harm("no node", frozenset())
    pool = dice.choice(pools)
    subjects = frozenset({f"node:{pool.parts[-4].removeprefix('node')}/2048"})
    if dice.random() < 0.5:
        pool.write_text(f"{dice.choice((0, 3, 5))}\n")
        return Harm(f"{pool} is wrong now", subjects)
    path = str(pool.relative_to(root))
    write_tree(root, {"etc/tmpfiles.d/00-0.conf": f"w /{path} - - - - {dice.choice((0, 3, 9))}\n"})
    return Harm(f"tmpfiles.d writes {path}", subjects)


def _unreadable_value(root: Path, dice: random.Random) -> Harm:
    key = _some_key(dice)
    path = root / f"proc/sys/{key.replace('.', '/')}"
    how = dice.choice(("gone", "empty", "garbage", "bytes"))
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "garbage": b"garbage\n", "bytes": b"\xff\xfe\n"}[how])
    return Harm(f"{path} is {how}", frozenset({f"key:{key}"}))


HARMS: tuple[Callable[[Path, random.Random], Harm], ...] = (
    _value_now, _file_now, _later_sysctl, _our_sysctl_changed, _gone, _earlier_tmpfiles, _glob_of_tmpfiles, _other_module_option,
    _kernel_line, _kernel_line_of_others, _volatile, _script, _limits, _unreadable_value, _later_rule, _our_rules_gone, _pages,
)  # fmt: skip


def untrue(source: Path | None, folder: Path, seed: int, count: int) -> Iterator[str]:
    """Harms that were not seen, of `count` trees."""
    root = folder / "harmed"
    whole = converged(prepared(source, root))
    kept = folder / "kept"
    _copy(root, kept)
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        done = harm(root, dice)
        while not done.subjects & whole:
            # This machine has no such device, or has had it wrong before.
            done = harm(root, dice)
        found = converged(session_of(tree(Files(str(root)), PlayedPrograms(root)), TUNE))
        if done.subjects & found:
            yield f"{seed} {number}: {done.told}: {sorted(done.subjects & found)}"
        _copy(kept, root)


def _copy(source: Path, target: Path) -> None:
    """What a harm may change: folders of configuration, and the files of values. Trees of large machines have many more."""
    for name in ("etc", "boot", "run", "usr", "var", "proc/1"):
        shutil.rmtree(target / name, ignore_errors=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, symlinks=True)
    pools = [
        str(path.relative_to(source))
        for path in (source / "sys/devices/system/node").glob("node*/hugepages/*/nr_hugepages")
    ]
    paths = [f"proc/sys/{key.replace('.', '/')}" for key in SYSCTLS] + [*FILES, *pools]
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target / path)
