"""Options that several commands share."""

from __future__ import annotations

import click

FILE = click.option("-f", "--file", metavar="FILE", help="File of a profile; - is standard input.")
PROFILE = click.option("-p", "--profile", "name", metavar="NAME", help="Built-in profile.  [default: generic]")
OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
ONLY = click.option("--only", multiple=True, metavar="NAME", help="This tunable or setting alone; may be repeated.")
