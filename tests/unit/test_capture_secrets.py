"""What leaves a host: nothing that was planted, and all that an audit needs."""

from __future__ import annotations

import io
import re
import stat
import tarfile
from pathlib import Path

import msgspec
import pytest
from cases import CASES, load, name_of, session_of_case
from click.testing import CliRunner
from support import session_of, tree, write_tree
from tuneagent.capture import take, unpack
from tuneagent.cli import cli
from tuneagent.commands.settings import load_profile
from tuneagent.host import Files
from tuneagent.model import Report
from tuneagent.redaction.pseudonyms import blank
from tuneagent.session import Session
from tuneagent.support import bundle
from tuneagent.tunables import registry

# Every planted word holds one of these; so does everything that names this host or someone on it.
MARKERS = re.compile(
    rb"HUSH|hush|gw-17|example\.org|10\.(31|32|33)\.|2001:db8:5ec|fd12:|de:ad:be:ef|c0ffee00c0ffee00|4c4c4544"
)
FILES = {
    "proc/sys/kernel/hostname": "gw-17\n",
    "proc/cmdline": (
        "BOOT_IMAGE=/vmlinuz root=UUID=4c4c4544-0000-3510-8052-b4c04f4e3532 ro isolcpus=2-3 apikey=HUSH1 my_secret=HUSH2 "
        "--token HUSH3 pw:HUSH4 ds=nocloud;s=http://u:HUSH5@10.31.1.1/ ip=10.31.0.4::10.31.0.1:255.255.255.0:gw-17.example.org "
        "rd.iscsi.password=HUSH6 nfsroot=[2001:db8:5ec::7]:/r rd.luks.key=HUSH7 nvidia.NVreg_X=HUSH8 HUSH9 transparent_hugepage=never\n"
    ),
    "proc/mounts": (
        "/dev/vda / ext4 rw,relatime 0 0\n//nas.example.org/s /mnt cifs rw,username=hush,password=HUSH,addr=10.32.1.1 0 0\n"
        "fs.example.org:/x /data nfs4 rw,nconnect=8,addr=2001:db8:5ec::9,clientaddr=10.33.0.1 0 0\n"
    ),
    "proc/cpuinfo": "processor : 0\nvendor_id : GenuineIntel\nflags : fpu vme hypervisor\nSerial : HUSHCPU\n",
    "proc/sys/vm/swappiness": "60\n",
    "proc/sys/net/ipv4/tcp_fastopen_key": "c0ffee00-c0ffee00-c0ffee00-HUSH\n",
    "etc/sysctl.d/10-a.conf": "# password HUSH\nvm.swappiness = 10 # hush\nnet.ipv4.tcp_fastopen_key = HUSHKEY\nkernel.core_pattern=|/bin/HUSH\n",
    "etc/modprobe.d/w.conf": "options wl psk=HUSH user=hush\noptions nvidia NVreg_EnableStreamMemOPs=1 NVreg_X=HUSH\ninstall foo /bin/sh -c HUSH\n",
    "etc/tmpfiles.d/a.conf": "w /run/x - - - - HUSH\nw /sys/kernel/mm/transparent_hugepage/enabled - - - - never\nf /etc/p 0600 root root - HUSH\n",
    "etc/default/grub": 'GRUB_CMDLINE_LINUX="quiet my_token=HUSH rd.luks.key=HUSH2"\nGRUB_PASSWORD=HUSH\n',
    "boot/grub/grub.cfg": "password_pbkdf2 root grub.pbkdf2.sha512.10000.HUSH\n linux /vmlinuz root=/dev/vda secret_pw=HUSH ro\n",
    "etc/containerd/config.toml": (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]\n  SystemdCgroup = true\n'
        '[plugins."io.containerd.grpc.v1.cri".registry.configs."reg.example.org".auth]\n  username = "hush"\n  token = "HUSH"\n'
        '  x = """\n  SystemdCgroup = HUSH\n  """\n  Authorization = ["Bearer HUSH"]\n[proxy]\n HTTPS_PROXY = "http://b:HUSH@p.example.org:1"\n'
    ),
    "var/lib/kubelet/config.yaml": (
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncpuManagerPolicy: static\nproviderID: aws:///r/i-HUSH\n"
        "staticPodURLHeader: {Authorization: [Bearer HUSH]}\nclusterDNS: ['10.33.0.10', 'fd12:3::a']\nnodeIP: 10.33.5.5\n"
    ),
    "var/lib/kubelet/cpu_manager_state": '{"policyName":"static","defaultCpuSet":"0","entries":{"HUSH":{"hush":"1"}},"checksum":1}\n',
    "etc/nccl.conf": "NCCL_DEBUG=INFO\nNCCL_COMM_ID=10.31.9.9:50\nNCCL_TOKEN=HUSH\nAWS_SECRET_ACCESS_KEY=HUSH\n",
    "etc/fstab": "//nas.example.org/s /mnt cifs username=hush,password=HUSH 0 0\n/dev/vda2 none swap sw 0 0\n",
    "etc/security/limits.d/u.conf": "hush - memlock unlimited\n* - nofile 65536\n",
    "etc/systemd/system/irqbalance.service.d/x.conf": "[Service]\nEnvironment=API=HUSH\nEnvironment=IRQBALANCE_BANNED_CPULIST=2-3\n",
    "etc/systemd/system.conf.d/y.conf": "[Manager]\nDefaultLimitMEMLOCK=infinity\nDefaultEnvironment=T=HUSH\n",
    "etc/udev/rules.d/99-zzz.rules": 'SUBSYSTEM=="net", ATTR{address}=="de:ad:be:ef:00:01", ATTR{queue/scheduler}="none", NAME="hush0"\n',
    "sys/class/net/eth0/address": "de:ad:be:ef:00:01\n",
    "sys/module/wl/parameters/psk": "HUSHHUSH\n",
    "etc/os-release": 'NAME="Debian"\nID=debian\nHOME_URL="https://hush.example.org"\n',
}  # fmt: skip
TUNE = {
    "sysctl": {"vm.swappiness": 10, "net.ipv4.tcp_fastopen_key": "HUSH"},
    "moduleOptions": {"nvidia.NVreg_EnableStreamMemOPs": 1},
    "kernelArguments": {"isolcpus": "2-3", "transparent_hugepage": "never"},
    "limits": {"memlock": "infinity"},
    "swap": {"enabled": False},
}


def planted(root: Path) -> Session:
    write_tree(root, FILES, ["etc/default/grub.d", "boot/grub"])
    return session_of(tree(Files(str(root))), {**load_profile(None, "training").spec.tune, **TUNE}, "planted")


def members(data: bytes) -> dict[str, bytes]:
    """Every member of an archive, those of a capture inside it too."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            content = stream.read() if stream else b""
            if member.name.endswith("capture.tar.gz"):
                found.update({f"{member.name}/{name}": inner for name, inner in members(content).items()})
            else:
                found[member.name] = content
    return found


def leaks(data: bytes) -> list[str]:
    found = []
    for name, content in members(data).items():
        for match in MARKERS.finditer(name.encode() + b"\n" + content):
            found.append(f"{name}: {content[max(match.start() - 60, 0) : match.end() + 20]!r}")
    return found


def verdicts(report: Report) -> dict[tuple[str, str], str]:
    return {
        (one.tunable, re.sub(r"^gpu:GPU-[^/]+", "gpu:*", one.subject)): one.verdict.value for one in report.findings
    }


def test_nothing_that_was_planted_leaves_in_a_capture_or_a_bundle(tmp_path: Path) -> None:
    session = planted(tmp_path / "tree")
    session.apply(only=("sysctl",), replace=True)
    capture = take(session.host, [session.profile], registry(), identifiers=False)
    assert leaks(capture) == []
    assert leaks(bundle(session, [session.profile], registry(), identifiers=False)) == []
    # With identifiers, names and addresses stay; secrets do not.
    kept = take(session.host, [session.profile], registry(), identifiers=True)
    assert b"gw-17" in b"".join(members(kept).values())
    assert not [leak for leak in leaks(kept) if re.search(r"HUSH", leak)]


def test_a_capture_of_it_audits_like_its_machine(tmp_path: Path) -> None:
    session = planted(tmp_path / "tree")
    archive = tmp_path / "capture.tar.gz"
    archive.write_bytes(take(session.host, [session.profile], registry(), identifiers=False))
    host = unpack(str(archive), str(tmp_path / "unpacked"))
    copy = Session(host, host.files, session.folder, session.profile)
    assert verdicts(copy.audit()) == verdicts(session.audit())
    mounts = host.files.read("proc/mounts")
    # The same host twice is the same pseudonym, and what a row reads is there.
    assert "nconnect=8" in mounts and "/data nfs4" in mounts
    assert "SystemdCgroup = true" in host.files.read("etc/containerd/config.toml")


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_a_capture_of_every_case_audits_like_the_case(path: Path, tmp_path: Path) -> None:
    session = session_of_case(load(path), path, tmp_path / "tree")
    archive = tmp_path / "capture.tar.gz"
    archive.write_bytes(take(session.host, [session.profile], session.registry, identifiers=False))
    host = unpack(str(archive), str(tmp_path / "unpacked"))
    copy = Session(host, host.files, session.folder, session.profile)
    assert verdicts(copy.audit()) == verdicts(session.audit())


@pytest.mark.parametrize("command", ["capture", "support-bundle"])
def test_what_is_written_is_for_its_owner_alone(command: str, tmp_path: Path) -> None:
    planted(tmp_path / "tree")
    output = tmp_path / "out.tar.gz"
    output.write_bytes(b"")
    output.chmod(0o644)
    done = CliRunner().invoke(cli, ["--root", str(tmp_path / "tree"), command, str(output)])
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_what_stands_for_a_value_says_its_kind_and_length() -> None:
    assert blank("http://u:p@h/") == "redacted-url-13"
    assert blank("deadbeefdeadbeef") == "redacted-hex-16"
    assert blank("secret words") == "redacted-text-12"
    assert blank("/etc/x") == "redacted-path-6"


def test_a_device_serial_number_in_pci_configuration_space_is_zeroed() -> None:
    from tuneagent.redaction.rules import _without_serial

    space = bytearray(4096)
    space[0:2] = b"\xde\x10"
    space[0x100:0x104] = (0x0002 | 1 << 16 | 0x140 << 20).to_bytes(4, "little")
    space[0x140:0x14C] = (0x0003 | 1 << 16).to_bytes(4, "little") + b"SERIALNO"
    kept = _without_serial(bytes(space))
    assert b"SERIALNO" not in kept and kept[:0x144] == bytes(space[:0x144])
    assert _without_serial(b"") == b"" and _without_serial(bytes(space[:64])) == bytes(space[:64])


def test_the_manifest_names_no_host(tmp_path: Path) -> None:
    session = planted(tmp_path / "tree")
    write_tree(tmp_path / "tree", {"boot/loader/entries/c0ffee00c0ffee00c0ffee00c0ffee00-6.1.conf": "options ro\n"})
    found = members(take(session.host, [session.profile], registry(), identifiers=False))
    manifest = msgspec.json.decode(found["manifest.json"])
    assert manifest["identifiers"] is False
    assert not [name for name in found if "c0ffee" in name]
