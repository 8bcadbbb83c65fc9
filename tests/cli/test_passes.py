import json

import pytest

BUILT_IN = {"dce", "fold", "freeze-defaults", "quantize-insert"}


def test_list(cli):
    code, out, err = cli("passes")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert lines.keys() >= BUILT_IN
    assert "LOSSY" in lines["quantize-insert"]
    assert "EXACT" in lines["fold"]


def test_list_as_json(cli):
    found = {one["name"]: one for one in json.loads(cli("passes", "--json").out)}
    assert found.keys() >= BUILT_IN
    assert found["fold"]["effect"] == "EXACT"
    pipelines = {name for name, one in found.items() if "pipeline" in one}
    assert pipelines >= {"simplify", "simplify-operators"}
    assert all(one["summary"].endswith(".") for name, one in found.items() if name not in pipelines)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_one(cli, name):
    code, out, err = cli("passes", name)
    assert (code, err) == (0, "")
    one = json.loads(cli("passes", name, "--json").out)
    assert out.startswith(f"{name}: {one['summary']}\n")
    assert f"{one['effect']}: {one['contract']}" in out
    assert one["owner"].startswith("onnxpress (onnxpress.passes.")
    for option in one["options"]:
        line = next(line for line in out.splitlines() if line.startswith(f"{option['name']} "))
        assert option["type"] in line
        assert option["help"] in line


def test_options_come_with_type_default_and_bounds(cli):
    [limit] = json.loads(cli("passes", "fold", "--json").out)["options"]
    assert limit["name"] == "limit"
    assert limit["default"] == "0"
    assert "of at least 0" in limit["type"]


def test_weight_only_promises_disk_alone(cli):
    out = " ".join(cli("passes", "quantize-insert").out.split())
    assert "size on disk" in out
    assert "speed" in out
    assert "memory" in out


def test_unknown(cli):
    assert cli("passes", "fodl") == (2, "", "onnxpress: error: unknown pass 'fodl'; did you mean 'fold'?\n")


def test_a_broken_plugin_takes_nothing_down(cli, monkeypatch):
    from importlib.metadata import EntryPoint

    from onnxpress.passes.manager import registry

    points = [
        EntryPoint("fold", "onnxpress.passes.graph.fold:Fold", registry.GROUP),
        EntryPoint("odd", "no.such.module:Odd", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "default_registry", lambda: registry.Registry(points))
    code, out, err = cli("passes")
    assert code == 0
    assert "fold" in out
    assert err.startswith("onnxpress: warning: pass 'odd'")
    assert err.count("\n") == 1


def test_named_pipelines_are_listed_and_told(cli, monkeypatch, tmp_path):
    from onnxpress.passes.manager import named, text

    (tmp_path / ".onnxpress.toml").write_text('[pipelines]\nsmall = "fold, dce"\nfold = "dce"\nwrong = "fodl"\n')
    made = named.Pipelines((), tmp_path)
    monkeypatch.setattr(named, "installed_pipelines", lambda: made)
    monkeypatch.setattr(text, "installed_pipelines", lambda: made)
    code, out, err = cli("passes")
    assert code == 0
    assert "small" in out
    assert "fold, dce" in out
    assert "the pass 'fold' hides the pipeline of that name" in err
    assert "in the pipeline 'wrong' of" in err
    assert "fold,dce" in cli("passes", "small").out
    assert json.loads(cli("passes", "small", "--json").out)["expanded"] == "fold,dce"


def test_a_combinator_promises_what_is_inside(cli):
    assert "of those inside: what the passes in its parentheses promise" in cli("passes", "guard").out
    assert "of those inside" not in cli("passes", "repair").out  # it adds a promise of its own
