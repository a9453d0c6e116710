"""Paths of a host that hold names which its owner chose, by what reads them."""

from __future__ import annotations

import re

from tuneagent.facts.kubelet import KNOWN as KUBELETS
from tuneagent.formats.lazy_regex import lazy_regex

UNIT_KINDS = "service|slice|scope|target|mount|socket|timer|swap|path|device|automount"
# Files whose names their owner chose, and whose order decides which of them wins.
CONFIGURED = lazy_regex(
    rf"(etc|run|usr|lib)/.*\.(conf|rules|cfg|toml|ya?ml|{UNIT_KINDS})\Z"
    r"|(etc/cron\.[a-z]{1,8}|etc/init\.d|var/lib/cloud/scripts/per-boot)/[^/]+\Z|(usr/local/s?bin|opt|root|home|srv)/.*"
)
UNIT_FOLDER = lazy_regex(rf"/([^/]+\.(?:{UNIT_KINDS}))\.(?:d|wants|requires)(?=/|\Z)")
# Profiles of TuneD by their folders; what else lies in /etc/tuned is the program's own.
TUNED_PROFILE = lazy_regex(
    r"((?:etc|usr/lib)/tuned/(?:profiles/)?|var/lib/ocp-tuned/profiles/)"
    r"(?!profiles(?:/|\Z)|recommend\.|active_profile\Z|profile_mode\Z|post_loaded_profile\Z|bootcmdline\Z|[a-z-]+\.conf\Z)([^/]+)(.*)\Z"
)
INCLUDE = lazy_regex(r"(\s*include\s*=\s*)(.*)\Z")
STARTED = lazy_regex(r"(etc/rc[0-9S]\.d/[SK]\d\d)(.+)\Z")
DEVICES = lazy_regex(
    r"(nvidia[a-z0-9-]*|char|block|shm|pts|mapper|disk|infiniband|vfio|net|cpu|dri|input|snd|bus|fd|mqueue|hugepages|null|zero|full|random"
    r"|urandom|kmsg|kvm|mem|port|ptmx|console|tty[A-Za-z0-9]{0,5}|(sd|vd|xvd|hd)[a-z]{1,3}[0-9]{0,3}|nvme[0-9a-z]{1,12}|md[0-9]{0,3}|dm-[0-9]+"
    r"|loop[-a-z0-9]{1,8}|zram[0-9]+|ram[0-9]+|mlx[0-9a-z_]+|gdrdrv|fuse|rtc[0-9]?|hpet|watchdog[0-9]?|cpu_dma_latency|std(in|out|err)"
    r"|core|log|initctl|rfkill|uinput|uhid|vhost-[a-z]+|vcs[a-z0-9]*|sg[0-9]+|mcelog|ipmi[0-9]?|tpm[a-z0-9]*|userfaultfd|snapshot)\Z"
)
# Folders that are somebody's own.
OWN = lazy_regex(r"(usr/local|opt|root|home|srv)/")
# Where a host's own name may stand: elsewhere it would be a word of the kernel's, as in /sys/devices/system/node.
NAMED = lazy_regex(r"(?!sys/|proc/(?!sys/kernel/hostname))")
_KUBELET_FOLDERS = "|".join(re.escape(folder) for _, folder in KUBELETS if folder)
# What lies below a folder of a kubelet's drop-ins, and a kubelet's documents wherever they are.
BELOW_KUBELETS = lazy_regex(rf"((?:{_KUBELET_FOLDERS})/)(.+)\Z")
KUBELET = lazy_regex(
    rf"({'|'.join(re.escape(file) for file, _ in KUBELETS if file)})\Z|(etc/kubernetes/kubelet|{_KUBELET_FOLDERS})/"
)
