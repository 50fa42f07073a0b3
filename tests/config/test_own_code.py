"""The digest of own code: equal where only text for people changed, different where anything else did."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.config.own_code import Unreadable, codes_in, own_code

NET = "class Net:\n    def forward(self, x):\n        return 2.0 * x\n"


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`digest({file: text, ...}, target)`: of a project with these files and no others, none of them imported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(files: dict[str, str], target: str = "mine.Net") -> str:
        for old in sorted(tmp_path.rglob("*.py")):
            old.unlink()
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        code = own_code(target)
        assert code is not None
        assert code.modules.isdisjoint(sys.modules), "it was imported to be read"
        return code.digest

    return of


SAME = {
    "a comment": "# new\n" + NET.replace("2.0 * x", "2.0 * x  # twice"),
    "blank lines and brackets": NET.replace("2.0 * x", "(\n            2.0\n\n            * x\n        )"),
    "a docstring of the module": f'"""New."""\n{NET}',
    "a docstring of the class": NET.replace("class Net:\n", 'class Net:\n    """New."""\n'),
    "a docstring of the method": NET.replace("x):\n", 'x):\n        "New."\n'),
    "another way to write a number": NET.replace("2.0", "2.00"),
    "other line ends": NET.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", SAME)
def test_text_for_people_changes_nothing(digest, name: str) -> None:
    assert digest({"mine.py": NET}) == digest({"mine.py": SAME[name]})


OTHER = {
    "a number": NET.replace("2.0", "2.5"),
    "an integer for a float": NET.replace("2.0", "2"),
    "the default of a lambda": "scale = lambda x, by=3.0: x * by\n" + NET,
    "a decorator": "import functools\n" + NET.replace("    def", "    @functools.cache\n    def"),
    "a keyword": NET.replace("return", "yield"),
    "an operator": NET.replace("*", "+"),
    "a default": NET.replace("self, x", "self, x=None"),
    "a base class": NET.replace("Net:", "Net(dict):"),
    "a text that is used": NET.replace("2.0 * x", "'2.0' * x"),
    "a unicode name": NET.replace("Net:", "Net:\n    größe = 1"),
}


def test_any_change_of_the_code_is_another_digest(digest) -> None:
    digests = [digest({"mine.py": text}) for text in (NET, *OTHER.values())]
    assert len(set(digests)) == len(digests)


# each project uses `FACTOR` of a file in its own way; the last entry is that file
REACHED = {
    "an import": {"mine.py": "import helper\nNet = helper.make()\n", "helper.py": ""},
    "another name": {"mine.py": "import helper as h\nNet = h.make()\n", "helper.py": ""},
    "a name of it": {"mine.py": "from helper import Net as Net\n", "helper.py": ""},
    "a star": {"mine.py": "from helper import *\n", "helper.py": ""},
    "in a function": {"mine.py": "def Net():\n    import helper\n    return helper\n", "helper.py": ""},
    "on a condition": {
        "mine.py": "try:\n    import absent as h\nexcept ImportError:\n    import helper as h\nNet = h\n",
        "helper.py": "",
    },
    "by its name as text": {
        "mine.py": "import importlib\nNet = importlib.import_module('helper').Net\n",
        "helper.py": "",
    },
    "by __import__": {"mine.py": "Net = __import__('helper').Net\n", "helper.py": ""},
    "by way of another": {
        "mine.py": "from a import Net\n",
        "a.py": "import b\n",
        "b.py": "import mine, c\n",
        "c.py": "",
    },
    "a decorator of another file": {"mine.py": f"from deco import twice\n@twice\n{NET}", "deco.py": ""},
    "a base class of another file": {"mine.py": "from base import Base\nclass Net(Base): ...\n", "base.py": ""},
}
PACKAGES = {
    "an export of its __init__": ({"nets/__init__.py": "from nets.deep import Net\n", "nets/deep.py": ""}, "nets.Net"),
    "a relative import": ({"nets/__init__.py": "from .deep import Net\n", "nets/deep.py": ""}, "nets.Net"),
    "the __init__ above": ({"nets/deep.py": NET, "nets/__init__.py": ""}, "nets.deep.Net"),
    "a relative import of a module": ({"nets/a.py": "from . import b\nNet = b\n", "nets/b.py": ""}, "nets.a.Net"),
    "two levels up": ({"nets/x/a.py": "from ..b.c import Net\n", "nets/b/c.py": ""}, "nets.x.a.Net"),
    "__all__ and a star": (
        {"mine.py": "from nets import *\nNet = deep\n", "nets/__init__.py": "__all__ = ['deep']\n", "nets/deep.py": ""},
        "mine.Net",
    ),
    "relative import_module": (
        {
            "nets/__init__.py": "from importlib import import_module\nNet = import_module('.a', __name__)\n",
            "nets/a.py": "",
        },
        "nets.Net",
    ),
    "a name known when it runs": (
        {
            "nets/__init__.py": "import importlib as i\nfor n in 'ab':\n    i.import_module(f'nets.{n}')\n",
            "nets/b.py": "",
        },
        "nets.Net",
    ),
    "a function kept under another name": (
        {
            "nets/__init__.py": "import importlib\nload = importlib.import_module\nload('nets' + '.b')\n",
            "nets/b.py": "",
        },
        "nets.Net",
    ),
    "import_module as another name": (
        {"nets/__init__.py": "from importlib import import_module as m\nm('nets' + '.b')\n", "nets/b.py": ""},
        "nets.Net",
    ),
}


@pytest.mark.parametrize(
    ("files", "target"),
    [*((files, "mine.Net") for files in REACHED.values()), *PACKAGES.values()],
    ids=[*REACHED, *PACKAGES],
)
def test_a_file_that_is_reached_counts(digest, files: dict[str, str], target: str) -> None:
    *_, last = files
    before = digest({**files, last: f"FACTOR = 1.0\n{NET}"}, target)
    assert before == digest({**files, last: f"FACTOR = 1.0  # one\n{NET}", "unrelated.py": "x = 1\n"}, target)
    assert before != digest({**files, last: f"FACTOR = 1.5\n{NET}"}, target)


REFUSED = {
    "exec": ({"mine.py": "exec(open('net.txt').read())\n"}, "mine.py runs code that is not in its own text"),
    "a file by its path": (
        {"mine.py": "from importlib.util import spec_from_file_location as find\nNet = find('x', 'y.py')\n"},
        "mine.py runs code that is not in its own text",
    ),
    "runpy": ({"mine.py": "import runpy\n"}, "mine.py runs code that is not in its own text"),
    "a name known when it runs": (
        {"mine.py": "import importlib, os\nNet = importlib.import_module(os.environ['NET'])\n"},
        "mine.py imports a module whose name is only known when it runs: import it by its name",
    ),
    "exec in a file it imports": ({"mine.py": "import b\n", "b.py": "exec('x')\n"}, "b.py runs code that is not in"),
    "no Python": ({"mine.py": "class Net(:\n"}, r"the source of mine cannot be read \(SyntaxError"),
    "nothing": ({}, "the source of 'mine.Net' is not found"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused(digest, name: str) -> None:
    files, sentence = REFUSED[name]
    with pytest.raises(Unreadable, match=sentence):
        digest(files)


def test_a_compiled_module_is_refused(digest, tmp_path: Path) -> None:
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / f"fast{suffix}").write_bytes(b"")
    with pytest.raises(Unreadable, match="is compiled, and its source cannot be read"):
        own_code("fast.Net")
    with pytest.raises(Unreadable, match="is compiled, and its source cannot be read"):
        digest({"mine.py": "import fast\n"})


def test_a_notebook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(Unreadable, match="a notebook or of an interactive session has no file"):
        own_code("__main__.Net")


def test_where_the_project_lies_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "mine.py").write_text(NET)
        with monkeypatch.context() as here:
            here.syspath_prepend(str(folder))
            digests.append(own_code("mine.Net"))
    assert digests[0].digest == digests[1].digest
    assert digests[0].paths != digests[1].paths


@pytest.mark.parametrize(
    "target", ["distill.models.resnet8", "torch.optim.SGD", "timm.create_model", "functools.partial", "os.path.join"]
)
def test_published_packages_and_the_standard_library_have_none(target: str) -> None:
    assert own_code(target) is None


def test_an_installed_package_counts_by_its_record() -> None:
    code = own_code("yaml.safe_load")
    assert next(iter(code.files)).lower().startswith("pyyaml ")
    assert (code.paths, code.modules) == ((), frozenset())
    assert code.digest == own_code("yaml.nodes.Node").digest != own_code("numpy.zeros").digest


@pytest.mark.parametrize("target", ["hydra.utils.get_method", "importlib.import_module", "pydoc.locate"])
def test_a_target_that_names_another_by_an_argument_is_refused(target: str) -> None:
    with pytest.raises(Unreadable, match="takes its class or function from an argument"):
        own_code(target)


def test_a_loaded_module_keeps_the_digest_of_what_runs(digest, tmp_path: Path) -> None:
    """An edit while a sweep runs changes no later job; a module that is imported again does."""
    before = digest({"mine.py": NET})
    module = importlib.import_module("mine")
    assert own_code("mine.Net").digest == before
    (tmp_path / "mine.py").write_text(NET.replace("2.0", "2.25"))
    assert own_code("mine.Net").digest == before
    importlib.reload(module)
    assert own_code("mine.Net").digest != before


def test_every_target_of_a_node_counts(digest) -> None:
    digest({"mine.py": NET, "theirs.py": NET})
    node = {"_target_": "torch.nn.Sequential", "a": [{"x": {"_target_": "mine.Net"}}], "b": {"_target_": "theirs.Net"}}
    assert [sorted(code.files) for code in codes_in(node)] == [["mine.py"], ["theirs.py"]]
