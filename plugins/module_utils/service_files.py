# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""The files that run a service: scripts for runit, units for systemd. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from . import supervision
from .supervision import LIMITS, MARKER, WRITTEN, Service, Text, environment_file

NICE = 5  # of a service with less weight than others, where no cgroup divides the time: a third, sched(7)
PRIVATE = [  # what neither a server nor a builder needs, systemd.exec(5)
    "ProtectSystem=strict", "ProtectHome=read-only", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
    "ProtectKernelTunables=yes", "RestrictRealtime=yes",
]
# A builder mounts, and starts containers with users, devices, host names and cgroups of their own. Filters of system
# calls (as of RestrictSUIDSGID=, LockPersonality=, SystemCallFilter=) and NoNewPrivileges= would also hold for build
# steps, which may do all that. So only capabilities are taken away that steps never have.
DROPPED = ("CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_SYSLOG", "CAP_WAKE_ALARM",
           "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_SYS_PACCT",
           "CAP_SYS_TTY_CONFIG", "CAP_LEASE", "CAP_BLOCK_SUSPEND")
SERVER = [  # a program that has a port and a data folder, and needs nothing else
    "NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities=", "PrivateDevices=yes",
    "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes", "ProtectProc=invisible",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "RestrictNamespaces=yes", "RestrictSUIDSGID=yes",
    "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "RemoveIPC=yes", "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service", "SystemCallErrorNumber=EPERM",
]

# --- runit ------------------------------------------------------------------------------------------------------------


def quote(text: str) -> str:
    """One word of sh(1)."""
    return "'" + text.replace("'", "'\\''") + "'"


def runit_files(service: Service) -> dict[str, Text]:
    """path -> file of a runit service folder and its logger. http://smarden.org/runit/runsv.8"""
    chpst = ["chpst"]
    for limit, value in service.limits:
        chpst += [LIMITS[limit][0], str(value)]
    if service.user:
        chpst += ["-u", service.user]
    # Everyone may read arguments, so a shell with an empty environment reads the file. It adds its own PWD.
    # What only a privileged user may change stays as it is.
    nicer = ["nice", "-n", str(NICE)] if 0 < service.share.weight < 100 else []
    nicer += ["ionice", "-t", "-c", "2", "-n", "7"] if nicer else []
    killed = f"echo {service.share.oom} >/proc/self/oom_score_adj\n" if service.share.oom else ""
    script = 'set -a; . "$0"; set +a; unset PWD OLDPWD; exec "$@"'
    words = [*nicer, "env", "-i", "/bin/sh", "-c", script, service.environment_file]
    words += [*(chpst if len(chpst) > 1 else []), *service.command]
    run = f"""#!/bin/sh
# {service.name} of the farm in {service.state_dir}. Written by desimages.farm.supervised: changes are lost.
exec 2>&1
umask 022
cd {quote(service.directory)} || exit 111
{killed}exec {" ".join(map(quote, words))}
"""
    log = f"""#!/bin/sh
exec env {quote(f"{MARKER}={service.folder}")} svlogd -tt {quote(service.log_folder)}
"""
    finish = {}
    if service.after:  # runsv runs this each time the service has ended, however it ended
        finish[f"{service.folder}/finish"] = Text(f"#!/bin/sh\nexec {' '.join(map(quote, service.after))}\n", 0o700)
    return {
        **finish,
        f"{service.folder}/run": Text(run, 0o700),
        **environment_file(service),
        f"{service.folder}/log/run": Text(log, 0o700),
        f"{service.log_folder}/config": Text(f"s{service.log_size}\nn{service.log_files}\n", 0o644),
    }


# --- systemd ----------------------------------------------------------------------------------------------------------


def unit_word(text: str) -> str:
    """One word of ExecStart=: quoted, specifiers and variables taken literally (systemd.syntax(7))."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def confinement(service: Service) -> Iterator[str]:
    """The lines of a unit that keep it from what it does not need. What it writes: the folders that it claims, a
    builder also its sockets' folders and /run, where runc keeps its state."""
    if service.confined == "no":
        return
    yield from PRIVATE
    writes = list(service.claims.data)
    if service.confined == "builder":
        yield f"CapabilityBoundingSet=~{' '.join(DROPPED)}"
        writes += ["/run", *socket_folders(service)]
    else:
        yield from SERVER
    for path in dict.fromkeys(writes):
        yield f"ReadWritePaths={unit_word(path)}"


def socket_folders(service: Service) -> list[str]:
    """The folders of its sockets. They are made before it starts: below /run they are gone after a boot."""
    return [path.rpartition("/")[0] or "/" for path in service.claims.sockets]


def slice_text(service: Service) -> str:
    """A slice with the service's share.

    A limit of the service's own unit would not work: runc makes the cgroups of containers beside it, or where it is
    told to. At the top of the tree, it is weighed against all other services and all users.
    """
    share = service.share
    lines = [
        f"{WRITTEN}{service.state_dir}: changes are lost.",
        "[Unit]",
        f"Description=What {service.name} of the image farm in {service.state_dir} may use".replace("%", "%%"),
        "",
        "[Slice]",
        *([f"MemoryMax={share.memory}"] if share.memory else []),
        *([f"CPUWeight={share.weight}", f"IOWeight={share.weight}"] if share.weight else []),
    ]
    return "\n".join(lines) + "\n"


def systemd_files(service: Service) -> dict[str, Text]:
    """Path -> file: first the unit, then its environment, as `systemctl show` shows everyone what is in a unit.

    The output of the service goes to the journal, which rotates it.
    """
    command = " ".join(unit_word(word).replace("$", "$$") for word in service.command)
    lines = [
        f"{WRITTEN}{service.state_dir}: changes are lost.",
        "[Unit]",
        f"Description={service.name} of the image farm in {service.state_dir}".replace("%", "%%"),
        "After=network-online.target",
        "Wants=network-online.target",
        "StartLimitIntervalSec=0",
        # without its disk it would fill the one below
        *(f"RequiresMountsFor={unit_word(path)}" for path in dict.fromkeys((service.state_dir, *service.claims.data))),
        "",
        "[Service]",
        "Type=exec",
        *(f"ExecStartPre=+/bin/mkdir -p {unit_word(path)}" for path in socket_folders(service)
          if service.confined == "builder" and path != "/" and not f"{path}/".startswith(f"{service.state_dir}/")),
        f"ExecStart={command}",
        *(["ExecStopPost=+" + " ".join(unit_word(word).replace("$", "$$") for word in service.after)] if service.after
          else []),
        f"EnvironmentFile={service.environment_file.replace('%', '%%')}",
        f"WorkingDirectory={service.directory.replace('%', '%%')}",
        *([f"User={service.user}"] if service.user else []),
        *(f"{LIMITS[limit][1]}={value}" for limit, value in service.limits),
        "UMask=0022",
        "Restart=always",
        "RestartSec=1",
        "KillMode=mixed",
        f"TimeoutStopSec={service.stop_timeout}",
        "TasksMax=infinity",
        # a step that used too much memory does not end the service
        *(["Delegate=yes", "OOMPolicy=continue"] if service.delegate else []),
        *([f"Slice={service.slice}"] if service.share else []),
        *([f"OOMScoreAdjust={service.share.oom}"] if service.share.oom else []),
        *confinement(service),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    own = {f"{supervision.UNITS}/{service.slice}": Text(slice_text(service), 0o644)} if service.share else {}
    return {f"{supervision.UNITS}/{service.unit}": Text("\n".join(lines) + "\n", 0o644), **own,
            **environment_file(service)}
