"""Unified kernel images as systemd-boot or the firmware starts them, and what a capture says of a host with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import session_of, tree, write_tree
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.persist.boot_arguments import BootArguments
from tuneagent.share.capture import take, unpack
from tuneagent.tunables.registry import registry
from unified_images import image

PROGRAM = "efi/EFI/systemd/systemd-bootx64.efi"


def facts_of(root: Path, files: dict[str, str], images: dict[str, bytes]) -> Facts:
    write_tree(root, {"proc/sys/kernel/arch": "x86_64\n", **files})
    for path, data in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return Facts(tree(Files(str(root))))


def next_line(facts: Facts) -> str | None:
    try:
        return BootArguments().next_line(facts)
    except (PathMissing, ReadFailed):
        return None


OLD, NEW = image("old=1", "ID=os\nVERSION_ID=9\n"), image("new=1\n", "ID=os\nVERSION_ID=10\n")


@pytest.mark.parametrize(
    ("files", "images", "line"),
    [
        # The firmware itself starts the only one.
        ({}, {"boot/efi/EFI/Linux/a.efi": OLD}, "old=1"),
        # Of several the menu decides, and there is none.
        ({}, {"boot/efi/EFI/Linux/a.efi": OLD, "boot/efi/EFI/Linux/b.efi": NEW}, None),
        ({PROGRAM: ""}, {"efi/EFI/Linux/b.efi": OLD, "efi/EFI/Linux/a.efi": NEW}, "new=1"),
        # With a key to sort by it stands before entries without one.
        ({PROGRAM: "", "boot/loader/entries/z-99.conf": "linux /v\noptions z=1\n"}, {"efi/EFI/Linux/b.efi": OLD}, "old=1"),
        # A kernel image larger than other files may be.
        ({}, {"efi/EFI/Linux/a.efi": OLD + bytes(5 << 20)}, "old=1"),
        # Add-ons give arguments too.
        ({"efi/EFI/Linux/a.efi.extra.d/x.addon.efi": ""}, {"efi/EFI/Linux/a.efi": OLD}, None),
        ({"efi/loader/addons/x.addon.efi": ""}, {"efi/EFI/Linux/a.efi": OLD}, None),
        ({}, {"efi/EFI/Linux/a.efi": b"MZ"}, None),
        # Several profiles in one image: which one is booted is not followed.
        ({}, {"efi/EFI/Linux/a.efi": OLD.replace(b".linux\0\0", b".profile")}, None),
        # Without a menu nobody reads what is left of one.
        ({"boot/loader/entries/b-2.conf": "sort-key a\nlinux /v\noptions b=2\n"}, {"efi/EFI/Linux/a.efi": OLD}, "old=1"),
        # The menu leaves out an image that does not say what it is.
        ({PROGRAM: "", "efi/loader/entries/b.conf": "linux /v\noptions b=2\n"}, {"efi/EFI/Linux/z.efi": image("z=1", "")}, "b=2"),
        # Of two lines the later one counts, of the partition with systemd-boot on it.
        ({PROGRAM: "", "efi/loader/loader.conf": "default a-*\ndefault b-*\n", "boot/loader/loader.conf": "default a-*\n",
          "efi/loader/entries/a-3.conf": "linux /v\noptions a=1\n", "efi/loader/entries/b-2.conf": "linux /v\noptions b=2\n"}, {}, "b=2"),
        ({PROGRAM: "", "efi/loader/entries/a-3.conf": "linux /v\noptions a=1\n",
          "boot/loader/entries/b-2.conf": "linux /v\noptions b=2\n"}, {}, None),
        ({PROGRAM: "", "efi/loader/entries/a-3.conf": "efi /EFI/other.efi\n"}, {}, None),
        ({PROGRAM: "", "efi/loader/entries/a-3.CONF": 'linux /v\noptions "quiet isolcpus=2"\n',
          "efi/loader/entries/auto-z.conf": "linux /v\noptions z=1\n"}, {}, "quiet isolcpus=2"),
        ({PROGRAM: "", "proc/sys/kernel/arch": "riscv64\n", "efi/loader/entries/a.conf": "linux /v\narchitecture riscv64\n"}, {}, None),
        ({PROGRAM: "", "efi/loader/entries/a.conf": f"linux /v\nsort-key x\nversion {'9' * 5000}\noptions a=1\n",
          "efi/loader/entries/b.conf": f"linux /v\nsort-key x\nversion {'1.' * 100000}\noptions b=1\n"}, {}, "a=1"),
        ({"etc/default/grub": "", "boot/grub/grub.cfg": "menuentry x {\nlinux /v grub=1\n}\n"}, {"efi/EFI/Linux/a.efi": OLD}, "grub=1"),
    ],
)  # fmt: skip
def test_what_an_image_is_told(
    tmp_path: Path, files: dict[str, str], images: dict[str, bytes], line: str | None
) -> None:
    assert next_line(facts_of(tmp_path, files, images)) == line


@pytest.mark.parametrize(
    ("files", "line", "in_capture"),
    [
        ({"boot/loader/entries/a-6.12.conf": "linux /v\noptions quiet isolcpus=3\n", "boot/v": ""}, "quiet isolcpus=3", True),
        # Names, versions and keys are other ones there: of several the one that is taken is not known.
        ({"boot/loader/entries/a-1.conf": "sort-key b\nlinux /v\noptions isolcpus=1\n", "boot/v": "",
          "boot/loader/entries/b-2.conf": "sort-key a\nlinux /v\noptions isolcpus=2\n"}, "isolcpus=2", False),
        ({"boot/loader/entries/a-1.conf": "linux /v\noptions isolcpus=1\n", "efi/loader/loader.conf": "default a-*\n",
          "boot/loader/entries/b-2.conf": "linux /v=1\noptions isolcpus=2\n", "boot/v": ""}, "isolcpus=1", False),
        ({"boot/loader/entries/a-1.conf": "linux /v\noptions isolcpus=1\n", "efi/loader/loader.conf": "default @saved\n", "boot/v": ""},
         None, False),
        ({"boot/loader/entries/a-1.conf": "uki /EFI/Linux/b=1.efi\noptions isolcpus=1\n"}, None, False),
        ({"boot/loader/entries/a-1.conf": "efi /EFI/Linux/b=1.efi\n"}, None, False),
        ({"boot/loader/entries/a-1.conf": "linux /v\noptions isolcpus=1\n", "efi/loader/loader.conf": "preferred x\n"}, None, False),
    ],
)  # fmt: skip
def test_a_capture_is_no_surer_of_the_entry(
    tmp_path: Path, files: dict[str, str], line: str | None, in_capture: bool
) -> None:
    host = facts_of(tmp_path / "host", {PROGRAM: "", **files}, {})
    assert next_line(host) == line
    assert next_line(captured(tmp_path, host)) == (line if in_capture else None)


@pytest.mark.parametrize("variable", ["LoaderEntryOneShot", "LoaderEntryDefault"])
def test_a_capture_does_not_know_what_a_variable_chooses(tmp_path: Path, variable: str) -> None:
    chosen = {
        f"sys/firmware/efi/efivars/{variable}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f": "\6\0\0\0a\0-\0001\0.\0c\0o\0n\0f\0\0\0"
    }
    entries = {
        f"boot/loader/entries/{name}.conf": f"linux /v\noptions isolcpus={name[-1]}\n" for name in ("a-1", "b-2")
    }
    host = facts_of(tmp_path / "host", {PROGRAM: "", **entries, **chosen}, {})
    assert next_line(host) == "isolcpus=1"
    assert next_line(captured(tmp_path, host)) is None


def test_an_image_is_not_packed_and_not_known_in_a_capture(tmp_path: Path) -> None:
    host = facts_of(tmp_path / "host", {}, {"efi/EFI/Linux/a.efi": OLD + bytes(5 << 20)})
    assert next_line(host) == "old=1"
    assert next_line(captured(tmp_path, host)) is None
    assert (tmp_path / "capture.tar.gz").stat().st_size < 100_000


def captured(folder: Path, host: Facts) -> Facts:
    session = session_of(
        host.host, {"kernelArguments": {"isolcpus": "3"}, "transparentHugepages": {"enabled": "never"}}
    )
    (folder / "capture.tar.gz").write_bytes(take(session.host, [session.profile], registry(), identifiers=False))
    return Facts(unpack(str(folder / "capture.tar.gz"), str(folder / "capture")))
