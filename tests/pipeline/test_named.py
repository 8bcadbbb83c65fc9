"""Named pipelines: where they come from, that they stand for their passes, and what is said of wrong ones."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

import onnxpress as op
from onnxpress.errors import UserError
from onnxpress.passes.manager import named, text
from onnxpress.passes.manager.named import GROUP, Pipelines, text_of
from onnxpress.passes.manager.text import parse_pipeline


@pytest.fixture
def found(monkeypatch, tmp_path):
    """The collection in use, which sees the folder `tmp_path/deep` and the distributions given."""
    made = Pipelines((), tmp_path / "deep")
    (tmp_path / "deep").mkdir()
    monkeypatch.setattr(named, "installed_pipelines", lambda: made)
    monkeypatch.setattr(text, "installed_pipelines", lambda: made)
    return made


def test_a_name_stands_for_its_passes(found):
    found.register("tidy", "fold, dce # all that is dead")
    assert str(parse_pipeline("tidy,fixpoint(tidy),fold")) == "fold,dce,fixpoint(fold,dce),fold"
    assert parse_pipeline("tidy") == parse_pipeline("fold,dce")


def test_names_may_name_each_other_but_not_in_a_circle(found):
    found.register("one", "fold,two")
    found.register("two", "dce")
    assert str(parse_pipeline("one")) == "fold,dce"
    found.register("a", "b")
    found.register("b", "fold,a")
    with pytest.raises(UserError, match="in a circle: a -> b -> a"):
        parse_pipeline("a")


def test_a_name_takes_no_options(found):
    found.register("tidy", "fold")
    for wrong in ("tidy{limit=1}", "tidy(dce)"):
        with pytest.raises(UserError, match="is a named pipeline: it takes neither options nor parentheses"):
            parse_pipeline(wrong)


def test_a_name_stands_for_one_text(found):
    found.register("tidy", "fold")
    found.register("tidy", "fold")
    with pytest.raises(UserError, match="stands for 'fold' already"):
        found.register("tidy", "dce")
    with pytest.raises(UserError, match="no word"):
        found.register("two words", "dce")


def test_a_pass_comes_first_and_nothing_is_read_for_it(found, tmp_path):
    (tmp_path / "deep" / ".onnxpress.toml").write_text("[broken")
    assert str(parse_pipeline("fold")) == "fold"
    (tmp_path / "deep" / ".onnxpress.toml").write_text('[pipelines]\nfold = "dce"\n')
    assert str(parse_pipeline("fold")) == "fold"


def test_code_cannot_name_a_pipeline_like_a_pass(found):
    with pytest.raises(UserError, match="'fold' is the name of a pass, of onnxpress"):
        op.register_pipeline("fold", "dce")
    op.register_pipeline("mine", "fold")
    assert found.get("mine").source == "this session"


def test_a_broken_pyproject_is_named(found, tmp_path):
    (tmp_path / "deep" / "pyproject.toml").write_text("[tool")
    with pytest.raises(UserError, match=r"pyproject\.toml: "):
        parse_pipeline("small")


def test_the_nearest_file_of_the_project_counts(found, tmp_path):
    (tmp_path / ".onnxpress.toml").write_text('[pipelines]\nsmall = "fold,dce"\n')
    (tmp_path / "deep" / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert str(parse_pipeline("small")) == "fold,dce"


def test_the_own_file_wins_over_the_projects(found, tmp_path):
    (tmp_path / "deep" / ".onnxpress.toml").write_text('[pipelines]\nsmall = "fold"\n')
    (tmp_path / "deep" / "pyproject.toml").write_text('[tool.onnxpress.pipelines]\nsmall = "dce"\n')
    assert str(parse_pipeline("small")) == "fold"


def test_pyproject(found, tmp_path):
    (tmp_path / "deep" / "pyproject.toml").write_text('[tool.onnxpress.pipelines]\nsmall = "dce"\n')
    assert str(parse_pipeline("small")) == "dce"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[pipelines", r"\.onnxpress\.toml: "),
        ("pipelines = 3", "must be a table of names and pipeline texts"),
        ("[pipelines]\nsmall = 3", "'small' must be a pipeline text in quotes"),
        ('[pipelines]\nsmall = "fold,dze"', r"in the pipeline 'small' of .*: unknown pass 'dze'; did you mean 'dce'\?"),
    ],
)
def test_a_wrong_file_is_one_clear_mistake(found, tmp_path, content, words):
    (tmp_path / "deep" / ".onnxpress.toml").write_text(content)
    with pytest.raises(UserError, match=words):
        parse_pipeline("small")


TEXT = "fold,dce"
NOT_TEXT = 3


def test_pipelines_of_distributions():
    entry_points = [
        EntryPoint("ours", f"{__name__}:TEXT", GROUP),
        EntryPoint("wrong", f"{__name__}:NOT_TEXT", GROUP),
        EntryPoint("broken", "no_such_module:TEXT", GROUP),
        EntryPoint("twice", f"{__name__}:TEXT", GROUP),
        EntryPoint("twice", f"{__name__}:NOT_TEXT", GROUP),
    ]
    import sys
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(TEXT=TEXT, NOT_TEXT=NOT_TEXT)
    sys.modules.setdefault(__name__, module)
    found = Pipelines(entry_points)
    assert found.get("ours").text == "fold,dce"
    assert found.get("absent") is None
    with pytest.raises(UserError, match=r"pipeline 'wrong' of .* cannot be used: 3 is no text"):
        found.get("wrong")
    with pytest.raises(
        UserError, match=r"pipeline 'broken' of .* cannot be used: ModuleNotFoundError: No module named"
    ):
        found.get("broken")
    with pytest.raises(UserError, match=r"'twice' belongs to .* and to .*; remove one"):
        found.get("twice")
    assert {"ours", "wrong", "broken", "twice"} <= set(found.names())


def test_did_you_mean_knows_pipelines_too(found):
    found.register("simplest", "fold")
    with pytest.raises(UserError, match="unknown pass 'simplst'; did you mean 'simplest'"):
        parse_pipeline("simplst")


def test_text_from_a_file(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text("# first\nfold, # then\ndce\n")
    assert str(parse_pipeline(text_of(f"@{file}"))) == "fold,dce"
    assert text_of("fold") == "fold"
    with pytest.raises(UserError, match="No such file"):
        text_of(f"@{tmp_path}/absent")
    file.write_bytes(b"\xff")
    with pytest.raises(UserError, match="UTF-8"):
        text_of(f"@{file}")
