"""Small changes made to the pure core, one at a time: which of them no unit test notices.

    python tests/bench/mutants.py [--files plan.py,solve.py] [--sample 300] [--seed 1] [--seconds 20]

Each mutant is a process of its own, in which the changed module stands in for the real one; nothing is written into the
tree. A survivor is printed with its line, to be looked at: either a test is missing, or the change makes no difference.
What messages say is left alone: an f-string, what is raised, and a text of six words or more (a pattern or a command,
which has | or \\ or $ in it, is none). A test of each wording would only repeat it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from common import PROJECT, load, table

CORE = {  # a file below plugins/ -> the unit tests that are for it
    "module_utils/canonical.py": "platforms",
    "module_utils/gobuild.py": "gobuild",
    "module_utils/platforms.py": "platforms",
    "module_utils/progress.py": "progress",
    "module_utils/service_files.py": "supervision",
    "module_utils/supervision.py": "supervision",
    "plugin_utils/build/byhand.py": "byhand",
    "plugin_utils/schedule/scheduler.py": "schedule schedule_fleet",
    "plugin_utils/schedule/board.py": "schedule schedule_fleet",
    "plugin_utils/schedule/claims.py": "schedule schedule_fleet",
    "plugin_utils/schedule/nodes.py": "schedule schedule_fleet",
    "plugin_utils/schedule/ready.py": "schedule schedule_fleet",
    "plugin_utils/schedule/units.py": "schedule schedule_fleet",
    "plugin_utils/schedule/wanted.py": "schedule schedule_fleet",
    "plugin_utils/build/solve.py": "solve",
    "plugin_utils/catalog/lockfile.py": "lockfile lock_for_recipe catalog locker",
    "plugin_utils/kinds/go_failures.py": "go_failures",
    "plugin_utils/plan/plan.py": "plan catalog",
    "plugin_utils/plan/selection.py": "selection",
    "plugin_utils/recipe/contract.py": "contract",
    "plugin_utils/recipe/dockerfile.py": "dockerfile plan catalog contract",
    "plugin_utils/recipe/evaluation.py": "dockerfile plan catalog",
    "plugin_utils/recipe/expansion.py": "expansion dockerfile",
    "plugin_utils/recipe/instructions.py": "dockerfile expansion catalog",
    "plugin_utils/registry/oci.py": "oci",
    "plugin_utils/registry/tags.py": "oci indexes",
}
PACKAGE = "ansible_collections.desimages.farm.plugins."
COMPARISONS = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
               ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr}


@dataclass(frozen=True)
class Mutant:
    """One change: the file below plugins/, the line, what was and what is, and the whole text with it."""

    file: str
    line: int
    before: str
    after: str
    text: str


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """The ways in which a node may be another one."""
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            if type(operator) in COMPARISONS:
                made = copy.deepcopy(node)
                made.ops[at] = COMPARISONS[type(operator)]()
                yield made
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield ast.Constant(node.value + 1)
        elif isinstance(node.value, str) and node.value:
            yield ast.Constant(node.value + "x")
    elif isinstance(node, (ast.DictComp, ast.ListComp, ast.SetComp, ast.GeneratorExp)):
        for at, generator in enumerate(node.generators):
            if generator.ifs:
                made = copy.deepcopy(node)
                made.generators[at].ifs = []
                yield made
    elif isinstance(node, ast.Dict) and len(node.keys) > 1:
        for at in range(len(node.keys)):
            yield ast.Dict(node.keys[:at] + node.keys[at + 1:], node.values[:at] + node.values[at + 1:])
    elif isinstance(node, ast.Call) and isinstance(node.func,
                                                   ast.Name) and node.func.id in ("sorted",
                                                                                  "reversed") and len(node.args) == 1:
        yield ast.Call(ast.Name("list", ast.Load()), node.args, [])
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, ast.Continue):
        yield ast.Break()


def skipped(tree: ast.AST) -> set[ast.AST]:
    """What is not changed: docstrings, annotations, and what messages say."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.add(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if len(node.value.split()) >= 6 and not set(node.value) & set("|\\$"):
                found.add(node)
        elif isinstance(node, (ast.JoinedStr, ast.Raise)):
            found.update(ast.walk(node))
        elif isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation:
            found.update(ast.walk(node.annotation))
        elif isinstance(node, ast.FunctionDef):
            found.update(ast.walk(node.returns) if node.returns else ())
            found.update(ast.walk(node.decorator_list[0]) if node.decorator_list else ())
        elif isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                found.update(ast.walk(decorator))
    return found


def mutants(file: str) -> list[Mutant]:
    """All changes of one file."""
    text = (PROJECT / "plugins" / file).read_text()
    tree = ast.parse(text)
    left_alone, found = skipped(tree), []
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            for at, node in enumerate(value) if isinstance(value, list) else [(-1, value)]:
                if not isinstance(node, ast.AST) or node in left_alone:
                    continue
                for other in changed(node):
                    if at < 0:
                        setattr(parent, field, other)
                    else:
                        value[at] = other
                    with contextlib.suppress(ValueError):  # no program any more
                        whole = ast.unparse(ast.fix_missing_locations(tree))
                        found.append(Mutant(file, getattr(node, "lineno", 0), ast.unparse(node), ast.unparse(other),
                                            whole))
                    if at < 0:
                        setattr(parent, field, node)
                    else:
                        value[at] = node
    return found


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a text instead of its file."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name, self.path, self.text = name, path, text

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self, origin=str(self.path)) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        exec(compile(self.text, str(self.path), "exec"), module.__dict__)


def killed(mutant: Mutant, seconds: float) -> bool:
    """Whether a unit test fails with it, in a process of its own; one that takes too long has failed."""
    import pytest

    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.setsid()
        name = PACKAGE + mutant.file[: -len(".py")].replace("/", ".")
        path = PROJECT / "plugins" / mutant.file
        sys.meta_path.insert(0, StandIn(name, path, mutant.text))
        tests = [f"tests/unit/test_{test}.py" for test in CORE[mutant.file].split()]
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=1", *tests])
        os._exit(0 if code == 0 else 1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.02)  # the child's end and the deadline are awaited together
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="", help="ends of the names of files, separated by commas; default: all")
    parser.add_argument("--sample", type=int, default=300, help="mutants to try, chosen by chance; 0 is all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="that the tests of one mutant may take")
    arguments = parser.parse_args()
    os.chdir(PROJECT)
    for name in ("hypothesis", "yaml", "jsonschema", "urllib3", "jmespath", "ansible.plugins.action",
                 "cattrs.preconf.json"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)  # once, and not once a mutant
    ends = tuple(filter(None, arguments.files.split(",")))
    everything = [mutant for file in CORE if not ends or file.endswith(ends) for mutant in mutants(file)]
    chosen = everything
    if arguments.sample and arguments.sample < len(everything):
        chosen = random.Random(arguments.seed).sample(everything, arguments.sample)
    for file in sorted({mutant.file for mutant in chosen}):
        if killed(Mutant(file, 0, "", "", ast.unparse(ast.parse((PROJECT / "plugins" / file).read_text()))),
                  5 * arguments.seconds):
            sys.exit(f"{file}: its unit tests fail without any change; see: pytest tests/unit")
    rows: dict[str, list[int]] = {}
    for mutant in sorted(chosen, key=lambda mutant: (mutant.file, mutant.line)):
        row = rows.setdefault(mutant.file, [0, 0])
        row[0] += 1
        if killed(mutant, arguments.seconds):
            row[1] += 1
        else:
            print(f"survived: {mutant.file}:{mutant.line}: {mutant.before[:90]}  ->  {mutant.after[:90]}", flush=True)
    print(table(["file", "mutants", "killed", "share"],
                [[file, tried, dead, f"{100 * dead // tried} %"] for file, (tried, dead) in rows.items()]))
    tried, dead = (sum(row[at] for row in rows.values()) for at in (0, 1))
    print(f"{dead} of {tried} mutants killed by the unit tests: {100 * dead / tried:.1f} % (of {len(everything)} there "
          f"are; seed {arguments.seed}); {load()}")


if __name__ == "__main__":
    main()
