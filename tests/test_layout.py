"""The structure of the project, held: who imports whom, who knows what, how large things are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from toys import ROOT

import phrase_scorer

CORE = sorted((ROOT / "phrase_scorer").rglob("*.py"))
MOSES = sorted((ROOT / "moses_integration").rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_knows_no_moses_file(path):
    assert "moses_integration" not in imports(path)


def test_the_integration_imports_the_core():
    assert any("phrase_scorer" in imports(path) for path in MOSES)


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_does_not_split_entries(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            assert b"|||" not in node.value


def test_one_module_knows_the_separator():
    owners = [path.name for path in MOSES if b'= b"|||"' in path.read_bytes()]
    assert owners == ["phrase_table.py"]


@pytest.mark.parametrize("path", CORE + MOSES, ids=name_of)
def test_documented_and_of_readable_size(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name
    assert path.stem not in {"utils", "helpers", "common", "misc"}


# Who may import whom, a line per wing: itself, what is named here, and nothing else.
CORE_WINGS = {
    "runtime": set(),
    "text": {"runtime"},
    "models": {"runtime", "text"},
    "training": {"runtime", "text", "models"},
    "scoring": {"runtime", "text", "models"},
    "language_model": {"runtime", "text", "models", "scoring"},
    "studies": {"runtime", "text", "models", "training", "scoring"},
    "cli": {"runtime", "text", "models", "training", "scoring", "language_model", "studies"},
}
MOSES_WINGS = {
    "formats": set(),
    "evaluation": set(),
    "preparation": set(),
    "ems": set(),
    "system": {"formats"},
    "decoder": {"formats", "system"},
    "rescoring": {"formats", "system"},
    "reranking": {"formats", "system", "decoder", "evaluation"},
    "experiment": {"formats", "system", "decoder", "rescoring", "reranking", "evaluation"},
    "cli": {
        *("formats", "system", "decoder", "rescoring", "reranking", "evaluation", "experiment"),
        *("preparation", "ems"),
    },
}
SMALL = {"__init__", "__main__", "errors", "version"}  # modules beside the wings


def wing_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[1]


def wings_imported(path: Path, package: str) -> set[str]:
    """The wings of a package that a module imports from, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == package:
                found |= {parts[1]} if len(parts) > 1 else {name.name for name in node.names}
    return found - SMALL


@pytest.mark.parametrize(
    ("package", "wings"), [("phrase_scorer", CORE_WINGS), ("moses_integration", MOSES_WINGS)]
)
def test_imports_go_one_way(package, wings):
    for path in (ROOT / package).rglob("*.py"):
        wing = wing_of(path)
        if wing not in SMALL:
            assert wings_imported(path, package) <= wings[wing] | {wing}, name_of(path)


def test_the_readme_names_every_wing():
    readme = (ROOT / "README.md").read_text()
    for wing in {wing_of(path) for path in CORE + MOSES} - SMALL:
        assert f"`{wing}/`" in readme or f"`{wing}.py`" in readme, wing


def test_a_wing_says_what_it_is_and_exports_nothing():
    for head in [
        *ROOT.glob("phrase_scorer/*/__init__.py"),
        *ROOT.glob("moses_integration/*/__init__.py"),
    ]:
        assert 2 <= len(ast.get_docstring(ast.parse(head.read_text())).splitlines()) <= 12, head


def test_public_names():
    assert sorted(phrase_scorer.__all__) == list(phrase_scorer.__all__)
    for name in phrase_scorer.__all__:
        assert getattr(phrase_scorer, name) is not None
    with pytest.raises(AttributeError):
        _ = phrase_scorer.no_such_name
