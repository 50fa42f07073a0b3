"""The code of a user's own classes and functions: found and digested from its source, without importing anything.

A digest covers the syntax trees, without comments and docstrings, of the module of a `_target_` and of the local
modules that it imports, directly or by way of others. Local is what is neither in the standard library nor installed
in site-packages. An installed package counts by its name, its version and the digests that its installer recorded.
"""

import ast
import importlib.util
import json
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from distill.runs.target_names import current_name

OWN_CODE = "own_code"  # the key of a digest in a node of a run's identity, and of the files' digests in its provenance
# packages whose versions the provenance records
KNOWN_PACKAGES = frozenset({"distill", "timm", "torch", "torchvision"})
# their functions return an object that an argument names, which no digest of ours would cover
_INDIRECT = frozenset({"hydra", "importlib", "pkgutil", "pydoc", "runpy"})
_IMPORTERS = frozenset({"import_module", "__import__"})
_RUNNERS = frozenset({"exec_module", "load_source", "run_path", "runpy", "spec_from_file_location", "SourceFileLoader"})
_LAYOUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})  # fields of syntax trees that change no result


class Unreadable(ValueError):
    """Code whose source cannot be digested; the text is one sentence."""


@dataclass(frozen=True)
class OwnCode:
    """What a `_target_` outside the published packages consists of.

    digest   sha256 of all its code
    files    sha256 of each file's syntax tree by its path below the import path (`mine.py`, `nets/blocks.py`);
             for an installed package that of its record, by `NAME VERSION`
    paths    where these files lie; empty for an installed package
    modules  their dotted names
    """

    digest: str
    files: Mapping[str, str]
    paths: tuple[Path, ...] = ()
    modules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Source:
    """A local module: its file, the digest of its syntax tree, and the dotted names that it may import."""

    path: Path
    digest: str
    imports: frozenset[str]


# of modules that are loaded: what runs is the source as it was when it was imported, whatever happens to the file later
_LOADED: WeakKeyDictionary[ModuleType, tuple[ModuleSpec | None, _Source]] = WeakKeyDictionary()


def own_code(target: str) -> OwnCode | None:
    """The code behind the dotted path `target`; None for the published packages and the standard library.

    Raises Unreadable: there is no source, it cannot be found, or it runs code that its text does not name.
    """
    parts = current_name(target).split(".")
    if parts[0] in KNOWN_PACKAGES:
        return None
    if parts[0] in _INDIRECT:
        raise Unreadable(f"{target!r} takes its class or function from an argument: name the class or function itself")
    importlib.invalidate_caches()
    module = next((name for name in _heads(parts[:-1]) if _spec(name) or name in sys.modules), None)
    if module is None:
        raise Unreadable(f"the source of {target!r} is not found: put it into a file below the current folder")
    path = _file(module)
    if path is not None and not _is_local(path):
        return _installed(parts[0]) if _in_site_packages(path) else None
    if path is None and parts[0] in sys.stdlib_module_names:
        return None
    sources = _reached(module)
    files = {_short_path(name, source.path): source.digest for name, source in sorted(sources.items())}
    if not files:
        raise Unreadable(f"{target!r} has no source that can be read (a notebook?): put it into a .py file")
    return OwnCode(_digest(sorted(files.items())), files, tuple(s.path for s in sources.values()), frozenset(sources))


def codes_in(node: Any) -> Iterator[OwnCode]:
    """The own code behind every `_target_` in plain data. Raises Unreadable."""
    if isinstance(node, Mapping):
        code = own_code(node["_target_"]) if isinstance(node.get("_target_"), str) else None
        if code is not None:
            yield code
        for value in node.values():
            yield from codes_in(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from codes_in(value)


def _heads(parts: list[str]) -> Iterator[str]:
    """`a.b.c`, `a.b`, `a` for the parts a, b, c."""
    return (".".join(parts[:end]) for end in range(len(parts), 0, -1))


def _reached(module: str) -> dict[str, _Source]:
    """The local modules that importing `module` may run, by name."""
    found: dict[str, _Source] = {}
    seen, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] in KNOWN_PACKAGES:
            continue
        seen.add(name)
        waiting += list(_heads(name.split(".")))[1:]  # importing a.b runs a/__init__.py
        path = _file(name)
        if path is None:
            if name == "__main__":
                raise Unreadable("a class of a notebook or of an interactive session has no file: put it into one")
            continue
        if _is_local(path):
            found[name] = _read(name, path)
            waiting += found[name].imports
    return found


def _spec(name: str) -> ModuleSpec | None:
    """Where the module `name` would be imported from; no module is imported to find it."""
    parent = name.rpartition(".")[0]
    if not parent:
        try:
            return importlib.util.find_spec(name)
        except (ValueError, ImportError):  # a loaded module that says nothing of where it came from
            return None
    above = _search_locations(parent)
    try:
        return PathFinder.find_spec(name, above) if above else None
    except KeyError:  # a folder without an __init__.py whose package is not loaded
        return None


def _search_locations(package: str) -> list[str]:
    loaded = sys.modules.get(package)
    if loaded is not None:
        return list(getattr(loaded, "__path__", ()))
    spec = _spec(package)
    if spec is not None:
        return list(spec.submodule_search_locations or ())
    parent, _, name = package.rpartition(".")
    folders = (Path(above, name) for above in _search_locations(parent)) if parent else ()
    return [str(folder) for folder in folders if folder.is_dir()]


def _file(name: str) -> Path | None:
    """The file of the module `name`, loaded or not; None for built-in modules, namespace packages and missing ones."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
    else:
        spec = _spec(name)
        file = spec.origin if spec and spec.has_location else None
    return Path(file).resolve() if file else None


@cache
def _library_folders() -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The folders of the standard library, and those of installed packages."""
    paths = sysconfig.get_paths()
    installed = [paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]
    standard = [paths["stdlib"], paths["platstdlib"]]
    return tuple(Path(p).resolve() for p in standard), tuple(Path(p).resolve() for p in installed)


def _in_site_packages(path: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(folder) for folder in _library_folders()[1])


def _is_local(path: Path) -> bool:
    return not _in_site_packages(path) and not any(path.is_relative_to(folder) for folder in _library_folders()[0])


def _installed(top: str) -> OwnCode:
    names = metadata.packages_distributions().get(top)
    if not names:
        raise Unreadable(f"{top!r} lies in site-packages but belongs to no installed package: install it with pip")
    files = {}
    for name in sorted(set(names)):
        package = metadata.distribution(name)
        record = (package.read_text("RECORD") or "").splitlines()
        lines = sorted(line for line in record if ",sha256=" in line and ".dist-info/" not in line)
        files[f"{name} {package.version}"] = _digest([name, package.version, lines])
    return OwnCode(_digest(sorted(files.items())), files)


def _read(name: str, path: Path) -> _Source:
    """The source of a local module; of a loaded one as it was first read."""
    loaded = sys.modules.get(name)
    spec = getattr(loaded, "__spec__", None)  # a module that is imported again has a new one
    if loaded is not None and loaded in _LOADED and _LOADED[loaded][0] is spec:
        return _LOADED[loaded][1]
    if path.suffix != ".py":
        raise Unreadable(f"{path.name} is compiled, and its source cannot be read: import a .py file instead")
    try:
        tree = ast.parse(path.read_bytes())
        digest = _digest(_plain(tree))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise Unreadable(f"the source of {name} cannot be read ({type(error).__name__}: {error})") from error
    source = _Source(path, digest, frozenset(_imports(tree, name, path)))
    if loaded is not None:
        _LOADED[loaded] = spec, source
    return source


def _imports(tree: ast.Module, name: str, path: Path) -> Iterator[str]:
    """The dotted names that a module's text may import, anywhere in it; some of them may not be modules."""
    is_package = path.name == "__init__.py"
    package = name if is_package else name.rpartition(".")[0]
    plain_calls = set()  # mentions of an importing function that only call it with a name written out
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
                if any(alias.name in _RUNNERS for alias in node.names):
                    raise _hidden(path)
            case ast.ImportFrom():
                base = _absolute("." * node.level + (node.module or ""), package)
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
                if any(name in _RUNNERS for name in (node.module, *(alias.name for alias in node.names))):
                    raise _hidden(path)
            case ast.Call(args=[ast.Constant(value=str(text)), *_]) if _last_name(node.func) in _IMPORTERS:
                plain_calls.add(id(node.func))
                yield _absolute(text, package)
            case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.AugAssign(target=ast.Name(id="__all__")):
                if is_package:  # `from package import *` imports the submodules that are named there
                    names = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
                    yield from (f"{name}.{each}" for each in names if isinstance(each, str))
    for node in ast.walk(tree):
        mentioned = _last_name(node)
        if mentioned in _RUNNERS or (isinstance(node, ast.Name) and node.id == "exec"):
            raise _hidden(path)
        renamed = isinstance(node, ast.alias) and node.name in _IMPORTERS and node.asname
        if renamed or (mentioned in _IMPORTERS and id(node) not in plain_calls):
            if not package:
                raise Unreadable(
                    f"{path.name} imports a module whose name is only known when it runs: import it by its name"
                )
            yield from _whole_package(package.partition(".")[0])


def _hidden(path: Path) -> Unreadable:
    return Unreadable(f"{path.name} runs code that is not in its own text (exec, a file's path): import it by its name")


def _last_name(node: ast.AST) -> str | None:
    """`f` for the expressions `f` and `a.b.f`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _absolute(text: str, package: str) -> str:
    """The absolute name of a module that code in `package` imports as `text`, which may begin with dots."""
    level = len(text) - len(text.lstrip("."))
    if not level:
        return text
    above = package.split(".") if package else []
    parts = [*above[: len(above) - level + 1], text[level:]]
    return ".".join(part for part in parts if part)


def _whole_package(top: str) -> Iterator[str]:
    """Every module below a package: one that is imported by a computed name may be any of them."""
    for folder in map(Path, _search_locations(top)):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([top, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def _short_path(name: str, path: Path) -> str:
    parts = [*name.split("."), "__init__"] if path.name == "__init__.py" else name.split(".")
    return "/".join(parts) + ".py"


def _digest(content: Any) -> str:
    return sha256(json.dumps(content, separators=(",", ":")).encode("ascii")).hexdigest()


def _plain(value: Any) -> Any:
    """A syntax tree as plain data, equal for sources that differ in layout, comments and docstrings only.

    Written out here since `ast.dump` differs between versions of Python. Statements without effect are left out: a
    constant that stands alone, which is what a docstring is, and `pass`.
    """
    if isinstance(value, ast.AST):
        fields = ((name, each) for name, each in ast.iter_fields(value) if name not in _LAYOUT)
        return [type(value).__name__, *([n, _plain(each)] for n, each in fields if each is not None and each != [])]
    if isinstance(value, list):
        return [_plain(each) for each in value if not _without_effect(each)]
    return repr(value)


def _without_effect(node: Any) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
