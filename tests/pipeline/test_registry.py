"""Passes come in by entry point or at run time; what is wrong with one harms no other."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from onnxpress.errors import UserError
from onnxpress.passes.manager import registry as registry_module
from onnxpress.passes.manager import text as text_module
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.mistakes import PipelineError
from onnxpress.passes.manager.options import option
from onnxpress.passes.manager.registry import Registry, default_registry, register_pass
from onnxpress.passes.manager.text import parse_pipeline

MODULE = """
from dataclasses import dataclass
from typing import ClassVar
from onnxpress.passes.manager import registry as registry_module
from onnxpress.passes.manager import text as text_module
from onnxpress.passes.manager.base import Effect, Pass

{body}
"""

GOOD = '''
@dataclass(frozen=True)
class Good(Pass):
    """Does no harm.

    More about it.
    """
    name: ClassVar = "{name}"
    effect: ClassVar = Effect.EXACT
    def run(self, graph, ctx): ...
'''

Installer = Callable[..., None]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A default registry of this test alone."""
    registry = Registry()
    for module in (registry_module, text_module):
        monkeypatch.setattr(module, "default_registry", lambda: registry)
    return registry


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Put a distribution with modules and entry points on a path that holds nothing else."""
    before = set(sys.modules)

    def install_one(distribution: str, modules: dict[str, str], entry_points: dict[str, str]) -> None:
        site = tmp_path / distribution
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[onnxpress.passes]", *lines]))
        for module, body in modules.items():
            (site / f"{module}.py").write_text(MODULE.format(body=body))
        monkeypatch.syspath_prepend(site)
        sites.append(str(site))

    sites: list[str] = []
    everything = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: everything(path=sites))
    yield install_one
    for module in set(sys.modules) - before:
        if module.startswith("plug_"):
            del sys.modules[module]


def good(name: str) -> str:
    return GOOD.format(name=name)


def test_names_and_owners_are_known_without_an_import(install: Installer) -> None:
    install("plug-a", {"plug_a": good("a")}, {"a": "plug_a:Good"})
    install("plug-b", {"plug_b": "raise ImportError('never imported')"}, {"b": "plug_b:Good"})
    registry = Registry()
    assert registry.names() == ("a", "b")
    assert registry.owner("a") == "plug-a (plug_a:Good)"
    assert "plug_a" not in sys.modules
    assert registry.get("a").name == "a"
    assert registry.summary("a") == "Does no harm."
    assert "plug_a" in sys.modules
    assert "plug_b" not in sys.modules


def test_entry_points_are_read_when_first_needed_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def entry_points(group: str) -> tuple[Any, ...]:
        asked.append(group)
        return ()

    monkeypatch.setattr(registry_module, "installed_entry_points", entry_points)
    registry = Registry()
    assert asked == []
    assert registry.names() == ()
    assert registry.problems() == []
    assert asked == ["onnxpress.passes"]


def test_a_clash_names_both_owners_and_spares_the_others(install: Installer) -> None:
    install("plug-a", {"plug_a": good("same")}, {"same": "plug_a:Good"})
    install("plug-b", {"plug_b": good("same"), "plug_c": good("c")}, {"same": "plug_b:Good", "c": "plug_c:Good"})
    registry = Registry()
    assert registry.names() == ("c", "same")
    assert registry.get("c").name == "c"
    for use in (registry.get, registry.summary, registry.owner):
        with pytest.raises(UserError, match="'same' belongs to ") as caught:
            use("same")
        assert "plug-a (plug_a:Good)" in str(caught.value)
        assert "plug-b (plug_b:Good)" in str(caught.value)
    assert "plug_a" not in sys.modules
    (problem,) = registry.problems()
    assert "'same'" in problem
    with pytest.raises(PipelineError, match="belongs to") as shown:
        parse_pipeline("c,same", registry)
    assert str(shown.value).endswith("\n  c,same\n    ^~~~")


BROKEN = {
    "missing": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "syntax": ("def", "SyntaxError"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "nothing": ("", "AttributeError"),
    "function": ("def Good(): ...", "is not a subclass of Pass"),
    "other": ("class Good: ...", "is not a subclass of Pass"),
    "misnamed": (good("another"), "the class calls itself 'another'"),
    "nameless": (good("x").replace('name: ClassVar = "x"', ""), "Good has no class attribute 'name'"),
    "spaced": (good("two words"), "Good has no class attribute 'name' that is a word of pipeline text"),
    "effectless": (good("effectless").replace("Effect.EXACT", "'EXACT'"), "no class attribute 'effect'"),
    "scopeless": (good("scopeless") + "    scope: ClassVar = 'node'\n", "has the scope 'node'"),
    "plain": (good("plain").replace("@dataclass(frozen=True)", ""), "is not a dataclass"),
    "abstract": (good("abstract").replace("def run", "def walk"), "does not define run"),
    "hollow": (good("hollow") + "    takes_pipeline: ClassVar = True\n", "has no field 'inside"),
    "untyped": (good("untyped") + "    size: int = 3\n", "'size' is not declared with option(...)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_reported_and_harms_no_other(install: Installer, name: str) -> None:
    body, reason = BROKEN[name]
    install("plug-broken", {f"plug_{name}": body}, {name: f"plug_{name}:Good"})
    install("plug-fine", {"plug_fine": good("fine")}, {"fine": "plug_fine:Good"})
    registry = Registry()
    (problem,) = registry.problems()
    assert problem.startswith(f"pass {name!r} of plug-broken (plug_{name}:Good) cannot be used: ")
    assert reason in problem
    assert "\n" not in problem
    with pytest.raises(UserError, match=f"pass {name!r} of plug-broken"):
        registry.get(name)
    with pytest.raises(PipelineError, match=f"pass {name!r} of plug-broken"):
        parse_pipeline(f"fine,{name}", registry)
    assert str(parse_pipeline("fine", registry)) == "fine"


def test_a_malformed_entry_point_is_reported(install: Installer) -> None:
    install("plug-a", {}, {"a": "not a target", "b": "plug_nowhere:Good"})
    registry = Registry()
    assert registry.names() == ("a", "b")
    assert len(registry.problems()) == 2


def test_an_unknown_name_is_an_error_with_a_suggestion(install: Installer) -> None:
    install("plug-a", {}, {"quantize-insert": "plug_a:Good"})
    with pytest.raises(UserError, match="unknown pass 'quantize_insert'; did you mean 'quantize-insert'"):
        Registry().get("quantize_insert")
    with pytest.raises(PipelineError, match="passes: none are installed"):
        parse_pipeline("fold", Registry(entry_points=()))


def test_unreadable_entry_points_are_one_clear_error(fresh: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points() -> tuple[Any, ...]:
        raise TypeError("no text")

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(sys, "path", [*sys.path, "elsewhere"])  # where nobody has looked yet
    with pytest.raises(UserError, match="entry points of the installed packages cannot be read: no text"):
        parse_pipeline("fold")


def shout(volume: int = 1) -> type[Pass]:
    """A new class of the same module and qualified name at each call, as when a notebook cell runs again."""

    @dataclass(frozen=True)
    class Shout(Pass):
        name: ClassVar = "shout"
        effect: ClassVar = Effect.EXACT
        loud: int = option(volume, "how loud")

        def run(self, graph: Any, ctx: Any) -> None:
            raise NotImplementedError

    return Shout


def test_register_pass_puts_a_class_into_the_default_registry(install: Installer, fresh: Registry) -> None:
    made = shout()
    assert register_pass(made) is made
    assert fresh.names() == ("shout",)
    assert fresh.owner("shout") == f"this session ({__name__}:shout.<locals>.Shout)"
    assert fresh.summary("shout") == ""
    assert parse_pipeline("shout{loud=3}")[0] == made(loud=3)  # type: ignore[call-arg]


def test_there_is_one_default_registry() -> None:
    assert default_registry() is default_registry()


def test_registering_the_same_name_again_replaces_the_class() -> None:
    registry = Registry(entry_points=())
    registry.register(shout(1))
    again = registry.register(shout(2))
    assert registry.get("shout") is again


def test_a_run_time_clash_names_both_classes(install: Installer, fresh: Registry) -> None:
    install("plug-a", {"plug_a": good("shout")}, {"shout": "plug_a:Good"})
    with pytest.raises(UserError, match="'shout' belongs to plug-a ") as caught:
        register_pass(shout())
    assert "and to this session (" in str(caught.value)
    assert fresh.get("shout").__module__ == "plug_a"

    registry = Registry(entry_points=())
    registry.register(shout())

    @dataclass(frozen=True)
    class Whisper(shout()):  # type: ignore[misc]
        name: ClassVar = "shout"

    with pytest.raises(UserError, match=r"shout.<locals>.Shout\) and to this session .*Whisper"):
        registry.register(Whisper)


def test_a_plugin_may_be_decorated_and_listed(install: Installer, fresh: Registry) -> None:
    decorated = "from onnxpress.passes.manager.registry import register_pass\n@register_pass" + good("both")
    install("plug-a", {"plug_a": decorated}, {"both": "plug_a:Good"})
    assert fresh.problems() == []
    assert fresh.get("both") is sys.modules["plug_a"].Good


def test_what_is_no_pass_cannot_be_registered() -> None:
    registry = Registry(entry_points=())
    with pytest.raises(UserError, match="is not a subclass of Pass"):
        registry.register(int)  # type: ignore[type-var]
    undecorated = type("Bare", (shout(),), {})
    with pytest.raises(UserError, match=r"below @register_pass if that is there"):
        registry.register(undecorated)
    assert registry.names() == ()


def test_the_built_in_passes_come_in_by_the_same_door() -> None:
    registry = Registry()
    assert {"dce", "fold", "quantize-insert"} <= set(registry.names())
    assert registry.owner("fold").startswith("onnxpress (onnxpress.passes.")


def test_importing_the_text_module_is_light() -> None:
    heavy = ("numpy", "onnx", "onnxruntime", "networkx", "rich", "click", "importlib.metadata", "difflib", "json")
    code = f"import sys, onnxpress.passes.manager.text; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
