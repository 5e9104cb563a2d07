# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of all actions of the farm: it checks arguments and makes them plain, and turns errors into results in one
place."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.json import get_encoder
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.desimages.farm.plugins.doc_fragments.farm import ModuleDocFragment
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable, system_error
from ansible_collections.desimages.farm.plugins.plugin_utils import libraries
from ansible_collections.desimages.farm.plugins.plugin_utils.deadline import Late, deadline, end_children
from ansible_collections.desimages.farm.plugins.plugin_utils.output import can_print

if TYPE_CHECKING:
    from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

SECRETS = ("password", "source_password", "signing_key")  # options of any action whose values are shown nowhere
STOPS = (signal.SIGINT, signal.SIGTERM)
RESET = 10.0  # seconds to close a connection
display = Display()
Result = TypeVar("Result")


def plain(value: Any) -> Any:
    """The value without Ansible's tags: libraries look at exact types (see docs/architecture.md)."""
    return json.loads(json.dumps(value, cls=get_encoder("tagless")))


class FarmAction(ActionBase):
    """An action whose arguments are those in its DOCUMENTATION. Subclasses give that text, and `act()`."""

    DOCUMENTATION = ""

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Does the work; returns the result. Raises FarmError."""
        raise NotImplementedError

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments: dict[str, Any] = {}
        os.umask(os.umask(0o077) | 0o002)  # the user's own, but nobody else may write to what a run leaves
        # This worker shares its memory with ansible-playbook. A collection writes into each object, which would copy
        # all of it, for each of a hundred nodes.
        gc.freeze()
        try:
            libraries.check()
            options = documented(self.DOCUMENTATION)
            checked = ArgumentSpecValidator(argument_spec(options)).validate(listed(options, plain(self._task.args)))
            if wrong := checked.error_messages or blank(options, checked.validated_parameters):
                raise AnsibleActionFail("; ".join(wrong))
            arguments = checked.validated_parameters
            with stoppable():
                found = self.act(arguments, task_vars or {})
        except FarmError as error:
            found = {"failed": True, **error.as_result()}
        except OSError as error:
            found = {"failed": True, **system_error(error).as_result()}
        secrets = {arguments[name] for name in SECRETS if arguments.get(name)}
        return {**result, **(remove_values(found, secrets) if secrets else found)}

    @property
    def check(self) -> bool:
        return bool(self._task.check_mode)

    @property
    def diff(self) -> bool:
        return bool(self._task.diff)

    def registry(self, arguments: dict[str, Any], **options: Any) -> Registry:
        """The client for the registry of the arguments: `registry`, `ca`, `user`, `password`."""
        from ansible_collections.desimages.farm.plugins.plugin_utils.registry import access, client  # most need none

        found = client.Registry(arguments["registry"], access=access.Access.of(arguments), **options)
        found.on_trouble(self.warn)
        return found

    def execute(self, command: str, stdin: str, seconds: float) -> tuple[int, str, str]:
        """Runs a shell command on the host, as the task's become user: exit code, output, errors.

        Raises AnsibleConnectionFailure if the host cannot be reached, or if the command takes longer than `seconds`.
        """
        with contextlib.suppress(AnsibleError):  # some connections have no such option
            # without it Ansible may use a terminal (for sudo's password), which would swallow the input
            self._connection.set_option("pipelining", True)
        try:
            with deadline(seconds):
                found = self._low_level_execute_command(command, sudoable=True,
                                                        in_data=stdin.encode() if stdin else None)
        except Late:
            end_children()
            with contextlib.suppress(Late, AnsibleError, AttributeError), deadline(RESET):
                self._connection.reset()  # the next attempt must not go through the connection that hangs
            raise AnsibleConnectionFailure(f"no answer within {seconds:.0f} s") from None
        return found["rc"], found["stdout"], found["stderr"]

    def python(self, task_vars: dict[str, Any]) -> str:
        """The Python of the host: the one that the inventory names, or the one that Ansible finds there."""
        told = task_vars.get("ansible_python_interpreter")
        told = told or C.config.get_config_value("INTERPRETER_PYTHON", variables=task_vars)
        found = str(self._templar.template(told))
        if not found.startswith("auto"):
            return found
        facts: dict[str, Any] = task_vars.get("ansible_facts") or {}
        if "discovered_interpreter_python" not in facts:  # no module has run on this host yet: a module finds it
            pinged: dict[str, Any] = self._execute_module(module_name="ansible.builtin.ping", task_vars=task_vars)
            facts = pinged.get("ansible_facts") or {}
        known = facts.get("discovered_interpreter_python")
        if not known:
            raise FarmError(f"Ansible finds no Python on {task_vars['inventory_hostname']}",
                            hint="set ansible_python_interpreter in the inventory")
        return str(known)

    def say(self, text: str) -> None:
        """Prints a line at once."""
        if can_print(1):
            display.display(text)

    def warn(self, text: str) -> None:
        if can_print(2):
            display.warning(text)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, a signal that stops ansible-playbook raises an exception here, so that each `finally` runs,
    and then this worker ends. Without this, Ansible kills its workers.

    Afterwards the worker's own handlers are back, as Ansible ends a worker by a signal when it has nothing more to do.
    """
    before = {number: signal.getsignal(number) for number in STOPS}

    def stop(number: int, frame: object) -> None:
        for each in STOPS:
            signal.signal(each, signal.SIG_IGN)  # Ansible sends SIGINT and then SIGTERM
        raise KeyboardInterrupt(f"signal {number}, process {os.getpid()}")

    try:
        for number in STOPS:
            signal.signal(number, stop)
        yield
    except KeyboardInterrupt:
        os._exit(1)  # Ansible would say so through a pipe that nobody reads any more, and if it is full, wait for ever
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def reaching(call: Callable[..., Result]) -> Callable[..., Result]:
    """The same call, but if the host cannot be reached it raises Unreachable, and for anything else that Ansible says
    of a connection, such as a wrong password for sudo, FarmError: Ansible does not learn of it, and the play goes on
    with the host."""
    def patient(*arguments: Any) -> Result:
        try:
            return call(*arguments)
        except AnsibleConnectionFailure as error:
            raise Unreachable(" ".join(str(error).split())) from error
        except AnsibleError as error:
            raise FarmError(" ".join(str(error).split())) from error

    return patient


def documented(text: str) -> dict[str, Any]:
    """The options in a DOCUMENTATION, including those of the farm's fragment."""
    value = yaml.safe_load(text)
    found: dict[str, Any] = {}
    for name in value.get("extends_documentation_fragment", []):
        part = name.removeprefix("desimages.farm.farm").lstrip(".").upper() or "DOCUMENTATION"
        found.update(yaml.safe_load(getattr(ModuleDocFragment, part))["options"])
    return {**found, **value["options"]}


def argument_spec(options: dict[str, Any]) -> dict[str, Any]:
    """The argument spec for the options of a DOCUMENTATION."""
    kept = ("type", "required", "default", "choices", "elements", "aliases")
    found = {}
    for name, option in options.items():
        spec = {key: option[key] for key in kept if key in option}
        if name in SECRETS:
            spec["no_log"] = True
        if isinstance(spec.get("choices"), dict):
            spec["choices"] = list(spec["choices"])
        if "suboptions" in option:
            spec["options"] = argument_spec(option["suboptions"])
        found[name] = spec
    return found


def blank(options: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
    """What is wrong with required paths that are empty: they would name the folder in which the run was started."""
    return [f"{name} is empty: give a path" for name, option in options.items()
            if option.get("required") and option["type"] == "path" and not arguments[name].strip()]


def listed(options: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with a list for a text with commas, as `-e farm_images='a, b'` gives it. Ansible's own list would
    have the spaces, and one empty text for an empty one."""
    return {name: [part for part in map(str.strip, value.split(",")) if part]
            if isinstance(value, str) and options.get(name, {}).get("type") == "list" else value
            for name, value in given.items()}


def controller() -> int:
    """The pid of ansible-playbook itself: this code runs in a worker that it forked."""
    return os.getppid()
