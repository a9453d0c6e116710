"""Which entry of grub.cfg boots, and what is not certain. GRUB's own answers: host tier."""

from __future__ import annotations

import re

import pytest
from tuneagent.errors import ReadFailed
from tuneagent.formats.grub_cfg import environment, next_kernel_line

MENUS = """
menuentry 'Debian' $menuentry_id_option 'simple' { load_video
  linux /vmlinuz-2 root=/dev/sda1 new=1
}
submenu 'Advanced' $menuentry_id_option 'advanced' {
  menuentry 'Old' --id old {
    linux /vmlinuz-1 root=/dev/sda1 old=1 quoted="a b"
  }
}
menuentry 'Memory test' { linux16 /memtest }
menuentry 'Firmware' { fwsetup }
"""
FIRMWARE = """
if [ "$grub_platform" = "efi" ]; then
  fwsetup --is-supported
  if [ "$?" = 0 ]; then
    menuentry 'UEFI Firmware Settings' --id 'uefi-firmware' {
      fwsetup
    }
  fi
fi
"""
CUSTOM = """
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""
HEADER = 'if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nset default="{}"\n'
NEW, OLD = "root=/dev/sda1 new=1", 'root=/dev/sda1 old=1 quoted="a b"'


@pytest.mark.parametrize(
    ("default", "kept", "line"),
    [
        ("0", "", NEW), ("1", "", OLD), ("1>0", "", OLD), ("advanced>old", "", OLD), ("Advanced>Old", "", OLD), ("2", "", ""),
        ("Debian", "", NEW), ("simple", "", NEW), ("9", "", NEW), ("missing", "", NEW), ("", "", NEW), ("missing>0", "", NEW),
        ("${saved_entry}", "saved_entry=1>old\n", OLD), ("$saved_entry", "saved_entry=simple\n", NEW), ("${saved_entry}", "", NEW),
        ("${saved_entry}", "# saved_entry=1\n", NEW),
    ],
)  # fmt: skip
def test_the_entry_that_boots(default: str, kept: str, line: str) -> None:
    text = 'menuentry_id_option="--id"\nexport menuentry_id_option\n' + HEADER.format(default) + MENUS
    assert next_kernel_line(text, environment(kept)) == line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the default entry '(no menu)' has no `linux` line"),
        ("set default=3\n" + MENUS, "the default entry 'Firmware' has no `linux` line"),
        ("submenu 'x' {\n}\n", "the default leads to no entry with a `linux` line"),
        # What only GRUB knows, where it matters.
        (f"if [ $grub_platform = efi ]; then\n  set default=1\nfi\n{MENUS}", "is decided by GRUB at boot"),
        (f"if sleep --interruptible 0; then\n{MENUS}\nfi\n", "no menu"),
        (f"{FIRMWARE}{MENUS}", "is decided by GRUB at boot"),
        (f"set default=4\n{MENUS}{FIRMWARE}", "is decided by GRUB at boot"),
        (f"set default=uefi-firmware\n{MENUS}{FIRMWARE}", "is decided by GRUB at boot"),
        ("menuentry 'x' {\n linux /v\n", "an opening brace is never closed"),
        ("if true; then\n", "`if` without `fi`"),
        ("menuentry 'x {\n", "cannot parse"),
        ("if true; then " * 40 + "x" + "; fi" * 40, "nested too deeply"),
        ("menuentry x { " * 40 + "}" * 40, "nested too deeply"),
    ],
)
def test_what_is_not_certain_is_not_said(text: str, says: str) -> None:
    with pytest.raises(ReadFailed, match=re.escape(says)):
        next_kernel_line(text, {})


def test_a_file_without_a_menu_boots_what_it_names() -> None:
    assert next_kernel_line("search x\nlinux /v root=/dev/sda1 a=1\ninitrd /i\nboot\n", {}) == "root=/dev/sda1 a=1"


def test_conditions_of_others_do_not_matter() -> None:
    text = (
        "if [ $grub_platform = efi ]; then\n  set gfx=keep\nelse\n  insmod vga\nfi\n"
        'if [ "$gfx" = keep ]; then\n  insmod gfx\nfi\nif [ -n "$x" -o "$y" ]; then true; fi\n'
        'if [ -z "${x}" ]; then\n  set default=1\nelif true; then\n  set default=0\nfi\n'
    )
    assert next_kernel_line(text + MENUS, {}) == OLD


@pytest.mark.parametrize(("default", "line"), [("0", NEW), ("1>0", OLD), ("Debian", NEW), ("missing", NEW), ("", NEW)])
def test_entries_that_may_be_there_after_all_others_do_not_matter(default: str, line: str) -> None:
    assert next_kernel_line(f'set default="{default}"\n{MENUS}{FIRMWARE}{CUSTOM}', {}) == line


def test_the_file_of_ones_own_entries_is_read() -> None:
    text = f"set default=0\n{MENUS}{CUSTOM}"
    own = "set default=rescue\nmenuentry Rescue --id rescue {\n linux /v rescue=1\n}\n"
    assert next_kernel_line(text, {}, own) == "rescue=1"
    assert next_kernel_line(text, {}, None) == next_kernel_line(text, {}, "") == NEW


def test_variables_are_filled_in_and_a_menu_has_only_exported_ones() -> None:
    text = "set a=1\nset b=2\nexport b\nmenuentry x {\n linux /v a=$a b=${b} c=$c\n}\n"
    assert next_kernel_line(text, {}) == "a=1 b=2 c="
    inner = text.replace("menuentry x {", "submenu y { menuentry x {") + "}\n"
    assert next_kernel_line(inner, {}) == "a= b=2 c="
