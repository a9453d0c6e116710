"""systemd-boot and unified kernel images: the entry that the next boot takes is read, and changed by people.

What an image says is part of it and signed with it; entries are made anew with each kernel (kernel-install(8)).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.boot_loader import ReadOnlyLoader

if TYPE_CHECKING:
    # Loaded where there is an entry: on other hosts it is a part of the start-up time.
    from tuneagent.formats.boot_entries import Entry

# Where the EFI system partition and the one for boot entries are mounted (bootctl(1)).
PLACES = ("efi", "boot", "boot/efi")
_CONFIG = "loader/loader.conf"
# Variables of the Boot Loader Interface; four bytes of attributes stand before the text.
_VARIABLES = "sys/firmware/efi/efivars"
_VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_OTHERS = ("grub", "grub2", "extlinux")
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "aa64"}
_PROGRAM = lazy_regex(r"systemd-boot\w*\.efi\Z")


class SystemdBoot(ReadOnlyLoader):
    """Entries and images of all partitions together."""

    rank = 5
    path = _CONFIG

    def is_there(self, facts: Facts) -> bool:
        """It says itself that it booted this host; else its program or one image is there, and no GRUB."""
        said = _variable(facts, "LoaderInfo")
        if said is not None:
            return said.startswith("systemd-boot")
        files = facts.host.files
        if files.exists("etc/default/grub") or any(files.is_dir(f"boot/{name}") for name in _OTHERS):
            return False
        return _partition(facts) is not None or len(_images(facts)) == 1

    def next_line(self, facts: Facts) -> str:
        """Options of the entry that is taken. Raises PathMissing or ReadFailed."""
        from tuneagent.formats.boot_entries import taken

        own = _partition(facts)
        texts = _texts(facts) if own is not None else []
        images = _images(facts)
        if not texts and not images:
            raise PathMissing("no boot entry and no unified kernel image")
        if facts.host.source == "capture" and len(texts) + len(images) > 1:
            # Their names and versions are other ones in a capture, and with them their order.
            raise ReadFailed("which of several boot entries is taken is not known in a capture")
        if len({path.split("/loader/")[0] for path in texts}) > 1:
            raise ReadFailed("boot entries on several partitions: which of these systemd-boot sees is not followed")
        patterns = _patterns(facts, own) if own is not None else []
        chosen = taken([*_entries(facts, texts), *_from_images(facts, images, has_menu=own is not None)], patterns)
        if chosen is None:
            raise PathMissing("no boot entry and no unified kernel image")
        return chosen.options

    def by_hand(self, words: str) -> str | None:
        """Where new entries get their options from, and the entry that boots."""
        return (
            f"add {words} to /etc/kernel/cmdline, then `kernel-install add-all`; a unified kernel image is built anew"
        )

    def impossible(self, facts: Facts) -> str | None:
        """There is no file of ours that it would read."""
        del facts
        return "systemd-boot has no drop-in for arguments: the host's owner adds them"


def _variable(facts: Facts, name: str) -> str | None:
    """A variable of the boot loader; None where there is none. Raises ReadFailed."""
    path = f"{_VARIABLES}/{name}-{_VENDOR}"
    try:
        return facts.host.files.read_bytes(path)[4:].decode("utf-16-le").rstrip("\0")
    except PathMissing:
        return None
    except UnicodeDecodeError:
        raise ReadFailed(f"/{path}: not text as the firmware writes it") from None


def _partition(facts: Facts) -> str | None:
    """Where the EFI system partition with systemd-boot's program is mounted; None where there is none."""
    files = facts.host.files
    found = [place for place in PLACES if any(map(_PROGRAM.match, files.names(f"{place}/EFI/systemd")))]
    if found:
        return found[0]
    said = _variable(facts, "LoaderInfo") or ""
    places = [place for place in PLACES if files.is_dir(f"{place}/loader")]
    return places[0] if said.startswith("systemd-boot") and places else None


def _patterns(facts: Facts, partition: str) -> list[str]:
    """What names the entry: once, as people chose in the menu, as configured. Raises ReadFailed."""
    found = [one for name in ("LoaderEntryOneShot", "LoaderEntryDefault") if (one := _variable(facts, name))]
    given: dict[str, str] = {}
    for line in facts.host.files.read_or(f"{partition}/{_CONFIG}", "").splitlines():
        key, *rest = line.split(maxsplit=1)[:2] or [""]
        given[key] = rest[0].strip() if rest else ""
    if "preferred" in given:
        raise ReadFailed("systemd-boot's `preferred` is not followed")
    found += [given["default"]] if given.get("default") else []
    special = next((one for one in found if one.startswith(("@", "auto-"))), None)
    if special is not None:
        raise ReadFailed(f"systemd-boot's default is {special}, which is not followed")
    return found


def _files(facts: Facts, inner: str, suffix: str) -> list[str]:
    """Files of entries or of images, without those that systemd-boot passes over."""
    found = []
    for place in PLACES:
        names = (name for name in facts.host.files.names(f"{place}/{inner}") if name.lower().endswith(suffix))
        found += [f"{place}/{inner}/{name}" for name in names if not name.startswith((".", "auto-"))]
    return found


def _texts(facts: Facts) -> list[str]:
    return _files(facts, "loader/entries", ".conf")


def _images(facts: Facts) -> list[str]:
    return _files(facts, "EFI/Linux", ".efi")


def _entries(facts: Facts, paths: list[str]) -> Iterator[Entry]:
    """Those for this machine whose kernel is there. Raises ReadFailed."""
    from tuneagent.formats.boot_entries import entry_of_text, keys_of

    for path in paths:
        text = facts.host.files.read(path)
        keys = keys_of(text)
        if "uki" in keys or ("efi" in keys and not keys.get("options")):
            raise ReadFailed(f"/{path}: an entry that starts a unified kernel image is not followed")
        machine = _ARCHITECTURES.get(facts.topology.arch or "")
        architecture = keys.get("architecture", [""])[-1].lower()
        if architecture and machine is None:
            raise ReadFailed(f"/{path}: whether {architecture} is this machine's architecture is not known")
        kernel = (keys.get("linux") or keys.get("efi") or [""])[-1]
        if not kernel or architecture not in ("", machine):
            continue
        # systemd-boot leaves out an entry whose kernel it cannot open. A tree of configuration has no kernels.
        place = path.split("/loader/")[0]
        has_kernel = facts.host.files.exists(f"{place}/{kernel.lstrip('/')}")
        if not has_kernel and facts.host.source != "tree":
            continue
        yield entry_of_text(path.rpartition("/")[2], text)


def _from_images(facts: Facts, paths: list[str], *, has_menu: bool) -> Iterator[Entry]:
    """Entries of images; the menu leaves out one that does not say what it is. Raises ReadFailed."""
    from tuneagent.formats.boot_entries import entry_of_image
    from tuneagent.formats.systemd_unit import variables_of_file

    for path in paths:
        for folder in (f"{path}.extra.d", f"{path.split('/EFI/')[0]}/loader/addons"):
            if any(name.endswith(".addon.efi") for name in facts.host.files.names(folder)):
                raise ReadFailed(f"/{folder}: add-ons of unified kernel images are not followed")
        found = _sections(facts, path)
        release, _ = variables_of_file(found.get(".osrel", ""))
        if release or not has_menu:
            yield entry_of_image(path.rpartition("/")[2], found.get(".cmdline", ""), release)


def _sections(facts: Facts, path: str) -> dict[str, str]:
    """What an image says of itself. Raises ReadFailed."""
    from tuneagent.formats import unified_image

    files = facts.host.files
    try:
        places = unified_image.section_places(files.read_part(path, 0, unified_image.HEAD_BYTES))
        found = {
            name: (files.read_part(path, start, size), size)
            for name, (start, size) in places.items()
            if name in (".cmdline", ".osrel")
        }
        if any(len(data) < size for data, size in found.values()):
            raise ValueError("a PE file that is cut")
        return {name: data.split(b"\0")[0].decode().strip() for name, (data, _) in found.items()}
    except ValueError as error:
        raise ReadFailed(f"/{path}: {error}") from None


LOADER = SystemdBoot()
