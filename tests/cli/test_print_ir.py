"""`onnxpress run --print-ir-...`: the model between passes."""


def test_print_ir_after_every_pass(cli, model):
    code, out, _ = cli("run", model, "-p", "fold,dce,dce", "--print-ir-after")
    assert code == 0
    headings = [line for line in out.splitlines() if line.startswith("# ")]
    assert headings == ["# after fold", "# after dce", "# after dce: unchanged"]
    assert "Neg" in out
    assert "Neg" not in out[out.index("# after dce") :]


def test_print_ir_after_one_pass(cli, model):
    out = cli("run", model, "-p", "fold,dce", "--print-ir-after=dce").out
    assert [line for line in out.splitlines() if line.startswith("# ")] == ["# after dce"]


def test_print_ir_around_nested_passes(cli, model):
    out = cli("run", model, "-p", "repeat(fold,dce)", "--print-ir-before=dce", "--print-ir-changed").out
    headings = [line for line in out.splitlines() if line.startswith("# ")]
    assert headings == [
        "# after fold",
        "# before dce",
        "# after dce",
        "# before dce",
        "# after repeat(fold,dce)",
    ]


def test_print_ir_into_a_folder_as_diffs(cli, tmp_path, model):
    folder = tmp_path / "ir"
    args = ("--print-ir-before=fold", "--print-ir-after", "--print-ir-dir", folder, "--print-ir-diff")
    code, out, _ = cli("run", model, "-p", "fold,dce,dce", *args)
    assert (code, out) == (0, "")
    names = ["001-before-fold.txt", "002-after-fold.txt", "003-after-dce.txt", "004-after-dce.txt"]
    assert [path.name for path in sorted(folder.iterdir())] == names
    diff = (folder / names[2]).read_text().splitlines()
    assert any(line.startswith("-") and "Neg" in line for line in diff)
    assert (folder / names[3]).read_text() == "# after dce: unchanged\n"


def test_print_ir_as_a_diff_shows_what_the_first_pass_changed(cli, model):
    code, out, _ = cli("run", model, "-p", "fold,dce", "--print-ir-changed", "--print-ir-diff")
    assert code == 0
    first, *others = out.split("# after ")[1:]
    assert first.startswith("fold\n--- last print")
    assert all("\n--- last print" in other for other in others)


def test_print_ir_of_what_a_pass_failed_on(cli, model, spoiling):
    code, out, _ = cli("run", model, "-p", "fold,spoil{how=fail}", "--print-ir-failed", "--no-reproducer")
    assert code == 3
    assert out.startswith("# failed spoil{how=fail}\n")
    assert "Neg" in out


def test_print_ir_is_asked_for_by_passes_of_the_pipeline(cli, model):
    code, _, err = cli("run", model, "-p", "fixpoint(fold)", "--print-ir-after=fols")
    assert code == 2
    assert "not a pass of the pipeline (it has fixpoint, fold); did you mean 'fold'?" in err
    assert cli("run", model, "-p", "fold", "--print-ir-diff").code == 2
