"""Rows of the NVIDIA driver: versions, module, options, what containers need of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tuneagent.checks.rows import CheckRow, Condition, about, each, equal, exists, field, gathered, text
from tuneagent.contracts.values import Absent, Dispute, Observation, Setting, Severity, Unreadable, Value
from tuneagent.errors import CommandFailed, NoSystemd
from tuneagent.facts.conditions import arm64, has_nvidia_gpu, has_nvswitch, has_runtime, has_several_gpus, has_systemd
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.snapshot import GpuSnapshot

_PARAMS = "proc/driver/nvidia/params"
_VERSION = "proc/driver/nvidia/version"
_OPERATOR = "https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/"
_OPTIONS = "https://github.com/NVIDIA/open-gpu-kernel-modules (kernel-open/nvidia/nv-reg.h)"
_CDI_FOLDERS = ("etc/cdi", "var/run/cdi")


def _driver(facts: Facts) -> Observation:
    if not isinstance(facts.gpus, GpuSnapshot):
        return facts.gpus
    return Value(facts.gpus.driver_version)


def _driver_and_module(facts: Facts) -> Observation:
    library = _driver(facts)
    if not isinstance(library, Value):
        return library
    module = facts.host.observe("sys/module/nvidia/version")
    if not isinstance(module, Value):
        return module
    if not re.match(r"[\d.]+\Z", str(module.value)):
        return Unreadable("/sys/module/nvidia/version: no version")
    return Value({"library": library.value, "module": module.value})


def _counts(facts: Facts) -> Observation:
    """GPUs on the PCI bus against GPUs that NVML answers for."""
    gpus = facts.topology.pci_gpus
    if gpus is None:
        return Unreadable("the PCI devices of this host are not known")
    if isinstance(facts.gpus, Unreadable):
        return facts.gpus
    answering = len(facts.gpus.devices) if isinstance(facts.gpus, GpuSnapshot) else 0
    return Value({"pci": sum(gpu.vendor == "10de" for gpu in gpus), "nvml": answering})


def version_of(text_: str) -> tuple[int, ...]:
    """Numbers of a version, for comparison."""
    return tuple(int(part) for part in re.findall(r"\d+", text_))


def _open_module(facts: Facts) -> Observation:
    seen = facts.host.observe(_VERSION)
    if not isinstance(seen, Value):
        return seen
    if not str(seen.value).startswith("NVRM version"):
        return Unreadable(f"/{_VERSION}: unexpected format")
    return Value("Open Kernel Module" in str(seen.value))


def _option(name: str) -> Callable[[Facts], Observation]:
    return field(_PARAMS, rf'^{name}:[ \t]*"?([^"\n]*)"?$')


def _option_row(
    name: str, expect: str, severity: Severity, why: str, advice: str = "", applies: tuple[Condition, ...] = ()
) -> CheckRow:
    return CheckRow(
        group="gpu driver", read=_option(name), right=equal, expect=expect, applies=(has_nvidia_gpu, *applies),
        evidence=f"/{_PARAMS}", about=about(severity, why, _OPTIONS, advice),
    )  # fmt: skip


def _firmware(facts: Facts) -> Observation:
    folder = "proc/driver/nvidia/gpus"
    return gathered(
        lambda f: {name: f"{folder}/{name}/information" for name in f.host.files.names(folder)},
        _firmware_line, "the driver lists no GPU", folder,
    )(facts)  # fmt: skip


def _firmware_line(content: str) -> str:
    match = re.search(r"^GPU Firmware:\s+(\S+)", content, re.MULTILINE)
    if match is None:
        raise ValueError("no firmware line")
    return "off" if match.group(1) == "N/A" else "on"


def _fabric_manager(facts: Facts) -> Observation:
    try:
        state = facts.host.unit("nvidia-fabricmanager.service", "LoadState", "ActiveState")
    except NoSystemd as error:
        return Unreadable(f"{error}: whether something else starts it is not known")
    except CommandFailed as error:
        return Unreadable(str(error))
    if state.get("LoadState") == "not-found":
        return Unreadable("no nvidia-fabricmanager unit here; one in a driver container would not be seen")
    return Value(state["ActiveState"]) if "ActiveState" in state else Unreadable(f"systemctl answered {state}")


def _device_links(facts: Facts) -> Observation:
    """Whether each NVIDIA device node has its name under /dev/char, which runc needs after a reload of systemd."""
    files = facts.host.files
    if not files.is_dir("dev"):
        return Unreadable(f"this {facts.host.source} has no /dev")
    nodes = [name for name in files.names("dev") if re.match(r"nvidia(\d+|ctl)\Z", name)]
    if not nodes:
        return Absent("no NVIDIA device node")
    return Value(files.exists("dev/char/195:255"))


def _cdi(facts: Facts) -> Observation:
    """Driver versions that the CDI specs name (in their libcuda.so), against the driver's own."""
    if not isinstance(facts.gpus, GpuSnapshot):
        return facts.gpus
    named: set[str] = set()
    found = False
    for folder in _CDI_FOLDERS:
        for name in facts.host.files.names(folder):
            if name.endswith((".yaml", ".json")) and "nvidia" in name:
                seen = facts.host.observe(f"{folder}/{name}")
                if not isinstance(seen, Value):
                    return seen
                found = True
                named.update(re.findall(r"libcuda\.so\.(\d+\.[\d.]+\d)", str(seen.value)))
    if not found:
        return Absent("no CDI specification of NVIDIA devices")
    if not named:
        return Unreadable("the CDI specification names no libcuda.so")
    return Value({"driver": facts.gpus.driver_version, "spec": sorted(named)})


def _cdi_is_current(seen: Mapping[str, object], wanted: Setting) -> bool:
    del wanted
    return bool(seen["spec"] == [seen["driver"]])


ROWS: dict[str, CheckRow] = {
    "gpuCount": CheckRow(
        group="health", read=_counts, right=lambda seen, wanted: seen["pci"] == seen["nvml"], applies=(has_nvidia_gpu,),
        evidence="/sys/bus/pci/devices, NVML",
        about=about(Severity.CRITICAL,
                    "a GPU that is on the bus but unknown to the driver, or that fell off the bus, does no work",
                    "https://docs.nvidia.com/deploy/gpu-debug-guidelines/", "check dmesg; drain and reboot the node"),
    ),
    "driverMatchesModule": CheckRow(
        group="gpu driver", read=_driver_and_module, right=lambda seen, wanted: seen["library"] == seen["module"],
        evidence="NVML, /sys/module/nvidia/version",
        about=about(Severity.CRITICAL,
                    "if the user-space driver and the loaded module differ, every CUDA program fails at start",
                    "https://docs.nvidia.com/deploy/cuda-compatibility/",
                    "reload the driver or reboot after an upgrade of its packages"),
    ),
    "driverMin": CheckRow(
        group="gpu driver", read=_driver, right=lambda seen, wanted: version_of(seen) >= version_of(wanted),
        kind=str | None, evidence="NVML",
        about=about(Severity.MEDIUM, "an older driver lacks what the CUDA version in the images needs",
                    "https://docs.nvidia.com/deploy/cuda-compatibility/"),
    ),
    "openModule": CheckRow(
        group="gpu driver", read=_open_module, right=equal, applies=(has_nvidia_gpu,), evidence=f"/{_VERSION}",
        about=about(Severity.MEDIUM,
                    "DMA-BUF and GPUDirect Storage need the open kernel module; Blackwell supports no other",
                    f"{_OPERATOR}gpu-operator-rdma.html", "install the open flavour of the driver, from Turing on"),
    ),
    "noNouveau": CheckRow(
        group="gpu driver", read=exists("sys/module/nouveau", "sys/module"), right=equal, expect=False,
        applies=(has_nvidia_gpu,), evidence="/sys/module/nouveau",
        about=about(Severity.CRITICAL, "nouveau holds the GPU: the NVIDIA driver cannot load",
                    f"{_OPERATOR}troubleshooting.html", "blacklist nouveau in modprobe.d, rebuild the initramfs, reboot"),
    ),
    "nvlinkEnabled": _option_row("NvLinkDisable", "0", Severity.CRITICAL, "NVLink is switched off by a module option",
                                 "remove NVreg_NvLinkDisable from modprobe.d", (has_several_gpus,)),
    "noExcludedGpus": _option_row("ExcludedGpus", "", Severity.HIGH, "a module option hides GPUs"),
    "profilingAdminOnly": _option_row("RmProfilingAdminOnly", "1", Severity.LOW,
                                      "open performance counters let tenants watch each other",
                                      "NVreg_RestrictProfilingToAdminUsers=1"),
    "gpuRelaxedOrderingDefault": _option_row("EnablePCIERelaxedOrderingMode", "0", Severity.MEDIUM,
                                             "forces relaxed ordering on every write of the GPU; only where the vendor asks"),
    "sysmemCleared": _option_row("InitializeSystemMemoryAllocations", "1", Severity.MEDIUM,
                                 "memory that is not cleared leaks data between users"),
    "messageInterrupts": _option_row("EnableMSI", "1", Severity.MEDIUM, "line interrupts are shared and slow"),
    "noTopologyOverride": _option_row("GrdmaPciTopoCheckOverride", "0", Severity.MEDIUM,
                                      "overrides the driver's judgement of the PCI topology"),
    "coherentMemoryMode": CheckRow(
        group="gpu driver", read=_option("CoherentGPUMemoryMode"), right=equal, kind=str | None, applies=(arm64, has_nvidia_gpu),
        evidence=f"/{_PARAMS}",
        about=about(Severity.HIGH, "with `numa` the GPU's memory appears as NUMA nodes of the host", _OPTIONS,
                    "NVreg_CoherentGPUMemoryMode=driver"),
    ),
    "gspFirmware": CheckRow(
        group="gpu driver", read=_firmware, right=each, expect="on", applies=(has_nvidia_gpu,),
        evidence="/proc/driver/nvidia/gpus/*/information",
        about=about(Severity.MEDIUM, "without GSP firmware the host's CPU does the GPU's housekeeping",
                    "https://download.nvidia.com/XFree86/Linux-x86_64/580.65.06/README/gsp.html", dispute=Dispute(
"off fixed hangs of DCGM on T4",
"on by default, and the open module ignores the switch",
"reported",
),),
    ),
    "fabricManager": CheckRow(
        group="gpu driver", read=_fabric_manager, right=equal, expect="active", applies=(has_nvswitch,),
        evidence="systemctl show nvidia-fabricmanager.service",
        about=about(Severity.CRITICAL, "without the fabric manager no GPU behind an NVSwitch can be used (CUDA error 802)",
                    "https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide/",
                    "its version must match the driver's exactly"),
    ),
    "deviceLinks": CheckRow(
        group="container runtime", read=_device_links, right=equal, applies=(has_systemd, has_runtime),
        evidence="/dev/char/195:255",
        about=about(Severity.HIGH, "without the links in /dev/char, `systemctl daemon-reload` takes the GPUs from running containers",
                    "https://github.com/NVIDIA/nvidia-container-toolkit/issues/48",
                    "run `nvidia-ctk system create-dev-char-symlinks --create-all`, or switch the runtime to CDI"),
    ),
    "cdiCurrent": CheckRow(
        group="container runtime", read=_cdi, right=_cdi_is_current, evidence="/etc/cdi, /var/run/cdi",
        about=about(Severity.CRITICAL, "a CDI specification of an older driver gives containers libraries that do not exist",
                    f"{_OPERATOR}cdi.html", "run `nvidia-ctk cdi generate`"),
    ),
    "gpuDirectStorage": CheckRow(
        group="storage", read=text("proc/driver/nvidia-fs/stats"),
        right=lambda seen, wanted: str(seen).startswith("GDS Version"), applies=(has_nvidia_gpu,),
        evidence="/proc/driver/nvidia-fs/stats",
        about=about(Severity.MEDIUM, "without nvidia-fs GPUDirect Storage copies through the host without an error",
                    "https://docs.nvidia.com/gpudirect-storage/troubleshooting-guide/", "modprobe nvidia-fs"),
    ),
}  # fmt: skip
