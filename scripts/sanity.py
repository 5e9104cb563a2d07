"""Runs `ansible-test sanity` on this collection: sanity.py [ARGUMENTS...], further ones for ansible-test, such as
`--test pylint`.

ansible-test is that of the Python which runs this script. It needs the collection in a folder
ansible_collections/NAMESPACE/NAME, so the files that git knows are copied into one. Its environments (one for each
test) are kept in .cache/sanity; they come from the package registry, and ansible-test itself pins them.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from ansible_test._internal.python_requirements import get_venv_packages

PROJECT = Path(__file__).resolve().parents[1]
HOME = PROJECT / ".cache/sanity"
# ansible-test takes those that it knows and finds, for nodes from 3.9 on
PYTHONS = [f"3.{minor}" for minor in range(9, 16)]
HALVES = (["--skip-test", "pylint"], ["--test", "pylint"])  # which take about as long as each other
BOOTSTRAP = '''"""Installs the pip that Python brings: the script that ansible-test would load is on no registry."""

import ensurepip

ensurepip.bootstrap()
'''


def lay_out(root: Path) -> Path:
    """Copies what git knows or does not ignore below `root`, as a collection in a repository of its own; returns its
    folder."""
    folder = root / "ansible_collections/desimages/farm"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT,
                            capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = PROJECT / name, folder / name
        if os.path.lexists(source):  # not what is deleted and not committed yet
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def prepare_home() -> None:
    """Makes the home that ansible-test is given: it keeps its environments there, and hands no variable of ours on to
    pip."""
    for python in PYTHONS:
        version = get_venv_packages(SimpleNamespace(version=python))["pip"]
        script = HOME / f".ansible/test/cache/get_pip_{version.replace('.', '_')}.py"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(BOOTSTRAP, encoding="utf-8")
    netrc = HOME / ".netrc"
    netrc.unlink(missing_ok=True)
    netrc.symlink_to(Path.home() / ".netrc")
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True,
                          check=True).stdout
    # the last of a name is the one that counts
    found = re.findall(r"^(?:global|install|:env:)\.([a-z-]+)=(.*)$", said, re.M)
    settings = {name: str(ast.literal_eval(value)).replace("\n", "\n    ") for name, value in found
                if name != "config-file"}
    if proxy := os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY"):
        settings.setdefault("proxy", proxy)
    (HOME / ".pip").mkdir(exist_ok=True)
    config = HOME / ".pip/pip.conf"
    config.touch(mode=0o600)
    config.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()),
                      encoding="utf-8")


def search_path() -> str:
    """PATH, with ansible-test's own programs first, then a folder for each Python that runs; without folders whose
    Pythons do not (shims)."""
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    good, bad = [], set()
    for version in PYTHONS:
        for folder in [*folders, *sorted(pyenv.glob(f"{version}.*/bin"))]:
            program = folder / f"python{version}"
            if program.exists():
                if subprocess.run([program, "-c", "import venv, ensurepip"], capture_output=True,
                                  check=False).returncode == 0:
                    good.append(folder)
                    break
                bad.add(folder)
    found = [Path(sys.executable).parent, *good, *folders]
    return os.pathsep.join(str(folder) for folder in dict.fromkeys(found) if folder not in bad)


def main(words: list[str]) -> int:
    prepare_home()
    environment = {**os.environ, "HOME": str(HOME), "PATH": search_path()}
    with tempfile.TemporaryDirectory() as root, ThreadPoolExecutor() as pool:

        def run(number: int, half: list[str]) -> subprocess.CompletedProcess[str]:
            command = ["ansible-test", "sanity", "--color", "no", *half]
            return subprocess.run(command, cwd=lay_out(Path(root, str(number))), env=environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, check=False)

        done = list(pool.map(run, (0, 1), [words] if words else HALVES))
    for one in done:
        left_out = dict.fromkeys(re.findall(r"^WARNING: (?:Skipping|Required) .*\n", one.stdout, re.M))
        print(one.stdout if one.returncode else "".join(left_out), end="")
    return max(one.returncode for one in done)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
