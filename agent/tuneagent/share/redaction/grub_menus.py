"""Filter of grub.cfg and grubenv: the menus, the lines that give a kernel its arguments, and which entry boots.

Titles and names of entries are somebody's own; each has one name in their place, in both files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tuneagent.errors import ReadFailed
from tuneagent.formats.grub_cfg import KERNELS
from tuneagent.formats.grub_script import Block, Command, commands_of
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.share.redaction.grammars import kernel_line
from tuneagent.share.redaction.pseudonyms import blank
from tuneagent.share.redaction.vocabulary import is_kernel_image

Named = Callable[[str], str]
_VARIABLES = ("have_grubenv", "saved_entry", "prev_saved_entry", "next_entry", "boot_once", "menuentry_id_option")
_CONDITION = lazy_regex(
    r"(if|elif|then|else|fi|load_env|export|true|false|\[|\]|-[snz]|=|==|!=|x?y|\$prefix/grubenv|grubenv"
    r"|x?\"?\$\{?(feature_[a-z0-9_]{1,40}|have_grubenv|saved_entry|prev_saved_entry|next_entry|boot_once|menuentry_id_option)\}?\"?)\Z"
)
_ID = lazy_regex(r"(?:--id[ =]|\$\{?menuentry_id_option\}? )(.+)\Z")
# Boot loader entries have the machine's id in their names, which is replaced everywhere alike.
_LOADER_ENTRY = lazy_regex(r"[0-9a-f]{32}-")


def grub_menus(text: str, allowed: Callable[[str], bool], named: Named) -> str:
    """grub.cfg with a command on each line; what cannot be parsed stays unparsable."""
    try:
        return "".join(f"{line}\n" for line in _lines(commands_of(text), allowed, named))
    except ReadFailed:
        return "menuentry redacted {\n"


def kept_entries(text: str, named: Named) -> str:
    """grubenv with the names of entries replaced; its other lines are left to another filter."""

    def replaced(match: re.Match[str]) -> str:
        return f"{match.group(1)}{_place(match.group(2), named)}"

    return re.sub(r"^((?:prev_)?saved_entry=|next_entry=)(.*)$", replaced, text, flags=re.MULTILINE)


def _place(default: str, named: Named) -> str:
    """A default: numbers and names of entries, one for each level of menus."""
    parts = default.split(">")
    return ">".join(one if not one or one.isdigit() or _LOADER_ENTRY.match(one) else named(one) for one in parts)


def _lines(commands: list[Command], allowed: Callable[[str], bool], named: Named) -> Iterator[str]:
    for command in commands:
        words = [word for word in command if isinstance(word, str)]
        first = words[0] if words else ""
        if first in KERNELS and len(words) > 1:
            image = words[1] if is_kernel_image(words[1]) else f"/vmlinuz-{blank(words[1])}"
            yield f"{first} {image} {kernel_line(' '.join(words[2:]), allowed)}".rstrip()
        elif first in ("menuentry", "submenu"):
            yield _head(first, words[1:], named)
            for block in command:
                yield from _lines(block.commands, allowed, named) if isinstance(block, Block) else ()
            yield "}"
        elif first in ("if", "elif"):
            yield " ".join(words) if all(map(_CONDITION.match, words)) else f"{first} redacted"
        elif first in ("then", "else", "fi", "load_env"):
            yield first
        elif first in ("set", "export") or "=" in first:
            yield from _set(words, named)


def _head(kind: str, words: list[str], named: Named) -> str:
    title = words[0].strip("\"'") if words else ""
    found = _ID.search(" ".join(words[1:]))
    name = found.group(1).strip("\"'").split("' ")[0].split('" ')[0] if found else ""
    option = f" --id '{named(name)}'" if name else ""
    return f"{kind} '{named(title)}'{option} {{"


def _set(words: list[str], named: Named) -> Iterator[str]:
    if words[0] == "export":
        yield from (f"export {word}" for word in words[1:] if word in _VARIABLES)
        return
    name, equals, value = (words[-1] if words[0] == "set" else words[0]).partition("=")
    if name == "default":
        text = value.strip("\"'")
        yield f'set default="{text if text.startswith("$") else _place(text, named)}"'
    elif name in _VARIABLES and equals:
        known = re.match(r"(\"?\$\{?[a-z_]{1,32}\}?\"?|\"?--id\"?|true|\"\"|)\Z", value)
        yield f"set {name}={value if known else 'redacted'}"
