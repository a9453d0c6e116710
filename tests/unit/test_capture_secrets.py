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
from hypothesis import given
from hypothesis import strategies as st
from support import session_of, tree, write_tree
from tuneagent.commands.main import cli
from tuneagent.commands.settings import load_profile
from tuneagent.commands.share import views
from tuneagent.contracts.report import Report
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.host.files import Files
from tuneagent.host.state_folder import StateFolder
from tuneagent.share.bundle import bundle
from tuneagent.share.capture import take, unpack
from tuneagent.share.redaction.pseudonyms import Pseudonyms, blank
from tuneagent.tunables.registry import registry

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
        'BinaryName = "/opt/hush/HUSH"\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.HUSH]\nruntime_type = "HUSH"\n'
        '[plugins."io.containerd.grpc.v1.cri".registry.configs."reg.example.org".auth]\n  username = "hush"\n  token = "HUSH"\n'
        '  x = """\n  SystemdCgroup = HUSH\n  """\n  Authorization = ["Bearer HUSH"]\n[proxy]\n HTTPS_PROXY = "http://b:HUSH@p.example.org:1"\n'
    ),
    "etc/rc.local": "#!/bin/sh\n# HUSH\nexport TOKEN=HUSH; sysctl -w vm.swappiness=60 kernel.HUSH=1\ncurl -u hush:HUSH https://x\n",
    "etc/cron.hourly/hush": "#!/bin/sh\n/opt/hush/hush.sh HUSH\n",
    "opt/hush/hush.sh": "#!/bin/sh\nTOKEN=HUSH\nsysctl -w vm.swappiness=60\n",
    "etc/init.d/hush": "#!/bin/sh\nHUSH vm.stat_interval\n",
    "etc/rc3.d/S99hush": "",
    "etc/cloud/cloud.cfg.d/hush.cfg": "password: HUSH\nbootcmd: [sysctl -w vm.swappiness=60]\n",
    "etc/cron.d/hush-job": "@reboot HUSH echo HUSH > /sys/kernel/mm/transparent_hugepage/enabled\n",
    "etc/systemd/system/hush.service": "[Service]\nEnvironment=TOKEN=HUSH\nExecStart=/opt/hush-x --key HUSH vm.stat_interval\n",
    "etc/udev/rules.d/60-hush.rules": (
        'KERNEL=="HUSH", GOTO="hush"\nENV{HUSH}=="HUSH", ATTR{power/control}="auto"\nPROGRAM="/opt/HUSH", ATTR{power/control}="HUSH"\n'
        'RUN+="/opt/HUSH control"\nLABEL="hush"\n'
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
# What a second look found: beside and behind what is kept, in names, and where a host is named in full.
BESIDE = {
    **FILES,
    "proc/sys/kernel/hostname": "gw-17.example.org\n",
    "proc/cmdline": (
        "BOOT_IMAGE=/vmlinuz-hush1 root=/dev/mapper/rhel_gw-17-root resume=/dev/disk/by-id/nvme-HUSH ro console=HUSH= "
        "crashkernel=HUSH.x module_blacklist=hush security=Bearer:HUSH nvme_core.dhchap_secret=DHHC-1:00:HUSH: isolcpus=2-3 -- HUSH\n"
    ),
    "proc/mounts": (
        "/dev/mapper/rhel_gw-17-root / xfs rw 0 0\nhush-tag /home/hush virtiofs rw,uid=hush 0 0\n"
        "tmpfs /run/user/1000/hush tmpfs rw,size=HUSH 0 0\nx /mnt/hush.example.org nfs4 rw,nconnect=8 0 0\n"
    ),
    "proc/swaps": "Filename Type Size Used Priority\n/home/hush/swap file 100 0 -2\n",
    "proc/driver/nvidia/params": 'EnableMSI: 1\nRegistryDwords: "HUSH"\nTemporaryFilePath: "/home/hush"\n',
    "sys/class/infiniband/mlx5_0/node_desc": "gw-17 HCA-1\n",
    "dev/rhel_gw-17/root": "",
    "dev/hush-vg/root": "",
    "dev/nvidiactl": "",
    "etc/sysctl.d/90-gw-17.conf": "vm.swappiness = 10\nnet.hush.* = 1\nnet.ipv4.tcp_fastopen_key = 31337313-HUSH\n",
    "etc/sysctl.d/hush.conf": "vm.swappiness = 20\n",
    "etc/udev/rules.d/99-zzz.rules": (
        'ACTION=="add", ATTR{queue/scheduler}="none", ENV{PW} = "HUSH1"  # hush HUSH2\n'
        'ATTR{queue/scheduler}="none", PROGRAM=e"/bin/curl -u hush:HUSH"\n# ATTR{x}="1" HUSH\nATTR{password}="HUSH"\n'
    ),
    "etc/tmpfiles.d/hush.conf": (
        "w /sys/module/wl/parameters/psk - - - - HUSH\nw /sys/kernel/config/iscsi/auth/password 0600 hush hush - HUSH\n"
        "w /sys/kernel/mm/ksm/run 0600 hush hush - HUSH\n"
    ),
    "etc/modprobe.d/w.conf": "alias hush HUSH\nsoftdep hush pre: HUSH\noptions nvidia NVreg_EnableStreamMemOPs=1 # HUSH\n",
    "etc/containerd/config.toml": (
        'version = 2 # HUSH\n[plugins."io.containerd.HUSH"]\nruntime_type = "HUSH"\nimports = ["/etc/hush/x"]\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]\n  SystemdCgroup = true # HUSH hush\n'
    ),
    "var/lib/kubelet/config.yaml": (
        "cpuManagerPolicy: static\nmaxPods: 2024-01-01\nfeatureGates: {HUSH: true}\nkubeReserved: {token: HUSH, cpu: 1}\n"
        "evictionHard: {memory.available: 1Gi, pw: HUSH}\n"
    ),
    "etc/nccl.conf": "NCCL_P2P_DISABLE=1\nNCCL_ALGO=HUSHx\nHUSH\n",
    "etc/systemd/system.conf.d/hush.conf": "[Hush]\nDefaultLimitNOFILE=65536\nDefaultLimitSTACK=HUSH\n",
    "etc/os-release": 'NAME="HUSH 1"\nID=debian\n',
    "boot/grub/grub.cfg": "linux /boot/vmlinuz-hush root=/dev/disk/by-id/wwn-HUSH ro isolcpus=2-3\n",
}  # fmt: skip
# Trees whose capture must say what they say, though much of them is somebody's own.
SAME: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "words of the kernel": (
        {"proc/sys/net/core/default_qdisc": "sfq\n", "etc/sysctl.d/a.conf": "net.core.default_qdisc=sfq\n"},
        {"sysctl": {"net.core.default_qdisc": "sfq"}},
    ),
    "order of files": (
        {
            "proc/sys/kernel/hostname": "zz9\n",
            "proc/sys/vm/swappiness": "10\n",
            "etc/sysctl.d/a7.conf": "vm.swappiness=70\n",
            "etc/sysctl.d/m.conf": "vm.swappiness=60\n",
            "etc/sysctl.d/zz9.conf": "vm.swappiness=10\n",
        },
        {"sysctl": {"vm.swappiness": 10}},
    ),
    "addresses as names": (
        {
            "proc/sys/vm/swappiness": "10\n",
            "etc/sysctl.d/90.conf": "vm.swappiness=60\n",
            "etc/sysctl.d/95.1.2.3.conf": "vm.swappiness=10\n",
        },
        {"sysctl": {"vm.swappiness": 10}},
    ),
    "a module of the kernel": (
        {"sys/module/zswap/parameters/enabled": "Y\n", "etc/modprobe.d/z.conf": "options zswap enabled=1\n"},
        {"moduleOptions": {"zswap.enabled": 1}},
    ),
    "arguments kept in grubenv": (
        {
            "usr/sbin/grubby": "x",
            "boot/loader/entries/4c4c45440000351080520000deadbeef-6.1.conf": "version 6.1\noptions $kernelopts quiet\n",
            "boot/grub2/grubenv": "saved_entry=4c4c45440000351080520000deadbeef-6.1\nkernelopts=root=/dev/vda ro iommu=pt\n",
            "proc/cmdline": "root=/dev/vda ro iommu=pt\n",
        },
        {"kernelArguments": {"iommu": "pt"}},
    ),
    "menus of GRUB": (
        {
            "boot/grub/grub.cfg": 'if [ -s $prefix/grubenv ]; then\n load_env\nfi\nset default="${saved_entry}"\n'
            "menuentry 'hush one' --id one { linux /vmlinuz ro iommu=off }\n"
            "submenu 'hush more' $menuentry_id_option 'more' {\n menuentry 'hush two' { linux /vmlinuz ro iommu=off }\n"
            "  menuentry 'hush three' { echo hush; linux /vmlinuz ro iommu=pt }\n}\n",
            "boot/grub/grubenv": "saved_entry=hush more>hush three\n",
            "proc/cmdline": "ro iommu=pt\n",
            "etc/default/grub": "",
        },
        {"kernelArguments": {"iommu": "pt"}},
    ),
    "quotes in a comment": (
        {"etc/containerd/config.toml": 'version = 2\n# not """ here\n[runtimes.nvidia.options]\n  SystemdCgroup = true\n'},
        {"checks": {"runtimeSystemdCgroup": True}},
    ),
    "no setting that is known": (
        {"etc/containerd/config.toml": 'root = "/var/lib/containerd"\n', "etc/nccl.conf": "nothing here\n"},
        {"checks": {"runtimeSystemdCgroup": True, "noNcclDebugSettings": True}},
    ),
}  # fmt: skip
TUNE = {
    "sysctl": {"vm.swappiness": 10, "net.ipv4.tcp_fastopen_key": "HUSH"},
    "moduleOptions": {"nvidia.NVreg_EnableStreamMemOPs": 1},
    "kernelArguments": {"isolcpus": "2-3", "transparent_hugepage": "never"},
    "limits": {"memlock": "infinity"},
    "swap": {"enabled": False},
}


def planted(root: Path, files: dict[str, str] = FILES) -> HostTuner:
    write_tree(root, files, ["etc/default/grub.d", "boot/grub"])
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


@pytest.mark.parametrize("files", [FILES, BESIDE], ids=["first look", "second look"])
def test_nothing_that_was_planted_leaves_in_a_capture_or_a_bundle(files: dict[str, str], tmp_path: Path) -> None:
    session = planted(tmp_path / "tree", files)
    session.apply(only=("sysctl",), over_other=True)
    capture = take(session.host, [session.profile], registry(), identifiers=False)
    assert leaks(capture) == []
    assert leaks(bundle(session, [session.profile], registry(), views(), identifiers=False)) == []
    # With identifiers, names and addresses stay; secrets do not.
    kept = take(session.host, [session.profile], registry(), identifiers=True)
    assert b"gw-17" in b"".join(members(kept).values())
    assert not [leak for leak in leaks(kept) if re.search(r"HUSH", leak)]


def test_a_capture_of_it_audits_like_its_machine(tmp_path: Path) -> None:
    session = planted(tmp_path / "tree")
    archive = tmp_path / "capture.tar.gz"
    archive.write_bytes(take(session.host, [session.profile], registry(), identifiers=False))
    host = unpack(str(archive), str(tmp_path / "unpacked"))
    copy = HostTuner(host, StateFolder(host.files, session.state.folder), session.profile)
    assert verdicts(copy.observe().report) == verdicts(session.observe().report)
    mounts = host.files.read("proc/mounts")
    # The same host twice is the same pseudonym, and what a row reads is there.
    assert "nconnect=8" in mounts and "/data nfs4" in mounts
    assert "SystemdCgroup = true" in host.files.read("etc/containerd/config.toml")


def same_verdicts(session: HostTuner, folder: Path) -> None:
    archive = folder / "capture.tar.gz"
    archive.write_bytes(take(session.host, [session.profile], session.registry, identifiers=False))
    host = unpack(str(archive), str(folder / "unpacked"))
    copy = HostTuner(host, StateFolder(host.files, session.state.folder), session.profile)
    found, wanted = verdicts(copy.observe().report), verdicts(session.observe().report)
    # A row named after a path is named after what stands for it.
    assert sorted(found.values()) == sorted(wanted.values())
    assert {key: one for key, one in found.items() if "/" not in key[1]} == {
        key: one for key, one in wanted.items() if "/" not in key[1]
    }


def test_a_capture_of_the_second_look_audits_like_its_machine(tmp_path: Path) -> None:
    same_verdicts(planted(tmp_path / "tree", BESIDE), tmp_path)


@pytest.mark.parametrize("name", SAME)
def test_what_is_taken_out_changes_no_verdict(name: str, tmp_path: Path) -> None:
    files, tune = SAME[name]
    write_tree(
        tmp_path / "tree", {"proc/sys/kernel/random/boot_id": "b0\n", **files}, ["etc/sysctl.d", "etc/tuneagent"]
    )
    same_verdicts(session_of(tree(Files(str(tmp_path / "tree"))), tune, "same"), tmp_path)


@given(st.sets(st.text("abz019-._+", min_size=1, max_size=9).map(lambda text: f"{text}.conf"), max_size=12))
def test_names_of_files_keep_their_order(names: set[str]) -> None:
    pseudonyms = Pseudonyms(tree(Files("/nonexistent")), enabled=True)
    stands = pseudonyms.file_names(names)
    after = [stands.get(name, name) for name in sorted(names)]
    assert after == sorted(after) and len(set(after)) == len(names)


def test_a_bundle_says_no_name_that_people_gave(tmp_path: Path) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n", "proc/sys/kernel/hostname": "gw-17\n"}, ["etc/sysctl.d"])
    document = (
        "apiVersion: tuneagent.dev/v1alpha1\nkind: TuningProfile\nmetadata: {name: hush.gw-17.example.org}\nspec:\n"
        "  nodeSelector: {matchLabels: {kubernetes.io/hostname: gw-17.example.org, owner: hush}}\n"
        "  tune:\n    sysctl: {vm.swappiness: 10}\n    mig: {gpus: {GPU-4c4c4544-2222-3333-4444-555555555555: {1g.10gb: 7}}}\n"
    )
    profile = tmp_path / "p.yaml"
    profile.write_text(document)
    output = tmp_path / "out.tar.gz"
    for arguments in (["apply", "--yes", "--only", "sysctl"], ["support-bundle", str(output)]):
        done = CliRunner().invoke(cli, ["--root", str(tmp_path), *arguments, "-f", str(profile)])
        assert done.exit_code in (0, 3), done.output
    assert leaks(output.read_bytes()) == []
    found = members(output.read_bytes())
    assert b"profile-" in found["tuneagent-support/journal.txt"] and b"GPU-" in found["tuneagent-support/profile.yaml"]


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_a_capture_of_every_case_audits_like_the_case(path: Path, tmp_path: Path) -> None:
    session = session_of_case(load(path), path, tmp_path / "tree")
    archive = tmp_path / "capture.tar.gz"
    archive.write_bytes(take(session.host, [session.profile], session.registry, identifiers=False))
    host = unpack(str(archive), str(tmp_path / "unpacked"))
    copy = HostTuner(host, StateFolder(host.files, session.state.folder), session.profile)
    assert verdicts(copy.observe().report) == verdicts(session.observe().report)


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
    from tuneagent.share.redaction.redactor import _without_serial

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
