"""Imports between sub-packages form no cycles, and what belongs in one place stays there.

Read from the syntax tree of distill/.

Every rule is a function of {module name: source}, so each is also shown a source that breaks it.
"""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
Sources = dict[str, str]

# What a sub-package may import of the others; `None`: everything that makes no cycle.
ALLOWED: dict[str, set[str] | None] = {
    "data": {"data", "models"},
    "models": {"data", "models"},
    "losses": {"data", "models", "losses"},
    "teachers": {"data", "models", "losses", "teachers", "training", "runs"},
    "training": {"data", "models", "losses", "teachers", "training", "runs"},
    "runs": {"data", "models", "losses", "teachers", "training", "runs"},
    "tables": {"config", "runs", "tables"},
    "report": {"config", "data", "exchange", "losses", "runs", "tables", "report"},
    "config": None,
    "exchange": {"config", "data", "models", "runs", "tables", "training", "exchange"},
    "execution": {"config", "data", "models", "runs", "tables", "teachers", "training", "execution"},
    "cli": None,
    "__main__": {"cli"},
}
CONFIGURED = {"config", "execution", "cli"}  # the only ones that may know Hydra
# `distill ls` and `distill table` answer at once: no torch below these and distill.tables.
QUICK = {f"distill.{name}" for name in ("cli", "cli.ls", "cli.table", "runs.store", "runs.identity", "runs.lock")}
# Neither does `import distill` wait for it, nor an export that is refused.
QUICK |= {
    "distill",
    *(f"distill.cli.{name}" for name in ("arguments", "completion", "evaluate", "export", "fill", "import")),
}
QUICK |= {f"distill.cli.{name}" for name in ("lookup", "losses", "models", "report", "train")}
METHOD_WORDS = {"method", "objective", "loss", "loss_name", "distiller", "preset"}


def read_sources() -> Sources:
    """Every module of the package, by its dotted name."""
    sources = {}
    for path in sorted((ROOT / "distill").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return sources


@cache
def parse(source: str) -> ast.Module:
    """The syntax tree of a source."""
    return ast.parse(source)


def part(module: str) -> str:
    """The sub-package of a module of distill: `data` for `distill.data.digits`; empty elsewhere."""
    return module.split(".")[1] if module.startswith("distill.") else ""


def statements(node: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """All nodes below `node`; with `at_import` only what an import of the module executes."""
    for child in ast.iter_child_nodes(node):
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from statements(child, at_import=at_import)


def imports(name: str, sources: Sources, *, at_import: bool = False) -> set[str]:
    """The modules that a module imports, by full name (`from distill import data`: distill.data)."""
    found: set[str] = set()
    is_package = any(other.startswith(f"{name}.") for other in sources)
    for node in statements(parse(sources[name]), at_import=at_import):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")
            above = above[: len(above) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            members = {f"{base}.{alias.name}" for alias in node.names}
            found.update(members & sources.keys() or {base})
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found.update(str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))
    return found


def unlisted_imports(sources: Sources) -> list[str]:
    """Imports of a sub-package that ALLOWED does not list for the importing one."""
    return [
        f"{name} imports {target}"
        for name in sources
        for target in sorted(imports(name, sources))
        if part(name) and part(target) not in {"", part(name)}
        if (allowed := ALLOWED.get(part(name), set())) is not None and part(target) not in allowed
    ]


def unknown_parts(sources: Sources) -> list[str]:
    """Sub-packages that ALLOWED does not list."""
    return sorted({part(name) for name in sources} - {"", *ALLOWED})


def package_cycles(sources: Sources) -> list[str]:
    """Sub-packages that import each other, directly or by way of others."""
    edges = {(part(name), part(target)) for name in sources for target in imports(name, sources)}
    edges = {(a, b) for a, b in edges if a and b and a != b}

    def reach(start: str, seen: set[str]) -> set[str]:
        for a, b in edges:
            if a == start and b not in seen:
                seen.add(b)
                reach(b, seen)
        return seen

    return sorted(a for a in {part(name) for name in sources} if a in reach(a, set()))


def configured_below(sources: Sources) -> list[str]:
    """Hydra or OmegaConf anywhere but at the composition root."""
    return [
        f"{name} imports {target}"
        for name in sources
        for target in sorted(imports(name, sources))
        if target.split(".")[0] in {"hydra", "omegaconf"} and part(name) not in CONFIGURED
    ]


def torch_at_import(sources: Sources) -> list[str]:
    """Modules that must answer at once, but import torch, by themselves or by way of another module."""
    heavy = {"torch", "torchvision", "timm"}

    def route(name: str, seen: set[str]) -> list[str] | None:
        seen.add(name)
        parents = {name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)}
        for target in sorted(imports(name, sources, at_import=True) | parents):
            if target.split(".")[0] in heavy:
                return [name, target]
            known = target if target in sources else target.rpartition(".")[0]
            if known in sources and known not in seen and (rest := route(known, seen)):
                return [name, *rest]
        return None

    quick = [name for name in sources if name in QUICK or part(name) == "tables"]
    return [" -> ".join(found) for name in quick if (found := route(name, set()))]


def instantiating(sources: Sources) -> list[str]:
    """The modules that name Hydra's `instantiate`."""

    def names_it(node: ast.AST) -> bool:
        imported = isinstance(node, ast.ImportFrom) and any(a.name == "instantiate" for a in node.names)
        return imported or (isinstance(node, ast.Attribute) and node.attr == "instantiate")

    return [name for name, source in sources.items() if any(map(names_it, ast.walk(parse(source))))]


def scattered_instantiate(sources: Sources) -> list[str]:
    """`instantiate` in more than one file, or outside distill/config."""
    found = instantiating(sources)
    return found if len(found) > 1 or any(part(name) != "config" for name in found) else []


def nameless(sources: Sources) -> list[str]:
    """Modules called utils: the name says nothing."""
    return [name for name in sources if {"utils", "util"} & set(name.split("."))]


def twin_classes(sources: Sources) -> list[str]:
    """Classes of one name in two modules."""
    homes: dict[str, list[str]] = {}
    for name, source in sources.items():
        for node in ast.walk(parse(source)):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name)
    return [f"{name}: {', '.join(found)}" for name, found in homes.items() if len(found) > 1]


def preset_names() -> set[str]:
    """What a loss may be called."""
    return {"ce", "kd", "zscore_kd"} | {path.stem for path in (ROOT / "configs/loss").rglob("*.yaml")}


def comparands(node: ast.Compare | ast.Match) -> list[ast.expr]:
    """Both sides of ==, != and `in`, tuples and sets taken apart; the subject and the patterns of a match."""
    if isinstance(node, ast.Match):
        values = [n.value for case in node.cases for n in ast.walk(case.pattern) if isinstance(n, ast.MatchValue)]
        return [node.subject, *values]
    if not any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
        return []
    sides = [node.left, *node.comparators]
    groups = [side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side] for side in sides]
    return [item for group in groups for item in group]


def method_ladders(sources: Sources) -> list[str]:
    """Comparisons in the trainer with the name of a preset, or of a method or loss with a string."""
    presets, found = preset_names(), []
    for name in (n for n in sources if part(n) == "training"):
        for node in ast.walk(parse(sources[name])):
            sides = comparands(node) if isinstance(node, ast.Compare | ast.Match) else []
            texts = {s.value for s in sides if isinstance(s, ast.Constant) and isinstance(s.value, str)}
            inside = [n for side in sides for n in ast.walk(side)]
            words = {n.id for n in inside if isinstance(n, ast.Name)}
            words |= {n.attr for n in inside if isinstance(n, ast.Attribute)}
            if texts & presets or (texts and words & METHOD_WORDS):
                found.append(f"{name}: {ast.unparse(node).splitlines()[0]}")
    return found


def long_fit(sources: Sources) -> list[str]:
    """A training loop that no longer fits on a page and a half."""
    return [
        f"{name}.fit has {node.end_lineno - node.lineno + 1} lines"
        for name, source in sources.items()
        for node in ast.walk(parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "fit" and node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > 120
    ]


RULES = [
    unlisted_imports,
    unknown_parts,
    package_cycles,
    configured_below,
    torch_at_import,
    scattered_instantiate,
    nameless,
    twin_classes,
    method_ladders,
    long_fit,
]
Rule = Callable[[Sources], list[str]]

BROKEN: list[tuple[Rule, Sources]] = [
    (unlisted_imports, {"distill.losses.decoupled": "from distill.training import fit"}),
    (unlisted_imports, {"distill.data": "", "distill.data.x": "from ..training import fit"}),
    (unlisted_imports, {"distill.models": "from distill import cli", "distill.cli": ""}),
    (unlisted_imports, {"distill.losses.x": "def late():\n    import distill.runs.store"}),
    (
        unlisted_imports,
        {"distill.training.loop": "import importlib\nimportlib.import_module('distill.config')"},
    ),
    (unlisted_imports, {"distill.runs.store": "from distill.tables import Table"}),
    (unknown_parts, {"distill.helpers": ""}),
    (
        package_cycles,
        {
            "distill.runs": "import distill.teachers",
            "distill.teachers": "import distill.training",
            "distill.training": "import distill.runs",
        },
    ),
    (configured_below, {"distill.training.loop": "from omegaconf import DictConfig"}),
    (configured_below, {"distill.runs.store": "def f():\n    import hydra.utils"}),
    (torch_at_import, {"distill.tables.rows": "import torch"}),
    (torch_at_import, {"distill.cli": "from distill import models", "distill.models": "import timm"}),
    (torch_at_import, {"distill.runs": "from torch import nn", "distill.runs.lock": "import os"}),
    (
        torch_at_import,
        {"distill.runs.store": "from distill.data.dataset import f", "distill.data": "from . import stream"}
        | {"distill.data.dataset": "", "distill.data.stream": "import torch"},
    ),
    (scattered_instantiate, {"distill.cli.train": "from hydra.utils import instantiate"}),
    (
        scattered_instantiate,
        {
            "distill.config.a": "hydra.utils.instantiate(x)",
            "distill.config.b": "hydra.utils.instantiate(y)",
        },
    ),
    (nameless, {"distill.data.utils": ""}),
    (twin_classes, {"distill.tables.table": "class Cell: ...", "distill.config.sweep": "class Cell: ..."}),
    (method_ladders, {"distill.training.loop": "if method == 'anything': pass"}),
    (method_ladders, {"distill.training.loop": "if run.objective in ('a', 'b'): pass"}),
    (method_ladders, {"distill.training.step": "x = 1 if name == 'zscore_kd' else 2"}),
    (method_ladders, {"distill.training.step": "match loss:\n    case 'a': pass"}),
    (long_fit, {"distill.training.loop": "def fit():\n" + "    x = 1\n" * 120}),
]

SOUND: Sources = {
    "distill": "",
    "distill.__main__": "from distill.cli import main",
    "distill.data": "import torch\nfrom distill.data.stream import Batch",
    "distill.data.stream": "",
    "distill.losses.x": "from distill.losses.softened import kl_rows\nfrom ..models import Output",
    "distill.training.loop": "def fit():\n" + "    x = device.type == 'cuda' or loss < best['kd']\n" * 119,
    "distill.runs": "",
    "distill.runs.store": "import yaml\nif TYPE_CHECKING:\n    import torch",
    "distill.runs.checkpoint": "import torch",
    "distill.tables.rows": "from distill.runs import store\ndef late():\n    import torch",
    "distill.config.build": "from hydra.utils import instantiate\nimport distill.training.loop",
    "distill.cli": "from distill.config import build\ndef late():\n    from distill.runs import checkpoint",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Rule) -> None:
    assert rule(read_sources()) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_package_passes(rule: Rule) -> None:
    assert rule(SOUND) == []


@pytest.mark.parametrize(("rule", "sources"), BROKEN, ids=lambda x: getattr(x, "__name__", ""))
def test_a_violation_is_seen(rule: Rule, sources: Sources) -> None:
    assert rule(sources)


def test_the_walk_covers_the_package_and_compose_builds_the_objects() -> None:
    sources = read_sources()
    assert {"distill", "distill.__main__"} <= sources.keys()
    assert len(instantiating(sources)) == any(part(name) == "config" for name in sources)
