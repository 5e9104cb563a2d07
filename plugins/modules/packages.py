#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install Debian packages without python3-apt, without starting their services, and without harming other packages."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install the Debian packages that a role of the farm needs
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Installs missing packages and their dependencies with apt-get, and changes nothing else on the machine. If apt would
    remove an installed package, change its version, or finish another program's installation, the module fails before
    it does anything, also in check mode, and names the packages.
  - Unlike M(ansible.builtin.apt) it does not need python3-apt, so it runs under any Python (also in a virtual
    environment), and check mode is right on a machine without python3-apt.
  - Waits for five minutes if another dpkg is working. If the module is killed, the installation continues to its end.
  - Services of the packages are not started during the installation, and no other service is stopped or restarted.
    C(invoke-rc.d) and C(deb-systemd-invoke), which Debian's packages use for that, do nothing during the installation.
    No C(policy-rc.d) is needed or created; an existing one stays as it is.
  - Units in O(quiet) are masked just before dpkg starts, so that they do not start at the next boot either. If the
    installation fails, the mask is removed again, unless the unit was installed anyway. If a package was already
    installed, its services are left as they are, even if another package of the same task is missing.
  - Settings in C(/etc) that a removed package left, and that somebody changed, stay as they are.
  - The package lists are fetched only if apt cannot say what it would do without them, or if a package is no longer
    where they say. In check mode they are fetched into a temporary folder.
attributes:
  check_mode:
    support: full
    description:
      - Can run in C(check_mode) and return changed status without changing anything.
      - An installation that would change other packages is refused in check mode too.
  diff_mode:
    support: full
    description: Returns the packages before and after.
  idempotent:
    support: full
    description: When run twice with the same parameters, the second run changes nothing.
options:
  names:
    description: The packages. Only names, without version, suite or architecture.
    type: list
    elements: str
    required: true
  quiet:
    description: systemd units of the packages that must not run, as C(NAME.service) or C(NAME.socket).
    type: list
    elements: str
    default: []
  remedy:
    description: What else the user can do if the packages cannot be installed. The message ends with it.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Install the registry without its service
  desimages.farm.packages:
    names: [docker-registry]
    quiet: [docker-registry.service]
"""

RETURN = r"""
installed:
  description: The packages that were missing.
  type: list
  elements: str
  returned: success
  sample: [runc]
new:
  description: Everything that apt installed for them, including dependencies. In check mode, what it would install.
  type: dict
  returned: success
  sample:
    libseccomp2: 2.5.4-1+deb12u1
    runc: 1.1.5+ds1-1+deb12u1
versions:
  description: The versions of all the packages. In check mode, only of those that are installed.
  type: dict
  returned: success
  sample:
    runc: 1.1.5+ds1-1+deb12u1
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import installation, programs, readiness, state
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError, system_error
from ansible_collections.desimages.farm.plugins.module_utils.installation import Plan
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc

ARGUMENTS = {
    "names": {"type": "list", "elements": "str", "required": True},
    "quiet": {"type": "list", "elements": "str", "default": []},
    "remedy": {"type": "str", "default": ""},
}
RUN = "/run"  # only root writes there, and it is empty after a boot
UNITS = "/etc/systemd/system"
BROUGHT = ("/usr/lib/systemd/system/{unit}", "/lib/systemd/system/{unit}", "/etc/init.d/{name}")
SCRIPT = "/etc/init.d/"  # a script there stays when its package is removed
STARTERS = ("deb-systemd-invoke", "invoke-rc.d")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # apt's default for dpkg
NO_MORE = ["-o", "APT::Get::AutomaticRemove=false", "--no-install-recommends"]
# of a file in /etc that its owner changed, and that a removed package left, dpkg would ask which one to take
OWNERS = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
APT = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", *OWNERS, *NO_MORE]
# without the caches and the log, which even a simulation would write
SIMULATE = ["--simulate", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Dir::Log::Planner="]
# needrestart, if installed, restarts services after apt ran: here it may only list them
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_MODE": "l"}
LONGEST = 3600.0  # seconds for one apt-get, which may wait for a slow mirror and for dpkg's lock
TURN = 300.0  # seconds to wait for another dpkg, the same as apt is told
BY_HAND = "run the same apt-get on that machine by hand"
NO_SOURCE = "no source of apt has a package"


@contextmanager
def quiet_path() -> Iterator[str]:
    """A PATH only for what dpkg runs, in which the programs that start and stop services do nothing.

    If the module is killed, it leaves only two links in a folder that nothing uses, until the next boot. Its
    apt-get continues to the end, and still starts nothing. The links lead to a program elsewhere, so /run may be
    mounted noexec.
    """
    folder = tempfile.mkdtemp(prefix="desimages-quiet-", dir=RUN)
    try:
        for name in STARTERS:
            os.symlink("/bin/true", f"{folder}/{name}")
        yield f"{folder}:{PATH}"
    finally:
        shutil.rmtree(folder)


@contextmanager
def masked(units: list) -> Iterator[list]:
    """Options of apt that mask the units which have no file yet, neither an admin's nor an installed package's: such a
    service may run. If the installation fails, only units that were installed stay masked.

    apt itself makes the masks, just before it starts dpkg. If the module was killed earlier, and apt gets no package,
    a mask would stay without one, and the service be off if its owner installed it one day.
    """
    paths = {unit: f"{UNITS}/{unit}" for unit in units
             if not os.path.lexists(f"{UNITS}/{unit}") and not brought(unit, scripts=False)}
    makes = [f"test -e {path} -o -L {path} || ln -s /dev/null {path}" for path in map(shlex.quote, paths.values())]
    before = "; ".join(["set -e", f"mkdir -p {shlex.quote(UNITS)}", *makes])
    try:
        yield ["-o", f"DPkg::Pre-Invoke::={before}"] if paths else []
    except BaseException:
        for unit, path in paths.items():
            if not brought(unit, scripts=True) and os.path.islink(path) and os.readlink(path) == "/dev/null":
                os.unlink(path)
        raise


def brought(unit: str, *, scripts: bool) -> bool:
    """Whether a package has brought a unit. With `scripts`, a script of sysvinit counts too."""
    paths = [path for path in BROUGHT if scripts or SCRIPT not in path]
    return any(os.path.lexists(path.format(unit=unit, name=unit.rpartition(".")[0])) for path in paths)


class Packages:
    """The packages of one task. Installed versions are read once, and apt is simulated before it may do anything."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.names, self.quiet = module.params["names"], module.params["quiet"]
        wrong = [
            f"names: {name!r} is not the plain name of a Debian package"
            for name in self.names
            if not installation.NAME.match(name)
        ]
        wrong += [f"quiet: {unit!r} is not NAME.service or NAME.socket" for unit in self.quiet
                  if not installation.UNIT.match(unit)]
        if wrong:
            raise BadInput(wrong, what="the packages to install")
        self.plan = Plan()
        self.look()
        if self.missing and at_work():  # it may install them
            if problem := readiness.until(at_work, TURN):
                raise self.refusal(problem, "wait until it ends, and run this again")
            self.look()

    def look(self) -> None:
        """Finds out what is installed and what is missing."""
        self.before = self.versions()
        self.missing = [name for name in self.names if name not in self.before]

    def versions(self) -> dict:
        """Package -> version, for the names that are installed. Raises FarmError if dpkg is missing."""
        if not self.names:
            return {}
        query = ["dpkg-query", "-W", "-f", "${Package}\\t${db:Status-Abbrev}\\t${Version}\\n", *self.names]
        code, out, err = programs.call(query, environment={**os.environ, **ENVIRONMENT})
        if code not in (0, 1):  # 1: some are unknown
            raise FarmError(f"dpkg-query failed with {code}: {err.strip()}", hint="is this a Debian machine?")
        return installation.parse_versions(out)

    def apt(self, words: list, options: list, settings: str = "") -> tuple:
        """Runs apt-get: (its output, '' or what went wrong). `settings` is a file that replaces apt's own."""
        environment = {**os.environ, **ENVIRONMENT, **({"APT_CONFIG": settings} if settings else {})}
        words_ = [*APT, *options, *words]
        code, out, err = programs.call(words_, seconds=LONGEST, environment=environment, lasting=True)
        last = "\n".join((out + err).strip().splitlines()[-15:])
        return out, f"apt-get {' '.join(words)} failed with {code}:\n{last}" if code else ""

    def simulate(self, lists: list) -> str:
        """Finds out what apt would do: '' or why that fails. `lists` are options that say where its lists are."""
        out, problem = self.apt(["install", *self.missing], [*lists, *SIMULATE])
        self.plan = Plan() if problem else Plan.parse(out)
        lacking = [] if problem else self.plan.lacks(self.missing)
        return f"{NO_SOURCE} {', '.join(lacking)}" if lacking else problem

    def simulate_anew(self) -> str:
        """The same with fresh package lists; in check mode these go to a temporary folder."""
        if not self.module.check_mode:
            outdated = self.apt(["update"], [])[1]
            problem = self.simulate([])
        else:
            with tempfile.TemporaryDirectory(prefix="desimages-lists-") as folder:
                os.chmod(folder, 0o711)  # apt fetches as a user of its own
                os.makedirs(f"{folder}/lists/partial")
                code, settings, err = programs.call(["apt-config", "dump"])
                if code:
                    raise FarmError(f"apt-config dump failed with {code}: {err.strip()}", hint=BY_HAND)
                with open(
                    os.open(f"{folder}/apt.conf", os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8"
                ) as file:
                    file.write(installation.fetching(settings))
                lists = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
                outdated = self.apt(["update"], lists, f"{folder}/apt.conf")[1]
                problem = self.simulate(lists)
        return "\n".join(filter(None, (problem, outdated))) if problem else ""

    def refusal(self, problem: str, hint: str) -> FarmError:
        hints = [text for text in (hint, self.module.params["remedy"]) if text]
        return FarmError(f"cannot install {', '.join(self.missing)}: {problem}", hint="; or ".join(hints))

    def consider(self) -> None:
        """Raises FarmError if apt would do anything but install missing packages."""
        if interrupted():
            raise self.refusal(
                "dpkg was interrupted earlier", "finish it on that machine first: dpkg --configure -a"
            )
        problem = self.simulate([]) and self.simulate_anew()
        if problem:
            raise self.refusal(problem, "add a source that has it to that machine's apt"
                               if problem.startswith(NO_SOURCE) else BY_HAND)
        harm = list(self.plan.harm(self.missing))
        if harm:
            would, hints = zip(*harm)
            simulation = f"apt-get --simulate install {' '.join(self.missing)}"
            raise self.refusal(f"apt would {'; '.join(would)}", f"{'; '.join(hints)} (`{simulation}` shows everything)")

    def install(self) -> None:
        """Installs them without starting services. Raises FarmError if that fails, or would do harm."""
        with masked(self.quiet) as masking, quiet_path() as path:
            words, options = ["install", *self.missing], ["--no-remove", "-o", f"DPkg::Path={path}", *masking]
            problem = self.apt(words, options)[1]
            if installation.stale(problem):
                self.apt(["update"], [])
                self.consider()
                problem = self.apt(words, options)[1]
            there = self.versions()
            lacking = [name for name in self.missing if name not in there]
            if lacking and not problem:
                problem = f"apt-get succeeded, but dpkg does not list {', '.join(lacking)} as installed"
            if problem:
                raise self.refusal(problem, BY_HAND)


def admin() -> str:
    """The folder of dpkg's database."""
    return os.environ.get("DPKG_ADMINDIR", "/var/lib/dpkg")


def interrupted() -> bool:
    """Whether dpkg has a journal of unfinished work, which a simulation does not look for."""
    try:
        return any(name.isdigit() for name in os.listdir(f"{admin()}/updates"))
    except FileNotFoundError:
        return False


def at_work() -> str:
    """Which other dpkg is working now; '' if none is. While it works, its journal does not mean an interruption."""
    users = Proc().users(f"{admin()}/lock") if interrupted() else []
    return f"another dpkg is working, process {users[0]}: {Proc().command(users[0])}" if users else ""


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        packages = Packages(module)
        if packages.missing:
            packages.consider()
            if not module.check_mode:
                packages.install()
        before, missing, coming = packages.before, packages.missing, packages.plan.coming()
        after = packages.versions() if missing and not module.check_mode else before
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    diff = {
        "before": "".join(f"{name} {before[name]}\n" for name in sorted(before)),
        "after": "".join(f"{name} {version}\n" for name, version in sorted({**before, **coming, **after}.items())),
    }
    module.exit_json(changed=bool(missing), installed=missing, new=coming, versions=after, diff=diff)


if __name__ == "__main__":
    main()
