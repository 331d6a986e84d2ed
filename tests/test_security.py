"""What SECURITY.md says of the whole source, of its packages, and of the tests that it names."""

import ast
import re
import tomllib
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src/perptape").rglob("*.py"))
LOCKS = ("requirements.lock", "requirements-dev.lock")

RUNS_CODE = {"eval", "exec", "compile", "__import__"}
RUNS_PICKLES = {
    "pickle",
    "_pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
}
LISTENS = {"create_server", "start_server", "create_unix_server", "bind", "listen", "serve"}
TRUSTS_ANYBODY = {"CERT_NONE", "_create_unverified_context", "_create_stdlib_context"}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, getattr(node.func, "id", None) or getattr(node.func, "attr", None)


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text()) for path in SOURCES}


def found(trees, is_wrong):
    return [f"{path.name}: {what}" for path, tree in trees.items() for what in is_wrong(path, tree)]


def test_nothing_that_comes_from_outside_can_become_code(trees):
    def wrong(_path, tree):
        yield from (name for name in imports(tree) if name in RUNS_PICKLES)
        for node, name in calls(tree):
            of_a_module = isinstance(node.func, ast.Attribute)  # re.compile
            if name in RUNS_CODE and not of_a_module:
                yield name
            if any(k.arg == "shell" for k in node.keywords) or name in {"system", "popen"}:
                yield f"{name} by a shell"

    assert found(trees, wrong) == []


def test_only_the_simulators_listen(trees):
    def listening(path, tree):
        if path.parent.name != "sims":
            yield from (name for _, name in calls(tree) if name in LISTENS)

    assert found(trees, listening) == []


def test_tls_has_no_switch(trees):
    def wrong(_path, tree):
        for node in ast.walk(tree):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            if name in TRUSTS_ANYBODY:
                yield name
            is_set = isinstance(node, ast.Assign | ast.AugAssign)
            targets = getattr(node, "targets", [getattr(node, "target", None)]) if is_set else []
            if any(getattr(t, "attr", "") in {"check_hostname", "verify_mode"} for t in targets):
                yield "verification is set"
            is_off = isinstance(node, ast.keyword) and getattr(node.value, "value", True) in {
                None,
                False,
            }
            if is_off and node.arg in {"verify", "verify_ssl", "ssl"}:
                yield f"{node.arg} is off"

    assert found(trees, wrong) == []


def pinned(lock):
    """Give (name, version, marker, hashes) of every requirement of a lock."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    for line in filter(None, text.splitlines()):
        said, *hashes = line.split("--hash=")
        one = Requirement(said.strip())
        yield one, [h.strip() for h in hashes]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_one_version_and_its_hashes_and_no_address(lock):
    packages = list(pinned(lock))
    assert len(packages) > 40
    for one, hashes in packages:
        assert re.fullmatch(r"==[^=*]+", str(one.specifier)), one
        assert one.url is None, one
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), one
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert re.findall(r"^\s*-(?!-hash=)", text, re.MULTILINE) == []


def test_both_locks_agree_and_hold_all_that_is_asked_for():
    versions = [{(one.name, str(one.specifier)) for one, _ in pinned(lock)} for lock in LOCKS]
    assert versions[0] <= versions[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = [project["project"]["dependencies"] + groups["build"], groups["dev"]]
    for lock, names in zip(LOCKS, wanted, strict=True):
        held = {one.name: one.specifier for one, _ in pinned(lock)}
        for asked in map(Requirement, names):
            version = str(held[asked.name]).removeprefix("==")
            assert asked.specifier.contains(version, prereleases=True), asked


def test_what_is_installed_is_what_the_lock_says_and_fits_together():
    """What ``pip check`` asks, of the packages of the lock; ``./run`` may have installed by uv."""
    held = {d.name.lower().replace("_", "-"): d.version for d in distributions() if d.name}
    for one, _ in pinned(LOCKS[0]):
        if one.marker is not None and not one.marker.evaluate():
            continue
        assert held[one.name] == str(one.specifier).removeprefix("=="), one
        for needed in map(Requirement, distribution(one.name).requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                name = needed.name.lower().replace("_", "-")
                assert needed.specifier.contains(held[name], prereleases=True), (one, needed)


def test_run_installs_nothing_without_its_hash():
    script = (ROOT / "run").read_text()
    installs = [
        line
        for line in script.splitlines()
        if re.search(r"\b(pip|\"\$python\" -m pip).* install\b", line)
    ]
    assert len(installs) == 4
    for line in installs:
        assert "--require-hashes -r" in line or '--no-deps --no-build-isolation -e "$top"' in line


def test_the_tests_and_modules_that_security_md_names_are_there():
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 30
    for path, test in named:
        place = ROOT / ("tests" if "test_" in path else "src/perptape") / path
        assert place.is_file(), path
        assert not test or f"def {test}(" in place.read_text(), (path, test)
