"""The structure of the project, held: who imports whom, who knows what, how large things are."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import click
import pytest
from toys import ROOT

import phrase_scorer
from moses_integration.cli import command_line

CORE = sorted((ROOT / "phrase_scorer").rglob("*.py"))
MOSES = sorted((ROOT / "moses_integration").rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
USUAL_FUNCTION = 25  # nine of ten are no longer


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


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def lengths(tree: ast.AST) -> list[tuple[str, int]]:
    """(name, lines) of each function."""
    return [(node.name, node.end_lineno - node.lineno + 1) for node in functions(tree)]


@pytest.mark.parametrize("path", CORE + MOSES, ids=name_of)
def test_documented_and_of_readable_size(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert len(text.splitlines()) <= LONGEST_FILE
    for name, lines in lengths(tree):
        assert lines <= LONGEST_FUNCTION, name
    assert path.stem not in {"utils", "helpers", "common", "misc"}


def test_most_functions_are_short():
    trees = [ast.parse(path.read_text()) for path in CORE + MOSES]
    lines = sorted(lines for tree in trees for _, lines in lengths(tree))
    assert lines[int(0.9 * len(lines))] <= USUAL_FUNCTION


def assert_known(found: set[str], known: set[str]) -> None:
    """Nothing but the known exceptions, and each of them still needed: the lists only shrink."""
    assert not found - known, "against the rule"
    assert not known - found, "no exceptions any more: take them out of the list"


def public_names(tree: ast.Module) -> Iterator[str]:
    """The functions, classes and constants that a module defines at its top."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def test_a_public_name_has_one_home():
    homes = defaultdict(set)
    for path in CORE + MOSES:
        for name in public_names(ast.parse(path.read_text())):
            homes[name].add(name_of(path))
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_imports_go_in_no_circle():
    """Those within functions and those for types among them."""
    modules = {name_of(path).removesuffix(".py").replace("/", "."): path for path in CORE + MOSES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    arrows = {}
    for name, path in modules.items():
        nodes = ast.walk(ast.parse(path.read_text()))
        froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
        inner = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
        arrows[name] = ({node.module for node in froms} | inner) & modules.keys() - {name}
    assert list(TopologicalSorter(arrows).static_order())  # a CycleError names the modules


def test_a_command_hands_on_a_request_and_no_dict_of_options():
    found = set()
    for path in CORE + MOSES:
        for function in functions(ast.parse(path.read_text())):
            given = function.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            if "options: dict[str, Any]" in map(ast.unparse, arguments):
                found.add(f"{name_of(path)} {function.name}")
    assert not found


# Options whose help says too little.
POOR_HELP: set[str] = set()


def helps(command: click.Command, name: str = "") -> Iterator[tuple[str, str]]:
    """(command and option, what --help says of it), of all commands and their commands."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from helps(inner, f"{name} {inner.name}".strip())
    yield name or "all", command.help or ""
    for option in command.params:
        if isinstance(option, click.Option):
            yield f"{name} {option.opts[0]}".strip(), option.help or ""


def test_every_help_text_can_stand_alone():
    poor = set()
    for option, text in helps(command_line()):
        words = re.sub(r"\[default: .*\]", "", text).split()
        if len(words) < 3 or words[0] == "Of":
            poor.add(option)
    assert_known(poor, POOR_HELP)


# Who may import whom, a line per wing: itself, what is named here, and nothing else.
CORE_WINGS = {
    "runtime": set(),
    "text": {"runtime"},
    "models": {"runtime", "text", "kernels"},
    "kernels": {"runtime"},
    "training": {"runtime", "text", "models", "kernels"},
    "scoring": {"runtime", "text", "models", "kernels"},
    "language_model": {"runtime", "text", "models", "kernels", "scoring"},
    "studies": {"runtime", "text", "models", "training", "scoring"},
    "cli": {
        *("runtime", "text", "models", "kernels", "training", "scoring", "language_model"),
        "studies",
    },
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
    "report": {"formats", "decoder", "rescoring"},
    "cli": {
        *("formats", "system", "decoder", "rescoring", "reranking", "evaluation", "experiment"),
        *("preparation", "ems", "report"),
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


def test_nothing_but_its_commands_imports_the_studies():
    importers = {
        name_of(path)
        for path in CORE + MOSES
        if "studies" in wings_imported(path, "phrase_scorer") and wing_of(path) != "studies"
    }
    assert importers == {"phrase_scorer/cli/studies.py"}


def test_the_map_names_every_wing():
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    for wing in {wing_of(path) for path in CORE + MOSES} - SMALL:
        assert f"`{wing}/`" in guide or f"`{wing}.py`" in guide, wing


def test_a_wing_says_what_it_is_and_exports_nothing():
    for head in [
        *ROOT.glob("phrase_scorer/*/__init__.py"),
        *ROOT.glob("moses_integration/*/__init__.py"),
    ]:
        assert 2 <= len(ast.get_docstring(ast.parse(head.read_text())).splitlines()) <= 12, head


def test_public_names():
    assert sorted(phrase_scorer.__all__) == list(phrase_scorer.__all__)
    assert set(phrase_scorer.__all__) <= set(dir(phrase_scorer))
    for name in phrase_scorer.__all__:
        assert getattr(phrase_scorer, name) is not None
    with pytest.raises(AttributeError):
        _ = phrase_scorer.no_such_name
