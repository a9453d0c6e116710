"""Kernel arguments through GRUB on Debian and Ubuntu: a drop-in, update-grub, and the line of the next boot."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from tuneagent.errors import PathMissing
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.folders import folder_impossible
from tuneagent.persist.own_files import HEADER, not_ours, own_text, put, take_away

OWN_NAME = "zz-tuneagent.cfg"
GRUB_CONFIGS = ("boot/grub/grub.cfg", "boot/grub2/grub.cfg")
UPDATE_TIMEOUT_S = 300.0
_FIRST = {"default_hugepagesz": 0, "hugepagesz": 1, "hugepages": 2}
_ENTRY = lazy_regex(r"^# tuneagent: (\S+) ?(.*)$", re.MULTILINE)


def next_line(facts: Facts) -> str:
    """Arguments of the kernel entry that the next boot takes. Raises PathMissing or ReadFailed."""
    for path in GRUB_CONFIGS:
        try:
            text = facts.host.files.read(path)
        except PathMissing:
            continue
        # A host without GRUB needs no reader of it.
        from tuneagent.formats.grub_cfg import environment, next_kernel_line

        folder = path.rpartition("/")[0]
        files = facts.host.files
        custom = files.read(f"{folder}/custom.cfg") if files.exists(f"{folder}/custom.cfg") else None
        return next_kernel_line(text, environment(files.read_or(f"{folder}/grubenv", "")), custom)
    raise PathMissing("no GRUB configuration (boot/grub/grub.cfg, boot/grub2/grub.cfg)")


class GrubDropIn:
    """Our file in /etc/default/grub.d, sourced by grub-mkconfig after /etc/default/grub."""

    rank = 90
    path = f"etc/default/grub.d/{OWN_NAME}"
    files = (path,)
    generates = True

    def is_there(self, facts: Facts) -> bool:
        """The last that is asked: what it cannot do, nobody here can."""
        del facts
        return True

    def next_line(self, facts: Facts) -> str:
        """That of the entry that boots."""
        return next_line(facts)

    def unsafe(self, facts: Facts, name: str) -> str | None:
        """Any argument can be taken back by leaving it out of our file."""
        del facts, name
        return None

    def by_hand(self, words: str) -> str | None:
        """Nothing beyond what `impossible` says."""
        del words
        return None

    def impossible(self, facts: Facts) -> str | None:
        """Why the arguments would not reach the next boot."""
        if not facts.host.files.exists("etc/default/grub"):
            return "no /etc/default/grub: this boot loader is not handled, add the arguments by hand"
        if not any(facts.host.files.exists(path) for path in GRUB_CONFIGS):
            return "no grub.cfg on this host"
        return facts.once(
            "impossible etc/default/grub.d",
            lambda: not_ours(facts, self.files) or folder_impossible(facts.host, "etc/default/grub.d"),
        )

    def entries(self, facts: Facts) -> dict[str, str]:
        """Arguments in our file: name to the words that it adds (`` for none)."""
        text = own_text(facts, self.path)
        return {match.group(1): match.group(2) for match in _ENTRY.finditer(text)}

    def is_whole(self, facts: Facts, entries: Mapping[str, str]) -> bool:
        """What is generated from our file may lag behind it after a crash: then equal entries prove nothing."""
        del facts, entries
        return False

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace or remove our file, then let update-grub write grub.cfg."""
        if entries:
            put(facts, self.path, render(entries))
        else:
            take_away(facts, self.path)
        facts.order(["update-grub"], UPDATE_TIMEOUT_S)


def render(entries: Mapping[str, str]) -> str:
    """The drop-in: each name is first taken out of both variables, then the wanted words are added."""
    # A size must stand before the count that it is about.
    ordered = sorted(entries.items(), key=lambda entry: (_FIRST.get(entry[0], 9), entry[0]))
    lines = [HEADER]
    for name, words in ordered:
        lines.append(f"# tuneagent: {name} {words}".rstrip() + "\n")
    for name, words in ordered:
        # The kernel takes `-` and `_` as the same letter.
        pattern = "".join("[-_]" if letter in "-_" else re.escape(letter) for letter in name)
        expression = shlex.quote(rf's/(^|[[:space:]]){pattern}(=("[^"]*"|[^[:space:]"])*)?($|[[:space:]])/ /g')
        for variable in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"):
            lines.append(f'{variable}="$(printf %s "${variable}" | sed -E -e {expression} -e {expression})"\n')
        if words:
            lines.append(f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "{shlex.quote(words)}\n')
    return "".join(lines)


LOADER = GrubDropIn()
